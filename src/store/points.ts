/**
 * Points: buckets of one width over one stretch of time, summed up from whatever comes, in whatever order: buckets of a tier, samples
 * that are in no tier yet. A slot for each, so that nothing is sorted and a sum is rounded once.
 */
import { QUALITIES } from '../core/channel.js';
import { type Buckets, emptyBuckets, firstOf, MINUTE_MS, meanOf, SECOND_MS } from './buckets.js';
import type { Samples } from './chunk.js';

const OK = QUALITIES.indexOf('ok');
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** Widths that people read at a glance. Each divides a day, and those from a minute on are whole minutes. */
export const STEPS_MS: readonly number[] = [
  ...[1, 2, 5, 10, 15, 30].map((seconds) => seconds * SECOND_MS),
  ...[1, 2, 5, 10, 15, 30].map((minutes) => minutes * MINUTE_MS),
  ...[1, 2, 3, 6, 12].map((hours) => hours * HOUR_MS),
];
/** Of days, as they go on without end: 1, 2, 5, 10, 20, 50 … */
const DAY_STEPS: readonly number[] = [1, 2, 5];

/** Half-open, wall time. */
export interface Stretch {
  readonly fromMs: number;
  readonly toMs: number;
}

/** The stretch, widened to multiples of the step. */
export function widened({ fromMs, toMs }: Stretch, stepMs: number): Stretch {
  return { fromMs: Math.floor(fromMs / stepMs) * stepMs, toMs: Math.ceil(toMs / stepMs) * stepMs };
}

/** The smallest round step of which no more than `points` cover the stretch. From 1970 on there always is one. */
export function stepFor(stretch: Stretch, points: number): number {
  const fits = (stepMs: number) => {
    const { fromMs, toMs } = widened(stretch, stepMs);
    return (toMs - fromMs) / stepMs <= points;
  };
  const short = STEPS_MS.find(fits);
  if (short !== undefined) return short;
  for (let scaleMs = DAY_MS; ; scaleMs *= 10) {
    const long = DAY_STEPS.map((days) => days * scaleMs).find(fits);
    if (long !== undefined) return long;
  }
}

export class Points {
  readonly stretch: Stretch;
  readonly stepMs: number;
  readonly #length: number;
  readonly #seen: Uint8Array;
  readonly #counts: Float64Array;
  readonly #minimums: Float64Array;
  readonly #maximums: Float64Array;
  /** A mean is that of its first part, and what the others exceed it by: sums of large counters would not be exact. */
  readonly #origins: Float64Array;
  readonly #excesses: Float64Array;
  readonly #fractions: Uint8Array;
  readonly #qualities: Uint8Array;
  /** Of the latest that was not ok. */
  readonly #troubleAtMs: Float64Array;

  /** The stretch is from one multiple of the step to another. */
  constructor(stretch: Stretch, stepMs: number) {
    const length = Math.max(0, Math.round((stretch.toMs - stretch.fromMs) / stepMs));
    this.stretch = stretch;
    this.stepMs = stepMs;
    this.#length = length;
    this.#seen = new Uint8Array(length);
    this.#counts = new Float64Array(length);
    this.#minimums = new Float64Array(length);
    this.#maximums = new Float64Array(length);
    this.#origins = new Float64Array(length);
    this.#excesses = new Float64Array(length);
    this.#fractions = new Uint8Array(length);
    this.#qualities = new Uint8Array(length).fill(OK);
    this.#troubleAtMs = new Float64Array(length).fill(Number.NEGATIVE_INFINITY);
  }

  /** Those that begin within the stretch. Of a width that divides the step. */
  addBuckets(buckets: Buckets, { fromMs, toMs }: Stretch = this.stretch): void {
    const { length, atMs, counts, minimums, means, maximums, qualities } = buckets;
    for (let i = 0; i < length; i++) {
      const at = atMs[i] ?? 0;
      if (at < fromMs || at >= toMs) continue;
      const slot = this.#slot(at, qualities[i] ?? OK);
      const count = counts[i] ?? 0;
      if (slot >= 0 && count > 0) this.#add(slot, count, minimums[i] ?? 0, means[i] ?? 0, maximums[i] ?? 0);
    }
  }

  /** Those within the stretch, with wall times. */
  addSamples({ length, atMs, values, qualities }: Samples, { fromMs, toMs }: Stretch = this.stretch): void {
    for (let i = 0; i < length; i++) {
      const at = atMs[i] ?? 0;
      if (at < fromMs || at >= toMs) continue;
      const quality = qualities[i] ?? OK;
      const slot = this.#slot(at, quality);
      const value = values[i] ?? Number.NaN;
      if (slot >= 0 && quality === OK && !Number.isNaN(value)) this.#add(slot, 1, value, value, value);
    }
  }

  /** What came together, in the order of time; a point without any sample is left out. */
  buckets(): Buckets {
    let length = 0;
    for (let slot = 0; slot < this.#length; slot++) length += this.#seen[slot] ?? 0;
    const buckets = emptyBuckets(length);
    const { atMs, counts, minimums, means, maximums, qualities } = buckets;
    let i = 0;
    for (let slot = 0; slot < this.#length; slot++) {
      if (this.#seen[slot] === 0) continue;
      const count = this.#counts[slot] ?? 0;
      atMs[i] = this.stretch.fromMs + slot * this.stepMs;
      counts[i] = count;
      minimums[i] = count === 0 ? Number.NaN : (this.#minimums[slot] ?? 0);
      means[i] = this.#mean(slot);
      maximums[i] = count === 0 ? Number.NaN : (this.#maximums[slot] ?? 0);
      qualities[i] = this.#qualities[slot] ?? OK;
      i++;
    }
    return buckets;
  }

  /** -1 outside. */
  #slot(atMs: number, quality: number): number {
    const slot = Math.floor((atMs - this.stretch.fromMs) / this.stepMs);
    if (!(slot >= 0 && slot < this.#length)) return -1;
    this.#seen[slot] = 1;
    if (quality !== OK && atMs >= (this.#troubleAtMs[slot] ?? 0)) {
      this.#troubleAtMs[slot] = atMs;
      this.#qualities[slot] = quality;
    }
    return slot;
  }

  #add(slot: number, count: number, least: number, mean: number, greatest: number): void {
    const before = this.#counts[slot] ?? 0;
    if (before === 0) {
      this.#origins[slot] = mean;
      this.#minimums[slot] = least;
      this.#maximums[slot] = greatest;
    } else {
      this.#excesses[slot] = (this.#excesses[slot] ?? 0) + (mean - (this.#origins[slot] ?? 0)) * count;
      if (least < (this.#minimums[slot] ?? 0)) this.#minimums[slot] = least;
      if (greatest > (this.#maximums[slot] ?? 0)) this.#maximums[slot] = greatest;
    }
    this.#counts[slot] = before + count;
    if (!Number.isInteger(mean)) this.#fractions[slot] = 1;
  }

  #mean(slot: number): number {
    return meanOf({
      count: this.#counts[slot] ?? 0,
      least: this.#minimums[slot] ?? 0,
      greatest: this.#maximums[slot] ?? 0,
      origin: this.#origins[slot] ?? 0,
      excess: this.#excesses[slot] ?? 0,
      isWhole: this.#fractions[slot] === 0,
    });
  }
}

/** In each minute the one of more samples: see Tiers. Both in the order of time. */
export function fuller(kept: Buckets, fresh: Buckets): Buckets {
  const picked = emptyBuckets(kept.length + fresh.length);
  let length = 0;
  let k = 0;
  for (let f = 0; f < fresh.length; f++) {
    const at = fresh.atMs[f] ?? 0;
    while (k < kept.length && (kept.atMs[k] ?? 0) < at) copy(kept, k++, { to: picked, at: length++ });
    const isThere = k < kept.length && kept.atMs[k] === at;
    if (isThere && (kept.counts[k] ?? 0) > (fresh.counts[f] ?? 0)) copy(kept, k, { to: picked, at: length++ });
    else copy(fresh, f, { to: picked, at: length++ });
    if (isThere) k++;
  }
  while (k < kept.length) copy(kept, k++, { to: picked, at: length++ });
  return firstOf(picked, length);
}

function copy(from: Buckets, i: number, { to, at }: { to: Buckets; at: number }): void {
  to.atMs[at] = from.atMs[i] ?? 0;
  to.counts[at] = from.counts[i] ?? 0;
  to.minimums[at] = from.minimums[i] ?? Number.NaN;
  to.means[at] = from.means[i] ?? Number.NaN;
  to.maximums[at] = from.maximums[i] ?? Number.NaN;
  to.qualities[at] = from.qualities[i] ?? OK;
}
