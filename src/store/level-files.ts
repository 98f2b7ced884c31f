/**
 * Reads the files of a LevelDB database without opening it, as far as they can be read: for a database that LevelDB itself
 * refuses. Nothing is written, no manifest is needed, and each block and record counts only when its checksum is right.
 *
 * All tables and logs of the directory are merged in the order of keys, and of each key the newest version counts. A table is
 * opened when its first key is reached and closed after its last, so that a handful is open at once; of each, one block
 * is in memory. Logs are read whole: they are as large as LevelDB's write buffer.
 *
 * Not LevelDB's own repair: that rewrites the directory, and neither looks at checksums nor says what is missing, so that a flipped byte
 * comes back as a value.
 *
 * Where a block cannot be read, what was in it is missing, or an older version of it comes up. Where the manifest was the only
 * one to know that a table is obsolete, deleted keys may come up again.
 *
 * Source: LevelDB's doc/table_format.md, doc/log_format.md, table/format.cc, db/dbformat.h and db/write_batch.cc.
 */
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { reason } from '../core/errors.js';
import { ByteReader } from './byte-reader.js';
import type { KeyRange } from './keys.js';
import { isTableName, TABLE_MAGIC } from './level.js';
import { slicesOf } from './slices.js';
import { unsnap } from './snappy.js';

/** Logs are a little larger than the write buffer of 1 MiB; what is beyond this is not one that we wrote. */
const MAX_LOG_BYTES = 64 * 1024 * 1024;
/** Blocks are about 4 KiB, an index some KiB per MiB of its table. */
const MAX_BLOCK_BYTES = 32 * 1024 * 1024;
const FOOTER_BYTES = 48;
const TRAILER_BYTES = 5;
const LOG_BLOCK_BYTES = 32_768;
const LOG_HEADER_BYTES = 7;
/** A log takes some milliseconds for each of its check sums, its records and their order. */
const SLICE_MS = 2;

const VALUE = 1;
const DELETION = 0;

export interface LevelDamage {
  /** Name of the file. */
  readonly file: string;
  readonly why: string;
}

/** One version of a key. */
interface Version {
  readonly key: Buffer;
  readonly seq: number;
  /** undefined: it was deleted then. */
  readonly value: Buffer | undefined;
}

/** Something that gives versions in order: by key, then the newest first. */
interface Source {
  next(): Promise<Version | undefined>;
  close(): Promise<void>;
}

const isBefore = (a: Version, b: Version) => {
  const order = Buffer.compare(a.key, b.key);
  return order < 0 || (order === 0 && a.seq > b.seq);
};

/** The newest version of each key in the range, in the order of keys, without those that are deleted. */
export async function* readLevelFiles(
  directory: string,
  { range, onDamage }: { range: KeyRange; onDamage: (damage: LevelDamage) => void },
): AsyncGenerator<[Buffer, Buffer], void, undefined> {
  const merge = new Merge({ directory, range, onDamage });
  try {
    await merge.start();
    let last: Buffer | undefined;
    const pause = slicesOf(SLICE_MS);
    for (let version = await merge.next(); version !== undefined; version = await merge.next()) {
      await pause();
      if (last?.equals(version.key) === true) continue;
      last = version.key;
      if (version.value !== undefined) yield [version.key, version.value];
    }
  } finally {
    await merge.close();
  }
}

interface Active {
  readonly source: Source;
  version: Version;
}

class Merge {
  readonly #directory: string;
  readonly #range: KeyRange;
  readonly #onDamage: (damage: LevelDamage) => void;
  /** Tables that were not reached yet, the first last. */
  readonly #later: { name: string; smallest: Buffer }[] = [];
  readonly #active: Active[] = [];

  constructor(options: { directory: string; range: KeyRange; onDamage: (damage: LevelDamage) => void }) {
    this.#directory = options.directory;
    this.#range = options.range;
    this.#onDamage = options.onDamage;
  }

  async start(): Promise<void> {
    const names = await readdir(this.#directory);
    for (const name of names) {
      if (/^\d+\.log$/.test(name)) await this.#attempt(name, async () => this.#activate(await this.#log(name)));
      if (!isTableName(name)) continue;
      await this.#attempt(name, async () => {
        const table = await this.#table(name);
        const first = await table.next();
        await table.close();
        if (first !== undefined) this.#later.push({ name, smallest: first.key });
      });
    }
    this.#later.sort((a, b) => Buffer.compare(b.smallest, a.smallest));
  }

  async next(): Promise<Version | undefined> {
    await this.#openReached();
    let least: Active | undefined;
    for (const each of this.#active) if (least === undefined || isBefore(each.version, least.version)) least = each;
    if (least === undefined) return undefined;
    const { version } = least;
    const following = await least.source.next();
    if (following === undefined) {
      this.#active.splice(this.#active.indexOf(least), 1);
      await least.source.close();
    } else {
      least.version = following;
    }
    return version;
  }

  async close(): Promise<void> {
    for (const { source } of this.#active.splice(0)) await source.close();
  }

  /** Tables that begin at or before what comes next. */
  async #openReached(): Promise<void> {
    for (;;) {
      const table = this.#later.at(-1);
      if (table === undefined) return;
      const { smallest, name } = table;
      if (this.#active.length > 0 && this.#active.every(({ version }) => Buffer.compare(version.key, smallest) < 0))
        return;
      this.#later.pop();
      await this.#attempt(name, async () => this.#activate(await this.#table(name)));
    }
  }

  async #activate(source: Source): Promise<void> {
    const version = await source.next();
    if (version === undefined) await source.close();
    else this.#active.push({ source, version });
  }

  #table(name: string): Promise<Table> {
    const say = (why: string) => this.#onDamage({ file: name, why });
    return Table.open(join(this.#directory, name), { range: this.#range, say });
  }

  async #log(name: string): Promise<Source> {
    const bytes = await readWhole(join(this.#directory, name));
    const versions: Version[] = [];
    const pause = slicesOf(SLICE_MS);
    for (const batch of logRecords(bytes, (why) => this.#onDamage({ file: name, why }))) {
      for (const version of batchVersions(batch, (why) => this.#onDamage({ file: name, why }))) {
        if (isWithin(version.key, this.#range)) versions.push(version);
      }
      await pause();
    }
    versions.sort((a, b) => (isBefore(a, b) ? -1 : 1));
    let position = 0;
    return { next: () => Promise.resolve(versions[position++]), close: () => Promise.resolve() };
  }

  async #attempt(file: string, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      this.#onDamage({ file, why: reason(error) });
    }
  }
}

const isWithin = (key: Buffer, { gte, lt }: KeyRange) => Buffer.compare(key, gte) >= 0 && Buffer.compare(key, lt) < 0;

async function readWhole(path: string): Promise<Buffer> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    if (size > MAX_LOG_BYTES) throw new Error(`${size} bytes are no log of this database`);
    return await readAt(file, { offset: 0, size });
  } finally {
    await file.close();
  }
}

async function readAt(file: FileHandle, { offset, size }: Block): Promise<Buffer> {
  const bytes = Buffer.alloc(size);
  const { bytesRead } = await file.read(bytes, 0, size, offset);
  if (bytesRead < size) throw new Error(`the file ends ${size - bytesRead} bytes early`);
  return bytes;
}

// ---- Tables ------------------------------------------------------------------------------------------------------------

interface Block {
  readonly offset: number;
  readonly size: number;
}

class Table implements Source {
  readonly #file: FileHandle;
  readonly #blocks: Block[];
  readonly #range: KeyRange;
  readonly #say: (why: string) => void;
  #entries: Iterator<[Buffer, Buffer]> = [][Symbol.iterator]();

  private constructor(options: { file: FileHandle; blocks: Block[]; range: KeyRange; say: (why: string) => void }) {
    this.#file = options.file;
    this.#blocks = options.blocks;
    this.#range = options.range;
    this.#say = options.say;
  }

  /** Rejects when the file has no footer or its index cannot be read: nothing in it can be found then. */
  static async open(path: string, { range, say }: { range: KeyRange; say: (why: string) => void }): Promise<Table> {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      const footer = await readAt(file, { offset: Math.max(0, size - FOOTER_BYTES), size: FOOTER_BYTES });
      if (!footer.subarray(-TABLE_MAGIC.length).equals(TABLE_MAGIC)) throw new Error('it does not end as a table does');
      const reader = new ByteReader(footer);
      handle(reader); // Of the meta index, which says nothing of the data.
      const index = [...blockEntries(await readBlock(file, handle(reader)))];
      const blocks = index.flatMap(([key, value], i) => {
        // An index key is not less than its block's last key, and less than the next block's first.
        const isAfter = i > 0 && Buffer.compare(userKey(index[i - 1]?.[0] ?? key), range.lt) >= 0;
        return Buffer.compare(userKey(key), range.gte) < 0 || isAfter ? [] : [handle(new ByteReader(value))];
      });
      return new Table({ file, blocks, range, say });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async next(): Promise<Version | undefined> {
    for (;;) {
      const found = this.#nextEntry();
      if (found !== undefined) {
        const version = versionOf(found[0], found[1]);
        if (version !== undefined && isWithin(version.key, this.#range)) return version;
        continue;
      }
      const block = this.#blocks.shift();
      if (block === undefined) return undefined;
      try {
        this.#entries = blockEntries(await readBlock(this.#file, block));
      } catch (error) {
        this.#say(`the block of ${block.size} bytes at ${block.offset} cannot be read: ${reason(error)}`);
      }
    }
  }

  /** undefined at the end of a block. */
  #nextEntry(): [Buffer, Buffer] | undefined {
    try {
      const { done, value } = this.#entries.next();
      return done === true ? undefined : value;
    } catch (error) {
      this.#say(`a block ends early: ${reason(error)}`);
      return undefined;
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

async function readBlock(file: FileHandle, { offset, size }: Block): Promise<Buffer> {
  if (size > MAX_BLOCK_BYTES) throw new Error(`a block of ${size} bytes`);
  const bytes = await readAt(file, { offset, size: size + TRAILER_BYTES });
  const type = bytes[size];
  if (bytes.readUInt32LE(size + 1) !== maskedCrc(bytes.subarray(0, size + 1))) throw new Error('its checksum is wrong');
  const content = bytes.subarray(0, size);
  if (type === 0) return content;
  if (type === 1) return unsnap(content, MAX_BLOCK_BYTES);
  throw new Error(`it is compressed by an unknown method, ${type}`);
}

/** Keys share what they begin with; the restart points behind them are for searching. */
function* blockEntries(block: Buffer): Generator<[Buffer, Buffer], void, undefined> {
  const restarts = block.readUInt32LE(block.length - 4);
  const reader = new ByteReader(block.subarray(0, block.length - 4 * (restarts + 1)));
  let key = Buffer.alloc(0);
  while (!reader.isAtEnd) {
    const [shared, rest, length] = [reader.varint(), reader.varint(), reader.varint()];
    if (shared > key.length) throw new Error('a key shares more than there is');
    key = Buffer.concat([key.subarray(0, shared), reader.bytes(rest)]);
    yield [key, reader.bytes(length)];
  }
}

function handle(reader: ByteReader): Block {
  return { offset: reader.varint(), size: reader.varint() };
}

const SUFFIX_BYTES = 8;
const userKey = (internalKey: Buffer) => internalKey.subarray(0, internalKey.length - SUFFIX_BYTES);

/** An internal key ends with seven bytes of the sequence number and one of the type, as one little-endian number. */
function versionOf(internalKey: Buffer, value: Buffer): Version | undefined {
  const at = internalKey.length - SUFFIX_BYTES;
  if (at < 0) return undefined;
  const type = internalKey[at];
  const seq = internalKey.readUIntLE(at + 1, 6) + (internalKey[at + 7] ?? 0) * 2 ** 48;
  if (type !== VALUE && type !== DELETION) return undefined;
  return { key: internalKey.subarray(0, at), seq, value: type === VALUE ? value : undefined };
}

// ---- Logs --------------------------------------------------------------------------------------------------------------

const FULL = 1;
const FIRST = 2;
const MIDDLE = 3;
const LAST = 4;

/** The records of a log, put together of their fragments. What is damaged is said and passed over, to the next block. */
function* logRecords(bytes: Buffer, say: (why: string) => void): Generator<Buffer, void, undefined> {
  let parts: Buffer[] | undefined;
  for (let blockAt = 0; blockAt < bytes.length; blockAt += LOG_BLOCK_BYTES) {
    const block = bytes.subarray(blockAt, blockAt + LOG_BLOCK_BYTES);
    for (let at = 0; at + LOG_HEADER_BYTES <= block.length; ) {
      const length = block.readUInt16LE(at + 4);
      const type = block[at + 6] ?? 0;
      // The rest of the block was never written.
      if (type === 0 && length === 0) break;
      const end = at + LOG_HEADER_BYTES + length;
      if (end > block.length || block.readUInt32LE(at) !== maskedCrc(block.subarray(at + 6, end))) {
        say(`the record at ${blockAt + at} cannot be read`);
        parts = undefined;
        break;
      }
      const data = block.subarray(at + LOG_HEADER_BYTES, end);
      if (type === FULL) yield data;
      if (type === FIRST) parts = [data];
      if (type === MIDDLE) parts?.push(data);
      if (type === LAST && parts !== undefined) yield Buffer.concat([...parts, data]);
      if (type === FULL || type === LAST) parts = undefined;
      at = end;
    }
  }
}

/** A batch: the sequence number of its first operation, their count, the operations. */
function* batchVersions(batch: Buffer, say: (why: string) => void): Generator<Version, void, undefined> {
  try {
    const reader = new ByteReader(batch.subarray(12));
    const firstSeq = batch.readUIntLE(0, 6) + batch.readUInt16LE(6) * 2 ** 48;
    for (let seq = firstSeq; !reader.isAtEnd; seq++) {
      const type = reader.byte();
      if (type !== VALUE && type !== DELETION) throw new Error(`an operation of unknown type ${type}`);
      const key = reader.bytes(reader.varint());
      yield { key, seq, value: type === VALUE ? reader.bytes(reader.varint()) : undefined };
    }
  } catch (error) {
    say(`a batch cannot be read: ${reason(error)}`);
  }
}

// ---- Checksums ---------------------------------------------------------------------------------------------------------

/** CRC-32C (Castagnoli), reflected: RFC 3720, appendix B.4. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let crc = n;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ byte) & 0xff] ?? 0);
  return (crc ^ 0xffffffff) >>> 0;
}

/** As LevelDB stores it: rotated and moved, because a checksum of data that hold checksums is weak. */
function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
