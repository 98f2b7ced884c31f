/**
 * Taking a backup: the records of one moment, as the stream that backup-file.ts describes, and putting it into a file.
 *
 * A RecordStream reads a snapshot of the database, so that what is written meanwhile changes nothing: a backup is the whole
 * record up to one audit entry. The agent hands its pieces to `skos backup`, which packs and writes them as the user who asked;
 * writeBackup() does both in one process, before a migration.
 *
 * A file appears under its name only when all of it is on disk: it is written beside it, 0600, synced and renamed. Whatever goes
 * wrong before, nothing stays.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, link, open, rename, rm, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { syncDirectory } from '../core/atomic-file.js';
import { reason, SkosError, systemCode } from '../core/errors.js';
import type { AuditHead, RecordSnapshot } from '../core/ports.js';
import { VERSION } from '../core/version.js';
import { GENESIS, parseEntry } from './audit-entry.js';
import {
  BackupEncoder,
  type BackupFacts,
  type BackupTotals,
  BLOCK_BYTES,
  type Entry,
  entryBytes,
  type KeyFile,
} from './backup-file.js';
import type { Database, Snapshot } from './database.js';
import { auditSeq, FIRST_FORMAT, FORMAT_KEY, type KeyRange, nextKey, PREFIX, prefixRange } from './keys.js';

/** All keys: prefixes are letters. */
const EVERYTHING: KeyRange = { gte: Buffer.of(0), lt: Buffer.of(0xff) };
/** Looked up anew after so much, so that progress costs next to nothing. */
const ESTIMATE_EVERY_BYTES = 4 * 1024 * 1024;

/** What a backup never holds. */
export const NEVER_INCLUDED = ['configuration files', 'certificates and keys of the mesh'] as const;

export type Piece = NonNullable<Awaited<ReturnType<RecordSnapshot['next']>>>;
type SnapshotFacts = RecordSnapshot['facts'];

/** The records of one moment. Open it, take pieces until there are none, close it. */
export class RecordStream implements RecordSnapshot {
  readonly facts: SnapshotFacts;
  readonly missing: readonly string[];
  readonly #database: Database;
  readonly #snapshot: Snapshot;
  readonly #entries: AsyncGenerator<[Buffer, Buffer], void, undefined>;
  /** The rest of an entry that was larger than the piece. */
  #rest: Buffer = Buffer.alloc(0);
  #lastKey: Buffer | undefined;
  #sinceEstimate = ESTIMATE_EVERY_BYTES;
  #fraction: number | null = null;
  #closed = false;

  private constructor({ database, snapshot, facts, missing }: Opened) {
    this.#database = database;
    this.#snapshot = snapshot;
    this.facts = facts;
    this.missing = missing;
    this.#entries = database.scan({ ...EVERYTHING, snapshot });
  }

  /** `missing`: what the caller knows to be no part of it. Rejects with SKOS_STORE_READ. */
  static async open(database: Database, missing: readonly string[] = []): Promise<RecordStream> {
    const snapshot = database.snapshot();
    try {
      const format = await formatIn(database, snapshot);
      const auditHead = await headIn(database, snapshot);
      const approximateBytes = Math.round(await database.approximateBytes(EVERYTHING));
      const facts = { format, auditHead, approximateBytes };
      return new RecordStream({ database, snapshot, facts, missing });
    } catch (error) {
      await snapshot.close();
      throw error;
    }
  }

  /** The next `maxBytes` of the stream, fewer at its end; undefined behind it. Rejects with SKOS_STORE_READ. */
  async next(maxBytes: number): Promise<Piece | undefined> {
    const pieces = [this.#rest];
    let bytes = this.#rest.length;
    while (bytes < maxBytes) {
      const { done, value } = await this.#entries.next();
      if (done === true || value === undefined) break;
      const entry = entryBytes(...value);
      pieces.push(entry);
      bytes += entry.length;
      this.#lastKey = value[0];
    }
    const all = Buffer.concat(pieces);
    this.#rest = all.subarray(maxBytes);
    const piece = all.subarray(0, maxBytes);
    return piece.length === 0 ? undefined : { bytes: piece, fraction: await this.#fractionRead(piece.length) };
  }

  /** Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#entries.return();
    await this.#snapshot.close();
  }

  /** By what the files of the keys read so far take; records that are only in memory still are no part of it. */
  async #fractionRead(bytes: number): Promise<number | null> {
    this.#sinceEstimate += bytes;
    if (this.#sinceEstimate < ESTIMATE_EVERY_BYTES) return this.#fraction;
    this.#sinceEstimate = 0;
    const { approximateBytes } = this.facts;
    if (approximateBytes === 0 || this.#lastKey === undefined) return null;
    const read = await this.#database.approximateBytes({ gte: EVERYTHING.gte, lt: this.#lastKey });
    this.#fraction = Math.min(1, read / approximateBytes);
    return this.#fraction;
  }
}

interface Opened {
  readonly database: Database;
  readonly snapshot: Snapshot;
  readonly facts: SnapshotFacts;
  readonly missing: readonly string[];
}

async function formatIn(database: Database, snapshot: Snapshot): Promise<number> {
  for await (const [, value] of database.scan({ gte: FORMAT_KEY, lt: nextKey(FORMAT_KEY), snapshot })) {
    return Number(value.toString());
  }
  return FIRST_FORMAT;
}

/** A last entry that cannot be read is counted all the same: whoever verifies the backup hears of it. */
async function headIn(database: Database, snapshot: Snapshot): Promise<AuditHead> {
  const last = { ...prefixRange(PREFIX.audit), reverse: true, limit: 1, snapshot };
  for await (const [key, value] of database.scan(last)) {
    const entry = parseEntry(value);
    return typeof entry === 'string'
      ? { seq: auditSeq(key), hash: GENESIS.hash }
      : { seq: entry.seq, hash: entry.hash };
  }
  return GENESIS;
}

// ---- Into a file -----------------------------------------------------------------------------------------------------

/** A file that is there whole or not at all. */
export class BackupTarget {
  readonly #path: string;
  readonly #temporary: string;
  readonly #force: boolean;
  #file: FileHandle | undefined;

  /** `force`: an existing file is replaced. */
  constructor(path: string, { force = false }: { force?: boolean } = {}) {
    this.#path = path;
    this.#force = force;
    this.#temporary = join(dirname(path), `.${basename(path).slice(0, 200)}.${randomBytes(4).toString('hex')}.tmp`);
  }

  /** Rejects with SKOS_BACKUP_EXISTS or SKOS_BACKUP_WRITE. */
  async open(): Promise<void> {
    if (!this.#force && (await exists(this.#path))) throw alreadyThere(this.#path);
    try {
      this.#file = await open(this.#temporary, 'wx', 0o600);
    } catch (error) {
      throw writeError(this.#path, error);
    }
  }

  /** Rejects with SKOS_BACKUP_SPACE or SKOS_BACKUP_WRITE. */
  async write(bytes: Buffer): Promise<void> {
    try {
      let written = 0;
      while (written < bytes.length) {
        written += (await this.#opened().write(bytes, written)).bytesWritten;
      }
    } catch (error) {
      throw writeError(this.#path, error);
    }
  }

  /** Gives it its name. */
  async commit(): Promise<void> {
    try {
      await this.#opened().sync();
      await this.#close();
      await this.#publish();
      await syncDirectory(dirname(this.#path));
    } catch (error) {
      throw error instanceof SkosError ? error : writeError(this.#path, error);
    }
  }

  /** Nothing of it stays. Idempotent; after commit() it does nothing. */
  async abort(): Promise<void> {
    await this.#close().catch(() => undefined);
    await rm(this.#temporary, { force: true });
  }

  async #publish(): Promise<void> {
    if (this.#force) return rename(this.#temporary, this.#path);
    try {
      // Unlike a rename it replaces nothing, so that a file which came meanwhile stays.
      await link(this.#temporary, this.#path);
      await unlink(this.#temporary);
    } catch (error) {
      if (systemCode(error) === 'EEXIST') throw alreadyThere(this.#path);
      // FAT, which memory sticks have, knows no links.
      if (await exists(this.#path)) throw alreadyThere(this.#path);
      await rename(this.#temporary, this.#path);
    }
  }

  #opened(): FileHandle {
    if (this.#file === undefined) throw new Error(`${this.#path} is not open`);
    return this.#file;
  }

  async #close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await (await open(path, 'r')).close();
    return true;
  } catch (error) {
    return systemCode(error) !== 'ENOENT';
  }
}

function alreadyThere(path: string): SkosError {
  return new SkosError('SKOS_BACKUP_EXISTS', `${path} is there already`);
}

/** A full disk is something an operator can mend; everything else says what the system said. */
export function writeError(path: string, error: unknown): SkosError {
  if (error instanceof SkosError) return error;
  const isFull = ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(systemCode(error));
  const code = isFull ? 'SKOS_BACKUP_SPACE' : 'SKOS_BACKUP_WRITE';
  return new SkosError(code, `writing ${path}: ${reason(error)}`, { cause: error });
}

export interface Progress {
  readonly fileBytes: number;
  readonly recordBytes: number;
  readonly fraction: number | null;
}

export interface SaveOptions {
  readonly facts: BackupFacts;
  readonly pieces: AsyncIterable<Piece>;
  readonly keys: readonly KeyFile[];
  readonly write: (bytes: Buffer) => Promise<void>;
  /** Shown every record. */
  readonly each?: (entry: Entry) => void;
  readonly onProgress?: (progress: Progress) => void;
}

/** Makes the whole file of a stream of pieces. Rejects as `pieces` and `write` do, the latter with how much would be needed. */
export async function saveBackup(options: SaveOptions): Promise<BackupTotals> {
  const { facts, pieces, keys, write, each, onProgress } = options;
  const encoder = new BackupEncoder(write, each);
  let recordBytes = 0;
  let fraction: number | null = null;
  try {
    await encoder.header(facts);
    for await (const piece of pieces) {
      await encoder.records(piece.bytes);
      recordBytes += piece.bytes.length;
      fraction = piece.fraction;
      onProgress?.({ fileBytes: encoder.fileBytes, recordBytes, fraction });
    }
    await encoder.keys(keys);
    return await encoder.end();
  } catch (error) {
    if (!(error instanceof SkosError) || error.code !== 'SKOS_BACKUP_SPACE') throw error;
    const needed = neededBytes({ facts, fraction, fileBytes: encoder.fileBytes });
    throw new SkosError(error.code, `${error.message}\n${needed}`, { cause: error });
  }
}

/** As far as it can be told from how it went until there. */
function neededBytes(so: { facts: BackupFacts; fraction: number | null; fileBytes: number }): string {
  const mebibytes = (bytes: number) => `${Math.max(1, Math.ceil(bytes / 2 ** 20))} MiB`;
  const { facts, fraction, fileBytes } = so;
  if (fraction !== null && fraction > 0.01) return `The whole backup takes about ${mebibytes(fileBytes / fraction)}.`;
  return `The whole backup takes at most about ${mebibytes(facts.approximateBytes + fileBytes)}.`;
}

// ---- In one process --------------------------------------------------------------------------------------------------

export interface WriteBackupOptions {
  /** Open, or being opened: it must answer snapshot() and scan(). Nobody needs to stop writing. */
  readonly database: Database;
  /** Of the file; its directory must be there. */
  readonly path: string;
  /** Of the node whose record it is; null when that is not known. */
  readonly node: string | null;
  readonly atMs: number;
  /** Default: an existing file is left alone, SKOS_BACKUP_EXISTS. */
  readonly force?: boolean;
}

/**
 * Writes all that is in the database into a file, without keys. Rejects with SKOS_BACKUP_EXISTS, SKOS_BACKUP_SPACE,
 * SKOS_BACKUP_WRITE or SKOS_STORE_READ; then there is no file.
 */
export async function writeBackup({ database, path, node, atMs, force }: WriteBackupOptions): Promise<BackupTotals> {
  const target = new BackupTarget(path, { force: force ?? false });
  await target.open();
  try {
    const stream = await RecordStream.open(database);
    try {
      const notIncluded = ['keys of the audit chain', ...NEVER_INCLUDED];
      const facts = { node, program: VERSION, atMs: Math.round(atMs), withKeys: false, notIncluded, ...stream.facts };
      const write = (bytes: Buffer) => target.write(bytes);
      const totals = await saveBackup({ facts, pieces: piecesOf(stream), keys: [], write });
      await target.commit();
      return totals;
    } finally {
      await stream.close();
    }
  } catch (error) {
    await target.abort();
    throw error;
  }
}

/** Each as large as a block, so that none is cut or joined. */
async function* piecesOf(stream: RecordStream): AsyncGenerator<Piece, void, undefined> {
  for (;;) {
    const piece = await stream.next(BLOCK_BYTES);
    if (piece === undefined) return;
    yield piece;
  }
}
