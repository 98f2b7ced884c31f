/**
 * Log lines on standard error: pino's JSON, or one readable line each on a terminal.
 *
 * Standard error may be a pipe that nobody reads; a blocking write would then stop protection. So the descriptor is
 * opened anew without blocking, which does not touch whoever shares it, and lines wait in a bounded queue.
 */
import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { pino } from 'pino';
import type { LogLevel } from '../core/vocabulary.js';
import { codeOf, errorText, fullMessage, type LogEntry, type LogSink, stackOf } from './log-entry.js';
import { valueText } from './log-journal.js';

/** About a thousand lines: what a reader that was stopped for a moment may still want. */
export const MAX_QUEUED_BYTES = 256 * 1024;
const RETRY_MS = 100;

export interface LineWriter {
  write(line: string): void;
  close(): void;
}

/** Writes lines to `fd` and never blocks on it; what does not fit the queue is counted and said. */
export function lineWriter(fd: number): LineWriter {
  const own = openWithoutBlocking(fd);
  const queue: Buffer[] = [];
  let queuedBytes = 0;
  let lost = 0;
  let timer: NodeJS.Timeout | undefined;

  const push = (line: string) => {
    const bytes = Buffer.from(line);
    if (queuedBytes + bytes.length > MAX_QUEUED_BYTES) {
      lost++;
      return;
    }
    queue.push(bytes);
    queuedBytes += bytes.length;
  };

  const flush = () => {
    for (let next = queue[0]; next !== undefined; next = queue[0]) {
      const written = tryWrite(own ?? fd, next);
      if (written === undefined) {
        // Nobody will ever read: keep nothing. The journal, if any, has its own way.
        queue.length = 0;
        queuedBytes = 0;
        return;
      }
      queuedBytes -= written;
      if (written < next.length) {
        queue[0] = next.subarray(written);
        timer ??= setTimeout(again, RETRY_MS).unref();
        return;
      }
      queue.shift();
    }
    if (lost === 0) return;
    const line = `${lost} log lines are lost: standard error was not read\n`;
    lost = 0;
    push(line);
    flush();
  };

  const again = () => {
    timer = undefined;
    flush();
  };

  return {
    write(line) {
      push(line);
      flush();
    },
    close() {
      clearTimeout(timer);
      if (own !== undefined) closeSync(own);
    },
  };
}

/** undefined where it cannot be opened anew: a socket, or a terminal of another user. */
function openWithoutBlocking(fd: number): number | undefined {
  try {
    // A regular file never blocks for a reader, and its shared offset must stay shared (`2>file` without O_APPEND).
    if (fstatSync(fd).isFile()) return undefined;
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return undefined;
  }
}

/** Bytes written, 0 when the reader is slow, undefined when there is no reader any more. */
function tryWrite(fd: number, bytes: Buffer): number | undefined {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EAGAIN' ? 0 : undefined;
  }
}

/** JSON by pino, one object a line: level, time, name (skos-agent), node, msg, and the fields. */
export function jsonSink({
  identifier,
  node,
  writer,
}: {
  identifier: string;
  node: string;
  writer: LineWriter;
}): LogSink {
  const logger = pino(
    {
      level: 'trace',
      base: { name: identifier, node },
      timestamp: false,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write: (line: string) => writer.write(line) },
  );
  return (entry) => {
    const { error, ...fields } = entry.fields;
    const code = codeOf(entry.fields);
    const stack = stackOf(error);
    const plain = {
      time: new Date(entry.atMs).toISOString(),
      ...fields,
      ...(code === undefined ? {} : { code }),
      ...(error === undefined ? {} : { error: errorText(error) }),
      ...(stack === undefined ? {} : { stack }),
    };
    logger[entry.level](plain, entry.message);
  };
}

const COLOUR: Readonly<Record<LogLevel, string>> = {
  trace: '\u001b[90m',
  debug: '\u001b[90m',
  info: '\u001b[32m',
  warn: '\u001b[33m',
  error: '\u001b[31m',
  fatal: '\u001b[35m',
};
const NO_COLOUR = '\u001b[0m';

/** `12:01:02 WARN  message key=value …`, in local time. */
export function prettySink({ writer, colour }: { writer: LineWriter; colour: boolean }): LogSink {
  return (entry) => writer.write(`${prettyLine(entry, colour)}\n`);
}

/** A programming error is followed by its trace, indented. */
export function prettyLine(entry: LogEntry, colour = false): string {
  const { error, code: _code, ...fields } = entry.fields;
  const name = entry.level.toUpperCase().padEnd(5);
  const level = colour ? `${COLOUR[entry.level]}${name}${NO_COLOUR}` : name;
  const code = codeOf(entry.fields);
  const all = code === undefined ? fields : { ...fields, code };
  const pairs = Object.entries(all)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([key, value]) => ` ${key}=${quoted(valueText(value))}`);
  return `${localTime(entry.atMs)} ${level} ${visible(fullMessage(entry))}${pairs.join('')}${trace(error)}`;
}

function trace(error: unknown): string {
  const frames = stackOf(error)?.split('\n').slice(1) ?? [];
  return frames.map((frame) => `\n    ${visible(frame.trim())}`).join('');
}

function localTime(atMs: number): string {
  const at = new Date(atMs);
  const two = (n: number) => String(n).padStart(2, '0');
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

function quoted(value: string): string {
  return /^[\x21\x23-\x7e]+$/.test(value) ? value : visible(JSON.stringify(value));
}

/** Labels come from firmware and topics from strangers: no control character of theirs reaches the terminal. */
function visible(text: string): string {
  return text.replace(/\p{Cc}/gu, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

export function stderrIsTerminal(): boolean {
  return isatty(2);
}
