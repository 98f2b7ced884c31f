/**
 * The verbs of a backup: `skos backup` reads the records of one moment, page by page, at its own pace.
 *
 * An open snapshot keeps the space of what is deleted meanwhile, so there is one at a time, it belongs to one connection, and it
 * ends with that, when nothing is asked for a while, and after an hour in any case. Pages are small, because each is made in one
 * slice of the event loop, in which the protection tick runs too. However it ends, the audit chain says who read the record.
 */
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import type { RecordSnapshot, Store } from '../core/ports.js';
import type { BackupTaken, Verb, Verbs } from '../core/protocol.js';
import type { Record } from './record.js';
import type { Caller, Handlers } from './socket-server.js';

/**
 * Unpacked. Measured: a page of 64 KiB takes 0.6 ms of the event loop in several slices, the longest, its encoding, 0.2 ms; larger
 * pages cost the same for a byte and hold up a tick for longer.
 */
export const PAGE_BYTES = 64 * 1024;
/** A disk of the reader that stalls is given this long. */
const IDLE_MS = 60_000;
/** The largest store over a slow link to a memory stick; beyond it the reader is broken. */
const LIFETIME_MS = 3_600_000;

type BackupVerb = Extract<Verb, `backup${string}`>;

export interface BackupVerbOptions {
  readonly store: Pick<Store, 'snapshot'>;
  readonly node: string;
  readonly program: string;
  readonly dataDir: string;
  readonly record: Pick<Record, 'add'>;
  readonly clock: Clock;
  /** Default IDLE_MS and LIFETIME_MS. */
  readonly limitsMs?: { readonly idle: number; readonly lifetime: number };
}

export function backupHandlers(options: BackupVerbOptions): Pick<Handlers, BackupVerb> {
  const desk = new BackupDesk(options);
  return {
    'backup.begin': (_params, caller) => desk.begin(caller),
    'backup.read': (_params, caller) => desk.read(caller),
    'backup.end': async ({ taken }, caller) => {
      await desk.end(caller, taken);
      return {};
    },
  };
}

class BackupDesk {
  readonly #options: BackupVerbOptions;
  #session: Session | undefined;
  /** Why a connection's session is over, for its next request. */
  readonly #ended = new WeakMap<Caller, string>();

  constructor(options: BackupVerbOptions) {
    this.#options = options;
  }

  async begin(caller: Caller): Promise<Verbs['backup.begin']['result']> {
    const { store, node, program, dataDir, clock, limitsMs } = this.#options;
    if (this.#session !== undefined) {
      throw new SkosError('SKOS_BACKUP_BUSY', `${this.#session.who} is taking one since ${this.#session.since}`);
    }
    if (store.snapshot === undefined) throw new SkosError('SKOS_STORE_OPEN', 'no database is open: nothing is on disk');
    const session = new Session({
      caller,
      atMs: Math.round(clock.wallMs()),
      limitsMs: limitsMs ?? { idle: IDLE_MS, lifetime: LIFETIME_MS },
      onEnd: (why, taken) => this.#over(session, why, taken),
    });
    // Taken before anything is awaited: of two that come at once, one gets it.
    this.#session = session;
    try {
      const { facts, missing } = await session.open(await store.snapshot());
      return { node, program, dataDir, atMs: session.atMs, ...facts, missing };
    } catch (error) {
      await session.end(reason(error));
      throw error;
    }
  }

  async read(caller: Caller): Promise<Verbs['backup.read']['result']> {
    const piece = await this.#of(caller).read();
    return piece === undefined
      ? { data: null, fraction: 1 }
      : { data: piece.bytes.toString('base64'), fraction: piece.fraction };
  }

  async end(caller: Caller, taken: BackupTaken | undefined): Promise<void> {
    const session = this.#of(caller);
    if (taken !== undefined && !session.isRead) {
      throw new SkosError('SKOS_PROTOCOL_INVALID', 'a backup was called taken before all of it was read');
    }
    await session.end(taken === undefined ? 'it was given up' : '', taken);
  }

  #of(caller: Caller): Session {
    if (this.#session?.caller === caller) return this.#session;
    throw new SkosError('SKOS_BACKUP_ENDED', this.#ended.get(caller) ?? 'no backup was begun on this connection');
  }

  #over(session: Session, why: string, taken: BackupTaken | undefined): void {
    if (this.#session === session) this.#session = undefined;
    const { caller, who, bytes, auditHead } = session;
    this.#ended.set(caller, why === '' ? 'this backup is done' : why);
    // Refused before anything was read: the caller has the reason, and the record says nothing.
    if (taken === undefined && bytes === 0) return;
    const kind = taken === undefined ? 'backup.ended' : 'backup.taken';
    const what = taken === undefined ? { why, readBytes: bytes, auditHead } : { ...taken, auditHead };
    const message =
      taken === undefined
        ? `A backup by ${who} ended after ${bytes} bytes were read: ${why}`
        : `${who} took a backup${taken.withKeys ? ' with the keys of the audit chain' : ''}: ${taken.records} records, SHA-256 ${taken.sha256}`;
    this.#options.record.add({
      kind,
      who,
      what: { ...what, startedAtMs: session.atMs },
      level: 'info',
      message,
      fields: { event: kind },
    });
  }
}

interface SessionOptions {
  readonly caller: Caller;
  readonly atMs: number;
  readonly limitsMs: { readonly idle: number; readonly lifetime: number };
  readonly onEnd: (why: string, taken: BackupTaken | undefined) => void;
}

class Session {
  readonly caller: Caller;
  readonly atMs: number;
  readonly #options: SessionOptions;
  readonly #lifetime: NodeJS.Timeout;
  #idle: NodeJS.Timeout | undefined;
  #snapshot: RecordSnapshot | undefined;
  /** Reads of one session are done one after the other, however they are asked. */
  #reading: Promise<unknown> = Promise.resolve();
  #over = false;
  isRead = false;
  bytes = 0;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.caller = options.caller;
    this.atMs = options.atMs;
    const { lifetime } = options.limitsMs;
    this.#lifetime = setTimeout(
      () => this.#abort(`it took longer than ${Math.round(lifetime / 60_000)} min`),
      lifetime,
    );
    this.#lifetime.unref();
    this.caller.gone?.addEventListener('abort', () => this.#abort('the connection was closed'), { once: true });
  }

  get who(): string {
    const { uid } = this.caller.credentials;
    return uid === 0 ? 'root' : `uid ${uid}`;
  }

  get since(): string {
    return new Date(this.atMs).toISOString();
  }

  get auditHead(): RecordSnapshot['facts']['auditHead'] | null {
    return this.#snapshot?.facts.auditHead ?? null;
  }

  async open(snapshot: RecordSnapshot): Promise<RecordSnapshot> {
    this.#snapshot = snapshot;
    if (this.caller.gone?.aborted === true || this.#over) {
      await snapshot.close();
      throw new SkosError('SKOS_BACKUP_ENDED', 'the connection was closed');
    }
    this.#wait();
    return snapshot;
  }

  read(): ReturnType<RecordSnapshot['next']> {
    const piece = this.#reading.then(() => this.#readNext());
    this.#reading = piece.catch(() => undefined);
    return piece;
  }

  /** Idempotent. */
  async end(why: string, taken?: BackupTaken): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#lifetime);
    clearTimeout(this.#idle);
    this.#options.onEnd(why, taken);
    // A read on its way is let finish: closing under it would be a fault of ours in the log of the reader.
    await this.#reading;
    await this.#snapshot?.close();
  }

  async #readNext(): ReturnType<RecordSnapshot['next']> {
    if (this.#over || this.#snapshot === undefined) throw new SkosError('SKOS_BACKUP_ENDED', 'the backup is over');
    clearTimeout(this.#idle);
    try {
      const piece = await this.#snapshot.next(PAGE_BYTES);
      if (piece === undefined) this.isRead = true;
      else this.bytes += piece.bytes.length;
      return piece;
    } catch (error) {
      this.#abort(`the database was not read to its end: ${reason(error)}`);
      throw error;
    } finally {
      this.#wait();
    }
  }

  #wait(): void {
    if (this.#over) return;
    const { idle } = this.#options.limitsMs;
    this.#idle = setTimeout(() => this.#abort(`nothing was asked for ${Math.round(idle / 1000)} s`), idle);
    this.#idle.unref();
  }

  #abort(why: string): void {
    // What closing an abandoned snapshot may fail at concerns nobody: the database is closed or broken, and says so itself.
    this.end(why).catch(() => undefined);
  }
}
