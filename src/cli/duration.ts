/** Durations as people type them: 90, 90s, 10m, 2h. */
import { SkosError } from '../core/errors.js';

const SECONDS_PER_UNIT: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, '': 1 };
/** What shall last longer than a day belongs into the config; the agent refuses more too. */
const MAX_SECONDS = 86_400;

/** Seconds. SKOS_CLI_USAGE for anything else. */
export function durationSeconds(text: string): number {
  const [, digits, unit = ''] = /^(\d+)([smh]?)$/.exec(text) ?? [];
  const seconds = Number(digits) * (SECONDS_PER_UNIT[unit] ?? Number.NaN);
  if (Number.isFinite(seconds) && seconds <= MAX_SECONDS) return seconds;
  throw new SkosError(
    'SKOS_CLI_USAGE',
    `"${text}" is not a duration; expected one such as 90s, 10m or 2h, at most 24h`,
  );
}
