/**
 * A block of the raw log: what the heads grew by since the block before. raw-log.ts says how blocks become files.
 *
 *   magic     "SKRL"
 *   version   1 byte, FORMAT_VERSION; three bytes of zero
 *   run       u32, of the process that wrote it: part of the address of every chunk in it
 *   length    u32, of the body in bytes
 *   crc       u32, CRC-32 of the sixteen bytes before and of the body
 *   body      records one after the other, up to the end
 *
 * Numbers are big-endian in the header, LEB128 varints in the body. A record is one of
 *
 *   1 channel: number, length, then that many bytes of JSON, the channel as the dictionary describes it. It comes before the first
 *     piece of the channel in every segment, so that a segment can be read without the database.
 *   2 piece: channel's number; startAtMs and ordinal of the chunk that the head will be (keys.ts); where in the head's stream
 *     (raw-head.ts) the piece begins; how many samples the stream has with it; length, then that many bytes. A piece is whole samples.
 */
import { crc32 } from 'node:zlib';
import type { StoredChannel } from '../core/ports.js';
import { ByteReader } from './byte-reader.js';
import { isStoredChannel } from './channel-dictionary.js';
import { MAX_CHUNK_SAMPLES } from './chunk.js';
import type { ChunkAddress } from './keys.js';
import { MAX_STREAM_BYTES } from './raw-head.js';

const MAGIC = 0x534b524c;
export const FORMAT_VERSION = 1;
export const HEADER_BYTES = 20;
/** A body that has reached this is written: what is copied between two turns of the event loop stays below a millisecond. */
const FULL_BYTES = 128 * 1024;
/** The last record of a full body may be a whole stream, or a channel with a long label. No body is longer. */
export const MAX_BODY_BYTES = 2 * FULL_BYTES + MAX_STREAM_BYTES;
const MAX_CHANNEL_BYTES = 64 * 1024;

const CHANNEL = 1;
const PIECE = 2;
/** A kind and six varints of up to eight bytes. */
const MAX_RECORD_HEADER_BYTES = 64;

export interface Piece {
  /** With the run of the block and the number that the channel has in the segment. */
  readonly address: ChunkAddress;
  readonly offset: number;
  readonly count: number;
  readonly bytes: Uint8Array;
}

export interface BlockHeader {
  readonly version: number;
  readonly run: number;
  readonly length: number;
}

/** Puts records together and takes blocks out. */
export class BlockBuilder {
  readonly #run: number;
  #block = Buffer.allocUnsafe(4 * 1024);
  #end = HEADER_BYTES;

  constructor(run: number) {
    this.#run = run;
  }

  get empty(): boolean {
    return this.#end === HEADER_BYTES;
  }

  get full(): boolean {
    return this.#end >= FULL_BYTES;
  }

  /** False: the description is too long for the log, and nothing was added. */
  channel(number: number, record: StoredChannel): boolean {
    const text = Buffer.from(JSON.stringify(record), 'utf8');
    if (text.length > MAX_CHANNEL_BYTES) return false;
    this.#reserve(text.length);
    this.#block[this.#end++] = CHANNEL;
    this.#varint(number);
    this.#varint(text.length);
    this.#put(text);
    return true;
  }

  piece({ address, offset, count, bytes }: Piece): void {
    this.#reserve(bytes.length);
    this.#block[this.#end++] = PIECE;
    this.#varint(address.channel);
    this.#varint(address.startAtMs);
    this.#varint(address.ordinal);
    this.#varint(offset);
    this.#varint(count);
    this.#varint(bytes.length);
    this.#put(bytes);
  }

  /** The block so far; the builder is empty again and does not touch it any more. */
  take(): Buffer {
    const block = this.#block.subarray(0, this.#end);
    block.writeUInt32BE(MAGIC, 0);
    block.writeUInt32BE(FORMAT_VERSION * 2 ** 24, 4);
    block.writeUInt32BE(this.#run >>> 0, 8);
    block.writeUInt32BE(this.#end - HEADER_BYTES, 12);
    block.writeUInt32BE(checkSum(block), 16);
    this.#block = Buffer.allocUnsafe(4 * 1024);
    this.#end = HEADER_BYTES;
    return block;
  }

  #reserve(bytes: number): void {
    const needed = this.#end + bytes + MAX_RECORD_HEADER_BYTES;
    if (needed <= this.#block.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#block.length));
    larger.set(this.#block.subarray(0, this.#end));
    this.#block = larger;
  }

  #varint(value: number): void {
    let rest = value;
    while (rest >= 128) {
      this.#block[this.#end++] = (rest % 128) + 128;
      rest = Math.floor(rest / 128);
    }
    this.#block[this.#end++] = rest;
  }

  #put(bytes: Uint8Array): void {
    this.#block.set(bytes, this.#end);
    this.#end += bytes.length;
  }
}

function checkSum(block: Buffer): number {
  return crc32(block.subarray(HEADER_BYTES), crc32(block.subarray(0, HEADER_BYTES - 4)));
}

/** Undefined when it is not one, or says a length that no block has. */
export function blockHeader(header: Buffer): BlockHeader | undefined {
  if (header.length < HEADER_BYTES || header.readUInt32BE(0) !== MAGIC) return undefined;
  const length = header.readUInt32BE(12);
  if (length > MAX_BODY_BYTES) return undefined;
  return { version: header.readUInt8(4), run: header.readUInt32BE(8), length };
}

/** Whether a whole block, header and body, is what was written. */
export function isIntact(block: Buffer): boolean {
  return checkSum(block) === block.readUInt32BE(HEADER_BYTES - 4);
}

export type BlockRecord = { readonly number: number; readonly record: StoredChannel } | Piece;

/** The records of an intact block. Throws RangeError on what BlockBuilder does not write. */
export function* blockRecords(block: Buffer): Generator<BlockRecord, void, undefined> {
  const run = block.readUInt32BE(8);
  const reader = new ByteReader(block, HEADER_BYTES);
  while (!reader.isAtEnd) {
    const kind = reader.byte();
    const number = reader.varint(2 ** 32 - 1);
    if (kind === CHANNEL) {
      const record: unknown = JSON.parse(reader.bytes(reader.varint(MAX_CHANNEL_BYTES)).toString('utf8'));
      if (isStoredChannel(record)) yield { number, record };
    } else if (kind === PIECE) {
      const startAtMs = reader.varint(Number.MAX_SAFE_INTEGER);
      const ordinal = reader.varint(2 ** 32 - 1);
      const offset = reader.varint(MAX_STREAM_BYTES);
      const count = reader.varint(MAX_CHUNK_SAMPLES);
      yield {
        address: { channel: number, startAtMs, run, ordinal },
        offset,
        count,
        bytes: reader.bytes(reader.varint(MAX_STREAM_BYTES)),
      };
    } else {
      throw new RangeError(`a record of kind ${kind}`);
    }
  }
}
