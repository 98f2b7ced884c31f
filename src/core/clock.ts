/**
 * Time, injected. Decisions use the monotonic clock (never goes back, unaffected by NTP or a dead CMOS battery);
 * wall time is for people and carries the suffix `AtMs`.
 */
export interface Clock {
  /** Milliseconds since an arbitrary point, CLOCK_MONOTONIC as the native sampler stamps its readings. */
  monotonicMs(): number;
  /** Milliseconds since the Unix epoch. For people and file names only. */
  wallMs(): number;
}

export const systemClock: Clock = {
  // process.hrtime() is CLOCK_MONOTONIC on Linux: the same origin as the sampler's time stamps.
  monotonicMs: () => {
    const [seconds, nanoseconds] = process.hrtime();
    return seconds * 1000 + nanoseconds / 1e6;
  },
  wallMs: () => Date.now(),
};

/** ISO 8601 UTC, the `timestamp` of every payload. */
export function isoTimestamp(wallMs: number): string {
  return new Date(wallMs).toISOString();
}
