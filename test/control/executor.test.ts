/** The executor step by step: escalation, relapse, independent leases, trouble, restarts, bars, breakers. */
import t from 'tap';
import { ActionIds } from '../../src/control/action-ids.js';
import { BREAKER_RECORDS } from '../../src/control/breakers.js';
import { leaseOf } from '../../src/control/hold.js';
import { WORD_KEY } from '../../src/control/operator-word.js';
import type { ActionRecord } from '../../src/core/ports.js';
import { CLOSED } from '../../src/policy/breaker.js';
import { configOf, cpuTemperature } from '../fixtures/antibodies.js';
import { actionStates, compared, FakeClock, FakeStore, type Life, life, rung, turns } from '../fixtures/control.js';
import { FakeActuator, FakeActuatorCore } from '../fixtures/fake-actuator.js';
import { thermalRule } from '../fixtures/rules.js';

const POLICY = 'cpufreq/policy0';

async function attached(given: Parameters<typeof life>[0] = {}, targets: readonly string[] = [POLICY]) {
  const now = life(given);
  const core = new FakeActuatorCore(targets);
  const actuator = new FakeActuator(core);
  await now.executor.attach(actuator);
  return { now, core, actuator };
}

function lease(action: string, target = POLICY): string {
  return leaseOf(action, target);
}

t.test('escalation adds, a step down releases only what its rung added', async (t) => {
  const { now, core } = await attached();
  rung(now, 0);
  await compared(now, core);
  rung(now, 2);
  await compared(now, core);
  t.strictSame([...core.leases.keys()].sort(), [lease('throttle_10'), lease('throttle_50')].sort());
  t.match(actionStates(now), {
    throttle_10: 'active',
    throttle_50: 'active',
    redistribute: 'proposed',
    shutdown_non_essential: 'proposed',
    failover: 'proposed',
  });
  t.equal(core.devices.get(POLICY)?.standing, 500_000);
  rung(now, 0);
  await compared(now, core);
  await compared(now, core);
  t.strictSame([...core.leases.keys()], [lease('throttle_10')]);
  t.equal(core.devices.get(POLICY)?.standing, 900_000);
});

t.test('does not call the danger past because its rule is no more', async (t) => {
  const { now, core } = await attached();
  const ends = () => now.store.puts.filter(({ endedAtMs }) => endedAtMs !== null).map(({ reason }) => reason);
  rung(now, 0);
  await compared(now, core);
  now.rebuild([]);
  await compared(now, core);
  t.equal(core.devices.get(POLICY)?.standing, null);
  now.rebuild();
  rung(now, 0);
  await compared(now, core);
  rung(now, -1);
  await compared(now, core);
  t.same(ends(), ['no rule asks for it any more', 'the danger is past']);
});

t.test('acts although nothing can be recorded, and says so', async (t) => {
  const { now, core } = await attached();
  now.store.putAction = () => {
    throw new Error('the store is broken');
  };
  rung(now, 1);
  now.executor.reconcile(now.clock.nowMs);
  t.equal(core.leases.size, 2);
  await turns();
  t.match(actionStates(now), { throttle_10: 'active', throttle_50: 'active' });
  rung(now, -1);
  await compared(now, core);
  t.equal(core.leases.size, 0);
  t.ok(now.log.lines.some(({ level, message }) => level === 'error' && message.includes('the store is broken')));
});

t.test('takes back although nothing can be learnt of it', async (t) => {
  const { now, core } = await attached();
  rung(now, 1);
  await compared(now, core);
  now.learnt.push = () => {
    throw new Error('the memory is broken');
  };
  rung(now, -1);
  await compared(now, core);
  await compared(now, core);
  t.equal(core.leases.size, 0);
  t.strictSame(now.executor.actions, []);
  t.ok(now.log.lines.some(({ level, message }) => level === 'error' && message.includes('the memory is broken')));
});

t.test('a mistake in one action keeps no other from being begun, and is told', async (t) => {
  const rules = [['shutdown_non_essential'], ['throttle_50']].map((actions, i) =>
    thermalRule({ name: `rule-${i}`, rungs: thermalRule().rungs.map((each) => ({ ...each, actions })) }),
  );
  const broken = { ...configOf({ mode: 'auto', auto_allow: ['shutdown_non_essential'] }) };
  Object.defineProperty(broken, 'workloads', {
    get() {
      throw new Error('a mistake');
    },
  });
  const { now, core } = await attached({ rules, config: broken });
  rung(now, 1, 0);
  rung(now, 1, 1);
  await compared(now, core);
  await compared(now, core);
  t.match(actionStates(now), { shutdown_non_essential: 'unavailable', throttle_50: 'active' });
  t.match(
    now.log.lines.filter(({ level }) => level === 'error'),
    [{ message: /a mistake of SKOS itself: a mistake/ }],
  );
  t.equal(core.devices.get(POLICY)?.standing, 500_000);
});

t.test('gives no id twice, also when the clock is set back', async (t) => {
  const ids = new ActionIds('nova');
  const given = [5_000, 3_000, 5_000, 4_000, 5_999].map((wallMs) => ids.next({ type: 'thermal', action: 'x', wallMs }));
  t.equal(new Set(given).size, given.length);
});

t.test('caps again at once when the danger comes back while the undo is under way', async (t) => {
  const { now, core } = await attached();
  rung(now, 0);
  await compared(now, core);
  const device = core.devices.get(POLICY);
  if (device === undefined) throw new Error('no device');
  device.trouble = 'away';
  rung(now, -1);
  await compared(now, core);
  t.match(actionStates(now), { throttle_10: 'undo_pending' });
  const [before] = now.executor.actions;
  device.trouble = 'none';
  rung(now, 0);
  now.executor.reconcile(now.clock.nowMs);
  t.ok(core.leases.has(lease('throttle_10')), 'in the same tick');
  await turns();
  t.match(now.executor.actions, [{ actionId: before?.actionId, state: 'active' }], 'the same action goes on');
});

t.test('does not say released before the target is settled', async (t) => {
  const { now, core } = await attached();
  rung(now, 0);
  await compared(now, core);
  for (const trouble of ['hung', 'away', 'failed'] as const) {
    const device = core.devices.get(POLICY);
    if (device === undefined) throw new Error('no device');
    device.trouble = trouble;
    rung(now, -1);
    for (let i = 0; i < 5; i++) await compared(now, core, 1_000);
    t.match(actionStates(now), { throttle_10: 'undo_pending' }, trouble);
    device.trouble = 'none';
    for (let i = 0; i < 3; i++) await compared(now, core, 1_000);
    t.strictSame(actionStates(now), {}, `${trouble} is over`);
    t.match([...now.store.latest.values()].at(-1), { state: 'released' });
    rung(now, 0);
    await compared(now, core);
  }
});

t.test('a device that takes nothing from us is settled when its former value stands, and only then', async (t) => {
  const { now, core, actuator } = await attached();
  rung(now, 0);
  await compared(now, core);
  // The answer to the release was lost with its connection: the lease is unknown, and the target alone tells.
  actuator.release = async () => ({ ok: true, outcome: 'released' });
  let current = '900000';
  actuator.targets = async () => [{ target: POLICY, state: 'not_permitted', former: '1000000', current }];
  rung(now, -1);
  await compared(now, core);
  await compared(now, core, 2_000);
  t.equal(now.executor.actions.length, 1, 'our cap stands, and may not be taken back');
  current = '1000000';
  await compared(now, core, 2_000);
  t.same(now.executor.actions, []);
});

t.test('caps a GPU by its clocks also when its power limit is known to be forbidden only later', async (t) => {
  const address = '0000:3b:00.0';
  const [power, clocks] = [`gpu/${address}`, `gpu-clocks/${address}`];
  const gpu = cpuTemperature({ class: 'gpu', probe: { kind: 'gpu', address, index: 0 } });
  const { now, core } = await attached({ channels: [gpu] }, [power, clocks]);
  const device = core.devices.get(power);
  if (device === undefined) throw new Error('no device');
  device.trouble = 'away';
  rung(now, 0);
  await compared(now, core);
  t.match(actionStates(now), { throttle_10: 'pending' });
  t.notOk(core.leases.has(lease('throttle_10', clocks)), 'perhaps it is back soon');
  device.trouble = 'forbidden';
  for (let i = 0; i < 3; i++) await compared(now, core, 1_000);
  t.strictSame([...core.leases.keys()], [lease('throttle_10', clocks)]);
  t.equal(core.devices.get(clocks)?.standing, 900_000);
  t.match(actionStates(now), { throttle_10: 'active' });
});

t.test('tells what became of a cap that waited: also that it failed', async (t) => {
  const { now, core } = await attached();
  const device = core.devices.get(POLICY);
  if (device === undefined) throw new Error('no device');
  device.trouble = 'away';
  rung(now, 0);
  await compared(now, core);
  t.match(actionStates(now), { throttle_10: 'pending' });
  device.trouble = 'failed';
  for (let i = 0; i < 2; i++) await compared(now, core, 1_000);
  t.match(actionStates(now), { throttle_10: 'failed' });
  device.trouble = 'none';
  for (let i = 0; i < 2; i++) await compared(now, core, 1_000);
  t.match(actionStates(now), { throttle_10: 'active' });
});

t.test('a device that is in one trouble and then in another is told a few times, not with each change', async (t) => {
  const { now, core } = await attached();
  const device = core.devices.get(POLICY);
  if (device === undefined) throw new Error('no device');
  device.trouble = 'away';
  rung(now, 0);
  await compared(now, core);
  const told = now.store.puts.length;
  for (let i = 0; i < 30; i++) {
    device.trouble = i % 2 === 0 ? 'failed' : 'away';
    await compared(now, core, 1_000);
  }
  t.ok(now.store.puts.length <= told + 2, `${now.store.puts.length - told} records`);
  t.match(actionStates(now), { throttle_10: 'failed' });
});

t.test('records a value that another program wrote as foreign_change, ended', async (t) => {
  const { now, core } = await attached();
  rung(now, 0);
  await compared(now, core);
  const device = core.devices.get(POLICY);
  if (device !== undefined) device.trouble = 'foreign';
  rung(now, -1);
  await compared(now, core);
  const last = [...now.store.latest.values()].at(-1);
  t.match(last, { state: 'foreign_change', endedAtMs: Number });
});

t.test('ignores the late answer to an earlier request', async (t) => {
  const { now, core, actuator } = await attached();
  actuator.prompt = false;
  rung(now, 0);
  await compared(now, core); // set 1 is done, its answer waits
  rung(now, -1);
  await compared(now, core); // release
  const device = core.devices.get(POLICY);
  if (device !== undefined) device.trouble = 'failed';
  rung(now, 0);
  await compared(now, core); // set 2 fails
  actuator.deliver(1);
  await turns();
  t.not(actionStates(now).throttle_10, 'active', 'the answer to set 1 says nothing about set 2');
  actuator.deliver();
  await turns();
  t.match(actionStates(now), { throttle_10: 'failed' });
});

t.test('does not call a refused cap active because another lease holds the target', async (t) => {
  const rules = [thermalRule(), thermalRule({ name: 'mine' })];
  const { now, core } = await attached({ rules });
  rung(now, 0, 1);
  await compared(now, core);
  core.refuse = 'too_many';
  rung(now, 1, 0);
  await compared(now, core);
  core.refuse = null;
  await compared(now, core, 1_000);
  await compared(now, core, 1_000);
  const mine = now.executor.actions.find(({ rule, action }) => rule === 'thermal-cpu' && action === 'throttle_50');
  t.equal(mine?.state, 'failed');
  for (let i = 0; i < 15; i++) await compared(now, core, 1_000);
  t.ok(core.leases.has(lease('throttle_50')), 'asked again with the renewals');
  t.match(actionStates(now), { throttle_50: 'active' });
});

t.test('one lease serves every action that wants the same cap, and goes with the last of them', async (t) => {
  const rules = [thermalRule(), thermalRule({ name: 'mine' })];
  const { now, core } = await attached({ rules });
  rung(now, 0, 0);
  rung(now, 0, 1);
  await compared(now, core);
  t.strictSame([...core.leases.keys()], [lease('throttle_10')]);
  t.match([...now.store.latest.values()], [{ state: 'active' }, { state: 'active' }]);
  rung(now, -1, 0);
  await compared(now, core);
  t.strictSame([...core.leases.keys()], [lease('throttle_10')], 'the other rule keeps it');
  t.match(
    [...now.store.latest.values()],
    [{ state: 'released', effects: [{ outcome: 'shared' }] }, { state: 'active' }],
  );
  rung(now, -1, 1);
  await compared(now, core);
  t.equal(core.leases.size, 0);
  t.match([...now.store.latest.values()], [{ state: 'released' }, { state: 'released' }]);
});

t.test('a later action that wants a cap which stands sends nothing and is active at once', async (t) => {
  const rules = [thermalRule(), thermalRule({ name: 'mine' })];
  const { now, core, actuator } = await attached({ rules });
  rung(now, 0, 0);
  await compared(now, core);
  actuator.set = () => Promise.reject(new Error('asked again'));
  rung(now, 0, 1);
  await compared(now, core);
  t.match(now.executor.actions, [{ state: 'active' }, { state: 'active' }]);
});

t.test('asks again for leases that somebody else ended, and keeps the others alive', async (t) => {
  const { now, core } = await attached();
  rung(now, 0);
  await compared(now, core);
  core.leases.clear();
  core.work();
  for (let i = 0; i < 12; i++) await compared(now, core, 1_000);
  t.ok(core.leases.has(lease('throttle_10')));
  for (let i = 0; i < 200; i++) await compared(now, core, 1_000);
  t.ok(core.leases.has(lease('throttle_10')), 'renewed for as long as it is due');
});

t.test('survives a connection that is lost between two answers of a renewal', async (t) => {
  const { now, core, actuator } = await attached();
  rung(now, 0);
  await compared(now, core);
  core.leases.clear();
  actuator.leases = () => Promise.reject(new Error('lost in the middle'));
  const rejections: unknown[] = [];
  const onRejection = (error: unknown) => rejections.push(error);
  process.on('unhandledRejection', onRejection);
  for (let i = 0; i < 12; i++) await compared(now, core, 1_000);
  process.off('unhandledRejection', onRejection);
  t.strictSame(rejections, []);
});

t.test('a rung that was left while the connection was lost does not come back with it', async (t) => {
  const { now, core, actuator } = await attached();
  rung(now, 1);
  await compared(now, core);
  actuator.lose();
  now.executor.detach();
  rung(now, -1);
  await compared(now, core);
  await now.executor.attach(new FakeActuator(core));
  await compared(now, core);
  t.equal(now.rulebook.bound[0]?.ladder.rung, -1);
  t.equal(core.leases.size, 0);
});

t.test('unavailable becomes a cap when an actuator comes, and only what has a target begins anew', async (t) => {
  const now = life({ config: configOf({ mode: 'auto', auto_allow: ['redistribute'] }) });
  rung(now, 1);
  now.executor.reconcile(now.clock.nowMs);
  t.match(actionStates(now), { throttle_10: 'unavailable', redistribute: 'unavailable' });
  const redistribute = now.executor.actions.find(({ action }) => action === 'redistribute')?.actionId;
  const core = new FakeActuatorCore([POLICY]);
  await now.executor.attach(new FakeActuator(core));
  await compared(now, core);
  t.match(actionStates(now), { throttle_10: 'active', throttle_50: 'active', redistribute: 'unavailable' });
  t.equal(now.executor.actions.find(({ action }) => action === 'redistribute')?.actionId, redistribute);
});

t.test('caps a target that the allow-list names from now on, and lets go of one that it no longer names', async (t) => {
  const { now, core } = await attached();
  rung(now, 0);
  await compared(now, core);
  core.list([POLICY, 'cpufreq/policy1']);
  await now.executor.refreshTargets();
  await compared(now, core);
  t.equal(core.devices.get('cpufreq/policy1')?.standing, 900_000);
  core.list(['cpufreq/policy1']);
  await now.executor.refreshTargets();
  await compared(now, core);
  t.strictSame([...core.leases.keys()], [lease('throttle_10', 'cpufreq/policy1')]);
  t.match(now.executor.actions, [{ state: 'active', effects: [{ target: 'cpufreq/policy1' }] }]);
});

for (const mode of ['observe', 'propose'] as const) {
  t.test(`asks for nothing in mode ${mode}`, async (t) => {
    const { now, core } = await attached({ rules: [thermalRule({ mode })] });
    const before = core.calls;
    rung(now, 2);
    await compared(now, core);
    await compared(now, core, 60_000);
    t.equal(core.calls, before);
    t.ok(Object.values(actionStates(now)).every((state) => state === (mode === 'observe' ? 'observed' : 'proposed')));
  });
}

/** A first life with a cap that is left standing, as kill -9 leaves it. */
async function killed() {
  const { now, core, actuator } = await attached();
  rung(now, 1);
  await compared(now, core);
  actuator.lose();
  return { former: now, core };
}

async function reborn(former: Life, given: Parameters<typeof life>[0] = {}): Promise<Life> {
  const { clock, store } = former;
  const now = life({ clock, store, ...given });
  now.word.recall(await store.state(WORD_KEY));
  now.executor.recall(await store.actions());
  return now;
}

t.test('after a restart goes on with the leases and records that stand, and replays nothing', async (t) => {
  const { former, core } = await killed();
  const ids = new Set(former.executor.actions.map(({ actionId }) => actionId));
  const now = await reborn(former);
  await now.executor.attach(new FakeActuator(core));
  await compared(now, core);
  t.equal(now.rulebook.bound[0]?.ladder.rung, 1, 'the ladder stands where the leases prove it');
  const caps = now.executor.actions.filter(({ action }) => action.startsWith('throttle'));
  t.ok(
    caps.every(({ actionId }) => ids.has(actionId)),
    'no new action for a cap that stands',
  );
  const closed = now.store.entries.filter(({ kind }) => kind === 'action.end');
  t.match(closed, [{ what: { state: 'proposed' } }], 'what had no lease is closed, in the chain too');
  rung(now, -1);
  await compared(now, core);
  t.equal(core.leases.size, 0);
  t.strictSame(
    [...now.store.latest.values()].filter(({ endedAtMs }) => endedAtMs === null),
    [],
  );
});

t.test('after a restart closes what ended meanwhile as abandoned, once, and asks for nothing', async (t) => {
  const { former, core } = await killed();
  core.leases.clear();
  core.work();
  const now = await reborn(former);
  const calls = core.calls;
  await now.executor.attach(new FakeActuator(core));
  await compared(now, core);
  t.equal(core.calls - calls, 3, 'targets, leases and jobs were asked for, nothing was set');
  const abandoned = [...now.store.latest.values()].filter(({ state }) => state === 'abandoned');
  t.equal(abandoned.length, 2);
  now.executor.detach();
  const puts = now.store.puts.length;
  await now.executor.attach(new FakeActuator(core));
  await compared(now, core);
  t.equal(now.store.puts.length, puts, 'another connection closes nothing again');
});

t.test('releases what an earlier agent left when the mode is observe now', async (t) => {
  const { former, core } = await killed();
  const now = await reborn(former, { rules: [thermalRule({ mode: 'observe' })] });
  await now.executor.attach(new FakeActuator(core));
  await compared(now, core);
  t.equal(core.leases.size, 0);
  t.equal(now.rulebook.bound[0]?.ladder.rung, -1);
  t.match(
    [...now.store.latest.values()].filter(({ effects }: ActionRecord) => effects.length > 0),
    [{ state: 'abandoned', reason: /no rule asks/ }, { state: 'abandoned' }],
  );
});

t.test('leaves a lease to the actuator when its sensor is not there after a restart', async (t) => {
  const { former, core } = await killed();
  const now = await reborn(former, { channels: [cpuTemperature({ id: 'hwmon/other/temp1' })] });
  await now.executor.attach(new FakeActuator(core));
  await compared(now, core);
  t.equal(core.leases.size, 2, 'a missing reading is not a recovery');
  await compared(now, core, 100_000);
  t.equal(core.leases.size, 0, 'not renewed');
});

t.test('gives a lease back to the sensor whose record stands, not to the first that could want it', async (t) => {
  const rules = [thermalRule({ name: 'first' }), thermalRule({ name: 'second' })];
  const { now: former, core } = await attached({ rules });
  rung(former, 1, 1);
  await compared(former, core);
  const records = await former.store.actions();
  const now = life({ rules, clock: former.clock, store: former.store });
  now.executor.recall(records);
  await now.executor.attach(new FakeActuator(core));
  t.strictSame(
    now.rulebook.bound.map(({ ladder }) => ladder.rung),
    [-1, 1],
  );
  t.equal(core.leases.size, 2);
});

t.test('adopts leases whose records were lost with the disk', async (t) => {
  const { former, core } = await killed();
  const now = life({ clock: former.clock });
  now.executor.recall([]);
  await now.executor.attach(new FakeActuator(core));
  await compared(now, core);
  t.equal(core.leases.size, 2);
  t.match(actionStates(now), { throttle_10: 'active', throttle_50: 'active' });
});

t.test('names no action as an earlier life of the same second did', async (t) => {
  const { former } = await killed();
  const now = await reborn(former);
  rung(now, 1);
  now.executor.reconcile(now.clock.nowMs);
  const ids = now.executor.actions.map(({ actionId }) => actionId);
  const before = new Set(former.executor.actions.map(({ actionId }) => actionId));
  t.strictSame(
    ids.filter((id) => before.has(id)),
    [],
  );
});

t.test('release takes back, bars for a while, and the bar ends', async (t) => {
  const { now, core } = await attached();
  rung(now, 0);
  await compared(now, core);
  const { released, barred } = now.executor.release({ rule: 'thermal-cpu', forMs: 60_000, who: 'root' });
  t.equal(released.length, 1);
  t.strictSame(barred, ['thermal-cpu']);
  await turns();
  t.equal(core.leases.size, 0);
  await compared(now, core);
  t.match(actionStates(now), { throttle_10: 'barred' });
  rung(now, 1);
  await compared(now, core, 30_000);
  t.equal(core.leases.size, 0, 'a higher rung is barred too');
  await compared(now, core, 30_000);
  await compared(now, core);
  t.equal(core.leases.size, 2, 'the bar is over, the danger is not');
  t.match(
    now.store.entries.filter(({ kind }) => kind === 'release.operator'),
    [{ who: 'root' }],
  );
});

t.test('a bar outlives the agent, but not the boot', async (t) => {
  const clock = new FakeClock();
  const store = new FakeStore();
  const first = await attached({ clock, store });
  first.now.executor.release({ rule: 'thermal-cpu', forMs: 600_000, who: 'root' });
  const second = await reborn(first.now);
  t.match(second.word.bars, [{ rule: 'thermal-cpu' }]);
  const third = await reborn(first.now, { bootId: 'boot-2' });
  t.strictSame(third.word.bars, []);
  second.word.recall({ boot: 'boot-1', list: [null, 3, { rule: 'x' }] });
  t.strictSame(second.word.bars, [], 'garbage bars nothing');
});

t.test('breakers never hold a cap back, and do hold back what cannot be taken back', async (t) => {
  const store = new FakeStore();
  const open = { ...CLOSED, phase: 'latched', failures: 3 } as const;
  const earlier = store.records(BREAKER_RECORDS);
  for (const text of ['throttle_10', 'redistribute']) earlier.put(text, open);
  store.keyed.set('nbreaker\0x', Buffer.from('garbage'));
  const { now, core } = await attached({ store, config: configOf({ mode: 'auto', auto_allow: ['redistribute'] }) });
  core.listJobs(['hook/redistribute']);
  await now.executor.refreshTargets();
  await now.breakers.recall();
  rung(now, 1);
  await compared(now, core);
  t.match(actionStates(now), { throttle_10: 'active', throttle_50: 'active', redistribute: 'barred' });
  t.strictSame(core.started, []);
});

t.test('acts while every write of the store hangs or fails', async (t) => {
  for (const disk of ['hangs', 'fails'] as const) {
    const { now, core } = await attached();
    now.store.disk = disk;
    rung(now, 1);
    await compared(now, core);
    t.match(actionStates(now), { throttle_10: 'active', throttle_50: 'active' }, disk);
    rung(now, -1);
    await compared(now, core);
    t.equal(core.leases.size, 0, disk);
  }
});

/** Somebody sets the wall clock; the monotonic one goes on. */
class SetClock extends FakeClock {
  setMs = 0;
  override wallMs(): number {
    return super.wallMs() + this.setMs;
  }
}

t.test(
  'a clock that is set an hour back or a day ahead under a cap ends none, keeps none and begins none',
  async (t) => {
    for (const setMs of [-3_600_000, 86_400_000]) {
      const clock = new SetClock();
      const { now, core } = await attached({ clock });
      rung(now, 0);
      await compared(now, core);
      const before = now.executor.actions.map(({ actionId }) => actionId);
      clock.setMs = setMs;
      // Longer than any lease lasts without being renewed.
      for (let i = 0; i < 60; i++) {
        await compared(now, core, 1_000);
        t.ok(core.leases.has(lease('throttle_10')) && core.devices.get(POLICY)?.standing === 900_000);
      }
      t.strictSame(
        now.executor.actions.map(({ actionId }) => actionId),
        before,
      );
      rung(now, -1);
      await compared(now, core);
      await compared(now, core);
      t.equal(core.leases.size, 0);
      t.same(actionStates(now), {});
    }
  },
);

t.test('caps what was listed while it ended, when the danger is back before its end', async (t) => {
  const other = 'rapl/intel-rapl:0';
  const { now, core, actuator } = await attached();
  rung(now, 0);
  await compared(now, core);
  actuator.prompt = false;
  rung(now, -1);
  await compared(now, core);
  core.list([POLICY, other]);
  const listed = now.executor.refreshTargets();
  actuator.prompt = true;
  actuator.deliver(1, 1);
  await listed;
  rung(now, 0);
  await compared(now, core);
  actuator.deliver();
  await compared(now, core);
  t.strictSame([...core.leases.keys()].sort(), [lease('throttle_10'), lease('throttle_10', other)].sort());
});
