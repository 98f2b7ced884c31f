/** Intel's throttle counters: each package and each core once, whatever the number of threads. */
import t from 'tap';
import { thermalThrottle } from '../../src/sensors/thermal-throttle.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';

interface Shape {
  readonly packages: number;
  readonly cores: number;
  readonly threads: number;
}

/** CPUs as Linux numbers them: first threads of all cores, then second ones. */
function addCpus(machine: FakeMachine, { packages, cores, threads }: Shape, { old = false } = {}): void {
  const total = packages * cores;
  for (let cpu = 0; cpu < total * threads; cpu++) {
    const directory = `devices/system/cpu/cpu${cpu}`;
    const core = cpu % total;
    const parcel = Math.floor(core / cores);
    const first = parcel * cores;
    const ranges = Array.from({ length: threads }, (_, n) => `${first + n * total}-${first + cores - 1 + n * total}`);
    const siblings = Array.from({ length: threads }, (_, n) => core + n * total);
    for (const kind of ['core', 'package']) {
      machine.set(`${directory}/thermal_throttle/${kind}_throttle_count`, 0);
      if (!old) machine.set(`${directory}/thermal_throttle/${kind}_throttle_total_time_ms`, 0);
    }
    machine.set(`${directory}/topology/${old ? 'core_siblings_list' : 'package_cpus_list'}`, ranges.join(','));
    machine.set(`${directory}/topology/${old ? 'thread_siblings_list' : 'core_cpus_list'}`, siblings.join(','));
    machine.set(`${directory}/topology/physical_package_id`, parcel);
  }
}

t.test('reads each package once, and each core once', async (t) => {
  const machine = fakeMachine(t);
  addCpus(machine, { packages: 2, cores: 2, threads: 2 });
  const found = await discover(machine, [thermalThrottle]);
  t.same(
    ids(found).filter((id) => id.endsWith('_count')),
    [
      'thermal_throttle/package-0/throttle_count',
      'thermal_throttle/package-1/throttle_count',
      'thermal_throttle/core-cpu0/throttle_count',
      'thermal_throttle/core-cpu1/throttle_count',
      'thermal_throttle/core-cpu2/throttle_count',
      'thermal_throttle/core-cpu3/throttle_count',
    ],
  );
  t.match(channelOf(found, 'thermal_throttle/package-1/throttle_total_time'), {
    quantity: 'durationMs',
    class: 'cpu',
    rateHz: 0.1,
    path: 'devices/system/cpu/cpu2/thermal_throttle/package_throttle_total_time_ms',
  });
});

t.test('knows the files of older kernels', async (t) => {
  const machine = fakeMachine(t);
  addCpus(machine, { packages: 1, cores: 2, threads: 2 }, { old: true });
  t.equal((await discover(machine, [thermalThrottle])).channels.length, 3);
});

t.test('reads the packages only where there are many cores, and says so', async (t) => {
  const machine = fakeMachine(t);
  addCpus(machine, { packages: 2, cores: 33, threads: 1 });
  const found = await discover(machine, [thermalThrottle]);
  t.equal(found.channels.length, 4);
  t.match(found.skipped, [{ what: 'throttling of single cores' }]);
});

t.test('follows CPUs that are offline', async (t) => {
  const machine = fakeMachine(t);
  addCpus(machine, { packages: 1, cores: 2, threads: 2 });
  machine.remove('devices/system/cpu/cpu0/thermal_throttle'); // The kernel takes it away with the CPU.
  const found = await discover(machine, [thermalThrottle]);
  t.match(channelOf(found, 'thermal_throttle/package-0/throttle_count').path, 'cpu/cpu1/');
  t.ok(ids(found).includes('thermal_throttle/core-cpu2/throttle_count'), 'the other thread of the core of cpu0');
});

t.test('finds nothing on other CPUs, and survives a list that is none', async (t) => {
  const machine = fakeMachine(t);
  machine.set('devices/system/cpu/cpu0/topology/package_cpus_list', '0');
  const none = await discover(machine, [thermalThrottle]);
  t.same([none.channels, none.skipped], [[], []]);
  addCpus(machine, { packages: 1, cores: 2, threads: 1 });
  for (const text of ['0-99999,'.repeat(2_000), 'garbage', '', '-1', '3-1']) {
    machine.set('devices/system/cpu/cpu0/topology/package_cpus_list', text);
    const found = await discover(machine, [thermalThrottle]);
    t.ok(ids(found).includes('thermal_throttle/package-0/throttle_count'), text.slice(0, 20));
  }
});
