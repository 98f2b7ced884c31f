/**
 * Buckets: what a stretch of samples comes to, at a fixed width of aligned wall time. Seconds and minutes of the time series are
 * buckets, and so are the points of a query.
 *
 * Least, greatest and count are exact however often buckets are merged. A mean of integers is rounded to an integer, half a unit
 * off at most (sums beyond 2 ** 53 aside), so that it stays a value in a canonical unit and costs few bytes; a mean of such means is off by half a unit more for
 * each time that it was merged: a minute made of seconds by one unit at most, a point made of minutes by one and a half. Units are
 * thousandths of a degree, milliwatts, bytes: below what the sensor itself resolves.
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

export function sliceBuckets(buckets: Buckets, from: number, to: number): Buckets {
  const { atMs, counts, minimums, means, maximums, qualities } = buckets;
  return {
    length: to - from,
    atMs: atMs.subarray(from, to),
    counts: counts.subarray(from, to),
    minimums: minimums.subarray(from, to),
    means: means.subarray(from, to),
    maximums: maximums.subarray(from, to),
    qualities: qualities.subarray(from, to),
  };
}

/** Fills buckets one behind the other. What goes into one bucket is summed up here, and rounded once. */
class Filler {
  readonly #into: Buckets;
  #end = -1;
  #atMs = Number.NaN;
  #count = 0;
  #least = 0;
  #greatest = 0;
  /** The sum of what values exceed the first by: sums of large counters would not be exact. */
  #origin = 0;
  #excess = 0;
  #whole = true;
  #quality = OK;

  constructor(capacity: number) {
    this.#into = emptyBuckets(capacity);
  }

  /** What comes next belongs to the bucket of this time. */
  at(atMs: number): void {
    if (atMs === this.#atMs) return;
    this.#close();
    this.#end++;
    this.#atMs = atMs;
    this.#count = 0;
    this.#whole = true;
    this.#quality = OK;
  }

  quality(quality: number): void {
    if (quality !== OK) this.#quality = quality;
  }

  add(count: number, least: number, mean: number, greatest: number): void {
    if (this.#count === 0) {
      this.#origin = mean;
      this.#excess = 0;
      this.#least = least;
      this.#greatest = greatest;
    } else {
      this.#excess += (mean - this.#origin) * count;
      if (least < this.#least) this.#least = least;
      if (greatest > this.#greatest) this.#greatest = greatest;
    }
    this.#count += count;
    if (!Number.isInteger(mean)) this.#whole = false;
  }

  /**
   * Samples from `first` on that are of the bucket, which ends at `untilMs`; returns which one is not. Fields are read once and
   * written once: this runs for each sample, and V8 keeps locals in registers.
   */
  addSamples({ length, atMs, values, qualities }: Samples, first: number, untilMs: number): number {
    const fromMs = this.#atMs;
    let i = first;
    let count = this.#count;
    let [origin, excess, least, greatest] = [this.#origin, this.#excess, this.#least, this.#greatest];
    for (; i < length; i++) {
      const at = atMs[i] ?? 0;
      if (at >= untilMs || at < fromMs) break;
      const quality = qualities[i] ?? OK;
      const value = values[i] ?? 0;
      if (quality !== OK) this.#quality = quality;
      if (quality !== OK || Number.isNaN(value)) continue;
      if (!Number.isInteger(value)) this.#whole = false;
      if (count++ === 0) {
        origin = least = greatest = value;
        excess = 0;
        continue;
      }
      excess += value - origin;
      if (value < least) least = value;
      if (value > greatest) greatest = value;
    }
    this.#count = count;
    this.#origin = origin;
    this.#excess = excess;
    this.#least = least;
    this.#greatest = greatest;
    return i;
  }

  done(): Buckets {
    this.#close();
    return sliceBuckets(this.#into, 0, this.#end + 1);
  }

  #close(): void {
    const i = this.#end;
    if (i < 0) return;
    const { atMs, counts, minimums, means, maximums, qualities } = this.#into;
    const empty = this.#count === 0;
    atMs[i] = this.#atMs;
    counts[i] = this.#count;
    minimums[i] = empty ? Number.NaN : this.#least;
    maximums[i] = empty ? Number.NaN : this.#greatest;
    means[i] = empty ? Number.NaN : this.#mean();
    qualities[i] = this.#quality;
  }

  #mean(): number {
    const mean = this.#origin + this.#excess / this.#count;
    // Also where infinite values made it no number.
    if (!(mean > this.#least)) return this.#least;
    if (mean > this.#greatest) return this.#greatest;
    // Adding zero turns the negative zero of a rounded mean into the plain one.
    return this.#whole ? Math.round(mean) + 0 : mean;
  }
}

/** Of samples with wall times. A time is of the bucket that begins at the multiple of the width at or before it. */
export function bucketsOf(samples: Samples, widthMs: number): Buckets {
  const { length, atMs } = samples;
  const ordered = inOrder(samples);
  const filler = new Filler(ordered ? roomFor(samples, widthMs) : length);
  for (let i = 0; i < length; ) {
    const fromMs = Math.floor((atMs[i] ?? 0) / widthMs) * widthMs;
    filler.at(fromMs);
    i = filler.addSamples(samples, i, fromMs + widthMs);
  }
  const buckets = filler.done();
  return ordered ? buckets : mergeBuckets([buckets]);
}

function inOrder({ length, atMs }: Samples): boolean {
  for (let i = 1; i < length; i++) if ((atMs[i] ?? 0) < (atMs[i - 1] ?? 0)) return false;
  return true;
}

/** So many buckets of that width come of what is in order. */
function roomFor({ length, atMs }: Pick<Buckets, 'length' | 'atMs'>, widthMs: number): number {
  const spanMs = length === 0 ? 0 : (atMs[length - 1] ?? 0) - (atMs[0] ?? 0);
  return Math.min(length, Math.floor(spanMs / widthMs) + 2);
}

/** Sorted by time; buckets of one time become one, those of later parts counting as the later. */
export function mergeBuckets(parts: readonly Buckets[]): Buckets {
  const all = joined(parts);
  if (ascending(all)) return all;
  const { length, atMs } = all;
  // Stable: of one time the order of the parts remains.
  const order = Array.from({ length }, (_, i) => i).sort((a, b) => (atMs[a] ?? 0) - (atMs[b] ?? 0));
  const filler = new Filler(length);
  for (const i of order) put(filler, all, i, atMs[i] ?? 0);
  return filler.done();
}

/** To a width that is a multiple of the present one. */
export function coarser(buckets: Buckets, widthMs: number): Buckets {
  const { length, atMs } = buckets;
  const filler = new Filler(roomFor(buckets, widthMs));
  for (let i = 0; i < length; i++) put(filler, buckets, i, Math.floor((atMs[i] ?? 0) / widthMs) * widthMs);
  return filler.done();
}

function put(filler: Filler, { counts, minimums, means, maximums, qualities }: Buckets, i: number, atMs: number): void {
  filler.at(atMs);
  filler.quality(qualities[i] ?? OK);
  const count = counts[i] ?? 0;
  if (count > 0) filler.add(count, minimums[i] ?? 0, means[i] ?? 0, maximums[i] ?? 0);
}

function joined(parts: readonly Buckets[]): Buckets {
  const [only] = parts;
  if (only !== undefined && parts.length === 1) return only;
  const all = emptyBuckets(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.atMs.set(part.atMs.subarray(0, part.length), at);
    all.counts.set(part.counts.subarray(0, part.length), at);
    all.minimums.set(part.minimums.subarray(0, part.length), at);
    all.means.set(part.means.subarray(0, part.length), at);
    all.maximums.set(part.maximums.subarray(0, part.length), at);
    all.qualities.set(part.qualities.subarray(0, part.length), at);
    at += part.length;
  }
  return all;
}

function ascending({ length, atMs }: Buckets): boolean {
  for (let i = 1; i < length; i++) if ((atMs[i] ?? 0) <= (atMs[i - 1] ?? 0)) return false;
  return true;
}
