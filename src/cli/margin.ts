/** How far a temperature is from the limits that its device states. Pure; the numbers are those of a channel's JSON. */
import type { ChannelJson } from '../core/channel.js';

/** Limits that bound from above, in the words of a table. */
const UPPER_LIMITS: Readonly<Record<string, string>> = { max: 'max', critical: 'crit', emergency: 'emerg' };

export interface Margin {
  /** Short name of the limit. */
  readonly limit: string;
  readonly limitCelsius: number;
  /** Negative: the limit is exceeded. */
  readonly leftCelsius: number;
}

/**
 * To the nearest upper limit while none is exceeded; otherwise to the highest of those that are: what was crossed already
 * matters more than what is left to the next one.
 */
export function temperatureMargin({ quantity, value, limits }: ChannelJson): Margin | undefined {
  if (quantity !== 'temperature' || value === null) return undefined;
  const margins = Object.entries(limits)
    .filter(([name]) => Object.hasOwn(UPPER_LIMITS, name))
    .map(([name, limit]) => ({ limit: UPPER_LIMITS[name] ?? name, limitCelsius: limit, leftCelsius: limit - value }))
    .sort((a, b) => a.limitCelsius - b.limitCelsius);
  const exceeded = margins.filter(({ leftCelsius }) => leftCelsius < 0);
  return exceeded.at(-1) ?? margins[0];
}

/** "26 to max", "4 over crit". Tenths only where they matter: below ten degrees. */
export function marginText({ limit, leftCelsius }: Margin): string {
  const distance = Math.abs(leftCelsius);
  const degrees = distance < 10 ? Number(distance.toFixed(1)) : Math.round(distance);
  return leftCelsius < 0 ? `${degrees} over ${limit}` : `${degrees} to ${limit}`;
}
