/**
 * The LevelDB database under `<data_dir>/db`: opening, closing, reading, writing; named states, one transition at a time.
 *
 * A failed write leaves LevelDB in a state in which later writes seem to succeed and are lost at the next recovery: its
 * log holds a torn record, and the writer has lost count of the block offset. So a failed write marks the database
 * `tainted` and every further write is refused until reopen(), which recovers from what is really on disk.
 *
 * A directory that LevelDB calls corrupt is set aside under another name, never deleted, and a fresh one is begun. So is
 * one whose CURRENT file is gone: LevelDB would take it for empty and delete its tables.
 */
import { mkdir, open, readdir, rename, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isThere, syncDirectory } from '../core/atomic-file.js';
import { reason, SkosError, systemCode } from '../core/errors.js';
import { FORMAT_KEY, type KeyRange, PREFIX, salvageKey, textKey } from './keys.js';
import { batchesOf, isTableName, type LevelHandle, levelCode, openLevel, rootCause, TABLE_MAGIC } from './level.js';

/** Bump, with a migration, when a record changes its form; a database with a higher number is refused. */
export const FORMAT_VERSION = 2;
export const RUN_KEY = textKey(PREFIX.meta, 'run');

const LEVEL_OPTIONS = {
  /** Measured: saves 5 MB of resident memory against LevelDB's 4 MiB default. */
  writeBufferSize: 1024 * 1024,
  /** Reads are rare and mostly sequential; LevelDB's default of 8 MiB would only sit there. */
  cacheSize: 512 * 1024,
  /** Tables are 2 MiB each; this many cover the whole default size without keeping every one mapped. */
  maxOpenFiles: 128,
};
/** Entries fetched per hop to a pool thread: some tens of KiB, so that a scan neither hops nor hoards. */
const SCAN_BATCH = 128;

/** Looked at together: some hundred tables take milliseconds. */
const TABLES_AT_ONCE = 8;

export type Operation =
  | { readonly type: 'put'; readonly key: Buffer; readonly value: Buffer }
  | { readonly type: 'del'; readonly key: Buffer };

export interface ScanOptions extends KeyRange {
  readonly reverse?: boolean;
  readonly limit?: number;
  /** Of Database.snapshot(); else as it is at the first step. */
  readonly snapshot?: Snapshot;
}

/** The database as it was at one moment. */
export type Snapshot = ReturnType<LevelHandle['snapshot']>;

export type DatabaseState = 'closed' | 'opening' | 'open' | 'tainted' | 'closing';

/** Where a damaged database was moved to, and what LevelDB said of it. */
export interface SetAsideDatabase {
  readonly path: string;
  readonly why: string;
}

/** What open() found. */
export interface Opened {
  readonly setAside?: SetAsideDatabase;
  /** Counts openings; tells the runs of one database apart. */
  readonly run: number;
}

/** A database of an earlier format, for whoever brings it to this one while it is being opened. */
export interface Opening {
  /** The number that it has. */
  readonly format: number;
  readonly get: Database['get'];
  /** Rejects with SKOS_STORE_WRITE. */
  readonly write: (operations: readonly Operation[], options: { sync: boolean }) => Promise<void>;
}

export interface DatabaseOptions {
  /** Resolves when the database has FORMAT_VERSION. Absent: one of an earlier format is refused as one of a later is. */
  readonly migrate?: (opening: Opening) => Promise<void>;
}

/** What classic-level, which `level` is outside of a browser, offers beside what its types say. */
interface Tables {
  approximateSize(start: Buffer, end: Buffer): Promise<number>;
  compactRange(start: Buffer, end: Buffer): Promise<void>;
}
type Handle = LevelHandle & Tables;

export class Database {
  readonly directory: string;
  readonly #dataDir: string;
  readonly #migrate: DatabaseOptions['migrate'];
  #state: DatabaseState = 'closed';
  #level: Handle | undefined;
  /** Remembered until the next reopen(): damage found while running is treated as damage found at the start. */
  #lastCorruption: string | undefined;
  /** Set aside, and not said yet: opening the one in its place has failed so far. */
  #setAside: SetAsideDatabase | undefined;

  constructor(dataDir: string, { migrate }: DatabaseOptions = {}) {
    this.#dataDir = dataDir;
    this.#migrate = migrate;
    this.directory = join(dataDir, 'db');
  }

  get state(): DatabaseState {
    return this.#state;
  }

  /** Rejects with SKOS_STORE_LOCKED, SKOS_STORE_VERSION, SKOS_STORE_OPEN, or as `migrate` does; then the state is closed. */
  async open(): Promise<Opened> {
    if (this.#state !== 'closed') throw new SkosError('SKOS_STORE_OPEN', `the database is ${this.#state}`);
    this.#state = 'opening';
    try {
      await this.#openHandle();
      const setAside = this.#setAside;
      const run = await this.#checkMeta(setAside);
      // LevelDB has named its new manifest in CURRENT by a rename that it does not sync. Where a file's fsync says nothing of
      // other files, a power cut would bring back a manifest that was never synced, and with it lose all that is synced.
      await syncDirectory(this.directory);
      await syncDirectory(this.#dataDir);
      this.#state = 'open';
      this.#setAside = undefined;
      return setAside === undefined ? { run } : { run, setAside };
    } catch (error) {
      await this.#closeHandle();
      this.#state = 'closed';
      throw error instanceof SkosError ? error : openError(this.directory, error);
    }
  }

  /** After a failed write. What LevelDB reported as corruption meanwhile makes it set the directory aside. */
  async reopen(): Promise<Opened> {
    await this.close();
    return this.open();
  }

  /** One atomic batch; `sync` waits for fdatasync. Rejects with SKOS_STORE_WRITE. */
  async write(operations: readonly Operation[], { sync }: { sync: boolean }): Promise<void> {
    const level = this.#level;
    if (this.#state !== 'open' || level === undefined) {
      throw new SkosError('SKOS_STORE_WRITE', `the database is ${this.#state}`);
    }
    await this.#writeNow(level, operations, { sync });
  }

  async #writeNow(level: Handle, operations: readonly Operation[], { sync }: { sync: boolean }): Promise<void> {
    try {
      await level.batch([...operations], { sync });
    } catch (error) {
      if (this.#state === 'open') this.#state = 'tainted';
      // LevelDB found damage while it merged tables, and will refuse every write from now on.
      if (isCorruption(error)) this.#lastCorruption = reason(rootCause(error));
      throw new SkosError('SKOS_STORE_WRITE', `writing to ${this.directory}: ${reason(error)}`, { cause: error });
    }
  }

  /** Reads go on while the database is tainted. Rejects with SKOS_STORE_READ. */
  async get(key: Buffer): Promise<Buffer | undefined> {
    try {
      return await this.#readable().get(key);
    } catch (error) {
      throw this.#readError(error);
    }
  }

  /** As it is now: scans of one snapshot fit together. Whoever took it closes it. Throws SKOS_STORE_READ. */
  snapshot(): Snapshot {
    try {
      return this.#readable().snapshot();
    } catch (error) {
      throw this.#readError(error);
    }
  }

  /** What the files of a range take about, without what is in memory still. Rejects with SKOS_STORE_READ. */
  async approximateBytes({ gte, lt }: KeyRange): Promise<number> {
    try {
      return await this.#readable().approximateSize(gte, lt);
    } catch (error) {
      throw this.#readError(error);
    }
  }

  /**
   * Merges the tables of a range, so that what was deleted in it gives its space back. On a thread of the pool: writes and reads
   * go on. Rejects with SKOS_STORE_READ.
   */
  async compact({ gte, lt }: KeyRange): Promise<void> {
    try {
      await this.#readable().compactRange(gte, lt);
    } catch (error) {
      throw this.#readError(error);
    }
  }

  /** The first `limit` keys of a range, in order, without their values: for a few. Rejects with SKOS_STORE_READ. */
  async keys({ gte, lt, limit }: KeyRange & { readonly limit: number }): Promise<Buffer[]> {
    try {
      const iterator = this.#readable().iterator({ gte, lt, limit, values: false, fillCache: false });
      try {
        return (await iterator.nextv(limit)).map(([key]) => key);
      } finally {
        await iterator.close();
      }
    } catch (error) {
      throw this.#readError(error);
    }
  }

  /** In key order, from a snapshot taken at the first step. Rejects with SKOS_STORE_READ, also when closed meanwhile. */
  async *scan(options: ScanOptions): AsyncGenerator<[Buffer, Buffer], void, undefined> {
    try {
      for await (const entries of batchesOf(this.#readable(), options, { entries: SCAN_BATCH })) yield* entries;
    } catch (error) {
      throw this.#readError(error);
    }
  }

  /** Idempotent. Waits for what is in flight. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closing';
    await this.#closeHandle();
    this.#state = 'closed';
  }

  #readable(): Handle {
    if (this.#level === undefined) throw new Error(`the database is ${this.#state}`);
    return this.#level;
  }

  #readError(error: unknown): SkosError {
    if (error instanceof SkosError) return error;
    return new SkosError('SKOS_STORE_READ', `reading ${this.directory}: ${reason(error)}`, { cause: error });
  }

  async #openHandle(): Promise<void> {
    await mkdir(this.#dataDir, { recursive: true, mode: 0o700 });
    const damage = this.#lastCorruption ?? (await damageBeforeOpening(this.directory));
    if (damage !== undefined) return this.#startAfresh(damage);
    const before = await tablesIn(this.directory);
    try {
      this.#level = (await openLevel(this.directory, LEVEL_OPTIONS)) as Handle;
    } catch (error) {
      if (!(await isDamage(error, this.directory))) throw error;
      return this.#startAfresh(reason(rootCause(error)));
    }
    const badTable = await firstBadTable(this.directory, before);
    if (badTable === undefined) return;
    await this.#closeHandle();
    return this.#startAfresh(badTable);
  }

  async #startAfresh(why: string): Promise<void> {
    const path = await setAside(this.directory);
    // One that was never opened holds nothing that the one before it does not say.
    this.#setAside ??= { path, why };
    this.#lastCorruption = undefined;
    this.#level = (await openLevel(this.directory, LEVEL_OPTIONS)) as Handle;
  }

  /** Checks the format version, has an earlier one brought to it, and counts the run. */
  async #checkMeta(setAside: SetAsideDatabase | undefined): Promise<number> {
    const level = this.#readable();
    const stored = await level.get(FORMAT_KEY);
    const format = Number(stored?.toString() ?? FORMAT_VERSION);
    const isEarlier = Number.isInteger(format) && format >= 1 && format < FORMAT_VERSION;
    if (isEarlier && this.#migrate !== undefined) {
      await this.#migrate({
        format,
        get: (key) => this.get(key),
        write: (operations, options) => this.#writeNow(level, operations, options),
      });
    } else if (format !== FORMAT_VERSION) {
      throw new SkosError(
        'SKOS_STORE_VERSION',
        `${this.directory} has format ${format}; this version knows format ${FORMAT_VERSION}`,
      );
    }
    const run = (Number((await level.get(RUN_KEY))?.toString() ?? 0) + 1) >>> 0;
    await level.batch(
      [
        { type: 'put', key: FORMAT_KEY, value: Buffer.from(String(FORMAT_VERSION)) },
        { type: 'put', key: RUN_KEY, value: Buffer.from(String(run)) },
        ...(await this.#salvageDue(setAside, { isNew: stored === undefined })),
      ],
      { sync: true },
    );
    return run;
  }

  /**
   * That what was set aside is to be read goes to disk with the first write of the new database. An agent that was killed between
   * the two has left a new database without it: then the latest one is meant.
   */
  async #salvageDue(setAside: SetAsideDatabase | undefined, { isNew }: { isNew: boolean }): Promise<Operation[]> {
    const left = isNew && setAside === undefined ? await latestSetAside(this.directory) : undefined;
    const name = setAside === undefined ? left : basename(setAside.path);
    if (name === undefined) return [];
    const why = setAside?.why ?? 'the agent ended when it had just been set aside';
    return [{ type: 'put', key: salvageKey(name), value: Buffer.from(JSON.stringify({ state: 'due', why })) }];
  }

  async #closeHandle(): Promise<void> {
    const level = this.#level;
    this.#level = undefined;
    await level?.close();
  }
}

/** Undefined when there is nothing to fear. */
async function damageBeforeOpening(directory: string): Promise<string | undefined> {
  const status = await stat(directory).catch(() => undefined);
  if (status?.isDirectory() === false) return 'it is no directory';
  const names: string[] = await readdir(directory).catch(() => []);
  // A new database that was cut off before its first CURRENT holds neither tables nor logs.
  const holdsData = names.some((name) => /^\d+\.(log|ldb|sst)$/.test(name));
  return holdsData && !names.includes('CURRENT') ? 'the file CURRENT is missing' : undefined;
}

async function tablesIn(directory: string): Promise<string[]> {
  const names: string[] = await readdir(directory).catch(() => []);
  return names.filter(isTableName);
}

/**
 * LevelDB looks at a table when it first reads from it, and then each read of it fails: a table that is no table would keep the agent
 * from its database at every start. Of those that were there before it was opened, the ones that are there still belong to it; others
 * were left unfinished by a kill, and it has removed them.
 */
async function firstBadTable(directory: string, names: readonly string[]): Promise<string | undefined> {
  for (let from = 0; from < names.length; from += TABLES_AT_ONCE) {
    const faults = await Promise.all(
      names.slice(from, from + TABLES_AT_ONCE).map((name) => tableFault(directory, name)),
    );
    const fault = faults.find((each) => each !== undefined);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

async function tableFault(directory: string, name: string): Promise<string | undefined> {
  try {
    const file = await open(join(directory, name), 'r');
    try {
      const { size } = await file.stat();
      const magic = Buffer.alloc(TABLE_MAGIC.length);
      if (size >= magic.length) await file.read(magic, 0, magic.length, size - magic.length);
      return magic.equals(TABLE_MAGIC) ? undefined : `${name} does not end as a table does`;
    } finally {
      await file.close();
    }
  } catch (error) {
    // Merged into another one meanwhile; or a disk that fails, which a fresh database does not mend.
    return systemCode(error) === 'EISDIR' ? `${name} is a directory` : undefined;
  }
}

/** Their names end with the time. */
async function latestSetAside(directory: string): Promise<string | undefined> {
  const names: string[] = await readdir(dirname(directory)).catch(() => []);
  return names
    .filter((name) => name.startsWith(`${basename(directory)}.damaged-`))
    .sort()
    .at(-1);
}

/** Moves the directory out of the way and returns its new path. */
async function setAside(directory: string): Promise<string> {
  const stamp = new Date().toISOString().replaceAll(/[-:]/g, '').replace(/\..*/, '');
  for (let n = 0; ; n++) {
    const path = `${directory}.damaged-${stamp}${n === 0 ? '' : `-${n}`}`;
    if (await isThere(path)) continue;
    await rename(directory, path);
    return path;
  }
}

function isCorruption(error: unknown): boolean {
  return levelCode(error) === 'LEVEL_CORRUPTION';
}

/** A missing file inside the database is damage, and one that is no file; a full or failing disk is not. */
async function isDamage(error: unknown, directory: string): Promise<boolean> {
  if (isCorruption(error)) return true;
  if (levelCode(error) !== 'LEVEL_IO_ERROR') return false;
  const text = reason(rootCause(error));
  if (/Is a directory/.test(text)) return true;
  if (!/No such file/.test(text)) return false;
  return isThere(join(directory, 'CURRENT'));
}

function openError(directory: string, error: unknown): SkosError {
  const locked = levelCode(error) === 'LEVEL_LOCKED';
  const text = `opening ${directory}: ${reason(rootCause(error))}`;
  return new SkosError(locked ? 'SKOS_STORE_LOCKED' : 'SKOS_STORE_OPEN', text, { cause: error });
}
