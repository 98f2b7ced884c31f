/**
 * How long a GPU that was under load has not been read. One that is at rest when its driver hangs does not heat; of one that worked
 * nobody knows.
 */

/** Of its time at work. Below it a GPU idles, or shows a desktop. */
const LOADED_PPM = 100_000;
/** Load comes and goes within a job. */
const LOADED_WITHIN_MS = 60_000;

/** When a channel was read last. */
export class LastSeen {
  #atMs = Number.NaN;

  take(_value: number, atMs: number): void {
    this.#atMs = atMs;
  }

  lost(): void {}

  /** NaN: never. */
  get atMs(): number {
    return this.#atMs;
  }
}

/** When a GPU was under load last. */
export class LastLoad {
  #atMs = Number.NaN;

  take(utilizationPpm: number, atMs: number): void {
    if (utilizationPpm >= LOADED_PPM) this.#atMs = atMs;
  }

  lost(): void {}

  /** NaN: never. */
  get atMs(): number {
    return this.#atMs;
  }
}

/** Milliseconds since it was read; 0 when it is read, or was at rest; null when it was never read. */
export function blindMs(given: { isRead: boolean; seenMs: number; loadedMs: number; nowMs: number }): number | null {
  const { isRead, seenMs, loadedMs, nowMs } = given;
  if (isRead) return 0;
  if (Number.isNaN(seenMs)) return null;
  return loadedMs >= seenMs - LOADED_WITHIN_MS ? Math.max(0, nowMs - seenMs) : 0;
}
