/**
 * Buckets: what a stretch of samples comes to, at a fixed width of aligned wall time. Seconds and minutes of the time series are
 * buckets, and so are the points of a query.
 */

export const SECOND_MS = 1_000;
export const MINUTE_MS = 60_000;

/** In the order of time; a time without any sample has no bucket. Two of one time come from a restart within it. */
export interface Buckets {
  readonly length: number;
  /** Wall time at which each begins, a multiple of the width. */
  readonly atMs: Float64Array;
  /** Samples with a value. */
  readonly counts: Float64Array;
  /** Canonical unit; NaN where the count is 0. The mean is rounded to an integer where all values are integers. */
  readonly minimums: Float64Array;
  readonly means: Float64Array;
  readonly maximums: Float64Array;
  /** Index into QUALITIES: ok when every sample was, else that of the latest that was not. */
  readonly qualities: Uint8Array;
}
