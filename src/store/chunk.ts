/**
 * The encoding of a chunk: up to some hundred samples of one channel, lossless.
 *
 *   byte 0        1 = deflated body, 2 = values are 64-bit floats; other bits are of newer formats and refused
 *   varint        number of samples
 *   varint        milliseconds from the first sample to the latest
 *   body          raw, or deflated (RFC 1951) when that is smaller:
 *     qualities   varint number of runs, then per run: quality, length (varints)
 *     times       offsets from the first sample: differences of differences, zigzag varints; a 0 is followed by how many
 *                 zeros there are in a row, so that regular times cost a few bytes in all
 *     values      of the ok samples only. Integers: first value and greatest common divisor of the differences (zigzag
 *                 varint, varint), then differences divided by it (zigzag varints). Otherwise 8 bytes each, little-endian.
 *
 *   crc         CRC-32 of all before, 4 bytes, big-endian: LevelDB does not check its own when it reads, and a wrong bit
 *               must not become a reading
 *
 * Varints are LEB128, done in floating point because canonical values (bytes, millijoules) exceed 32 bits.
 */
import { crc32, deflateRawSync, inflateRawSync } from 'node:zlib';
import { QUALITIES } from '../core/channel.js';

/** A minute at 10 Hz: below some hundred samples deflate has nothing to find, above it a reader decodes too much. */
export const MAX_CHUNK_SAMPLES = 600;
/** A chunk spans at most this: a reader looks so far back for a chunk that reaches into its range. */
export const MAX_CHUNK_SPAN_MS = 600_000;

const DEFLATED = 1;
const FLOATS = 2;
/** Differences of such values, zigzagged, are still exact in a double. */
const MAX_INTEGER = 2 ** 50;
const MAX_VARINT_BYTES = 10;
const CRC_BYTES = 4;
/** Worst case of 600 samples: 8 bytes a value, 10 a time, 4 a quality run; with room for the header. */
const SCRATCH_BYTES = MAX_CHUNK_SAMPLES * 32 + 64;
/** Below this deflate's own header eats the gain. */
const MIN_DEFLATE_BYTES = 32;
/** Small memory (1 << (4 + 9) bytes of hash, 8 KiB window) makes a zlib call three times cheaper; chunks are small. */
const DEFLATE_OPTIONS = { level: 6, memLevel: 4, windowBits: 13 } as const;

const OK = QUALITIES.indexOf('ok');

/** Samples of one channel, in the order in which they were taken. */
export interface Samples {
  readonly length: number;
  /** Milliseconds. In a chunk: offsets from its first sample; from a reader: wall time. */
  readonly atMs: Float64Array;
  /** Canonical unit; NaN where the quality is not ok, because only `ok` carries a value. */
  readonly values: Float64Array;
  /** Indexes into QUALITIES. */
  readonly qualities: Uint8Array;
}

/** Encoding is synchronous, so one scratch buffer serves all chunks. */
const scratch = Buffer.alloc(SCRATCH_BYTES);
let end = 0;

function putVarint(value: number): void {
  let rest = value;
  while (rest >= 128) {
    scratch[end++] = (rest % 128) + 128;
    rest = Math.floor(rest / 128);
  }
  scratch[end++] = rest;
}

function putSigned(value: number): void {
  putVarint(value < 0 ? -2 * value - 1 : 2 * value);
}

/** At most MAX_CHUNK_SAMPLES samples, whose times are whole milliseconds from the first, within MAX_CHUNK_SPAN_MS. */
export function encodeChunk(samples: Samples): Buffer {
  const floats = !integersOnly(samples);
  end = 0;
  putQualities(samples);
  putTimes(samples);
  if (floats) putFloats(samples);
  else putIntegers(samples);
  const raw = scratch.subarray(0, end);
  const packed = end >= MIN_DEFLATE_BYTES ? deflateRawSync(raw, DEFLATE_OPTIONS) : raw;
  const deflated = packed.length < raw.length;
  const body = Buffer.from(deflated ? packed : raw);
  return checked(Buffer.concat([header({ samples, floats, deflated }), body, Buffer.alloc(CRC_BYTES)]));
}

function checked(chunk: Buffer): Buffer {
  chunk.writeUInt32BE(crc32(chunk.subarray(0, -CRC_BYTES)), chunk.length - CRC_BYTES);
  return chunk;
}

/** The chunk without its check sum. Throws RangeError when that is wrong. */
function unchecked(chunk: Buffer): Buffer {
  const content = chunk.subarray(0, -CRC_BYTES);
  if (chunk.length < CRC_BYTES || crc32(content) !== chunk.readUInt32BE(content.length)) {
    throw new RangeError('the chunk does not match its check sum');
  }
  return content;
}

function header({ samples, floats, deflated }: { samples: Samples; floats: boolean; deflated: boolean }): Buffer {
  end = 0;
  scratch[end++] = (deflated ? DEFLATED : 0) + (floats ? FLOATS : 0);
  putVarint(samples.length);
  let last = 0;
  for (let i = 0; i < samples.length; i++) last = Math.max(last, samples.atMs[i] ?? 0);
  putVarint(last);
  return Buffer.from(scratch.subarray(0, end));
}

function integersOnly({ length, values, qualities }: Samples): boolean {
  for (let i = 0; i < length; i++) {
    if (qualities[i] !== OK) continue;
    const value = values[i] ?? 0;
    if (!Number.isInteger(value) || value > MAX_INTEGER || value < -MAX_INTEGER || Object.is(value, -0)) return false;
  }
  return true;
}

function putQualities({ length, qualities }: Samples): void {
  let runs = 0;
  for (let i = 0; i < length; i++) if (i === 0 || qualities[i] !== qualities[i - 1]) runs++;
  putVarint(runs);
  for (let i = 0; i < length; ) {
    const first = i;
    while (i < length && qualities[i] === qualities[first]) i++;
    putVarint(qualities[first] ?? 0);
    putVarint(i - first);
  }
}

function putTimes({ length, atMs }: Samples): void {
  let previous = 0;
  let step = 0;
  let zeros = 0;
  for (let i = 1; i < length; i++) {
    const at = atMs[i] ?? 0;
    const change = at - previous - step;
    step = at - previous;
    previous = at;
    if (change === 0) {
      zeros++;
      continue;
    }
    if (zeros > 0) putZeros(zeros);
    zeros = 0;
    putSigned(change);
  }
  if (zeros > 0) putZeros(zeros);
}

function putZeros(count: number): void {
  putVarint(0);
  putVarint(count);
}

function putIntegers({ length, values, qualities }: Samples): void {
  let first: number | undefined;
  let previous = 0;
  let divisor = 0;
  for (let i = 0; i < length; i++) {
    if (qualities[i] !== OK) continue;
    const value = values[i] ?? 0;
    if (first === undefined) first = value;
    else if (divisor !== 1) divisor = greatestCommonDivisor(divisor, Math.abs(value - previous));
    previous = value;
  }
  if (first === undefined) return;
  putSigned(first);
  putVarint(divisor);
  if (divisor !== 0) putDifferences({ values, qualities, length }, { first, divisor });
}

/** A divisor of 0 means that all values are equal: then there is nothing to put. */
function putDifferences(
  { length, values, qualities }: Omit<Samples, 'atMs'>,
  { first, divisor }: { first: number; divisor: number },
): void {
  let previous = first;
  let begun = false;
  for (let i = 0; i < length; i++) {
    if (qualities[i] !== OK) continue;
    const value = values[i] ?? 0;
    if (begun) putSigned((value - previous) / divisor);
    begun = true;
    previous = value;
  }
}

function greatestCommonDivisor(a: number, b: number): number {
  let [larger, smaller] = [a, b];
  while (smaller !== 0) [larger, smaller] = [smaller, larger % smaller];
  return larger;
}

function putFloats({ length, values, qualities }: Samples): void {
  for (let i = 0; i < length; i++) if (qualities[i] === OK) end = scratch.writeDoubleLE(values[i] ?? 0, end);
}

/** Reads with bounds: a damaged chunk throws RangeError, never reads beyond its end nor runs away. */
class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new RangeError('the chunk ends too early');
    return byte;
  }

  varint(): number {
    let value = 0;
    let factor = 1;
    for (let i = 0; i < MAX_VARINT_BYTES; i++) {
      const byte = this.byte();
      value += (byte % 128) * factor;
      if (byte < 128) return value;
      factor *= 128;
    }
    throw new RangeError('a number of the chunk is too long');
  }

  signed(): number {
    const value = this.varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  double(): number {
    const at = this.#at;
    this.#at += 8;
    if (this.#at > this.#bytes.length) throw new RangeError('the chunk ends too early');
    return new DataView(this.#bytes.buffer, this.#bytes.byteOffset + at, 8).getFloat64(0, true);
  }

  rest(): Uint8Array {
    return this.#bytes.subarray(this.#at);
  }
}

export interface ChunkHeader {
  readonly length: number;
  readonly spanMs: number;
}

/** What can be known without decoding the body. */
export function chunkHeader(chunk: Buffer): ChunkHeader {
  return readHeader(new Reader(unchecked(chunk)));
}

function readHeader(reader: Reader): ChunkHeader & { readonly flags: number } {
  const flags = reader.byte();
  if (flags > DEFLATED + FLOATS) throw new RangeError(`the chunk has unknown flags ${flags}`);
  const length = reader.varint();
  if (length > MAX_CHUNK_SAMPLES) throw new RangeError(`the chunk claims ${length} samples`);
  return { flags, length, spanMs: reader.varint() };
}

/** Throws for what encodeChunk() cannot have made. Times are `startAtMs` + offset. */
export function decodeChunk(chunk: Buffer, startAtMs: number): Samples {
  const outer = new Reader(unchecked(chunk));
  const { flags, length } = readHeader(outer);
  const packed = outer.rest();
  const deflated = flags % 2 === DEFLATED;
  const body = new Reader(deflated ? inflateRawSync(packed, { maxOutputLength: SCRATCH_BYTES }) : packed);
  const qualities = takeQualities(body, length);
  const atMs = takeTimes(body, { length, startAtMs });
  const values = new Float64Array(length).fill(Number.NaN);
  if (flags >= FLOATS) takeFloats(body, { values, qualities });
  else takeIntegers(body, { values, qualities });
  return { length, atMs, values, qualities };
}

function takeQualities(body: Reader, length: number): Uint8Array {
  const qualities = new Uint8Array(length);
  let at = 0;
  for (let runs = body.varint(); runs > 0; runs--) {
    const quality = body.varint();
    const until = at + body.varint();
    if (quality >= QUALITIES.length || until > length || until === at) throw new RangeError('a quality run is wrong');
    qualities.fill(quality, at, until);
    at = until;
  }
  if (at !== length) throw new RangeError('the quality runs do not cover the chunk');
  return qualities;
}

function takeTimes(body: Reader, { length, startAtMs }: { length: number; startAtMs: number }): Float64Array {
  const atMs = new Float64Array(length);
  let offset = 0;
  let step = 0;
  let zeros = 0;
  for (let i = 0; i < length; i++) {
    if (i > 0) {
      const change = zeros > 0 ? 0 : body.signed();
      if (zeros > 0) zeros--;
      else if (change === 0) zeros = body.varint() - 1;
      step += change;
      offset += step;
    }
    atMs[i] = startAtMs + offset;
  }
  return atMs;
}

type Target = Pick<Samples, 'values' | 'qualities'>;

function takeFloats(body: Reader, { values, qualities }: Target): void {
  for (let i = 0; i < values.length; i++) if (qualities[i] === OK) values[i] = body.double();
}

function takeIntegers(body: Reader, { values, qualities }: Target): void {
  let value: number | undefined;
  let divisor = 0;
  for (let i = 0; i < values.length; i++) {
    if (qualities[i] !== OK) continue;
    if (value === undefined) {
      value = body.signed();
      divisor = body.varint();
    } else if (divisor !== 0) {
      value += body.signed() * divisor;
    }
    values[i] = value;
  }
}
