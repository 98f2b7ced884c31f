/** The demonstrations, run as programs: they close the loop, say so by their exit status, and leave nothing behind. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { until } from '../fixtures/until.js';

/** It cannot run on this machine: not root, or no cgroup that can be limited. */
const UNSUITABLE = 77;
const DEADLINE_MS = 90_000;
const root = checkout();
/** The tests run compiled, so that all is built; a build in the middle of other tests would pull it from under them. */
const env = { ...process.env, SKOS_SKIP_SETUP: '1' };

function checkout(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!readdirSync(directory).includes('biome.json')) directory = dirname(directory);
  return directory;
}

interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  output(): string;
}

function demo(t: Test, ...args: string[]): Running {
  const child = spawn(join(root, 'scripts/demo'), args, { env, timeout: DEADLINE_MS });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += String(data)));
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  t.teardown(() => child.kill());
  return { child, ended, output: () => output };
}

/** Directories and cgroups, whose names carry the demonstration's process id, and processes, whose environment does. */
function leftBehind({ child }: Running): string[] {
  const places = ['/dev/shm', tmpdir(), ...['', 'cpu', 'cpuacct', 'freezer'].map((name) => `/sys/fs/cgroup/${name}`)];
  const own = new RegExp(`^skos-demo-${child.pid}(-|$)`);
  const files = places
    .filter((place) => existsSync(place))
    .flatMap((place) => readdirSync(place).filter((name) => own.test(name)));
  const processes = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && demoOf(pid) === String(child.pid));
  return [...files, ...processes];
}

/** The agent and its children are started in the environment of their demonstration. */
function demoOf(pid: string): string | undefined {
  try {
    const variables = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    return variables.find((each) => each.startsWith('SKOS_DEMO='))?.slice('SKOS_DEMO='.length);
  } catch {
    return undefined; // Ended, or not ours.
  }
}

t.test('closes the loop on a simulated machine', async (t) => {
  const running = demo(t, '--fast');
  t.equal(await running.ended, 0, running.output());
  const output = running.output();
  for (const severity of ['warning', 'critical', 'emergency']) t.match(output, `! ${severity}: CPU temperature`);
  for (const action of ['throttle_10', 'throttle_50', 'freeze@batch']) {
    t.match(output, `> ${action} active`);
    t.match(output, `> ${action} released`);
  }
  t.match(output, /The chain is whole: \d+ entries/);
  t.same(leftBehind(running), [], 'nothing is left');
});

t.test('closes the loop on this machine', async (t) => {
  const running = demo(t, 'real');
  const status = await running.ended;
  const output = running.output();
  t.same(leftBehind(running), [], 'nothing is left');
  if (status === UNSUITABLE) {
    const [, why] = /not on this machine: (.*)/.exec(output) ?? [];
    t.ok(why, 'says why not', { skip: why ?? false });
    return;
  }
  t.equal(status, 0, output);
  t.match(output, '> limit_20@demo active: quota/demo');
  t.match(output, '> limit_20@demo released: quota/demo');
  t.match(output, /skos\/result\/\S+ \{"action_type":"limit_20@demo","outcome":"released"/);
  t.match(output, /The chain is whole: \d+ entries/);
});

t.test('gives back what it holds when it is interrupted', async (t) => {
  const running = demo(t, 'real');
  const isOver = () => running.child.exitCode !== null;
  await until(() => isOver() || running.output().includes('limit_20@demo active'), DEADLINE_MS);
  if (running.child.exitCode === UNSUITABLE) {
    t.pass('holds nothing', { skip: 'not on this machine' });
    return;
  }
  running.child.kill('SIGINT');
  t.equal(await running.ended, 130);
  t.same(leftBehind(running), []);
});

t.test('refuses words that it does not know, and explains itself', async (t) => {
  const run = (...args: string[]) => spawnSync(join(root, 'scripts/demo'), args, { env, encoding: 'utf8' });
  t.match(run('rael'), { status: 2, stdout: '', stderr: /scripts\/demo real/ });
  t.match(run('real', '--fast'), { status: 2 });
  t.match(run('--help'), { status: 0, stdout: /scripts\/demo --fast/, stderr: '' });
});
