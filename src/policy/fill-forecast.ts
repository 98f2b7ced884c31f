/**
 * How full a file system will be, if it goes on filling as it does now:
 *
 *   1. each minute keeps its last value
 *   2. of the points of the last hour, once they span half an hour, the older and the newer half have a rate each: the median of
 *      (vⱼ − vᵢ) ÷ (tⱼ − tᵢ) over all pairs (Theil–Sen, see slope.ts). The smaller one counts: what is written once, and then no
 *      more, is no trend
 *   3. forecast = value + 4 h × rate while it rises, else the value; at most twice what there is
 *
 * Times are monotonic; nothing is allocated after the construction.
 */
import { sortedMedian } from './median.js';

/** Long enough to be met by a person, short enough to be true. */
export const FORECAST_HOURS = 4;
const POINTS = 60;
const POINT_MS = 60_000;
const MIN_SPAN_MS = 30 * 60_000;
const HOUR_MS = 3_600_000;
/** Beyond it the number says nothing more. */
const MAX_PPM = 2_000_000;

/** Shared: a rate is computed without interruption. */
const pairs = new Float64Array((POINTS * (POINTS - 1)) / 2);
const times = new Float64Array(POINTS);
const values = new Float64Array(POINTS);

export class FillForecast {
  readonly #atMs = new Float64Array(POINTS);
  readonly #values = new Float64Array(POINTS);
  #made = 0;
  #minute = Number.NEGATIVE_INFINITY;
  #value = 0;
  /** Per millisecond; null: not known yet. Of as many points as it was computed from. */
  #rate: number | null = null;
  #rateOf = 0;

  take(value: number, atMs: number): void {
    const minute = Math.floor(atMs / POINT_MS);
    if (minute !== this.#minute) this.#made++;
    this.#minute = minute;
    const at = (this.#made - 1) % POINTS;
    this.#atMs[at] = atMs;
    this.#values[at] = value;
    this.#value = value;
  }

  /** Every point has its own time, and what is old leaves by itself. */
  lost(): void {}

  /** Parts per million of what there is; null while the trend is not known. */
  forecastPpm(nowMs: number): number | null {
    if (this.#made !== this.#rateOf) {
      this.#rate = this.#computed(nowMs);
      this.#rateOf = this.#made;
    }
    if (this.#rate === null) return null;
    return Math.min(MAX_PPM, this.#value + Math.max(0, this.#rate) * FORECAST_HOURS * HOUR_MS);
  }

  /** Once a minute: some hundred pairs. */
  #computed(nowMs: number): number | null {
    let count = 0;
    for (let n = Math.max(0, this.#made - POINTS); n < this.#made; n++) {
      const atMs = this.#atMs[n % POINTS] as number;
      if (nowMs - atMs > HOUR_MS) continue;
      times[count] = atMs;
      values[count++] = this.#values[n % POINTS] as number;
    }
    const spanMs = count === 0 ? 0 : (times[count - 1] as number) - (times[0] as number);
    if (spanMs < MIN_SPAN_MS) return null;
    const half = count >> 1;
    return Math.min(medianSlope(0, half), medianSlope(half, count));
  }
}

/** Of the points from one index to before the other, per millisecond; 0 where there are too few. */
function medianSlope(from: number, to: number): number {
  let count = 0;
  for (let j = from; j < to; j++) {
    for (let i = from; i < j; i++) {
      const ms = (times[j] as number) - (times[i] as number);
      if (ms > 0) pairs[count++] = ((values[j] as number) - (values[i] as number)) / ms;
    }
  }
  return count === 0 ? 0 : sortedMedian(pairs, count);
}
