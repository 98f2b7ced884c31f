/**
 * Share of the last minute in which a device was throttled, in parts per million, from either of two witnesses:
 *
 *   flags     samples with a reason that counts ÷ samples, second by second, over the last 60 s
 *   counter   Δ(time spent throttled) ÷ Δt over the last 60 s; the device counts what no sample sees
 *
 * Both need 10 s: the first reading after a start must not be "100 %" because one sample was so. A counter that falls
 * was reset, and everything before is forgotten.
 */

const SHARE_WINDOW_S = 60;
const MIN_SHARE_S = 10;

const PPM = 1_000_000;
const SECOND_MS = 1000;
const TWO_TO_32 = 2 ** 32;

/** Whether a bit outside `ignored` (of the low 32) is set. Reasons are 64 bits wide, of which a number holds 53. */
export function hasReason(flags: number, ignored: number): boolean {
  return Math.floor(flags / TWO_TO_32) !== 0 || ((flags >>> 0) & ~ignored) !== 0;
}

/** Bits of a bitmask: the low 32, and those from bit 32 on. */
export interface Bits {
  readonly low: number;
  readonly high: number;
}

export function hasAnyOf(flags: number, { low, high }: Bits): boolean {
  return (Math.floor(flags / TWO_TO_32) & high) !== 0 || ((flags >>> 0) & low) !== 0;
}

/** Samples of a bitmask. One slot a second, so that memory does not grow with the rate. */
export class FlagShare {
  readonly #counts: number | Bits;
  readonly #seconds = new Float64Array(SHARE_WINDOW_S);
  readonly #samples = new Uint16Array(SHARE_WINDOW_S);
  readonly #hits = new Uint16Array(SHARE_WINDOW_S);

  /** Bits that are no throttling, or those that alone count. */
  constructor(counts: number | Bits) {
    this.#counts = counts;
    this.#seconds.fill(Number.NEGATIVE_INFINITY);
  }

  take(flags: number, atMs: number): void {
    const second = Math.floor(atMs / SECOND_MS);
    const slot = ((second % SHARE_WINDOW_S) + SHARE_WINDOW_S) % SHARE_WINDOW_S;
    if (this.#seconds[slot] !== second) {
      this.#seconds[slot] = second;
      this.#samples[slot] = 0;
      this.#hits[slot] = 0;
    }
    this.#samples[slot] = (this.#samples[slot] as number) + 1;
    const hits = typeof this.#counts === 'number' ? hasReason(flags, this.#counts) : hasAnyOf(flags, this.#counts);
    if (hits) this.#hits[slot] = (this.#hits[slot] as number) + 1;
  }

  /** Nobody looked: that second counts neither way. */
  lost(): void {}

  sharePpm(nowMs: number): number | null {
    const now = Math.floor(nowMs / SECOND_MS);
    let seconds = 0;
    let share = 0;
    for (let slot = 0; slot < SHARE_WINDOW_S; slot++) {
      const age = now - (this.#seconds[slot] as number);
      if (age < 0 || age >= SHARE_WINDOW_S) continue;
      seconds++;
      share += (this.#hits[slot] as number) / (this.#samples[slot] as number);
    }
    return seconds < MIN_SHARE_S ? null : Math.round((share / seconds) * PPM);
  }
}

/** Points kept of a counter; with one each five seconds they reach over the window. */
const POINT_EVERY_MS = 5_000;
const POINTS = SHARE_WINDOW_S / (POINT_EVERY_MS / SECOND_MS) + 1;

/** A counter of milliseconds. */
export class CounterShare {
  readonly #atMs = new Float64Array(POINTS);
  readonly #countsMs = new Float64Array(POINTS);
  /** Points ever kept. */
  #kept = 0;
  #lastMs = Number.NaN;
  #lastCountMs = 0;

  take(countMs: number, atMs: number): void {
    if (countMs < this.#lastCountMs || atMs < this.#lastMs) this.#kept = 0;
    const newest = (this.#kept + POINTS - 1) % POINTS;
    if (this.#kept === 0 || atMs - (this.#atMs[newest] as number) >= POINT_EVERY_MS) {
      const at = this.#kept++ % POINTS;
      this.#atMs[at] = atMs;
      this.#countsMs[at] = countMs;
    }
    this.#lastMs = atMs;
    this.#lastCountMs = countMs;
  }

  /** The counter goes on while nobody looks: the next reading tells of the gap, too. */
  lost(): void {}

  sharePpm(nowMs: number): number | null {
    const from = this.#oldestWithin(nowMs);
    if (from === undefined) return null;
    const elapsedMs = this.#lastMs - (this.#atMs[from] as number);
    if (elapsedMs < MIN_SHARE_S * SECOND_MS) return null;
    const share = (this.#lastCountMs - (this.#countsMs[from] as number)) / elapsedMs;
    // The device's clock and ours differ a little, and some count several CPUs in one.
    return Math.round(Math.min(1, share) * PPM);
  }

  #oldestWithin(nowMs: number): number | undefined {
    for (let n = Math.max(0, this.#kept - POINTS); n < this.#kept; n++) {
      if ((this.#atMs[n % POINTS] as number) >= nowMs - SHARE_WINDOW_S * SECOND_MS) return n % POINTS;
    }
    return undefined;
  }
}
