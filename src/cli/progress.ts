/**
 * How far a long command is: one line that is written over where standard error is a terminal, a plain line every some seconds
 * where it is not, nothing where a program reads the answer. The pace is that of the last seconds, so that a stall shows.
 */
import type { Io } from './command.js';
import { quantityText, spanText } from './format.js';

/** Faster than anybody reads. */
const REDRAW_EVERY_MS = 100;
/** A log keeps these lines. */
const LINE_EVERY_MS = 5_000;
const PACE_OVER_MS = 5_000;
/** Before that, the time that is left is a guess. */
const ETA_AFTER_MS = 1_000;
const BAR_WIDTH = 20;
const CLEAR_LINE = '\r\x1b[2K';

export interface State {
  /** What is being done: "verifying". */
  readonly what: string;
  /** 0 to 1; null: not known. */
  readonly fraction: number | null;
  /** Done so far; the pace is counted in these. null: nothing that could be counted. */
  readonly bytes: number | null;
}

interface ProgressOptions {
  readonly io: Pick<Io, 'err' | 'overwrite' | 'columns'>;
  /** Says nothing. */
  readonly quiet?: boolean;
  readonly monotonicMs?: () => number;
}

export class Progress {
  readonly #io: ProgressOptions['io'];
  readonly #quiet: boolean;
  readonly #now: () => number;
  #what = '';
  #startMs = 0;
  #shownMs = Number.NEGATIVE_INFINITY;
  #marks: { readonly atMs: number; readonly bytes: number }[] = [];
  #isDrawn = false;

  constructor({ io, quiet = false, monotonicMs = () => performance.now() }: ProgressOptions) {
    this.#io = io;
    this.#quiet = quiet;
    this.#now = monotonicMs;
  }

  /** Call as often as it comes. */
  show(state: State): void {
    if (this.#quiet) return;
    const nowMs = this.#now();
    if (state.what !== this.#what) this.#begin(state.what, nowMs);
    this.#mark(nowMs, state.bytes);
    const everyMs = this.#io.overwrite === undefined ? LINE_EVERY_MS : REDRAW_EVERY_MS;
    if (nowMs - this.#shownMs < everyMs) return;
    this.#shownMs = nowMs;
    const text = progressText({ ...state, elapsedMs: nowMs - this.#startMs, bytesPerSecond: this.#pace() });
    if (this.#io.overwrite === undefined) this.#io.err(text);
    else this.#io.overwrite(`${CLEAR_LINE}${text.slice(0, Math.max(1, this.#io.columns - 1))}`);
    this.#isDrawn = true;
  }

  /** Takes the line away. Idempotent; show() may follow. */
  clear(): void {
    if (this.#isDrawn) this.#io.overwrite?.(CLEAR_LINE);
    this.#isDrawn = false;
  }

  /** A stage that takes no time is not shown where lines stay. */
  #begin(what: string, nowMs: number): void {
    this.#what = what;
    this.#startMs = nowMs;
    this.#marks = [];
    this.#shownMs = this.#io.overwrite === undefined ? nowMs : Number.NEGATIVE_INFINITY;
  }

  #mark(atMs: number, bytes: number | null): void {
    if (bytes === null) return;
    const last = this.#marks.at(-1);
    // Some marks a second are enough, and bound the list.
    if (last === undefined || atMs - last.atMs >= REDRAW_EVERY_MS) this.#marks.push({ atMs, bytes });
    while (this.#marks.length > 2 && atMs - (this.#marks[0]?.atMs ?? 0) > PACE_OVER_MS) this.#marks.shift();
  }

  #pace(): number | null {
    const [first, last] = [this.#marks[0], this.#marks.at(-1)];
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return null;
    return Math.max(0, ((last.bytes - first.bytes) * 1000) / (last.atMs - first.atMs));
  }
}

export interface Shown extends State {
  readonly elapsedMs: number;
  readonly bytesPerSecond: number | null;
}

/** "verifying [########            ]  41 %, 12.3 MiB, 8.1 MiB/s, 12 s left". */
export function progressText({ what, fraction, bytes, bytesPerSecond, elapsedMs }: Shown): string {
  const known = fraction === null ? null : Math.min(1, Math.max(0, fraction));
  const parts: string[] = [];
  if (bytes !== null) parts.push(quantityText(bytes, 'bytes'));
  if (bytesPerSecond !== null) parts.push(quantityText(Math.round(bytesPerSecond), 'bytes_per_second'));
  if (known !== null && known > 0 && elapsedMs >= ETA_AFTER_MS) {
    parts.push(`${spanText((elapsedMs * (1 - known)) / known)} left`);
  }
  const head = known === null ? what : `${what} ${bar(known)} ${String(Math.floor(known * 100)).padStart(3)} %`;
  return [head, ...parts].join(', ');
}

function bar(fraction: number): string {
  const full = Math.floor(fraction * BAR_WIDTH);
  return `[${'#'.repeat(full)}${' '.repeat(BAR_WIDTH - full)}]`;
}
