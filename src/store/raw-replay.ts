/**
 * What segments of the raw log hold (raw-log.ts), put together again into whole heads, beside the running agent.
 *
 * A head that the database has as a chunk, with as many samples or more, is left as it is; so the same files can be read any number of
 * times, and after an interruption from the beginning. Of the others the pieces are gathered in memory, as much as the heads had been
 * in memory before; what is beyond a bound waits for another pass over the files. A piece that is missing ends its head before it.
 *
 * Files may be anything: what does not begin like a segment is left alone and said once, nothing but regular files is opened, and
 * no more is read at once than a block may be long.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { reason } from '../core/errors.js';
import type { Log, StoredChannel } from '../core/ports.js';
import { chunkHeader } from './chunk.js';
import { type ChunkAddress, chunkKey, keyText, PREFIX } from './keys.js';
import type { Stream } from './raw-head.js';
import { MAX_LOG_BYTES } from './raw-log.js';
import {
  type BlockHeader,
  blockHeader,
  blockRecords,
  FORMAT_VERSION,
  HEADER_BYTES,
  isIntact,
  type Piece,
} from './raw-log-block.js';
import type { Pause } from './slices.js';

/** Gathered in one pass: what 1,000 channels at 10 Hz have in their heads. */
const MAX_GATHERED_BYTES = 8 * 1024 * 1024;

export interface ReplayOptions {
  readonly log: Log;
  /** Ends a slice when it has become long. */
  readonly pause: Pause;
  /** The value of a key. Rejects with SKOS_STORE_READ. */
  readonly get: (key: Buffer) => Promise<Buffer | undefined>;
  /** The number that a channel of the log has in the dictionary; undefined when there are too many. */
  readonly numberOf: (record: StoredChannel) => number | undefined;
  /** Whether a head is in memory still. */
  readonly isOpen: (address: ChunkAddress) => boolean;
  /** Takes a head that is not in the database. */
  readonly put: (address: ChunkAddress, stream: Stream) => Promise<void>;
  readonly stopped: () => boolean;
}

/** A head whose pieces are being put together. */
interface Gathered {
  readonly address: ChunkAddress;
  /** Samples that the database has of it. */
  readonly known: number;
  /** Not in this pass. */
  readonly later: boolean;
  bytes: Buffer;
  end: number;
  count: number;
}

interface Block {
  readonly bytes: Buffer;
  readonly damaged: boolean;
}

export class Replay {
  readonly #options: ReplayOptions;
  readonly #readable = new Set<string>();
  #gatheredBytes = 0;

  constructor(options: ReplayOptions) {
    this.#options = options;
  }

  /**
   * Hands every head that the database lacks to put(), and resolves with the files that were read: with put() their samples are
   * where they belong. Rejects with SKOS_STORE_READ.
   */
  async run(files: readonly string[]): Promise<readonly string[]> {
    let wanted: Set<string> | undefined;
    do {
      const heads = new Map<string, Gathered>();
      this.#gatheredBytes = 0;
      for (const path of files) {
        // A file that could not be read in the first pass cannot be in the next; it is said once.
        if (wanted === undefined || this.#readable.has(path)) await this.#gather(path, heads, wanted);
        if (this.#options.stopped()) return [];
      }
      wanted = new Set();
      for (const [key, head] of heads) {
        if (head.later) wanted.add(key);
        else await this.#put(head);
        if (this.#options.stopped()) return [];
      }
    } while (wanted.size > 0);
    return [...this.#readable];
  }

  async #put({ address, bytes, end, count }: Gathered): Promise<void> {
    if (count === 0) return;
    const { pause, get, put, isOpen } = this.#options;
    if (isOpen(address)) return;
    const known = samplesIn(await get(chunkKey(PREFIX.rawSeries, address)));
    if (known < count) await put(address, { bytes: bytes.subarray(0, end), count });
    await pause();
  }

  async #gather(path: string, heads: Map<string, Gathered>, wanted: ReadonlySet<string> | undefined): Promise<void> {
    const { log, pause } = this.#options;
    let file: FileHandle | undefined;
    try {
      // Neither follows a link nor waits for the other end of a pipe.
      file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      const channels = new Map<number, number | undefined>();
      for await (const block of blocksOf(file)) {
        if (block.damaged) this.#reportDamage(path, 'a block does not match its check sum');
        else await this.#gatherBlock(path, block.bytes, { channels, heads, wanted });
        await pause();
        if (this.#options.stopped()) return;
      }
      this.#readable.add(path);
    } catch (error) {
      if (!(error instanceof Unreadable || isSystemError(error))) throw error;
      log.warn(`The file ${basename(path)} of the raw log is left alone: ${reason(error)}`, {
        event: 'store.raw_log_skipped',
        code: 'SKOS_STORE_READ',
      });
    } finally {
      await file?.close().catch(() => undefined);
    }
  }

  async #gatherBlock(
    path: string,
    block: Buffer,
    {
      channels,
      heads,
      wanted,
    }: {
      channels: Map<number, number | undefined>;
      heads: Map<string, Gathered>;
      wanted: ReadonlySet<string> | undefined;
    },
  ): Promise<void> {
    const pieces: Piece[] = [];
    try {
      for (const record of blockRecords(block)) {
        if ('record' in record) channels.set(record.number, this.#options.numberOf(record.record));
        else pieces.push(record);
      }
    } catch (error) {
      this.#reportDamage(path, reason(error));
    }
    for (const piece of pieces) {
      // Without its description, which a damaged block has taken along, nobody knows whose samples these are.
      const channel = channels.get(piece.address.channel);
      if (channel === undefined) continue;
      const address = { ...piece.address, channel };
      const key = keyText(chunkKey(PREFIX.rawSeries, address));
      if (wanted !== undefined && !wanted.has(key)) continue;
      const head = heads.get(key) ?? (await this.#newHead(address, wanted !== undefined));
      heads.set(key, head);
      if (head.later || piece.count <= head.known) continue;
      // The database has less than the log: the beginning has to be read, too.
      if (head.known > 0 && head.end === 0 && piece.offset > 0) heads.set(key, { ...head, later: true });
      else this.#append(head, piece);
    }
  }

  async #newHead(address: ChunkAddress, again: boolean): Promise<Gathered> {
    const open = this.#options.isOpen(address);
    // In a later pass all pieces are wanted, whatever the database has.
    const known = open
      ? Number.POSITIVE_INFINITY
      : again
        ? 0
        : samplesIn(await this.#options.get(chunkKey(PREFIX.rawSeries, address)));
    const later = this.#gatheredBytes > MAX_GATHERED_BYTES;
    return { address, known, later, bytes: Buffer.alloc(0), end: 0, count: 0 };
  }

  /** A segment begins with whole streams again: what is there already is passed over. */
  #append(head: Gathered, { offset, count, bytes }: Piece): void {
    const end = offset + bytes.length;
    if (offset > head.end || end <= head.end) return;
    if (end > head.bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(end, 2 * head.bytes.length));
      larger.set(head.bytes.subarray(0, head.end));
      this.#gatheredBytes += larger.length - head.bytes.length;
      head.bytes = larger;
    }
    head.bytes.set(bytes.subarray(head.end - offset), head.end);
    head.end = end;
    head.count = count;
  }

  #reportDamage(path: string, why: string): void {
    const message = `Raw samples in ${basename(path)} of the raw log are damaged and passed over: ${why}`;
    this.#options.log.error(message, { event: 'store.damaged', code: 'SKOS_STORE_READ' });
  }
}

/** A file that is not, or not for this version, a segment. */
class Unreadable extends Error {}

function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error;
}

/** A chunk that cannot be read counts as none: the log has it better. */
function samplesIn(chunk: Buffer | undefined): number {
  if (chunk === undefined) return 0;
  try {
    return chunkHeader(chunk).length;
  } catch {
    return 0;
  }
}

/** The blocks of a segment up to its end, or to where it is torn. A damaged one is told only if another follows. */
async function* blocksOf(file: FileHandle): AsyncGenerator<Block, void, undefined> {
  const stat = await file.stat();
  if (!stat.isFile()) throw new Unreadable('it is not a regular file');
  const size = Math.min(stat.size, MAX_LOG_BYTES);
  let position = 0;
  let damaged: Block | undefined;
  while (position + HEADER_BYTES <= size) {
    const bytes = await readAt(file, position, HEADER_BYTES);
    const header = headerAt(position, bytes);
    if (header === undefined || position + HEADER_BYTES + header.length > size) return;
    const block = await readAt(file, position, HEADER_BYTES + header.length);
    if (damaged !== undefined) yield damaged;
    damaged = undefined;
    if (block.length === HEADER_BYTES + header.length && isIntact(block)) yield { bytes: block, damaged: false };
    else damaged = { bytes: block, damaged: true };
    position += HEADER_BYTES + header.length;
  }
}

function headerAt(position: number, bytes: Buffer): BlockHeader | undefined {
  const header = blockHeader(bytes);
  if (position > 0) return header;
  // A power cut leaves zeros where a file had grown and nothing was written.
  if (header === undefined && bytes.some((byte) => byte !== 0)) throw new Unreadable('it is no segment');
  if (header !== undefined && header.version > FORMAT_VERSION) throw new Unreadable(`it has format ${header.version}`);
  return header;
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}
