/** Repairs: intent before run, once per attempt, verified, and never a second time for whoever comes after. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { MAX_REPORT_BYTES, readReport } from '../../src/control/job-reports.js';
import { INTENT_MS, REST_MS, START_MS } from '../../src/control/repair.js';
import type { Attempt, AttemptResult, RepairGate } from '../../src/control/repair-gate.js';
import { SkosError } from '../../src/core/errors.js';
import { configOf, cpuTemperature } from '../fixtures/antibodies.js';
import { compared, FakeClock, FakeStore, type Life, life, rung, turns } from '../fixtures/control.js';
import { FakeActuator, FakeActuatorCore } from '../fixtures/fake-actuator.js';
import { thermalRule } from '../fixtures/rules.js';

const HOOK = 'hook/redistribute';
const POLICY = 'cpufreq/policy0';
/** redistribute is restartable, failover irreversible. */
const AUTO = configOf({ mode: 'auto', auto_allow: ['redistribute', 'failover', 'shutdown_non_essential'] });

class Gate implements RepairGate {
  why: string | undefined;
  readonly admitted: Attempt[] = [];
  readonly results: AttemptResult[] = [];
  refusal(attempt: Attempt): string | undefined {
    if (this.why === undefined) this.admitted.push(attempt);
    return this.why;
  }
  ended(_attempt: Attempt, result: AttemptResult): void {
    this.results.push(result);
  }
}

function rules(critical: string[], channels = [cpuTemperature()]) {
  const given = thermalRule();
  return channels.map((channel) => ({
    ...given,
    channelId: channel.id,
    rungs: given.rungs.map((each, i) => ({ ...each, actions: i === 1 ? critical : [] })),
  }));
}

async function node(given: Parameters<typeof life>[0] & { actions?: string[]; jobs?: string[] } = {}) {
  const gate = new Gate();
  const now = life({ rules: rules(given.actions ?? ['redistribute']), config: AUTO, gate, ...given });
  const core = new FakeActuatorCore([POLICY]);
  core.listJobs(given.jobs ?? [HOOK, 'hook/failover']);
  await now.executor.attach(new FakeActuator(core));
  return { now, core, gate };
}

/** The poll for runs is each half second. */
async function passed(now: Life, core: FakeActuatorCore, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 500) {
    await compared(now, core, Math.min(500, left));
    await Promise.all(now.reading);
    await turns(2);
  }
  await compared(now, core, 1);
}

function intents(store: FakeStore) {
  return store.entries.filter(({ kind }) => kind === 'action.intent');
}

t.test('records the intent, runs once, and calls it helped when the readings say so', async (t) => {
  const { now, core, gate } = await node();
  rung(now, 1);
  await passed(now, core, 2_000);
  t.equal(core.started.length, 1);
  t.match(intents(now.store), [{ what: { attempt: 1, jobs: [HOOK], boot: 'boot-1' } }]);
  t.match(now.executor.actions, [{ state: 'running', jobs: [{ job: HOOK, state: 'running' }] }]);
  core.finish(HOOK);
  await passed(now, core, 1_000);
  t.match(now.executor.actions, [{ state: 'verifying', jobs: [{ job: HOOK, state: 'done', exit: 0 }] }]);
  rung(now, 0);
  await passed(now, core, 500);
  t.strictSame(now.executor.actions, []);
  t.match([...now.store.latest.values()], [{ state: 'helped', endedAtMs: Number }]);
  t.strictSame(gate.results, ['helped']);
  t.match(now.learnt, [{ result: 'helped', rule: 'thermal-cpu' }]);
  t.equal(core.started.length, 1);
});

t.test('calls it unhelpful when the condition stands, and tries again only when the gate lets it', async (t) => {
  const { now, core, gate } = await node();
  rung(now, 1);
  await passed(now, core, 1_000);
  core.finish(HOOK);
  await passed(now, core, 61_500);
  t.strictSame(gate.results, ['unhelpful']);
  t.equal(core.started.length, 1, 'it rests');
  gate.why = 'the budget is used up';
  await passed(now, core, REST_MS);
  t.match(now.executor.actions, [{ state: 'barred', reason: 'the budget is used up' }]);
  gate.why = undefined;
  await passed(now, core, 1_000);
  t.equal(core.started.length, 2);
  t.not(core.started[0]?.key, core.started[1]?.key);
  t.equal(intents(now.store).length, 2);
  t.equal(gate.admitted.length, 2);
});

t.test('what the disk does not take is not run when it cannot be taken back', async (t) => {
  for (const disk of ['hangs', 'fails'] as const) {
    const { now, core, gate } = await node({ actions: ['failover', 'throttle_10'] });
    now.store.disk = disk;
    rung(now, 1);
    await passed(now, core, INTENT_MS + 2_000);
    t.strictSame(core.started, [], disk);
    t.strictSame([...new Set(gate.results)], ['failed'], disk);
    t.equal(core.devices.get(POLICY)?.standing, 900_000, `${disk}: the cap stands`);
  }
  const { now, core } = await node({ actions: ['redistribute'] });
  now.store.disk = 'hangs';
  rung(now, 1);
  await passed(now, core, INTENT_MS + 1_000);
  t.equal(core.started.length, 1, 'a restart does not wait for a dead disk for ever');
});

t.test('what is no longer due when its intent is on disk is not run', async (t) => {
  const { now, core, gate } = await node({ actions: ['failover'] });
  const { append } = now.store.audit;
  let onDisk: (() => void) | undefined;
  now.store.audit.append = (input) =>
    new Promise((resolve) => {
      onDisk = () => void append(input).then(resolve);
    });
  rung(now, 1);
  await passed(now, core, 500);
  rung(now, 0);
  await passed(now, core, 500);
  onDisk?.();
  await passed(now, core, 1_000);
  t.strictSame(core.started, []);
  t.strictSame(gate.results, ['done'], 'the gate has its attempt back');
  t.match([...now.store.latest.values()], [{ state: 'abandoned' }]);
});

t.test('a run that fails, takes too long or is refused is a failure, with its words', async (t) => {
  for (const [state, exit, words] of [
    ['failed', 3, /exit status 3/],
    ['timeout', null, /longer than it may/],
    ['unavailable', null, /can start units/],
  ] as const) {
    const { now, core, gate } = await node();
    rung(now, 1);
    await passed(now, core, 1_000);
    core.finish(HOOK, state, exit);
    await passed(now, core, 1_000);
    t.match(now.executor.actions, [{ state: 'failed', reason: words }], state);
    t.strictSame(gate.results, ['failed']);
  }
});

t.test('a lost connection neither loses nor doubles a run', async (t) => {
  const { now, core } = await node();
  const slow = new FakeActuator(core, { prompt: false });
  now.executor.detach();
  const attaching = now.executor.attach(slow);
  for (let i = 0; i < 5; i++) {
    slow.deliver();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await attaching;
  rung(now, 1);
  await compared(now, core);
  t.equal(core.started.length, 1, 'it has the run');
  slow.lose(); // Before it could say so.
  now.executor.detach();
  await passed(now, core, 2_000);
  t.match(now.executor.actions, [{ state: 'running' }]);
  await now.executor.attach(new FakeActuator(core));
  await passed(now, core, 2_000);
  t.equal(core.started.length, 1);
  core.finish(HOOK);
  await passed(now, core, 1_000);
  t.match(now.executor.actions, [{ state: 'verifying' }]);
});

t.test('does not say of a run whose answer was lost that it was not taken', async (t) => {
  const { now } = await node();
  const slow = new FakeActuator(new FakeActuatorCore([POLICY]));
  slow.core.listJobs([HOOK]);
  await now.executor.attach(slow);
  slow.run = () => Promise.reject(new SkosError('SKOS_ACTUATOR_ABSENT', 'lost'));
  rung(now, 1);
  await passed(now, slow.core, START_MS + 1_500);
  t.match(now.executor.actions, [{ state: 'failed', reason: /is not known/ }]);
});

t.test('gives up a run that the actuator never takes', async (t) => {
  const { now, core, gate } = await node();
  rung(now, 1);
  now.executor.detach();
  await passed(now, core, 500);
  t.match(now.executor.actions, [{ state: 'unavailable' }]);
  await now.executor.attach(new FakeActuator(core));
  core.run(HOOK, 'somebody-else');
  await passed(now, core, START_MS + 2_000);
  t.strictSame(gate.results, ['failed']);
  t.equal(core.started.length, 1, 'only somebody else’s');
});

t.test('an agent that comes after never runs it again', async (t) => {
  for (const [meanwhile, state] of [
    ['done', 'done'],
    ['failed', 'failed'],
    ['forgotten', 'abandoned'],
  ] as const) {
    const { now, core } = await node({ actions: ['failover'] });
    rung(now, 1);
    await passed(now, core, 1_000);
    const gate = new Gate();
    gate.why = 'damped';
    const { clock, store } = now;
    const next = life({ rules: rules(['failover']), config: AUTO, gate, clock, store });
    next.executor.recall(await store.actions());
    await next.executor.attach(new FakeActuator(core));
    rung(next, 1);
    await passed(next, core, 1_000);
    if (meanwhile !== 'forgotten') t.match(next.executor.actions, [{ state: 'barred', reason: /under way/ }]);
    if (meanwhile === 'forgotten') core.listJobs([HOOK, 'hook/failover']);
    else core.finish('hook/failover', meanwhile);
    await passed(next, core, 2_000);
    t.equal(core.started.length, 1, meanwhile);
    t.match(
      [...store.latest.values()].filter(({ endedAtMs }) => endedAtMs !== null),
      [{ state }],
      meanwhile,
    );
  }
});

t.test('the gates learn the end of a run whose leases are gone', async (t) => {
  const batch = { unit: 'batch.service', essential: false, movable: false, hosts: [] };
  const config = configOf({ mode: 'auto', auto_allow: ['shutdown_non_essential'], workloads: { batch } });
  const now = life({ rules: rules(['shutdown_non_essential']), config, gate: new Gate() });
  const core = new FakeActuatorCore([POLICY, 'freeze/workload.batch']);
  core.listJobs(['workload/batch/stop']);
  await now.executor.attach(new FakeActuator(core));
  rung(now, 1);
  await passed(now, core, 62_000);
  t.match(core.started, [{ job: 'workload/batch/stop' }]);

  const gate = new Gate();
  const { clock, store } = now;
  const next = life({ rules: rules(['shutdown_non_essential']), config, gate, clock, store });
  next.executor.recall(await store.actions());
  core.leases.clear();
  await next.executor.attach(new FakeActuator(core));
  await passed(next, core, 1_000);
  t.strictSame(gate.results, []);
  core.finish('workload/batch/stop');
  await passed(next, core, 2_000);
  t.strictSame(gate.results, ['done']);
  t.equal(core.started.length, 1, 'it is not run again');
  t.match([...store.latest.values()].at(-1), { state: 'abandoned', endedAtMs: Number });
});

t.test('sixteen channels that want one repair get one run at a time', async (t) => {
  const channels = Array.from({ length: 16 }, (_, i) => cpuTemperature({ id: `hwmon/coretemp/temp${i}` }));
  const { now, core } = await node({ rules: rules(['redistribute'], channels), channels });
  for (let i = 0; i < 16; i++) rung(now, 1, i);
  await passed(now, core, 3_000);
  t.equal(core.started.length, 1);
  t.equal(now.executor.actions.filter(({ state }) => state === 'barred').length, 15);
});

t.test('a rule that is gone is no recovery', async (t) => {
  const { now, core, gate } = await node();
  rung(now, 1);
  await passed(now, core, 1_000);
  core.finish(HOOK);
  await passed(now, core, 1_000);
  now.antibody.rules = [];
  now.rebuild();
  await passed(now, core, 1_000);
  t.match([...now.store.latest.values()], [{ state: 'done' }]);
  t.strictSame(gate.results, ['done']);
  t.strictSame(now.learnt, []);
});

t.test('lists first what it would touch, and does not run without the list', async (t) => {
  const reports = mkdtempSync(join(tmpdir(), 'skos-act-'));
  t.teardown(() => rmSync(reports, { recursive: true }));
  const jobs = ['hook/failover', 'hook/failover.list'];
  const { now, core } = await node({ actions: ['failover'], jobs, reports });
  rung(now, 1);
  await passed(now, core, 1_000);
  t.match(core.started, [{ job: 'hook/failover.list' }]);
  t.strictSame(intents(now.store), [], 'the intent knows the list');
  report(reports, 'failover.list', { startedAtMs: now.clock.wallMs(), summary: 'would touch 3 files' });
  core.finish('hook/failover.list');
  await passed(now, core, 1_500);
  t.match(intents(now.store), [{ what: { listing: { summary: 'would touch 3 files' } } }]);
  t.match(core.started, [{ job: 'hook/failover.list' }, { job: 'hook/failover' }]);

  const other = await node({ actions: ['failover'], jobs, reports });
  rung(other.now, 1);
  await passed(other.now, other.core, 1_000);
  other.core.finish('hook/failover.list', 'failed');
  await passed(other.now, other.core, 2_000);
  t.match(other.core.started, [{ job: 'hook/failover.list' }]);
  t.match(other.now.executor.actions, [{ state: 'failed' }]);
});

t.test('an approval is for one attempt; then it is proposed anew', async (t) => {
  const reports = mkdtempSync(join(tmpdir(), 'skos-act-'));
  t.teardown(() => rmSync(reports, { recursive: true }));
  const jobs = ['hook/failover', 'hook/failover.list'];
  const { now, core } = await node({ actions: ['failover'], jobs, reports, config: configOf({ mode: 'auto' }) });
  rung(now, 1);
  await passed(now, core, 500);
  report(reports, 'failover.list', { startedAtMs: now.clock.wallMs(), summary: 'would touch 3 files' });
  core.finish('hook/failover.list');
  await passed(now, core, 1_000);
  const [proposed] = now.executor.actions;
  t.match(proposed, { state: 'proposed', reason: /would touch 3 files/ });
  const id = proposed?.actionId ?? '';
  t.match(now.executor.proposal(id), { jobs: ['hook/failover'], listing: { summary: 'would touch 3 files' } });
  t.equal(now.executor.approve(id), true);
  await passed(now, core, 1_000);
  core.finish('hook/failover.list');
  await passed(now, core, 1_000);
  t.equal(core.started.filter(({ job }) => job === 'hook/failover').length, 1);
  core.finish('hook/failover', 'failed');
  await passed(now, core, 2_000);
  t.match(now.executor.actions, [{ state: 'proposed' }]);
  await passed(now, core, 120_000);
  t.equal(core.started.filter(({ job }) => job === 'hook/failover').length, 1);
});

t.test('an approval that waited for an hour has seen something else, and is asked for anew', async (t) => {
  const gate = new Gate();
  gate.why = 'its attempts are used up';
  const { now, core } = await node({ actions: ['failover'], gate, config: configOf({ mode: 'auto' }) });
  rung(now, 1);
  await passed(now, core, 500);
  now.executor.approve(now.executor.actions[0]?.actionId ?? '');
  await compared(now, core, 3_590_000);
  t.match(now.executor.actions, [{ state: 'barred' }], 'it waits for its gates');
  await compared(now, core, 20_000);
  gate.why = undefined;
  await passed(now, core, 1_000);
  t.match(now.executor.actions, [{ state: 'proposed' }]);
  t.same(core.started, []);
  now.executor.approve(now.executor.actions[0]?.actionId ?? '');
  await passed(now, core, 1_000);
  t.equal(core.started.length, 1);
});

t.test('an approval is as old where nobody was there to act on it; that of a cap is not', async (t) => {
  const { now, core } = await node({ actions: ['failover', 'throttle_50'], config: configOf({ mode: 'propose' }) });
  rung(now, 1);
  await passed(now, core, 500);
  for (const { actionId } of now.executor.actions) now.executor.approve(actionId);
  now.executor.detach();
  await compared(now, core, 3_700_000);
  await now.executor.attach(new FakeActuator(core));
  await passed(now, core, 1_000);
  t.match(now.executor.actions.map(({ action, state }) => `${action} ${state}`).sort(), [
    'failover proposed',
    'throttle_50 active',
  ]);
  t.same(core.started, []);
});

t.test('a restart of the agent spends an approval that had begun', async (t) => {
  const { now, core } = await node({ actions: ['failover'], config: configOf({ mode: 'auto' }) });
  rung(now, 1);
  await passed(now, core, 500);
  now.executor.approve(now.executor.actions[0]?.actionId ?? '');
  await passed(now, core, 1_000);
  t.equal(core.started.length, 1);
  const { clock, store } = now;
  const next = life({ rules: rules(['failover']), config: configOf({ mode: 'auto' }), gate: new Gate(), clock, store });
  next.word.recall(await store.state('bars'));
  next.executor.recall(await store.actions());
  await next.executor.attach(new FakeActuator(core));
  rung(next, 1);
  core.finish('hook/failover', 'failed');
  await passed(next, core, 60_000);
  t.equal(core.started.length, 1);
  t.match(next.executor.actions, [{ state: 'proposed' }]);
});

t.test(
  'freezes what is not essential at once, stops it when that is not enough, and thaws it afterwards',
  async (t) => {
    const config = configOf({
      mode: 'auto',
      auto_allow: ['shutdown_non_essential'],
      workloads: {
        batch: { unit: 'batch.service', essential: false, movable: false, hosts: [] },
        db: { unit: 'db.service', essential: true, movable: false, hosts: [] },
      },
    });
    const gate = new Gate();
    gate.why = 'maintenance';
    const now = life({ rules: rules(['shutdown_non_essential']), config, gate });
    const core = new FakeActuatorCore([POLICY, 'freeze/workload.batch', 'freeze/workload.db']);
    core.listJobs(['workload/batch/stop', 'workload/db/stop']);
    await now.executor.attach(new FakeActuator(core));
    rung(now, 1);
    await passed(now, core, 1_000);
    t.equal(core.devices.get('freeze/workload.batch')?.standing, 0, 'no gate holds a freeze back');
    t.equal(core.devices.get('freeze/workload.db')?.standing, null);
    await passed(now, core, 61_000);
    t.strictSame(core.started, []);
    t.match(now.executor.actions, [{ state: 'active', reason: /maintenance/ }]);
    gate.why = undefined;
    await passed(now, core, 2_000);
    t.match(core.started, [{ job: 'workload/batch/stop' }]);
    core.finish('workload/batch/stop');
    await passed(now, core, 1_000);
    rung(now, 0);
    await passed(now, core, 1_000);
    t.strictSame(now.executor.actions, []);
    t.equal(core.devices.get('freeze/workload.batch')?.standing, null);
    t.match([...now.store.latest.values()], [{ state: 'helped' }]);
  },
);

t.test('a hold begins no attempt, also of a repair that waited already', async (t) => {
  const { now, core, gate } = await node();
  gate.why = 'maintenance';
  rung(now, 1);
  await passed(now, core, 1_000);
  now.word.holdFor(3_600_000, 'kim');
  gate.why = undefined;
  await passed(now, core, 5_000);
  t.match(now.executor.actions, [{ state: 'barred', reason: /on hold/ }]);
  t.equal(core.started.length, 0);
  now.word.endHold();
  await passed(now, core, 1_000);
  t.equal(core.started.length, 1);
});

t.test('a hold that comes while it is listed, or written down, keeps it from running', async (t) => {
  const jobs = ['hook/failover', 'hook/failover.list'];
  for (const isListed of [true, false]) {
    const { now, core, gate } = await node({ actions: ['failover'], jobs: isListed ? jobs : jobs.slice(0, 1) });
    const { append } = now.store.audit;
    let onDisk = () => {};
    now.store.audit.append = (input) =>
      new Promise((resolve) => {
        onDisk = () => void append(input).then(resolve);
      });
    rung(now, 1);
    await passed(now, core, 1_000);
    now.word.holdFor(3_600_000, 'kim');
    if (isListed) core.finish('hook/failover.list');
    else onDisk();
    await passed(now, core, 2_000);
    t.notOk(core.started.some(({ job }) => job === 'hook/failover'));
    t.match(now.executor.actions, [{ state: 'barred', reason: /on hold/ }]);
    t.strictSame(gate.results, ['done']);
  }
});

t.test('is neither begun nor judged while readings say that it seems over, and not without a reading', async (t) => {
  const { now, core, gate } = await node();
  const bound = now.rulebook.bound[0];
  if (bound === undefined) throw new Error('no rule');
  rung(now, 1);
  await passed(now, core, 1_000);
  core.finish(HOOK);
  await passed(now, core, 1_000);
  bound.value = 79_999; // Below the clear bound: `keep` has begun.
  await passed(now, core, 65_000);
  t.match(now.executor.actions, [{ state: 'verifying' }]);
  bound.value = 80_000;
  await passed(now, core, 500);
  t.strictSame(gate.results, ['unhelpful'], 'it was not over');
  bound.value = 79_999;
  await passed(now, core, REST_MS + 1_000);
  t.match(now.executor.actions, [{ state: 'barred', reason: /below the bound/ }]);
  bound.value = 80_000;
  await passed(now, core, 1_000);
  t.equal(core.started.length, 2);
  core.finish(HOOK);
  await passed(now, core, 1_000);
  bound.ladder = { ...bound.ladder, verdict: 'stale' };
  await passed(now, core, 70_000 + REST_MS);
  t.strictSame(gate.results, ['unhelpful', 'done'], 'nobody saw whether it helped');
  t.match(now.executor.actions, [{ state: 'barred', reason: /no reading/ }]);
  t.equal(core.started.length, 2);
});

t.test('a bound that another configuration took away is no recovery', async (t) => {
  const { now, core, gate } = await node({ rules: [thermalRule()] });
  rung(now, 2);
  await passed(now, core, 1_000);
  t.ok(now.executor.actions.some(({ action, state }) => action === 'failover' && state === 'running'));
  core.finish('hook/failover');
  core.finish(HOOK);
  await passed(now, core, 1_000);
  now.antibody.rules = [thermalRule({ rungs: thermalRule().rungs.slice(0, 2) })];
  now.rebuild();
  await passed(now, core, 1_000);
  t.strictSame(gate.results, ['done']);
  t.notOk(now.learnt.some(({ result }) => result === 'helped'));
});

const WORKLOAD = { movable: false, hosts: [] };
const batches = (second: boolean) =>
  configOf({
    mode: 'auto',
    auto_allow: ['shutdown_non_essential'],
    workloads: {
      batch: { unit: 'batch.service', essential: false, ...WORKLOAD },
      other: { unit: 'other.service', essential: second, ...WORKLOAD },
    },
  });
const STOPS = ['workload/batch/stop', 'workload/other/stop'];

/** Two workloads, frozen, of which the first is being stopped. */
async function stopping({ isBegun = true } = {}) {
  const gate = new Gate();
  const now = life({ rules: rules(['shutdown_non_essential']), config: batches(false), gate });
  const core = new FakeActuatorCore([POLICY, 'freeze/workload.batch', 'freeze/workload.other']);
  core.listJobs(STOPS);
  await now.executor.attach(new FakeActuator(core));
  if (!isBegun) gate.why = 'maintenance';
  rung(now, 1);
  await passed(now, core, 62_000);
  return { now, core, gate };
}

t.test('what is released between two stops stops nothing more', async (t) => {
  const { now, core, gate } = await stopping();
  t.match(core.started, [{ job: STOPS[0] }]);
  now.executor.release({ forMs: 600_000, who: 'kim' });
  core.finish(STOPS[0] ?? '');
  await passed(now, core, 2_000);
  t.equal(core.started.length, 1);
  t.strictSame(gate.results, ['done']);
  t.match([...now.store.latest.values()].at(-1), { state: 'barred' });
});

t.test('stops what is not essential when it stops it, not when it first thought of it', async (t) => {
  const { now, core, gate } = await stopping({ isBegun: false });
  now.config.replace(batches(true));
  await now.executor.refreshTargets();
  await passed(now, core, 1_000);
  t.equal(core.devices.get('freeze/workload.other')?.standing, null, 'it goes on at once');
  gate.why = undefined;
  await passed(now, core, 1_000);
  core.finish(STOPS[0] ?? '');
  await passed(now, core, 2_000);
  t.match(core.started, [{ job: STOPS[0] }]);
  t.equal(core.started.length, 1);
});

t.test('an agent that comes after follows the stop that it finds, and does not begin it anew', async (t) => {
  const { now, core } = await stopping();
  const gate = new Gate();
  const { clock, store } = now;
  const next = life({ rules: rules(['shutdown_non_essential']), config: batches(false), gate, clock, store });
  next.executor.recall(await store.actions());
  await next.executor.attach(new FakeActuator(core));
  rung(next, 1);
  await passed(next, core, 70_000);
  t.equal(core.started.length, 1, 'it runs still');
  core.finish(STOPS[0] ?? '');
  await passed(next, core, 1_000);
  t.match(next.executor.actions, [{ state: 'verifying' }]);
  await passed(next, core, 61_000);
  t.strictSame(gate.results, ['unhelpful']);
  await passed(next, core, REST_MS + 1_000);
  t.equal(core.started.length, 2, 'the next attempt is one of its own');
  t.not(core.started[0]?.key, core.started[1]?.key);
  t.strictSame(next.learnt, [], 'how long it took altogether nobody knows');
});

t.test('a danger that comes back gives the freeze its time anew', async (t) => {
  const { now, core, gate } = await stopping({ isBegun: false });
  const frozen = core.devices.get('freeze/workload.batch');
  if (frozen === undefined) throw new Error('no target');
  frozen.trouble = 'away'; // It does not thaw.
  rung(now, -1);
  await passed(now, core, 1_000);
  frozen.trouble = 'none';
  gate.why = undefined;
  rung(now, 1);
  await passed(now, core, 30_000);
  t.strictSame(core.started, []);
  await passed(now, core, 31_000);
  t.equal(core.started.length, 1);
});

t.test('a freeze that is refused and a stop that waits are told once, both', async (t) => {
  const { now, core } = await stopping({ isBegun: false });
  now.executor.detach();
  const unwilling = new FakeActuator(core);
  unwilling.set = () => Promise.reject(new Error('too_many'));
  await now.executor.attach(unwilling);
  await passed(now, core, 1_000);
  t.match(now.executor.actions, [{ state: 'failed', reason: /too_many.*its next step waits: maintenance/ }]);
  const told = now.store.puts.length;
  await passed(now, core, 60_000);
  t.equal(now.store.puts.length, told);
});

t.test('a cap that a higher rung followed did not help; one that the danger ended under did', async (t) => {
  const given = thermalRule();
  const capped = {
    ...given,
    rungs: given.rungs.map((each, i) => ({ ...each, actions: i === 0 ? ['throttle_10'] : [] })),
  };
  const { now, core } = await node({ rules: [capped] });
  rung(now, 0);
  await passed(now, core, 1_000);
  rung(now, -1);
  await passed(now, core, 1_000);
  t.match(now.learnt, [{ result: 'helped', action: { text: 'throttle_10' } }]);
  rung(now, 0);
  await passed(now, core, 1_000);
  rung(now, 1);
  await passed(now, core, 1_000);
  rung(now, -1);
  await passed(now, core, 1_000);
  t.match(now.learnt, [{ result: 'helped' }, { result: 'unhelpful' }]);
});

t.test('reads only a report of this run, and only what is a report', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'skos-act-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const sinceAtMs = Date.now();
  const read = () => readReport(directory, { job: 'act/x', sinceAtMs });
  t.equal(await read(), undefined, 'absent');
  report(directory, 'x', { startedAtMs: sinceAtMs });
  t.match(await read(), { ok: true, summary: 'did it' });
  report(directory, 'x', { startedAtMs: sinceAtMs - 60_000, endedAtMs: sinceAtMs - 50_000 });
  t.equal(await read(), undefined, 'of an earlier run');
  report(directory, 'x', { startedAtMs: sinceAtMs });
  utimesSync(join(directory, 'x.json'), new Date(0), new Date(0));
  t.equal(await read(), undefined, 'an old file');
  report(directory, 'x', { startedAtMs: sinceAtMs, name: 'y' });
  t.equal(await read(), undefined, 'of another job');
  for (const garbage of ['', '{', 'null', '[]', '{"v":2}', ' '.repeat(MAX_REPORT_BYTES + 1)]) {
    writeFileSync(join(directory, 'x.json'), garbage);
    t.equal(await read(), undefined, garbage.slice(0, 8));
  }
  rmSync(join(directory, 'x.json'));
  symlinkSync('/etc/passwd', join(directory, 'x.json'));
  t.equal(await read(), undefined, 'a link');
  rmSync(join(directory, 'x.json'));
  mkdirSync(join(directory, 'x.json'));
  t.equal(await read(), undefined, 'a directory');
});

/** Whatever happens, in whatever order: each run has an intent of its own before it, and no key is used twice. */
t.test('no run without its own intent, over restarts, lost connections and dead disks', async (t) => {
  const deed = fc.constantFrom('hot', 'cool', 'done', 'fail', 'restart', 'lose', 'disk', 'wait', 'long');
  await fc.assert(
    fc.asyncProperty(fc.array(deed, { minLength: 5, maxLength: 25 }), async (deeds) => {
      const store = new FakeStore();
      const clock = new FakeClock();
      const core = new FakeActuatorCore([POLICY]);
      core.listJobs(['hook/failover']);
      let now = life({ rules: rules(['failover']), config: AUTO, gate: new Gate(), clock, store });
      await now.executor.attach(new FakeActuator(core));
      for (const each of deeds) {
        if (each === 'hot') rung(now, 1);
        if (each === 'cool') rung(now, -1);
        if (each === 'done') core.finish('hook/failover');
        if (each === 'fail') core.finish('hook/failover', 'failed');
        if (each === 'disk') store.disk = store.disk === 'well' ? 'hangs' : 'well';
        if (each === 'lose') now.executor.detach();
        if (each === 'lose') await now.executor.attach(new FakeActuator(core));
        if (each === 'restart') {
          const hot = now.rulebook.bound[0]?.ladder.rung ?? -1;
          const records = [...store.latest.values()].reverse();
          now = life({ rules: rules(['failover']), config: AUTO, gate: new Gate(), clock, store });
          now.executor.recall(records);
          await now.executor.attach(new FakeActuator(core));
          rung(now, hot);
        }
        for (let i = 0; i < (each === 'long' ? 30 : 3); i++) await compared(now, core, each === 'long' ? 2_500 : 300);
      }
      const keys = core.started.map(({ key }) => key);
      const known = intents(store).map(({ what }) => `${what.action}/${what.attempt}/hook/failover`);
      const isPlain = (key: string) => known.includes(key);
      return new Set(keys).size === keys.length && new Set(known).size === known.length && keys.every(isPlain);
    }),
    { numRuns: 60 },
  );
  t.pass();
});

function report(directory: string, name: string, given: { [key: string]: unknown }): void {
  const whole = { v: 1, name, endedAtMs: Date.now() + 1e12, ok: true, summary: 'did it', ...given };
  writeFileSync(join(directory, `${name}.json`), JSON.stringify(whole));
}
