/**
 * The flight recorder's memory: the latest samples of every channel at full rate, within a fixed number of bytes.
 *
 * One arena is cut into segments of SEGMENT_BYTES. A channel (track) writes into its open segment; a full one is closed and
 * queues behind all others that are. When none is free, the segment that was closed first gives way, so that all channels
 * alike lose what is oldest. Whatever grows is preallocated: a sample allocates nothing.
 *
 * A segment can be decoded by itself. Its first sample has its time beside the segment and begins with an escape; each other
 * sample is one token, and most of them are one byte:
 *
 *   varint   4 × zigzag(time since the previous sample − period, ms) + kind
 *   kind 0   same quality, same value (or none)
 *   kind 1   same quality, varint zigzag(value − previous)
 *   kind 2   escape: a byte (quality, + 8: raw), then for quality ok the value: zigzag varint of the difference, or raw,
 *            8 bytes, where a difference is no exact integer
 *
 * Values come back exactly, times as whole milliseconds. The store's chunks (store/chunk.ts) are smaller, but are made
 * of whole series at once: they are what a recording is written in.
 */
import { QUALITIES } from '../core/channel.js';

/** The last 10 minutes of 64 channels at 10 Hz take 0.5 to 1.5 MiB, as much as their values change. */
export const FLIGHT_RECORDER_BYTES = 2 * 1024 * 1024;
/** Large enough that what a segment costs beside its bytes is little, small enough that thousands of channels have several. */
const SEGMENT_BYTES = 128;
/** Beside its bytes: start 8, samples 2, bytes used 1, next 2, track 2, place in the queue 2. */
const SEGMENT_COST_BYTES = SEGMENT_BYTES + 17;
/** Twice what discovery lists. Every track may hold a segment open, and there must be more of these. */
export const MAX_TRACKS = 8_192;
const FIRST_TRACKS = 64;
/** Token 7, escape 1, value 8. */
const MAX_TOKEN_BYTES = 16;
const MAX_SAMPLES_PER_SEGMENT = 65_535;

/** A longer silence begins a new segment; a token stays below 2^43. */
const MAX_GAP_MS = 2 ** 40;
/** Twice as much, and one, is still exact. */
const MAX_DIFFERENCE = 2 ** 51;

const NONE = 0xffff;
const OK = QUALITIES.indexOf('ok');
const RAW = 8;
const [SAME, DIFFERENCE, ESCAPE] = [0, 1, 2];

/** Where read() puts what it reads. */
export interface ReadSamples {
  readonly atMs: Float64Array;
  /** NaN where the quality is not ok. */
  readonly values: Float64Array;
  readonly qualities: Uint8Array;
}

export class FlightArena {
  readonly segments: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #startMs: Float64Array;
  readonly #count: Uint16Array;
  readonly #used: Uint8Array;
  readonly #next: Uint16Array;
  readonly #track: Uint16Array;
  /** Closed segments, in the order in which they were closed: a ring. */
  readonly #queue: Uint16Array;
  #queueFirst = 0;
  #queueLength = 0;
  /** Segments that were ever taken; those beyond are free. */
  #taken = 0;
  #coveredSinceMs = Number.NEGATIVE_INFINITY;

  // Of each track. They grow when a track is opened, never with a sample.
  #tracks = 0;
  #first = new Uint16Array(FIRST_TRACKS);
  #last = new Uint16Array(FIRST_TRACKS);
  /** The segment that is written to; NONE until the next sample begins one. */
  #open = new Uint16Array(FIRST_TRACKS);
  #quality = new Uint8Array(FIRST_TRACKS);
  #periodMs = new Float64Array(FIRST_TRACKS);
  #lastMs = new Float64Array(FIRST_TRACKS);
  #lastValue = new Float64Array(FIRST_TRACKS);
  /** Number of the first sample that is still there, and of the next one: they count on for as long as the track lives. */
  #firstNumber = new Float64Array(FIRST_TRACKS);
  #nextNumber = new Float64Array(FIRST_TRACKS);
  readonly #freeTracks: number[] = [];
  /** Where the next byte goes or comes from. */
  #at = 0;

  constructor(bytes = FLIGHT_RECORDER_BYTES) {
    const segments = Math.min(NONE - 1, Math.floor(bytes / SEGMENT_COST_BYTES));
    this.segments = segments;
    this.#bytes = new Uint8Array(segments * SEGMENT_BYTES);
    this.#view = new DataView(this.#bytes.buffer);
    this.#startMs = new Float64Array(segments);
    this.#count = new Uint16Array(segments);
    this.#used = new Uint8Array(segments);
    this.#next = new Uint16Array(segments);
    this.#track = new Uint16Array(segments);
    this.#queue = new Uint16Array(segments);
  }

  /** Bytes of segments and of what stands beside them. */
  get bytes(): number {
    const beside = [this.#startMs, this.#count, this.#used, this.#next, this.#track, this.#queue];
    return beside.reduce((sum, { byteLength }) => sum + byteLength, this.#bytes.byteLength);
  }

  /** Of every track, all samples after this time are there; −Infinity while nothing had to give way. */
  get coveredSinceMs(): number {
    return this.#coveredSinceMs;
  }

  /** A track for a channel of this rate; undefined when there are too many. */
  openTrack(rateHz: number): number | undefined {
    const most = Math.min(MAX_TRACKS, this.segments - 1);
    const track = this.#freeTracks.pop() ?? (this.#tracks < most ? this.#tracks++ : undefined);
    if (track === undefined) return undefined;
    if (track >= this.#first.length) this.#grow();
    this.#first[track] = NONE;
    this.#open[track] = NONE;
    this.#periodMs[track] = Math.round(1000 / rateHz);
    return track;
  }

  /** Nothing comes any more, for now: what is there grows old with the rest. */
  closeTrack(track: number): void {
    const segment = this.#open[track] as number;
    if (segment !== NONE) this.#close(track, segment);
  }

  /** Of a track that is empty: its number may be given again. */
  freeTrack(track: number): void {
    this.#freeTracks.push(track);
  }

  isEmpty(track: number): boolean {
    return this.#first[track] === NONE;
  }

  firstNumber(track: number): number {
    return this.#firstNumber[track] as number;
  }

  /** `quality` is an index into QUALITIES; the value counts only when it is ok. */
  append(track: number, value: number, quality: number, atMs: number): void {
    // Adding zero turns −0 into the plain one.
    const at = Math.round(atMs) + 0;
    const plain = value + 0;
    const segment = this.#open[track] as number;
    const gap = at - (this.#lastMs[track] as number) - (this.#periodMs[track] as number);
    if (segment === NONE || this.#isFull(segment) || !(gap <= MAX_GAP_MS && gap >= -MAX_GAP_MS)) {
      this.#begin(track, at, plain, quality);
    } else {
      this.#at = segment * SEGMENT_BYTES + (this.#used[segment] as number);
      this.#putToken(track, gap, plain, quality);
      this.#used[segment] = this.#at - segment * SEGMENT_BYTES;
      this.#count[segment] = (this.#count[segment] as number) + 1;
    }
    if (quality === OK) this.#lastValue[track] = plain;
    this.#quality[track] = quality;
    this.#lastMs[track] = at;
    this.#nextNumber[track] = (this.#nextNumber[track] as number) + 1;
  }

  /** Number of the track's first sample that is not before this time. */
  numberAt(track: number, fromMs: number): number {
    let number = this.#firstNumber[track] as number;
    let segment = this.#first[track] as number;
    while (segment !== NONE) {
      const next = this.#next[segment] as number;
      if (next === NONE || (this.#startMs[next] as number) >= fromMs) break;
      number += this.#count[segment] as number;
      segment = next;
    }
    if (segment === NONE) return number;
    this.#decode(segment, (atMs) => {
      if (atMs < fromMs) number++;
    });
    return number;
  }

  /**
   * Reads samples from number `from` on (or from the first one that is still there), as many as fit. Answers how many, and the
   * number of the one behind the last.
   */
  read(track: number, from: number, into: ReadSamples): { readonly length: number; readonly next: number } {
    let number = this.#firstNumber[track] as number;
    const first = Math.max(from, number);
    let length = 0;
    for (let segment = this.#first[track] as number; segment !== NONE; segment = this.#next[segment] as number) {
      const start = number;
      number += this.#count[segment] as number;
      if (number <= first) continue;
      let each = start;
      this.#decode(segment, (atMs, value, quality) => {
        if (each++ < first || length >= into.atMs.length) return;
        into.atMs[length] = atMs;
        into.values[length] = value;
        into.qualities[length++] = quality;
      });
      if (length >= into.atMs.length) break;
    }
    return { length, next: first + length };
  }

  // ---- Segments ------------------------------------------------------------------------------------------------------

  #isFull(segment: number): boolean {
    return (
      (this.#used[segment] as number) > SEGMENT_BYTES - MAX_TOKEN_BYTES ||
      (this.#count[segment] as number) >= MAX_SAMPLES_PER_SEGMENT
    );
  }

  #begin(track: number, atMs: number, value: number, quality: number): void {
    const former = this.#open[track] as number;
    if (former !== NONE) this.#close(track, former);
    const segment = this.#taken < this.segments ? this.#taken++ : this.#reclaim();
    this.#append(track, segment);
    this.#startMs[segment] = atMs;
    this.#at = segment * SEGMENT_BYTES;
    this.#lastValue[track] = 0;
    this.#putEscape(track, value, quality);
    this.#used[segment] = this.#at - segment * SEGMENT_BYTES;
    this.#count[segment] = 1;
  }

  #append(track: number, segment: number): void {
    this.#track[segment] = track;
    this.#next[segment] = NONE;
    if (this.#first[track] === NONE) {
      this.#first[track] = segment;
      this.#firstNumber[track] = this.#nextNumber[track] as number;
    } else this.#next[this.#last[track] as number] = segment;
    this.#open[track] = segment;
    this.#last[track] = segment;
  }

  #close(track: number, segment: number): void {
    this.#queue[(this.#queueFirst + this.#queueLength++) % this.segments] = segment;
    this.#open[track] = NONE;
  }

  /** The segment that was closed first. There is one: fewer are open than there are segments. */
  #reclaim(): number {
    const segment = this.#queue[this.#queueFirst] as number;
    this.#queueFirst = (this.#queueFirst + 1) % this.segments;
    this.#queueLength--;
    const track = this.#track[segment] as number;
    const next = this.#next[segment] as number;
    this.#first[track] = next;
    this.#firstNumber[track] = (this.#firstNumber[track] as number) + (this.#count[segment] as number);
    const there = next === NONE ? (this.#lastMs[track] as number) : (this.#startMs[next] as number);
    this.#coveredSinceMs = Math.max(this.#coveredSinceMs, there);
    return segment;
  }

  #grow(): void {
    const length = this.#first.length * 2;
    const grown = <A extends Uint8Array | Uint16Array | Float64Array>(former: A, next: A): A => {
      next.set(former);
      return next;
    };
    this.#first = grown(this.#first, new Uint16Array(length));
    this.#open = grown(this.#open, new Uint16Array(length));
    this.#last = grown(this.#last, new Uint16Array(length));
    this.#quality = grown(this.#quality, new Uint8Array(length));
    this.#periodMs = grown(this.#periodMs, new Float64Array(length));
    this.#lastMs = grown(this.#lastMs, new Float64Array(length));
    this.#lastValue = grown(this.#lastValue, new Float64Array(length));
    this.#firstNumber = grown(this.#firstNumber, new Float64Array(length));
    this.#nextNumber = grown(this.#nextNumber, new Float64Array(length));
  }

  // ---- Encoding ------------------------------------------------------------------------------------------------------

  #putToken(track: number, gap: number, value: number, quality: number): void {
    const time = 4 * zigzag(gap);
    if (quality !== this.#quality[track]) {
      this.#putVarint(time + ESCAPE);
      this.#putEscape(track, value, quality);
      return;
    }
    const previous = this.#lastValue[track] as number;
    if (quality !== OK || value === previous) {
      this.#putVarint(time + SAME);
    } else if (isExact(value, previous)) {
      this.#putVarint(time + DIFFERENCE);
      this.#putVarint(zigzag(value - previous));
    } else {
      this.#putVarint(time + ESCAPE);
      this.#putEscape(track, value, quality);
    }
  }

  #putEscape(track: number, value: number, quality: number): void {
    const previous = this.#lastValue[track] as number;
    const raw = quality === OK && !isExact(value, previous);
    this.#bytes[this.#at++] = quality + (raw ? RAW : 0);
    if (quality !== OK) return;
    if (raw) {
      this.#view.setFloat64(this.#at, value);
      this.#at += 8;
    } else this.#putVarint(zigzag(value - previous));
  }

  #putVarint(value: number): void {
    let rest = value;
    while (rest >= 128) {
      this.#bytes[this.#at++] = (rest % 128) + 128;
      rest = Math.floor(rest / 128);
    }
    this.#bytes[this.#at++] = rest;
  }

  #decode(segment: number, each: (atMs: number, value: number, quality: number) => void): void {
    const periodMs = this.#periodMs[this.#track[segment] as number] as number;
    const count = this.#count[segment] as number;
    let atMs = this.#startMs[segment] as number;
    let quality = OK;
    let value = 0;
    this.#at = segment * SEGMENT_BYTES;
    for (let i = 0; i < count; i++) {
      const token = i === 0 ? ESCAPE : this.#varint();
      const kind = token % 4;
      if (i > 0) atMs += unzigzag((token - kind) / 4) + periodMs;
      if (kind === DIFFERENCE) value += unzigzag(this.#varint());
      else if (kind === ESCAPE) {
        const head = this.#bytes[this.#at++] as number;
        quality = head % RAW;
        if (quality === OK) value = head >= RAW ? this.#raw() : value + unzigzag(this.#varint());
      }
      each(atMs, quality === OK ? value : Number.NaN, quality);
    }
  }

  #raw(): number {
    const value = this.#view.getFloat64(this.#at);
    this.#at += 8;
    return value;
  }

  #varint(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#bytes[this.#at++] as number;
      value += (byte % 128) * factor;
      if (byte < 128) return value;
    }
  }
}

/** Whether the difference is an integer that can be written, and gives the value back exactly. */
function isExact(value: number, previous: number): boolean {
  const difference = value - previous;
  return (
    Number.isInteger(difference) &&
    difference <= MAX_DIFFERENCE &&
    difference >= -MAX_DIFFERENCE &&
    previous + difference === value
  );
}

function zigzag(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value;
}

function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}
