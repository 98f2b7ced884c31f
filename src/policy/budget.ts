/**
 * Attempt budgets: in no hour and in no day more than so many attempts, whatever came of them. The windows slide, so that there
 * is no full hour to wait for and none at which twice as many are possible. Pure; times of any one clock that never goes back.
 */

export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;

export interface Budget {
  readonly perHour: number;
  readonly perDay: number;
}

export interface Spent {
  readonly per: 'hour' | 'day';
  readonly limit: number;
  /** When the next attempt fits. */
  readonly untilMs: number;
}

/** `startsMs`: when attempts began, ascending. */
export function budgetUsed(startsMs: readonly number[], nowMs: number): { hour: number; day: number } {
  return { hour: within(startsMs, HOUR_MS, nowMs).length, day: within(startsMs, DAY_MS, nowMs).length };
}

/** undefined: one more fits. Where both are used up, the one that lasts longer. */
export function budgetSpent(startsMs: readonly number[], budget: Budget, nowMs: number): Spent | undefined {
  const day = full(within(startsMs, DAY_MS, nowMs), { per: 'day', limit: budget.perDay, windowMs: DAY_MS });
  const hour = full(within(startsMs, HOUR_MS, nowMs), { per: 'hour', limit: budget.perHour, windowMs: HOUR_MS });
  if (day === undefined || hour === undefined) return day ?? hour;
  return day.untilMs >= hour.untilMs ? day : hour;
}

/** The starts with one more, without those that no window reaches. */
export function spend(startsMs: readonly number[], nowMs: number): number[] {
  return [...within(startsMs, DAY_MS, nowMs), nowMs];
}

/** A start that lies ahead is of a clock that was lost: it counts as one of now, so that it is not forgiven and ends. */
function within(startsMs: readonly number[], windowMs: number, nowMs: number): number[] {
  return startsMs.map((startMs) => Math.min(startMs, nowMs)).filter((startMs) => nowMs - startMs < windowMs);
}

function full(
  startsMs: readonly number[],
  { per, limit, windowMs }: { per: Spent['per']; limit: number; windowMs: number },
): Spent | undefined {
  // The window has room again when the limit-th newest start has left it.
  const [last] = startsMs.slice(-limit);
  return startsMs.length < limit || last === undefined ? undefined : { per, limit, untilMs: last + windowMs };
}
