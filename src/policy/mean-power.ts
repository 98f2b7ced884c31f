/**
 * Power from a counter of energy: the difference quotient ΔE ÷ Δt over at least a second, since counters move in steps of
 * their own (some milliseconds to a tenth of a second), which a shorter time would turn into noise.
 *
 * A counter that falls was reset or has wrapped around; how far it had gone is not known, so that there is no power until the
 * next second is over.
 */

/** Against counters that are updated ten times a second this is an error of a tenth at most. */
const MIN_QUOTIENT_MS = 1000;

export class MeanPower {
  #energyMilliJoules = 0;
  #atMs = Number.NaN;
  #powerMilliWatts: number | null = null;

  take(energyMilliJoules: number, atMs: number): void {
    const elapsedMs = atMs - this.#atMs;
    const spent = energyMilliJoules - this.#energyMilliJoules;
    // NaN compares false: the first reading is where the first difference begins. So is one whose time runs backwards.
    if (elapsedMs >= 0 && spent >= 0) {
      if (elapsedMs < MIN_QUOTIENT_MS) return;
      // mJ ÷ s = mW.
      this.#powerMilliWatts = (spent / elapsedMs) * 1000;
    } else this.#powerMilliWatts = null;
    this.#energyMilliJoules = energyMilliJoules;
    this.#atMs = atMs;
  }

  /** A reading without a value: what was spent meanwhile belongs to no known time. */
  lost(): void {
    this.#atMs = Number.NaN;
    this.#powerMilliWatts = null;
  }

  powerMilliWatts(): number | null {
    return this.#powerMilliWatts;
  }
}
