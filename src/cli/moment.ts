/** Moments and stretches of time as people type them, in the time zone of their terminal ($TZ). Pure but for that zone. */
import { SkosError } from '../core/errors.js';
import { durationSeconds, MAX_SINCE_SECONDS } from './duration.js';

const DEFAULT_SINCE = '1h';
const DAY_MS = 86_400_000;

const CLOCK = /^(\d{1,2}):(\d{2})(?::(\d{2}))?$/;
const DATE_TIME =
  /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3})\d*)?)?(Z|[+-]\d{2}:?\d{2})?)?$/;

export interface Stretch {
  readonly fromAtMs: number;
  readonly toAtMs: number;
}

interface StretchText {
  readonly since: string | undefined;
  readonly from: string | undefined;
  readonly until: string | undefined;
}

/**
 * The stretch that these options mean; without any, the last hour. A time of day is the latest one that is past, except that
 * --until comes after --from. SKOS_CLI_USAGE says what was expected.
 */
export function stretchOf({ since, from, until }: StretchText, nowMs: number): Stretch {
  if (since !== undefined && from !== undefined) {
    throw new SkosError('SKOS_CLI_USAGE', '--since and --from both say where to begin: give one of them');
  }
  const latestEnd = until === undefined ? nowMs : momentMs('until', until, nowMs);
  if (from === undefined) {
    const sinceMs = durationSeconds(since ?? DEFAULT_SINCE, MAX_SINCE_SECONDS) * 1000;
    if (sinceMs === 0) throw new SkosError('SKOS_CLI_USAGE', '--since 0 is no time at all');
    return { fromAtMs: Math.max(0, latestEnd - sinceMs), toAtMs: latestEnd };
  }
  const isDay = until !== undefined && CLOCK.test(until);
  const fromAtMs = momentMs('from', from, isDay ? nowMs : latestEnd);
  const toAtMs = isDay && latestEnd <= fromAtMs ? nextDayMs(latestEnd, fromAtMs) : latestEnd;
  if (toAtMs > fromAtMs) return { fromAtMs, toAtMs };
  const end = until === undefined ? 'now' : `--until ${until}`;
  throw new SkosError('SKOS_CLI_USAGE', `--from ${from} is not before ${end}`);
}

/** `nowMs`: a time of day is the latest one that is not after it. */
function momentMs(option: string, text: string, nowMs: number): number {
  const found = timeOfDayMs(text, nowMs) ?? dateTimeMs(text);
  if (found !== undefined && found >= 0) return found;
  throw new SkosError(
    'SKOS_CLI_USAGE',
    `--${option} "${text}" is not a time; expected HH:MM, or ISO 8601 such as 2026-01-31, 2026-01-31T14:05 or ` +
      '2026-01-31T14:05:00Z (local time, where it names no zone)',
  );
}

function timeOfDayMs(text: string, nowMs: number): number | undefined {
  const [, hour, minute, second = '0'] = CLOCK.exec(text) ?? [];
  if (hour === undefined || Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return undefined;
  const today = new Date(nowMs);
  const at = (day: number) =>
    new Date(today.getFullYear(), today.getMonth(), day, Number(hour), Number(minute), Number(second)).getTime();
  return at(today.getDate()) <= nowMs ? at(today.getDate()) : at(today.getDate() - 1);
}

/** The same time of day, as many days later as it takes to come after `afterMs`: a day may have 23 or 25 hours. */
function nextDayMs(atMs: number, afterMs: number): number {
  const date = new Date(atMs);
  date.setDate(date.getDate() + Math.max(0, Math.floor((afterMs - atMs) / DAY_MS)));
  while (date.getTime() <= afterMs) date.setDate(date.getDate() + 1);
  return date.getTime();
}

function dateTimeMs(text: string): number | undefined {
  const match = DATE_TIME.exec(text);
  if (match === null) return undefined;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match
    .slice(1, 7)
    .map((each) => Number(each ?? 0));
  const ms = Number((match[7] ?? '').padEnd(3, '0'));
  const utcMs = Date.UTC(year, month - 1, day, hour, minute, second, ms);
  // February the 30th would become a day of March.
  const date = new Date(utcMs);
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day || hour > 23 || minute > 59 || second > 59) {
    return undefined;
  }
  const zone = match[8];
  if (zone === undefined) return new Date(year, month - 1, day, hour, minute, second, ms).getTime();
  if (zone === 'Z') return utcMs;
  const [hours, minutes] = [Number(zone.slice(1, 3)), Number(zone.slice(-2))];
  if (hours > 23 || minutes > 59) return undefined;
  return utcMs - (zone.startsWith('-') ? -1 : 1) * (hours * 60 + minutes) * 60_000;
}
