import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { ChildProcess, type ChildSpec } from '../../src/app/children.js';
import { watchParent } from '../../src/app/parent.js';
import { recordingLog } from '../fixtures/logs.js';
import { until } from '../fixtures/until.js';

const PROGRAM = fileURLToPath(new URL('../fixtures/children.js', import.meta.url));
const SUPERVISOR = fileURLToPath(new URL('../fixtures/supervisor.js', import.meta.url));

/** A supervised child of the given behaviour, and the lines that it has written. */
function supervised(t: Test, behaviour: string, spec: Partial<ChildSpec> = {}) {
  const file = join(t.testdir({}), 'lines');
  const log = recordingLog();
  const child = new ChildProcess(
    {
      name: 'skos-net',
      command: process.execPath,
      args: [PROGRAM, behaviour, file],
      code: 'SKOS_NET_CHILD',
      event: 'net.restarted',
      ...spec,
    },
    { log },
  );
  t.teardown(() => child.stop());
  return { child, log, lines: () => linesOf(file), starts: () => startsOf(file) };
}

function linesOf(file: string): string[] {
  return existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : [];
}

function startsOf(file: string): string[] {
  return linesOf(file).filter((line) => line.startsWith('started'));
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z ');
  } catch {
    return false;
  }
}

t.test('starts the program, and ends it with SIGTERM on stop', async (t) => {
  const { child, lines, starts } = supervised(t, 'healthy');
  await child.start();
  await until(() => starts().length === 1);
  t.equal(starts()[0], `started ${child.pid}`);
  await child.stop();
  t.equal(lines().at(-1), 'SIGTERM');
  t.equal(child.pid, undefined);
});

t.test('start and stop are idempotent, and it starts again afterwards', async (t) => {
  const { child, starts } = supervised(t, 'healthy');
  await Promise.all([child.start(), child.start()]);
  await until(() => starts().length === 1);
  await Promise.all([child.stop(), child.stop()]);
  await child.stop();
  await child.start();
  await until(() => starts().length === 2);
});

t.test('a killed child is back within a second, and it is said with its code', async (t) => {
  const { child, log, starts } = supervised(t, 'healthy');
  await child.start();
  await until(() => starts().length === 1);
  const first = child.pid ?? 0;
  const begun = performance.now();
  process.kill(first, 'SIGKILL');
  await until(() => child.pid !== undefined && child.pid !== first);
  t.ok(performance.now() - begun < 1_000);
  t.match(
    log.lines.filter((line) => line.level === 'warn'),
    [{ message: /SIGKILL/, fields: { event: 'net.restarted', code: 'SKOS_NET_CHILD' } }],
  );
});

t.test('a crash loop is slowed down, each wait twice the last, and is said once', async (t) => {
  const { child, log, starts } = supervised(t, 'crash');
  await child.start();
  await until(() => log.lines.filter((line) => line.message.includes('again in')).length >= 4);
  const restarts = log.lines.filter((line) => line.message.includes('again in'));
  t.strictSame(
    restarts.slice(0, 4).map((line) => /in (\d+) ms/.exec(line.message)?.[1]),
    ['200', '400', '800', '1600'],
  );
  t.strictSame(
    restarts.slice(0, 4).map((line) => line.level),
    ['warn', 'debug', 'debug', 'debug'],
  );
  await child.stop();
  const before = starts().length;
  await new Promise((resolve) => setTimeout(resolve, 1_800));
  t.equal(starts().length, before, 'stop ends the loop');
});

t.test('after a minute of health the first restart is quick again', async (t) => {
  let nowMs = 0;
  const log = recordingLog();
  const spec = {
    name: 'x',
    command: '/bin/sleep',
    args: ['60'],
    code: 'SKOS_NET_CHILD',
    event: 'net.restarted',
  } as const;
  const child = new ChildProcess(spec, { log, clock: { monotonicMs: () => nowMs, wallMs: () => 0 } });
  t.teardown(() => child.stop());
  await child.start();
  const delays = () => log.lines.flatMap((line) => /in (\d+) ms/.exec(line.message)?.[1] ?? []);
  const killAndWait = async () => {
    const pid = child.pid ?? 0;
    process.kill(pid, 'SIGKILL');
    await until(() => child.pid !== undefined && child.pid !== pid);
  };
  await killAndWait();
  await killAndWait();
  nowMs = 60_000;
  await killAndWait();
  t.strictSame(delays(), ['200', '400', '200']);
});

t.test('a child beyond its memory limit is killed and started again, and it is said why', async (t) => {
  const { child, log, starts } = supervised(t, 'hog', { rssLimitBytes: 150 * 1_048_576 });
  await child.start();
  await until(() => starts().length >= 2, 20_000);
  t.match(
    log.lines.find((line) => line.level === 'warn'),
    { message: /\d+ MiB of memory, its limit is 150 MiB/, fields: { event: 'net.restarted', code: 'SKOS_NET_CHILD' } },
  );
});

t.test('a child that ignores SIGTERM is killed after its deadline', async (t) => {
  const { child, lines, log } = supervised(t, 'stubborn', { stopDeadlineMs: 100 });
  await child.start();
  await until(() => lines().length === 1);
  const pid = child.pid ?? 0;
  await child.stop();
  t.equal(lines().at(-1), 'SIGTERM ignored');
  t.notOk(alive(pid));
  t.match(log.lines.at(-1), { level: 'warn', message: /killed/ });
});

t.test('a stopped (SIGSTOP) child is ended too', async (t) => {
  const { child, lines } = supervised(t, 'healthy', { stopDeadlineMs: 100 });
  await child.start();
  await until(() => lines().length === 1);
  const pid = child.pid ?? 0;
  process.kill(pid, 'SIGSTOP');
  await child.stop();
  t.notOk(alive(pid));
});

t.test('a program that is not there is refused with its code and not tried again', async (t) => {
  const { child, log } = supervised(t, 'healthy', { command: '/nonexistent/skos-net' });
  await t.rejects(child.start(), { code: 'SKOS_NET_CHILD', cause: { code: 'ENOENT' } });
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.equal(log.lines.length, 0);
});

t.test('stop during the wait before a restart cancels it', async (t) => {
  const { child, log, starts } = supervised(t, 'crash');
  await child.start();
  await until(() => log.lines.some((line) => line.message.includes('again in')));
  await child.stop();
  await new Promise((resolve) => setTimeout(resolve, 400));
  t.equal(starts().length, 1);
});

t.test('stop while the process is being made leaves none behind', async (t) => {
  const { child, starts } = supervised(t, 'healthy');
  const started = child.start();
  await child.stop();
  await started;
  t.equal(child.pid, undefined);
  await new Promise((resolve) => setTimeout(resolve, 200));
  for (const line of starts()) t.notOk(alive(Number(line.split(' ')[1])));
});

t.test('a child ends when its parent is killed', async (t) => {
  const { parent, lines } = await parentOf(t, 'dependent');
  parent.kill('SIGKILL');
  await until(() => lines().includes('parent gone'));
});

t.test('a child that outlives the agent stays when its parent is killed', async (t) => {
  const { parent, lines } = await parentOf(t, 'dependent', 'outlives');
  const pid = Number(lines()[0]?.split(' ')[1]);
  t.teardown(() => process.kill(pid, 'SIGKILL'));
  const gone = new Promise((resolve) => parent.once('exit', resolve));
  parent.kill('SIGKILL');
  await gone;
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.ok(alive(pid));
});

t.test('a child that outlives the agent is left running on stop', async (t) => {
  const { child, starts } = supervised(t, 'healthy', { outlives: true });
  await child.start();
  await until(() => starts().length === 1);
  const pid = child.pid ?? 0;
  t.teardown(() => process.kill(pid, 'SIGKILL'));
  await child.stop();
  t.ok(alive(pid));
});

t.test('without a parent named there is nothing to watch, whatever the variable says', async (t) => {
  for (const value of [undefined, '', '0', '2', 'x', '-1', '3.5']) {
    const watch = watchParent(() => t.fail('must not be called'), { SKOS_PARENT_FD: value });
    t.equal(watch.watched, false);
    watch.stop();
  }
});

/** A real parent process with one child, both running. */
async function parentOf(t: Test, behaviour: string, outlives = '') {
  const file = join(t.testdir({}), 'lines');
  const parent = spawn(process.execPath, [SUPERVISOR, behaviour, file, outlives], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  t.teardown(() => parent.kill('SIGKILL'));
  await until(() => startsOf(file).length === 1);
  return { parent, lines: () => linesOf(file) };
}
