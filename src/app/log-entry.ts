/** What a line of the log is made of, and how an error becomes text in it. Shared by the sinks. */
import { reason, SkosError } from '../core/errors.js';
import type { LogFields } from '../core/ports.js';
import type { LogLevel } from '../core/vocabulary.js';

export interface LogEntry {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields;
  readonly atMs: number;
}

export type LogSink = (entry: LogEntry) => void;

/** Chains of causes longer than this are a loop or say nothing new. */
const MAX_CAUSES = 4;

/** The error and its causes, innermost last: "cannot open store: IO error: No space left on device". */
export function errorText(error: unknown): string {
  const texts: string[] = [];
  let current: unknown = error;
  for (let i = 0; i <= MAX_CAUSES && current !== undefined && current !== null; i++) {
    const text = reason(current);
    if (!texts.some((known) => known.includes(text))) texts.push(text);
    current = current instanceof Error ? current.cause : undefined;
  }
  return texts.join(': ');
}

/** The message as people read it: with the reason behind it, unless the message already says it. */
export function fullMessage({ message, fields }: LogEntry): string {
  if (fields.error === undefined) return message;
  const text = errorText(fields.error);
  return message.includes(text) ? message : `${message}: ${text}`;
}

/** The entry's code, else the code of its error. */
export function codeOf(fields: LogFields): string | undefined {
  return fields.code ?? (fields.error instanceof SkosError ? fields.error.code : undefined);
}

/**
 * Where a programming error comes from: the trace of its innermost cause. undefined for operating errors, which have a code
 * (ours or the system's) and whose origin says nothing to an operator.
 */
export function stackOf(error: unknown): string | undefined {
  let innermost = error;
  for (let i = 0; i < MAX_CAUSES && innermost instanceof Error && innermost.cause instanceof Error; i++) {
    innermost = innermost.cause;
  }
  return innermost instanceof Error && !('code' in innermost) ? innermost.stack : undefined;
}
