/**
 * The time series: every sample of every channel, raw. How long they are kept is said in retention.ts.
 *
 * A sample goes into its channel's head, a byte string that grows (raw-head.ts): no object, no promise, some tens of nanoseconds.
 * Every `flushMs` what the heads grew by goes to the raw log (raw-log.ts): what a kill or a power cut takes is at most that long.
 * A head ends at the end of its window of aligned wall time, when it is full, and when the clock was set. It then waits to be
 * encoded as a chunk (chunk.ts), in slices between which the event loop runs, because all heads end together; until the
 * chunk is handed to the writer a reader finds the head here. What an earlier run left in the raw log becomes chunks in the
 * same way, beside the running agent (raw-replay.ts).
 *
 * Times of samples are monotonic, rounded to a millisecond; a head's first sample gets its wall time when it begins, the
 * others follow by monotonic differences.
 */
import { join } from 'node:path';
import { type Channel, QUALITIES, type Quality } from '../core/channel.js';
import { type Clock, wallOffsetMs } from '../core/clock.js';
import { isDoneWithin } from '../core/deadline.js';
import { reason } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import { ChannelDictionary } from './channel-dictionary.js';
import { chunkHeader, decodeChunk, encodeChunk, MAX_CHUNK_SAMPLES, MAX_CHUNK_SPAN_MS, type Samples } from './chunk.js';
import type { Database, Operation } from './database.js';
import { part } from './in-order.js';
import { type ChunkAddress, chunkKey, chunkRange, chunkStartAtMs, PREFIX } from './keys.js';
import type { StoreLimits } from './limits.js';
import type { Stretch } from './points.js';
import { decodeStream, RawHead, roomForSamples, type Stream, StreamMemory } from './raw-head.js';
import { type LoggedHead, RawLog } from './raw-log.js';
import { Replay } from './raw-replay.js';
import { slicesOf } from './slices.js';
import type { Writer } from './writer.js';

/** Heads of fast channels end every ten minutes, of slow ones every hour: some thousand samples, enough for the models of a chunk. */
const FAST_HZ = 2;
const FAST_WINDOW_MS = 600_000;
const SLOW_WINDOW_MS = MAX_CHUNK_SPAN_MS;
/** A clock that differs by more than this from what the head began with was set. */
const CLOCK_SET_MS = 500;
/** The first flush comes so soon: a start that crashes and is repeated still keeps something. */
const FIRST_FLUSH_MS = 1_000;
/** A slice of encoding: one head of thousands of samples is about as long. */
const SLICE_MS = 0.5;
/** Chunks that go to the database at once. With the writer's own bound this is what a dead disk makes memory hold. */
const GROUP_BYTES = 1024 * 1024;
/** Handing a batch to LevelDB takes a microsecond or two for each operation, in one go. */
const GROUP_OPERATIONS = 128;
/** A stream is about as long as the one before it; beyond so much its memory is doubled. */
const EXPECTED_GROWTH = 1.1;
/** Memory of heads that ended and wait while the disk takes no writes: some hours of 64 channels, and once the heads of all. */
const MAX_CLOSING_BYTES = 8 * 1024 * 1024;
const MAX_CLOSING_BYTES_PER_CHANNEL = 16 * 1024;
/** How often stop() looks whether the disk takes what it waits for. */
const STOP_POLL_MS = 20;
/** Chunks read from disk at once by a reader. */
const CHUNKS_PER_READ = 64;

const OK = QUALITIES.indexOf('ok');
const NO_DATA = QUALITIES.indexOf('no_data');

/** The samples of one chunk, or of one that will be, with wall times. */
export interface AddressedSamples {
  readonly address: ChunkAddress;
  readonly samples: Samples;
}

/** A head with its place in time. */
class TimedHead extends RawHead implements LoggedHead {
  readonly address: ChunkAddress;
  readonly channel: Channel;
  /** Monotonic time of the first sample, and where the window ends. */
  readonly startMs: number;
  readonly endMs: number;
  /** What was added to monotonic time to make it wall time. */
  readonly wallOffsetMs: number;
  loggedIn = 0;
  loggedEnd = 0;

  constructor(
    address: ChunkAddress,
    channel: Channel,
    times: { readonly startMs: number; readonly endMs: number; readonly wallOffsetMs: number },
    memory: { readonly memory: StreamMemory; readonly expectedBytes: number },
  ) {
    super(memory.memory, memory.expectedBytes);
    this.address = address;
    this.channel = channel;
    this.startMs = times.startMs;
    this.endMs = times.endMs;
    this.wallOffsetMs = times.wallOffsetMs;
  }
}

/** One channel; it has a head when it was sampled since the last one ended. */
class Series {
  readonly number: number;
  head: TimedHead | undefined;
  /** Length of its last head's stream, and what it may come to be more: one allocation instead of eight. */
  expectedBytes = 0;

  constructor(number: number) {
    this.number = number;
  }
}

export interface TimeSeriesOptions {
  readonly dataDir: string;
  readonly database: Database;
  readonly writer: Writer;
  readonly log: Log;
  readonly clock: Clock;
  readonly limits: Pick<StoreLimits, 'flushMs'>;
  /**
   * What is written in one batch with the chunk of these samples, which are there for the time of the call only. Must do no harm when
   * it is asked for the same ones again.
   */
  readonly onClosed?: (closed: AddressedSamples) => readonly Operation[];
}

export class TimeSeries {
  readonly dictionary: ChannelDictionary;
  readonly #options: TimeSeriesOptions;
  readonly #rawLog: RawLog;
  readonly #series = new Map<string, Series>();
  readonly #byNumber = new Map<number, Series>();
  readonly #memory = new StreamMemory();
  /** For encoding, which is synchronous: arrays of 50 KB that come and go with every chunk would leave holes in memory. */
  readonly #room = roomForSamples(MAX_CHUNK_SAMPLES);
  /** Heads that ended and are not handed to the writer yet, oldest first. */
  #closing: TimedHead[] = [];
  #closingBytes = 0;
  /** Heads that the writer has and that are not on disk yet. */
  #handedOver: TimedHead[] = [];
  /** Heads that did not fit into `#closing` since the disk took the last, and those of them that the raw log lacks. */
  #evicted = 0;
  #lost = 0;
  /** Files that are to be replayed. */
  #due: readonly string[] = [];
  #run = 0;
  #nextOrdinal = 0;
  #timer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> | undefined;
  #encoding: Promise<void> | undefined;
  #replaying: Promise<void> | undefined;
  #stopped = false;

  constructor(options: TimeSeriesOptions) {
    const { dataDir, database, writer, log, clock } = options;
    this.#options = options;
    this.dictionary = new ChannelDictionary({ database, writer, log });
    const directory = join(dataDir, 'raw-log');
    this.#rawLog = new RawLog({ directory, log, clock, describe: (number) => this.dictionary.get(number) });
  }

  /** Loads the dictionary. What the raw log holds of earlier runs is looked for afterwards. Rejects with SKOS_STORE_READ. */
  async start(run: number): Promise<void> {
    this.#run = run;
    await this.dictionary.start();
    this.#rawLog.start(run);
    void this.#rawLog.earlier().then((files) => {
      this.#due = files;
      this.#replayDue();
    });
    const { flushMs } = this.#options.limits;
    this.#timer = setTimeout(
      () => {
        this.#timer = setInterval(() => void this.flush(), flushMs);
        this.#timer.unref();
        void this.flush();
      },
      Math.min(FIRST_FLUSH_MS, flushMs),
    );
    this.#timer.unref();
  }

  /**
   * Ends the heads and hands them to the writer, as long as the disk takes them; what it does not take is in the raw log, if that
   * can be written. Idempotent.
   */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    await this.flush();
    this.#stopped = true;
    clearTimeout(this.#timer);
    for (const series of this.#series.values()) this.#end(series);
    const empty = await this.#settled(this.#encode());
    await this.#rawLog.stop({ empty });
  }

  /** Ends all heads before their time, so that the database has what they hold. Resolves when it does, however long that takes. */
  async settle(): Promise<void> {
    for (const series of this.#series.values()) this.#end(series);
    await this.#encode();
  }

  /** Empty when the raw log takes writes. */
  trouble(): string {
    return this.#rawLog.trouble();
  }

  /** `atMs` is monotonic. A value counts only when the quality is ok; an ok without a value is no_data. */
  sample(channel: Channel, value: number | null, quality: Quality, atMs: number): void {
    const series = this.#series.get(channel.id) ?? this.#newSeries(channel);
    if (series === undefined || !Number.isFinite(atMs)) return;
    const at = Math.round(atMs);
    let head = series.head;
    if (head === undefined || at < head.startMs || at >= head.endMs || head.full) {
      head = this.#begin(series, channel, at);
    }
    // Adding zero turns the negative zero of a rounded reading into the plain one.
    if (quality === 'ok' && value !== null) head.append(at - head.startMs, value + 0, OK);
    else head.append(at - head.startMs, Number.NaN, quality === 'ok' ? NO_DATA : QUALITIES.indexOf(quality));
  }

  /** Writes to the raw log what the heads grew by, and ends those that are over. Resolves when it is on disk or known that it cannot be. */
  flush(): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    this.#flushing ??= this.#flush().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  /** As samples(), by the channel's id. An unknown channel has none. */
  async *range(channelId: string, stretch: Stretch): AsyncGenerator<Samples, void, undefined> {
    const number = this.dictionary.numberOf(channelId);
    if (number !== undefined) yield* this.samples(number, stretch);
  }

  /**
   * The samples of a channel in the stretch, wall times, oldest chunk first, one chunk at a time: the reader sets the
   * pace. What is in memory is included, as it was at the beginning. Rejects with SKOS_STORE_READ.
   */
  async *samples(channel: number, stretch: Stretch): AsyncGenerator<Samples, void, undefined> {
    const { fromMs, toMs } = stretch;
    const range = { fromMs: Math.max(0, fromMs - MAX_CHUNK_SPAN_MS), toMs };
    const { gte, lt } = chunkRange(PREFIX.rawSeries, channel, range);
    // As they are now: while the reader reads they grow, end and become chunks, which are then passed over.
    const open = this.#openHeads(channel).map((head) => {
      const { address } = head;
      const { bytes, count } = head.stream();
      return { address, key: rawKey(address), stream: { bytes: new Uint8Array(bytes), count } };
    });
    const mine = new Set(open.map(({ key }) => key.toString('latin1')));
    let next = 0;
    for await (const [key, bytes] of this.#chunks(gte, lt)) {
      for (; next < open.length; next++) {
        const head = open[next];
        if (head === undefined || Buffer.compare(head.key, key) > 0) break;
        yield* within(wallSamples(head), stretch);
      }
      if (mine.has(key.toString('latin1'))) continue;
      const samples = this.#decode(key, bytes, { fromMs });
      if (samples !== undefined) yield* within(samples, stretch);
    }
    for (const head of open.slice(next)) yield* within(wallSamples(head), stretch);
  }

  /** Only what is in memory, and in no chunk yet: in order of time, each with the address of the chunk that it will be. */
  live(channel: number, stretch: Stretch): AddressedSamples[] {
    return this.#openHeads(channel).flatMap((head) => {
      const { address } = head;
      if (address.startAtMs >= stretch.toMs || address.startAtMs + MAX_CHUNK_SPAN_MS < stretch.fromMs) return [];
      return [...within(wallSamples({ address, stream: head.stream() }), stretch)].map((samples) => ({
        address,
        samples,
      }));
    });
  }

  /** The database is a new one: what memory and the raw log hold is written again. */
  republish(): void {
    this.dictionary.republish();
    // The chunks of ended heads went down with the old database; the log has those that ended since it was begun anew.
    this.#rawLog.hold();
    this.#rawLog.renew();
  }

  async *#chunks(from: Buffer, lt: Buffer): AsyncGenerator<[Buffer, Buffer], void, undefined> {
    let gte = from;
    for (;;) {
      const chunks = await this.#options.writer.range({ gte, lt, limit: CHUNKS_PER_READ });
      yield* chunks;
      const last = chunks.at(-1);
      if (last === undefined || chunks.length < CHUNKS_PER_READ) return;
      gte = Buffer.concat([last[0], Buffer.of(0)]);
    }
  }

  #newSeries(channel: Channel): Series | undefined {
    const number = this.dictionary.add(channel, this.#options.clock.wallMs());
    if (number === undefined) return undefined;
    const series = new Series(number);
    this.#series.set(channel.id, series);
    this.#byNumber.set(number, series);
    return series;
  }

  #begin(series: Series, channel: Channel, startMs: number): TimedHead {
    this.#end(series);
    const wallOffsetMs = this.#wallOffsetMs();
    const startAtMs = Math.max(0, Math.round(startMs + wallOffsetMs));
    const windowMs = channel.rateHz >= FAST_HZ ? FAST_WINDOW_MS : SLOW_WINDOW_MS;
    const endMs = startMs + windowMs - (startAtMs % windowMs);
    const address = { channel: series.number, startAtMs, run: this.#run, ordinal: this.#nextOrdinal++ };
    series.head = new TimedHead(
      address,
      channel,
      { startMs, endMs, wallOffsetMs },
      { memory: this.#memory, expectedBytes: series.expectedBytes },
    );
    return series.head;
  }

  #wallOffsetMs(): number {
    return wallOffsetMs(this.#options.clock);
  }

  /** Cheap: the head only changes its place. */
  #end(series: Series): void {
    const { head } = series;
    if (head === undefined) return;
    series.head = undefined;
    series.expectedBytes = Math.ceil(head.end * EXPECTED_GROWTH);
    this.#closing.push(head);
    this.#closingBytes += head.capacity;
    const most = MAX_CLOSING_BYTES + MAX_CLOSING_BYTES_PER_CHANNEL * this.#series.size;
    if (this.#closingBytes > most) this.#evict(most);
    void this.#encode();
  }

  /** Lets go of the oldest ended heads; they are in the raw log, if that can be written, and come from there when the disk is back. */
  #evict(most: number): void {
    while (this.#closingBytes > most) {
      const oldest = this.#closing.shift();
      if (oldest === undefined) return;
      this.#closingBytes -= oldest.capacity;
      if (this.#rawLog.trouble() !== '' || oldest.loggedEnd < oldest.end) this.#lost++;
      if (this.#evicted++ > 0) continue;
      const message =
        'Memory for raw samples is full: the oldest are left to the raw log until the database takes them';
      this.#options.log.warn(message, { event: 'store.raw_log', code: 'SKOS_STORE_WRITE' });
      this.#rawLog.hold();
    }
  }

  async #flush(): Promise<void> {
    const offsetMs = this.#wallOffsetMs();
    const nowMs = this.#options.clock.monotonicMs();
    for (const series of this.#series.values()) {
      const { head } = series;
      if (head === undefined) continue;
      if (nowMs >= head.endMs || Math.abs(offsetMs - head.wallOffsetMs) > CLOCK_SET_MS) this.#end(series);
    }
    const live = [...this.#series.values()].flatMap(({ head }) => head ?? []);
    await this.#rawLog.append([...this.#handedOver, ...this.#closing, ...live]);
    this.#replayDue();
  }

  /** Encodes what has ended and hands it to the writer, until nothing waits. Never rejects; may take as long as the disk does. */
  #encode(): Promise<void> {
    this.#encoding ??= this.#encodeAll().finally(() => {
      this.#encoding = undefined;
    });
    return this.#encoding;
  }

  async #encodeAll(): Promise<void> {
    // The turn of the event loop in which all heads end is left alone.
    await new Promise((resolve) => setImmediate(resolve));
    const pause = slicesOf(SLICE_MS);
    while (this.#closing.length > 0) {
      const operations: Operation[] = [];
      const group = new Set<TimedHead>();
      let bytes = 0;
      for (const head of [...this.#closing]) {
        const made = this.#operationsOf(head.address, head.stream());
        operations.push(...made);
        bytes += bytesOf(made);
        group.add(head);
        this.dictionary.add(head.channel, this.#options.clock.wallMs());
        if (bytes >= GROUP_BYTES || operations.length >= GROUP_OPERATIONS) break;
        await pause();
      }
      // In one turn, so that a reader finds each head either here or as a chunk at the writer. The raw log needs it until it is there.
      this.#closing = this.#closing.filter((head) => !group.has(head));
      this.#closingBytes = this.#closing.reduce((sum, { capacity }) => sum + capacity, 0);
      this.#handedOver = [...group];
      await this.#options.writer.putSynced(operations);
      this.#handedOver = [];
      for (const head of group) head.release();
      this.#takeBack();
    }
  }

  /** The disk takes chunks: those that memory had let go of come from the raw log. */
  #takeBack(): void {
    if (this.#evicted === 0) return;
    const message = `The database takes raw samples again; of ${this.#evicted} heads beyond the memory for them ${this.#lost} are lost`;
    this.#options.log.warn(message, { event: 'store.raw_log_recovered', lost: this.#lost });
    this.#evicted = 0;
    this.#lost = 0;
    this.#rawLog.renew();
  }

  /** The chunk of a head, and what belongs to it. None when it cannot be made, which is said: no sample is worth the agent. */
  #operationsOf(address: ChunkAddress, stream: Stream): Operation[] {
    try {
      const samples = decodeStream(stream, this.#room);
      const chunk: Operation = { type: 'put', key: rawKey(address), value: encodeChunk(samples) };
      return [chunk, ...(this.#options.onClosed?.({ address, samples: wallTimed(samples, address) }) ?? [])];
    } catch (error) {
      this.#reportDamage(`Samples of ${new Date(address.startAtMs).toISOString()} cannot be encoded`, error);
      return [];
    }
  }

  /** Reads the files that are due, one replay at a time; what fails is tried again after the next flush. */
  #replayDue(): void {
    if (this.#replaying !== undefined || this.#stopped || this.#options.writer.trouble() !== '') return;
    const files = [...this.#due, ...this.#rawLog.kept()];
    if (files.length === 0) return;
    this.#replaying = this.#replay(files).finally(() => {
      this.#replaying = undefined;
    });
  }

  /** Never rejects. */
  async #replay(files: readonly string[]): Promise<void> {
    const { writer, log, clock } = this.#options;
    let operations: Operation[] = [];
    const write = async () => {
      const group = operations;
      operations = [];
      if (group.length > 0) await writer.putSynced(group);
    };
    const replay = new Replay({
      log,
      pause: slicesOf(SLICE_MS),
      get: (key) => writer.get(key),
      numberOf: (record) => this.dictionary.numberOf(record.id) ?? this.dictionary.add(record, record.lastAtMs),
      isOpen: (address) => this.#isOpen(address),
      put: async (address, stream) => {
        operations.push(...this.#operationsOf(address, stream));
        if (bytesOf(operations) >= GROUP_BYTES || operations.length >= GROUP_OPERATIONS) await write();
      },
      stopped: () => this.#stopped,
    });
    const startMs = clock.monotonicMs();
    try {
      const done = await replay.run(files);
      await write();
      for (const path of done) await this.#rawLog.remove(path);
      // What is left alone is not looked at again by this process.
      this.#due = [];
      log.debug(`${done.length} files of the raw log were read in ${Math.round(clock.monotonicMs() - startMs)} ms`);
    } catch (error) {
      if (!this.#stopped)
        log.warn(`The raw log is read again later: ${reason(error)}`, { event: 'store.raw_log', error });
    }
  }

  #isOpen(address: ChunkAddress): boolean {
    const same = (head: TimedHead | undefined) =>
      head !== undefined &&
      head.address.channel === address.channel &&
      head.address.ordinal === address.ordinal &&
      head.address.run === address.run &&
      head.address.startAtMs === address.startAtMs;
    return same(this.#byNumber.get(address.channel)?.head) || this.#closing.some(same);
  }

  /** Those of a channel that are no chunk yet, in the order of their keys. */
  #openHeads(channel: number): TimedHead[] {
    const heads = this.#closing.filter(({ address }) => address.channel === channel);
    const live = this.#byNumber.get(channel)?.head;
    if (live !== undefined && live.count > 0) heads.push(live);
    return heads.sort((a, b) => Buffer.compare(rawKey(a.address), rawKey(b.address)));
  }

  /** False when the disk takes no writes. */
  async #settled(work: Promise<void>): Promise<boolean> {
    let done = false;
    void work.then(() => {
      done = true;
    });
    do await isDoneWithin(work, STOP_POLL_MS);
    while (!done && this.#options.writer.trouble() === '');
    return done;
  }

  /** Undefined for a chunk that ends before the range, and for a damaged one, which is reported. */
  #decode(key: Buffer, bytes: Buffer, { fromMs }: { fromMs: number }): Samples | undefined {
    const startAtMs = chunkStartAtMs(key);
    try {
      if (startAtMs + chunkHeader(bytes).spanMs < fromMs) return undefined;
      return decodeChunk(bytes, startAtMs);
    } catch (error) {
      const when = new Date(startAtMs).toISOString();
      this.#reportDamage(`A stored chunk of ${when} cannot be decoded and is passed over`, error);
      return undefined;
    }
  }

  #reportDamage(what: string, error: unknown): void {
    this.#options.log.error(`${what}: ${reason(error)}`, { event: 'store.damaged', code: 'SKOS_STORE_READ' });
  }
}

function rawKey(address: ChunkAddress): Buffer {
  return chunkKey(PREFIX.rawSeries, address);
}

function bytesOf(operations: readonly Operation[]): number {
  return operations.reduce((sum, each) => sum + each.key.length + (each.type === 'put' ? each.value.length : 0), 0);
}

function wallSamples({ address, stream }: { address: ChunkAddress; stream: Stream }): Samples {
  return wallTimed(decodeStream(stream), address);
}

/** In their place. */
function wallTimed(samples: Samples, { startAtMs }: ChunkAddress): Samples {
  const { length, atMs } = samples;
  for (let i = 0; i < length; i++) atMs[i] = startAtMs + (atMs[i] ?? 0);
  return samples;
}

function* within(samples: Samples, { fromMs, toMs }: Stretch): Generator<Samples> {
  let first = 0;
  let end = samples.length;
  while (first < end && (samples.atMs[first] ?? 0) < fromMs) first++;
  while (end > first && (samples.atMs[end - 1] ?? 0) >= toMs) end--;
  if (end === first) return;
  yield part(samples, first, end);
}
