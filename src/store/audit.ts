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
 */

import type { Clock } from '../core/clock.js';
import { SkosError } from '../core/errors.js';
import type { AuditEntry, AuditHead, AuditInput, AuditLog, AuditVerdict, Log } from '../core/ports.js';
import { ChainVerifier, type Draft, draft, GENESIS, parseEntry, RESTART_KIND, seal } from './audit-entry.js';
import type { Database, Opened, Operation } from './database.js';
import type { HeadMark } from './head-mark.js';
import { auditKey, auditSeq, PREFIX, prefixRange } from './keys.js';
import type { Sealer } from './writer.js';

/** Half a day of a busy node's entries; with MAX_WAITING_BYTES a bound on memory. */
export const MAX_WAITING = 10_000;
const MAX_WAITING_BYTES = 8 * 1024 * 1024;
/** Entries in one batch: some hundred KiB, so that a backlog goes to disk in pieces that each make progress. */
const MAX_SEALED = 512;
/** The most that list() returns at once: the socket's line is bounded to 4 MiB. */
export const MAX_LISTED = 5_000;

interface Pending {
  readonly draft: Draft;
  readonly resolve: (entry: AuditEntry) => void;
  readonly reject: (error: SkosError) => void;
  /** The note of attach(): it goes first. */
  readonly restart?: true;
}

export interface AuditChainOptions {
  readonly database: Database;
  readonly mark: HeadMark;
  readonly log: Log;
  readonly clock: Clock;
  /** Called when an entry waits. */
  readonly wake: () => void;
}

export class AuditChain implements AuditLog, Sealer {
  readonly durable = true;
  readonly #database: Database;
  readonly #mark: HeadMark;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #wake: () => void;
  #head: AuditHead = GENESIS;
  #attached = false;
  #waiting: Pending[] = [];
  #waitingBytes = 0;
  #sealing: { readonly pending: Pending[]; readonly texts: string[]; readonly head: AuditHead } | undefined;
  #refused = 0;
  #refusedSinceMs = 0;
  #closed = false;

  constructor({ database, mark, log, clock, wake }: AuditChainOptions) {
    this.#database = database;
    this.#mark = mark;
    this.#log = log;
    this.#clock = clock;
    this.#wake = wake;
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

  async verify(): Promise<AuditVerdict> {
    const { head: mark } = await this.#mark.read();
    const known = mark !== undefined && mark.seq > this.#head.seq ? mark : this.#head;
    const verifier = new ChainVerifier({ known });
    for await (const [key, value] of this.#database.scan(prefixRange(PREFIX.audit))) {
      if (!verifier.next(parseEntry(value), auditSeq(key))) break;
    }
    return verifier.verdict();
  }

  async list({ fromSeq, limit }: { fromSeq: number; limit: number }): Promise<AuditEntry[]> {
    const entries: AuditEntry[] = [];
    const most = Math.min(Math.max(0, Math.floor(limit)), MAX_LISTED);
    if (most === 0) return entries;
    const range = { gte: auditKey(fromSeq), lt: prefixRange(PREFIX.audit).lt, limit: most };
    for await (const [key, value] of this.#database.scan(range)) {
      const entry = parseEntry(value);
      // A damaged entry has no honest form in this list; verify() names it.
      if (typeof entry === 'string') this.#reportBroken(`Audit entry ${auditSeq(key)} ${entry}`, auditSeq(key));
      else entries.push(entry);
    }
    return entries;
  }

  /** Refuses what comes from now on. */
  close(): void {
    this.#closed = true;
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
    if (this.#attached) await this.#attachAgain(opened);
    else await this.#attachFirst(opened);
    this.#attached = true;
  }

  seal(): Operation[] {
    const pending = this.#waiting.slice(0, MAX_SEALED);
    const texts: string[] = [];
    const operations: Operation[] = [];
    let head = this.#head;
    for (const { draft: each } of pending) {
      const sealed = seal(each, head);
      head = sealed.head;
      texts.push(sealed.text);
      operations.push({ type: 'put', key: auditKey(head.seq), value: Buffer.from(sealed.text, 'utf8') });
    }
    this.#sealing = { pending, texts, head };
    return operations;
  }

  sealed(): void {
    const done = this.#sealing;
    if (done === undefined) return;
    this.#sealing = undefined;
    this.#waiting.splice(0, done.pending.length);
    for (const { draft: each } of done.pending) this.#waitingBytes -= each.bytes;
    this.#head = done.head;
    this.#mark.set(done.head);
    this.#noteRefused();
    done.pending.forEach(({ resolve }, i) => {
      resolve(JSON.parse(done.texts[i] ?? '') as AuditEntry);
    });
  }

  // ---- Inside ----

  #enqueue(each: Draft): Promise<AuditEntry> {
    if (this.#closed) return Promise.reject(notWritten('the store is closed'));
    if (this.#waiting.length >= MAX_WAITING || this.#waitingBytes + each.bytes > MAX_WAITING_BYTES) {
      if (this.#refused++ === 0) this.#refusedSinceMs = each.atMs;
      return Promise.reject(notWritten('the disk does not take writes and memory for entries is used up'));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ draft: each, resolve, reject });
      this.#waitingBytes += each.bytes;
      this.#wake();
    });
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
    const { head: known, fault: markFault } = await this.#mark.read();
    if (markFault !== undefined) this.#reportBroken(`The mark of the audit head cannot be used: ${markFault}`, 0);
    const { head: found, fault: lastFault } = await this.#lastOnDisk();
    this.#head = found ?? GENESIS;
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
    if (restarting) this.#waiting.shift();
    this.#restart({ known: this.#head, found: found ?? null, why, setAside: setAside?.path ?? null });
  }

  async #lastOnDisk(): Promise<{ head: AuditHead | undefined; fault?: string }> {
    const range = { ...prefixRange(PREFIX.audit), reverse: true, limit: 1 };
    for await (const [key, value] of this.#database.scan(range)) {
      const entry = parseEntry(value);
      if (typeof entry !== 'string' && entry.seq === auditSeq(key))
        return { head: { seq: entry.seq, hash: entry.hash } };
      const fault = `the last entry, ${auditSeq(key)}, is damaged`;
      return { head: { seq: auditSeq(key), hash: GENESIS.hash }, fault };
    }
    return { head: undefined };
  }

  /** Undefined when what is on disk continues, or is, what is known. */
  async #discontinuity(known: AuditHead | undefined, found: AuditHead | undefined): Promise<string | undefined> {
    if (known === undefined) return undefined;
    if (known.seq > (found?.seq ?? 0)) return `entries ${(found?.seq ?? 0) + 1} to ${known.seq} are missing`;
    const value = await this.#database.get(auditKey(known.seq));
    const entry = value === undefined ? 'is missing' : parseEntry(value);
    if (typeof entry === 'string') return `entry ${known.seq} ${entry}`;
    return entry.hash === known.hash ? undefined : `entry ${known.seq} is not the one that was acknowledged`;
  }

  /** The chain goes on behind the head that was known, with a note of what happened as its next entry. */
  #restart(what: { known: AuditHead | null; found: AuditHead | null; why: string; setAside: string | null }): void {
    this.#reportBroken(`The audit chain goes on at ${this.#head.seq + 1} with a note: ${what.why}`, this.#head.seq);
    const note = draft({ kind: RESTART_KIND, who: 'agent', what }, this.#clock.wallMs());
    this.#waiting.unshift({ draft: note, restart: true, resolve: () => undefined, reject: () => undefined });
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
