/**
 * The encoding of a chunk: up to some hundred samples of one channel, lossless.
 *
 *   byte 0      bits, see below; unknown ones are of newer formats and refused
 *   varint      number of samples
 *   varint      milliseconds from the first sample to the latest; in a coded chunk of even times those from one to the next
 *   body
 *   crc         CRC-32 of all before, 4 bytes, big-endian: LevelDB does not check its own when it reads, and a wrong bit
 *               must not become a reading
 *
 * Coded (bit 4), which integers are: the body is one stream of the range coder (range-coder.ts), with
 *     qualities   unless all are ok (bit 16): each as 3 bits, modelled by the one before
 *     times       unless even (bit 8): the step that most samples have, then by how much each differs from it
 *     values      of the ok samples, if any: greatest common divisor of the differences (0: all values are equal), first
 *                 value as quotient and remainder, then the differences over the divisor as a series (integer-coder.ts)
 *
 * Plain: floats (bit 2), and integers whose large differences repeat so that deflate finds more. The body is raw, or
 * deflated (bit 1, RFC 1951) when that is smaller:
 *     qualities   varint number of runs, then per run: quality, length (varints)
 *     times       offsets from the first sample: differences of differences, zigzag varints; a 0 is followed by how many
 *                 zeros there are in a row, so that regular times cost a few bytes in all
 *     values      of the ok samples only. Integers: first value and greatest common divisor of the differences (zigzag
 *                 varint, varint), then differences divided by it (zigzag varints). Otherwise 8 bytes each, little-endian.
 *
 * Varints are LEB128, done in floating point because canonical values (bytes, millijoules) exceed 32 bits.
 */
import { crc32, deflateRawSync, inflateRawSync } from 'node:zlib';
import { QUALITIES } from '../core/channel.js';
import {
  putNumber,
  putSigned,
  SERIES_MODELS,
  SeriesDecoder,
  SeriesEncoder,
  takeNumber,
  takeSigned,
} from './integer-coder.js';
import { RangeDecoder, RangeEncoder } from './range-coder.js';

/** Ten minutes at 10 Hz and more: what a key and a table cost is little beside so many samples. */
export const MAX_CHUNK_SAMPLES = 8_192;
/** A chunk spans at most this: a reader looks so far back for a chunk that reaches into its range. */
export const MAX_CHUNK_SPAN_MS = 3_600_000;

/** Bits of byte 0. */
const DEFLATED = 1;
const FLOATS = 2;
const CODED = 4;
const EVEN = 8;
const ALL_OK = 16;
/** Differences of such values, zigzagged, are still exact in a double. */
const MAX_INTEGER = 2 ** 50;
const MAX_VARINT_BYTES = 10;
const CRC_BYTES = 4;
/**
 * Worst case of all samples. Plain: 8 bytes a value, 10 a time, 4 a quality run. Coded: 14 bits at most for each of 11
 * modelled bits of a value and of a time and of 3 of a quality, and 51 plain bits of a value and of a time. With room for
 * the header.
 */
const SCRATCH_BYTES = MAX_CHUNK_SAMPLES * 64 + 64;
/** Below this deflate's own header eats the gain. */
const MIN_DEFLATE_BYTES = 32;
/** Small memory (1 << (4 + 9) bytes of hash, 8 KiB window) makes a zlib call three times cheaper; chunks are small. */
const DEFLATE_OPTIONS = { level: 6, memLevel: 4, windowBits: 13 } as const;

/** Differences from here on have more plain bits than modelled ones. */
const MIN_LARGE = 64;
/** With so many different large differences in a chunk deflate does not come out below the models. */
const MAX_FRESH = 24;
const SEEN_SLOTS = 64;

const OK = QUALITIES.indexOf('ok');
/** A quality is coded as a path down a tree of this depth, with models for each quality before it. */
const QUALITY_BITS = 3;
const QUALITY_NODES = 2 ** QUALITY_BITS;
const TIMES_AT = QUALITY_NODES * QUALITIES.length;
const VALUES_AT = TIMES_AT + SERIES_MODELS;
const MODELS = VALUES_AT + SERIES_MODELS;

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
/** So are the coders, and the differences on their way through them. */
const encoder = new RangeEncoder(MODELS);
const decoder = new RangeDecoder(MODELS);
const timesEncoder = new SeriesEncoder(encoder, TIMES_AT);
const timesDecoder = new SeriesDecoder(decoder, TIMES_AT);
const valuesEncoder = new SeriesEncoder(encoder, VALUES_AT);
const valuesDecoder = new SeriesDecoder(decoder, VALUES_AT);
const steps = new Float64Array(MAX_CHUNK_SAMPLES);
const seen = new Float64Array(SEEN_SLOTS);

function putVarint(value: number): void {
  let rest = value;
  while (rest >= 128) {
    scratch[end++] = (rest % 128) + 128;
    rest = Math.floor(rest / 128);
  }
  scratch[end++] = rest;
}

function putZigzag(value: number): void {
  putVarint(value < 0 ? -2 * value - 1 : 2 * value);
}

/** At most MAX_CHUNK_SAMPLES samples, whose times are whole milliseconds from the first, within MAX_CHUNK_SPAN_MS. */
export function encodeChunk(samples: Samples): Buffer {
  if (!integersOnly(samples)) return checked(encodePlain(samples, true));
  const chunk = encodeCoded(samples);
  if (!repeatsItself(samples.length)) return checked(chunk);
  const plain = encodePlain(samples, false);
  return checked(plain.length < chunk.length ? plain : chunk);
}

/** What is in the scratch buffer, with room for its check sum. */
function copied(): Buffer {
  const chunk = Buffer.allocUnsafe(end + CRC_BYTES);
  chunk.set(scratch.subarray(0, end));
  return chunk;
}

function encodePlain(samples: Samples, floats: boolean): Buffer {
  const { length } = samples;
  end = 0;
  putQualities(samples);
  putTimes(samples);
  if (floats) putFloats(samples);
  else putIntegers(samples);
  const raw = scratch.subarray(0, end);
  const packed = end >= MIN_DEFLATE_BYTES ? deflateRawSync(raw, DEFLATE_OPTIONS) : raw;
  const deflated = packed.length < raw.length;
  const body = Buffer.from(deflated ? packed : raw);
  end = 0;
  scratch[end++] = (deflated ? DEFLATED : 0) + (floats ? FLOATS : 0);
  putVarint(length);
  putVarint(spanMs(samples));
  scratch.set(body, end);
  end += body.length;
  return copied();
}

function spanMs({ length, atMs }: Samples): number {
  let last = 0;
  for (let i = 0; i < length; i++) last = Math.max(last, atMs[i] ?? 0);
  return last;
}

function encodeCoded(samples: Samples): Buffer {
  const { length } = samples;
  const stepMs = evenStepMs(samples);
  const allOk = okOnly(samples);
  end = 0;
  scratch[end++] = CODED + (stepMs >= 0 ? EVEN : 0) + (allOk ? ALL_OK : 0);
  putVarint(length);
  putVarint(stepMs >= 0 ? stepMs : spanMs(samples));
  const from = end;
  encoder.begin(scratch, from);
  if (!allOk) codeQualities(samples);
  if (stepMs < 0) codeTimes(samples);
  codeValues(samples);
  end = encoder.finish(from);
  return copied();
}

/** The step of times that are a whole number of milliseconds apart, all the same; -1 of others. */
function evenStepMs({ length, atMs }: Samples): number {
  if (length < 2) return 0;
  const stepMs = atMs[1] ?? 0;
  for (let i = 2; i < length; i++) if ((atMs[i] ?? 0) - (atMs[i - 1] ?? 0) !== stepMs) return -1;
  return stepMs < 0 ? -1 : stepMs;
}

function okOnly({ length, qualities }: Samples): boolean {
  for (let i = 0; i < length; i++) if (qualities[i] !== OK) return false;
  return true;
}

function codeQualities({ length, qualities }: Samples): void {
  let former = OK;
  for (let i = 0; i < length; i++) {
    const quality = qualities[i] ?? 0;
    let node = 1;
    for (let bit = QUALITY_BITS - 1; bit >= 0; bit--) {
      const way = (quality >> bit) & 1;
      encoder.bit(former * QUALITY_NODES + node, way);
      node = node * 2 + way;
    }
    former = quality;
  }
}

/** The step that most samples are apart, then by how much each differs from it. */
function codeTimes({ length, atMs }: Samples): void {
  let usual = 0;
  let votes = 0;
  for (let i = 1; i < length; i++) {
    const step = (atMs[i] ?? 0) - (atMs[i - 1] ?? 0);
    steps[i - 1] = step;
    // The vote of Boyer and Moore: finds the step that more than half have, if there is one.
    if (votes === 0) usual = step;
    votes += step === usual ? 1 : -1;
  }
  for (let i = 0; i < length - 1; i++) steps[i] = (steps[i] ?? 0) - usual;
  putSigned(encoder, usual);
  timesEncoder.put(steps, length - 1);
}

/** The divisor; the first value, by how many divisors and what is left; then the differences over the divisor. */
function codeValues(samples: Samples): void {
  const { count, first, divisor } = putDifferencesOf(samples);
  if (count === 0) return;
  putNumber(encoder, divisor);
  if (divisor === 0) {
    putSigned(encoder, first);
    return;
  }
  const whole = Math.trunc(first / divisor);
  const left = first - whole * divisor;
  putSigned(encoder, whole);
  encoder.direct(left === 0 ? 0 : 1, 1);
  if (left !== 0) putSigned(encoder, left);
  if (divisor !== 1) for (let i = 0; i < count - 1; i++) steps[i] = (steps[i] ?? 0) / divisor;
  valuesEncoder.put(steps, count - 1);
}

/** Exact below 2 ** 53, and some times faster than the remainder of two doubles. */
function divides(divisor: number, magnitude: number): boolean {
  if (divisor <= 1) return divisor === 1 || magnitude === 0;
  const quotient = magnitude / divisor;
  return Math.floor(quotient) === quotient;
}

/**
 * Whether deflate may find what the models do not: most differences are large, and they are few different ones, as of a
 * counter that ticks in two strides. Small ones have models of their own. Looks at what codeValues() left in `steps`.
 */
function repeatsItself(length: number): boolean {
  let large = 0;
  let fresh = 0;
  seen.fill(0);
  for (let i = 0; i < length - 1; i++) {
    const magnitude = Math.abs(steps[i] ?? 0);
    if (magnitude < MIN_LARGE) continue;
    large++;
    const slot = magnitude % SEEN_SLOTS;
    if (seen[slot] === magnitude) continue;
    seen[slot] = magnitude;
    if (++fresh > MAX_FRESH) return false;
  }
  return large > length / 8;
}

interface Differences {
  /** Samples that are ok; their differences, one fewer, are in `steps`, with zeros behind. */
  readonly count: number;
  readonly first: number;
  /** The greatest common divisor of the differences; 0 when all values are equal. */
  readonly divisor: number;
}

function putDifferencesOf({ length, values, qualities }: Samples): Differences {
  let count = 0;
  let first = 0;
  let previous = 0;
  let divisor = 0;
  steps.fill(0);
  for (let i = 0; i < length; i++) {
    if (qualities[i] !== OK) continue;
    const value = values[i] ?? 0;
    if (count === 0) {
      first = value;
    } else {
      const difference = value - previous;
      steps[count - 1] = difference;
      const magnitude = Math.abs(difference);
      if (!divides(divisor, magnitude)) divisor = greatestCommonDivisor(magnitude, divisor);
    }
    previous = value;
    count++;
  }
  return { count, first, divisor };
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
    putZigzag(change);
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
  putZigzag(first);
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
    if (begun) putZigzag((value - previous) / divisor);
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
  if (flags > DEFLATED + FLOATS && (flags & ~(EVEN | ALL_OK)) !== CODED) {
    throw new RangeError(`the chunk has unknown flags ${flags}`);
  }
  const length = reader.varint();
  if (length > MAX_CHUNK_SAMPLES) throw new RangeError(`the chunk claims ${length} samples`);
  const ms = reader.varint();
  return { flags, length, spanMs: (flags & EVEN) === 0 ? ms : ms * Math.max(0, length - 1) };
}

/** Throws for what encodeChunk() cannot have made. Times are `startAtMs` + offset. */
export function decodeChunk(chunk: Buffer, startAtMs: number): Samples {
  const outer = new Reader(unchecked(chunk));
  const { flags, length, spanMs } = readHeader(outer);
  const packed = outer.rest();
  if ((flags & CODED) !== 0) return decodeCoded(packed, { flags, length, spanMs, startAtMs });
  const deflated = (flags & DEFLATED) !== 0;
  const body = new Reader(deflated ? inflateRawSync(packed, { maxOutputLength: SCRATCH_BYTES }) : packed);
  const qualities = takeQualities(body, length);
  const atMs = takeTimes(body, { length, startAtMs });
  const values = new Float64Array(length).fill(Number.NaN);
  if ((flags & FLOATS) !== 0) takeFloats(body, { values, qualities });
  else takeIntegers(body, { values, qualities });
  return { length, atMs, values, qualities };
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
