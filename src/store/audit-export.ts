/**
 * An exported part of the audit chain: a file of lines that proves itself, on any machine. Pure; who reads and writes the file
 * is somebody else.
 *
 * Every line is the canonical form (RFC 8785) of an object, ended by one line feed; after the last one there is nothing.
 *
 *   first   {after, atMs, introductions, node, skos: "audit-export", v: 1}
 *           `after` is the head before the first entry (seq 0 and 64 zeros: the export begins with the chain); `introductions`
 *           are the entries outside the range that introduced keys, oldest first, as far as the node still has them.
 *   others  the entries from `after`.seq + 1 on, without a gap
 *   last    {after, atMs, hash, head, keyId, node, publicKey, sha256, signature, skos: "audit-export-end", v: 1}
 *           `head` is the last entry; `sha256` is over all bytes before this line; `hash` is the SHA-256 of this object
 *           without `hash` and `signature`; `signature` is Ed25519 by the key in force when the export was made, over
 *           "skos-audit-export-v1\n" and the canonical form of that same object. The node signs only what is its own chain, so that
 *           all entries are covered. Without a key, keyId, publicKey and signature are null: such an export still shows
 *           every accidental change, but who wants to forge it can.
 */
import { createHash } from 'node:crypto';
import type { AuditEntry, AuditHead, AuditSeal, AuditSealRequest, AuditVerdict } from '../core/ports.js';
import { ChainVerifier, isHash, MAX_WHAT_BYTES, parseEntry } from './audit-entry.js';
import { canonicalJson } from './canonical.js';
import { isHex, isSignedBy, keyIdOf, type Signer } from './checkpoint.js';

const DOMAIN = 'skos-audit-export-v1';
const HEADER = 'audit-export';
const TRAILER = 'audit-export-end';
const VERSION = 1;
/** The header holds an entry of some 700 bytes for each key that there ever was. */
const MAX_LINE_BYTES = Math.max(2 * MAX_WHAT_BYTES, 2 * 1024 * 1024);
const LINE_FEED = 0x0a;

export interface ExportHeader {
  readonly node: string;
  readonly atMs: number;
  readonly after: AuditHead;
  readonly introductions: readonly AuditEntry[];
}

/** The first line, with its line feed. */
export function headerLine({ node, atMs, after, introductions }: ExportHeader): string {
  return `${canonicalJson({ node, atMs, after, introductions, skos: HEADER, v: VERSION })}\n`;
}

/** An entry's line, with its line feed. */
export function entryLine(entry: AuditEntry): string {
  return `${canonicalJson(entry)}\n`;
}

/** The last line, with its line feed. */
export function trailerLine(request: AuditSealRequest, seal: AuditSeal): string {
  const { signature, ...said } = trailerBody(request, seal);
  return `${canonicalJson({ ...said, signature, hash: sha256(canonicalJson(said)) })}\n`;
}

/** What a node says of an export that it has found to be its own chain. */
export function sealOf(
  request: AuditSealRequest,
  { atMs, signer, node }: { atMs: number; signer: Signer | undefined; node: string },
): AuditSeal {
  const unsigned = {
    node,
    atMs,
    keyId: signer?.keyId ?? null,
    publicKey: signer?.publicKey ?? null,
    signature: null,
  };
  const { signature: _, ...said } = trailerBody(request, unsigned);
  return { ...unsigned, signature: signer?.sign(signedText(said)) ?? null };
}

function trailerBody({ after, head, sha256: digest }: AuditSealRequest, seal: AuditSeal) {
  const { node, atMs, keyId, publicKey, signature } = seal;
  return { after, head, sha256: digest, node, atMs, keyId, publicKey, signature, skos: TRAILER, v: VERSION };
}

function signedText(said: object): string {
  return `${DOMAIN}\n${canonicalJson(said)}`;
}

function sha256(text: string | Uint8Array): string {
  return createHash('sha256').update(text).digest('hex');
}

// ---- Reading -------------------------------------------------------------------------------------------------------

export interface ExportVerifyOptions {
  readonly pinned?: string | undefined;
  /** Heads known of this node; those outside the export cannot be compared. */
  readonly known?: readonly AuditHead[];
}

/** What the first line says, or why the file is no export. */
export function parseHeader(line: Uint8Array): ExportHeader | string {
  const header = canonicalObject(line);
  if (typeof header === 'string') return header;
  const { skos, v, node, atMs, after, introductions, ...others } = header;
  if (skos !== HEADER) return 'it is not the beginning of an audit export';
  if (v !== VERSION) return `it has the format ${String(v)}; this version knows ${VERSION}`;
  const isWhole =
    typeof node === 'string' &&
    Number.isSafeInteger(atMs) &&
    isHead(after) &&
    Array.isArray(introductions) &&
    Object.keys(others).length === 0;
  if (!isWhole) return 'it lacks a member, or has one too many';
  return { node, atMs: atMs as number, after, introductions: introductions as AuditEntry[] };
}

type Trailer = AuditSeal & AuditSealRequest & { readonly hash: string };

function parseTrailer(line: Uint8Array): Trailer | string {
  const trailer = canonicalObject(line);
  if (typeof trailer === 'string') return trailer;
  const { hash, signature, ...said } = trailer;
  const { skos, v, node, atMs, after, head, keyId, publicKey, sha256: digest, ...others } = said;
  if (skos !== TRAILER) return 'it is not the end of an export: the file was cut short';
  const isWhole =
    v === VERSION &&
    typeof node === 'string' &&
    Number.isSafeInteger(atMs) &&
    isHead(after) &&
    isHead(head) &&
    isHash(digest) &&
    Object.keys(others).length === 0;
  if (!isWhole) return 'it lacks a member, or has one too many';
  if (hash !== sha256(canonicalJson(said))) return 'its content does not match its hash: it was changed';
  return keyFault({ keyId, publicKey, signature, said }) ?? (trailer as unknown as Trailer);
}

function keyFault(given: { keyId: unknown; publicKey: unknown; signature: unknown; said: object }): string | undefined {
  const { keyId, publicKey, signature, said } = given;
  if (keyId === null && publicKey === null && signature === null) return undefined;
  if (!isHex(publicKey, 64) || keyId !== keyIdOf(publicKey)) return 'the key that it names is not one';
  return isSignedBy(publicKey, { text: signedText(said), signature }) ? undefined : 'its signature is not right';
}

function canonicalObject(line: Uint8Array): Record<string, unknown> | string {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(line);
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'it is not an object';
    return canonicalJson(value) === text ? (value as Record<string, unknown>) : 'it is not in canonical form';
  } catch {
    return 'it is not a JSON text';
  }
}

function isHead(value: unknown): value is AuditHead {
  if (typeof value !== 'object' || value === null) return false;
  const { seq, hash, ...others } = value as Record<string, unknown>;
  return Number.isSafeInteger(seq) && (seq as number) >= 0 && isHash(hash) && Object.keys(others).length === 0;
}

/** Takes the lines of an export in order, without their line feeds; the verdict comes at the end. */
class ExportVerifier {
  readonly #options: ExportVerifyOptions;
  readonly #digest = createHash('sha256');
  #header: ExportHeader | undefined;
  #chain: ChainVerifier | undefined;
  #before: readonly AuditEntry[] = [];
  #behind: AuditEntry[] = [];
  /** It may be the trailer, which only the end of the file shows. */
  #last: Uint8Array | undefined;
  #bad: { firstBadSeq: number; why: string } | undefined;

  constructor(options: ExportVerifyOptions) {
    this.#options = options;
  }

  /** False: it is broken already. */
  line(line: Uint8Array): boolean {
    const former = this.#last;
    this.#last = line;
    if (former !== undefined) this.#take(former);
    return this.#bad === undefined;
  }

  /** `rest`: what follows the last line feed. */
  end(rest: string | undefined): AuditVerdict {
    if (this.#bad === undefined && rest !== undefined) this.#bad = frameFault(`the end: ${rest}`);
    if (this.#bad === undefined) this.#end();
    const chain = this.#chain ?? new ChainVerifier();
    const verdict = chain.verdict();
    if (this.#bad === undefined || (!verdict.ok && verdict.firstBadSeq > 0)) return verdict;
    const { entries, signatures, knownHeads, remarks } = verdict;
    return { ok: false, ...this.#bad, entries, signatures, knownHeads, remarks };
  }

  #take(line: Uint8Array): void {
    if (this.#bad !== undefined) return;
    this.#digest.update(line).update('\n');
    if (this.#chain === undefined) this.#begin(line);
    else if (!this.#chain.next(parseEntry(line), this.#chain.head.seq + 1)) this.#bad = frameFault('an entry is bad');
  }

  #begin(line: Uint8Array): void {
    const header = parseHeader(line);
    if (typeof header === 'string') {
      this.#bad = frameFault(`the first line: ${header}`);
      return;
    }
    const { after, introductions } = header;
    const seqOf = (entry: AuditEntry) => Number((entry as Partial<AuditEntry> | null)?.seq);
    this.#before = introductions.filter((entry) => seqOf(entry) <= after.seq);
    this.#behind = introductions.filter((entry) => !(seqOf(entry) <= after.seq));
    const { pinned, known = [] } = this.#options;
    this.#header = header;
    this.#chain = new ChainVerifier({ after, known, partial: true, pinned, introductions: this.#before });
  }

  #end(): void {
    const trailer = this.#last === undefined ? 'the file is empty' : parseTrailer(this.#last);
    if (this.#header === undefined || this.#chain === undefined || typeof trailer === 'string') {
      this.#bad = frameFault(`the last line: ${typeof trailer === 'string' ? trailer : 'it is the only one'}`);
      return;
    }
    const why = this.#frameFault(trailer, { header: this.#header, chain: this.#chain });
    if (why !== undefined) this.#bad = frameFault(why);
  }

  #frameFault(trailer: Trailer, { header, chain }: { header: ExportHeader; chain: ChainVerifier }): string | undefined {
    const { head, entries } = chain;
    if (entries === 0) return 'it holds no entry';
    if (trailer.head.seq !== head.seq || trailer.head.hash !== head.hash) {
      return `the last line speaks of entry ${trailer.head.seq}, and the last one here is ${head.seq}`;
    }
    if (trailer.after.seq !== header.after.seq || trailer.after.hash !== header.after.hash) {
      return 'the first and the last line speak of different beginnings';
    }
    if (trailer.node !== header.node) return 'the first and the last line name different nodes';
    if (this.#digest.copy().digest('hex') !== trailer.sha256)
      return 'the bytes are not those that the last line vouches for';
    for (const entry of this.#behind) chain.introduce(entry);
    if (trailer.publicKey === null || trailer.keyId === null) return this.#unsigned(chain);
    const why = chain.signatures.sealedBy({ keyId: trailer.keyId, publicKey: trailer.publicKey }, head.seq);
    return why === undefined ? undefined : `the last line: ${why}`;
  }

  #unsigned(chain: ChainVerifier): string | undefined {
    if (chain.signatures.inForce !== undefined) return 'the last line is not signed, although the chain has a key';
    chain.signatures.remark('this export is not signed: it shows accidents, and proves nothing against a forger');
    return undefined;
  }
}

function frameFault(why: string): { firstBadSeq: number; why: string } {
  return { firstBadSeq: 0, why };
}

/** The whole of it, from the bytes of the file. Rejects only as the source does. */
export async function verifyExport(
  bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: ExportVerifyOptions = {},
): Promise<AuditVerdict> {
  const verifier = new ExportVerifier(options);
  let pieces: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of bytes) {
    let from = 0;
    for (let at = chunk.indexOf(LINE_FEED); at >= 0; at = chunk.indexOf(LINE_FEED, from)) {
      pieces.push(chunk.subarray(from, at));
      const goesOn = verifier.line(Buffer.concat(pieces));
      if (!goesOn) return verifier.end(undefined);
      pieces = [];
      length = 0;
      from = at + 1;
    }
    if (from === chunk.length) continue;
    pieces.push(chunk.slice(from));
    length += chunk.length - from;
    if (length > MAX_LINE_BYTES) return verifier.end(`a line of more than ${MAX_LINE_BYTES} bytes`);
  }
  return verifier.end(length === 0 ? undefined : 'the last line is not ended: the file was cut short');
}
