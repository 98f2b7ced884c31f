/**
 * The stored form of a record, {"v":1,"record":{…}}, and the report of those that cannot be read.
 *
 * A record that is damaged, or of a later version than this program knows, is passed over: it is neither guessed at nor in the way
 * of the others. It is named once, with the beginning of what stands there, so that nothing disappears unseen.
 */
import { reason } from '../core/errors.js';
import type { Log } from '../core/ports.js';

/** Keys that are remembered as reported; a database with more damage than this has been reported enough. */
const MAX_REPORTED = 1_000;
/** Of the bytes of an unreadable record, in the message. */
const SHOWN_CHARACTERS = 200;

export function recordText(version: number, record: unknown): string {
  return JSON.stringify({ v: version, record });
}

export type Found = { readonly version: number; readonly record: unknown } | { readonly fault: string };

/** Reads what recordText() made. JSON of another form is the record itself, of version 1: format 1 of the database had those. */
export function parseRecord(value: Buffer): Found {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value.toString('utf8'));
  } catch (error) {
    return { fault: reason(error) };
  }
  if (typeof parsed !== 'object' || parsed === null) return { fault: 'it is no object' };
  if (!('v' in parsed && 'record' in parsed)) return { version: 1, record: parsed };
  const { v, record } = parsed;
  if (typeof v !== 'number' || !Number.isInteger(v) || v < 1) return { fault: 'its version is no number' };
  if (typeof record !== 'object' || record === null) return { fault: 'it holds no object' };
  return { version: v, record };
}

export function isTooNew(version: number, known: number): string | undefined {
  return version > known ? `it has version ${version}, and this program knows ${known}` : undefined;
}

/** Says each key once. */
export class FaultReport {
  readonly #log: Log;
  readonly #said = new Set<string>();

  constructor(log: Log) {
    this.#log = log;
  }

  say({ key, value, fault }: { key: Buffer; value: Buffer; fault: string }): void {
    // Keys hold text and numbers; what is no printable ASCII is shown as its byte.
    const name = key
      .toString('latin1')
      .replaceAll(/[^ -~]/g, (byte) => `~${byte.charCodeAt(0).toString(16).padStart(2, '0')}`);
    if (this.#said.has(name) || this.#said.size >= MAX_REPORTED) return;
    this.#said.add(name);
    this.#log.error(`The record ${name} is passed over: ${fault}`, {
      event: 'store.damaged',
      code: 'SKOS_STORE_READ',
      found: value.toString('utf8').slice(0, SHOWN_CHARACTERS),
    });
  }
}
