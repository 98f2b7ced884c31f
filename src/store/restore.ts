/**
 * Putting a backup in the place of the database: verify all of it, build it beside, read that back, commit (restore-commit.ts).
 *
 * Nothing that stands is touched before the commit. Meanwhile the lock of the present database is held, so that no agent
 * starts on it: not by opening it, which would write to it, but by a second name of its lock file, under which LevelDB
 * holds it for us.
 *
 * Root does all of this as the owner of data_dir: the files get the right owner by that, and what that user may have put into his
 * own directory (a link to elsewhere) cannot make root write or read anything else.
 */
import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { syncDirectory } from '../core/atomic-file.js';
import { reason, SkosError } from '../core/errors.js';
import type { AuditHead } from '../core/ports.js';
import { writeError } from './backup.js';
import { type ChainFinding, ContentCheck } from './backup-check.js';
import {
  type BackupHeader,
  BackupReader,
  type BackupTotals,
  type Batch,
  entryBytes,
  isKeyFileName,
  type KeyFile,
  MAX_KEY_FILE_BYTES,
} from './backup-file.js';
import { FORMAT_VERSION } from './database.js';
import { bytesIn } from './file-sizes.js';
import { HeadMark } from './head-mark.js';
import { batchesOf, type LevelHandle, levelCode, openLevel, rootCause } from './level.js';
import {
  commitRestore,
  exists,
  finishRestore,
  freeStamp,
  type RestoreNote,
  removeLeftovers,
  replacedName,
  restoringName,
} from './restore-commit.js';

/** Of the file, at once. */
const READ_BYTES = 256 * 1024;
/** A restore writes everything once: larger tables in memory mean that less of it is written twice. */
const WRITE_BUFFER_BYTES = 16 * 1024 * 1024;
const SCAN_BATCH = { entries: 1_000, highWaterMarkBytes: 1024 * 1024 };

export type Stage = 'verifying' | 'writing' | 'reading back';

export interface Watch {
  /** `done` of `total`: bytes of the file, or entries. */
  readonly onProgress?: (stage: Stage, done: number, total: number) => void;
  /** Until the commit; rejects with SKOS_CLI_INTERRUPTED. */
  readonly signal?: AbortSignal;
}

// ---- Verifying -------------------------------------------------------------------------------------------------------

export interface VerifiedBackup {
  readonly header: BackupHeader;
  readonly totals: BackupTotals;
  readonly chain: ChainFinding;
}

/** An open file, read from its beginning as often as wanted: nobody can exchange it between two passes. */
export class BackupSource {
  readonly path: string;
  readonly #file: FileHandle;
  readonly bytes: number;

  private constructor(path: string, file: FileHandle, bytes: number) {
    this.path = path;
    this.#file = file;
    this.bytes = bytes;
  }

  /** Rejects with SKOS_BACKUP_READ. */
  static async open(path: string): Promise<BackupSource> {
    try {
      const file = await open(path, 'r');
      const facts = await file.stat();
      if (facts.isFile()) return new BackupSource(path, file, facts.size);
      await file.close();
    } catch (error) {
      throw new SkosError('SKOS_BACKUP_READ', `reading ${path}: ${reason(error)}`, { cause: error });
    }
    throw new SkosError('SKOS_BACKUP_READ', `${path} is no regular file`);
  }

  async *chunks(): AsyncGenerator<Buffer, void, undefined> {
    for (let at = 0; ; ) {
      const buffer = Buffer.allocUnsafe(READ_BYTES);
      const { bytesRead } = await this.#read(buffer, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #read(buffer: Buffer, at: number): Promise<{ bytesRead: number }> {
    try {
      return await this.#file.read(buffer, 0, buffer.length, at);
    } catch (error) {
      throw new SkosError('SKOS_BACKUP_READ', `reading ${this.path}: ${reason(error)}`, { cause: error });
    }
  }
}

/** Every byte, every record, the whole chain. Rejects with SKOS_BACKUP_DAMAGED, SKOS_BACKUP_VERSION or SKOS_BACKUP_READ. */
export async function verifyBackup(source: BackupSource, watch: Watch = {}): Promise<VerifiedBackup> {
  return pass(source, { stage: 'verifying', watch, each: async () => undefined });
}

interface Pass {
  readonly stage: Stage;
  readonly watch: Watch;
  readonly each: (batch: Batch) => Promise<void>;
}

async function pass(source: BackupSource, { stage, watch, each }: Pass): Promise<VerifiedBackup> {
  const reader = await BackupReader.open(source.chunks());
  const { header } = reader;
  requireKnownFormat(header);
  const check = new ContentCheck(header);
  const batches = reader.batches();
  for (;;) {
    stopIfAsked(watch);
    const { done, value } = await batches.next();
    if (done === true) return { header, totals: value, chain: check.finish() };
    if (value.kind === 'records') for (const entry of value.entries) check.entry(entry);
    await each(value);
    watch.onProgress?.(stage, reader.bytesRead, source.bytes);
  }
}

function requireKnownFormat({ format }: BackupHeader): void {
  if (format <= FORMAT_VERSION) return;
  const text = `its records have format ${format}; this program knows up to ${FORMAT_VERSION}`;
  throw new SkosError('SKOS_BACKUP_VERSION', text);
}

function stopIfAsked({ signal }: Watch): void {
  if (signal?.aborted === true) throw new SkosError('SKOS_CLI_INTERRUPTED', 'interrupted; nothing was changed');
}

// ---- What stands now -------------------------------------------------------------------------------------------------

export interface Standing {
  /** The last head that was acknowledged; null: not known. */
  readonly head: AuditHead | null;
  /** Of the database's files. */
  readonly bytes: number;
}

export async function standing(dataDir: string): Promise<Standing> {
  const { head } = await new HeadMark({ dataDir, onError: () => undefined }).read();
  return { head: head ?? null, bytes: await bytesIn(join(dataDir, 'db')) };
}

/**
 * Runs the work as the owner of data_dir, where root asks; new files are readable by him alone. Rejects with SKOS_RESTORE_DENIED
 * for anybody else. Not for two at once: a process has one user.
 */
export async function asOwnerOf<T>(dataDir: string, euid: number, work: () => Promise<T>): Promise<T> {
  const { uid, gid } = await stat(dataDir).catch((error: unknown) => {
    throw new SkosError('SKOS_BACKUP_READ', `data_dir: ${reason(error)}`, { cause: error });
  });
  if (euid !== 0 && euid !== uid) {
    throw new SkosError('SKOS_RESTORE_DENIED', `${dataDir} belongs to user ${uid}, and user ${euid} asks`);
  }
  const umask = process.umask(0o077);
  const former = euid === 0 && uid !== 0 ? becomeUser(uid, gid) : undefined;
  try {
    return await work();
  } catch (error) {
    throw writeError(dataDir, error);
  } finally {
    former?.();
    process.umask(umask);
  }
}

/** The way back is kept in the saved user id. */
function becomeUser(uid: number, gid: number): () => void {
  const { getgroups, setgroups, getegid, setegid, seteuid } = process;
  if (!getgroups || !setgroups || !getegid || !setegid || !seteuid) throw new Error('this system has no users');
  const [groups, group] = [getgroups(), getegid()];
  setgroups([gid]);
  setegid(gid);
  seteuid(uid);
  return () => {
    seteuid(0);
    setegid(group);
    setgroups(groups);
  };
}

// ---- The lock --------------------------------------------------------------------------------------------------------

/** The lock of the database in data_dir, held without opening that database. */
class DatabaseLock {
  readonly #directory: string;
  #level: LevelHandle | undefined;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** Rejects with SKOS_RESTORE_RUNNING when somebody has the database open. */
  static async take(dataDir: string): Promise<DatabaseLock> {
    const lock = new DatabaseLock(join(dataDir, `restore.lock-${randomBytes(4).toString('hex')}`));
    try {
      await lock.#take(join(dataDir, 'db'));
      return lock;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  async #take(database: string): Promise<void> {
    try {
      // Where there is no database, an agent that starts now would make one, and must find it locked.
      await mkdir(database, { recursive: true, mode: 0o700 });
      await (await open(join(database, 'LOCK'), constants.O_RDWR | constants.O_CREAT, 0o600)).close();
      await mkdir(this.#directory, { mode: 0o700 });
      // Locks of POSIX belong to the file, not to its name.
      await link(join(database, 'LOCK'), join(this.#directory, 'LOCK'));
    } catch (error) {
      throw writeError(this.#directory, error);
    }
    try {
      this.#level = await openLevel(this.#directory);
    } catch (error) {
      if (levelCode(error) !== 'LEVEL_LOCKED') throw writeError(this.#directory, error);
      throw new SkosError('SKOS_RESTORE_RUNNING', `${database} is open in another program`, { cause: error });
    }
  }

  /** Idempotent. */
  async release(): Promise<void> {
    const level = this.#level;
    this.#level = undefined;
    await level?.close();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** Asked before the operator is: whether a restore could begin. Rejects with SKOS_RESTORE_RUNNING. */
export async function requireStopped(dataDir: string): Promise<void> {
  if (!(await exists(join(dataDir, 'db', 'LOCK')))) return;
  await (await DatabaseLock.take(dataDir)).release();
}

// ---- Restoring -------------------------------------------------------------------------------------------------------

export interface RestoreOptions {
  readonly source: BackupSource;
  /** What verifyBackup() said of the source; its chain must be whole. */
  readonly verified: VerifiedBackup;
  readonly dataDir: string;
  readonly who: string;
  readonly sudoUser: string | null;
  readonly atMs: number;
  readonly watch?: Watch;
  /** Told each step before it is done: for tests that end the program there. */
  readonly step?: (name: string) => void;
}

export interface Restored {
  readonly stamp: string;
  /** Names below data_dir. */
  readonly replaced: readonly string[];
  readonly keys: number;
}

/** Rejects with a coded error, and then the database is what it was. Run it in asOwnerOf(). */
export async function restoreBackup(options: RestoreOptions): Promise<Restored> {
  const { dataDir, step = () => undefined } = options;
  // A restore that was killed between its commit and its end comes first: what stands is what that says.
  await finishRestore(dataDir);
  step('lock');
  const lock = await DatabaseLock.take(dataDir);
  try {
    await removeLeftovers(dataDir);
    return await restoreLocked(options, step);
  } finally {
    await lock.release();
  }
}

async function restoreLocked(options: RestoreOptions, step: (name: string) => void): Promise<Restored> {
  const { source, verified, dataDir, atMs, watch = {} } = options;
  const stamp = await freeStamp(dataDir, atMs);
  const database = join(dataDir, restoringName('db', stamp));
  const keyDirectory = join(dataDir, restoringName('keys', stamp));
  try {
    step('build');
    const keys = await build({ source, verified, database, watch, step });
    step('sync');
    await syncAll(database);
    if (verified.header.withKeys) await writeKeys(keyDirectory, keys);
    stopIfAsked(watch);
    const { head } = await standing(dataDir);
    step('commit');
    await commitRestore(dataDir, noteOf(options, { stamp, replacedHead: head }));
    step('committed');
    await finishRestore(dataDir, step);
    return { stamp, replaced: await replacedNames(dataDir, stamp), keys: keys.length };
  } catch (error) {
    await removeLeftovers(dataDir);
    throw error instanceof SkosError ? error : spaceOrWriteError(dataDir, verified, error);
  }
}

function noteOf(
  { verified: { header, totals }, who, sudoUser, atMs }: RestoreOptions,
  { stamp, replacedHead }: Pick<RestoreNote, 'stamp' | 'replacedHead'>,
): RestoreNote {
  const { node, atMs: takenAtMs, auditHead, withKeys } = header;
  const { sha256 } = totals;
  return { stamp, atMs, who, sudoUser, node, takenAtMs, sha256, auditHead, replacedHead, withKeys };
}

async function replacedNames(dataDir: string, stamp: string): Promise<string[]> {
  const names = (['db', 'raw-log', 'keys'] as const).map((what) => replacedName(what, stamp));
  const there = await Promise.all(names.map((name) => exists(join(dataDir, name))));
  return names.filter((_, i) => there[i]);
}

/** LevelDB's errors are texts. */
function spaceOrWriteError(dataDir: string, { totals }: VerifiedBackup, error: unknown): SkosError {
  const text = reason(rootCause(error));
  if (!/No space left|quota exceeded/i.test(text)) return writeError(dataDir, error);
  const needed = Math.ceil((1.2 * totals.recordBytes) / 2 ** 20) + 1;
  return new SkosError(
    'SKOS_BACKUP_SPACE',
    `${dataDir}: ${text}\nThe restored database takes up to about ${needed} MiB, beside the one that is kept.`,
    { cause: error },
  );
}

interface Build {
  readonly source: BackupSource;
  readonly verified: VerifiedBackup;
  readonly database: string;
  readonly watch: Watch;
  readonly step: (name: string) => void;
}

/** Makes the database, and is sure that it holds what the file holds. Returns the keys that were in the file. */
async function build({ source, verified, database, watch, step }: Build): Promise<KeyFile[]> {
  await mkdir(database, { mode: 0o700 });
  const level = await openLevel(database, { writeBufferSize: WRITE_BUFFER_BYTES, errorIfExists: true });
  try {
    const keys: KeyFile[] = [];
    const written = createHash('sha256');
    const each = async ({ kind, entries }: Batch) => {
      if (kind === 'keys') {
        for (const [name, content] of entries) keys.push({ name: name.toString('utf8'), content });
        return;
      }
      for (const [key, value] of entries) written.update(entryBytes(key, value));
      await level.batch(entries.map(([key, value]) => ({ type: 'put', key, value })));
    };
    const { totals } = await pass(source, { stage: 'writing', watch, each });
    if (totals.sha256 !== verified.totals.sha256) {
      throw new SkosError('SKOS_BACKUP_DAMAGED', 'the file changed while it was read');
    }
    step('read back');
    const found = await contentHash(level, { watch, records: totals.records });
    if (found !== written.digest('hex')) {
      throw new SkosError('SKOS_BACKUP_WRITE', `${database}: what was written does not read back the same`);
    }
    return keys;
  } finally {
    await level.close();
  }
}

async function contentHash(level: LevelHandle, { watch, records }: { watch: Watch; records: number }): Promise<string> {
  const hash = createHash('sha256');
  let read = 0;
  for await (const entries of batchesOf(level, {}, SCAN_BATCH)) {
    for (const [key, value] of entries) hash.update(entryBytes(key, value));
    read += entries.length;
    watch.onProgress?.('reading back', read, records);
    stopIfAsked(watch);
  }
  return hash.digest('hex');
}

/** LevelDB syncs its tables and not the log of what is no table yet. */
async function syncAll(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const file = await open(join(directory, name), 'r');
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  }
  await syncDirectory(directory);
}

// ---- Keys ------------------------------------------------------------------------------------------------------------

async function writeKeys(directory: string, keys: readonly KeyFile[]): Promise<void> {
  await mkdir(directory, { mode: 0o700 });
  for (const { name, content } of keys) {
    const file = await open(join(directory, name), 'wx', 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
  }
  await syncDirectory(directory);
}

/** The files of data_dir/keys, by name. Run it in asOwnerOf(). Rejects with SKOS_BACKUP_KEYS. */
export async function readKeys(dataDir: string): Promise<KeyFile[]> {
  const directory = join(dataDir, 'keys');
  try {
    const keys: KeyFile[] = [];
    for (const name of (await readdir(directory)).sort()) {
      // What is being written has a name with a dot in front.
      if (isKeyFileName(name)) keys.push({ name, content: await readKeyFile(join(directory, name)) });
    }
    return keys;
  } catch (error) {
    throw new SkosError('SKOS_BACKUP_KEYS', `${directory}: ${reason(error)}`, { cause: error });
  }
}

async function readKeyFile(path: string): Promise<Buffer> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const { size } = await file.stat();
    if (size > MAX_KEY_FILE_BYTES) throw new Error(`${path} has ${size} bytes: that is no key`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}
