import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { otherControllers, runningProcesses } from '../../src/sensors/controllers.js';
import { FileTree } from '../../src/sensors/tree.js';
import { processorMs } from '../fixtures/effort.js';

type Tap = typeof t;

interface Given {
  readonly comm?: string;
  readonly cmdline?: string;
}

type Made = [t: Pick<Tap, 'testdir'>, processes: readonly Given[], files?: Readonly<Record<string, string>>];

async function found(...made: Made) {
  return search(machine(...made));
}

function machine(...[t, processes, files = {}]: Made) {
  const directory = t.testdir({ proc: { 1: {} }, root: {} });
  processes.forEach((given, i) => {
    mkdirSync(join(directory, `proc/${100 + i}`));
    for (const [name, text] of Object.entries(given)) writeFileSync(join(directory, `proc/${100 + i}/${name}`), text);
  });
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(directory, 'root', path, '..'), { recursive: true });
    writeFileSync(join(directory, 'root', path), text);
  }
  return { proc: new FileTree(join(directory, 'proc')), root: new FileTree(join(directory, 'root')) };
}

async function search(trees: ReturnType<typeof machine>) {
  return otherControllers(trees, await runningProcesses(trees.proc));
}

t.test('finds each controller by its name, which the kernel cuts after 15 characters', async (t) => {
  const names = [
    ['thermald'],
    ['tuned'],
    ['nv-hostengine'],
    ['slurmd'],
    ['fancontrol'],
    ['auto-cpufreq'],
    ['nvidia-powerd'],
    ['power-profiles-', '/usr/libexec/power-profiles-daemon\0'],
    ['nvidia-persiste', '/usr/bin/nvidia-persistenced\0--user\0nvpd\0'],
  ];
  const controllers = await found(
    t,
    names.map(([comm = '', cmdline = '']) => ({ comm: `${comm}\n`, cmdline })),
  );
  t.same(
    controllers.map(({ name }) => name),
    [
      'auto-cpufreq',
      'fancontrol',
      'nv-hostengine',
      'nvidia-persistenced',
      'nvidia-powerd',
      'power-profiles-daemon',
      'slurmd',
      'thermald',
      'tuned',
    ],
  );
  t.ok(controllers.every(({ moves, pid }) => moves !== '' && (pid ?? 0) >= 100));
  t.same(controllers.find(({ name }) => name === 'nvidia-persistenced')?.kinds, []);
});

t.test('finds a script under the name of its interpreter, and no look-alike', async (t) => {
  const controllers = await found(t, [
    { comm: 'python3', cmdline: '/usr/bin/python3\0-Es\0/usr/sbin/tuned\0-l\0' },
    { comm: 'python3', cmdline: 'python3\0train.py\0--note\0thermald\0' },
    { comm: 'vim', cmdline: 'vim\0/etc/thermald\0' },
    { comm: 'nvidia-persiste', cmdline: '/opt/nvidia-persister\0' },
    { comm: 'thermald-helper' },
    { comm: '' },
    { cmdline: 'thermald' },
  ]);
  t.same(
    controllers.map(({ name, pid }) => [name, pid]),
    [['tuned', 100]],
  );
});

t.test('names one that runs twice once, and believes a cut name whose command line is closed', async (t) => {
  const controllers = await found(t, [{ comm: 'slurmd' }, { comm: 'slurmd' }, { comm: 'power-profiles-' }]);
  t.same(
    controllers.map(({ name }) => name),
    ['power-profiles-daemon', 'slurmd'],
  );
});

t.test("tells tuned's profile, and TLP by what it leaves", async (t) => {
  const controllers = await found(t, [{ comm: 'tuned' }], {
    'etc/tuned/active_profile': 'hpc-compute\n',
    'run/tlp/last_pwr': '0\n',
  });
  t.match(controllers, [
    { name: 'tlp', pid: null },
    { name: 'tuned', moves: /\(profile hpc-compute\)$/ },
  ]);
});

t.test('a thousand processes are searched within a second', async (t) => {
  const processes = Array.from({ length: 1000 }, (_, i) => ({ comm: `kworker/${i}:0` }));
  const trees = machine(t, processes);
  const tookMs = await processorMs(async () => t.same(await search(trees), []));
  t.ok(tookMs < 1_000, `${tookMs} ms`);
});
