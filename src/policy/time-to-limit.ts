/**
 * How long until a temperature reaches its limit, if it goes on rising as it does now:
 *
 *   time = (limit − value) ÷ slope      while slope ≥ 0.15 °C/s
 *   time = 0                            at or above the limit, whatever the slope
 *
 * A forecast of nothing is no number: while the temperature does not rise there is no time, rather than a huge one.
 */

/**
 * Noise floor. Most sensors speak in whole degrees; a single step of one degree within the 10 s of the slope gives up to
 * 0.125 °C/s for a moment (the median of 20 pairs of slope 0 and 25 across the step lies at 1/8). A real rise as slow as that
 * leaves minutes, and the ladder meets it degree by degree.
 */
const MIN_SLOPE_MILLI_CELSIUS_PER_SECOND = 150;
/** Nobody waits an hour for a slope of ten seconds. */
export const MAX_TIME_TO_LIMIT_MS = 3_600_000;

export interface Rise {
  readonly valueMilliCelsius: number;
  readonly limitMilliCelsius: number;
  /** null: not known yet. */
  readonly slopeMilliCelsiusPerSecond: number | null;
}

/** Milliseconds, at most MAX_TIME_TO_LIMIT_MS; null while there is none. */
export function timeToLimitMs({
  valueMilliCelsius,
  limitMilliCelsius,
  slopeMilliCelsiusPerSecond: slope,
}: Rise): number | null {
  const margin = limitMilliCelsius - valueMilliCelsius;
  if (margin <= 0) return 0;
  // Written so that NaN is no rise.
  if (slope === null || !(slope >= MIN_SLOPE_MILLI_CELSIUS_PER_SECOND)) return null;
  return Math.min(Math.round((margin / slope) * 1000), MAX_TIME_TO_LIMIT_MS);
}
