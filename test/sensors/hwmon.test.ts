/** hwmon chips: every attribute, stable ids, and the quirks that real machines have. */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { discoverAll } from '../../src/sensors/discover.js';
import { hwmon } from '../../src/sensors/hwmon.js';
import { LmSensorsConf } from '../../src/sensors/lm-sensors.js';
import { thermalZones } from '../../src/sensors/thermal-zone.js';
import { FileTree } from '../../src/sensors/tree.js';
import { channelOf, discover, ids, noSensorsConf, treesOf } from '../fixtures/discovery.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';
import { fileProbe } from '../fixtures/probes.js';

const CORETEMP = {
  name: 'coretemp',
  device: 'devices/platform/coretemp.0',
  driver: 'coretemp',
  subsystem: 'platform',
} as const;
const NCT = {
  name: 'nct6798',
  device: 'devices/platform/nct6775.656',
  driver: 'nct6775',
  subsystem: 'platform',
} as const;

function conf(text: string): LmSensorsConf {
  return new LmSensorsConf([{ name: 'sensors3.conf', text }]);
}

t.test('makes a channel of every kind of sensor, each in its canonical unit', async (t) => {
  const machine = fakeMachine(t);
  machine.addHwmon({
    ...NCT,
    files: {
      temp1_input: 45_000,
      fan1_input: 1200,
      power1_input: 15_000_000,
      in0_input: 1000,
      curr1_input: 500,
      energy1_input: 1_000_000,
      humidity1_input: 45_000,
      freq1_input: 1_000_000,
      pwm1: 128,
      update_interval: 1000,
    },
  });
  const found = await discover(machine, [hwmon]);
  const device = 'hwmon/nct6798-nct6775-656';
  const expected: [string, string, number][] = [
    ['temp1', 'temperatureMilliCelsius', 1],
    ['fan1', 'fanRpm', 1],
    ['power1', 'powerMilliWatts', 0.001],
    ['in0', 'voltageMilliVolts', 1],
    ['curr1', 'currentMilliAmps', 1],
    ['energy1', 'energyMilliJoules', 0.001],
    ['humidity1', 'ratioPartsPerMillion', 10],
    ['freq1', 'frequencyHertz', 1],
    ['pwm1', 'ratioPartsPerMillion', 1_000_000 / 255],
  ];
  t.equal(found.channels.length, expected.length);
  for (const [name, quantity, multiplier] of expected) {
    const channel = channelOf(found, `${device}/${name}`);
    t.equal(channel.quantity, quantity);
    t.equal(fileProbe(channel).multiplier ?? 1, multiplier, `multiplier of ${name}`);
    t.equal(channel.domain, 'nct6775', 'the driver is the hazard domain');
    t.equal(channel.rateHz, name === 'temp1' ? 10 : 1);
    t.ok(existsSync(fileProbe(channel).path));
  }
});

t.test('takes the limits that the chip states', async (t) => {
  const machine = fakeMachine(t);
  machine.addHwmon({
    ...NCT,
    files: {
      temp1_input: 1,
      temp1_min: -10_000,
      temp1_lcrit: -20_000,
      temp1_max: 80_000,
      temp1_crit: 90_000,
      temp1_emergency: 95_000,
      temp1_max_hyst: 75_000,
      in0_input: 1,
      in0_min: 900,
      in0_lcrit: 800,
      in0_max: 1100,
      in0_crit: 1200,
      power1_input: 1,
      power1_cap: 200_000_000,
      power1_crit: 300_000_000,
      power2_average: 1,
      power2_cap: 200_000_000,
      power2_max: 250_000_000,
      fan1_input: 1,
      fan1_min: 300,
      fan1_max: 3000,
      humidity1_input: 1,
      humidity1_max: 90_000,
    },
  });
  const found = await discover(machine, [hwmon]);
  const limits = (name: string) => channelOf(found, `hwmon/nct6798-nct6775-656/${name}`).limits;
  t.same(limits('temp1'), {
    min: -10_000,
    lowCritical: -20_000,
    max: 80_000,
    critical: 90_000,
    emergency: 95_000,
  });
  t.same(limits('in0'), { min: 900, lowCritical: 800, max: 1100, critical: 1200 });
  t.same(limits('power1'), { max: 200_000, critical: 300_000 }, 'mW; the cap is what is enforced');
  t.same(limits('power2'), { max: 250_000 });
  t.same(limits('fan1'), { min: 300, max: 3000 });
  t.same(limits('humidity1'), { max: 900_000 });
});

t.test('passes over limits that no sensor can mean, or that are no numbers', async (t) => {
  const machine = fakeMachine(t);
  machine.addHwmon({
    name: 'nvme',
    device: 'devices/pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/nvme0',
    files: { temp1_input: 40_850, temp1_min: -273_150, temp1_max: 65_261_850, temp1_crit: 'garbage' },
  });
  t.same((await discover(machine, [hwmon])).channels.at(0)?.limits, {});
});

t.test('reads faults with their sensor, and alarms as channels of their own', async (t) => {
  const machine = fakeMachine(t);
  machine.addHwmon({
    ...NCT,
    files: {
      temp1_input: 1,
      temp1_fault: 0,
      temp1_label: 'CPU',
      temp1_crit_alarm: 0,
      fan1_input: 1,
      fan1_alarm: 1,
      intrusion0_alarm: 0,
    },
  });
  const found = await discover(machine, [hwmon]);
  t.match(fileProbe(channelOf(found, 'hwmon/nct6798-nct6775-656/temp1')).faultPath, /temp1_fault$/);
  t.match(channelOf(found, 'hwmon/nct6798-nct6775-656/temp1_crit_alarm'), {
    quantity: 'stateCode',
    label: 'CPU crit alarm',
  });
  t.equal(channelOf(found, 'hwmon/nct6798-nct6775-656/fan1_alarm').quantity, 'stateCode');
  t.equal(channelOf(found, 'hwmon/nct6798-nct6775-656/intrusion0_alarm').quantity, 'stateCode');
  t.equal(found.channels.length, 5);
});

t.test('gives both values of a power meter that has them', async (t) => {
  const machine = fakeMachine(t);
  machine.addHwmon({ name: 'meter', files: { power1_input: 1, power1_average: 2, power2_average: 3 } });
  t.same(ids(await discover(machine, [hwmon])), [
    'hwmon/meter/power1',
    'hwmon/meter/power1_average',
    'hwmon/meter/power2',
  ]);
});

t.test('keeps ids when the kernel counts its chips in another order', async (t) => {
  const chips = [
    { ...CORETEMP, files: { temp1_input: 1 } },
    { ...NCT, files: { temp1_input: 2 } },
    {
      name: 'nvme',
      device: 'devices/pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/nvme0',
      files: { temp1_input: 3 },
    },
    {
      name: 'nvme',
      device: 'devices/pci0000:00/0000:00:1e.0/0000:02:00.0/nvme/nvme1',
      files: { temp1_input: 4 },
    },
    {
      name: 'lm75',
      device: 'devices/pci0000:00/0000:00:1f.4/i2c-1/1-0048',
      driver: 'lm75',
      subsystem: 'i2c',
      files: { temp1_input: 5 },
    },
    {
      name: 'drivetemp',
      device: 'devices/pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0',
      files: { temp1_input: 6 },
    },
  ];
  const renumbered = chips.map((chip) => ({
    ...chip,
    device: chip.device
      .replace('nvme0', 'nvmeX')
      .replace('nvme1', 'nvme0')
      .replace('nvmeX', 'nvme1')
      .replace('i2c-1/1-', 'i2c-7/7-')
      .replace('ata3/host2/target2:0:0/2:', 'ata9/host8/target8:0:0/8:'),
  }));
  const before = fakeMachine({ testdir: () => t.testdir({ before: {} }) });
  const after = fakeMachine({ testdir: () => join(t.testdirName, 'before', 'after') });
  for (const chip of chips) before.addHwmon(chip);
  for (const chip of renumbered.reverse()) after.addHwmon(chip);
  const idsBefore = ids(await discover(before, [hwmon])).sort();
  t.same(idsBefore, ids(await discover(after, [hwmon])).sort());
  t.same(idsBefore, [
    'hwmon/coretemp-0/temp1',
    'hwmon/drivetemp-0000-00-17-0-0-0-0/temp1',
    'hwmon/lm75-0000-00-1f-4-48/temp1',
    'hwmon/nct6798-nct6775-656/temp1',
    'hwmon/nvme-0000-01-00-0/temp1',
    'hwmon/nvme-0000-02-00-0/temp1',
  ]);
});

t.test('tells two chips on one parent apart, and two equal ones by their order', async (t) => {
  const machine = fakeMachine(t);
  machine.addHwmon({ ...NCT, files: { temp1_input: 1 } });
  machine.addHwmon({ ...NCT, name: 'asus', files: { temp1_input: 2 } });
  machine.addHwmon({ ...NCT, name: 'asus', number: 10, files: { temp1_input: 4 } });
  machine.addHwmon({ ...NCT, name: 'asus', number: 9, files: { temp1_input: 3 } });
  const found = await discover(machine, [hwmon]);
  t.same(ids(found), [
    'hwmon/nct6798-nct6775-656/temp1',
    'hwmon/asus-nct6775-656/temp1',
    'hwmon/asus-nct6775-656-1/temp1',
    'hwmon/asus-nct6775-656-2/temp1',
  ]);
  t.match(channelOf(found, 'hwmon/asus-nct6775-656-1/temp1').path, /hwmon9/, 'hwmon9 comes before hwmon10');
});

t.test('tells I²C chips behind several adapters of one controller apart', async (t) => {
  const machine = fakeMachine(t);
  const controller = 'devices/pci0000:00/0000:00:14.0';
  for (const bus of [3, 4]) {
    machine.addHwmon({
      name: 'jc42',
      device: `${controller}/i2c-${bus}/${bus}-0018`,
      driver: 'jc42',
      subsystem: 'i2c',
      files: { temp1_input: 1 },
    });
  }
  t.same(ids(await discover(machine, [hwmon])), [
    'hwmon/jc42-0000-00-14-0-18/temp1',
    'hwmon/jc42-0000-00-14-0-i2c1-18/temp1',
  ]);
});

t.test('calls a chip without a name by its driver, and one without a driver unnamed', async (t) => {
  const machine = fakeMachine(t);
  machine.addHwmon({ ...CORETEMP, name: null, files: { temp1_input: 1 } });
  machine.addHwmon({ name: null, files: { temp1_input: 2 } });
  machine.addHwmon({ name: '', files: { temp1_input: 3 } });
  t.same(ids(await discover(machine, [hwmon])), [
    'hwmon/coretemp-0/temp1',
    'hwmon/unnamed/temp1',
    'hwmon/unnamed-1/temp1',
  ]);
});

t.test('takes a chip without a device link, and one whose link dangles', async (t) => {
  const machine = fakeMachine(t);
  machine.addHwmon({ name: 'virtual_chip', files: { temp1_input: 1 } });
  machine.addHwmon({ name: 'going', files: { temp1_input: 2 } });
  machine.link('devices/virtual/hwmon/hwmon1/device', 'devices/gone');
  t.same(ids(await discover(machine, [hwmon])), ['hwmon/virtual_chip/temp1', 'hwmon/going/temp1']);
});

t.test('passes over a class entry that dangles, and says so', async (t) => {
  const machine = fakeMachine(t);
  machine.link('class/hwmon/hwmon0', 'devices/gone');
  const found = await discover(machine, [hwmon]);
  t.same(found.channels, []);
  t.match(found.skipped, [{ source: 'hwmon', what: 'class/hwmon/hwmon0', why: /dangling/ }, {}]);
});

t.test('finds attributes and name that an older driver keeps in the directory of the device', async (t) => {
  const machine = fakeMachine(t);
  machine.addHwmon({
    name: 'w83627hf',
    device: 'devices/platform/w83627hf.656',
    attributesIn: 'device',
    files: { temp1_input: 40_000, temp1_max: 80_000 },
  });
  const channel = channelOf(await discover(machine, [hwmon]), 'hwmon/w83627hf-656/temp1');
  t.equal(channel.path, 'devices/platform/w83627hf.656/temp1_input');
  t.same(channel.limits, { max: 80_000 });
});

t.test('carries labels of any characters beside the id, duplicates included', async (t) => {
  const machine = fakeMachine(t);
  const labels = ['+12V / rail.1 #', '+12V / rail.1 #', 'Ümläut °C', '', 'x'.repeat(5000)];
  machine.addHwmon({
    ...NCT,
    files: Object.fromEntries(
      labels.flatMap((label, i) => [
        [`in${i}_input`, 1],
        [`in${i}_label`, label],
      ]),
    ),
  });
  const { channels } = await discover(machine, [hwmon]);
  t.same(
    channels.map(({ name, label }) => [name, label]),
    [
      ['in0', '+12V / rail.1 #'],
      ['in1', '+12V / rail.1 #'],
      ['in2', 'Ümläut °C'],
      ['in3', 'in3'],
      ['in4', 'x'.repeat(128)],
    ],
  );
});

t.test('leaves a chip that repeats a thermal zone to the zone, with and without a device link', async (t) => {
  const machine = fakeMachine(t);
  machine.addZone({ type: 'acpitz', milliCelsius: 30_000 });
  machine.addZone({ type: 'soc-thermal', milliCelsius: 30_000 });
  machine.addHwmon({
    name: 'acpitz',
    device: 'devices/virtual/thermal/thermal_zone0',
    files: { temp1_input: 30_000 },
  });
  machine.addHwmon({ name: 'soc_thermal', files: { temp1_input: 30_000 } });
  const found = await discover(machine, [thermalZones, hwmon]);
  t.same(ids(found), ['thermal_zone/acpitz/0', 'thermal_zone/soc-thermal/0']);
  t.match(
    found.skipped.filter(({ source }) => source === 'hwmon').map(({ why }) => why),
    [/repeats class\/thermal\/thermal_zone0/, /repeats/, /passed over/],
  );
});

t.test('keeps the chip where the zone that it repeats cannot be read', async (t) => {
  const machine = fakeMachine(t);
  machine.addZone({ type: 'acpitz', milliCelsius: 30_000 });
  machine.addHwmon({
    name: 'acpitz',
    device: 'devices/virtual/thermal/thermal_zone0',
    files: { temp1_input: 30_000 },
  });
  machine.remove('class/thermal/thermal_zone0/temp');
  t.equal((await discover(machine, [thermalZones, hwmon])).channels.length, 1);
});

t.test('says why there is no chip: a virtual machine, or no driver', async (t) => {
  const machine = fakeMachine(t);
  t.match((await discover(machine, [hwmon])).skipped, [{ what: 'hwmon chips', why: /no driver/ }]);
  machine.setProc('cpuinfo', 'processor\t: 0\nflags\t\t: fpu hypervisor lahf_lm');
  t.match((await discover(machine, [hwmon])).skipped, [{ why: /none in .*class\/hwmon: this is a virtual machine/ }]);
});

t.test(
  'is not held up by a FIFO, a directory, a huge or an unreadable file in the place of an attribute',
  async (t) => {
    const machine = fakeMachine(t);
    const chip = machine.addHwmon({
      ...NCT,
      files: { temp2_input: 1, temp3_input: 1, temp4_input: 1, temp5_input: 1 },
    });
    const at = (file: string) => join(machine.sysfs, chip, file);
    for (const file of ['temp1_input', 'temp2_label', 'temp2_crit']) execFileSync('mkfifo', [at(file)]);
    mkdirSync(at('temp3_label'));
    mkdirSync(at('temp3_crit'));
    writeFileSync(at('temp4_label'), Buffer.alloc(10 * 1024 * 1024, 'x'));
    writeFileSync(at('temp4_crit'), Buffer.alloc(10 * 1024 * 1024, '9'));
    writeFileSync(at('temp5_crit'), '90000');
    chmodSync(at('temp5_crit'), 0o000);
    const startedMs = Date.now();
    const found = await discover(machine, [hwmon]);
    t.ok(Date.now() - startedMs < 900, 'no read ran into its deadline');
    t.match(
      found.channels.map(({ name }) => name),
      ['temp1', 'temp2', 'temp3', 'temp4', 'temp5'],
    );
    for (const name of ['temp2', 'temp3', 'temp4']) {
      t.same(channelOf(found, `hwmon/nct6798-nct6775-656/${name}`).limits, {}, name);
    }
  },
);

t.test("honours lm-sensors' labels, computes and ignores", async (t) => {
  const machine = fakeMachine(t);
  machine.addHwmon({
    ...NCT,
    files: {
      in0_input: 1,
      in0_label: 'of the driver',
      in1_input: 1000,
      in1_max: 1500,
      in1_min: 500,
      in2_input: 1000,
      in2_max: 2000,
      in2_min: 1000,
      in2_crit: 2500,
      temp1_input: 40_000,
      temp1_crit: 90_000,
      temp2_input: 1,
      temp2_alarm: 0,
      temp3_input: 1,
      fan1_input: 600,
      power1_input: 1_000_000,
      humidity1_input: 40_000,
    },
  });
  const sensorsConf = conf(`chip "nct6798-isa-0290"
    label in0 "Vcore"
    compute in1 @*2, @/2
    compute in2 -@ + 1, 1-@
    compute temp1 @ - 5.5, @ + 5.5
    ignore temp2
    compute temp3 @ + temp1, @
    compute fan1 @/2, @*2
    compute power1 @*2 + 3, @
    compute humidity1 @ + 5, @`);
  const found = await discover(machine, [hwmon], { sensorsConf });
  const channel = (name: string) => channelOf(found, `hwmon/nct6798-nct6775-656/${name}`);
  t.equal(channel('in0').label, 'Vcore');
  t.match(channel('in1'), { probe: { multiplier: 2 }, limits: { max: 3000, min: 1000 } });
  t.match(channel('in2').probe, { multiplier: -1, offset: 1000 });
  t.same(channel('in2').limits, { min: -1000, max: 0, lowCritical: -1500 }, 'a turned sign turns the limits');
  t.match(channel('temp1'), { probe: { offset: -5500 }, limits: { critical: 84_500 } });
  t.equal(fileProbe(channel('fan1')).multiplier, 0.5);
  t.match(channel('power1').probe, { multiplier: 0.002, offset: 3000 });
  t.match(channel('humidity1').probe, { multiplier: 10, offset: 50_000 });
  t.equal(fileProbe(channel('temp3')).multiplier, undefined, 'what cannot be computed is shown raw');
  t.notOk(
    ids(found).some((id) => id.includes('temp2')),
    'an ignored sensor has no alarm either',
  );
  t.match(
    found.skipped.map(({ what }) => what),
    ['class/hwmon/hwmon0/temp2', 'compute of class/hwmon/hwmon0/temp3'],
  );
});

t.test('knows chips by the names that lm-sensors gives them', async (t) => {
  const machine = fakeMachine(t);
  const temp = { temp1_input: 1 };
  machine.addHwmon({ ...CORETEMP, files: temp });
  machine.addHwmon({
    name: 'k10temp',
    device: 'devices/pci0000:00/0000:00:18.3',
    subsystem: 'pci',
    driver: 'k10temp',
    files: temp,
  });
  machine.addHwmon({
    name: 'nvme',
    device: 'devices/pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/nvme0',
    subsystem: 'nvme',
    files: temp,
  });
  machine.link('devices/pci0000:00/0000:00:1d.0/0000:01:00.0/subsystem', 'bus/pci');
  machine.link(
    'devices/pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/nvme0/device',
    'devices/pci0000:00/0000:00:1d.0/0000:01:00.0',
  );
  machine.addHwmon({
    name: 'lm75',
    device: 'devices/pci0000:00/0000:00:1f.4/i2c-1/1-0048',
    subsystem: 'i2c',
    files: temp,
  });
  machine.addHwmon({ name: 'made_up', files: temp });
  const names = ['coretemp-isa-0000', 'k10temp-pci-00c3', 'nvme-pci-0100', 'lm75-i2c-1-48', 'made_up-virtual-0'];
  const sensorsConf = conf(names.map((name) => `chip "${name}"\nlabel temp1 "${name}"`).join('\n'));
  const { channels } = await discover(machine, [hwmon], { sensorsConf });
  t.same(
    channels.map(({ label }) => label),
    names,
  );
});

t.test('binds the default thermal table to CPU and GPU chips only', async (t) => {
  const machine = fakeMachine(t);
  machine.addHwmon({
    ...CORETEMP,
    files: { temp1_input: 1, temp1_label: 'Package id 0', temp2_input: 1, temp2_label: 'Core 0', fan1_input: 1 },
  });
  machine.addHwmon({
    ...CORETEMP,
    device: 'devices/platform/coretemp.1',
    files: { temp2_input: 1, temp2_label: 'Core 0', temp3_input: 1, temp3_label: 'Core 1' },
  });
  machine.addHwmon({
    name: 'k10temp',
    device: 'devices/pci0000:00/0000:00:18.3',
    files: { temp1_input: 1, temp1_label: 'Tctl', temp2_input: 1, temp2_label: 'Tdie' },
  });
  machine.addHwmon({
    name: 'k10temp',
    device: 'devices/pci0000:00/0000:00:19.3',
    files: { temp1_input: 1, temp1_label: 'Tctl' },
  });
  machine.addHwmon({ name: 'zenpower', files: { temp1_input: 1 } });
  machine.addHwmon({
    name: 'amdgpu',
    device: 'devices/platform/amdgpu.0',
    files: { temp1_input: 1, temp1_crit_alarm: 0 },
  });
  machine.addHwmon({ ...NCT, files: { temp1_input: 1 } });
  const { channels } = await discover(machine, [hwmon]);
  const bound = channels.filter(({ thermalDefault }) => thermalDefault);
  t.same(
    bound.map(({ id, class: deviceClass }) => [id, deviceClass]),
    [
      ['hwmon/coretemp-0/temp1', 'cpu'],
      ['hwmon/coretemp-1/temp2', 'cpu'],
      ['hwmon/coretemp-1/temp3', 'cpu'],
      ['hwmon/k10temp-0000-00-18-3/temp2', 'cpu'],
      ['hwmon/k10temp-0000-00-19-3/temp1', 'cpu'],
      ['hwmon/zenpower/temp1', 'cpu'],
      ['hwmon/amdgpu-0/temp1', 'gpu'],
    ],
  );
});

t.test('gives each GPU and each disk a hazard domain of its own', async (t) => {
  const machine = fakeMachine(t);
  for (const slot of ['0000:03:00.0', '0000:04:00.0']) {
    const device = `devices/platform/gpu-${slot}`;
    machine.addHwmon({ name: 'amdgpu', device, driver: 'amdgpu', subsystem: 'platform', files: { temp1_input: 1 } });
    machine.addHwmon({ name: 'nvme', device: `devices/pci0000:00/${slot}/nvme/nvme0`, files: { temp1_input: 1 } });
  }
  const { channels } = await discover(machine, [hwmon]);
  t.equal(new Set(channels.map(({ domain }) => domain)).size, 4);
});

/** A tree in which reading limits of one driver's chips never returns: what FileTree says after its deadline. */
class HangingTree extends FileTree {
  readonly #hung: string[] = [];

  override get stuck(): readonly string[] {
    return this.#hung;
  }

  override async integer(path: string): Promise<number | undefined> {
    if (!path.includes('i2c') || !path.endsWith('_crit')) return super.integer(path);
    this.#hung.push(path);
    return undefined;
  }
}

t.test('asks no other chip of a driver that hangs, keeps its channels, and reads the other drivers', async (t) => {
  const machine = fakeMachine(t);
  for (const address of ['0018', '0019', '001a']) {
    machine.addHwmon({
      name: 'jc42',
      device: `devices/pci0000:00/0000:00:14.0/i2c-3/3-${address}`,
      driver: 'jc42',
      files: { temp1_input: 1, temp1_crit: 80_000, temp2_input: 1, temp2_crit: 80_000 },
    });
  }
  machine.addHwmon({ ...CORETEMP, files: { temp1_input: 1, temp1_crit: 100_000 } });
  const sysfs = new HangingTree(machine.sysfs);
  const found = await discoverAll([hwmon], {
    trees: { ...treesOf(machine), sysfs },
    rateHz: 10,
    targets: {},
    workloads: {},
    hasActuator: true,
    sensorsConf: noSensorsConf,
  });
  t.equal(sysfs.stuck.length, 1, 'one read, and not one for each chip');
  t.equal(found.channels.length, 7);
  t.same(channelOf(found, 'hwmon/coretemp-0/temp1').limits, { critical: 100_000 });
  t.equal(found.skipped.filter(({ why }) => why === 'jc42: its driver hangs').length, 3);
  t.ok(found.skipped.some(({ source, why }) => source === 'discovery' && why.startsWith('hung')));
});

t.test('leaves every GPU on the PCI bus to skos-gpu, and says so', async (t) => {
  const machine = fakeMachine(t);
  const drivers = ['amdgpu', 'radeon', 'nouveau', 'i915', 'xe'];
  drivers.forEach((name, i) => {
    machine.addHwmon({
      name,
      device: `devices/pci0000:00/0000:0${i}:00.0`,
      driver: name,
      subsystem: 'pci',
      files: { temp1_input: 40_000 },
    });
  });
  machine.addHwmon({ ...CORETEMP, files: { temp1_input: 40_000 } });
  const found = await discover(machine, [hwmon]);
  t.same(ids(found), ['hwmon/coretemp-0/temp1']);
  t.same(
    found.skipped.map(({ what, why }) => [what, why]),
    drivers.map((name, i) => [`class/hwmon/hwmon${i}`, `${name}: read by skos-gpu`]),
  );
});

t.test('reads a GPU that is on no PCI bus, and what only looks like one', async (t) => {
  const machine = fakeMachine(t);
  machine.addHwmon({ name: 'amdgpu', files: { temp1_input: 1 } });
  machine.addHwmon({ name: 'nouveau', device: 'devices/platform/57000000.gpu', files: { temp1_input: 1 } });
  machine.addHwmon({ name: 'amdgpu_x', device: 'devices/pci0000:00/0000:03:00.0', files: { temp1_input: 1 } });
  machine.addHwmon({ name: 'i915', device: 'devices/pci0000:00/0000:03:00.0/i2c-4', files: { temp1_input: 1 } });
  const found = await discover(machine, [hwmon]);
  t.equal(found.channels.length, 4);
  t.same(found.skipped, []);
});

const CAPTURES = findCaptures();
for (const card of ['amd-rx580', 'amd-rx7900xtx', 'amd-vega56', 'amd-vangogh']) {
  const archive = CAPTURES === undefined ? undefined : join(CAPTURES, `${card}.tar.gz`);
  const skip = archive !== undefined && existsSync(archive) ? false : `the capture ${card} is not there`;
  t.test(`leaves the captured ${card} to skos-gpu`, { skip }, async (t) => {
    if (archive === undefined) return;
    const found = await discover(capturedMachine(t, archive), [hwmon]);
    t.same(found.channels, []);
    t.match(found.skipped[0], { what: /^class\/hwmon\/hwmon\d$/, why: 'amdgpu: read by skos-gpu' });
  });
}

/** ../shared/data beside the repository, wherever the tests were compiled to. */
function findCaptures(): string | undefined {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) {
    if (directory === dirname(directory)) return undefined;
    directory = dirname(directory);
  }
  const captures = join(directory, '../shared/data/captures');
  return existsSync(captures) ? captures : undefined;
}

function capturedMachine(t: Test, archive: string): FakeMachine {
  const machine = fakeMachine(t);
  execFileSync('tar', ['xzf', archive, '-C', machine.sysfs]);
  return machine;
}
