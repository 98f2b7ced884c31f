/** Units of the configuration, found in the cgroups that systemd gives them. */
import { rmSync } from 'node:fs';
import t from 'tap';
import { workloads } from '../../src/sensors/workload.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';

function addGroup(machine: FakeMachine, path: string): void {
  machine.addCgroup(path, { usageMicroseconds: 5 });
  machine.setCgroup(`${path}/memory.current`, 4096);
  machine.setCgroup(`${path}/memory.events`, 'low 0\nhigh 0\nmax 0\noom 2\noom_kill 1');
  machine.setCgroup(`${path}/pids.current`, 12);
  machine.setCgroup(`${path}/io.pressure`, 'some avg10=1.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00');
}

async function pathOf(machine: FakeMachine, unit: string): Promise<string | undefined> {
  const found = await discover(machine, [workloads], { workloads: { w: unit } });
  return found.channels.find(({ name }) => name === 'cpu_usage')?.path.replace(/\/cpu.stat$/, '');
}

t.test('reads CPU, memory, processes and waiting of a unit', async (t) => {
  const machine = fakeMachine(t);
  addGroup(machine, 'system.slice/train.service');
  const found = await discover(machine, [workloads], { workloads: { trainer: 'train.service' } });
  t.same(ids(found), [
    'workload/trainer/cpu_usage',
    'workload/trainer/memory',
    'workload/trainer/oom_kills',
    'workload/trainer/processes',
    'workload/trainer/io_pressure',
  ]);
  t.match(channelOf(found, 'workload/trainer/cpu_usage'), { rateHz: 1, quantity: 'ratioPartsPerMillion' });
  t.match(channelOf(found, 'workload/trainer/oom_kills').probe, { kind: 'field', key: 'oom_kill', column: 1 });
  t.match(channelOf(found, 'workload/trainer/io_pressure').probe, { key: 'some', column: 1, multiplier: 10_000 });
});

t.test('knows where systemd puts services, instances, scopes and slices', async (t) => {
  const machine = fakeMachine(t);
  t.equal(await pathOf(machine, 'train.service'), 'system.slice/train.service');
  t.equal(await pathOf(machine, 'my-train@a-0.service'), 'system.slice/system-my\\x2dtrain.slice/my-train@a-0.service');
  t.equal(await pathOf(machine, 'docker-0a1b.scope'), 'system.slice/docker-0a1b.scope');
  t.equal(await pathOf(machine, 'jobs-gpu-big.slice'), 'jobs.slice/jobs-gpu.slice/jobs-gpu-big.slice');
});

t.test('finds a unit that stands in another slice', async (t) => {
  const machine = fakeMachine(t);
  addGroup(machine, 'machine.slice/vm.scope');
  t.equal(await pathOf(machine, 'vm.scope'), 'machine.slice/vm.scope');
});

t.test('finds it in a hybrid hierarchy, each controller where it is mounted', async (t) => {
  const machine = fakeMachine(t);
  rmSync(machine.cgroup, { recursive: true });
  machine.setCgroup('unified/cgroup.controllers', '');
  machine.setCgroup('unified/jobs.slice/w.service/cgroup.procs', '');
  machine.setCgroup('cpu,cpuacct/jobs.slice/w.service/cpuacct.usage', 5);
  machine.setCgroup('memory/jobs.slice/w.service/memory.usage_in_bytes', 5);
  machine.setCgroup('pids/pids.current', 5);
  const found = await discover(machine, [workloads], { workloads: { w: 'w.service' } });
  t.same(
    found.channels.map(({ path }) => path),
    [
      'cpu,cpuacct/jobs.slice/w.service/cpuacct.usage',
      'memory/jobs.slice/w.service/memory.usage_in_bytes',
      'pids/jobs.slice/w.service/pids.current',
    ],
  );
});

t.test('has channels before the unit runs, and only those that its controllers offer', async (t) => {
  const machine = fakeMachine(t);
  machine.setCgroup('cgroup.controllers', 'cpu memory');
  const before = await discover(machine, [workloads], { workloads: { w: 'w.service' } });
  t.same(
    before.channels.map(({ name }) => name),
    ['cpu_usage', 'memory', 'oom_kills'],
  );
  machine.addCgroup('system.slice/w.service'); // It runs, and its slice delegates no memory.
  const running = await discover(machine, [workloads], { workloads: { w: 'w.service' } });
  t.same(
    running.channels.map(({ name }) => name),
    ['cpu_usage'],
  );
});

t.test('bounds them aloud', async (t) => {
  const machine = fakeMachine(t);
  const units = Object.fromEntries(Array.from({ length: 66 }, (_, i) => [`w${i}`, `w${i}.service`]));
  const found = await discover(machine, [workloads], { workloads: units });
  t.equal(new Set(found.channels.map(({ device }) => device)).size, 64);
  t.match(found.skipped, [{ what: 'workload w64' }, { what: 'workload w65' }]);
});
