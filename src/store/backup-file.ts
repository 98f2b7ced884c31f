/**
 * The file of a backup: its form, writing it, reading it. Pure over byte streams, in bounded memory both ways.
 *
 *   header line   JSON and a newline (`head -1 FILE` shows it): what: "skos-backup", version, node, format of the database,
 *                 wall time, audit head, whether keys are in it, compression, approximate size, what is not in it
 *   blocks        'R' records, then 'K' keys of the audit chain where they were asked for
 *   end           one block 'E': JSON {records, recordBytes, keys, sha256}; sha256 is of every byte before this block
 *
 * A block is: kind (1 byte), bytes unpacked (u32), bytes packed (u32), CRC-32 of these nine and of the packed bytes (u32), the
 * packed bytes; numbers are big-endian. The blocks of one kind, unpacked and joined, are a stream of entries: bytes of the
 * key (u16), bytes of the value (u32), key, value; keys ascend strictly. An entry may go over several blocks. Of 'K', a key is
 * a file's name and a value what the file holds.
 *
 * Nothing follows the end block. So a reader that reached the end has seen every byte, and any that was changed, removed or
 * added is noticed: the CRC says where, the SHA-256 says it surely.
 */
import { createHash, type Hash } from 'node:crypto';
import { promisify } from 'node:util';
import { type BrotliOptions, brotliCompress, brotliDecompress, constants, crc32 } from 'node:zlib';
import { SkosError } from '../core/errors.js';
import type { AuditHead } from '../core/ports.js';
import { isHash } from './audit-entry.js';

const WHAT = 'skos-backup';
/** Bump when the form changes; a file with a higher number is refused. */
export const BACKUP_VERSION = 1;
/** Unpacked: large enough that packing loses nothing at the seams, small enough to sit in memory a few times. */
export const BLOCK_BYTES = 256 * 1024;
/** Brotli adds a few bytes to what cannot be packed. */
const MAX_PACKED_BYTES = BLOCK_BYTES + 1024;
const BLOCK_HEAD_BYTES = 13;
const ENTRY_HEAD_BYTES = 6;
/** Far beyond the largest record; a length above it is damage, and must not make a reader allocate. */
const MAX_VALUE_BYTES = 8 * 1024 * 1024;
const MAX_HEADER_BYTES = 64 * 1024;
const MAX_KEY_FILES = 1_000;
export const MAX_KEY_FILE_BYTES = 64 * 1024;
const NEWLINE = 0x0a;
const KIND = { records: 0x52, keys: 0x4b, end: 0x45 } as const;
type EntryKind = 'records' | 'keys';
/**
 * Most of a store is chunks, which nothing can pack. Measured on 200 MB, of which 170 were such: brotli 1 takes 2 ms of CPU for a
 * megabyte and leaves 92.0 %, brotli 3 7 ms and 91.7 %, deflate 19 ms at any level and 91.1 %.
 */
const PACKING: BrotliOptions = {
  params: { [constants.BROTLI_PARAM_QUALITY]: 1, [constants.BROTLI_PARAM_LGWIN]: Math.log2(BLOCK_BYTES) },
};

const pack = promisify<Buffer, BrotliOptions, Buffer>(brotliCompress);
const unpack = promisify<Buffer, BrotliOptions, Buffer>(brotliDecompress);

export interface BackupHeader {
  readonly what: typeof WHAT;
  readonly version: number;
  /** null: who made it did not know. */
  readonly node: string | null;
  /** Of the program that made it. */
  readonly program: string;
  /** Of the database's records. */
  readonly format: number;
  readonly atMs: number;
  /** The last audit entry in it; seq 0: there is none. */
  readonly auditHead: AuditHead;
  readonly withKeys: boolean;
  readonly compression: 'brotli';
  /** On disk, as the database estimates it; 0 when all of it is in memory still. */
  readonly approximateBytes: number;
  /** Sentences. */
  readonly notIncluded: readonly string[];
}

/** What the maker of a file says of it; the rest of its header is the form's own. */
export type BackupFacts = Omit<BackupHeader, 'what' | 'version' | 'compression'>;

export interface BackupTotals {
  readonly records: number;
  /** Keys and values, unpacked. */
  readonly recordBytes: number;
  readonly keys: number;
  readonly fileBytes: number;
  /** Of the whole file, hex: what `sha256sum FILE` says. */
  readonly sha256: string;
}

export type Entry = readonly [key: Buffer, value: Buffer];

export interface KeyFile {
  readonly name: string;
  readonly content: Buffer;
}

/** One entry of the stream. */
export function entryBytes(key: Uint8Array, value: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(ENTRY_HEAD_BYTES + key.length + value.length);
  bytes.writeUInt16BE(key.length, 0);
  bytes.writeUInt32BE(value.length, 2);
  bytes.set(key, ENTRY_HEAD_BYTES);
  bytes.set(value, ENTRY_HEAD_BYTES + key.length);
  return bytes;
}

// ---- Writing ---------------------------------------------------------------------------------------------------------

/** Makes the file. Call in this order: header() once, records(), keys(), end(). */
export class BackupEncoder {
  readonly #write: (bytes: Buffer) => Promise<void>;
  readonly #each: (entry: Entry) => void;
  readonly #hash = createHash('sha256');
  readonly #counter = new EntryStream();
  #pieces: Buffer[] = [];
  #waitingBytes = 0;
  #fileBytes = 0;
  #keys = 0;

  /** `write` resolves when it can take more; `each` is shown every record. */
  constructor(write: (bytes: Buffer) => Promise<void>, each: (entry: Entry) => void = () => undefined) {
    this.#write = write;
    this.#each = each;
  }

  /** So far. */
  get fileBytes(): number {
    return this.#fileBytes;
  }

  async header(facts: BackupFacts): Promise<void> {
    const header: BackupHeader = { what: WHAT, version: BACKUP_VERSION, ...facts, compression: 'brotli' };
    await this.#put(Buffer.from(`${JSON.stringify(header)}\n`, 'utf8'));
  }

  /** A piece of the stream of records, cut anywhere. The bytes are not to be changed afterwards. */
  async records(piece: Buffer): Promise<void> {
    // Looked through here too: a stream that no reader would accept must not become a file.
    for (const entry of this.#counter.take(piece)) this.#each(entry);
    this.#pieces.push(piece);
    this.#waitingBytes += piece.length;
    if (this.#waitingBytes >= BLOCK_BYTES) await this.#blocks(KIND.records, { all: false });
  }

  async keys(files: readonly KeyFile[]): Promise<void> {
    await this.#blocks(KIND.records, { all: true });
    for (const { name, content } of files) this.#pieces.push(entryBytes(Buffer.from(name, 'utf8'), content));
    this.#keys = files.length;
    await this.#blocks(KIND.keys, { all: true });
  }

  async end(): Promise<BackupTotals> {
    await this.#blocks(KIND.records, { all: true });
    const { entries: records, bytes: recordBytes } = this.#counter.finish();
    const sha256 = this.#hash.copy().digest('hex');
    const end = { records, recordBytes, keys: this.#keys, sha256 };
    await this.#block(KIND.end, Buffer.from(JSON.stringify(end), 'utf8'));
    return {
      records,
      recordBytes,
      keys: this.#keys,
      fileBytes: this.#fileBytes,
      sha256: this.#hash.copy().digest('hex'),
    };
  }

  async #blocks(kind: number, { all }: { all: boolean }): Promise<void> {
    let rest = this.#pieces.length === 1 && this.#pieces[0] ? this.#pieces[0] : Buffer.concat(this.#pieces);
    while (rest.length >= BLOCK_BYTES || (all && rest.length > 0)) {
      await this.#block(kind, rest.subarray(0, BLOCK_BYTES));
      rest = rest.subarray(BLOCK_BYTES);
    }
    this.#pieces = rest.length === 0 ? [] : [rest];
    this.#waitingBytes = rest.length;
  }

  async #block(kind: number, content: Buffer): Promise<void> {
    const packed = await pack(content, PACKING);
    const head = Buffer.alloc(BLOCK_HEAD_BYTES);
    head.writeUInt8(kind, 0);
    head.writeUInt32BE(content.length, 1);
    head.writeUInt32BE(packed.length, 5);
    head.writeUInt32BE(checksum(head, packed), 9);
    await this.#put(Buffer.concat([head, packed]));
  }

  async #put(bytes: Buffer): Promise<void> {
    this.#hash.update(bytes);
    this.#fileBytes += bytes.length;
    await this.#write(bytes);
  }
}

function checksum(head: Buffer, packed: Buffer): number {
  return crc32(packed, crc32(head.subarray(0, 9)));
}

// ---- Reading ---------------------------------------------------------------------------------------------------------

/** What the reader has seen so far of a stream of entries, and the beginning of one that is not whole yet. */
class EntryStream {
  #rest: Buffer = Buffer.alloc(0);
  #last: Buffer | undefined;
  entries = 0;
  bytes = 0;

  /** The entries that are whole with this piece. Throws SKOS_BACKUP_DAMAGED. */
  *take(piece: Buffer): Generator<Entry, void, undefined> {
    const bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    let at = 0;
    for (;;) {
      if (bytes.length - at < ENTRY_HEAD_BYTES) break;
      const keyEnd = at + ENTRY_HEAD_BYTES + bytes.readUInt16BE(at);
      const valueBytes = bytes.readUInt32BE(at + 2);
      if (valueBytes > MAX_VALUE_BYTES) throw damaged(`a record of ${valueBytes} bytes`);
      const end = keyEnd + valueBytes;
      if (end > bytes.length) break;
      const key = bytes.subarray(at + ENTRY_HEAD_BYTES, keyEnd);
      if (this.#last !== undefined && Buffer.compare(this.#last, key) >= 0) {
        throw damaged(`record ${this.entries + 1} is out of order`);
      }
      this.#last = key;
      this.entries++;
      this.bytes += end - at - ENTRY_HEAD_BYTES;
      at = end;
      yield [key, bytes.subarray(keyEnd, end)];
    }
    this.#rest = at === 0 ? bytes : Buffer.from(bytes.subarray(at));
    // A view would keep the whole piece in memory.
    if (this.#last !== undefined && at > 0) this.#last = Buffer.from(this.#last);
  }

  finish(): { entries: number; bytes: number } {
    if (this.#rest.length > 0) throw damaged('its last record is cut off');
    return { entries: this.entries, bytes: this.bytes };
  }
}

export interface Batch {
  readonly kind: EntryKind;
  readonly entries: readonly Entry[];
}

/** Reads one file from its beginning to its end. Everything rejects with SKOS_BACKUP_DAMAGED where the file is not whole. */
export class BackupReader {
  readonly header: BackupHeader;
  readonly #bytes: ByteStream;

  private constructor(header: BackupHeader, bytes: ByteStream) {
    this.header = header;
    this.#bytes = bytes;
  }

  /** Reads the header. Rejects also with SKOS_BACKUP_VERSION. */
  static async open(source: AsyncIterable<Buffer>): Promise<BackupReader> {
    const bytes = new ByteStream(source);
    return new BackupReader(parseHeader(await bytes.line()), bytes);
  }

  /** Of the file, so far. */
  get bytesRead(): number {
    return this.#bytes.taken;
  }

  /**
   * What the blocks hold, a block at a time; returns the totals. Only when it has returned is it certain that the file is
   * whole: until then, what it gave must not be trusted.
   */
  async *batches(): AsyncGenerator<Batch, BackupTotals, undefined> {
    const streams = { records: new EntryStream(), keys: new EntryStream() };
    let former: EntryKind = 'records';
    for (;;) {
      const hashBefore = this.#bytes.digest();
      const { kind, content } = await this.#block();
      if (kind === 'end') return this.#totals(parseEnd(content), streams, hashBefore);
      if (kind === 'records' && former === 'keys') throw damaged('records stand behind the keys');
      former = kind;
      const entries = [...streams[kind].take(content)];
      if (kind === 'keys') checkKeyFiles(entries, streams.keys.entries);
      if (entries.length > 0) yield { kind, entries };
    }
  }

  async #block(): Promise<{ kind: EntryKind | 'end'; content: Buffer }> {
    const at = this.#bytes.taken;
    const head = await this.#bytes.exactly(BLOCK_HEAD_BYTES);
    const [unpacked, packedBytes] = [head.readUInt32BE(1), head.readUInt32BE(5)];
    if (unpacked > BLOCK_BYTES || packedBytes > MAX_PACKED_BYTES) throw damaged(`the block at byte ${at}`);
    const packed = await this.#bytes.exactly(packedBytes);
    if (checksum(head, packed) !== head.readUInt32BE(9)) throw damaged(`the block at byte ${at} fails its checksum`);
    const content = await unpack(packed, { maxOutputLength: Math.max(1, unpacked) }).catch(() => undefined);
    if (content?.length !== unpacked) throw damaged(`the block at byte ${at} cannot be unpacked`);
    const kind = kindOf(head.readUInt8(0));
    if (kind === undefined) throw damaged(`the block at byte ${at} is of no known kind`);
    return { kind, content };
  }

  async #totals(
    end: End,
    streams: Readonly<Record<EntryKind, EntryStream>>,
    hashBefore: string,
  ): Promise<BackupTotals> {
    await this.#bytes.end();
    const { entries: records, bytes: recordBytes } = streams.records.finish();
    const { entries: keys } = streams.keys.finish();
    if (end.sha256 !== hashBefore) throw damaged('its SHA-256 is not the one that it states');
    if (end.records !== records || end.recordBytes !== recordBytes || end.keys !== keys) {
      throw damaged(`it states ${end.records} records and has ${records}`);
    }
    if (keys > 0 && !this.header.withKeys) throw damaged('it has keys and states that it has none');
    return { records, recordBytes, keys, fileBytes: this.#bytes.taken, sha256: this.#bytes.digest() };
  }
}

function kindOf(byte: number): EntryKind | 'end' | undefined {
  if (byte === KIND.records) return 'records';
  if (byte === KIND.keys) return 'keys';
  return byte === KIND.end ? 'end' : undefined;
}

/** A file with such a name lies in the directory itself, whatever somebody put into the backup. */
function checkKeyFiles(entries: readonly Entry[], soFar: number): void {
  if (soFar > MAX_KEY_FILES) throw damaged(`more than ${MAX_KEY_FILES} keys`);
  for (const [name, content] of entries) {
    if (!isKeyFileName(name.toString('utf8'))) throw damaged('a key with an impossible name');
    if (content.length > MAX_KEY_FILE_BYTES) throw damaged(`a key of ${content.length} bytes`);
  }
}

export function isKeyFileName(name: string): boolean {
  return /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/.test(name);
}

/** Cuts a stream of chunks into what is asked for, and hashes what it gave. */
class ByteStream {
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #hash: Hash = createHash('sha256');
  #rest: Buffer = Buffer.alloc(0);
  taken = 0;

  constructor(source: AsyncIterable<Buffer>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  /** Of what was given so far. */
  digest(): string {
    return this.#hash.copy().digest('hex');
  }

  async line(): Promise<string> {
    for (;;) {
      const end = this.#rest.indexOf(NEWLINE);
      if (end !== -1) return this.#give(end + 1).toString('utf8');
      if (this.#rest.length > MAX_HEADER_BYTES) throw damaged('it does not begin with a header');
      if (!(await this.#more())) throw damaged('it ends within its header');
    }
  }

  async exactly(bytes: number): Promise<Buffer> {
    while (this.#rest.length < bytes) if (!(await this.#more())) throw damaged('it is cut off');
    return this.#give(bytes);
  }

  async end(): Promise<void> {
    while (this.#rest.length === 0) if (!(await this.#more())) return;
    throw damaged('something stands behind its end');
  }

  #give(bytes: number): Buffer {
    const given = this.#rest.subarray(0, bytes);
    this.#rest = this.#rest.subarray(bytes);
    this.#hash.update(given);
    this.taken += bytes;
    return given;
  }

  async #more(): Promise<boolean> {
    const { done, value } = await this.#chunks.next();
    if (done === true) return false;
    this.#rest = this.#rest.length === 0 ? value : Buffer.concat([this.#rest, value]);
    return true;
  }
}

// ---- Header and end --------------------------------------------------------------------------------------------------

function parseHeader(line: string): BackupHeader {
  const header = parseObject(line);
  if (header?.what !== WHAT) throw damaged('it is no backup of SKOS Edge');
  const { version, node, program, format, atMs, auditHead, withKeys, compression, approximateBytes, notIncluded } =
    header;
  if (typeof version === 'number' && version > BACKUP_VERSION) {
    throw new SkosError(
      'SKOS_BACKUP_VERSION',
      `the file has version ${version}; this program knows up to ${BACKUP_VERSION}`,
    );
  }
  const whole =
    isCount(version) &&
    (node === null || typeof node === 'string') &&
    typeof program === 'string' &&
    isCount(format) &&
    isCount(atMs) &&
    isHead(auditHead) &&
    typeof withKeys === 'boolean' &&
    compression === 'brotli' &&
    isCount(approximateBytes) &&
    Array.isArray(notIncluded) &&
    notIncluded.every((each) => typeof each === 'string');
  if (!whole) throw damaged('its header lacks something');
  return header as unknown as BackupHeader;
}

interface End {
  readonly records: number;
  readonly recordBytes: number;
  readonly keys: number;
  readonly sha256: string;
}

function parseEnd(content: Buffer): End {
  const end = parseObject(content.toString('utf8'));
  const { records, recordBytes, keys, sha256 } = end ?? {};
  if (!isCount(records) || !isCount(recordBytes) || !isCount(keys) || !isHash(sha256)) {
    throw damaged('its end lacks something');
  }
  return { records, recordBytes, keys, sha256 };
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isHead(value: unknown): value is AuditHead {
  if (typeof value !== 'object' || value === null) return false;
  const { seq, hash } = value as Record<string, unknown>;
  return isCount(seq) && isHash(hash);
}

export function damaged(what: string): SkosError {
  return new SkosError('SKOS_BACKUP_DAMAGED', `the file is damaged: ${what}`);
}
