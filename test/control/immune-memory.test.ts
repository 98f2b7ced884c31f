import t from 'tap';
import { ImmuneMemory, TRY_AGAIN_EVERY } from '../../src/control/immune-memory.js';
import type { ActionOutcome } from '../../src/control/repair-gate.js';
import { MIN_OBSERVATIONS } from '../../src/policy/memory.js';
import { configOf } from '../fixtures/antibodies.js';
import { FakeStore, type Life, life, turns } from '../fixtures/control.js';
import { FakeActuator, FakeActuatorCore } from '../fixtures/fake-actuator.js';
import { attemptOf } from '../fixtures/gates.js';
import { thermalRule } from '../fixtures/rules.js';

const RULE = thermalRule({ keepMs: 1_000 });

function outcome(action: string, result: ActionOutcome['result'], more: Partial<ActionOutcome> = {}): ActionOutcome {
  const { name: rule, channelId: channel } = RULE;
  const values = { tookMs: 30_000, valueBefore: 77_000, valueAfter: 71_000 };
  return { ...attemptOf(action, { rule, channel }), result, ...values, ...more };
}

/** A node that has seen throttle_10 not help and throttle_50 help. */
async function experienced(given: Parameters<typeof life>[0] = {}): Promise<Life> {
  const now = life({ rules: [RULE], ...given });
  await now.memory.start();
  for (let n = 0; n < MIN_OBSERVATIONS; n++) {
    now.memory.note(outcome('throttle_10', 'unhelpful'), n);
    now.memory.note(outcome('throttle_50', 'helped'), n);
  }
  return now;
}

function feed(now: Life, celsius: number, seconds = 0.2): void {
  for (let i = 0; i < Math.round(seconds * 10); i++) {
    now.clock.nowMs += 100;
    now.rulebook.sample(0, celsius * 1000, 'ok', now.clock.nowMs, (b, f) => now.alerts.apply(b, f));
    now.executor.reconcile(now.clock.nowMs);
  }
}

t.test('a ladder begins with what helped, says so, and has the reason in its record', async (t) => {
  const now = await experienced();
  await now.executor.attach(new FakeActuator(new FakeActuatorCore(['cpufreq/policy0'])));
  feed(now, 76);
  t.match(now.alerts.standing, [
    { severity: 'critical', value: 76, threshold: 75, message: /begun as critical, because/ },
  ]);
  t.match(
    now.executor.actions.map(({ action }) => action),
    ['throttle_10', 'throttle_50', 'redistribute'],
  );
  await turns();
  t.match(now.store.entries.find(({ kind }) => kind === 'alert.fire')?.what, { severity: 'critical', firstRung: 1 });
  feed(now, 76, 2);
  t.match(now.alerts.standing, [{ severity: 'warning' }], 'and goes down from there like any other');
  t.strictSame(now.learnt, [], 'a cap that was begun before its bound teaches nothing');
});

t.test('a cap that was begun together with a higher rung teaches nothing; one that was outgrown does', async (t) => {
  const now = life({ rules: [RULE] });
  const taught = () => now.learnt.splice(0).map(({ action, result }) => [action.text, result]);
  await now.executor.attach(new FakeActuator(new FakeActuatorCore(['cpufreq/policy0'])));
  for (const celsius of [86, 76, 50]) {
    feed(now, celsius, 2);
    await turns();
  }
  t.strictSame(taught(), [['throttle_50', 'helped']]);
  feed(now, 76, 2);
  await turns();
  feed(now, 86, 2);
  t.strictSame(taught(), [['throttle_10', 'unhelpful']]);
});

t.test('begins now and then as if nothing were remembered, to see whether that has changed', async (t) => {
  const now = await experienced();
  const begun: (string | null | undefined)[] = [];
  for (let n = 0; n < 2 * TRY_AGAIN_EVERY; n++) {
    now.clock.nowMs += 3_600_000;
    feed(now, 76);
    begun.push(now.alerts.standing[0]?.severity);
    feed(now, 50, 10);
  }
  const tried = begun.flatMap((severity, n) => (severity === 'warning' ? [n] : []));
  t.strictSame(tried, [TRY_AGAIN_EVERY - 1, 2 * TRY_AGAIN_EVERY - 1]);
});

t.test(
  'raises nothing where it may not: in another mode, on another channel, or where the configuration says so',
  async (t) => {
    const { memory } = await experienced();
    t.equal(memory.firstRung(RULE), 1);
    t.equal(memory.firstRung({ ...RULE, mode: 'propose' }), -1);
    t.equal(memory.firstRung({ ...RULE, channelId: 'hwmon/coretemp/temp2' }), -1);
    t.equal(
      (await experienced({ config: configOf({ mode: 'auto', memory: { raise: false } }) })).memory.firstRung(RULE),
      -1,
    );
  },
);

t.test('remembers over a restart, passes over what is damaged, and forgets what it is told to', async (t) => {
  const store = new FakeStore();
  await experienced({ store });
  const again = life({ store, rules: [RULE] });
  t.equal(again.memory.firstRung(RULE), -1, 'not before it is read');
  await again.memory.start();
  t.equal(again.memory.firstRung(RULE), 1);
  t.match(again.memory.list(), [
    { action: 'throttle_10', helped: 0, recent: { medianTookMs: null, isFutile: true } },
    {
      action: 'throttle_50',
      attempts: MIN_OBSERVATIONS,
      recent: { medianTookMs: 30_000, medianFell: 6_000, isProven: true },
    },
  ]);
  for (const key of store.keyed.keys())
    if (key.includes('throttle_50')) store.keyed.set(key, Buffer.from('{"v":1,"rec'));
  const damaged = life({ store, rules: [RULE] });
  await damaged.memory.start();
  t.equal(damaged.memory.firstRung(RULE), -1);
  t.equal(damaged.memory.forget('hwmon/other/**'), 0);
  t.equal(damaged.memory.forget('throttle_10'), 1);
  t.equal(again.memory.forget('thermal-*'), 2);
  t.equal(again.memory.forget(undefined), 0);
});

t.test('holds a bounded number of lessons, and a reading that was missing is no number', async (t) => {
  const store = new FakeStore();
  const memory = new ImmuneMemory({ config: life().config, store });
  await memory.start();
  for (let n = 0; n < 700; n++) memory.note(outcome('throttle_10', 'helped', { channel: `hwmon/x/temp${n}` }), n);
  t.equal(memory.list().length, 500);
  t.equal(memory.list()[0]?.channel, 'hwmon/x/temp699', 'the oldest went');
  memory.note(outcome('throttle_50', 'failed', { valueAfter: null }), 900);
  t.match(memory.list()[0], { action: 'throttle_50', recent: { medianFell: null, observations: 1 } });
});
