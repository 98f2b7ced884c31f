/**
 * The encoding of the buckets of one channel: an hour of seconds, or some hours of minutes. Lossless.
 *
 *   version   8 bits
 *   whole     1 bit: all values are integers
 *   length    number: of buckets; and if there are any:
 *   first     number: when the first one begins, in widths
 *   times     column (column.ts): how many widths each is later than without gaps
 *   qualities column
 *   counts    column
 *   values    of the buckets that have samples, if any: columns of the minimums, of how far means are above the minimums, and of
 *             how far maximums are above the means. Where not all are integers: of minimums, means and maximums as they are
 *   crc       CRC-32 of all before, 4 bytes, big-endian
 *
 * A column whose numbers are all the same takes two bytes: a channel that is sampled once a second costs its values and little
 * more, as its least, mean and greatest value are one.
 */
import { crc32 } from 'node:zlib';
import { QUALITIES } from '../core/channel.js';
import { BitReader, BitWriter } from './bits.js';
import { type Buckets, emptyBuckets } from './buckets.js';
import { areIntegers, readColumn, writeColumn } from './column.js';
import { MAX_COLUMN_LENGTH } from './rans.js';

/** An hour of seconds takes 3,600, and a second that a restart cut in two is two. */
export const MAX_CHUNK_BUCKETS = MAX_COLUMN_LENGTH;

const VERSION = 1;
const VERSION_BITS = 8;
const CRC_BYTES = 4;
/** Worst case: 9 bytes for each half of three floats, for a time, a quality and a count, and their alphabets. */
const SCRATCH_BYTES = MAX_CHUNK_BUCKETS * 81 + 16_384;

/** Encoding and decoding are synchronous, so one of each serves all chunks. */
const out = new BitWriter(SCRATCH_BYTES);
const bits = new BitReader();
const column = new Float64Array(MAX_CHUNK_BUCKETS);
const minimums = new Float64Array(MAX_CHUNK_BUCKETS);
const means = new Float64Array(MAX_CHUNK_BUCKETS);
const maximums = new Float64Array(MAX_CHUNK_BUCKETS);

/** At most MAX_CHUNK_BUCKETS, in the order of time, whose times are multiples of the width. */
export function encodeBuckets(buckets: Buckets, widthMs: number): Buffer {
  const { length, counts } = buckets;
  if (length > MAX_CHUNK_BUCKETS) throw new RangeError(`${length} buckets are too many for a chunk`);
  const filled = takeFilled(buckets);
  const whole = areIntegers(minimums, filled) && areIntegers(means, filled) && areIntegers(maximums, filled);
  out.begin();
  out.bits(VERSION, VERSION_BITS);
  out.bits(whole ? 1 : 0, 1);
  out.number(length);
  if (length > 0) {
    writeTimes(buckets, widthMs);
    for (let i = 0; i < length; i++) column[i] = buckets.qualities[i] ?? 0;
    writeColumn(out, column, length);
    writeColumn(out, counts, length);
    if (filled > 0) writeValues(filled, whole);
  }
  out.align();
  const chunk = out.copied(CRC_BYTES);
  chunk.writeUInt32BE(crc32(chunk.subarray(0, -CRC_BYTES)), chunk.length - CRC_BYTES);
  return chunk;
}

/** How many buckets have samples; what they come to goes to the columns. */
function takeFilled(buckets: Buckets): number {
  let filled = 0;
  for (let i = 0; i < buckets.length; i++) {
    if (buckets.counts[i] === 0) continue;
    minimums[filled] = buckets.minimums[i] ?? 0;
    means[filled] = buckets.means[i] ?? 0;
    maximums[filled] = buckets.maximums[i] ?? 0;
    filled++;
  }
  return filled;
}

function writeTimes({ length, atMs }: Buckets, widthMs: number): void {
  let dueMs = atMs[0] ?? 0;
  out.number(dueMs / widthMs);
  let later = 0;
  for (let i = 0; i < length; i++, dueMs += widthMs) {
    const at = atMs[i] ?? 0;
    if (at !== dueMs) later += (at - dueMs) / widthMs;
    dueMs = at;
    column[i] = later;
  }
  writeColumn(out, column, length);
}

function writeValues(filled: number, whole: boolean): void {
  if (whole) {
    for (let i = 0; i < filled; i++) {
      maximums[i] = (maximums[i] ?? 0) - (means[i] ?? 0);
      means[i] = (means[i] ?? 0) - (minimums[i] ?? 0);
    }
  }
  for (const values of [minimums, means, maximums]) writeColumn(out, values, filled);
}

/**
 * When the last bucket begins, -Infinity when there is none: for the price of the times, which are mostly two bytes. Throws RangeError for
 * what encodeBuckets() cannot have made.
 */
export function lastBucketAtMs(bytes: Buffer, widthMs: number): number {
  const { length } = readHeader(bytes);
  if (length === 0) return Number.NEGATIVE_INFINITY;
  const first = bits.number();
  readColumn(bits, column, length);
  return (first + length - 1 + (column[length - 1] ?? 0)) * widthMs;
}

/**
 * Throws RangeError for what encodeBuckets() cannot have made. With `room`, of MAX_CHUNK_BUCKETS, the buckets lie in its arrays until it is
 * used again.
 */
export function decodeBuckets(bytes: Buffer, widthMs: number, room?: Buckets): Buckets {
  const { length, whole, end } = readHeader(bytes);
  const buckets = room === undefined ? emptyBuckets(length) : { ...room, length };
  if (length > 0) readBuckets(buckets, { widthMs, whole });
  else bits.align();
  if (bits.at !== end) throw new RangeError('the buckets go on behind their end');
  return buckets;
}

/** Up to the first bucket. */
function readHeader(bytes: Buffer): { length: number; whole: boolean; end: number } {
  const end = bytes.length - CRC_BYTES;
  if (end <= 0 || crc32(bytes.subarray(0, end)) !== bytes.readUInt32BE(end)) {
    throw new RangeError('the buckets do not match their check sum');
  }
  bits.begin(bytes, 0);
  if (bits.bits(VERSION_BITS) !== VERSION) throw new RangeError('the buckets are of an unknown version');
  const whole = bits.bits(1) === 1;
  const length = bits.number();
  if (length > MAX_CHUNK_BUCKETS) throw new RangeError(`the chunk claims ${length} buckets`);
  return { length, whole, end };
}

function readBuckets(buckets: Buckets, { widthMs, whole }: { widthMs: number; whole: boolean }): void {
  const { length, atMs, counts, qualities } = buckets;
  const first = bits.number();
  readColumn(bits, atMs, length);
  for (let i = 0; i < length; i++) atMs[i] = (first + i + (atMs[i] ?? 0)) * widthMs;
  readColumn(bits, column, length);
  for (let i = 0; i < length; i++) {
    const quality = column[i] ?? 0;
    if (!(quality >= 0 && quality < QUALITIES.length)) throw new RangeError('a quality of the buckets is unknown');
    qualities[i] = quality;
  }
  readColumn(bits, counts, length);
  let filled = 0;
  for (let i = 0; i < length; i++) if (counts[i] !== 0) filled++;
  if (filled > 0)
    for (const values of [buckets.minimums, buckets.means, buckets.maximums]) readColumn(bits, values, filled);
  if (whole) raise(buckets, filled);
  if (filled < length) spread(buckets, filled);
}

/** Means are above minimums, and maximums above means. */
function raise({ minimums: least, means: mean, maximums: greatest }: Buckets, filled: number): void {
  for (let i = 0; i < filled; i++) {
    const middle = (least[i] ?? 0) + (mean[i] ?? 0);
    mean[i] = middle;
    greatest[i] = middle + (greatest[i] ?? 0);
  }
}

/** From the first places to those that have samples, from behind, so that nothing is overwritten before it is moved. */
function spread({ length, counts, ...values }: Buckets, filled: number): void {
  for (const each of [values.minimums, values.means, values.maximums]) {
    let from = filled;
    for (let i = length - 1; i >= 0; i--) each[i] = counts[i] === 0 ? Number.NaN : (each[--from] ?? 0);
  }
}
