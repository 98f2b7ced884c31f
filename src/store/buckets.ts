/**
 * Buckets: what a stretch of samples comes to, at a fixed width of aligned wall time. Seconds and minutes of the time series are
 * buckets, and so are the points of a query.
 *
 * Least, greatest and count are exact however often buckets are merged. A mean of integers is rounded to an integer, half a unit
 * off at most (sums beyond 2 ** 53 aside), so that it stays a value in a canonical unit and costs few bytes; a mean of such means
 * is off by half a unit more for each time that it was merged: a minute made of seconds by one unit at most, a point made of minutes
 * by one and a half. Units are thousandths of a degree, milliwatts, bytes: below what the sensor itself resolves.
 */
import { QUALITIES } from '../core/channel.js';
import type { Samples } from './chunk.js';

export const SECOND_MS = 1_000;
export const MINUTE_MS = 60_000;

const OK = QUALITIES.indexOf('ok');

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

/** Room for so many buckets, all of them empty. */
export function emptyBuckets(length: number): Buckets {
  return {
    length,
    atMs: new Float64Array(length),
    counts: new Float64Array(length),
    minimums: new Float64Array(length),
    means: new Float64Array(length),
    maximums: new Float64Array(length),
    qualities: new Uint8Array(length),
  };
}

/** What samples, or buckets, sum up to. */
export interface Sum {
  readonly count: number;
  readonly least: number;
  readonly greatest: number;
  /** The first value, and what all together exceed it by: sums of large counters would not be exact. */
  readonly origin: number;
  readonly excess: number;
  /** All are integers. */
  readonly isWhole: boolean;
}

/** NaN of nothing. */
export function meanOf({ count, least, greatest, origin, excess, isWhole }: Sum): number {
  if (count === 0) return Number.NaN;
  const mean = origin + excess / count;
  // Also where infinite values made it no number.
  if (!(mean > least)) return least;
  if (mean > greatest) return greatest;
  // Adding zero turns the negative zero of a rounded mean into the plain one.
  return isWhole ? Math.round(mean) + 0 : mean;
}

/**
 * Of samples with wall times. A time is of the bucket that begins at the multiple of the width at or before it. With `room`, of as many
 * buckets as there may be samples, they lie in its arrays, until it is used again.
 */
export function bucketsOf(samples: Samples, widthMs: number, room?: Buckets): Buckets {
  const ordered = isAscending(samples) ? samples : ascending(samples);
  const buckets = room ?? emptyBuckets(roomFor(ordered, widthMs));
  let length = 0;
  for (let first = 0; first < ordered.length; length++) {
    buckets.atMs[length] = Math.floor((ordered.atMs[first] ?? 0) / widthMs) * widthMs;
    first = fill(buckets, length, { samples: ordered, first, widthMs });
  }
  return firstOf(buckets, length);
}

interface Filling {
  readonly samples: Samples;
  readonly first: number;
  readonly widthMs: number;
}

/** One bucket with the samples from `first` on that are of it; returns which one is not. Locals: this runs for each sample. */
function fill(buckets: Buckets, slot: number, { samples, first, widthMs }: Filling): number {
  const { length, atMs, values, qualities } = samples;
  const untilMs = (buckets.atMs[slot] ?? 0) + widthMs;
  let count = 0;
  let [origin, excess, least, greatest] = [Number.NaN, 0, Number.NaN, Number.NaN];
  let isWhole = true;
  let trouble = OK;
  let i = first;
  for (; i < length; i++) {
    // A bucket has its first sample whatever time that has.
    if ((atMs[i] ?? 0) >= untilMs && i > first) break;
    const quality = qualities[i] ?? OK;
    const value = values[i] ?? 0;
    if (quality !== OK) trouble = quality;
    if (quality !== OK || Number.isNaN(value)) continue;
    if (!Number.isInteger(value)) isWhole = false;
    if (count++ === 0) {
      origin = least = greatest = value;
      continue;
    }
    excess += value - origin;
    if (value < least) least = value;
    if (value > greatest) greatest = value;
  }
  buckets.counts[slot] = count;
  buckets.minimums[slot] = least;
  buckets.maximums[slot] = greatest;
  buckets.means[slot] = meanOf({ count, least, greatest, origin, excess, isWhole });
  buckets.qualities[slot] = trouble;
  return i;
}

function isAscending({ length, atMs }: Samples): boolean {
  for (let i = 1; i < length; i++) if ((atMs[i] ?? 0) < (atMs[i - 1] ?? 0)) return false;
  return true;
}

/** By time; those of one time stay in their order. */
function ascending({ length, atMs, values, qualities }: Samples): Samples {
  const order = Array.from({ length }, (_, i) => i).sort((a, b) => (atMs[a] ?? 0) - (atMs[b] ?? 0));
  return {
    length,
    atMs: Float64Array.from(order, (i) => atMs[i] ?? 0),
    values: Float64Array.from(order, (i) => values[i] ?? Number.NaN),
    qualities: Uint8Array.from(order, (i) => qualities[i] ?? OK),
  };
}

/** No more buckets of that width come of samples in order. */
function roomFor({ length, atMs }: Samples, widthMs: number): number {
  const spanMs = length === 0 ? 0 : (atMs[length - 1] ?? 0) - (atMs[0] ?? 0);
  return Math.min(length, Math.floor(spanMs / widthMs) + 2);
}

/** Shares the memory. */
export function firstOf({ atMs, counts, minimums, means, maximums, qualities }: Buckets, length: number): Buckets {
  return {
    length,
    atMs: atMs.subarray(0, length),
    counts: counts.subarray(0, length),
    minimums: minimums.subarray(0, length),
    means: means.subarray(0, length),
    maximums: maximums.subarray(0, length),
    qualities: qualities.subarray(0, length),
  };
}
