/**
 * Whether an action helps, as the readings of its channel say, and what is learnt of that. The rule is looked up as it is bound now:
 * a new configuration or discovery may have bound it anew since the action began.
 */
import type { Clock } from '../core/clock.js';
import { reason } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import { type Due, rungOf } from './due.js';
import type { Condition } from './repair.js';
import type { ActionOutcome, AttemptResult } from './repair-gate.js';
import type { BoundRule, Rulebook } from './rulebook.js';

export interface EffectivenessOptions {
  readonly rulebook: Rulebook;
  /** Told what came of each cap and each attempt of a repair. */
  readonly learn: (outcome: ActionOutcome) => void;
  readonly log: Log;
  readonly clock: Clock;
}

export class Effectiveness {
  readonly #options: EffectivenessOptions;
  readonly #due: Due;
  readonly #beganMs: number;
  readonly #valueBefore: number | null;
  /** A cap's verdict is given once. Begun together with a higher rung, a cap cannot show what it does alone. */
  #isKnown: boolean;
  /**
   * False: the memory began it before its own bound was reached, so that it says nothing that it is soon over; or an earlier agent
   * began it, and how long it took and from where nobody knows.
   */
  readonly #teaches: boolean;

  constructor(options: EffectivenessOptions, due: Due, { isResumed }: { isResumed: boolean }) {
    this.#options = options;
    this.#due = due;
    this.#beganMs = options.clock.monotonicMs();
    this.#valueBefore = due.bound.value;
    this.#isKnown = this.#isOutgrown(due.bound);
    this.#teaches = !due.bound.isRaised && !isResumed;
  }

  /** Of its own rung, whichever the ladder has reached. */
  get condition(): Condition {
    const bound = this.#bound;
    const clear = bound?.rule.rungs[rungOf(this.#due)]?.clear;
    if (bound?.value == null || clear === undefined || bound.ladder.verdict !== 'ok') return 'unseen';
    return bound.value < clear ? 'calm' : 'stands';
  }

  /** Because readings say so: the rule is there, and its ladder has left the rung. */
  get isRecovered(): boolean {
    const bound = this.#bound;
    if (bound === undefined || bound.ladder.rung >= rungOf(this.#due)) return false;
    // Of other bounds its ladder says nothing about this one.
    const former = this.#due.bound;
    return bound === former || JSON.stringify(bound.rule.rungs) === JSON.stringify(former.rule.rungs);
  }

  /** Each tick while a cap stands: a higher rung that is reached all the same says that it does not suffice. */
  weighCap(bound: BoundRule): void {
    if (!this.#isKnown && this.#isOutgrown(bound)) this.learn('unhelpful');
  }

  /** A cap that stood until readings said that it is over. */
  capHelped(): void {
    if (!this.#isKnown) this.learn('helped');
  }

  learn(result: AttemptResult): void {
    this.#isKnown = true;
    if (result === 'done' || !this.#teaches) return;
    const { bound, action, severity } = this.#due;
    const { clock, learn, log } = this.#options;
    try {
      learn({
        action,
        rule: bound.rule.name,
        channel: bound.channel.id,
        severity,
        result,
        tookMs: clock.monotonicMs() - this.#beganMs,
        valueBefore: this.#valueBefore,
        valueAfter: this.#bound?.value ?? null,
      });
    } catch (error) {
      // What cannot be remembered must not keep a cap from being taken back.
      log.error(`nothing is learnt of ${action.text}: ${reason(error)}`, { error });
    }
  }

  #isOutgrown({ ladder }: BoundRule): boolean {
    return ladder.rung > rungOf(this.#due);
  }

  /** undefined: the rule is no more. */
  get #bound(): BoundRule | undefined {
    const { name, channelId } = this.#due.bound.rule;
    return this.#options.rulebook.bound.find(({ rule }) => rule.name === name && rule.channelId === channelId);
  }
}
