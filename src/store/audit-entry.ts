/**
 * The form of an audit entry, and its verification. Pure: it works on a live store, a copy and an exported file alike.
 *
 * An entry is the object {atMs, hash, kind, previous, seq, what, who}. Its canonical form is RFC 8785 (canonical.ts) in
 * UTF-8; `hash` is the lower-case hex SHA-256 of the canonical form of the entry without `hash`; `previous` is the hash
 * of the entry before it, 64 zeros for seq 1. On disk and in an export an entry is its canonical form, byte for byte:
 *
 *   {"atMs":1704067200000,"hash":"…","kind":"action.start","previous":"…","seq":7,"what":{…},"who":"agent"}
 *
 * Where the record does not continue what was acknowledged (a database that had to be set aside, entries lost to a bad
 * disk or to somebody's hands), the chain goes on with an entry of kind `audit.restart`, whose `what` holds `known`, the
 * last head that was known. It takes the next number after it and links to its hash, so that numbers are never used
 * twice. As the first entry of a chain it is a beginning; anywhere else it states a loss, and verification says so.
 */
import { createHash } from 'node:crypto';
import { reason } from '../core/errors.js';
import type { AuditEntry, AuditHead, AuditInput, AuditVerdict } from '../core/ports.js';
import { canonicalJson } from './canonical.js';

const NO_HASH = '0'.repeat(64);
export const GENESIS: AuditHead = Object.freeze({ seq: 0, hash: NO_HASH });
export const RESTART_KIND = 'audit.restart';

/** An entry whose canonical form is larger keeps its kind and who, and says how large it was: MQTT carries 64 KiB. */
export const MAX_WHAT_BYTES = 48 * 1024;

/** What is known of an entry before it has its place in the chain; the texts are canonical JSON. */
export interface Draft {
  readonly atMs: number;
  readonly kind: string;
  readonly who: string;
  readonly what: string;
  readonly bytes: number;
}

/** Never throws: what cannot be written down is replaced by a statement of that, so that the fact itself is kept. */
export function draft(input: AuditInput, atMs: number): Draft {
  let what: string;
  try {
    what = canonicalJson(input.what);
    const bytes = Buffer.byteLength(what);
    if (bytes > MAX_WHAT_BYTES) what = canonicalJson({ notRecorded: `${bytes} bytes, more than ${MAX_WHAT_BYTES}` });
  } catch (error) {
    what = canonicalJson({ notRecorded: reason(error) });
  }
  const [kind, who] = [JSON.stringify(String(input.kind)), JSON.stringify(String(input.who))];
  return { atMs: Math.round(atMs), kind, who, what, bytes: what.length + kind.length + who.length + 250 };
}

export interface Sealed {
  readonly head: AuditHead;
  /** The canonical form. */
  readonly text: string;
}

/** Gives the draft its place: the entry after `head`. */
export function seal({ atMs, kind, who, what }: Draft, head: AuditHead): Sealed {
  const seq = head.seq + 1;
  const rest = `"kind":${kind},"previous":"${head.hash}","seq":${seq},"what":${what},"who":${who}}`;
  const hash = sha256(`{"atMs":${atMs},${rest}`);
  return { head: { seq, hash }, text: `{"atMs":${atMs},"hash":"${hash}",${rest}` };
}

/** Reads a canonical form. Returns what is wrong with it instead, where something is. */
export function parseEntry(text: string | Uint8Array): AuditEntry | string {
  let entry: unknown;
  try {
    const decoded =
      typeof text === 'string' ? text : new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(text);
    entry = JSON.parse(decoded);
    if (canonicalJson(entry) !== decoded) return 'is not in canonical form';
  } catch {
    return 'is not a JSON text';
  }
  return shapeFault(entry) ?? (entry as AuditEntry);
}

function shapeFault(entry: unknown): string | undefined {
  if (typeof entry !== 'object' || entry === null) return 'is not an object';
  const { seq, atMs, kind, who, what, previous, hash } = entry as Record<string, unknown>;
  const whole =
    Number.isSafeInteger(seq) &&
    Number.isSafeInteger(atMs) &&
    typeof kind === 'string' &&
    typeof who === 'string' &&
    typeof what === 'object' &&
    what !== null &&
    isHash(previous) &&
    isHash(hash);
  return whole ? undefined : 'lacks a member, or one has the wrong type';
}

export function isHash(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
}

/** What the hash of the entry should be. */
function entryHash(entry: AuditEntry): string {
  const { hash: _, ...rest } = entry;
  return sha256(canonicalJson(rest));
}

function sha256(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex');
}

export interface VerifyOptions {
  /** Where the entries begin: the head before the first. Absent: at the beginning of a chain. */
  readonly after?: AuditHead;
  /** A head that the chain must contain, as a peer, the journal or the mark beside the database holds it. */
  readonly known?: AuditHead;
}

/** Checks a chain entry by entry. Feed it in order; ask for the verdict at the end. */
export class ChainVerifier {
  #head: AuditHead | undefined;
  #entries = 0;
  #bad: { firstBadSeq: number; why: string } | undefined;
  readonly #known: AuditHead | undefined;

  constructor({ after, known }: VerifyOptions = {}) {
    this.#head = after;
    this.#known = known;
  }

  /** False when the chain is broken here or was before: there is no use in going on. */
  next(entry: AuditEntry | string, expectedSeq?: number): boolean {
    if (this.#bad !== undefined) return false;
    const why = this.#fault(entry, expectedSeq);
    if (why !== undefined || typeof entry === 'string') {
      this.#bad = { firstBadSeq: this.#position(entry, expectedSeq), why: why ?? String(entry) };
      return false;
    }
    this.#head = { seq: entry.seq, hash: entry.hash };
    this.#entries++;
    return true;
  }

  verdict(): AuditVerdict {
    const entries = this.#entries;
    const head = this.#head ?? GENESIS;
    if (this.#bad === undefined && this.#known !== undefined && this.#known.seq > head.seq) {
      const why = `the chain ends at ${head.seq}, but entry ${this.#known.seq} was acknowledged: entries were cut off`;
      return { ok: false, entries, firstBadSeq: head.seq + 1, why };
    }
    return this.#bad === undefined ? { ok: true, entries, head } : { ok: false, entries, ...this.#bad };
  }

  /** The number that should have come: of missing entries it is the first that is missing. */
  #position(entry: AuditEntry | string, expectedSeq: number | undefined): number {
    if (this.#head !== undefined) {
      const known = typeof entry === 'string' ? undefined : restartKnown(entry)?.seq;
      return Math.min(this.#head.seq + 1, known ?? Infinity);
    }
    // Nothing came before. An entry that is sound by itself is not the bad one: those before it are.
    const sound = typeof entry !== 'string' && shapeFault(entry) === undefined && this.#hashFault(entry) === undefined;
    return sound ? 1 : (expectedSeq ?? 1);
  }

  #fault(entry: AuditEntry | string, expectedSeq: number | undefined): string | undefined {
    if (typeof entry === 'string') return `the entry ${entry}`;
    const shape = shapeFault(entry);
    if (shape !== undefined) return `the entry ${shape}`;
    if (expectedSeq !== undefined && entry.seq !== expectedSeq) {
      return `the entry filed as ${expectedSeq} says that it is ${entry.seq}: it was moved`;
    }
    return this.#hashFault(entry) ?? this.#placeFault(entry) ?? this.#knownFault(entry);
  }

  #hashFault(entry: AuditEntry): string | undefined {
    try {
      return entryHash(entry) === entry.hash ? undefined : 'its content does not match its hash: it was changed';
    } catch (error) {
      return `it has no canonical form: ${reason(error)}`;
    }
  }

  #placeFault(entry: AuditEntry): string | undefined {
    if (this.#head === undefined) return beginningFault(entry);
    if (entry.kind === RESTART_KIND) return 'entries before it were lost or replaced, as it states itself';
    const { seq, hash } = this.#head;
    if (entry.seq > seq + 1) return `after ${seq} comes ${entry.seq}: entries were removed or reordered`;
    if (entry.seq <= seq) return `after ${seq} comes ${entry.seq}: an entry was inserted or reordered`;
    return entry.previous === hash ? undefined : 'it does not link to the entry before it: one of them was replaced';
  }

  #knownFault(entry: AuditEntry): string | undefined {
    if (this.#known?.seq !== entry.seq || this.#known.hash === entry.hash) return undefined;
    return 'another entry was acknowledged under this number: the chain was rewritten';
  }
}

function beginningFault(entry: AuditEntry): string | undefined {
  if (entry.seq === 1 && entry.previous === NO_HASH) return undefined;
  const known = restartKnown(entry);
  if (known?.seq === entry.seq - 1 && known.hash === entry.previous) return undefined;
  return `the chain begins with ${entry.seq}: entries before it were removed`;
}

/** The head that a restart note says was known. */
function restartKnown(entry: AuditEntry): AuditHead | undefined {
  const known = entry.kind === RESTART_KIND ? (entry.what.known as Partial<AuditHead> | null) : null;
  return Number.isSafeInteger(known?.seq) && isHash(known?.hash) ? (known as AuditHead) : undefined;
}

/** The whole of it, for entries that are at hand: an export, a peer's copy. */
export async function verifyEntries(
  entries: Iterable<AuditEntry | string> | AsyncIterable<AuditEntry | string>,
  options: VerifyOptions = {},
): Promise<AuditVerdict> {
  const verifier = new ChainVerifier(options);
  // A string is an entry's canonical form, such as a line of an export.
  for await (const entry of entries) {
    if (!verifier.next(typeof entry === 'string' ? parseEntry(entry) : entry)) break;
  }
  return verifier.verdict();
}
