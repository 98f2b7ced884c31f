/** Approvals and holds, through the executor and across restarts. */
import t from 'tap';
import { APPROVAL_MS, Approvals } from '../../src/control/approvals.js';
import { leaseOf } from '../../src/control/hold.js';
import { OperatorWord, WORD_KEY } from '../../src/control/operator-word.js';
import { MAX_BAR_MS } from '../../src/policy/bar.js';
import { configOf } from '../fixtures/antibodies.js';
import { actionStates, compared, FakeClock, FakeStore, type Life, life, rung } from '../fixtures/control.js';
import { FakeActuator, FakeActuatorCore } from '../fixtures/fake-actuator.js';
import { thermalRule } from '../fixtures/rules.js';

const POLICY = 'cpufreq/policy0';
const PROPOSING = { rules: [thermalRule({ mode: 'propose' })] };

async function attached(given: Parameters<typeof life>[0] = {}) {
  const now = life(given);
  const core = new FakeActuatorCore([POLICY]);
  const actuator = new FakeActuator(core);
  await now.executor.attach(actuator);
  return { now, core, actuator, approvals: new Approvals(now) };
}

function idOf(now: Life, action: string): string {
  return now.executor.actions.find((each) => each.action === action)?.actionId ?? '';
}

t.test(
  'an approved action is done as long as it is due, is taken back, and is proposed anew the next time',
  async (t) => {
    const { now, core, approvals } = await attached(PROPOSING);
    rung(now, 1);
    await compared(now, core);
    const id = idOf(now, 'throttle_50');
    const view = approvals.show(id);
    t.match(view, { risk: 'low', unavailable: null, effects: [{ target: POLICY, capPpm: 500_000 }], forSeconds: 300 });
    t.equal(core.leases.size, 0, 'a look does nothing');
    approvals.approve({ actionId: id, token: view.token, who: 'root' });
    await compared(now, core);
    await compared(now, core);
    t.strictSame([...core.leases.keys()], [leaseOf('throttle_50', POLICY)], 'this one and no other');
    t.match(actionStates(now), { throttle_10: 'proposed', throttle_50: 'active' });
    t.match(
      now.store.entries.filter(({ kind }) => kind === 'approve.operator'),
      [{ who: 'root', what: { action: id } }],
    );
    rung(now, -1);
    await compared(now, core);
    await compared(now, core);
    t.equal(core.leases.size, 0);
    rung(now, 1);
    await compared(now, core);
    t.match(actionStates(now), { throttle_50: 'proposed' });
    t.equal(core.leases.size, 0, 'an approval is for one time');
  },
);

t.test('a token holds for five minutes, for its proposal, and once', async (t) => {
  const { now, core, approvals } = await attached(PROPOSING);
  rung(now, 1);
  await compared(now, core);
  const id = idOf(now, 'throttle_10');
  const { token } = approvals.show(id);
  const stale = { code: 'SKOS_APPROVAL_STALE' };
  const approve = (actionId: string, given: string) => () => approvals.approve({ actionId, token: given, who: 'root' });
  t.throws(approve(id, ''), stale);
  t.throws(approve(id, 'f'.repeat(16)), stale);
  t.throws(approve(idOf(now, 'throttle_50'), token), stale, 'of another proposal');
  await compared(now, core, APPROVAL_MS);
  t.throws(approve(id, token), stale, 'too late');
  t.throws(approve('nova:thermal:throttle_10:1', token), { code: 'SKOS_APPROVAL_UNKNOWN' });
  const again = approvals.show(id);
  t.throws(approve(id, token), stale, 'a new look makes the former one void');
  approve(id, again.token)();
  t.throws(approve(id, again.token), stale, 'once');
});

t.test('what would no longer happen as it was shown must be looked at again', async (t) => {
  const { now, core, approvals } = await attached(PROPOSING);
  rung(now, 1);
  await compared(now, core);
  const id = idOf(now, 'throttle_10');
  const { token } = approvals.show(id);
  core.list([POLICY, 'cpufreq/policy1']);
  await now.executor.refreshTargets();
  t.throws(() => approvals.approve({ actionId: id, token, who: 'root' }), { code: 'SKOS_APPROVAL_STALE' });
  t.equal(approvals.show(id).effects.length, 2);
});

t.test('what cannot be done says so and cannot be approved', async (t) => {
  const { now, core, approvals } = await attached(PROPOSING);
  rung(now, 2);
  await compared(now, core);
  const id = idOf(now, 'failover');
  const view = approvals.show(id);
  t.match(view, { risk: 'high', effects: [], unavailable: /failover/ });
  t.throws(() => approvals.approve({ actionId: id, token: view.token, who: 'root' }), {
    code: 'SKOS_APPROVAL_UNKNOWN',
  });
  await compared(now, core);
  t.match(actionStates(now), { failover: 'proposed' });
});

t.test('a look that nobody follows up is forgotten', async (t) => {
  const { now, core, approvals } = await attached(PROPOSING);
  rung(now, 1);
  await compared(now, core);
  rung(now, -1);
  const { token } = approvals.show(idOf(now, 'throttle_10'));
  const id = idOf(now, 'throttle_10');
  await compared(now, core);
  t.throws(() => approvals.approve({ actionId: id, token, who: 'root' }), { code: 'SKOS_APPROVAL_UNKNOWN' }, 'over');
});

t.test('release takes an approval back for good, not only for the time of the bar', async (t) => {
  const { now, core, approvals } = await attached(PROPOSING);
  rung(now, 0);
  await compared(now, core);
  const id = idOf(now, 'throttle_10');
  approvals.approve({ actionId: id, token: approvals.show(id).token, who: 'root' });
  await compared(now, core);
  t.equal(core.leases.size, 1);
  now.executor.release({ rule: 'thermal-cpu', forMs: 1_000, who: 'root' });
  await compared(now, core);
  t.equal(core.leases.size, 0);
  await compared(now, core, 2_000);
  await compared(now, core);
  t.equal(core.leases.size, 0);
  t.match(actionStates(now), { throttle_10: 'proposed' });
});

t.test('an approved cap goes on over a restart of the agent', async (t) => {
  const { now, core, actuator, approvals } = await attached(PROPOSING);
  rung(now, 0);
  await compared(now, core);
  const id = idOf(now, 'throttle_10');
  approvals.approve({ actionId: id, token: approvals.show(id).token, who: 'root' });
  await compared(now, core);
  actuator.lose();
  const { clock, store } = now;
  for (const [bootId, leases] of [
    ['boot-1', 1],
    ['boot-2', 0],
  ] as const) {
    const next = life({ clock, store, bootId, ...PROPOSING });
    next.word.recall(await store.state(WORD_KEY));
    next.executor.recall(await store.actions());
    await next.executor.attach(new FakeActuator(core));
    await compared(next, core);
    t.equal(core.leases.size, leases, `${bootId}: an approval does not outlive the boot`);
  }
});

t.test('on hold nothing new begins, what stands is kept and taken back, and the hold ends by itself', async (t) => {
  const { now, core } = await attached();
  rung(now, 0);
  await compared(now, core);
  now.word.holdFor(60_000, 'root');
  rung(now, 1);
  await compared(now, core);
  t.match(actionStates(now), { throttle_10: 'active', throttle_50: 'barred' });
  await compared(now, core, 30_000);
  t.equal(core.leases.size, 1, 'and is renewed');
  rung(now, -1);
  await compared(now, core);
  await compared(now, core);
  t.equal(core.leases.size, 0, 'taken back when the danger is past');
  rung(now, 0);
  await compared(now, core);
  t.equal(core.leases.size, 0);
  await compared(now, core, 30_000);
  await compared(now, core);
  t.equal(core.leases.size, 1, 'over');
  t.equal(now.word.hold, undefined);
});

t.test(
  'a hold ends when the operator says so, lasts a day at most, and outlives the agent but not the boot',
  async (t) => {
    const clock = new FakeClock();
    const store = new FakeStore();
    const word = new OperatorWord({ bootId: 'boot-1', store, clock });
    t.notOk(word.endHold(), 'there was none');
    const { untilMs } = word.holdFor(10 * MAX_BAR_MS, 'uid 1000');
    t.equal(untilMs, clock.nowMs + MAX_BAR_MS);
    const next = new OperatorWord({ bootId: 'boot-1', store, clock });
    next.recall(await store.state(WORD_KEY));
    t.match(next.hold, { who: 'uid 1000', untilMs });
    const other = new OperatorWord({ bootId: 'boot-2', store, clock });
    other.recall(await store.state(WORD_KEY));
    t.equal(other.hold, undefined);
    t.ok(next.endHold());
    t.equal(next.hold, undefined);
    for (const hold of [null, 3, { untilMs: 'x' }, { sinceMs: 0, untilMs: Number.NaN, who: 'x' }]) {
      next.recall({ boot: 'boot-1', list: 'x', hold, approved: [1, null] });
      t.equal(next.hold, undefined, `garbage holds nothing: ${JSON.stringify(hold)}`);
    }
  },
);

t.test('a cap that stood before the agent was restarted stays during a hold', async (t) => {
  const { now, core, actuator } = await attached();
  rung(now, 0);
  await compared(now, core);
  now.word.holdFor(600_000, 'root');
  actuator.lose();
  const { clock, store } = now;
  const next = life({ clock, store, config: configOf({ mode: 'auto' }) });
  next.word.recall(await store.state(WORD_KEY));
  next.executor.recall(await store.actions());
  await next.executor.attach(new FakeActuator(core));
  await compared(next, core);
  await compared(next, core, 20_000);
  t.equal(core.leases.size, 1);
});

t.test('a hold or a bar that no operator can have set takes no protection away', (t) => {
  const clock = new FakeClock();
  clock.nowMs = 50 * MAX_BAR_MS;
  const sinceMs = clock.nowMs - 1_000;
  const long = { sinceMs, untilMs: 1e300 };
  const later = { sinceMs: clock.nowMs + 1_000, untilMs: clock.nowMs + 60_000 };
  const whole = { sinceMs, untilMs: sinceMs + MAX_BAR_MS };
  for (const [times, stands] of [
    [long, false],
    [later, false],
    [whole, true],
  ] as const) {
    const word = new OperatorWord({ bootId: 'b', store: new FakeStore(), clock });
    word.recall({ boot: 'b', list: [{ rule: 'hot', ...times }], hold: { ...times, who: 'root' }, approved: [] });
    t.equal(word.bars.length, stands ? 1 : 0);
    t.equal(word.hold !== undefined, stands);
    t.match(word.about({ rule: 'hot', key: 'k', isActing: false }, clock.nowMs), { isBarred: stands, isHeld: stands });
  }
  t.end();
});
