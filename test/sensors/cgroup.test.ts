/** CPU usage of the cgroups that actions may limit, in both versions. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { cgroups } from '../../src/sensors/cgroup.js';
import { channelOf, discover } from '../fixtures/discovery.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';

const targets = { batch: '/system.slice/batch.service/' };
const PATH = 'system.slice/batch.service';

/** A machine whose cgroup root holds these files only. */
function machineWith(t: Parameters<typeof fakeMachine>[0], files: readonly string[]): FakeMachine {
  const machine = fakeMachine(t);
  rmSync(machine.cgroup, { recursive: true });
  for (const file of files) {
    mkdirSync(dirname(join(machine.cgroup, file)), { recursive: true });
    writeFileSync(join(machine.cgroup, file), '0\n');
  }
  return machine;
}

t.test('reads version 2 in millionths of one CPU', async (t) => {
  const machine = fakeMachine(t);
  machine.addCgroup(PATH);
  t.match(channelOf(await discover(machine, [cgroups], { targets }), 'cgroup/batch/cpu_usage'), {
    quantity: 'ratioPartsPerMillion',
    class: 'cpu',
    rateHz: 10,
    probe: {
      kind: 'field',
      path: join(machine.cgroup, PATH, 'cpu.stat'),
      key: 'usage_usec',
      column: 1,
      perSecond: true,
    },
  });
});

t.test('reads version 1 in nanoseconds, wherever the controller is mounted', async (t) => {
  for (const hierarchy of ['cpuacct', 'cpu,cpuacct', 'cpu']) {
    const machine = machineWith(t, [`${hierarchy}/cpuacct.usage`, `${hierarchy}/${PATH}/cpuacct.usage`]);
    const { channels } = await discover(machine, [cgroups], { targets });
    t.match(channels, [{ path: `${hierarchy}/${PATH}/cpuacct.usage`, probe: { multiplier: 0.001, perSecond: true } }]);
  }
});

t.test('prefers the hierarchy in which the cgroup exists', async (t) => {
  const files = ['cpuacct/cpuacct.usage', 'unified/cgroup.controllers', `unified/${PATH}/cpu.stat`];
  const { channels } = await discover(machineWith(t, files), [cgroups], { targets });
  t.match(channels, [{ path: `unified/${PATH}/cpu.stat` }]);
});

t.test('is a channel before its workload has started', async (t) => {
  const cases: [string[], string][] = [
    [['cgroup.controllers'], `${PATH}/cpu.stat`],
    [['cpuacct/cpuacct.usage', 'unified/cgroup.controllers'], `cpuacct/${PATH}/cpuacct.usage`],
    [['unified/cgroup.controllers'], `unified/${PATH}/cpu.stat`],
  ];
  for (const [files, path] of cases) {
    t.match((await discover(machineWith(t, files), [cgroups], { targets })).channels, [{ path }]);
  }
});

t.test('says so where there is no CPU accounting, and does not leave its root', async (t) => {
  const found = await discover(machineWith(t, ['memory/x']), [cgroups], { targets });
  t.same(found.channels, []);
  t.match(found.skipped, [{ what: /batch/ }]);
  const machine = fakeMachine(t);
  const escaped = await discover(machine, [cgroups], { targets: { evil: '../../../../etc' } });
  t.ok(escaped.channels.every(({ probe }) => 'path' in probe && probe.path.startsWith(machine.cgroup)));
});

t.test('reads what else a target uses, at a slower rate than what rules fire on', async (t) => {
  const machine = fakeMachine(t);
  machine.addCgroup(PATH);
  machine.setCgroup(`${PATH}/memory.current`, 4096);
  machine.setCgroup(`${PATH}/pids.current`, 3);
  const { channels } = await discover(machine, [cgroups], { targets });
  t.same(
    channels.map(({ name, rateHz }) => [name, rateHz]),
    [
      ['cpu_usage', 10],
      ['memory', 1],
      ['processes', 1],
    ],
  );
});
