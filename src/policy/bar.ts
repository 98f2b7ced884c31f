/**
 * Bars: after `skos release` the operator's word stands, and the rule does not act again for a while. Standing orders
 * are not barred; they live in the actuator. Pure; monotonic times.
 */

export const DEFAULT_BAR_MS = 10 * 60_000;
/** A bar takes protection away, so that a forgotten one ends by itself within a day. */
export const MAX_BAR_MS = 24 * 3_600_000;

export interface Bar {
  readonly rule: string;
  readonly sinceMs: number;
  readonly untilMs: number;
}

/** The bars with one more; a rule's former bar gives way, also to a shorter one. Over-long ones are cut. */
export function withBar(
  bars: readonly Bar[],
  { rule, nowMs, forMs = DEFAULT_BAR_MS }: { rule: string; nowMs: number; forMs?: number },
): Bar[] {
  const others = standingBars(bars, nowMs).filter((bar) => bar.rule !== rule);
  // Written so that NaN bars nothing.
  if (!(forMs > 0)) return others;
  return [...others, { rule, sinceMs: nowMs, untilMs: nowMs + Math.min(forMs, MAX_BAR_MS) }];
}

export function isBarred(bars: readonly Bar[], rule: string, nowMs: number): boolean {
  return bars.some((bar) => bar.rule === rule && stands(bar, nowMs));
}

/** Without those that are over. One per rule, so that the list is no longer than that of the rules. */
export function standingBars(bars: readonly Bar[], nowMs: number): Bar[] {
  return bars.filter((bar) => stands(bar, nowMs));
}

/** A bar from the future was set on another clock, before a reboot: it is over, because protection is the safe side. */
function stands({ sinceMs, untilMs }: Bar, nowMs: number): boolean {
  return sinceMs <= nowMs && nowMs < untilMs;
}
