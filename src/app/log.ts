/**
 * The log of one program: to journald when there is one, else to standard error (pino's JSON, or readable lines on a
 * terminal). It never throws and never blocks, whatever the journal or the reader of standard error does.
 *
 * Which one: SKOS_JOURNAL_SOCKET names a socket (tests, containers); else the system's journal when standard error is
 * connected to it, which is what JOURNAL_STREAM says (systemd.exec(5)).
 */
import { fstatSync } from 'node:fs';
import { type Clock, systemClock } from '../core/clock.js';
import type { Log, LogFields } from '../core/ports.js';
import { LOG_LEVELS, type LogLevel } from '../core/vocabulary.js';
import { type HeldBack, LogBounds, WINDOW_MS } from './log-bounds.js';
import type { LogEntry, LogSink } from './log-entry.js';
import { type JournalSend, journalSink } from './log-journal.js';
import { jsonSink, lineWriter, prettySink, stderrIsTerminal } from './log-stderr.js';

export type LogIdentifier = 'skos-agent' | 'skos-net';

export interface LogOptions {
  readonly identifier: LogIdentifier;
  readonly node: string;
  readonly level: LogLevel;
  /** Absent: findJournalSocket(). null: no journal. */
  readonly journalSocket?: string | null;
  /** The addon's journalSend. Absent (addon not loaded): no journal. */
  readonly journalSend?: JournalSend;
  /** Absent: pretty on a terminal, else json. */
  readonly format?: 'json' | 'pretty';
  /** Where lines go; absent: standard error. For tests. */
  readonly stderrFd?: number;
  readonly clock?: Clock;
}

export interface AdjustableLog extends Log {
  readonly level: LogLevel;
  setLevel(level: LogLevel): void;
}

const SYSTEM_JOURNAL = '/run/systemd/journal/socket';

export function createLog(options: LogOptions): AdjustableLog {
  const clock = options.clock ?? systemClock;
  const sink = chooseSink(options);
  const bounds = new LogBounds();
  let threshold = LOG_LEVELS.indexOf(options.level);
  let timer: NodeJS.Timeout | undefined;

  const sayHeldBack = (held: HeldBack) => sink(heldBackEntry(held, clock.wallMs()));

  // Without a further line nobody would ever say what was held back.
  const closeWindowLater = () => {
    if (timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      bounds.roll(clock.monotonicMs(), sayHeldBack);
    }, WINDOW_MS);
    timer.unref();
  };

  const at = (level: LogLevel) => {
    const rank = LOG_LEVELS.indexOf(level);
    return (message: string, fields: LogFields = {}) => {
      if (rank < threshold) return;
      const entry: LogEntry = { level, message, fields, atMs: clock.wallMs() };
      if (bounds.admit(entry, clock.monotonicMs(), sayHeldBack)) sink(entry);
      else closeWindowLater();
    };
  };

  return {
    trace: at('trace'),
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    fatal: at('fatal'),
    get level() {
      return LOG_LEVELS[threshold] ?? 'info';
    },
    setLevel(level) {
      threshold = LOG_LEVELS.indexOf(level);
    },
  };
}

/** The journal's socket of this process, or null. */
export function findJournalSocket(env: Readonly<Record<string, string | undefined>> = process.env): string | null {
  if (env.SKOS_JOURNAL_SOCKET) return env.SKOS_JOURNAL_SOCKET;
  return stderrIsJournal(env.JOURNAL_STREAM) ? SYSTEM_JOURNAL : null;
}

/**
 * JOURNAL_STREAM is "device:inode" of the stream that systemd connected. It is inherited by children whose standard
 * error was redirected since, so it counts only when it names our descriptor 2.
 */
function stderrIsJournal(stream: string | undefined): boolean {
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(2, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    return false; // Descriptor 2 is closed.
  }
}

function chooseSink(options: LogOptions): LogSink {
  const socketPath = options.journalSocket === undefined ? findJournalSocket() : options.journalSocket;
  const { journalSend: send, identifier, node } = options;
  const stderr = stderrSink(options);
  if (socketPath === null || send === undefined) return stderr;
  // A standard error that is itself the journal's would block exactly when the journal does not answer.
  const fallback = stderrIsJournal(process.env.JOURNAL_STREAM) ? () => undefined : stderr;
  return journalSink({ socketPath, send, identifier, node, fallback });
}

function stderrSink({ identifier, node, format, stderrFd }: LogOptions): LogSink {
  const writer = lineWriter(stderrFd ?? 2);
  const pretty = format === undefined ? stderrIsTerminal() : format === 'pretty';
  if (!pretty) return jsonSink({ identifier, node, writer });
  return prettySink({ writer, colour: stderrIsTerminal() && !process.env.NO_COLOR });
}

function heldBackEntry({ count, sample }: HeldBack, atMs: number): LogEntry {
  const { event: of, error: _error, code: _code, ...fields } = sample.fields;
  return {
    level: 'warn',
    message: `${count} more like this were held back: ${sample.message}`,
    fields: { ...fields, event: 'log.suppressed', suppressed: count, of },
    atMs,
  };
}
