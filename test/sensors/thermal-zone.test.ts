/** Thermal zones: ids that outlive a reboot, trip points, classes, and what the default table binds to. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { hwmon } from '../../src/sensors/hwmon.js';
import { LmSensorsConf } from '../../src/sensors/lm-sensors.js';
import { thermalZones } from '../../src/sensors/thermal-zone.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';

t.test('names a zone by its type, with the device behind it or its ordinal', async (t) => {
  const machine = fakeMachine(t);
  machine.addZone({ type: 'acpitz', milliCelsius: 30_000, device: 'devices/LNXSYSTM:00/LNXSYBUS:01/LNXTHERM:01' });
  machine.addZone({ type: 'x86_pkg_temp', milliCelsius: 40_000 });
  machine.addZone({ type: 'acpitz', milliCelsius: 31_000, device: 'devices/LNXSYSTM:00/LNXSYBUS:01/LNXTHERM:00' });
  machine.addZone({ type: 'x86_pkg_temp', milliCelsius: 41_000 });
  machine.addZone({ type: 'INT3400 Thermal', milliCelsius: 20_000 });
  const found = await discover(machine, [thermalZones]);
  t.same(ids(found), [
    'thermal_zone/acpitz/lnxtherm-01',
    'thermal_zone/x86_pkg_temp/0',
    'thermal_zone/acpitz/lnxtherm-00',
    'thermal_zone/x86_pkg_temp/1',
    'thermal_zone/int3400~20thermal/0',
  ]);
  t.match(channelOf(found, 'thermal_zone/x86_pkg_temp/1'), {
    label: 'x86_pkg_temp',
    quantity: 'temperatureMilliCelsius',
    rateHz: 10,
    path: 'devices/virtual/thermal/thermal_zone3/temp',
    probe: { kind: 'integer', path: join(machine.sysfs, 'devices/virtual/thermal/thermal_zone3/temp') },
  });
});

t.test('orders thermal_zone2 before thermal_zone10', async (t) => {
  const machine = fakeMachine(t);
  for (let i = 0; i < 11; i++) machine.addZone({ type: 'cpu-thermal', milliCelsius: i });
  const { channels } = await discover(machine, [thermalZones]);
  t.match(channels.at(10)?.path, /thermal_zone10/);
  t.equal(channels.at(10)?.name, '10');
});

t.test('takes the limits that trip points state', async (t) => {
  const machine = fakeMachine(t);
  machine.addZone({ type: 'a', milliCelsius: 1, critical: 105_000, hot: 100_000, passive: 95_000 });
  machine.addZone({ type: 'b', milliCelsius: 1, critical: 105_000, passive: 95_000 });
  machine.addZone({ type: 'c', milliCelsius: 1, critical: 100_000, hot: 110_000, passive: 95_000 });
  machine.addZone({ type: 'd', milliCelsius: 1, critical: 0, hot: -274_000 });
  machine.addZone({ type: 'e', milliCelsius: 1 });
  const found = await discover(machine, [thermalZones]);
  t.same(
    found.channels.map(({ limits }) => limits),
    [
      { max: 100_000, critical: 105_000 },
      { max: 95_000, critical: 105_000 },
      { max: 95_000, critical: 100_000, emergency: 110_000 },
      {},
      {},
    ],
  );
});

t.test('survives trip points that are garbage, half there, or a FIFO', async (t) => {
  const machine = fakeMachine(t);
  const zone = machine.addZone({ type: 'a', milliCelsius: 1 });
  machine.set(`${zone}/trip_point_0_type`, 'critical');
  machine.set(`${zone}/trip_point_1_type`, 'critical');
  machine.set(`${zone}/trip_point_1_temp`, 'hot!');
  machine.set(`${zone}/trip_point_2_type`, 'critical');
  execFileSync('mkfifo', [join(machine.sysfs, `${zone}/trip_point_2_temp`)]);
  machine.set(`${zone}/trip_point_3_temp`, 1000);
  t.same((await discover(machine, [thermalZones])).channels.at(0)?.limits, {});
});

t.test('classes zones by what they measure', async (t) => {
  const machine = fakeMachine(t);
  const cases = {
    x86_pkg_temp: 'cpu',
    acpitz: 'cpu',
    'cpu-thermal': 'cpu',
    'cpu0-thermal': 'cpu',
    'soc-thermal': 'cpu',
    'gpu-thermal': 'gpu',
    gpuss0: 'gpu',
    iwlwifi_1: 'network',
    pch_cannonlake: 'board',
  };
  for (const type of Object.keys(cases)) machine.addZone({ type, milliCelsius: 1 });
  const { channels } = await discover(machine, [thermalZones]);
  t.same(Object.fromEntries(channels.map(({ label, class: deviceClass }) => [label, deviceClass])), cases);
});

t.test('binds the default table to the zones of CPUs, and to acpitz where there is nothing better', async (t) => {
  const bound = async (types: readonly string[], chip?: string) => {
    const machine = fakeMachine(t);
    for (const type of types) machine.addZone({ type, milliCelsius: 1 });
    if (chip !== undefined) machine.addHwmon({ name: chip, files: { temp1_input: 1 } });
    const { channels } = await discover(machine, [thermalZones, hwmon]);
    return channels.filter(({ thermalDefault }) => thermalDefault).map(({ label }) => label);
  };
  t.same(await bound(['acpitz', 'x86_pkg_temp', 'pch_x']), ['x86_pkg_temp']);
  t.same(await bound(['acpitz', 'cpu-thermal', 'cpu1-thermal', 'soc-thermal', 'gpu-thermal']), [
    'cpu-thermal',
    'cpu1-thermal',
    'soc-thermal',
  ]);
  t.same(await bound(['acpitz', 'pch_x']), ['acpitz']);
  t.same(await bound(['acpitz'], 'k10temp'), ['temp1']);
  t.same(await bound(['acpitz'], 'amdgpu'), ['acpitz', 'temp1'], 'a GPU says nothing about the CPU');
});

t.test('passes over what is going away, and says so', async (t) => {
  const machine = fakeMachine(t);
  machine.remove(`${machine.addZone({ type: 'a', milliCelsius: 1 })}/type`);
  machine.remove(`${machine.addZone({ type: 'b', milliCelsius: 1 })}/temp`);
  machine.link('class/thermal/thermal_zone7', 'devices/gone');
  machine.addZone({ type: 'c', milliCelsius: 1 });
  const found = await discover(machine, [thermalZones]);
  t.same(ids(found), ['thermal_zone/c/0']);
  t.match(
    found.skipped.map(({ why }) => why),
    [/no type/, /no temp/, /dangling/],
  );
});

t.test('says in one line why there is no zone', async (t) => {
  const machine = fakeMachine(t);
  machine.setProc('cpuinfo', 'flags\t\t: hypervisor');
  const { skipped } = await discover(machine, [thermalZones]);
  t.match(skipped, [
    { source: 'thermal_zone', what: 'thermal zones', why: /none in .*class\/thermal: .*virtual machine/ },
  ]);
  t.equal(skipped.length, 1);
});

t.test("honours lm-sensors' configuration under the names that the zone's hwmon chip would have", async (t) => {
  const machine = fakeMachine(t);
  const device = 'devices/LNXSYSTM:00/LNXTHERM:00';
  machine.addZone({ type: 'acpitz', milliCelsius: 30_000, device, critical: 100_000 });
  machine.link(`${device}/subsystem`, 'bus/acpi');
  machine.set('bus/acpi/uevent', '');
  machine.addZone({ type: 'cpu-thermal', milliCelsius: 1 });
  machine.addZone({ type: 'cpu-thermal', milliCelsius: 2 });
  const text = `chip "acpitz-acpi-0"
    label temp1 "Board"
    compute temp1 @ - 10, @ + 10
chip "cpu_thermal-virtual-0"
    ignore temp2`;
  const sensorsConf = new LmSensorsConf([{ name: 'x', text }]);
  const found = await discover(machine, [thermalZones], { sensorsConf });
  t.same(ids(found), ['thermal_zone/acpitz/lnxtherm-00', 'thermal_zone/cpu-thermal/0']);
  t.match(found.channels, [{ label: 'Board', probe: { offset: -10_000 }, limits: { critical: 90_000 } }, {}]);
  t.match(found.skipped, [{ why: /ignored/ }]);
});
