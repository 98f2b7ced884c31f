/** The encoding of the buckets of one channel: up to an hour of seconds, or ten hours of minutes, in one value. Lossless. */
import type { Buckets } from './buckets.js';
import { decodeChunk, encodeChunk } from './chunk.js';

/** An hour of second buckets. */
export const MAX_CHUNK_BUCKETS = 3_600;

const HEAD_BYTES = 8;
const LENGTH_BYTES = 4;

/** Of buckets in the order of time. Times are multiples of the width. */
export function encodeBuckets(buckets: Buckets, widthMs: number): Buffer {
  const { length, counts, minimums, means, maximums } = buckets;
  const startAtMs = buckets.atMs[0] ?? 0;
  const atMs = buckets.atMs.map((at) => (at - startAtMs) / widthMs);
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeDoubleBE(startAtMs);
  const parts: Buffer[] = [head];
  for (const values of [counts, minimums, means, maximums, Float64Array.from(buckets.qualities)]) {
    const chunk = encodeChunk({ length, atMs, values, qualities: new Uint8Array(length) });
    const size = Buffer.alloc(LENGTH_BYTES);
    size.writeUInt32BE(chunk.length);
    parts.push(size, chunk);
  }
  return Buffer.concat(parts);
}

/** Throws RangeError for what encodeBuckets() cannot have made. */
export function decodeBuckets(bytes: Buffer, widthMs: number): Buckets {
  const startAtMs = bytes.readDoubleBE(0);
  let at = HEAD_BYTES;
  const column = () => {
    const size = bytes.readUInt32BE(at);
    at += LENGTH_BYTES + size;
    return decodeChunk(bytes.subarray(at - size, at), 0);
  };
  const { length, atMs, values: counts } = column();
  const minimums = column().values;
  const means = column().values;
  const maximums = column().values;
  const qualities = Uint8Array.from(column().values);
  return { length, atMs: atMs.map((step) => startAtMs + step * widthMs), counts, minimums, means, maximums, qualities };
}
