/**
 * Log lines as native journald entries: fields, not text, so that `journalctl SKOS_RULE=… -o json` finds them.
 * Format: https://systemd.io/JOURNAL_NATIVE_PROTOCOL. The datagram itself is made by the addon (journalSend).
 *
 * journald may be gone (restarting) or full. The send does not block; what it refuses is kept, up to a bound, and tried
 * again each second; while that lasts each line also goes to the fallback.
 */
import type { LogLevel } from '../core/vocabulary.js';
import { messageId } from './journal-events.js';
import { codeOf, errorText, fullMessage, type LogEntry, type LogSink, stackOf } from './log-entry.js';

/** Sends one datagram, never blocks; 0 or an errno. */
export type JournalSend = (socketPath: string, fields: Record<string, string>) => number;

export interface JournalOptions {
  readonly socketPath: string;
  readonly send: JournalSend;
  readonly identifier: string;
  readonly node: string;
  readonly fallback: LogSink;
}

/** A restart of journald takes a second or two; at the highest rate that the log admits this holds about that much. */
export const MAX_KEPT = 512;
export const RETRY_MS = 1_000;
/** A datagram must fit the socket's send buffer (212,992 bytes by default) with all its fields. */
export const MAX_VALUE_BYTES = 16 * 1024;
/** journald refuses entries with more than 1,024 fields; ours have about fifteen. */
const MAX_FIELDS = 64;
/** journald's own limit for the name of a field. */
const MAX_NAME_LENGTH = 64;

/** syslog priorities. crit is what journald broadcasts to terminals only when told so; emerg and alert always. */
const PRIORITY: Readonly<Record<LogLevel, string>> = {
  fatal: '2',
  error: '3',
  warn: '4',
  info: '6',
  debug: '7',
  trace: '7',
};

export function journalSink(options: JournalOptions): LogSink {
  const kept: Record<string, string>[] = [];
  let lost = 0;
  let timer: NodeJS.Timeout | undefined;

  const send = (fields: Record<string, string>) => options.send(options.socketPath, fields) === 0;

  const keep = (fields: Record<string, string>) => {
    if (kept.length >= MAX_KEPT) {
      kept.shift();
      lost++;
    }
    kept.push(fields);
    timer ??= setInterval(retry, RETRY_MS).unref();
  };

  const retry = () => {
    for (let next = kept[0]; next !== undefined; next = kept[0]) {
      if (!send(next)) return;
      kept.shift();
    }
    clearInterval(timer);
    timer = undefined;
    if (lost > 0) send(lostFields(options, lost));
    lost = 0;
  };

  return (entry) => {
    const fields = journalFields(entry, options);
    // Order is kept: behind lines that wait, a new one waits too.
    if (kept.length === 0 && send(fields)) return;
    keep(fields);
    options.fallback(entry);
  };
}

type Identity = Pick<JournalOptions, 'identifier' | 'node'>;

function journalFields(entry: LogEntry, { identifier, node }: Identity): Record<string, string> {
  const { event, code: _code, error, ...others } = entry.fields;
  const code = codeOf(entry.fields);
  const text = fullMessage(entry);
  const fields: Record<string, string> = {
    MESSAGE: bounded(code === undefined ? text : `${text} [${code}]`),
    PRIORITY: PRIORITY[entry.level],
    SYSLOG_IDENTIFIER: identifier,
    SKOS_NODE: node,
  };
  const id = event === undefined ? undefined : messageId(event);
  if (id !== undefined) fields.MESSAGE_ID = id;
  if (event !== undefined) fields.SKOS_EVENT = bounded(event);
  if (code !== undefined) fields.SKOS_CODE = code;
  if (error !== undefined) fields.SKOS_ERROR = bounded(errorText(error));
  const stack = stackOf(error);
  if (stack !== undefined) fields.SKOS_STACK = bounded(stack);
  addOthers(fields, others);
  return fields;
}

function addOthers(fields: Record<string, string>, others: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(others)) {
    if (value === undefined || value === null || Object.keys(fields).length >= MAX_FIELDS) continue;
    const field = fieldName(name);
    // The fixed fields are the contract; a field of a caller never replaces one.
    if (!Object.hasOwn(fields, field)) fields[field] = bounded(valueText(value));
  }
}

/** auditSeq → SKOS_AUDIT_SEQ. journald takes capitals, digits and underscores only. */
function fieldName(name: string): string {
  const upper = name.replace(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase();
  return `SKOS_${upper.replace(/[^A-Z0-9_]/g, '_')}`.slice(0, MAX_NAME_LENGTH);
}

/** A field's value as one string; whatever JSON cannot say (a cycle, a BigInt) as String says it. */
export function valueText(value: unknown): string {
  if (typeof value === 'string') return value;
  if (value instanceof Error) return errorText(value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}

function bounded(text: string): string {
  if (Buffer.byteLength(text) <= MAX_VALUE_BYTES) return text;
  const mark = ' … (cut)';
  const cut = Buffer.from(text).subarray(0, MAX_VALUE_BYTES - Buffer.byteLength(mark) - 3);
  // A character that was cut in two decodes as U+FFFD, which takes up to three bytes: the room left above.
  return cut.toString('utf8') + mark;
}

function lostFields({ identifier, node }: Identity, lost: number): Record<string, string> {
  const message = `${lost} log lines are lost: the journal did not take them in time`;
  const entry: LogEntry = { level: 'warn', message, fields: { event: 'log.suppressed', suppressed: lost }, atMs: 0 };
  return journalFields(entry, { identifier, node });
}
