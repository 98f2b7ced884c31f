/**
 * The audit log: entries in a hash chain (audit-entry.ts says how), each acknowledged only when fdatasync has returned.
 *
 * append() queues a draft; the writer's next round chains all that wait to the head that is on disk and writes them in
 * one synced batch. Sequence numbers and hashes are given at that moment, so a batch that failed is built again with the
 * same bytes, and the head never names an entry that is not on disk.
 *
 * While the disk fails, drafts wait: the oldest stay, up to MAX_WAITING entries or MAX_WAITING_BYTES; what comes beyond is
 * refused with SKOS_STORE_WRITE and counted, and an entry `audit.gap` says in the chain how many there were. A promise of
 * append() stays open as long as its entry waits; who must not wait gives it a deadline of his own. When the log is
 * closed with the disk still failing, they reject with SKOS_STORE_WRITE. A rejection that nobody listens to is not an
 * error of the process: the failure itself has been logged.
 *
 * With a keyring the chain is signed: a checkpoint is an entry that waits as others do and is signed when it gets its place,
 * which takes some 50 µs and no disk. A key that is missing never holds up an entry.
 */

import type { Clock } from '../core/clock.js';
import { SkosError } from '../core/errors.js';
import type {
  AuditEntry,
  AuditHead,
  AuditInput,
  AuditLog,
  AuditRotation,
  AuditSeal,
  AuditSealRequest,
  AuditVerdict,
  AuditVerifyOptions,
  Log,
} from '../core/ports.js';
import {
  ChainVerifier,
  type Draft,
  draft,
  GENESIS,
  parseEntry,
  type SignedDraft,
  seal,
  signedDraft,
} from './audit-entry.js';
import { sealOf } from './audit-export.js';
import { type Excess, excessOf, MAX_REMOVED, PRUNED, prunedSeq } from './audit-prune.js';
import { ChainKeys } from './chain-keys.js';
import { CHECKPOINT_KIND, isSignedKind, KEY_KIND, PRUNE_KIND, RESTART_KIND, type Signer } from './checkpoint.js';
import { followedInto } from './damaged-chain.js';
import type { Database, Opened, Operation } from './database.js';
import type { HeadMark } from './head-mark.js';
import type { Exposure, Keyring } from './keyring.js';
import { auditKey, auditSeq, PREFIX, prefixRange } from './keys.js';
import type { Sealer } from './writer.js';

/** Half a day of a busy node's entries; with MAX_WAITING_BYTES a bound on memory. */
export const MAX_WAITING = 10_000;
const MAX_WAITING_BYTES = 8 * 1024 * 1024;
/** Entries in one batch: some hundred KiB, so that a backlog goes to disk in pieces that each make progress. */
const MAX_SEALED = 512;
/** Beyond it a batch holds no further one: hashing and writing down a MiB takes some milliseconds. */
const MAX_SEALED_BYTES = 256 * 1024;
/** The most that list() returns at once: the socket's line is bounded to 4 MiB. */
export const MAX_LISTED = 5_000;
/** And of their canonical forms together. */
export const MAX_LISTED_BYTES = 3 * 1024 * 1024;
/** What a forger without the key could change unseen is what came since the last checkpoint. */
const CHECKPOINT_EVERY_MS = 600_000;
const CHECKPOINT_EVERY_ENTRIES = 1_000;
/** So many new entries make it worth looking whether the record is within its bound. */
const TRIMMED_EVERY = 100;

interface Pending {
  readonly draft: Draft | SignedDraft;
  readonly resolve: (entry: AuditEntry) => void;
  readonly reject: (error: SkosError) => void;
  /** The note of attach(): it goes first. */
  readonly restart?: true;
  /** Goes to disk together with the entry, so that it is found again without reading the chain. */
  readonly note?: (seq: number) => Operation | undefined;
}

interface Sealing {
  readonly pending: readonly Pending[];
  readonly texts: readonly string[];
  readonly head: AuditHead;
  /** The last of them that is signed. */
  readonly signedSeq: number;
}

export interface AuditBound {
  /** What the entries may take on disk; beyond it the oldest go. */
  readonly maxBytes: number;
  /** Deletes keys of the database soon. */
  readonly remove: (operation: Operation) => void;
}

export interface AuditChainOptions {
  readonly database: Database;
  readonly mark: HeadMark;
  readonly log: Log;
  readonly clock: Clock;
  /** Called when an entry waits. */
  readonly wake: () => void;
  /** Absent: the chain is not signed. */
  readonly keyring?: Keyring | undefined;
  /** Default CHECKPOINT_EVERY_MS. */
  readonly checkpointEveryMs?: number | undefined;
  /** Absent: the entries may take whatever there is. */
  readonly bound?: AuditBound | undefined;
}

export class AuditChain implements AuditLog, Sealer {
  readonly durable = true;
  readonly #database: Database;
  readonly #mark: HeadMark;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #wake: () => void;
  readonly #keys: ChainKeys | undefined;
  readonly #checkpointEveryMs: number;
  readonly #bound: AuditBound | undefined;
  #head: AuditHead = GENESIS;
  #signedSeq = 0;
  #checkpoints: NodeJS.Timeout | undefined;
  #rotating = false;
  #pruning = false;
  /** The head when trim() last found nothing to do. */
  #trimmedSeq = Number.NEGATIVE_INFINITY;
  #attached = false;
  #waiting: Pending[] = [];
  #waitingBytes = 0;
  #sealing: Sealing | undefined;
  #refused = 0;
  #refusedSinceMs = 0;
  #closed = false;

  constructor({ database, mark, log, clock, wake, keyring, checkpointEveryMs, bound }: AuditChainOptions) {
    this.#database = database;
    this.#mark = mark;
    this.#log = log;
    this.#clock = clock;
    this.#wake = wake;
    this.#keys = keyring === undefined ? undefined : new ChainKeys({ keyring, database, log });
    this.#checkpointEveryMs = checkpointEveryMs ?? CHECKPOINT_EVERY_MS;
    this.#bound = bound;
  }

  get keyId(): string | undefined {
    return this.#keys?.signer?.keyId;
  }

  append(input: AuditInput): Promise<AuditEntry> {
    const entry = this.#enqueue(draft(input, this.#clock.wallMs()));
    // The failure of a write is logged by the writer; here it must not end a process whose caller does not wait.
    entry.catch(() => undefined);
    return entry;
  }

  /** The last entry that is on disk (or was, where a restart note is about to say that it is lost). */
  head(): AuditHead {
    return this.#head;
  }

  async verify({ heads = [], key }: AuditVerifyOptions = {}): Promise<AuditVerdict> {
    const { head: mark } = await this.#mark.read();
    const own = mark !== undefined && mark.seq > this.#head.seq ? [mark] : [this.#head];
    const verifier = new ChainVerifier({ known: [...own, ...heads], pinned: key });
    for await (const [at, value] of this.#database.scan(prefixRange(PREFIX.audit))) {
      if (!verifier.next(parseEntry(value), auditSeq(at))) break;
    }
    return verifier.verdict();
  }

  async list({ fromSeq, limit }: { fromSeq: number; limit: number }): Promise<AuditEntry[]> {
    const entries: AuditEntry[] = [];
    const most = Math.min(Math.max(0, Math.floor(limit)), MAX_LISTED);
    if (most === 0) return entries;
    const range = { gte: auditKey(fromSeq), lt: prefixRange(PREFIX.audit).lt, limit: most };
    let bytes = 0;
    for await (const [key, value] of this.#database.scan(range)) {
      bytes += value.length;
      if (bytes > MAX_LISTED_BYTES) break;
      const entry = parseEntry(value);
      // A damaged entry has no honest form in this list; verify() names it.
      if (typeof entry === 'string') this.#reportBroken(`Audit entry ${auditSeq(key)} ${entry}`, auditSeq(key));
      else entries.push(entry);
    }
    return entries;
  }

  introductions(): Promise<AuditEntry[]> {
    return this.#keys?.introductions() ?? Promise.resolve([]);
  }

  async rotateKey(who: string): Promise<AuditRotation> {
    const keys = this.#keys;
    if (keys === undefined) throw new SkosError('SKOS_AUDIT_KEY', 'this chain is kept without keys');
    if (this.#rotating) throw new SkosError('SKOS_AUDIT_KEY', 'the key is being exchanged already');
    this.#rotating = true;
    try {
      return await this.#rotate(keys, who);
    } finally {
      this.#rotating = false;
    }
  }

  async sealExport(
    { after, head, sha256 }: AuditSealRequest,
    { who, node }: { who: string; node: string },
  ): Promise<AuditSeal> {
    for (const each of [after, head]) {
      const why = each.seq === 0 ? undefined : await this.#lacks(each);
      // What retention removed meanwhile is vouched for by the entry behind it, which links to it.
      if (why !== undefined && !(each === after && (await this.#isLinkedTo(after)))) {
        throw new SkosError('SKOS_AUDIT_BROKEN', `what was exported is not the chain of this node: ${why}`);
      }
    }
    await this.append({ kind: 'audit.export', who, what: { after, head, sha256 } });
    return sealOf(
      { after, head, sha256 },
      { atMs: Math.round(this.#clock.wallMs()), signer: this.#keys?.signer, node },
    );
  }

  /** The writer runs: what the start has to say is written, checkpoints begin. */
  begin(): void {
    if (this.#keys === undefined) return;
    this.#checkpoints = setInterval(() => void this.#onInterval(), this.#checkpointEveryMs);
    this.#checkpoints.unref();
    this.#checkpoint();
  }

  /** Signs what is not signed yet, and refuses what comes from now on. */
  close(): void {
    if (this.#closed) return;
    clearInterval(this.#checkpoints);
    if (this.#attached) this.#checkpoint();
    this.#closed = true;
  }

  /** Keeps the record within its bound, a bounded step at a time. Rejects with SKOS_STORE_READ. */
  async trim(): Promise<void> {
    const bound = this.#bound;
    const head = this.#head;
    const grownBy = head.seq - this.#trimmedSeq;
    if (bound === undefined || this.#pruning || (grownBy >= 0 && grownBy < TRIMMED_EVERY)) return;
    if (await this.#removePruned(bound)) return;
    const excess = await excessOf(this.#database, { head, maxBytes: bound.maxBytes });
    this.#trimmedSeq = excess === undefined ? head.seq : Number.NEGATIVE_INFINITY;
    if (excess !== undefined) this.#prune(excess, bound);
  }

  /** Rejects what still waits; returns how many entries that were. */
  abandon(): number {
    const lost = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    for (const { reject } of lost) reject(notWritten('the store was closed before the disk took the entry'));
    return lost.length;
  }

  // ---- The writer's side ----

  get waiting(): boolean {
    return this.#waiting.length > 0;
  }

  async attach(opened: Opened): Promise<void> {
    if (this.#attached) {
      if (opened.setAside !== undefined) this.#keys?.forget();
      await this.#attachAgain(opened);
    } else {
      const exposed = (await this.#keys?.start()) ?? [];
      await this.#attachFirst(opened);
      this.#introduce();
      this.#noteExposed(exposed);
    }
    this.#attached = true;
  }

  seal(): Operation[] {
    const pending = this.#waiting.slice(0, this.#sealable());
    const texts: string[] = [];
    const operations: Operation[] = [];
    let head = this.#head;
    let signedSeq = this.#signedSeq;
    for (const { draft: each, note } of pending) {
      const sealed = seal(each, head);
      head = sealed.head;
      texts.push(sealed.text);
      operations.push({ type: 'put', key: auditKey(head.seq), value: Buffer.from(sealed.text, 'utf8') });
      if ('signer' in each) signedSeq = head.seq;
      const beside = note?.(head.seq);
      if (beside !== undefined) operations.push(beside);
    }
    this.#sealing = { pending, texts, head, signedSeq };
    return operations;
  }

  /** The same ones again after a failure: what comes meanwhile stands behind them. */
  #sealable(): number {
    let bytes = 0;
    const most = this.#waiting.findIndex(({ draft: each }, i) => {
      bytes += each.bytes;
      return i > 0 && (i >= MAX_SEALED || bytes > MAX_SEALED_BYTES);
    });
    return most === -1 ? this.#waiting.length : most;
  }

  sealed(): void {
    const done = this.#sealing;
    if (done === undefined) return;
    this.#sealing = undefined;
    this.#waiting.splice(0, done.pending.length);
    for (const { draft: each } of done.pending) this.#waitingBytes -= each.bytes;
    this.#head = done.head;
    this.#signedSeq = done.signedSeq;
    this.#mark.set(done.head);
    this.#noteRefused();
    done.pending.forEach(({ resolve }, i) => {
      const entry = JSON.parse(done.texts[i] ?? '') as AuditEntry;
      if (entry.kind === KEY_KIND || entry.kind === RESTART_KIND) this.#keys?.introduced(entry);
      resolve(entry);
    });
    if (this.#head.seq - this.#signedSeq >= CHECKPOINT_EVERY_ENTRIES) this.#checkpointNow();
  }

  // ---- Inside ----

  #enqueue(each: Draft | SignedDraft, note?: Pending['note']): Promise<AuditEntry> {
    if (this.#closed) return Promise.reject(notWritten('the store is closed'));
    if (this.#waiting.length >= MAX_WAITING || this.#waitingBytes + each.bytes > MAX_WAITING_BYTES) {
      if (this.#refused++ === 0) this.#refusedSinceMs = each.atMs;
      return Promise.reject(notWritten('the disk does not take writes and memory for entries is used up'));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ draft: each, resolve, reject, ...(note === undefined ? {} : { note }) });
      this.#waitingBytes += each.bytes;
      this.#wake();
    });
  }

  /** An entry of our own that nobody waits for. */
  #say(each: Draft | SignedDraft, note?: Pending['note']): void {
    this.#enqueue(each, note).catch(() => undefined); // The writer says what keeps it from the disk.
  }

  #checkpoint(): void {
    const signer = this.#keys?.signer;
    if (signer === undefined || (this.#head.seq === this.#signedSeq && this.#waiting.length === 0)) return;
    const last = this.#waiting.at(-1);
    if (last !== undefined && 'signer' in last.draft) return; // It will sign all before it.
    this.#say(this.#signed({ kind: CHECKPOINT_KIND, who: 'agent', what: {} }, signer));
  }

  /** Before all that waits, which may be thousands of entries. */
  #checkpointNow(): void {
    const signer = this.#keys?.signer;
    // A key that waits to be introduced cannot sign before that.
    if (signer === undefined || this.#keys?.isNew === true) return;
    const each = this.#signed({ kind: CHECKPOINT_KIND, who: 'agent', what: {} }, signer);
    this.#waiting.unshift({ draft: each, resolve: () => undefined, reject: () => undefined });
    this.#waitingBytes += each.bytes;
    this.#wake();
  }

  #signed(input: AuditInput, signer: Signer): SignedDraft {
    return signedDraft(input, { atMs: this.#clock.wallMs(), signer });
  }

  async #onInterval(): Promise<void> {
    if (this.#keys !== undefined && this.#keys.signer === undefined) {
      this.#noteExposed(await this.#keys.find());
      if (this.#closed) return;
      this.#introduce();
    }
    this.#checkpoint();
  }

  /** The key that signs is one that the chain does not know: a first one, or one that follows a lost one. */
  #introduce(): void {
    const keys = this.#keys;
    const signer = keys?.signer;
    if (keys === undefined || signer === undefined || !keys.isNew || this.#waiting[0]?.restart === true) return;
    const former = keys.inForce ?? null;
    const why = former === null ? 'no key was known' : `the file of the former key ${former.keyId} cannot be used`;
    this.#sayKey({ kind: KEY_KIND, who: 'agent', what: { former, why } }, signer);
    const fields = { event: 'audit.key', auditKey: signer.keyId };
    const message = `The audit chain is signed by the key ${signer.keyId} from now on: ${why}`;
    if (former === null) this.#log.info(message, fields);
    else this.#log.warn(message, { ...fields, code: 'SKOS_AUDIT_KEY' });
  }

  #sayKey(input: AuditInput, signer: Signer): void {
    this.#say(this.#signed(input, signer), this.#pointer);
  }

  readonly #pointer = (seq: number): Operation | undefined =>
    this.#keys?.isNew === true ? this.#keys.pointer(seq) : undefined;

  #noteExposed(exposed: readonly Exposure[]): void {
    for (const { keyId, how } of exposed) {
      this.#say(draft({ kind: 'audit.key_exposed', who: 'agent', what: { keyId, how } }, this.#clock.wallMs()));
    }
  }

  async #rotate(keys: ChainKeys, who: string): Promise<AuditRotation> {
    const signer = await keys.create();
    const former = keys.signer;
    const known = keys.inForce ?? null;
    // Only the key in force can hand over; one that is not on record yet is simply followed.
    const handsOver = former !== undefined && known?.publicKey === former.publicKey;
    const input = { kind: KEY_KIND, who, what: { former: known, why: 'asked for' } };
    const each = signedDraft(input, {
      atMs: this.#clock.wallMs(),
      signer,
      ...(handsOver ? { former } : {}),
    });
    keys.use(signer);
    try {
      const { seq } = await this.#enqueue(each, this.#pointer);
      if (former !== undefined) await keys.retire(former.keyId);
      this.#log.info(`The key of the audit chain is ${signer.keyId} from now on, asked for by ${who}`, {
        event: 'audit.key',
        auditKey: signer.keyId,
      });
      return { keyId: signer.keyId, former: former?.keyId ?? null, seq };
    } catch (error) {
      if (former !== undefined) keys.use(former);
      throw error;
    }
  }

  /** Says what will go; the next step removes it, when that is on disk. */
  #prune({ bytes, ...removed }: Excess, { maxBytes }: AuditBound): void {
    const what = { removed, why: `the entries take ${bytes} bytes, more than ${maxBytes}` };
    const input = { kind: PRUNE_KIND, who: 'agent', what };
    const atMs = this.#clock.wallMs();
    const signer = this.#keys?.signer;
    const each = signer === undefined ? draft(input, atMs) : signedDraft(input, { atMs, signer });
    this.#pruning = true;
    this.#enqueue(each, () => ({ type: 'put', key: PRUNED, value: Buffer.from(String(removed.to.seq)) }))
      .catch(() => undefined) // The writer says what keeps it from the disk.
      .finally(() => {
        this.#pruning = false;
      });
  }

  /** Goes on with what an entry says that it is removed. False: there is nothing to remove. */
  async #removePruned({ remove }: AuditBound): Promise<boolean> {
    const toSeq = await prunedSeq(this.#database);
    if (toSeq === undefined) return false;
    let removed = 0;
    const range = { gte: prefixRange(PREFIX.audit).gte, lt: auditKey(toSeq + 1), limit: MAX_REMOVED };
    for await (const [key] of this.#database.scan(range)) {
      remove({ type: 'del', key });
      removed++;
    }
    if (removed === 0) remove({ type: 'del', key: PRUNED });
    return removed > 0;
  }

  /** Undefined when the chain on disk holds the entry. */
  async #lacks({ seq, hash }: AuditHead): Promise<string | undefined> {
    const value = await this.#database.get(auditKey(seq));
    const entry = value === undefined ? 'is missing' : parseEntry(value);
    if (typeof entry === 'string') return `entry ${seq} ${entry}`;
    return entry.hash === hash ? undefined : `entry ${seq} is not the one that was acknowledged`;
  }

  async #isLinkedTo({ seq, hash }: AuditHead): Promise<boolean> {
    const value = await this.#database.get(auditKey(seq + 1));
    const entry = value === undefined ? '' : parseEntry(value);
    return typeof entry === 'object' && entry.previous === hash;
  }

  /** There is room again: say in the chain what did not find any. */
  #noteRefused(): void {
    if (this.#refused === 0) return;
    const what = { refused: this.#refused, fromAtMs: this.#refusedSinceMs, toAtMs: Math.round(this.#clock.wallMs()) };
    this.#refused = 0;
    void this.append({ kind: 'audit.gap', who: 'agent', what });
  }

  /** Finds the head on disk and compares it with the mark. */
  async #attachFirst({ setAside }: Opened): Promise<void> {
    const { head: marked, fault: markFault } = await this.#mark.read();
    const isFollowed = marked !== undefined && setAside !== undefined;
    const known = isFollowed ? await followedInto(setAside.path, marked) : marked;
    if (markFault !== undefined) this.#reportBroken(`The mark of the audit head cannot be used: ${markFault}`, 0);
    const { head: found, fault: lastFault, isSigned } = await this.#lastOnDisk();
    this.#head = found ?? GENESIS;
    this.#signedSeq = isSigned === true ? this.#head.seq : 0;
    const why = (await this.#discontinuity(known, found)) ?? lastFault ?? setAside?.why;
    if (why === undefined) return;
    // Whichever is newer: a number that was acknowledged once is never given again.
    if (known !== undefined && known.seq >= this.#head.seq) this.#head = known;
    this.#restart({ known: known ?? null, found: found ?? null, why, setAside: setAside?.path ?? null });
  }

  /**
   * The batch that failed may be on disk all the same. It is built again from the same drafts on the same head, so it
   * is overwritten by equal bytes: the head in memory stays, as long as the disk still has it.
   */
  async #attachAgain({ setAside }: Opened): Promise<void> {
    const restarting = this.#waiting[0]?.restart === true;
    if (setAside === undefined && (restarting || this.#head.seq === 0)) return;
    const found = (await this.#lastOnDisk()).head;
    const why = setAside?.why ?? (await this.#discontinuity(this.#head, found));
    if (why === undefined) return;
    if (restarting) this.#waitingBytes -= this.#waiting.shift()?.draft.bytes ?? 0;
    this.#restart({ known: this.#head, found: found ?? null, why, setAside: setAside?.path ?? null });
  }

  async #lastOnDisk(): Promise<{ head: AuditHead | undefined; fault?: string; isSigned?: boolean }> {
    const range = { ...prefixRange(PREFIX.audit), reverse: true, limit: 1 };
    for await (const [key, value] of this.#database.scan(range)) {
      const entry = parseEntry(value);
      if (typeof entry !== 'string' && entry.seq === auditSeq(key)) {
        const isSigned = isSignedKind(entry.kind) && entry.what.signature !== undefined;
        return { head: { seq: entry.seq, hash: entry.hash }, isSigned };
      }
      const fault = `the last entry, ${auditSeq(key)}, is damaged`;
      return { head: { seq: auditSeq(key), hash: GENESIS.hash }, fault };
    }
    return { head: undefined };
  }

  /** Undefined when what is on disk continues, or is, what is known. */
  async #discontinuity(known: AuditHead | undefined, found: AuditHead | undefined): Promise<string | undefined> {
    if (known === undefined) return undefined;
    if (known.seq > (found?.seq ?? 0)) return `entries ${(found?.seq ?? 0) + 1} to ${known.seq} are missing`;
    const why = await this.#lacks(known);
    // A chain that began behind it with a note of its loss, and whose agent ended before the mark was written anew.
    const isBefore = why !== undefined && (await this.#database.get(auditKey(known.seq))) === undefined;
    return isBefore && (await this.#isLinkedTo(known)) ? undefined : why;
  }

  /** The chain goes on behind the head that was known, with a note of what happened as its next entry. */
  #restart(what: { known: AuditHead | null; found: AuditHead | null; why: string; setAside: string | null }): void {
    this.#reportBroken(`The audit chain goes on at ${this.#head.seq + 1} with a note: ${what.why}`, this.#head.seq);
    const atMs = this.#clock.wallMs();
    const signer = this.#keys?.signer;
    const input = { kind: RESTART_KIND, who: 'agent', what };
    const note = signer === undefined ? draft(input, atMs) : signedDraft(input, { atMs, signer });
    const nobody = { resolve: () => undefined, reject: () => undefined };
    this.#waiting.unshift({ draft: note, restart: true, note: this.#pointer, ...nobody });
    this.#waitingBytes += note.bytes;
    this.#wake();
  }

  #reportBroken(message: string, auditSeqAt: number): void {
    this.#log.error(message, { event: 'audit.broken', code: 'SKOS_AUDIT_BROKEN', auditSeq: auditSeqAt });
  }
}

function notWritten(why: string): SkosError {
  return new SkosError('SKOS_STORE_WRITE', `The audit entry is not recorded: ${why}`);
}
