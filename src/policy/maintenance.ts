/**
 * Maintenance windows: while one is open, no repair begins by itself. Absolute ones have two moments; weekly ones a day, a time of
 * the local time zone and a length. Pure, of (windows, wall time); the time zone is the process's.
 *
 * Where the clocks change, a weekly window begins at its time on the wall (a time that the change leaves out: as much later as
 * the change is long) and lasts its minutes.
 */

import type { MaintenanceWindow } from '../config/maintenance.js';
import { WINDOW_DAYS } from '../core/vocabulary.js';

const MINUTE_MS = 60_000;

export interface OpenWindow {
  readonly name: string;
  readonly untilAtMs: number;
}

/** The window that is open now, of several the one that closes last. */
export function openWindow(windows: readonly MaintenanceWindow[], wallMs: number): OpenWindow | undefined {
  let last: OpenWindow | undefined;
  for (const window of windows) {
    for (const [fromAtMs, toAtMs] of spans(window, wallMs)) {
      const isOpen = fromAtMs <= wallMs && wallMs < toAtMs;
      if (isOpen && (last === undefined || toAtMs > last.untilAtMs)) last = { name: window.name, untilAtMs: toAtMs };
    }
  }
  return last;
}

/** Those that may reach this moment. */
function spans(window: MaintenanceWindow, wallMs: number): [number, number][] {
  if ('fromAtMs' in window) return [[window.fromAtMs, window.toAtMs]];
  return [0, 1].flatMap((daysAgo) => {
    const now = new Date(wallMs);
    const begin = new Date(now.getFullYear(), now.getMonth(), now.getDate() - daysAgo, 0, window.startMinute);
    const day = new Date(now.getFullYear(), now.getMonth(), now.getDate() - daysAgo).getDay();
    if (window.day !== 'daily' && WINDOW_DAYS.indexOf(window.day) - 1 !== day) return [];
    return [[begin.getTime(), begin.getTime() + window.minutes * MINUTE_MS] as [number, number]];
  });
}
