/** Zones of the power capping framework, found by their names alone. */
import t from 'tap';
import { energyZones, powerIdOf, rapl } from '../../src/sensors/rapl.js';
import { FileTree } from '../../src/sensors/tree.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';

function addZone(machine: FakeMachine, zone: string, name: string, { max = 262_143_328_850 } = {}): void {
  const directory = `devices/virtual/powercap/intel-rapl/${zone}`;
  machine.set(`${directory}/name`, name);
  machine.set(`${directory}/energy_uj`, 123_456_789);
  machine.set(`${directory}/max_energy_range_uj`, max);
  machine.link(`class/powercap/${zone}`, directory);
}

t.test('names zones as the kernel does, with their package, and never by their number', async (t) => {
  const machine = fakeMachine(t);
  addZone(machine, 'intel-rapl:0', 'package-1');
  addZone(machine, 'intel-rapl:0:0', 'core');
  addZone(machine, 'intel-rapl:0:1', 'dram');
  addZone(machine, 'intel-rapl:1', 'package-0-die-1');
  addZone(machine, 'intel-rapl:2', 'psys');
  const found = await discover(machine, [rapl]);
  t.same(ids(found), [
    'rapl/package-1/power',
    'rapl/package-1-core/power',
    'rapl/package-1-dram/power',
    'rapl/package-0-die-1/power',
    'rapl/psys/power',
  ]);
  t.match(channelOf(found, 'rapl/package-1-dram/power'), {
    quantity: 'powerMilliWatts',
    class: 'memory',
    probe: { kind: 'pushed', feed: 'rapl' },
    path: 'class/powercap/intel-rapl:0:1/energy_uj',
  });
  t.equal(powerIdOf(channelOf(found, 'rapl/package-1-dram/power')), 'rapl/intel-rapl:0:1');
});

t.test('opens no energy counter', async (t) => {
  const machine = fakeMachine(t);
  addZone(machine, 'intel-rapl:0', 'package-0');
  const read: string[] = [];
  class Watched extends FileTree {
    override text(path: string): Promise<string | undefined> {
      read.push(path);
      return super.text(path);
    }
  }
  const zones = await energyZones(new Watched(machine.sysfs));
  t.equal(zones.length, 1);
  t.ok(read.length > 0);
  t.notOk(read.some((path) => path.includes('energy_uj')));
  const { channels } = await discover(machine, [rapl]);
  t.notOk('path' in (channels[0]?.probe ?? {}), 'its probe names no file');
});

t.test('leaves out second views and zones that count nothing', async (t) => {
  const machine = fakeMachine(t);
  addZone(machine, 'intel-rapl-mmio:0', 'package-0');
  addZone(machine, 'dtpm:0', 'package-0');
  addZone(machine, 'intel-rapl:0', 'package-0', { max: 0 });
  addZone(machine, 'intel-rapl:1', '');
  machine.set('class/powercap/intel-rapl:2/name', 'package-2');
  machine.set('class/powercap/intel-rapl:3/name', 'package-3');
  machine.set('class/powercap/intel-rapl:3/energy_uj', 1);
  machine.set('class/powercap/intel-rapl:3/max_energy_range_uj', 'garbage');
  t.same(await discover(machine, [rapl]).then(ids), []);
});

t.test('says why where no actuator may read them', async (t) => {
  const machine = fakeMachine(t);
  t.same((await discover(machine, [rapl], { hasActuator: false })).skipped, [], 'there are none');
  addZone(machine, 'intel-rapl:0', 'package-0');
  const found = await discover(machine, [rapl], { hasActuator: false });
  t.same(found.channels, []);
  t.match(found.skipped, [{ what: 'RAPL', why: /skos-actuator/ }]);
});

t.test('bounds their number aloud', async (t) => {
  const machine = fakeMachine(t);
  for (let i = 0; i < 70; i++) addZone(machine, `intel-rapl:${i}`, `package-${i}`);
  const found = await discover(machine, [rapl]);
  t.equal(found.channels.length, 64);
  t.match(found.skipped, [{ what: '6 RAPL zones' }]);
});
