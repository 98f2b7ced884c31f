import t from 'tap';
import { SkosError } from '../../src/core/errors.js';
import { Lifecycle, type Part } from '../../src/core/lifecycle.js';
import { recordingLog } from '../fixtures/logs.js';

/** Parts that note what happens to them; `override` replaces the behaviour of one. */
function machine(names: readonly string[], override: Record<string, Partial<Part>> = {}) {
  const events: string[] = [];
  const log = recordingLog();
  const parts = names.map((name): Part => {
    const special = override[name] ?? {};
    return {
      name,
      ...special,
      async start() {
        events.push(`start ${name}`);
        await special.start?.();
      },
      async stop() {
        events.push(`stop ${name}`);
        await special.stop?.();
      },
    };
  });
  return { events, lines: log.lines, lifecycle: new Lifecycle({ parts, log }) };
}

const never = () => new Promise<void>(() => undefined);

t.test('starts in order and stops in reverse', async (t) => {
  const { lifecycle, events } = machine(['a', 'b', 'c']);
  t.equal(await lifecycle.start(), true);
  t.equal(lifecycle.state, 'running');
  await lifecycle.stop();
  t.equal(lifecycle.state, 'stopped');
  t.strictSame(events, ['start a', 'start b', 'start c', 'stop c', 'stop b', 'stop a']);
});

t.test('rolls back what was started when a part fails, the failed one included, and passes its error on', async (t) => {
  const failure = new SkosError('SKOS_STORE_OPEN', 'disk gone');
  const { lifecycle, events } = machine(['a', 'b', 'c'], { b: { start: () => Promise.reject(failure) } });
  await t.rejects(lifecycle.start(), { code: 'SKOS_STORE_OPEN' });
  t.strictSame(events, ['start a', 'start b', 'stop b', 'stop a']);
  t.equal(lifecycle.state, 'stopped');
});

t.test('a part that throws instead of rejecting is rolled back alike', async (t) => {
  const throws = () => {
    throw new SkosError('SKOS_ADDON_LOAD', 'no addon');
  };
  const { lifecycle, events } = machine(['a', 'b'], { b: { start: throws, stop: throws } });
  await t.rejects(lifecycle.start(), { code: 'SKOS_ADDON_LOAD' });
  t.strictSame(events, ['start a', 'start b', 'stop b', 'stop a']);
});

t.test('may be started again after a failed start', async (t) => {
  let disk = false;
  const { lifecycle } = machine(['a'], {
    a: {
      start: () => {
        if (!disk) throw new SkosError('SKOS_STORE_OPEN', 'no disk');
      },
    },
  });
  await t.rejects(lifecycle.start());
  disk = true;
  t.equal(await lifecycle.start(), true);
});

t.test(
  'a part that hangs on start is given up after its deadline, and stopped again when it comes up late',
  async (t) => {
    let comeUp: () => void = () => undefined;
    const late = new Promise<void>((resolve) => {
      comeUp = resolve;
    });
    const { lifecycle, events } = machine(['a', 'b'], { b: { start: () => late, startDeadlineMs: 20 } });
    await t.rejects(lifecycle.start(), { code: 'SKOS_STARTUP_DEADLINE' });
    t.strictSame(events, ['start a', 'start b', 'stop b', 'stop a']);
    comeUp();
    await new Promise((resolve) => setTimeout(resolve, 5));
    t.equal(events.at(-1), 'stop b', 'nothing is left open by the late start');
  },
);

t.test('a part that hangs on stop is logged with its code and does not hold up the others', async (t) => {
  const { lifecycle, events, lines } = machine(['a', 'b', 'c'], { b: { stop: never, stopDeadlineMs: 20 } });
  await lifecycle.start();
  const begun = process.hrtime.bigint();
  await lifecycle.stop();
  t.ok(process.hrtime.bigint() - begun < 2_000_000_000n);
  t.strictSame(events.slice(3), ['stop c', 'stop b', 'stop a']);
  t.match(lines, [{ level: 'error', fields: { code: 'SKOS_SHUTDOWN_DEADLINE', part: 'b' } }]);
});

t.test('a part that fails to stop is logged and does not hold up the others', async (t) => {
  const { lifecycle, events, lines } = machine(['a', 'b'], { b: { stop: () => Promise.reject(new Error('EIO')) } });
  await lifecycle.start();
  await lifecycle.stop();
  t.strictSame(events.slice(2), ['stop b', 'stop a']);
  t.match(lines, [{ level: 'error', fields: { part: 'b' } }]);
});

t.test('start and stop are idempotent: two at once are one', async (t) => {
  const { lifecycle, events } = machine(['a']);
  t.strictSame(await Promise.all([lifecycle.start(), lifecycle.start()]), [true, true]);
  await Promise.all([lifecycle.stop(), lifecycle.stop()]);
  await lifecycle.stop();
  t.strictSame(events, ['start a', 'stop a']);
});

t.test('stop before start does nothing', async (t) => {
  const { lifecycle, events } = machine(['a']);
  await lifecycle.stop();
  t.strictSame(events, []);
});

t.test('stop while starting starts no further part and takes back the ones that run', async (t) => {
  let release: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const { lifecycle, events } = machine(['a', 'b', 'c'], { b: { start: () => gate } });
  const started = lifecycle.start();
  await new Promise((resolve) => setTimeout(resolve, 5));
  const stopped = lifecycle.stop();
  release();
  t.equal(await started, false);
  await stopped;
  t.strictSame(events, ['start a', 'start b', 'stop b', 'stop a']);
  t.equal(lifecycle.state, 'stopped');
});

t.test('start while stopping waits for the end and starts afresh', async (t) => {
  const { lifecycle, events } = machine(['a']);
  await lifecycle.start();
  const stopped = lifecycle.stop();
  t.equal(await lifecycle.start(), true);
  await stopped;
  t.strictSame(events, ['start a', 'stop a', 'start a']);
});
