/**
 * Bounds the rate of the log: a flapping sensor or a client in a loop must not fill the journal, whose own rate limit would
 * then drop the lines that matter. What is held back is counted and said afterwards.
 *
 * Nothing durable depends on it: alerts, actions and the audit chain are stored elsewhere, whole.
 */
import type { LogEntry } from './log-entry.js';

export const WINDOW_MS = 60_000;
/** Lines per kind of event, channel and rule in one window. An alert that goes through all its states takes six. */
export const MAX_PER_WINDOW = 20;
/** trace and debug in one window, all together: 100 a second, what a terminal can show and journald takes by default. */
const MAX_DETAIL_PER_WINDOW = 6_000;
/** Kinds that are counted at once. Beyond it the rest share one count, so that garbage names cannot grow the map. */
export const MAX_KINDS = 1_024;

const DETAIL = 'detail';
const OTHERS = 'others';

interface Count {
  passed: number;
  held: number;
  sample: LogEntry;
}

export interface HeldBack {
  readonly count: number;
  /** The last one that was held back. */
  readonly sample: LogEntry;
}

export class LogBounds {
  private counts = new Map<string, Count>();
  private windowEndMs = Number.NEGATIVE_INFINITY;

  /** True when the entry may pass. `held` is called first for what an earlier window held back. */
  admit(entry: LogEntry, nowMs: number, held: (heldBack: HeldBack) => void): boolean {
    this.roll(nowMs, held);
    if (entry.level === 'fatal') return true;
    const count = this.count(entry);
    const limit = isDetail(entry) ? MAX_DETAIL_PER_WINDOW : MAX_PER_WINDOW;
    if (count.passed < limit) {
      count.passed++;
      return true;
    }
    count.held++;
    count.sample = entry;
    return false;
  }

  /** Begins a new window when the old one is over, and reports what it held back. */
  roll(nowMs: number, held: (heldBack: HeldBack) => void): void {
    if (nowMs < this.windowEndMs) return;
    const past = this.counts;
    this.counts = new Map();
    this.windowEndMs = nowMs + WINDOW_MS;
    for (const { held: count, sample } of past.values()) if (count > 0) held({ count, sample });
  }

  private count(entry: LogEntry): Count {
    const kind = kindOf(entry);
    const key = this.counts.has(kind) || this.counts.size < MAX_KINDS ? kind : OTHERS;
    let count = this.counts.get(key);
    if (count === undefined) {
      count = { passed: 0, held: 0, sample: entry };
      this.counts.set(key, count);
    }
    return count;
  }
}

function isDetail({ level }: LogEntry): boolean {
  return level === 'trace' || level === 'debug';
}

function kindOf(entry: LogEntry): string {
  if (isDetail(entry)) return DETAIL;
  const { event, channel, rule } = entry.fields;
  // NUL cannot be part of a channel id or a rule's name, so that two kinds never share a key.
  return event === undefined ? `message\0${entry.message}` : `event\0${event}\0${channel ?? ''}\0${rule ?? ''}`;
}
