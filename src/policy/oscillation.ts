/**
 * How often one ladder can raise the same rung at most: the rate above which a cap that comes and goes is a fault. Pure.
 *
 * A rung that was entered is left no sooner than one keep later (its below-run begins behind the sample that entered it), and is
 * entered again no sooner than its raise condition takes (whose samples lie behind the one that ended the keep). Those two steps
 * from sample to sample are not counted, because samples jitter. So two entries of one rung lie at least
 *
 *   spacing = keep + max(for.seconds, (for.samples − 1) periods)
 *
 * apart. It is damped besides: more than FLAP_COUNT entries of one rung within FLAP_WINDOW_MS make the ladder flap until it clears, and
 * a rung is then held for a multiple of keep (flapKeepMs). Of n entries within that window only the first FLAP_COUNT are spaced as above, every
 * later one is followed by the longer hold, hence
 *
 *   n ≤ FLAP_COUNT + 1 + floor((FLAP_WINDOW − FLAP_COUNT spacing) / spacing with the longer hold).
 *
 * With the defaults (keep 10 s, 2 samples at 10 Hz): 10.1 s apart, at most 14 within ten minutes, on whichever rung.
 */
import { FLAP_COUNT, FLAP_WINDOW_MS, flapKeepMs } from './ladder.js';
import type { Rule } from './rule.js';

type Times = Pick<Rule, 'keepMs' | 'forMs' | 'forSamples'>;

/** Between two entries of one rung. */
export function leastSpacingMs({ keepMs, forMs, forSamples }: Times, periodMs: number): number {
  return keepMs + Math.max(forMs, (forSamples - 1) * periodMs);
}

/** Entries of one rung within FLAP_WINDOW_MS. */
export function mostEntries(times: Times, periodMs: number): number {
  const spacingMs = leastSpacingMs(times, periodMs);
  const dampedMs = leastSpacingMs({ ...times, keepMs: flapKeepMs(times.keepMs) }, periodMs);
  const restMs = FLAP_WINDOW_MS - FLAP_COUNT * spacingMs;
  // So long a keep that not even the undamped ones fit.
  if (restMs < 0) return undampedEntries(times, periodMs);
  return FLAP_COUNT + 1 + Math.floor(restMs / dampedMs);
}

function undampedEntries(times: Times, periodMs: number): number {
  // Without a keep a rung may come and go with every other sample.
  return 1 + Math.floor(FLAP_WINDOW_MS / Math.max(leastSpacingMs(times, periodMs), periodMs));
}
