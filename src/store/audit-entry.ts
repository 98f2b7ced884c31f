/**
 * The form of an audit entry, and its verification. Pure: it works on a live store, a copy and an exported file alike. This
 * comment is the format; with it, SHA-256 and Ed25519 anybody can write a verifier of his own.
 *
 * ENTRY. The object {atMs, hash, kind, previous, seq, what, who}: integer wall time in milliseconds, two hashes, two strings,
 * an integer from 1 and an object. Its canonical form is RFC 8785 (canonical.ts) in UTF-8; `hash` is the lower-case hex
 * SHA-256 of the canonical form of the entry without `hash`; `previous` is the hash of the entry before it, 64 zeros for seq 1.
 * On disk and in an export an entry is its canonical form, byte for byte:
 *
 *   {"atMs":1704067200000,"hash":"…","kind":"action.start","previous":"…","seq":7,"what":{…},"who":"agent"}
 *
 * SIGNED ENTRIES. Four kinds carry a signature in `what`: `audit.key` and `audit.checkpoint` always, `audit.restart` and
 * `audit.prune` where the node had a key. Their `what` has, beside what is said below:
 *
 *   node        the node's name
 *   publicKey   the raw 32 bytes of the Ed25519 public key, 64 lower-case hex digits
 *   keyId       the first 16 hex digits of the SHA-256 of those 32 bytes
 *   signature   128 lower-case hex digits: Ed25519 (RFC 8032) over DOMAIN + "\n" + the canonical form of the entry without
 *               `hash` and with `what` without `signature` and `handover`; DOMAIN is the kind with dashes, "skos-" before and
 *               "-v1" behind it: skos-audit-key-v1, skos-audit-checkpoint-v1, skos-audit-restart-v1, skos-audit-prune-v1
 *
 * So a signature covers its own entry and, through `previous`, all entries before it.
 *
 *   audit.key         {former, why} introduces the key that signs it, which is in force from here on. `former` is null or
 *                     {keyId, publicKey, seq}: the key that was in force and the entry that introduced it. `handover` is the
 *                     former key's signature over "skos-audit-handover-v1\n" and the same canonical form; it is absent where the
 *                     former key was lost, and then the change of keys is not proven by anything.
 *   audit.checkpoint  {of: {seq, hash}} signs the chain up to the head before it, and itself. It comes at the start when the last
 *                     entry is not signed, at a clean stop, every 10 minutes in which there were entries, and every
 *                     1,000 entries. Its key must be the one in force.
 *   audit.restart     {known, found, why, setAside}: where the record does not continue what was acknowledged (a database that had
 *                     to be set aside, entries lost to a bad disk or to somebody's hands), the chain goes on with this entry.
 *                     `known` is the last head that was known; the entry takes the next number after it and links to its hash, so that
 *                     numbers are never used twice. As the first entry of a chain it is a beginning, and its key is in
 *                     force; anywhere else it states a loss, and verification says so. Where what came before was put back
 *                     (`store.salvage` {audit: {fromSeq, toSeq}}), it is not a beginning any more: without those entries the chain is
 *                     broken.
 *   audit.prune       {removed: {from: {seq}, to: {seq, hash}, entries, damaged}, why} is written before retention removes the oldest
 *                     entries. A chain that begins behind entry 1 is whole when such an entry of the key in force says that all
 *                     before its beginning were removed. Unsigned, it counts only in a chain that has no key.
 *
 * A chain without any signed entry is valid, and protected only by the heads that are known from elsewhere: the file beside the
 * database, the journal, the peers.
 *
 * EXPORT. A file of lines; audit-export.ts describes the first and the last.
 */
import { createHash } from 'node:crypto';
import { reason } from '../core/errors.js';
import type { AuditEntry, AuditHead, AuditInput, AuditVerdict } from '../core/ports.js';
import { canonicalJson } from './canonical.js';
import {
  CHECKPOINT_KIND,
  handoverStatement,
  prunedTo,
  RESTART_KIND,
  SignatureCheck,
  type SignatureOptions,
  type Signer,
  statement,
} from './checkpoint.js';

const NO_HASH = '0'.repeat(64);
/** Says what was put back from a database that was set aside: salvage.ts. */
export const SALVAGE_KIND = 'store.salvage';
export const GENESIS: AuditHead = Object.freeze({ seq: 0, hash: NO_HASH });

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

/** An entry that is signed when it gets its place, because the signature covers that place. */
export interface SignedDraft {
  readonly atMs: number;
  readonly kind: string;
  readonly who: string;
  /** JSON values only. */
  readonly what: Readonly<Record<string, unknown>>;
  readonly signer: Signer;
  /** Hands over to `signer`. */
  readonly former?: Signer | undefined;
  readonly bytes: number;
}

/** A signed entry with its names, key and signatures; what it says beside them is small. */
const SIGNED_BYTES = 1_500;

export function signedDraft(
  { kind, who, what }: AuditInput,
  { atMs, signer, former }: { atMs: number; signer: Signer; former?: Signer | undefined },
): SignedDraft {
  return { atMs: Math.round(atMs), kind, who, what, signer, former, bytes: SIGNED_BYTES };
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
export function seal(each: Draft | SignedDraft, head: AuditHead): Sealed {
  return 'signer' in each ? sealSigned(each, head) : sealPlain(each, head);
}

function sealSigned({ atMs, kind, who, what: said, signer, former }: SignedDraft, head: AuditHead): Sealed {
  const { node, keyId, publicKey } = signer;
  const of = kind === CHECKPOINT_KIND ? { of: head } : {};
  const what = { ...said, ...of, node, keyId, publicKey };
  const unsigned = { atMs, kind, previous: head.hash, seq: head.seq + 1, what, who };
  const signature = signer.sign(statement(unsigned));
  const handover = former?.sign(handoverStatement(unsigned));
  const signed = { ...unsigned, what: { ...what, signature, handover } };
  const hash = sha256(canonicalJson(signed));
  return { head: { seq: unsigned.seq, hash }, text: canonicalJson({ ...signed, hash }) };
}

function sealPlain({ atMs, kind, who, what }: Draft, head: AuditHead): Sealed {
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

/** What is wrong with the entry by itself. */
export function hashFault(entry: AuditEntry): string | undefined {
  try {
    return entryHash(entry) === entry.hash ? undefined : 'its content does not match its hash: it was changed';
  } catch (error) {
    return `it has no canonical form: ${reason(error)}`;
  }
}

export interface VerifyOptions extends SignatureOptions {
  /** Where the entries begin: the head before the first. Absent: at the beginning of a chain. */
  readonly after?: AuditHead;
  /** Heads that the chain must contain, as peers, the journal or the mark beside the database hold them. */
  readonly known?: readonly AuditHead[];
  /** The entries are a part of a chain that may go on behind them: a later head that is known is no proof of a loss. */
  readonly partial?: boolean;
  /** Entries that introduced keys before `after`. */
  readonly introductions?: readonly AuditEntry[];
}

/** Checks a chain entry by entry. Feed it in order; ask for the verdict at the end. */
export class ChainVerifier {
  readonly #known = new Map<number, string[]>();
  readonly #knownSeq: number;
  readonly #partial: boolean;
  readonly #signatures: SignatureCheck;
  #head: AuditHead | undefined;
  #entries = 0;
  #firstSeq: number | undefined;
  #headsMet = 0;
  #bad: { firstBadSeq: number; why: string } | undefined;
  /** It begins behind entry 1, and nothing has explained that yet: the head before its first entry. */
  #unexplained: AuditHead | undefined;
  /** It begins with a restart note behind this number, and an entry says that what was before was put back. */
  #begunBehind: number | undefined;
  #putBackAt: number | undefined;

  constructor({ after, known = [], partial = false, pinned, introductions = [] }: VerifyOptions = {}) {
    this.#head = after;
    this.#partial = partial;
    this.#signatures = new SignatureCheck({ pinned });
    if (after !== undefined && after.seq > 0) this.#signatures.joinLate();
    for (const { seq, hash } of known) this.#known.set(seq, [...(this.#known.get(seq) ?? []), hash]);
    this.#knownSeq = known.reduce((most, { seq }) => Math.max(most, seq), 0);
    for (const entry of introductions) this.introduce(entry);
    if (after !== undefined) this.#bad ??= this.#knownFault(after);
  }

  /** An entry that introduced a key, from outside the part of the chain that is checked. */
  introduce(entry: AuditEntry): void {
    const why = shapeFault(entry) ?? hashFault(entry) ?? this.#signatures.introduce(entry);
    if (why !== undefined) this.#bad ??= { firstBadSeq: entry.seq, why: `the introduction of a key: ${why}` };
  }

  get signatures(): SignatureCheck {
    return this.#signatures;
  }

  get head(): AuditHead {
    return this.#head ?? GENESIS;
  }

  get entries(): number {
    return this.#entries;
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
    this.#firstSeq ??= entry.seq;
    this.#entries++;
    this.#explain(entry);
    return true;
  }

  verdict(): AuditVerdict {
    const entries = this.#entries;
    const head = this.head;
    this.#bad ??= this.#endFault() ?? this.#signatures.endFault({ headSeq: head.seq, entries });
    const common = {
      entries,
      signatures: this.#signatures.summary({ headSeq: head.seq, entries }),
      knownHeads: this.#headsMet,
      remarks: this.#remarks(),
    };
    return this.#bad === undefined ? { ok: true, head, ...common } : { ok: false, ...this.#bad, ...common };
  }

  #endFault(): { firstBadSeq: number; why: string } | undefined {
    const { seq } = this.head;
    if (this.#unexplained !== undefined) {
      const why = `the chain begins with ${this.#unexplained.seq + 1}: entries before it were removed`;
      return { firstBadSeq: 1, why };
    }
    if (this.#putBackAt !== undefined && !this.#partial) {
      const why = `the entries up to ${this.#begunBehind} were put back, as ${this.#putBackAt} says, and were removed since`;
      return { firstBadSeq: 1, why };
    }
    if (this.#partial || this.#knownSeq <= seq) return undefined;
    const why = `the chain ends at ${seq}, but entry ${this.#knownSeq} was acknowledged: entries were cut off`;
    return { firstBadSeq: seq + 1, why };
  }

  #remarks(): readonly string[] {
    const outside = [...this.#known.keys()].filter((seq) => seq > 0).length - this.#headsMet;
    if (this.#bad !== undefined || outside <= 0) return this.#signatures.remarks;
    return [...this.#signatures.remarks, `known heads of other parts of the chain, not compared: ${outside}`];
  }

  /** The number that should have come: of missing entries it is the first that is missing. */
  #position(entry: AuditEntry | string, expectedSeq: number | undefined): number {
    if (this.#head !== undefined) {
      const known = typeof entry === 'string' ? undefined : restartKnown(entry)?.seq;
      return Math.min(this.#head.seq + 1, known ?? Infinity);
    }
    // Nothing came before, and what an unsound entry says of itself is worth nothing.
    const sound = typeof entry !== 'string' && shapeFault(entry) === undefined && hashFault(entry) === undefined;
    return sound && entry.seq === (expectedSeq ?? entry.seq) ? entry.seq : (expectedSeq ?? 1);
  }

  #fault(entry: AuditEntry | string, expectedSeq: number | undefined): string | undefined {
    if (typeof entry === 'string') return `the entry ${entry}`;
    const shape = shapeFault(entry);
    if (shape !== undefined) return `the entry ${shape}`;
    if (expectedSeq !== undefined && entry.seq !== expectedSeq) {
      return `the entry filed as ${expectedSeq} says that it is ${entry.seq}: it was moved`;
    }
    return hashFault(entry) ?? this.#placeFault(entry) ?? this.#knownFault(entry)?.why ?? this.#signatures.next(entry);
  }

  #placeFault(entry: AuditEntry): string | undefined {
    if (this.#head === undefined) return this.#beginningFault(entry);
    const { seq, hash } = this.#head;
    if (entry.kind === RESTART_KIND && !this.#isBeginning(entry) && !this.#isMended(entry)) {
      return 'entries before it were lost or replaced, as it states itself';
    }
    if (entry.seq > seq + 1) return `after ${seq} comes ${entry.seq}: entries were removed or reordered`;
    if (entry.seq <= seq) return `after ${seq} comes ${entry.seq}: an entry was inserted or reordered`;
    return entry.previous === hash ? undefined : 'it does not link to the entry before it: one of them was replaced';
  }

  #beginningFault(entry: AuditEntry): string | undefined {
    if (entry.seq === 1) return entry.previous === NO_HASH ? undefined : 'it is the first, but links to another';
    const before = { seq: entry.seq - 1, hash: entry.previous };
    if (!this.#isBeginning(entry)) {
      this.#signatures.joinLate();
      this.#unexplained = before;
    }
    return this.#knownFault(before)?.why;
  }

  /** A restart note that nothing precedes, and that links to the head that it says was known. */
  #isBeginning(entry: AuditEntry): boolean {
    const known = restartKnown(entry);
    if (this.#entries > 0 || known?.seq !== entry.seq - 1 || known.hash !== entry.previous) return false;
    this.#begunBehind = known.seq;
    this.#signatures.remark(`the chain begins at ${entry.seq} with a restart note: what came before is not in it`);
    return true;
  }

  /** A restart note after a damage, where what was known before it is there: nothing is missing then. */
  #isMended(entry: AuditEntry): boolean {
    const known = restartKnown(entry);
    const head = this.#head;
    if (known === undefined || head === undefined || known.seq !== head.seq || known.hash !== head.hash) return false;
    this.#signatures.remark(`the database was damaged before ${entry.seq}; the entries up to ${known.seq} are back`);
    return true;
  }

  /** An entry about retention may say why the chain begins where it does. */
  #explain(entry: AuditEntry): void {
    const to = prunedTo(entry);
    if (this.#begunBehind !== undefined) {
      if (entry.kind === SALVAGE_KIND && putBackTo(entry) === this.#begunBehind) this.#putBackAt ??= entry.seq;
      // Removed by retention since, as it says itself.
      if (to !== undefined && to.seq >= this.#begunBehind) this.#putBackAt = this.#begunBehind = undefined;
    }
    const before = this.#unexplained;
    if (to === undefined || before === undefined || to.seq < before.seq) return;
    // Where it says less than what is gone, or something else, the beginning stays unexplained.
    if (to.seq === before.seq && to.hash !== before.hash) return;
    this.#unexplained = undefined;
    const how = entry.what.signature === undefined ? 'as entry' : 'signed at';
    this.#signatures.remark(`entries 1 to ${before.seq} were removed by retention, ${how} ${entry.seq}`);
  }

  #knownFault({ seq, hash }: AuditHead): { firstBadSeq: number; why: string } | undefined {
    const known = this.#known.get(seq);
    if (known === undefined) return undefined;
    this.#headsMet++;
    if (known.every((each) => each === hash)) return undefined;
    return { firstBadSeq: seq, why: `another entry was acknowledged as ${seq}: the chain was rewritten` };
  }
}

/** The last of the entries that were put back from a damaged database. */
function putBackTo({ what }: AuditEntry): number | undefined {
  const audit = what.audit as { readonly toSeq?: unknown } | null | undefined;
  return typeof audit?.toSeq === 'number' ? audit.toSeq : undefined;
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
