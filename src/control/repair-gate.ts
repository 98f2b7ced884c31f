/**
 * What stands before and behind a repair: whether one more attempt may be made, and what came of it. Never asked about a cap, a
 * freeze or a notice.
 */
import type { Action } from '../core/action-names.js';
import type { Severity } from '../core/vocabulary.js';

export interface Attempt {
  readonly action: Action;
  readonly rule: string;
  readonly channel: string;
  readonly severity: Severity;
  /** A person has agreed to this one: a maintenance window does not hold it back. */
  readonly isApproved?: boolean;
}

export type AttemptResult = 'helped' | 'unhelpful' | 'failed' | 'done';

export interface RepairGate {
  /** undefined: go ahead, and the attempt is counted. Else why not, for people; asked again each tick. */
  refusal(attempt: Attempt, nowMs: number): string | undefined;
  /** Once for each attempt that was let through. `done`: nothing is known about its help. */
  ended(attempt: Attempt, result: AttemptResult, nowMs: number): void;
}

/** What came of an action, a cap or a repair; the immune memory learns from it. */
export interface ActionOutcome extends Attempt {
  /** `unhelpful` of a cap: a higher rung was reached although it stood. */
  readonly result: Exclude<AttemptResult, 'done'>;
  /** From its begin to the recovery, or to the verdict. */
  readonly tookMs: number;
  /** In the channel's canonical unit; null where there was no reading. */
  readonly valueBefore: number | null;
  readonly valueAfter: number | null;
}
