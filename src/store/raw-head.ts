/**
 * The head of a channel: its samples since its chunk began, as a byte string that grows at the end and never changes before it. So it
 * can be decoded while it grows, and what it grew by can be appended to the raw log and put together again later.
 *
 * A sample is, beside the one before it:
 *
 *   byte    two bits of time: 0 the usual step, 1 a millisecond more, 2 one less, 3 escape; then six bits
 *   escape  of the six bits the lower three are the quality, the next says that the time follows: a zigzag varint, by how much the
 *           step differs from the usual. The code of the value has a byte of its own behind; a quality other than ok has none.
 *   code    0–57 the zigzag difference from the last value; 58 it is in one byte more (58 is taken off), 59–61 it is in two to four
 *           bytes, 62 the value itself as a double: fractions, and differences beyond 32 bits. Little-endian.
 *
 * The usual step is the last that came twice in a row, because a sampler's step wavers by a rounded millisecond. Nothing is promised
 * of size but the greatest; a channel that is read evenly and moves little costs a byte a sample, most others two or three.
 */
import { QUALITIES } from '../core/channel.js';
import { MAX_CHUNK_SAMPLES, MAX_CHUNK_SPAN_MS, type Samples } from './chunk.js';

/** A byte for the time, five of it, one for the code, eight of value. */
const MAX_SAMPLE_BYTES = 15;
/** Some minutes of a slow channel; a fast one has doubled it a few times after a minute. */
const FIRST_BYTES = 128;
/** A stream that will be long begins with this, until the memory of those that end now is free. */
const FIRST_BYTES_OF_LONG = 1024;
/** Lengths are rounded up to it, so that what one stream needed fits another. */
const PAGE_BYTES = 4096;
/** Kept of streams that ended: of 200 channels at 10 Hz. */
const MAX_FREE_BYTES = 4 * 1024 * 1024;
/** Free memory that is so many times larger than what is wanted is left for longer streams. */
const MUCH_LARGER = 4;
/** No stream is longer: what claims to be is none. */
export const MAX_STREAM_BYTES = MAX_CHUNK_SAMPLES * MAX_SAMPLE_BYTES;

const OK = QUALITIES.indexOf('ok');
const ESCAPE = 3;
const QUALITY_MASK = 7;
const TIME_FOLLOWS = 8;
const CODE_MASK = 63;
/** Differences below it are in the first byte; it and the next three say how many bytes more. */
const ONE_MORE = 58;
const DOUBLE = 62;

const NO_BYTES = Buffer.alloc(0);
/** For the eight bytes of a double; appending and decoding are synchronous. */
const double = new Float64Array(1);
const doubleBytes = new Uint8Array(double.buffer);

/**
 * Memory of streams that ended, for those that grow. Left to the collector it would wait until old objects are collected, which is once
 * an hour, and memory would grow by some megabytes.
 */
export class StreamMemory {
  readonly #free: Buffer[] = [];
  #freeBytes = 0;

  take(bytes: number): Buffer {
    const length = bytes < PAGE_BYTES ? bytes : Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
    const at = this.#free.findIndex((each) => each.length >= length && each.length <= MUCH_LARGER * length);
    const [found] = at < 0 ? [] : this.#free.splice(at, 1);
    if (found === undefined) return Buffer.allocUnsafeSlow(length);
    this.#freeBytes -= found.length;
    return found;
  }

  /** Nobody reads it any more. */
  give(memory: Buffer): void {
    if (memory.length === 0 || this.#freeBytes + memory.length > MAX_FREE_BYTES) return;
    this.#free.push(memory);
    this.#freeBytes += memory.length;
  }
}

/** What a head was at one moment. The bytes are shared with it: they are to be read, or copied, before the event loop goes on. */
export interface Stream {
  readonly bytes: Uint8Array;
  /** Samples in it. */
  readonly count: number;
}

export class RawHead {
  #bytes: Buffer;
  #end = 0;
  #count = 0;
  #lastAtMs = 0;
  #lastStepMs = 0;
  #usualStepMs = 0;
  #lastValue = 0;

  readonly #memory: StreamMemory;
  readonly #expectedBytes: number;

  /** `expectedBytes` is how long the stream will be, as far as anybody can tell. */
  constructor(memory = new StreamMemory(), expectedBytes = 0) {
    this.#memory = memory;
    this.#expectedBytes = Math.min(expectedBytes, MAX_STREAM_BYTES);
    this.#bytes = memory.take(this.#expectedBytes < PAGE_BYTES ? FIRST_BYTES : FIRST_BYTES_OF_LONG);
  }

  /** Samples. */
  get count(): number {
    return this.#count;
  }

  /** Length of the stream. */
  get end(): number {
    return this.#end;
  }

  /** Bytes of memory. */
  get capacity(): number {
    return this.#bytes.length;
  }

  get full(): boolean {
    return this.#count >= MAX_CHUNK_SAMPLES;
  }

  /** `offsetMs` is a whole number of milliseconds from the first sample, up to MAX_CHUNK_SPAN_MS; `quality` an index into QUALITIES. */
  append(offsetMs: number, value: number, quality: number): void {
    if (this.#end + MAX_SAMPLE_BYTES > this.#bytes.length) this.#grow();
    const bytes = this.#bytes;
    let end = this.#end;
    const stepMs = (offsetMs - this.#lastAtMs) | 0;
    const time = stepMs - this.#usualStepMs;
    this.#lastAtMs = offsetMs;
    if (stepMs === this.#lastStepMs) this.#usualStepMs = stepMs;
    this.#lastStepMs = stepMs;
    this.#count++;

    let first = 0;
    if (time === 1) first = 1 << 6;
    else if (time === -1) first = 2 << 6;
    if (quality !== OK || time > 1 || time < -1) {
      bytes[end++] = (ESCAPE << 6) | (time === 0 ? 0 : TIME_FOLLOWS) | quality;
      if (time !== 0) end = putVarint(bytes, end, (time << 1) ^ (time >> 31));
      first = 0;
    }
    if (quality === OK) end = this.#putValue(end, first, value);
    this.#end = end;
  }

  /** What there is now. */
  stream(): Stream {
    return { bytes: this.#bytes.subarray(0, this.#end), count: this.#count };
  }

  /** `first` holds the bits of the time. */
  #putValue(start: number, first: number, value: number): number {
    const bytes = this.#bytes;
    const last = this.#lastValue;
    const difference = (value - last) | 0;
    this.#lastValue = value;
    let end = start;
    // Whatever 32 bits or a double's rounding would lose is told by adding it up again.
    if (last + difference !== value) {
      bytes[end++] = first | DOUBLE;
      double[0] = value;
      // Eight stores cost a third of a call of set().
      for (let n = 0; n < 8; n++) bytes[end++] = doubleBytes[n] ?? 0;
      return end;
    }
    const zigzag = ((difference << 1) ^ (difference >> 31)) >>> 0;
    if (zigzag < ONE_MORE) {
      bytes[end++] = first | zigzag;
      return end;
    }
    if (zigzag < ONE_MORE + 256) {
      bytes[end++] = first | ONE_MORE;
      bytes[end++] = zigzag - ONE_MORE;
      return end;
    }
    const more = zigzag < 2 ** 16 ? 2 : zigzag < 2 ** 24 ? 3 : 4;
    bytes[end++] = first | (ONE_MORE + more - 1);
    for (let shift = 0; shift < 8 * more; shift += 8) bytes[end++] = zigzag >>> shift;
    return end;
  }

  /** The samples are in another place: the head is empty, and nothing is appended to it any more. */
  release(): void {
    const bytes = this.#bytes;
    this.#bytes = NO_BYTES;
    this.#end = 0;
    this.#count = 0;
    this.#memory.give(bytes);
  }

  #grow(): void {
    const former = this.#bytes;
    this.#bytes = this.#memory.take(Math.max(2 * former.length, this.#expectedBytes));
    this.#bytes.set(former.subarray(0, this.#end));
    this.#memory.give(former);
  }
}

function putVarint(bytes: Uint8Array, start: number, value: number): number {
  let end = start;
  let rest = value >>> 0;
  while (rest >= 128) {
    bytes[end++] = rest | 128;
    rest >>>= 7;
  }
  bytes[end++] = rest;
  return end;
}

/** Room for `length` samples, to be decoded into. */
export function roomForSamples(length: number): Samples {
  return {
    length,
    atMs: new Float64Array(length),
    values: new Float64Array(length),
    qualities: new Uint8Array(length),
  };
}

/**
 * The samples of a stream, times as offsets from the first; in the arrays of `room`, if it is given, which may be longer than `length`.
 * Throws RangeError on what append() has not written.
 */
export function decodeStream({ bytes, count }: Stream, room?: Samples): Samples {
  if (count > MAX_CHUNK_SAMPLES) throw new RangeError(`${count} samples in one head`);
  const { atMs, values, qualities } = room ?? roomForSamples(count);
  let position = 0;
  let offsetMs = 0;
  let lastStepMs = 0;
  let usualStepMs = 0;
  let last = 0;
  for (let i = 0; i < count; i++) {
    let code = byteAt(bytes, position++);
    let stepMs = usualStepMs;
    let quality = OK;
    const time = code >> 6;
    if (time === ESCAPE) {
      quality = code & QUALITY_MASK;
      if (quality >= QUALITIES.length) throw new RangeError(`quality ${quality}`);
      if ((code & TIME_FOLLOWS) !== 0) {
        let zigzag = 0;
        let shift = 0;
        for (;;) {
          const byte = byteAt(bytes, position++);
          zigzag |= (byte & 127) << shift;
          if (byte < 128) break;
          shift += 7;
          if (shift > 28) throw new RangeError('a time is too long');
        }
        stepMs += (zigzag >>> 1) ^ -(zigzag & 1);
      }
      if (quality === OK) code = byteAt(bytes, position++);
    } else if (time === 1) {
      stepMs++;
    } else if (time === 2) {
      stepMs--;
    }
    offsetMs += stepMs;
    if (offsetMs < 0 || offsetMs > MAX_CHUNK_SPAN_MS) throw new RangeError(`a time of ${offsetMs} ms`);
    if (stepMs === lastStepMs) usualStepMs = stepMs;
    lastStepMs = stepMs;

    atMs[i] = offsetMs;
    qualities[i] = quality;
    if (quality !== OK) {
      values[i] = Number.NaN;
      continue;
    }
    code &= CODE_MASK;
    if (code > DOUBLE) throw new RangeError(`code ${code}`);
    if (code === DOUBLE) {
      for (let n = 0; n < 8; n++) doubleBytes[n] = byteAt(bytes, position++);
      last = double[0] ?? 0;
    } else {
      let zigzag = code;
      if (code >= ONE_MORE) {
        const more = code - ONE_MORE + 1;
        zigzag = 0;
        for (let n = 0; n < more; n++) zigzag |= byteAt(bytes, position++) << (8 * n);
        if (more === 1) zigzag += ONE_MORE;
      }
      last += (zigzag >>> 1) ^ -(zigzag & 1);
    }
    values[i] = last;
  }
  if (position !== bytes.length) throw new RangeError(`${bytes.length - position} bytes behind the last sample`);
  return { length: count, atMs, values, qualities };
}

function byteAt(bytes: Uint8Array, position: number): number {
  const byte = bytes[position];
  if (byte === undefined) throw new RangeError('the stream ends within a sample');
  return byte;
}
