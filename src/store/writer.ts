/**
 * The one writer of the database: gathers what is to be written and writes it in rounds, one batch each.
 *
 * Records (alerts, actions, state, the channel dictionary), items of the outbox and samples (chunks of the time series) wait up to
 * FLUSH_AFTER_MS, less when they take half of the memory for them, and go without sync; a later version of a key replaces the
 * waiting one, so that waiting costs bounded memory. Audit entries start a round at once, and that round is synced; what arrives
 * while it runs goes together in the next one (group commit). Records that wait ride along, so that an audit entry never is on
 * disk without the records that were put before it. So do operations of putSynced(): whoever removes another copy of something
 * when it is in the database waits for them.
 *
 * What waits beyond MAX_OPERATIONS goes before them in batches of its own, because handing a batch to LevelDB holds up the event loop
 * for some microseconds an operation: what a dead disk has left waiting is tens of thousands.
 *
 * When a write fails, everything stays here and is tried again with back-off. Before each try the disk is probed, and
 * only when it takes a write is the database closed and recovered: meanwhile it can still be read. Nobody waits for any
 * of this but the callers of audit.append(). It is reported once when it begins and once when it is over.
 */
import { open, statfs, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import type { Database, Opened, Operation, ScanOptions, SetAsideDatabase } from './database.js';
import { type KeyRange, keyText } from './keys.js';
import { View } from './view.js';

/** How long an unsynced record may wait: one batch a second costs next to nothing, one per put 37 µs each. */
const FLUSH_AFTER_MS = 1_000;
/** Waiting records: some thousand alerts and actions. Beyond it the oldest go, counted. */
export const MAX_RECORD_BYTES = 4 * 1024 * 1024;
/** Waiting chunks: hours of 64 channels. Beyond it the oldest go, counted. */
const MAX_SAMPLE_BYTES = 4 * 1024 * 1024;
/** Waiting items of the outbox: some thousand. With a bound of their own they take no record's room when the disk fails. */
const MAX_QUEUED_BYTES = 1024 * 1024;
/** Of those three in one batch: a few milliseconds in which nothing else runs. */
const MAX_OPERATIONS = 512;
/** First and longest pause between tries: soon enough for a log rotation that makes space, rare enough to cost nothing. */
export const RETRY_FIRST_MS = 250;
const RETRY_MAX_MS = 15_000;
/** A write that takes longer than this is reported as hanging: a healthy disk needs milliseconds. */
const HANGING_AFTER_MS = 5_000;
/** Recovery writes up to one memtable as a table, and a manifest: twice that must be free before it is tried. */
const RECOVERY_SPACE_BYTES = 3 * 1024 * 1024;
const PROBE_BYTES = 4096;

/** The audit chain, as the writer sees it. */
export interface Sealer {
  /** True when entries wait. */
  readonly waiting: boolean;
  /** The operations of the entries that wait, chained to the head on disk. */
  seal(): Operation[];
  /** The last sealed entries are on disk. */
  sealed(): void;
  /** The database was opened: find the head that is on disk. */
  attach(opened: Opened): Promise<void>;
}

export interface WriterOptions {
  readonly database: Database;
  readonly log: Log;
  readonly clock: Clock;
  /** Called after a damaged database was replaced while running, to write again what memory still holds. */
  readonly onFresh: (damaged: SetAsideDatabase) => void;
  /** Called with an operation of putQueued() that did not fit into memory. It must not put anything. */
  readonly onQueuedDrop?: (operation: Operation) => void;
}

/** Waiting operations of one kind: latest version per key, oldest first, bounded. */
class Waiting {
  operations: Map<string, Operation> = new Map();
  readonly #maxBytes: number;
  #bytes = 0;
  /** Dropped since the last time somebody asked. */
  dropped = 0;
  readonly #onDrop: ((operation: Operation) => void) | undefined;

  constructor(maxBytes: number, onDrop?: (operation: Operation) => void) {
    this.#maxBytes = maxBytes;
    this.#onDrop = onDrop;
  }

  /** Soon there is no room for more: whoever writes does not let it wait. */
  get isPressing(): boolean {
    return 2 * this.#bytes > this.#maxBytes;
  }

  add(operation: Operation): void {
    const key = keyText(operation.key);
    this.#remove(key);
    this.operations.set(key, operation);
    this.#bytes += cost(operation);
    this.#bound();
  }

  #bound(): void {
    for (const [oldest, dropped] of this.operations) {
      if (this.#bytes <= this.#maxBytes) break;
      this.#remove(oldest);
      this.dropped++;
      this.#onDrop?.(dropped);
    }
  }

  #remove(key: string): void {
    const former = this.operations.get(key);
    if (former === undefined) return;
    this.#bytes -= cost(former);
    this.operations.delete(key);
  }

  /** The oldest. */
  take(most: number): Operation[] {
    const taken: Operation[] = [];
    for (const [key, operation] of this.operations) {
      if (taken.length >= most) break;
      taken.push(operation);
      this.#remove(key);
    }
    return taken;
  }

  /** A batch that failed comes back; what is newer stays. */
  giveBack(operations: readonly Operation[]): void {
    const newer = this.operations;
    this.operations = new Map();
    for (const operation of operations) {
      const key = keyText(operation.key);
      if (newer.has(key)) continue;
      this.operations.set(key, operation);
      this.#bytes += cost(operation);
    }
    for (const [key, operation] of newer) this.operations.set(key, operation);
    this.#bound();
  }
}

/** Bytes of one operation, with about what a Map entry, a Buffer and an object take beside them. */
function cost(operation: Operation): number {
  return 200 + 2 * operation.key.length + (operation.type === 'put' ? operation.value.length : 0);
}

/** Operations that somebody waits for. */
interface Synced {
  readonly operations: readonly Operation[];
  readonly written: () => void;
}

/** Operations that count only where the database has nothing, and nothing newer waits. */
interface IfAbsent {
  readonly operations: readonly Operation[];
  readonly written: (count: number) => void;
}

interface Round {
  readonly records: Operation[];
  readonly samples: Operation[];
  readonly queued: Operation[];
  readonly synced: readonly Synced[];
  readonly sinceMs: number;
}

export class Writer {
  readonly #database: Database;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #onFresh: (damaged: SetAsideDatabase) => void;
  readonly #onQueuedDrop: (operation: Operation) => void;
  readonly #records = new Waiting(MAX_RECORD_BYTES);
  readonly #samples = new Waiting(MAX_SAMPLE_BYTES);
  readonly #queued = new Waiting(MAX_QUEUED_BYTES, (operation) => this.#onQueuedDrop(operation));
  /** Not bounded here: see putSynced(). */
  #synced: Synced[] = [];
  /** One at a time: see putAbsent(). */
  #ifAbsent: IfAbsent[] = [];
  #sealer: Sealer | undefined;
  #round: Round | undefined;
  #running: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failure: { readonly why: string; readonly sinceMs: number } | undefined;
  #retryMs = RETRY_FIRST_MS;
  #syncAll = false;
  /** Opened again, and not told to the sealer and to onFresh() yet. */
  #untold: Opened | undefined;
  #stopped = true;

  constructor({ database, log, clock, onFresh, onQueuedDrop = () => undefined }: WriterOptions) {
    this.#database = database;
    this.#log = log;
    this.#clock = clock;
    this.#onFresh = onFresh;
    this.#onQueuedDrop = onQueuedDrop;
  }

  start(sealer: Sealer): void {
    this.#sealer = sealer;
    this.#stopped = false;
    this.#next();
  }

  /** Writes what is left, synced, as long as the disk takes it; true when nothing is left. */
  async stop(): Promise<boolean> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#syncAll = true;
    await this.#running;
    do await this.#run();
    while (this.#anythingWaits() && this.#failure === undefined);
    return !this.#anythingWaits();
  }

  /** Records and samples that are not in the database yet. */
  get waitingRecords(): number {
    const { records = [], samples = [], queued = [] } = this.#round ?? {};
    const inFlight = records.length + samples.length + queued.length;
    const synced = [...(this.#round?.synced ?? []), ...this.#synced].reduce((n, each) => n + each.operations.length, 0);
    const waiting = [this.#records, this.#samples, this.#queued].reduce((n, each) => n + each.operations.size, 0);
    return inFlight + synced + waiting;
  }

  /** Those that did not fit into memory, since the disk stopped taking writes. */
  get droppedRecords(): number {
    return this.#records.dropped + this.#samples.dropped + this.#queued.dropped;
  }

  /** Empty when all is well. */
  trouble(): string {
    if (this.#failure !== undefined) return this.#failure.why;
    const waitedMs = this.#round === undefined ? 0 : this.#clock.monotonicMs() - this.#round.sinceMs;
    return waitedMs > HANGING_AFTER_MS ? `a write has been waiting for ${Math.round(waitedMs / 1000)} s` : '';
  }

  putRecord(operation: Operation): void {
    this.#records.add(operation);
    this.#schedule(this.#records.isPressing ? 0 : FLUSH_AFTER_MS);
  }

  /** Of the outbox. Like a record, it rides with the next round, which is synced when an audit entry is in it. */
  putQueued(operation: Operation): void {
    this.#queued.add(operation);
    this.#schedule(this.#queued.isPressing ? 0 : FLUSH_AFTER_MS);
  }

  putSamples(operation: Operation): void {
    this.#samples.add(operation);
    this.#schedule(this.#samples.isPressing ? 0 : FLUSH_AFTER_MS);
  }

  /**
   * One batch that is synced, at once: resolves when it is on disk, however long that takes, and never when the writer is stopped
   * before. None of it is dropped: whoever calls bounds it by waiting.
   */
  putSynced(operations: readonly Operation[]): Promise<void> {
    return new Promise((written) => {
      this.#synced.push({ operations, written });
      this.#schedule(0);
    });
  }

  /**
   * As putSynced(), of older records: each is written only when its key has no value in the database and none that waits. The round
   * looks for itself, and nothing else writes meanwhile. Resolves with how many were written.
   */
  putAbsent(operations: readonly Operation[]): Promise<number> {
    return new Promise((written) => {
      this.#ifAbsent.push({ operations, written });
      this.#schedule(0);
    });
  }

  /** An audit entry waits: begin a round now, unless one runs or the disk is being waited for. */
  wake(): void {
    if (this.#sealer?.waiting === true) this.#schedule(0);
  }

  /** The value that a key has, or will have when what waits is written. */
  async get(key: Buffer): Promise<Buffer | undefined> {
    let waiting: Operation | undefined;
    for (const operation of this.#waiting()) if (operation.key.equals(key)) waiting = operation;
    if (waiting !== undefined) return waiting.type === 'put' ? waiting.value : undefined;
    return this.#database.get(key);
  }

  /** Entries of a range as they will be when what waits is written; at most `limit`. */
  async range(options: ScanOptions & { readonly limit: number }): Promise<[Buffer, Buffer][]> {
    const view = this.view([options]);
    try {
      const found: [Buffer, Buffer][] = [];
      for await (const entry of view.scan(options)) found.push(entry);
      return found;
    } finally {
      await view.close();
    }
  }

  /** These ranges as they are now, with what waits: for scans that must fit together. Throws SKOS_STORE_READ. */
  view(ranges: readonly KeyRange[]): View {
    const waiting = ranges.flatMap((range) => [...this.#overlayWithin(range)]);
    return new View(this.#database, waiting);
  }

  #overlayWithin({ gte, lt }: KeyRange): Map<string, Operation> {
    const overlay = new Map<string, Operation>();
    for (const operation of this.#waiting()) {
      const { key } = operation;
      if (Buffer.compare(key, gte) >= 0 && Buffer.compare(key, lt) < 0) overlay.set(keyText(key), operation);
    }
    return overlay;
  }

  /** Later ones count, where several have one key. */
  *#waiting(): Generator<Operation> {
    const { records = [], samples = [], queued = [], synced = [] } = this.#round ?? {};
    yield* records;
    yield* samples;
    yield* queued;
    for (const { operations } of synced) yield* operations;
    yield* this.#records.operations.values();
    yield* this.#samples.operations.values();
    yield* this.#queued.operations.values();
    for (const { operations } of this.#synced) yield* operations;
  }

  #anythingWaits(): boolean {
    return this.waitingRecords > 0 || this.#sealer?.waiting === true;
  }

  #schedule(afterMs: number): void {
    if (this.#stopped || this.#running !== undefined || this.#failure !== undefined) return;
    if (afterMs === 0) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#begin();
    } else {
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        this.#begin();
      }, afterMs);
    }
  }

  #begin(): void {
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
      this.#next();
    });
  }

  #next(): void {
    if (this.#stopped) return;
    if (this.#failure !== undefined) this.#retryLater();
    else if (this.#isAwaited || this.#isPressing) this.#schedule(0);
    else if (this.waitingRecords > 0) this.#schedule(FLUSH_AFTER_MS);
  }

  #retryLater(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#begin();
    }, this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
  }

  /** One round. Never rejects. */
  async #run(): Promise<void> {
    try {
      if (this.#database.state !== 'open') await this.#recover();
      if (this.#untold !== undefined) await this.#tell(this.#untold);
      while (this.#isCrowded) await this.#writeRound({ isLast: false });
      await this.#writeRound({ isLast: true });
      this.#reportRecovery();
    } catch (error) {
      this.#reportFailure(error);
    }
  }

  async #recover(): Promise<void> {
    await probeDisk(dirname(this.#database.directory));
    const opened = await this.#database.reopen();
    // A database that was set aside stays to be told, should the next one fail before it is.
    const setAside = opened.setAside ?? this.#untold?.setAside;
    this.#untold = setAside === undefined ? opened : { ...opened, setAside };
  }

  async #tell(opened: Opened): Promise<void> {
    await this.#sealer?.attach(opened);
    this.#untold = undefined;
    if (opened.setAside !== undefined) this.#onFresh(opened.setAside);
  }

  /** Somebody waits for what is to be synced. */
  get #isAwaited(): boolean {
    return this.#sealer?.waiting === true || this.#synced.length > 0 || this.#ifAbsent.length > 0;
  }

  get #isPressing(): boolean {
    return this.#records.isPressing || this.#samples.isPressing || this.#queued.isPressing;
  }

  get #isCrowded(): boolean {
    const waiting = [this.#records, this.#samples, this.#queued].reduce((n, each) => n + each.operations.size, 0);
    return waiting > MAX_OPERATIONS;
  }

  /** The last one has all that is left; those before it a part of the records, samples and items that were put first. */
  async #writeRound({ isLast }: { isLast: boolean }): Promise<void> {
    // Synced as what will stand behind them: where LevelDB begins a new log in between, syncing that one says nothing of this.
    const sync = this.#isAwaited || this.#syncAll;
    const audit = isLast ? (this.#sealer?.seal() ?? []) : [];
    const records = this.#records.take(MAX_OPERATIONS);
    const samples = this.#samples.take(MAX_OPERATIONS - records.length);
    const queued = this.#queued.take(MAX_OPERATIONS - records.length - samples.length);
    const synced = isLast ? this.#synced.splice(0) : [];
    const ifAbsent = isLast ? this.#ifAbsent.splice(0) : [];
    this.#round = { records, samples, queued, synced, sinceMs: this.#clock.monotonicMs() };
    const newer = [...records, ...samples, ...queued, ...synced.flatMap((each) => each.operations), ...audit];
    try {
      const older: Operation[][] = [];
      for (const { operations } of ifAbsent) older.push(await this.#absent(operations, [...newer, ...older.flat()]));
      const operations = [...older.flat(), ...newer];
      if (operations.length > 0) await this.#database.write(operations, { sync });
      if (audit.length > 0) this.#sealer?.sealed();
      for (const { written } of synced) written();
      ifAbsent.forEach(({ written }, i) => {
        written(older[i]?.length ?? 0);
      });
    } catch (error) {
      this.#synced = [...synced, ...this.#synced];
      this.#ifAbsent = [...ifAbsent, ...this.#ifAbsent];
      this.#records.giveBack(records);
      this.#samples.giveBack(samples);
      this.#queued.giveBack(queued);
      throw error;
    } finally {
      this.#round = undefined;
    }
  }

  async #absent(operations: readonly Operation[], newer: readonly Operation[]): Promise<Operation[]> {
    if (operations.length === 0) return [];
    const taken = new Set(newer.map(({ key }) => keyText(key)));
    const absent: Operation[] = [];
    for (const operation of operations) {
      if (!taken.has(keyText(operation.key)) && (await this.#database.get(operation.key)) === undefined) {
        absent.push(operation);
      }
    }
    return absent;
  }

  #reportFailure(error: unknown): void {
    const why = reason(error);
    if (this.#failure === undefined) {
      this.#log.error(`The record is kept in memory: ${why}`, { event: 'store.failed', code: codeOf(error), error });
    }
    this.#failure = { why, sinceMs: this.#failure?.sinceMs ?? this.#clock.monotonicMs() };
  }

  #reportRecovery(): void {
    if (this.#failure === undefined) return;
    const seconds = Math.round((this.#clock.monotonicMs() - this.#failure.sinceMs) / 1000);
    const lost = this.droppedRecords;
    this.#records.dropped = 0;
    this.#samples.dropped = 0;
    this.#queued.dropped = 0;
    this.#failure = undefined;
    this.#retryMs = RETRY_FIRST_MS;
    const fate = lost === 0 ? 'nothing was lost' : `${lost} records did not fit into memory and are lost`;
    this.#log.warn(`The disk takes writes again after ${seconds} s; ${fate}`, { event: 'store.recovered', lost });
  }
}

function codeOf(error: unknown): 'SKOS_STORE_WRITE' | SkosError['code'] {
  return error instanceof SkosError ? error.code : 'SKOS_STORE_WRITE';
}

/** Rejects while the file system has no room for a recovery, or takes no write. */
async function probeDisk(directory: string): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  if (bavail * bsize < RECOVERY_SPACE_BYTES) {
    throw new SkosError('SKOS_STORE_WRITE', `${directory}: only ${bavail * bsize} bytes are free`);
  }
  const path = `${directory}/.probe`;
  try {
    const file = await open(path, 'w', 0o600);
    try {
      await file.write(Buffer.alloc(PROBE_BYTES));
      await file.datasync();
    } finally {
      await file.close();
    }
  } finally {
    await unlink(path).catch((error: unknown) => {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    });
  }
}
