/**
 * The time series: every sample of every channel, raw, for as long as the configuration says.
 *
 * A sample goes into its channel's head, a preallocated set of typed arrays: no object, no promise, well under a
 * microsecond. A head that is full becomes a chunk (chunk.ts). Every `flushMs` all heads that grew are written too, under
 * the key that their chunk will have, and overwritten as they grow: what a kill or a power cut takes is at most that long.
 * Encoding is done in slices between which the event loop runs, and heads have different first lengths, so that a
 * thousand channels sampled at one rate do not all become full in the same tick.
 *
 * Times of samples are monotonic, rounded to a millisecond; a chunk's first sample gets its wall time when it begins, the
 * others follow by monotonic differences. When the clock is set, the chunk ends.
 */
import { type Channel, QUALITIES, type Quality } from '../core/channel.js';
import { type Clock, wallOffsetMs } from '../core/clock.js';
import { reason } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import { chunkHeader, decodeChunk, encodeChunk, MAX_CHUNK_SAMPLES, MAX_CHUNK_SPAN_MS, type Samples } from './chunk.js';
import type { Database } from './database.js';
import { channelKey, channelNumber, chunkKey, chunkRange, chunkStartAtMs, PREFIX, prefixRange } from './keys.js';
import type { StoreLimits } from './limits.js';
import type { Writer } from './writer.js';

/** Channels that may ever have had a number; beyond it new ones are not stored, and that is said once. */
export const MAX_CHANNELS = 16_384;
/** Heads encoded before the event loop runs again: about half a millisecond. */
const HEADS_PER_SLICE = 16;
/** Chunks deleted per channel and step; at 10 Hz one becomes old each minute. */
const MAX_DELETED_PER_STEP = 64;
/** Channels looked at per retention step, so that the step stays short with thousands. */
const CHANNELS_PER_STEP = 64;
/** Smallest head: the slowest channels. */
const MIN_HEAD_SAMPLES = 16;
/** A clock that differs by more than this from what the chunk began with was set. */
const CLOCK_SET_MS = 500;
/** Chunks read from disk at once by a reader. */
const CHUNKS_PER_READ = 64;

const OK = QUALITIES.indexOf('ok');

/** The samples of one channel that do not fill a chunk yet. */
class Head {
  readonly channel: number;
  readonly atMs: Float64Array;
  readonly values: Float64Array;
  readonly qualities: Uint8Array;
  length = 0;
  /** Where the present chunk ends; the first one ends early, see the file's head. */
  limit: number;
  /** Monotonic time of the first sample, and what was added to it to make it wall time. */
  startMs = 0;
  wallOffsetMs = 0;
  ordinal = 0;
  /** Samples that are on their way to the disk already. */
  flushed = 0;

  constructor(channel: number, rateHz: number) {
    const wanted = Math.ceil((rateHz * MAX_CHUNK_SPAN_MS) / 1000);
    const capacity = Math.max(MIN_HEAD_SAMPLES, Math.min(MAX_CHUNK_SAMPLES, wanted));
    this.channel = channel;
    this.atMs = new Float64Array(capacity);
    this.values = new Float64Array(capacity);
    this.qualities = new Uint8Array(capacity);
    this.limit = Math.max(MIN_HEAD_SAMPLES, capacity - ((channel * 37) % (capacity >> 1)));
  }

  get startAtMs(): number {
    return Math.max(0, Math.round(this.startMs + this.wallOffsetMs));
  }
}

export interface TimeSeriesOptions {
  readonly database: Database;
  readonly writer: Writer;
  readonly log: Log;
  readonly clock: Clock;
  readonly limits: StoreLimits;
}

export class TimeSeries {
  readonly #database: Database;
  readonly #writer: Writer;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #limits: StoreLimits;
  readonly #numbers = new Map<string, number>();
  readonly #heads = new Map<string, Head>();
  #run = 0;
  #nextNumber = 0;
  #nextOrdinal = 0;
  #nextToTrim = 0;
  #flushTimer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> | undefined;
  #full = false;

  constructor({ database, writer, log, clock, limits }: TimeSeriesOptions) {
    this.#database = database;
    this.#writer = writer;
    this.#log = log;
    this.#clock = clock;
    this.#limits = limits;
  }

  /** Loads the channel dictionary. */
  async start(run: number): Promise<void> {
    this.#run = run;
    for await (const [key, value] of this.#database.scan(prefixRange(PREFIX.channel))) {
      const number = channelNumber(key);
      this.#numbers.set(value.toString('utf8'), number);
      this.#nextNumber = Math.max(this.#nextNumber, number + 1);
    }
    this.#flushTimer = setInterval(() => void this.flush(), this.#limits.flushMs);
    this.#flushTimer.unref();
  }

  /** Hands the heads to the writer. */
  async stop(): Promise<void> {
    clearInterval(this.#flushTimer);
    this.#flushTimer = undefined;
    await this.#flushing;
    for (const head of this.#heads.values()) this.#closeChunk(head);
  }

  /** `atMs` is monotonic. A value counts only when the quality is ok; an ok without a value is no_data. */
  sample(channel: Channel, value: number | null, quality: Quality, atMs: number): void {
    const head = this.#heads.get(channel.id) ?? this.#newHead(channel);
    if (head === undefined || !Number.isFinite(atMs)) return;
    const at = Math.round(atMs);
    const sinceStartMs = at - head.startMs;
    const outside = sinceStartMs < 0 || sinceStartMs > MAX_CHUNK_SPAN_MS;
    if (head.length > 0 && (outside || head.length >= head.limit)) this.#closeChunk(head);
    if (head.length === 0) this.#beginChunk(head, at);
    const i = head.length++;
    const ok = quality === 'ok' && value !== null;
    head.atMs[i] = at - head.startMs;
    // Adding zero turns the negative zero of a rounded reading into the plain one.
    head.values[i] = ok ? value + 0 : Number.NaN;
    head.qualities[i] = ok ? OK : quality === 'ok' ? QUALITIES.indexOf('no_data') : QUALITIES.indexOf(quality);
  }

  /** Writes every head that grew. Slices keep the event loop free. */
  flush(): Promise<void> {
    this.#flushing ??= this.#flushHeads().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  /**
   * The samples of a channel in [fromMs, toMs), wall time, oldest chunk first, one chunk at a time: the reader sets the
   * pace. What is in memory is included. An unknown channel has none.
   */
  async *range(
    channelId: string,
    { fromMs, toMs }: { fromMs: number; toMs: number },
  ): AsyncGenerator<Samples, void, undefined> {
    const number = this.#numbers.get(channelId);
    if (number === undefined) return;
    const { gte, lt } = chunkRange(PREFIX.rawSeries, number, { fromMs: Math.max(0, fromMs - MAX_CHUNK_SPAN_MS), toMs });
    // The head as it is now: while the reader reads it grows, and may become a chunk.
    let live = this.#liveHead(channelId);
    for await (const [key, bytes] of this.#chunks(gte, lt)) {
      const order = live === undefined ? -1 : Buffer.compare(key, live.key);
      if (live !== undefined && order >= 0) {
        yield* within(live.samples, { fromMs, toMs });
        live = undefined;
      }
      const samples = order === 0 ? undefined : this.#decode(key, bytes, { fromMs });
      if (samples !== undefined) yield* within(samples, { fromMs, toMs });
    }
    if (live !== undefined) yield* within(live.samples, { fromMs, toMs });
  }

  /** One step of retention: deletes what is older than `rawMs`, of some channels, a few chunks each. */
  async trim(): Promise<void> {
    const untilMs = this.#clock.wallMs() - this.#limits.rawMs - MAX_CHUNK_SPAN_MS;
    for (let n = Math.min(CHANNELS_PER_STEP, this.#nextNumber); n > 0; n--) {
      const channel = this.#nextToTrim % this.#nextNumber;
      this.#nextToTrim = channel + 1;
      const range = chunkRange(PREFIX.rawSeries, channel, { fromMs: 0, toMs: Math.max(0, untilMs) });
      for await (const [key] of this.#database.scan({ ...range, limit: MAX_DELETED_PER_STEP })) {
        this.#writer.putSamples({ type: 'del', key });
      }
    }
  }

  /** The database is a new one: what memory knows is written again. */
  republish(): void {
    for (const [id, number] of this.#numbers) this.#putNumber(id, number);
    for (const head of this.#heads.values()) head.flushed = 0;
  }

  async *#chunks(from: Buffer, lt: Buffer): AsyncGenerator<[Buffer, Buffer], void, undefined> {
    let gte = from;
    for (;;) {
      const chunks = await this.#writer.range({ gte, lt, limit: CHUNKS_PER_READ });
      yield* chunks;
      const last = chunks.at(-1);
      if (last === undefined || chunks.length < CHUNKS_PER_READ) return;
      gte = Buffer.concat([last[0], Buffer.of(0)]);
    }
  }

  #newHead(channel: Channel): Head | undefined {
    const number = this.#numbers.get(channel.id) ?? this.#newNumber(channel.id);
    if (number === undefined) return undefined;
    const head = new Head(number, channel.rateHz);
    this.#heads.set(channel.id, head);
    return head;
  }

  #newNumber(id: string): number | undefined {
    if (this.#nextNumber >= MAX_CHANNELS) {
      if (!this.#full)
        this.#log.warn(`More than ${MAX_CHANNELS} channels were seen; new ones are not stored`, { channel: id });
      this.#full = true;
      return undefined;
    }
    const number = this.#nextNumber++;
    this.#numbers.set(id, number);
    this.#putNumber(id, number);
    return number;
  }

  #putNumber(id: string, number: number): void {
    this.#writer.putRecord({ type: 'put', key: channelKey(number), value: Buffer.from(id, 'utf8') });
  }

  #beginChunk(head: Head, atMs: number): void {
    head.startMs = atMs;
    head.wallOffsetMs = this.#wallOffsetMs();
    head.ordinal = this.#nextOrdinal++;
    head.flushed = 0;
  }

  #wallOffsetMs(): number {
    return wallOffsetMs(this.#clock);
  }

  #closeChunk(head: Head): void {
    this.#write(head);
    head.length = 0;
    head.flushed = 0;
    head.limit = head.values.length;
  }

  #write(head: Head): void {
    if (head.length === 0) return;
    const value = encodeChunk(head);
    this.#writer.putSamples({ type: 'put', key: this.#key(head), value });
    head.flushed = head.length;
  }

  #key(head: Head): Buffer {
    const { channel, startAtMs, ordinal } = head;
    return chunkKey(PREFIX.rawSeries, { channel, startAtMs, run: this.#run, ordinal });
  }

  async #flushHeads(): Promise<void> {
    let inSlice = 0;
    for (const head of this.#heads.values()) {
      if (head.length === head.flushed) continue;
      if (Math.abs(this.#wallOffsetMs() - head.wallOffsetMs) > CLOCK_SET_MS) this.#closeChunk(head);
      else this.#write(head);
      if (++inSlice % HEADS_PER_SLICE === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #liveHead(channelId: string): { key: Buffer; samples: Samples } | undefined {
    const head = this.#heads.get(channelId);
    if (head === undefined || head.length === 0) return undefined;
    const { length, startAtMs } = head;
    const samples: Samples = {
      length,
      atMs: head.atMs.slice(0, length).map((offset) => startAtMs + offset),
      values: head.values.slice(0, length),
      qualities: head.qualities.slice(0, length),
    };
    return { key: this.#key(head), samples };
  }

  /** Undefined for a chunk that ends before the range, and for a damaged one, which is reported. */
  #decode(key: Buffer, bytes: Buffer, { fromMs }: { fromMs: number }): Samples | undefined {
    const startAtMs = chunkStartAtMs(key);
    try {
      if (startAtMs + chunkHeader(bytes).spanMs < fromMs) return undefined;
      return decodeChunk(bytes, startAtMs);
    } catch (error) {
      const when = new Date(startAtMs).toISOString();
      this.#log.error(`A stored chunk of ${when} cannot be decoded and is passed over: ${reason(error)}`, {
        event: 'store.damaged',
        code: 'SKOS_STORE_READ',
      });
      return undefined;
    }
  }
}

function* within(samples: Samples, { fromMs, toMs }: { fromMs: number; toMs: number }): Generator<Samples> {
  let first = 0;
  let end = samples.length;
  while (first < end && (samples.atMs[first] ?? 0) < fromMs) first++;
  while (end > first && (samples.atMs[end - 1] ?? 0) >= toMs) end--;
  if (end === first) return;
  yield {
    length: end - first,
    atMs: samples.atMs.subarray(first, end),
    values: samples.values.subarray(first, end),
    qualities: samples.qualities.subarray(first, end),
  };
}
