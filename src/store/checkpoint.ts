/**
 * Signatures in the audit chain: what is signed, by which key, and how both are checked. Pure; audit-entry.ts describes the
 * format as a whole, keyring.ts keeps the private keys.
 *
 * A signed entry signs itself and, because it names the hash of the entry before it, everything before it. Its `what` holds
 * `node`, `keyId`, `publicKey` and `signature` beside its own members, so that it can be checked by itself. A checker follows
 * which key is in force: the first one that is introduced, then those to which the one in force hands over. A key that comes
 * without a hand-over is no fault of the chain by itself (a key file can be lost), but it is said, and it is a fault for whoever
 * pinned an earlier key.
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import type { AuditEntry, AuditHead, AuditKeyView, AuditSignatures } from '../core/ports.js';
import { canonicalJson } from './canonical.js';

/** Introduces a key; `former` and `handover` when another one was in force. */
export const KEY_KIND = 'audit.key';
/** Signs the chain up to itself; `of` is the head before it. */
export const CHECKPOINT_KIND = 'audit.checkpoint';
/** States a loss; introduces the key that signs it. Unsigned where there was no key. */
export const RESTART_KIND = 'audit.restart';
/** Says what retention is about to remove. Unsigned where there was no key. */
export const PRUNE_KIND = 'audit.prune';

/** No text of one kind can pass for one of another. */
const DOMAINS: Readonly<Record<string, string>> = {
  [KEY_KIND]: 'skos-audit-key-v1',
  [CHECKPOINT_KIND]: 'skos-audit-checkpoint-v1',
  [RESTART_KIND]: 'skos-audit-restart-v1',
  [PRUNE_KIND]: 'skos-audit-prune-v1',
};
const HANDOVER_DOMAIN = 'skos-audit-handover-v1';

/** The DER head of an Ed25519 SubjectPublicKeyInfo (RFC 8410, section 4); the 32 bytes of the key follow. */
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');
/** A key a day for a month; the latest are the ones that matter. */
const MAX_KEYS_SHOWN = 32;
const MAX_REMARKS = 20;
/**
 * An honest chain has a checkpoint each thousand entries, give or take a batch. A rewritten one whose forger has no key has
 * none, but the node itself signs what it finds when it starts: so a checkpoint vouches for no more entries than this. Who pins a key
 * is told of more as of a fault, others in a remark.
 */
const MAX_UNSIGNED = 2_048;

/** A private key that signs for a node. */
export interface Signer {
  readonly node: string;
  readonly keyId: string;
  /** The raw 32 bytes, lower-case hex. */
  readonly publicKey: string;
  /** Of the text in UTF-8; lower-case hex. Deterministic (RFC 8032): the same text gives the same signature. */
  sign(text: string): string;
}

export interface PublicKey {
  readonly keyId: string;
  readonly publicKey: string;
}

/** First 16 hex digits of the SHA-256 of the raw public key. */
export function keyIdOf(publicKey: string): string {
  return createHash('sha256').update(Buffer.from(publicKey, 'hex')).digest('hex').slice(0, 16);
}

export function isSignedKind(kind: string): boolean {
  return Object.hasOwn(DOMAINS, kind);
}

/** The text that a signature of an entry is over; `entry` is without `hash`, its `what` without `signature` and `handover`. */
export function statement(entry: Omit<AuditEntry, 'hash'>): string {
  return `${DOMAINS[entry.kind] ?? ''}\n${canonicalJson(entry)}`;
}

/** What the former key signs of the entry that introduces its successor. */
export function handoverStatement(entry: Omit<AuditEntry, 'hash'>): string {
  return `${HANDOVER_DOMAIN}\n${canonicalJson(entry)}`;
}

/** True when the signature is right. Strict: lower-case hex of the full length, nothing else. */
export function isSignedBy(publicKey: string, { text, signature }: { text: string; signature: unknown }): boolean {
  if (!isHex(signature, 128) || !isHex(publicKey, 64)) return false;
  try {
    return verify(null, Buffer.from(text, 'utf8'), keyObject(publicKey), Buffer.from(signature, 'hex'));
  } catch {
    return false; // No point of the curve: such a key signed nothing.
  }
}

export function isHex(value: unknown, length: number): value is string {
  return typeof value === 'string' && value.length === length && /^[0-9a-f]+$/.test(value);
}

function keyObject(publicKey: string): KeyObject {
  return createPublicKey({
    key: Buffer.concat([SPKI_HEAD, Buffer.from(publicKey, 'hex')]),
    format: 'der',
    type: 'spki',
  });
}

/** The key that an entry says it is signed by; undefined: it carries no signature at all. A text: what is wrong with it. */
export function signerOf(entry: AuditEntry): PublicKey | string | undefined {
  const { signature, handover: _handover, ...what } = entry.what;
  const { keyId, publicKey, node } = what;
  if (signature === undefined && keyId === undefined && publicKey === undefined) return undefined;
  if (!isHex(publicKey, 64) || keyId !== keyIdOf(publicKey)) return 'the key that it names is not one';
  if (typeof node !== 'string') return 'it does not say for which node it is signed';
  const { hash: _hash, ...rest } = entry;
  if (isSignedBy(publicKey, { text: statement({ ...rest, what }), signature })) return { keyId, publicKey };
  return 'its signature is not right: it was changed or forged';
}

/** Whether `by` signed the hand-over in the entry. */
function isHandedOver(entry: AuditEntry, by: PublicKey): boolean {
  const { signature: _signature, handover, ...what } = entry.what;
  const { hash: _hash, ...rest } = entry;
  return isSignedBy(by.publicKey, { text: handoverStatement({ ...rest, what }), signature: handover });
}

/** The key before, as the entry that introduces a key states it. */
export function formerKey(entry: AuditEntry): (PublicKey & { readonly seq: number }) | undefined {
  const former = entry.what.former as Partial<PublicKey & { seq: number }> | null | undefined;
  if (!isHex(former?.publicKey, 64) || former.keyId !== keyIdOf(former.publicKey)) return undefined;
  return Number.isSafeInteger(former.seq) ? (former as PublicKey & { seq: number }) : undefined;
}

/** What retention says that it removes. */
export function prunedTo(entry: AuditEntry): AuditHead | undefined {
  const removed =
    entry.kind === PRUNE_KIND ? (entry.what.removed as { to?: Partial<AuditHead> } | undefined) : undefined;
  const to = removed?.to;
  return Number.isSafeInteger(to?.seq) && isHex(to?.hash, 64) ? (to as AuditHead) : undefined;
}

export interface SignatureOptions {
  /** Key id or public key, hex: the chain must be signed by it, or by keys that it handed over to, from there on. */
  readonly pinned?: string | undefined;
}

/** Follows keys and signatures along a chain whose hashes somebody else checks. */
export class SignatureCheck {
  readonly #pinned: string | undefined;
  readonly #remarks: string[] = [];
  #moreRemarks = 0;
  #keys: AuditKeyView[] = [];
  #inForce: PublicKey | undefined;
  /** The chain was not seen from its beginning: a key may have been introduced before. */
  #joinedLate = false;
  #sawPinned = false;
  #signedSeq = 0;
  /** Entries since the last one that is signed. */
  #unsignedRun = 0;
  #node: string | undefined;

  constructor({ pinned }: SignatureOptions = {}) {
    this.#pinned = pinned;
  }

  /** The entries that are seen do not begin where the chain begins. */
  joinLate(): void {
    this.#joinedLate = true;
  }

  /** Key entries from elsewhere in the chain, each sound by itself: they say how one key came from another. */
  introduce(entry: AuditEntry): string | undefined {
    const [signed, run] = [this.#signedSeq, this.#unsignedRun];
    this.#unsignedRun = 0;
    this.#joinedLate = true;
    const fault = entry.kind === KEY_KIND || entry.kind === RESTART_KIND ? this.next(entry) : 'it introduces no key';
    this.#signedSeq = signed;
    this.#unsignedRun = run;
    return fault;
  }

  /** The last entry that a signature covers; 0: none. */
  get signedSeq(): number {
    return this.#signedSeq;
  }

  get inForce(): PublicKey | undefined {
    return this.#inForce;
  }

  /** What is wrong with the entry, if anything. */
  next(entry: AuditEntry): string | undefined {
    this.#unsignedRun++;
    if (!isSignedKind(entry.kind)) return undefined;
    const signer = signerOf(entry);
    if (typeof signer === 'string') return signer;
    if (signer === undefined) return this.#unsignedFault(entry);
    const fault = entry.kind === CHECKPOINT_KIND ? checkpointFault(entry) : undefined;
    if (fault !== undefined) return fault;
    const runFault = this.#runFault(entry);
    if (runFault !== undefined) return runFault;
    const introduces = entry.kind === KEY_KIND || entry.kind === RESTART_KIND;
    const keyFault = introduces ? this.#introductionFault(entry, signer) : this.#useFault(entry, signer);
    if (keyFault !== undefined) return keyFault;
    this.#signedSeq = entry.seq;
    this.#unsignedRun = 0;
    this.#noticeNode(entry);
    return undefined;
  }

  /** A signature from outside the chain over its head, as an export has one. */
  sealedBy(signer: PublicKey, headSeq: number): string | undefined {
    if (this.#inForce?.publicKey !== signer.publicKey)
      return `it is signed by ${signer.keyId}, which the chain did not introduce`;
    this.#signedSeq = headSeq;
    return undefined;
  }

  remark(text: string): void {
    if (this.#remarks.length < MAX_REMARKS) this.#remarks.push(text);
    else this.#moreRemarks++;
  }

  /** What only the end of the chain shows; `entries` is how many came. */
  endFault({
    headSeq,
    entries,
  }: {
    headSeq: number;
    entries: number;
  }): { firstBadSeq: number; why: string } | undefined {
    if (this.#pinned === undefined || entries === 0) return undefined;
    const firstSeq = headSeq - entries + 1;
    if (!this.#sawPinned) {
      const seen = this.#keys.length === 0 ? 'no key' : `only ${this.#keys.map(({ keyId }) => keyId).join(', ')}`;
      const why = `it is not signed by the pinned key ${this.#pinned}, ${seen}`;
      return { firstBadSeq: this.#keys[0]?.sinceSeq ?? firstSeq, why };
    }
    const unsigned = this.#unsigned(headSeq, entries);
    if (unsigned <= MAX_UNSIGNED && this.#signedSeq >= firstSeq) return undefined;
    return { firstBadSeq: headSeq - unsigned + 1, why: `${unsigned} entries follow that no key has signed` };
  }

  summary({ headSeq, entries }: { headSeq: number; entries: number }): AuditSignatures {
    return { keys: [...this.#keys], signedSeq: this.#signedSeq, unsigned: this.#unsigned(headSeq, entries) };
  }

  get remarks(): string[] {
    return this.#moreRemarks === 0
      ? [...this.#remarks]
      : [...this.#remarks, `and ${this.#moreRemarks} more of the kind`];
  }

  #unsigned(headSeq: number, entries: number): number {
    return Math.min(entries, Math.max(0, headSeq - this.#signedSeq));
  }

  /** Before a key is known, nobody could have signed. */
  #runFault({ seq }: AuditEntry): string | undefined {
    const run = this.#unsignedRun - 1;
    if (this.#inForce === undefined || run <= MAX_UNSIGNED) return undefined;
    const why = `the ${run} entries before ${seq} were signed only there: whoever could write to the database could change them`;
    if (this.#sawPinned) return why;
    this.remark(why);
    return undefined;
  }

  #unsignedFault({ kind }: AuditEntry): string | undefined {
    if (kind === KEY_KIND || kind === CHECKPOINT_KIND) return 'it is of a kind that is always signed, and is not';
    if (kind === PRUNE_KIND && this.#inForce !== undefined) {
      return 'it says that entries were removed, and is not signed by the key in force';
    }
    return undefined;
  }

  #introductionFault(entry: AuditEntry, key: PublicKey): string | undefined {
    const { seq } = entry;
    const former = this.#inForce ?? (this.#joinedLate ? formerKey(entry) : undefined);
    if (former === undefined) {
      if (this.#joinedLate && entry.what.handover !== undefined)
        return 'it is handed over to by a key that it does not name';
      this.#take(key, { sinceSeq: seq, handedOver: null });
      return undefined;
    }
    if (former.publicKey === key.publicKey) {
      if (this.#inForce === undefined) this.#take(key, { sinceSeq: seq, handedOver: null });
      return undefined;
    }
    const handedOver = isHandedOver(entry, former);
    if (!handedOver && entry.what.handover !== undefined)
      return `the hand-over of the former key ${former.keyId} is not right`;
    this.#notice(former);
    if (!handedOver) {
      if (this.#sawPinned) return `the key changed from ${former.keyId} to ${key.keyId} without a hand-over`;
      this.remark(`key changed without hand-over at entry ${seq}: ${former.keyId} was followed by ${key.keyId}`);
    }
    this.#take(key, { sinceSeq: seq, handedOver });
    return undefined;
  }

  #useFault({ seq }: AuditEntry, key: PublicKey): string | undefined {
    if (this.#inForce === undefined && this.#joinedLate) {
      this.remark(`key ${key.keyId} was introduced before the first entry here`);
      this.#take(key, { sinceSeq: seq, handedOver: null });
    }
    if (this.#inForce === undefined) return `it is signed by ${key.keyId}, which was not introduced`;
    if (this.#inForce.publicKey === key.publicKey) return undefined;
    return `it is signed by ${key.keyId}, but ${this.#inForce.keyId} is the key in force`;
  }

  #take(key: PublicKey, { sinceSeq, handedOver }: Omit<AuditKeyView, 'keyId'>): void {
    this.#inForce = key;
    this.#notice(key);
    this.#keys.push({ keyId: key.keyId, sinceSeq, handedOver });
    if (this.#keys.length > MAX_KEYS_SHOWN) this.#keys = this.#keys.slice(-MAX_KEYS_SHOWN);
  }

  #noticeNode({ seq, what }: AuditEntry): void {
    const node = String(what.node);
    if (this.#node !== undefined && this.#node !== node) {
      this.remark(`signed for the node ${this.#node} before entry ${seq}, and for ${node} from there on`);
    }
    this.#node = node;
  }

  #notice({ keyId, publicKey }: PublicKey): void {
    if (this.#pinned === keyId || this.#pinned === publicKey) this.#sawPinned = true;
  }
}

function checkpointFault({ seq, previous, what }: AuditEntry): string | undefined {
  const of = what.of as Partial<AuditHead> | undefined;
  return of?.seq === seq - 1 && of.hash === previous ? undefined : 'it signs another head than the one before it';
}
