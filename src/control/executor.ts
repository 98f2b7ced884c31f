/**
 * Act: the one place that acts. Level-triggered: each tick it compares the actions that the ladders make due with those
 * that run, starts what is missing and ends what is no longer due. Caps are leases of the actuator (lease-keeper.ts), renewed
 * while they are due; if the agent dies they end by themselves where that is safe. What cannot be taken back is a repair (repairs.ts).
 * What an earlier agent left is another subject (adoption.ts), as is whether an action helps (effectiveness.ts).
 *
 * Nothing here waits on the protection path: requests to the actuator are sent at once and their answers become state
 * when they come. What the actuator does not answer or cannot take back is shown as that, never as done.
 */
import { type Built, type Steps, stepsOf } from '../actuators/effect.js';
import { buildEffects } from '../actuators/effects.js';
import { listingOf } from '../config/jobs.js';
import { type Action, actionClass } from '../core/action-names.js';
import { reason } from '../core/errors.js';
import type { ActionRecord, Actuator, ActuatorTarget, Store } from '../core/ports.js';
import type { ActionState } from '../core/vocabulary.js';
import { isGated } from '../policy/breaker.js';
import type { Consent, Words } from '../policy/consent.js';
import { dueActions, NO_RUNG } from '../policy/ladder.js';
import { ActionIds } from './action-ids.js';
import { ActionTeller } from './action-teller.js';
import { Adoption } from './adoption.js';
import type { CurrentConfig } from './current-config.js';
import { type Due, keyOf, weigh } from './due.js';
import { Effectiveness, type EffectivenessOptions } from './effectiveness.js';
import { effectOf, type Hold, holdOf } from './hold.js';
import type { JobReport } from './job-reports.js';
import { LeaseKeeper } from './lease-keeper.js';
import type { OperatorWord } from './operator-word.js';
import type { Outlet } from './outlet.js';
import type { Record } from './record.js';
import type { Repair } from './repair.js';
import type { Repairs } from './repairs.js';
import type { BoundRule } from './rulebook.js';

const HELD = 'the node is on hold: nothing new is begun';

interface Running extends Due {
  readonly holds: Hold[];
  /** What it runs beside its holds, or in their place. */
  repair?: Repair;
  record: ActionRecord;
  ending: boolean;
  endReason: string;
  readonly effectiveness: Effectiveness;
  /** What was last said of its leases. */
  capped: { readonly state: ActionState; readonly why: string } | undefined;
  /** Why its next step, behind the leases, is not taken yet. */
  waits: string;
}

export interface ExecutorOptions extends EffectivenessOptions {
  readonly node: string;
  readonly bootId: string;
  readonly config: CurrentConfig;
  readonly repairs: Repairs;
  readonly word: OperatorWord;
  readonly store: Store;
  readonly record: Record;
  readonly outlet: Outlet;
}

export interface Proposal {
  readonly action: Action;
  readonly record: ActionRecord;
  readonly effects: readonly { readonly target: string; readonly capPpm: number; readonly current: string }[];
  readonly jobs: readonly string[];
  /** What the jobs would touch, as of when it was looked. */
  readonly listing: JobReport | undefined;
  /** Why it could not be done now. */
  readonly unavailable?: string;
}

export class Executor {
  readonly #options: ExecutorOptions;
  readonly #running = new Map<string, Running>();
  readonly #ids: ActionIds;
  readonly #teller: ActionTeller;
  readonly #keeper: LeaseKeeper<Running>;
  readonly #adoption: Adoption;
  #actuator: Actuator | undefined;
  #targets: readonly ActuatorTarget[] = [];
  #jobs: ReadonlySet<string> = new Set();
  /** Told of once, and not with each tick. */
  #mistake = '';

  constructor(options: ExecutorOptions) {
    this.#options = options;
    this.#ids = new ActionIds(options.node);
    this.#teller = new ActionTeller(options);
    this.#adoption = new Adoption({
      ...options,
      teller: this.#teller,
      build: (action, bound) => this.#build(action, bound),
      resume: (due, record, steps) => this.#resume(due, record, steps),
    });
    this.#keeper = new LeaseKeeper({
      ttlMs: () => options.config.get().actuator.lease * 1000,
      holders: () => this.#running.values(),
      become: (running, state, why) => this.#capBecame(running, state, why),
      onRefused: () => void this.refreshTargets().catch(() => undefined), // A lost connection is attached anew.
      onGivenBack: (running) => this.#finishWhenOver(running),
    });
  }

  /** Actions that run or are due now, newest last. */
  get actions(): readonly ActionRecord[] {
    return [...this.#running.values()].map(({ record }) => record);
  }

  // ---- Actuator ----------------------------------------------------------------------------------------------------

  /** What an earlier agent left unfinished; before the first attach(). */
  recall(records: readonly ActionRecord[]): void {
    for (const { actionId } of records) this.#ids.recall(actionId);
    this.#adoption.recall(records);
  }

  /**
   * A connection is there. Leases that an earlier agent of this boot left are adopted (adoption.ts); those that no rule explains are
   * released.
   */
  async attach(actuator: Actuator): Promise<void> {
    const targets = await actuator.targets();
    const strays = new Set((await actuator.leases()).map(({ lease }) => lease));
    const jobs = await listedJobs(actuator);
    this.#actuator = actuator;
    this.#keeper.use(actuator);
    this.#targets = targets;
    this.#listJobs(jobs);
    // Our own first: a lease that we have asked for proves nothing about a rung that was left since.
    for (const running of this.#running.values()) {
      for (const hold of running.holds) strays.delete(hold.lease);
      this.#takeUp(running);
    }
    for (const lease of this.#keeper.dropAgain()) strays.delete(lease);
    // What no rule explains is of another configuration. If this release is lost, the lease ends by itself.
    for (const lease of this.#adoption.adopt(strays)) void actuator.release(lease).catch(() => undefined);
  }

  /** What was asked of a lost connection is asked again, and what waited for an actuator begins anew. */
  #takeUp(running: Running): void {
    if (!running.ending) this.#fit(running);
    this.#keeper.takeUp(running);
  }

  #listJobs(jobs: ReadonlySet<string>): void {
    this.#jobs = jobs;
    this.#options.repairs.use(this.#actuator, jobs);
  }

  /** Brings the holds of an action to the targets that there are now. */
  #fit(running: Running): void {
    const { bound, action, verdict, record, holds } = running;
    // It was proposed when nobody was there to list what it would touch.
    if (verdict === 'propose' && running.repair === undefined) this.#look(running);
    if (verdict !== 'act') return;
    const built = this.#build(action, bound);
    const { effects } = stepsOf(built);
    if (holds.length === 0) {
      const isNew = effects.length > 0 || (running.repair === undefined && 'jobs' in built);
      if (isNew)
        this.#end(running, 'there is something to act on now'); // The next comparison begins it anew.
      else if ('unavailable' in built) this.#become(running, 'unavailable', built.unavailable);
      return;
    }
    // A target that is no longer listed is undone by the actuator itself.
    const gone = holds.filter(({ target }) => !effects.some((each) => each.target === target));
    for (const hold of gone) this.#keeper.drop(running, hold);
    for (const effect of effects) {
      if (!holds.some(({ target }) => target === effect.target)) holds.push(holdOf(action, effect));
    }
    if ('unavailable' in built) this.#become(running, 'unavailable', built.unavailable);
    else if (gone.length > 0) this.#become(running, record.state, goneText(gone, this.#targets));
  }

  detach(): void {
    this.#actuator = undefined;
    this.#targets = [];
    this.#listJobs(new Set());
    this.#keeper.lose();
  }

  /** The allow-list was read again. */
  async refreshTargets(): Promise<void> {
    const actuator = this.#actuator;
    if (actuator === undefined) return;
    const targets = await actuator.targets();
    const jobs = await listedJobs(actuator);
    if (this.#actuator !== actuator) return; // attach() has seen newer ones.
    this.#targets = targets;
    this.#listJobs(jobs);
    for (const running of this.#running.values()) {
      if (running.ending) continue;
      this.#fit(running);
      for (const hold of running.holds) if (hold.state === 'new') this.#keeper.ask(running, hold);
    }
  }

  /** Goes on with what an earlier agent began. False: it goes on already. */
  #resume(due: Due, record: ActionRecord, { effects, jobs = [] }: Steps): boolean {
    if (this.#running.has(keyOf(due))) return false;
    const holds = effects.map((effect) => holdOf(due.action, effect));
    const running = this.#track(due, record, holds, { isResumed: true });
    for (const hold of holds) this.#keeper.ask(running, hold);
    if (jobs.length > 0 || record.state === 'running') this.#repair(running, { resumes: record.state });
    return true;
  }

  // ---- The comparison, each tick --------------------------------------------------------------------------------------

  /** Each action by itself: a mistake in one must not keep another's cap from being set or given back. The first is thrown at the end. */
  reconcile(nowMs: number): void {
    const mistakes: unknown[] = [];
    const apart = (run: () => void) => {
      try {
        run();
      } catch (error) {
        mistakes.push(error);
      }
    };
    const due = this.#due(nowMs);
    apart(() => this.#options.word.forgetApprovals((key) => !due.has(key) || this.#isOutdated(key, nowMs)));
    for (const [key, running] of this.#running) {
      const wanted = due.get(key);
      if (wanted?.verdict === running.verdict) apart(() => this.#keep(running, wanted));
      else if (!running.ending) apart(() => this.#end(running, endOf(running, wanted?.verdict)));
    }
    for (const [key, wanted] of due) if (!this.#running.has(key)) apart(() => this.#begin(wanted));
    apart(() => this.#keeper.look(nowMs));
    apart(() => this.#options.repairs.look(nowMs, (end) => this.#adoption.settled(end)));
    if (mistakes.length > 0) throw mistakes[0];
  }

  /** Of a run that was approved and has waited since: what it would touch is looked at anew. An approved cap stays so while it is due. */
  #isOutdated(key: string, nowMs: number): boolean {
    const { action, repair, holds } = this.#running.get(key) ?? {};
    if (action === undefined || !isGated(actionClass(action.verb))) return false;
    // Where no actuator is there, it has no repair either.
    const isWaiting = repair?.isUnderWay !== true && holds?.length === 0;
    return isWaiting && this.#options.word.isOutdated(key, nowMs);
  }

  /** The danger came back while the way back was not finished: the cap is asked for again, behind the release. */
  #keep(running: Running, wanted: Due): void {
    if (isCap(running)) running.effectiveness.weighCap(wanted.bound);
    if (!running.ending) return;
    running.ending = false;
    if (running.repair !== undefined) this.#options.repairs.reopen(running.repair);
    // What was listed while it ended is its target, too. Without an actuator nobody knows what is listed.
    if (this.#actuator !== undefined) this.#fit(running);
    if (running.ending) return;
    for (const hold of running.holds) this.#keeper.ask(running, hold);
  }

  #due(nowMs: number): Map<string, Due> {
    const due = new Map<string, Due>();
    const config = this.#options.config.get();
    for (const bound of this.#options.rulebook.bound) {
      if (bound.ladder.rung === NO_RUNG) continue;
      for (const asked of dueActions(bound.rule, bound.ladder.rung)) {
        const weighed = weigh({ bound, ...asked }, config, (key) => this.#words(bound, key, nowMs));
        if (weighed !== undefined) due.set(keyOf(weighed), weighed);
      }
    }
    return due;
  }

  /** Never throws: a mistake in one kind of effect must not keep the others from being built, nor the leases from being adopted. */
  #build(action: Action, { channel }: BoundRule): Built {
    const { config, log } = this.#options;
    try {
      return buildEffects({ action, channel, targets: this.#targets, jobs: this.#jobs, config: config.get() });
    } catch (error) {
      const why = `a mistake of SKOS itself: ${reason(error)}`;
      if (this.#mistake !== why) log.error(`${action.text} for ${channel.id}: ${why}`, { error });
      this.#mistake = why;
      return { unavailable: why };
    }
  }

  #words({ rule }: BoundRule, key: string, nowMs: number): Words {
    const running = this.#running.get(key);
    const isActing = running?.verdict === 'act' && !running.ending;
    return this.#options.word.about({ rule: rule.name, key, isActing }, nowMs);
  }

  #begin({ bound, action, severity, verdict }: Due): void {
    const record: ActionRecord = {
      actionId: this.#ids.next({ type: bound.rule.type, action: action.text, wallMs: this.#options.clock.wallMs() }),
      action: action.text,
      rule: bound.rule.name,
      alert: bound.alertId,
      channel: bound.channel.id,
      severity,
      state: 'pending',
      reason: '',
      effects: [],
      startedAtMs: this.#options.clock.wallMs(),
      endedAtMs: null,
    };
    const running = this.#track({ bound, action, severity, verdict }, record, []);
    if (verdict === 'observe') {
      this.#become(running, 'observed', 'mode observe: would have been done');
      return;
    }
    if (verdict === 'propose') {
      this.#become(running, 'proposed', 'not automatic here: `skos approve` does it if you agree');
      this.#look(running);
      return;
    }
    if (verdict === 'barred') {
      this.#become(running, 'barred', 'released by the operator');
      return;
    }
    if (verdict === 'held') {
      this.#become(running, 'barred', HELD);
      return;
    }
    this.#act(running);
  }

  #track(due: Due, record: ActionRecord, holds: Hold[], { isResumed = false } = {}): Running {
    const running: Running = {
      ...due,
      holds,
      record,
      ending: false,
      endReason: '',
      effectiveness: new Effectiveness(this.#options, due, { isResumed }),
      capped: undefined,
      waits: '',
    };
    this.#running.set(keyOf(due), running);
    return running;
  }

  #act(running: Running): void {
    const { bound, action } = running;
    const built = this.#build(action, bound);
    if ('unavailable' in built) {
      const why = this.#actuator === undefined ? 'no actuator is connected' : built.unavailable;
      this.#become(running, 'unavailable', why);
      return;
    }
    const { effects, jobs = [] } = built;
    for (const effect of effects) running.holds.push(holdOf(action, effect));
    // Sent before anything is recorded: protection does not wait, not even for a clock tick of bookkeeping.
    for (const hold of running.holds) this.#keeper.ask(running, hold);
    if (jobs.length > 0) this.#repair(running);
    if (effects.length > 0) this.#become(running, 'pending', 'asked of the actuator');
    else if (jobs.length === 0) this.#become(running, 'done', 'told');
    this.#options.outlet.broadcast('command', running.record);
  }

  // ---- Repairs -------------------------------------------------------------------------------------------------------

  #repair(running: Running, { listOnly = false, resumes }: { listOnly?: boolean; resumes?: ActionState } = {}): void {
    const { word, repairs } = this.#options;
    const { bound, action, severity, record } = running;
    const key = keyOf(running);
    running.repair = repairs.open({
      attempt: { action, rule: bound.rule.name, channel: bound.channel.id, severity, isApproved: word.isApproved(key) },
      actionId: record.actionId,
      build: () => this.#build(action, bound),
      condition: () => running.effectiveness.condition,
      // It may have waited since before the hold: that it is due is no beginning.
      objection: () => (word.hold !== undefined && !word.isApproved(key) ? HELD : undefined),
      listOnly,
      former: record.jobs ?? [],
      ...(resumes === undefined ? {} : { resumes }),
      onBegin: () => word.spend(key),
      become: (state, why) => this.#repairBecame(running, state, why),
      onResult: (result) => {
        word.settle(key);
        running.effectiveness.learn(result);
      },
      onOver: () => this.#finishWhenOver(running),
    });
  }

  /** While it has leases those are told, and behind them why it goes no further. */
  #repairBecame(running: Running, state: ActionState, why: string): void {
    const isQuiet = state === 'barred' || state === 'unavailable';
    running.waits = isQuiet && running.holds.length > 0 ? why : '';
    if (running.waits === '') this.#become(running, state, why);
    else if (running.capped !== undefined) this.#sayCapped(running, running.capped);
  }

  #capBecame(running: Running, state: ActionState, why: string): void {
    running.capped = { state, why };
    // That they stand is no news while something runs behind them.
    if (state !== 'active' || running.repair?.isUnderWay !== true) this.#sayCapped(running, running.capped);
  }

  #sayCapped(running: Running, { state, why }: { readonly state: ActionState; readonly why: string }): void {
    this.#become(running, state, running.waits === '' ? why : `${why}; its next step waits: ${running.waits}`);
  }

  /** What it would touch, for who decides. */
  #look(running: Running): void {
    const { jobs } = stepsOf(this.#build(running.action, running.bound));
    if (jobs.some(({ job }) => this.#jobs.has(listingOf(job)))) this.#repair(running, { listOnly: true });
  }

  // ---- Proposals -----------------------------------------------------------------------------------------------------

  /** A proposed action, with what would be done now; undefined: none of this id is proposed. */
  proposal(actionId: string): Proposal | undefined {
    const running = this.#proposed(actionId);
    if (running === undefined) return undefined;
    const { action, bound, record } = running;
    const built = this.#build(action, bound);
    const { effects, jobs } = stepsOf(built);
    const current = new Map(this.#targets.map((each) => [each.target, each.current]));
    return {
      action,
      record,
      effects: effects.map(({ target, capPpm }) => ({ target, capPpm, current: current.get(target) ?? '' })),
      jobs: jobs.map(({ job }) => job),
      listing: running.repair?.listing,
      ...('unavailable' in built ? { unavailable: built.unavailable } : {}),
    };
  }

  /** From the next comparison on it is done, as long as it is due. False: it is not proposed any more, or too many are. */
  approve(actionId: string): boolean {
    const running = this.#proposed(actionId);
    return running !== undefined && this.#options.word.approve(keyOf(running));
  }

  #proposed(actionId: string): Running | undefined {
    return [...this.#running.values()].find(
      ({ record, verdict, ending }) => record.actionId === actionId && verdict === 'propose' && !ending,
    );
  }

  // ---- Taking back ---------------------------------------------------------------------------------------------------

  #end(running: Running, why: string): void {
    const { isRecovered } = running.effectiveness;
    if (isRecovered && isCap(running)) running.effectiveness.capHelped();
    running.ending = true;
    running.endReason = why;
    for (const hold of running.holds) this.#keeper.giveBack(running, hold);
    running.repair?.dueEnded(isRecovered);
    this.#finishWhenOver(running);
  }

  /** Nothing of it stands or runs any more. */
  #finishWhenOver(running: Running): void {
    const { holds, repair, record, endReason } = running;
    const isOver = holds.every(({ state }) => state === 'over') && repair?.isOver !== false;
    if (!running.ending || !isOver || this.#running.get(keyOf(running)) !== running) return;
    this.#running.delete(keyOf(running));
    const foreign = holds.filter(({ after }) => after?.outcome === 'foreign_change');
    if (foreign.length > 0) {
      const why = foreign.map(({ target }) => `${target} was changed by another program and left alone`).join(', ');
      this.#become(running, 'foreign_change', why, { ended: true });
    } else if (repair?.endState !== undefined) {
      const isTold = record.state === repair.endState;
      this.#become(running, repair.endState, isTold ? record.reason : endReason, { ended: true });
    } else if (holds.length > 0) this.#become(running, 'released', endReason, { ended: true });
    else this.#become(running, record.state === 'pending' ? 'failed' : record.state, endReason, { ended: true });
  }

  /** Ends the actions of one rule (or of all) at once and bars it from acting for a while. */
  release({ rule, forMs, who }: { rule?: string; forMs: number; who: string }): {
    released: string[];
    barred: string[];
  } {
    const { rulebook, record, word } = this.#options;
    const names = rule === undefined ? rulebook.bound.map((bound) => bound.rule.name) : [rule];
    const barred = [...new Set(names)];
    word.bar(barred, forMs);
    word.forgetApprovals((key) => barred.some((name) => key.startsWith(`${name} `)));
    const released: string[] = [];
    for (const running of this.#running.values()) {
      if (running.verdict !== 'act' || running.ending || !barred.includes(running.record.rule)) continue;
      released.push(running.record.actionId);
      this.#end(running, `released by ${who}`);
    }
    record.add({
      kind: 'release.operator',
      who,
      what: { rules: barred, released, forMs },
      level: 'warn',
      message: `released by ${who}; actions ended: ${released.length}, rules barred for ${Math.round(forMs / 1000)} s: ${barred.length}`,
      fields: { event: 'release.operator', ...(rule === undefined ? {} : { rule }) },
    });
    return { released, barred };
  }

  #become(running: Running, state: ActionState, why: string, { ended = false } = {}): void {
    const { clock } = this.#options;
    const before = running.record;
    const effects = running.holds.map(effectOf);
    const jobs = running.repair?.jobs ?? [];
    running.record = {
      ...before,
      state,
      reason: why,
      effects,
      ...(jobs.length > 0 ? { jobs: [...jobs] } : {}),
      endedAtMs: ended ? clock.wallMs() : before.endedAtMs,
    };
    if (before.state === state && before.reason === why && !ended) return;
    this.#teller.tell(running.record, { ended });
  }
}

/** A cap that stands, and nothing that runs beside it. */
function isCap({ holds, repair, record }: Running): boolean {
  return holds.length > 0 && repair === undefined && record.state === 'active';
}

/** Of an actuator that has no jobs at all, none. */
async function listedJobs(actuator: Actuator): Promise<ReadonlySet<string>> {
  try {
    return new Set((await actuator.jobs()).map(({ job }) => job));
  } catch (error) {
    if (actuator.connected) return new Set();
    throw error;
  }
}

function endOf({ verdict, effectiveness }: Running, wanted: Consent | undefined): string {
  if (wanted === undefined) return effectiveness.isRecovered ? 'the danger is past' : 'no rule asks for it any more';
  return verdict === 'propose' && wanted === 'act' ? 'approved' : `now: ${wanted}`;
}

/** What stands in its place shows in the effects. */
function goneText(gone: readonly Hold[], targets: readonly ActuatorTarget[]): string {
  const said = gone.map(({ target }) =>
    targets.some((each) => each.target === target) ? `not permitted: ${target}` : `no longer listed: ${target}`,
  );
  return said.join(', ');
}
