/**
 * Wall time in the zone of the terminal ($TZ), for what people read and type beside each other. Records, CSV and JSON are in
 * UTC (format.ts).
 */
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** "14:05". */
export function minuteText(date: Date): string {
  return `${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** "14:05:09". */
export function secondText(date: Date): string {
  return `${minuteText(date)}:${two(date.getSeconds())}`;
}

/** "Jan 31". */
export function dayText(date: Date): string {
  return `${monthText(date)} ${date.getDate()}`;
}

export function monthText(date: Date): string {
  return MONTHS[date.getMonth()] ?? '';
}

/** "2026-01-31". */
function dateText(date: Date): string {
  return `${String(date.getFullYear()).padStart(4, '0')}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** "2026-01-31 14:05:09", without the date where it is today's. */
export function localText(atMs: number, nowMs: number): string {
  const date = new Date(atMs);
  const day = dateText(date);
  return day === dateText(new Date(nowMs)) ? secondText(date) : `${day} ${secondText(date)}`;
}

/** "2026-01-31 14:05 – 16:05 UTC+01:00": the date once where it is the same, seconds where there are any. */
export function stretchText({ fromAtMs, toAtMs }: { fromAtMs: number; toAtMs: number }): string {
  const [from, to] = [new Date(fromAtMs), new Date(toAtMs)];
  const hasSeconds = toAtMs - fromAtMs < 600_000;
  const time = hasSeconds ? secondText : minuteText;
  const end = dateText(from) === dateText(to) ? time(to) : `${dateText(to)} ${time(to)}`;
  return `${dateText(from)} ${time(from)} – ${end} ${zoneText(to)}`;
}

/** "UTC", "UTC+05:30". */
export function zoneText(date: Date): string {
  const minutes = -date.getTimezoneOffset();
  if (minutes === 0) return 'UTC';
  const size = Math.abs(minutes);
  return `UTC${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}
