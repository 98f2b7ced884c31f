/**
 * Adoption: what an earlier agent left, records of what it had not finished and leases that stand, is brought together with the rules
 * of now. A lease that a rule explains is adopted: its ladder goes back to the rung that the lease proves, so that policy releases it
 * in its own time. Every other record is closed, and nothing is ever done again because a record says that it was begun.
 */
import type { Built, Steps } from '../actuators/effect.js';
import { isListing } from '../config/jobs.js';
import type { Action } from '../core/action-names.js';
import type { Clock } from '../core/clock.js';
import type { ActionRecord } from '../core/ports.js';
import type { ActionState } from '../core/vocabulary.js';
import type { ActionTeller } from './action-teller.js';
import type { CurrentConfig } from './current-config.js';
import { type Due, weigh } from './due.js';
import { leaseOf } from './hold.js';
import type { OperatorWord } from './operator-word.js';
import type { Repairs, Settled } from './repairs.js';
import type { BoundRule, Rulebook } from './rulebook.js';

export interface AdoptionOptions {
  readonly config: CurrentConfig;
  readonly rulebook: Rulebook;
  readonly repairs: Repairs;
  readonly word: OperatorWord;
  readonly teller: ActionTeller;
  readonly clock: Clock;
  /** What is there to act on now. */
  readonly build: (action: Action, bound: BoundRule) => Built;
  /** Goes on with what the record tells of. False: it goes on already. */
  readonly resume: (due: Due, record: ActionRecord, steps: Steps) => boolean;
}

export class Adoption {
  readonly #options: AdoptionOptions;
  /** Unfinished actions with leases, until an actuator tells what became of them. */
  #earlier: readonly ActionRecord[] = [];

  constructor(options: AdoptionOptions) {
    this.#options = options;
  }

  /** The records of the earlier agent. What has no lease waits for no actuator. */
  recall(records: readonly ActionRecord[]): void {
    const unfinished = records.filter(({ endedAtMs }) => endedAtMs === null);
    this.#earlier = unfinished.filter(({ effects }) => effects.length > 0);
    const others = unfinished.filter(({ effects }) => effects.length === 0);
    this.#options.repairs.recall(others.filter(isRunning));
    for (const record of others) {
      if (!isRunning(record)) this.#close(record, record.state, 'the agent was started again');
    }
  }

  /**
   * `standing`: leases that this agent did not ask for. Returns those to release: no rule explains them.
   *
   * A lease does not say which sensor was hot; the earlier agent's records do. Where none was written, the first rule that would
   * ask for it takes it: if another sensor is the hot one, that one asks again long before `keep` is over.
   */
  adopt(standing: ReadonlySet<string>): ReadonlySet<string> {
    const strays = new Set(standing);
    for (const bound of this.#options.rulebook.bound) {
      for (const adopted of this.#adopt(bound, standing, { recorded: true })) strays.delete(adopted);
    }
    for (const bound of this.#options.rulebook.bound) {
      for (const adopted of this.#adopt(bound, strays, { recorded: false })) strays.delete(adopted);
    }
    this.#closeEarlier(strays);
    return strays;
  }

  /** An attempt that has no lease beside it: what the actuator says became of it, never a second run. */
  settled({ record, job }: Settled): void {
    if (record.effects.length > 0) return; // Closed with its leases.
    const jobs = (record.jobs ?? []).map((each) =>
      each.key === job?.key ? { ...each, state: job.state, exit: job.exit } : each,
    );
    const why = 'the agent was started again meanwhile: whether it helped was not verified';
    if (job === undefined) this.#close(record, 'abandoned', 'whether it ran is not known; it is not run again');
    else if (isListing(job.job)) this.#close({ ...record, jobs }, 'abandoned', 'it was only listed; it is not run');
    else this.#close({ ...record, jobs }, job.state === 'done' ? 'done' : 'failed', why);
  }

  /** Returns the leases that the rule explains; `recorded`: only for actions of which the earlier agent left a record. */
  #adopt(bound: BoundRule, held: ReadonlySet<string>, { recorded }: { recorded: boolean }): string[] {
    const { config, rulebook, word, clock, build, resume } = this.#options;
    // What stands was begun before a hold or a bar; the next comparison weighs it.
    const words = (key: string) => {
      const about = { rule: bound.rule.name, key, isActing: true };
      return { ...word.about(about, clock.monotonicMs()), isBarred: false };
    };
    const adopted: string[] = [];
    for (const [rung, { actions, severity }] of bound.rule.rungs.entries()) {
      for (const action of actions) {
        const due = weigh({ bound, action, severity }, config.get(), words);
        const record = this.#recordOf(bound, action);
        if (due?.verdict !== 'act' || (recorded && record === undefined)) continue;
        const built = build(due.action, bound);
        if ('unavailable' in built) continue;
        const leases = built.effects.map(({ target }) => leaseOf(action, target)).filter((lease) => held.has(lease));
        if (leases.length === 0) continue;
        adopted.push(...leases);
        rulebook.seed(bound, rung);
        // Without a record (it was never written) the next comparison begins a new one.
        if (record === undefined || !resume(due, record, built)) continue;
        this.#earlier = this.#earlier.filter((each) => each !== record);
      }
    }
    return adopted;
  }

  #recordOf({ rule }: BoundRule, action: string): ActionRecord | undefined {
    return this.#earlier.find(
      (each) => each.rule === rule.name && each.channel === rule.channelId && each.action === action,
    );
  }

  /**
   * What was not adopted: an unfinished intent is never replayed, only closed. A lease whose sensor is not there is left to
   * the actuator, which ends it when its own orders say that it is safe: a missing reading is not a recovery.
   */
  #closeEarlier(strays: Set<string>): void {
    // The gates wait for the end of a run, whatever becomes of the leases beside it.
    this.#options.repairs.recall(this.#earlier.filter(isRunning));
    const present = new Set(this.#options.rulebook.bound.map(({ channel }) => channel.id));
    for (const record of this.#earlier) {
      const standing = record.effects
        .map(({ target }) => leaseOf(record.action, target))
        .filter((lease) => strays.has(lease));
      const isBlind = !present.has(record.channel);
      if (isBlind) for (const lease of standing) strays.delete(lease);
      if (standing.length === 0) this.#close(record, 'abandoned', 'the lease ended while no agent was there');
      else if (isBlind)
        this.#close(record, 'abandoned', 'its sensor is not there: the actuator ends the lease when it is safe');
      else this.#close(record, 'abandoned', 'no rule asks for it any more: its lease is released');
    }
    this.#earlier = [];
  }

  #close(former: ActionRecord, state: ActionState, why: string): void {
    const closed: ActionRecord = { ...former, state, reason: why, endedAtMs: this.#options.clock.wallMs() };
    this.#options.teller.tell(closed, { ended: true });
  }
}

/** A run of it, or the look whether it helped, is not over. */
function isRunning({ state, jobs = [] }: ActionRecord): boolean {
  const isUnsettled = state === 'running' || state === 'verifying' || state === 'pending';
  return jobs.length > 0 && (isUnsettled || jobs.at(-1)?.state === 'running');
}
