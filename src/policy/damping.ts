/**
 * Damping of repairs: a least interval between two attempts of one action, which doubles with each attempt in a row that failed or
 * did not help. What a repair waits for (a unit that must come up, a disk that must empty) is not faster for being asked more often.
 * Pure.
 */

export interface Damping {
  readonly intervalMs: number;
  /** The longest that it grows to; a longer interval is kept as it is. */
  readonly backOffMaxMs: number;
}

/** Beyond it no interval grows any more: 2^20 of the least one are twelve days. */
export const MAX_SETBACKS = 20;

/** `setbacks`: attempts in a row that failed or did not help. */
export function intervalMs({ intervalMs, backOffMaxMs }: Damping, setbacks: number): number {
  const grown = intervalMs * 2 ** Math.min(setbacks, MAX_SETBACKS);
  return Math.min(grown, Math.max(intervalMs, backOffMaxMs));
}
