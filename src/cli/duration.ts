/** Durations as people type them: 90, 90s, 10m, 2h, 3d, 1w. */
import { SkosError } from '../core/errors.js';

const SECONDS_PER_UNIT: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800, '': 1 };
/** What an order to the agent may last: what shall last longer than a day belongs into the config; the agent refuses more too. */
const DAY_SECONDS = 86_400;

/** How far one may look back: longer than anything is kept. */
export const MAX_SINCE_SECONDS = 3_650 * DAY_SECONDS;

/** Seconds. SKOS_CLI_USAGE for anything else, and beyond `maxSeconds`. */
export function durationSeconds(text: string, maxSeconds = DAY_SECONDS): number {
  const [, digits, unit = ''] = /^(\d+)([smhdw]?)$/.exec(text) ?? [];
  const seconds = Number(digits) * (SECONDS_PER_UNIT[unit] ?? Number.NaN);
  if (Number.isFinite(seconds) && seconds <= maxSeconds) return seconds;
  const most = maxSeconds > DAY_SECONDS ? `${maxSeconds / DAY_SECONDS}d` : `${maxSeconds / 3600}h`;
  throw new SkosError(
    'SKOS_CLI_USAGE',
    `"${text}" is not a duration; expected one such as 90s, 10m or 2h, at most ${most}`,
  );
}
