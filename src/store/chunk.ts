/**
 * The encoding of a chunk: some thousand samples of one channel, lossless.
 *
 *   flags     8 bits, see below; others than those are of the first format (chunk-v1.ts) or of newer ones, which are refused
 *   length    number: of samples
 *   ms        number: even times: from one sample to the next; else from the first sample to the latest; up to a full byte
 *   qualities column (column.ts), unless all are ok
 *   times     unless even: the step that most samples are apart (number), then a column of how far each is from where that step
 *             would have it
 *   values    column of those of the ok samples, if there are any
 *   crc       CRC-32 of all before, 4 bytes, big-endian: LevelDB does not check its own when it reads, and a wrong bit must
 *             not become a reading
 */
import { crc32 } from 'node:zlib';
import { QUALITIES } from '../core/channel.js';
import { BitReader, BitWriter } from './bits.js';
import { decodeChunkV1, headerOfV1, isV1 } from './chunk-v1.js';
import { readColumn, writeColumn } from './column.js';
import { MAX_COLUMN_LENGTH } from './rans.js';

export const MAX_CHUNK_SAMPLES = MAX_COLUMN_LENGTH;
/** A chunk spans at most this: a reader looks so far back for a chunk that reaches into its range. */
export const MAX_CHUNK_SPAN_MS = 3_600_000;

/** Flags. */
const COLUMNS = 32;
const EVEN = 1;
const ALL_OK = 2;
const FLAG_BITS = 8;
const CRC_BYTES = 4;
/** So many steps, from everywhere in the chunk, tell which one is usual. */
const STEPS_ASKED = 15;
/** Worst case: 9 bytes for each number of four columns, and their alphabets. */
const SCRATCH_BYTES = MAX_CHUNK_SAMPLES * 36 + 16_384;

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

/** Encoding and decoding are synchronous, so one of each serves all chunks. */
const out = new BitWriter(SCRATCH_BYTES);
const bits = new BitReader();
const okValues = new Float64Array(MAX_CHUNK_SAMPLES);
const column = new Float64Array(MAX_CHUNK_SAMPLES);
const stepsAsked = new Float64Array(STEPS_ASKED);

/** At most MAX_CHUNK_SAMPLES samples, whose times are whole milliseconds from the first, within MAX_CHUNK_SPAN_MS. */
export function encodeChunk(samples: Samples): Buffer {
  const { length } = samples;
  if (length > MAX_CHUNK_SAMPLES) throw new RangeError(`${length} samples are too many for a chunk`);
  const stepMs = evenStepMs(samples);
  const count = takeOkValues(samples);
  out.begin();
  out.bits(COLUMNS + (stepMs >= 0 ? EVEN : 0) + (count === length ? ALL_OK : 0), FLAG_BITS);
  out.number(length);
  out.number(stepMs >= 0 ? stepMs : spanMs(samples));
  out.align();
  if (count < length) writeQualities(samples);
  if (stepMs < 0) writeTimes(samples);
  if (count > 0) writeColumn(out, okValues, count);
  const chunk = out.copied(CRC_BYTES);
  chunk.writeUInt32BE(crc32(chunk.subarray(0, -CRC_BYTES)), chunk.length - CRC_BYTES);
  return chunk;
}

/** The step of times that are a whole number of milliseconds apart, all the same; -1 of others. */
function evenStepMs({ length, atMs }: Samples): number {
  if (length < 2) return 0;
  const stepMs = atMs[1] ?? 0;
  let at = stepMs;
  for (let i = 2; i < length; i++) {
    at += stepMs;
    if (atMs[i] !== at) return -1;
  }
  return stepMs >= 0 && Number.isInteger(stepMs) ? stepMs : -1;
}

function spanMs({ length, atMs }: Samples): number {
  let last = 0;
  for (let i = 0; i < length; i++) last = Math.max(last, atMs[i] ?? 0);
  return Math.ceil(last);
}

/** How many there are. */
function takeOkValues({ length, values, qualities }: Samples): number {
  let count = 0;
  for (let i = 0; i < length; i++) if (qualities[i] === OK) okValues[count++] = values[i] ?? 0;
  return count;
}

function writeQualities({ length, qualities }: Samples): void {
  for (let i = 0; i < length; i++) column[i] = qualities[i] ?? 0;
  writeColumn(out, column, length);
}

function writeTimes({ length, atMs }: Samples): void {
  const stepMs = usualStepMs(atMs, length);
  out.number(stepMs);
  for (let i = 0; i < length; i++) column[i] = (atMs[i] ?? 0) - i * stepMs;
  writeColumn(out, column, length);
}

/** The middle one of some steps: gaps do not move it, nor does jitter to both sides. */
function usualStepMs(atMs: Float64Array, length: number): number {
  for (let i = 0; i < STEPS_ASKED; i++) {
    const at = 1 + Math.floor((i * (length - 1)) / STEPS_ASKED);
    stepsAsked[i] = (atMs[at] ?? 0) - (atMs[at - 1] ?? 0);
  }
  return Math.max(0, Math.round(stepsAsked.sort()[STEPS_ASKED >> 1] ?? 0));
}

export interface ChunkHeader {
  readonly length: number;
  readonly spanMs: number;
}

/** What can be known without decoding the columns. */
export function chunkHeader(chunk: Buffer): ChunkHeader {
  const content = unchecked(chunk);
  return isV1(content) ? headerOfV1(content) : readHeader(chunk);
}

/** The chunk without its check sum. Throws RangeError when that is wrong. */
function unchecked(chunk: Buffer): Buffer {
  const content = chunk.subarray(0, -CRC_BYTES);
  if (chunk.length <= CRC_BYTES || crc32(content) !== chunk.readUInt32BE(content.length)) {
    throw new RangeError('the chunk does not match its check sum');
  }
  return content;
}

/** Afterwards `bits` stands before the first column. */
function readHeader(chunk: Buffer): ChunkHeader & { readonly flags: number } {
  bits.begin(chunk, 0);
  const flags = bits.bits(FLAG_BITS);
  if ((flags & ~(EVEN | ALL_OK)) !== COLUMNS) throw new RangeError(`the chunk has unknown flags ${flags}`);
  const length = bits.number();
  if (length > MAX_CHUNK_SAMPLES) throw new RangeError(`the chunk claims ${length} samples`);
  const ms = bits.number();
  bits.align();
  return { flags, length, spanMs: (flags & EVEN) === 0 ? ms : ms * Math.max(0, length - 1) };
}

/** Throws RangeError for what encodeChunk() cannot have made. Times are `startAtMs` + offset. */
export function decodeChunk(chunk: Buffer, startAtMs: number): Samples {
  const content = unchecked(chunk);
  if (isV1(content)) return decodeChunkV1(content, startAtMs);
  const { flags, length, spanMs } = readHeader(chunk);
  const atMs = new Float64Array(length);
  const values = new Float64Array(length);
  const qualities = new Uint8Array(length);
  if ((flags & ALL_OK) === 0) readQualities(qualities, length);
  else qualities.fill(OK, 0, length);
  if ((flags & EVEN) === 0) readTimes(atMs, { length, startAtMs });
  else for (let i = 0, stepMs = spanMs / Math.max(1, length - 1); i < length; i++) atMs[i] = startAtMs + i * stepMs;
  const count = okCount(qualities, length);
  if (count > 0) readColumn(bits, values, count);
  if (count < length) spread(values, { length, count, qualities });
  if (bits.at !== content.length) throw new RangeError('the chunk goes on behind its end');
  return { length, atMs, values, qualities };
}

function readQualities(qualities: Uint8Array, length: number): void {
  readColumn(bits, column, length);
  for (let i = 0; i < length; i++) {
    const quality = column[i] ?? 0;
    if (!(quality >= 0 && quality < QUALITIES.length)) throw new RangeError('a quality of the chunk is unknown');
    qualities[i] = quality;
  }
}

function readTimes(atMs: Float64Array, { length, startAtMs }: { length: number; startAtMs: number }): void {
  const stepMs = bits.number();
  readColumn(bits, atMs, length);
  for (let i = 0; i < length; i++) atMs[i] = startAtMs + i * stepMs + (atMs[i] ?? 0);
}

function okCount(qualities: Uint8Array, length: number): number {
  let count = 0;
  for (let i = 0; i < length; i++) if (qualities[i] === OK) count++;
  return count;
}

/** From the first `count` places to those whose quality is ok, from behind, so that nothing is overwritten before it is moved. */
function spread(
  values: Float64Array,
  { length, count, qualities }: { length: number; count: number; qualities: Uint8Array },
): void {
  let from = count;
  for (let i = length - 1; i >= 0; i--) values[i] = qualities[i] === OK ? (values[--from] ?? 0) : Number.NaN;
}
