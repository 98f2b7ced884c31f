/** A bucket that refills with time: so many at once, then so many a second. */
import type { Clock } from './clock.js';

export class TokenBucket {
  readonly #clock: Clock;
  readonly #perSecond: number;
  readonly #capacity: number;
  #tokens: number;
  #atMs: number;

  constructor({ clock, perSecond, burst }: { clock: Clock; perSecond: number; burst: number }) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#capacity = burst;
    this.#tokens = burst;
    this.#atMs = clock.monotonicMs();
  }

  /** False when there are not so many: nothing is taken then. */
  take(count: number): boolean {
    const now = this.#clock.monotonicMs();
    this.#tokens = Math.min(this.#capacity, this.#tokens + ((now - this.#atMs) / 1000) * this.#perSecond);
    this.#atMs = now;
    if (this.#tokens < count) return false;
    this.#tokens -= count;
    return true;
  }
}
