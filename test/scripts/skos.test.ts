/** The launcher, run as a program: from a checkout, through links, and without what it needs. */
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = checkout();

function checkout(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!readdirSync(directory).includes('biome.json')) directory = dirname(directory);
  return directory;
}

/** A checkout whose programs print how they were called. */
function fakeCheckout(directory: string, { built = true } = {}): string {
  mkdirSync(join(directory, 'scripts'));
  const launcher = join(directory, 'scripts/skos');
  copyFileSync(join(root, 'scripts/skos'), launcher);
  chmodSync(launcher, 0o755);
  if (!built) return launcher;
  mkdirSync(join(directory, 'dist'));
  writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
  for (const program of ['agent', 'cli']) {
    const text = `console.log(JSON.stringify({ program: '${program}', args: process.argv.slice(2), flags: process.execArgv, arenas: process.env.MALLOC_ARENA_MAX }));`;
    writeFileSync(join(directory, `dist/${program}.js`), text);
  }
  return launcher;
}

function run(launcher: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env) {
  const { status, stdout, stderr } = spawnSync(launcher, args, {
    encoding: 'utf8',
    env: { ...env, MALLOC_ARENA_MAX: undefined },
  });
  return { status, stdout, stderr };
}

t.test('run starts the agent, with its flags and arguments', async (t) => {
  const { status, stdout } = run(fakeCheckout(t.testdir()), ['run', '--config', 'a b.yaml']);
  t.equal(status, 0);
  t.same(JSON.parse(stdout), {
    program: 'agent',
    args: ['--children', '--config', 'a b.yaml'],
    flags: ['--max-semi-space-size=2'],
    arenas: '1',
  });
});

t.test('everything else is the operator’s tool, arguments as they are', async (t) => {
  for (const args of [[], ['status'], ['sensors', 'hwmon/*/a b', '--json'], ['--help'], ['']]) {
    t.match(JSON.parse(run(fakeCheckout(t.testdir()), args).stdout), { program: 'cli', args }, args.join(' '));
  }
});

t.test('is found through links, absolute and relative', async (t) => {
  const directory = t.testdir({ bin: {}, other: {} });
  const launcher = fakeCheckout(directory);
  symlinkSync(launcher, join(directory, 'bin/skos'));
  symlinkSync('../bin/skos', join(directory, 'other/skos'));
  for (const link of ['bin/skos', 'other/skos'])
    t.match(JSON.parse(run(join(directory, link), ['status']).stdout), { program: 'cli' });
});

t.test('says what is missing and what to do', async (t) => {
  const unbuilt = run(fakeCheckout(t.testdir(), { built: false }), ['status']);
  t.equal(unbuilt.status, 1);
  t.match(unbuilt.stderr, /dist\/cli\.js is missing(.|\n)*next: .*npm run build/);
  const nodeless = run(fakeCheckout(t.testdir()), ['status'], { ...process.env, SKOS_NODE: 'no-such-node' });
  t.equal(nodeless.status, 1);
  t.match(nodeless.stderr, /no-such-node is not installed/);
});

t.test('run --help needs nothing built', async (t) => {
  const { status, stdout } = run(fakeCheckout(t.testdir(), { built: false }), ['run', '--help']);
  t.equal(status, 0);
  t.match(stdout, /skos run \[--config FILE\]/);
});
