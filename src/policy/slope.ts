/**
 * Rate of rise of a temperature, which neither a spike nor the steps of a coarse sensor can fake.
 *
 *   1. the samples of each second become one point: their median, at the mean of their times
 *   2. slope = median of (vⱼ − vᵢ) ÷ (tⱼ − tᵢ) over all pairs of points of the last 10 s, if there are at least 5 points
 *
 * This is the Theil–Sen estimator (P. K. Sen, JASA 63, 1968): up to 29 % of the points may be arbitrarily wrong. Ten points
 * are 45 pairs. Times are monotonic; nothing is allocated after the construction.
 */
import { sortedMedian } from './median.js';

/** Long enough for a sensor in whole degrees to say something, short enough to follow a GPU that is loaded. */
const SLOPE_WINDOW_S = 10;
/** Below it a single wrong point would decide. */
const MIN_SLOPE_POINTS = 5;

const SECOND_MS = 1000;
/** Of one second: the median of so many tells as much as that of a thousand. */
const MAX_PER_SECOND = 32;

/** Shared: a slope is computed without interruption. */
const pairs = new Float64Array((SLOPE_WINDOW_S * (SLOPE_WINDOW_S - 1)) / 2);

export class SlopeWindow {
  readonly #second = new Float64Array(MAX_PER_SECOND);
  readonly #pointMs = new Float64Array(SLOPE_WINDOW_S);
  readonly #points = new Float64Array(SLOPE_WINDOW_S);
  /** Points ever made; the latest ones are in the rings. */
  #made = 0;
  #secondNumber = 0;
  #inSecond = 0;
  #timesMs = 0;
  #lastMs = 0;
  /** The latest answer, and what it was asked for: the rate of rise and the time to the limit want the same one. */
  #answer: number | null = null;
  #answeredMs = Number.NaN;
  #answeredOf = 0;

  take(value: number, atMs: number): void {
    const number = Math.floor(atMs / SECOND_MS);
    if (number !== this.#secondNumber) this.#closeSecond();
    if (this.#inSecond > 0 && atMs - this.#lastMs < SECOND_MS / MAX_PER_SECOND) return;
    if (this.#inSecond >= MAX_PER_SECOND) return;
    this.#secondNumber = number;
    this.#lastMs = atMs;
    this.#second[this.#inSecond++] = value;
    this.#timesMs += atMs;
  }

  /** A gap is none of the slope's concern: every point has its own time, and what is old leaves by itself. */
  lost(): void {}

  /** Units of the value per second; null while there are too few points. */
  slopePerSecond(nowMs: number): number | null {
    if (Math.floor(nowMs / SECOND_MS) > this.#secondNumber) this.#closeSecond();
    if (nowMs !== this.#answeredMs || this.#made !== this.#answeredOf) {
      this.#answer = this.#computed(nowMs);
      this.#answeredMs = nowMs;
      this.#answeredOf = this.#made;
    }
    return this.#answer;
  }

  #computed(nowMs: number): number | null {
    const fromMs = nowMs - SLOPE_WINDOW_S * SECOND_MS;
    const ring = Math.min(this.#made, SLOPE_WINDOW_S);
    let points = 0;
    let count = 0;
    for (let j = 0; j < ring; j++) {
      const tj = this.#pointMs[j] as number;
      if (tj < fromMs || tj > nowMs) continue;
      points++;
      for (let i = 0; i < j; i++) {
        const ti = this.#pointMs[i] as number;
        if (ti < fromMs || ti > nowMs || ti === tj) continue;
        pairs[count++] = (((this.#points[j] as number) - (this.#points[i] as number)) / (tj - ti)) * SECOND_MS;
      }
    }
    return points < MIN_SLOPE_POINTS ? null : sortedMedian(pairs, count);
  }

  #closeSecond(): void {
    if (this.#inSecond === 0) return;
    const at = this.#made++ % SLOPE_WINDOW_S;
    this.#pointMs[at] = this.#timesMs / this.#inSecond;
    this.#points[at] = sortedMedian(this.#second, this.#inSecond);
    this.#inSecond = 0;
    this.#timesMs = 0;
  }
}
