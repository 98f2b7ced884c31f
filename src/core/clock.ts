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

/** Reads of the two clocks that are further apart were interrupted. */
const MOST_APART_MS = 0.1;
const MOST_TRIES = 5;

/**
 * What is added to a monotonic time to make it wall time. Both clocks are read, and a process may lose the processor in
 * between, for tens of milliseconds on a busy machine: then they are read again, and the closest pair counts.
 */
export function wallOffsetMs(clock: Clock): number {
  let best = { apartMs: Infinity, offsetMs: 0 };
  for (let n = 0; n < MOST_TRIES && best.apartMs > MOST_APART_MS; n++) {
    const beforeMs = clock.monotonicMs();
    const wallMs = clock.wallMs();
    const apartMs = clock.monotonicMs() - beforeMs;
    if (apartMs < best.apartMs) best = { apartMs, offsetMs: wallMs - beforeMs };
  }
  return best.offsetMs;
}

/** ISO 8601 UTC, the `timestamp` of every payload. */
export function isoTimestamp(wallMs: number): string {
  return new Date(wallMs).toISOString();
}
