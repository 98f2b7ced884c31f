/** So many are told one by one in a minute; the rest is counted, and the number told when the minute is over. */
const MINUTE_MS = 60_000;

export class PerMinute {
  readonly #onUntold: (count: number) => void;
  #beganMs = Number.NEGATIVE_INFINITY;
  #told = 0;
  #untold = 0;

  constructor(onUntold: (count: number) => void) {
    this.#onUntold = onUntold;
  }

  /** False: `most` were told in this minute, and this one is counted. */
  mayTell(most: number, nowMs: number): boolean {
    this.tend(nowMs);
    if (this.#told >= most) {
      this.#untold += 1;
      return false;
    }
    this.#told += 1;
    return true;
  }

  tend(nowMs: number): void {
    if (nowMs - this.#beganMs < MINUTE_MS) return;
    const untold = this.#untold;
    this.#beganMs = nowMs;
    this.#told = 0;
    this.#untold = 0;
    if (untold > 0) this.#onUntold(untold);
  }
}
