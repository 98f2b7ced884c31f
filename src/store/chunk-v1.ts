/**
 * Chunks as the first format of the database had them, in recordings and as raw samples: decoded, no longer written.
 *
 *   byte 0      bits, see below
 *   varint      number of samples
 *   varint      milliseconds from the first sample to the latest; in a coded chunk of even times those from one to the next
 *   body
 *   crc         CRC-32 of all before, 4 bytes, big-endian
 *
 * Coded (bit 4): the body is one stream of the range coder (range-coder.ts), with
 *     qualities   unless all are ok (bit 16): each as 3 bits, modelled by the one before
 *     times       unless even (bit 8): the step that most samples have, then by how much each differs from it
 *     values      of the ok samples, if any: greatest common divisor of the differences (0: all values are equal), first
 *                 value as quotient and remainder, then the differences over the divisor as a series (integer-coder.ts)
 *
 * Plain: the body is raw, or deflated (bit 1, RFC 1951):
 *     qualities   varint number of runs, then per run: quality, length (varints)
 *     times       offsets from the first sample: differences of differences, zigzag varints; a 0 is followed by how many
 *                 zeros there are in a row
 *     values      of the ok samples only. Integers: first value and greatest common divisor of the differences (zigzag
 *                 varint, varint), then differences divided by it (zigzag varints). Floats (bit 2): 8 bytes each, little-endian.
 *
 * Varints are LEB128, done in floating point because canonical values (bytes, millijoules) exceed 32 bits.
 */
import { inflateRawSync } from 'node:zlib';
import { QUALITIES } from '../core/channel.js';
import { ByteReader } from './byte-reader.js';
import type { ChunkHeader, Samples } from './chunk.js';
import { SERIES_MODELS, SeriesDecoder, takeNumber, takeSigned } from './integer-coder.js';
import { RangeDecoder } from './range-coder.js';

/** Such chunks have no more. */
const MAX_SAMPLES = 600;

/** Bits of byte 0. */
const DEFLATED = 1;
const FLOATS = 2;
const CODED = 4;
const EVEN = 8;
const ALL_OK = 16;
/** Some numbers were longer than can be exact: a zigzag difference of counters. */
const MAX_NUMBER = 2 ** 64;
/** A body takes less: 8 bytes a value, 10 a time, 4 a quality run. */
const MAX_BODY_BYTES = MAX_SAMPLES * 64;

const OK = QUALITIES.indexOf('ok');
/** A quality is coded as a path down a tree of this depth, with models for each quality before it. */
const QUALITY_BITS = 3;
const QUALITY_NODES = 2 ** QUALITY_BITS;
const TIMES_AT = QUALITY_NODES * QUALITIES.length;
const VALUES_AT = TIMES_AT + SERIES_MODELS;
const MODELS = VALUES_AT + SERIES_MODELS;

const decoder = new RangeDecoder(MODELS);
const timesDecoder = new SeriesDecoder(decoder, TIMES_AT);
const valuesDecoder = new SeriesDecoder(decoder, VALUES_AT);
const steps = new Float64Array(MAX_SAMPLES);

class Reader extends ByteReader {
  number(): number {
    return this.varint(MAX_NUMBER);
  }

  signed(): number {
    const value = this.number();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }
}

/** Whether the content of a chunk, its check sum cut off, is of this format. */
export function isV1(content: Buffer): boolean {
  const flags = content[0] ?? 0;
  return flags <= DEFLATED + FLOATS || (flags & ~(EVEN | ALL_OK)) === CODED;
}

export function headerOfV1(content: Buffer): ChunkHeader {
  return readHeader(new Reader(content));
}

function readHeader(reader: Reader): ChunkHeader & { readonly flags: number } {
  const flags = reader.byte();
  const length = reader.number();
  if (length > MAX_SAMPLES) throw new RangeError(`the chunk claims ${length} samples`);
  const ms = reader.number();
  return { flags, length, spanMs: (flags & EVEN) === 0 ? ms : ms * Math.max(0, length - 1) };
}

export function decodeChunkV1(content: Buffer, startAtMs: number): Samples {
  const outer = new Reader(content);
  const { flags, length, spanMs } = readHeader(outer);
  const packed = outer.rest();
  if ((flags & CODED) !== 0) return decodeCoded(packed, { flags, length, spanMs, startAtMs });
  const deflated = (flags & DEFLATED) !== 0;
  const body = new Reader(deflated ? inflated(packed) : packed);
  const qualities = takeQualities(body, length);
  const atMs = takeTimes(body, { length, startAtMs });
  const values = new Float64Array(length).fill(Number.NaN);
  if ((flags & FLOATS) !== 0) takeFloats(body, { values, qualities });
  else takeIntegers(body, { values, qualities });
  return { length, atMs, values, qualities };
}

function inflated(packed: Buffer): Buffer {
  try {
    return inflateRawSync(packed, { maxOutputLength: MAX_BODY_BYTES });
  } catch (cause) {
    throw new RangeError('the chunk cannot be inflated', { cause });
  }
}

interface Coded extends ChunkHeader {
  readonly flags: number;
  readonly startAtMs: number;
}

function decodeCoded(stream: Uint8Array, { flags, length, spanMs, startAtMs }: Coded): Samples {
  decoder.begin(stream);
  const qualities = new Uint8Array(length).fill(OK);
  if ((flags & ALL_OK) === 0) decodeQualities(qualities);
  const atMs = new Float64Array(length);
  if ((flags & EVEN) === 0) decodeTimes(atMs, startAtMs);
  else for (let i = 0, stepMs = spanMs / Math.max(1, length - 1); i < length; i++) atMs[i] = startAtMs + i * stepMs;
  const values = new Float64Array(length);
  decodeValues({ values, qualities });
  return { length, atMs, values, qualities };
}

function decodeQualities(qualities: Uint8Array): void {
  let former = OK;
  for (let i = 0; i < qualities.length; i++) {
    let node = 1;
    for (let bit = 0; bit < QUALITY_BITS; bit++) node = node * 2 + decoder.bit(former * QUALITY_NODES + node);
    former = node - QUALITY_NODES;
    if (former >= QUALITIES.length) throw new RangeError('a quality of the chunk is unknown');
    qualities[i] = former;
  }
}

function decodeTimes(atMs: Float64Array, startAtMs: number): void {
  if (atMs.length === 0) return;
  const usual = takeSigned(decoder);
  timesDecoder.take(steps, atMs.length - 1);
  let at = startAtMs;
  atMs[0] = at;
  for (let i = 1; i < atMs.length; i++) {
    at += usual + (steps[i - 1] ?? 0);
    atMs[i] = at;
  }
}

function decodeValues({ values, qualities }: Target): void {
  const count = okCount(qualities);
  if (count < values.length) values.fill(Number.NaN);
  if (count === 0) return;
  const divisor = takeNumber(decoder);
  let value = takeSigned(decoder);
  if (divisor === 0 && count === values.length) {
    values.fill(value);
    return;
  }
  if (divisor === 0) {
    steps.fill(0);
  } else {
    value *= divisor;
    if (decoder.direct(1) === 1) value += takeSigned(decoder);
    valuesDecoder.take(steps, count - 1);
  }
  for (let i = 0, taken = 0; i < values.length; i++) {
    if (qualities[i] !== OK) continue;
    if (taken > 0) value += (steps[taken - 1] ?? 0) * divisor;
    taken++;
    values[i] = value;
  }
}

function okCount(qualities: Uint8Array): number {
  let count = 0;
  for (let i = 0; i < qualities.length; i++) if (qualities[i] === OK) count++;
  return count;
}

function takeQualities(body: Reader, length: number): Uint8Array {
  const qualities = new Uint8Array(length);
  let at = 0;
  for (let runs = body.number(); runs > 0; runs--) {
    const quality = body.number();
    const until = at + body.number();
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
      else if (change === 0) zeros = body.number() - 1;
      step += change;
      offset += step;
    }
    atMs[i] = startAtMs + offset;
  }
  return atMs;
}

type Target = Pick<Samples, 'values' | 'qualities'>;

function takeFloats(body: Reader, { values, qualities }: Target): void {
  for (let i = 0; i < values.length; i++) if (qualities[i] === OK) values[i] = body.bytes(8).readDoubleLE(0);
}

function takeIntegers(body: Reader, { values, qualities }: Target): void {
  let value: number | undefined;
  let divisor = 0;
  for (let i = 0; i < values.length; i++) {
    if (qualities[i] !== OK) continue;
    if (value === undefined) {
      value = body.signed();
      divisor = body.number();
    } else if (divisor !== 0) {
      value += body.signed() * divisor;
    }
    values[i] = value;
  }
}
