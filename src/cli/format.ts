/** How values, times and names look on a terminal. Pure; columns are put together in table.ts. */
import type { ChannelJson } from '../core/channel.js';
import type { Severity } from '../core/vocabulary.js';

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
const HERTZ_UNITS = ['Hz', 'kHz', 'MHz', 'GHz', 'THz'];
const JOULE_UNITS = ['J', 'kJ', 'MJ', 'GJ'];
/** Longest label or message that is shown: a driver may state anything. */
const MAX_TEXT_LENGTH = 400;

/**
 * Text that came from a device or the network, made harmless: control characters could move the cursor, set a title
 * or hide a line.
 */
export function clean(text: string): string {
  const visible = text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?');
  return visible.length > MAX_TEXT_LENGTH ? `${visible.slice(0, MAX_TEXT_LENGTH)}…` : visible;
}

/** "54.0 °C". The unit is that of a channel's JSON. `moreDigits` tells apart what would look the same. */
export function quantityText(value: number, unit: string, moreDigits = 0): string {
  const fixed = (digits: number) => value.toFixed(digits + moreDigits);
  switch (unit) {
    case 'celsius':
      return `${fixed(1)} °C`;
    case 'celsius_per_second':
      return `${fixed(2)} °C/s`;
    case 'ratio':
      return `${(value * 100).toFixed(1 + moreDigits)} %`;
    case 'bytes':
      return scaled(value, 1024, BYTE_UNITS, moreDigits);
    case 'bytes_per_second':
      return `${scaled(value, 1024, BYTE_UNITS, moreDigits)}/s`;
    case 'hertz':
      return scaled(value, 1000, HERTZ_UNITS, moreDigits);
    case 'volts':
      return `${fixed(3)} V`;
    case 'amperes':
      return `${fixed(2)} A`;
    case 'watts':
      return `${fixed(1)} W`;
    case 'joules':
      return scaled(value, 1000, JOULE_UNITS, moreDigits);
    case 'seconds':
      return `${fixed(1)} s`;
    case 'rpm':
      return `${Number(fixed(1))} RPM`;
    case 'bitmask':
      return `0x${Math.round(value).toString(16)}`;
    default:
      return String(Number(fixed(1)));
  }
}

function scaled(value: number, step: number, units: readonly string[], moreDigits: number): string {
  let rest = value;
  let power = 0;
  while (Math.abs(rest) >= step && power < units.length - 1) {
    rest /= step;
    power += 1;
  }
  const digits = rest.toFixed(1 + moreDigits);
  return `${power === 0 ? Number(digits) : digits} ${units[power]}`;
}

/** The value, or why there is none. Never a number for a reading that is not ok. */
export function readingText({ value, unit, quality }: ChannelJson): string {
  return value === null ? quality : quantityText(value, unit);
}

/** "max 80, crit 100": without the unit, which stands beside it in the value. */
export function limitsText({ limits, unit }: ChannelJson): string {
  const short: Readonly<Record<string, string>> = { lowCritical: 'low crit', critical: 'crit', emergency: 'emerg' };
  return Object.entries(limits)
    .map(([name, value]) => `${short[name] ?? name} ${quantityText(value, unit).replace(/(\.0+)? (°C|%|V|A|W)$/, '')}`)
    .join(', ');
}

/** "12 s", "3 min", "2 h 5 min", "4 d 1 h". */
export function spanText(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  return hours % 24 === 0 ? `${hours / 24} d` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function percentText(ppm: number): string {
  return `${Number((ppm / 10_000).toFixed(2))} %`;
}

export function plural(count: number, noun: string, nouns = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : nouns}`;
}

/** UTC, as every payload and the journal's fields have it. */
export function clockText(atMs: number): string {
  return new Date(atMs)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, 'Z');
}

/** Without the date where it is today's. */
export function shortClockText(atMs: number, nowMs: number): string {
  const [date, time = ''] = clockText(atMs).split(' ');
  return date === clockText(nowMs).split(' ')[0] ? time : `${date} ${time}`;
}

export interface Paint {
  readonly bold: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly warn: (text: string) => string;
}

/** ANSI colours, or nothing (NO_COLOR, no terminal). */
export function paint(color: boolean): Paint {
  const wrap = (code: number) => (text: string) => (color && text !== '' ? `\x1b[${code}m${text}\x1b[0m` : text);
  return { bold: wrap(1), dim: wrap(2), good: wrap(32), bad: wrap(31), warn: wrap(33) };
}

export function severityPaint(severity: Severity | null, { good, warn, bad }: Paint): (text: string) => string {
  if (severity === null) return good;
  return severity === 'warning' ? warn : bad;
}
