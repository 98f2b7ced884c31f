/**
 * All tiers of one channel as they were at one moment: the chunks on disk and on their way there, the samples that are in no chunk
 * yet, and which hours' minutes are not made yet. Taken in one step of the event loop, so that every sample is in it exactly once,
 * whatever closes, is rolled up or is deleted while a reader reads.
 *
 * Minutes of hours that are not rolled up come from the seconds; what is in no chunk yet is added to any of them.
 */
import { reason } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import { decodeBuckets, lastBucketAtMs, MAX_CHUNK_BUCKETS } from './bucket-chunk.js';
import { type Buckets, emptyBuckets, MINUTE_MS, SECOND_MS } from './buckets.js';
import { chunkHeader, decodeChunk, MAX_CHUNK_SPAN_MS, type Samples } from './chunk.js';
import { part } from './in-order.js';
import { chunkRange, chunkStartAtMs, type KeyRange, keyText, minutesKey, PREFIX } from './keys.js';
import { fuller, Points, type Stretch } from './points.js';
import type { Pause } from './slices.js';
import type { View } from './view.js';
import type { Writer } from './writer.js';

export const HOUR_MS = 60 * MINUTE_MS;
/** One chunk of minutes: 600 buckets. */
export const MINUTES_WINDOW_MS = 10 * HOUR_MS;
/** Hours whose minutes are made at once of seconds: one window. */
const HOURS_AT_ONCE = 10;
/** The last moment that a Date can hold. */
export const MAX_AT_MS = 8.64e15;
/** Damaged chunks that are remembered as reported, so that each reader does not report them again. */
const MAX_REPORTED = 256;

/** The tiers whose chunks have the address of a raw chunk. */
type ChunkTier = typeof PREFIX.rawSeries | typeof PREFIX.secondSeries;

/** Seconds are summed up as soon as they are decoded: one room serves all views. */
const secondsRoom = emptyBuckets(MAX_CHUNK_BUCKETS);

interface Decoding {
  readonly widthMs: number;
  readonly room?: Buckets;
}

/** Says once which chunk cannot be decoded. */
export class DamageReport {
  readonly #log: Log;
  readonly #reported = new Set<string>();

  constructor(log: Log) {
    this.#log = log;
  }

  tell(key: Buffer, error: unknown): void {
    const text = keyText(key);
    if (this.#reported.has(text)) return;
    if (this.#reported.size >= MAX_REPORTED) this.#reported.clear();
    this.#reported.add(text);
    const when = new Date(Math.min(chunkStartAtMs(key), MAX_AT_MS)).toISOString();
    this.#log.error(`A stored chunk of ${when} cannot be decoded and is passed over: ${reason(error)}`, {
      event: 'store.damaged',
      code: 'SKOS_STORE_READ',
    });
  }
}

export interface ChannelViewOptions {
  readonly channel: number;
  readonly writer: Writer;
  /** What is in no chunk yet. */
  readonly live: readonly Samples[];
  /** Beginnings of hours whose minutes are not made yet. */
  readonly pendingHours: ReadonlySet<number>;
  readonly damage: DamageReport;
  /** Ends a slice when it has become long. */
  readonly pause: Pause;
  /** A window of minutes cannot be decoded: it is to be made anew. */
  readonly onDamagedWindow: (windowAtMs: number) => void;
}

export class ChannelView {
  readonly live: readonly Samples[];
  readonly #channel: number;
  readonly #view: View;
  readonly #pendingHours: ReadonlySet<number>;
  readonly #damage: DamageReport;
  readonly #pause: Pause;
  readonly #onDamagedWindow: (windowAtMs: number) => void;

  /** Throws SKOS_STORE_READ. Close it. */
  constructor({ channel, writer, live, pendingHours, damage, pause, onDamagedWindow }: ChannelViewOptions) {
    this.#onDamagedWindow = onDamagedWindow;
    this.#channel = channel;
    this.live = live;
    this.#pendingHours = pendingHours;
    this.#damage = damage;
    this.#pause = pause;
    const always = { fromMs: 0, toMs: MAX_AT_MS };
    const chunks = [PREFIX.rawSeries, PREFIX.secondSeries].map((tier) => chunkRange(tier, channel, always));
    this.#view = writer.view([...chunks, minutesRange(channel, always)]);
  }

  close(): Promise<void> {
    return this.#view.close();
  }

  /** Key of the oldest chunk; undefined: there is none. */
  async first(tier: ChunkTier): Promise<Buffer | undefined> {
    const range = chunkRange(tier, this.#channel, { fromMs: 0, toMs: MAX_AT_MS });
    for await (const [key] of this.#view.scan({ ...range, limit: 1 })) return key;
    return undefined;
  }

  /** When the oldest chunk begins. */
  async firstAtMs(tier: ChunkTier): Promise<number | undefined> {
    const key = await this.first(tier);
    return key === undefined ? undefined : chunkStartAtMs(key);
  }

  /** No minute at or behind a time is before this one; undefined: there is none. */
  async nextMinutes(atMs: number): Promise<number | undefined> {
    const pending = [...this.#pendingHours].filter((hour) => hour >= hourOf(atMs));
    const range = minutesRange(this.#channel, windows({ fromMs: atMs, toMs: MAX_AT_MS }));
    for await (const [key] of this.#view.scan({ ...range, limit: 1 })) pending.push(chunkStartAtMs(key));
    return pending.length === 0 ? undefined : Math.min(...pending);
  }

  /** Of the chunks of seconds before the key `before`. */
  async nextSeconds(atMs: number, before: Buffer | undefined): Promise<number | undefined> {
    const fromMs = Math.max(0, atMs - MAX_CHUNK_SPAN_MS);
    const range = chunkRange(PREFIX.secondSeries, this.#channel, { fromMs, toMs: MAX_AT_MS });
    for await (const [key] of this.#view.scan({ ...range, limit: 1 })) {
      const isOver = before !== undefined && Buffer.compare(key.subarray(1), before.subarray(1)) >= 0;
      return isOver ? undefined : chunkStartAtMs(key);
    }
    return undefined;
  }

  /** The last chunk that begins before a time; undefined: there is none that can be decoded. */
  async lastBuckets(tier: 'seconds' | 'minutes', beforeMs: number): Promise<Buckets | undefined> {
    const stretch = { fromMs: 0, toMs: beforeMs };
    const [range, widthMs] =
      tier === 'seconds'
        ? ([chunkRange(PREFIX.secondSeries, this.#channel, stretch), SECOND_MS] as const)
        : ([minutesRange(this.#channel, stretch), MINUTE_MS] as const);
    for await (const [key, bytes] of this.#view.scan({ ...range, reverse: true, limit: 1 })) {
      return this.#buckets(key, bytes, { widthMs });
    }
    return undefined;
  }

  async lastSamples(beforeMs: number): Promise<Samples | undefined> {
    const range = chunkRange(PREFIX.rawSeries, this.#channel, { fromMs: 0, toMs: beforeMs });
    for await (const [key, bytes] of this.#view.scan({ ...range, reverse: true, limit: 1 })) {
      return this.#samples(key, bytes);
    }
    return undefined;
  }

  /**
   * Chunks of samples that may reach into the stretch, and what is in no chunk; in the order in which they begin. Of the chunks
   * only what was taken from `storedFromMs` on.
   */
  async *samples({ fromMs, toMs }: Stretch, storedFromMs: number): AsyncGenerator<Samples, void, undefined> {
    const live = [...this.live].sort((a, b) => (a.atMs[0] ?? 0) - (b.atMs[0] ?? 0));
    const range = chunkRange(PREFIX.rawSeries, this.#channel, {
      fromMs: Math.max(0, fromMs - MAX_CHUNK_SPAN_MS),
      toMs,
    });
    for await (const [key, bytes] of this.#view.scan(range)) {
      while (live[0] !== undefined && (live[0].atMs[0] ?? 0) < chunkStartAtMs(key)) yield* live.splice(0, 1);
      if (chunkEndsBefore(key, bytes, fromMs)) continue;
      const samples = this.#samples(key, bytes);
      await this.#pause();
      if (samples !== undefined) yield takenFrom(samples, storedFromMs);
    }
    yield* live;
  }

  /** Of the chunks on disk. `before`: only those before this key. */
  async addSeconds(points: Points, { fromMs, toMs }: Stretch, before?: Buffer): Promise<void> {
    const range = chunkRange(PREFIX.secondSeries, this.#channel, {
      fromMs: Math.max(0, fromMs - MAX_CHUNK_SPAN_MS),
      toMs,
    });
    for await (const [key, bytes] of this.#view.scan(range)) {
      if (before !== undefined && Buffer.compare(key.subarray(1), before.subarray(1)) >= 0) return;
      if (secondsEndBefore(key, bytes, fromMs)) continue;
      const buckets = this.#buckets(key, bytes, { widthMs: SECOND_MS, room: secondsRoom });
      if (buckets === undefined) continue;
      points.addBuckets(buckets, { fromMs, toMs });
      await this.#pause();
    }
  }

  /** Of the chunks on disk, and of seconds where they are not made yet. Both ends are whole minutes. */
  async addMinutes(points: Points, { fromMs, toMs }: Stretch): Promise<void> {
    const isWithin = (hour: number) => hour + HOUR_MS > fromMs && hour < toMs;
    const pending = [...this.#pendingHours].filter(isWithin).sort(ascending);
    const damaged: number[] = [];
    const kept = new Map<number, Buckets[]>();
    for await (const [key, bytes] of this.#view.scan(minutesRange(this.#channel, windows({ fromMs, toMs })))) {
      const buckets = this.#buckets(key, bytes, { widthMs: MINUTE_MS });
      if (buckets === undefined) {
        const windowAtMs = chunkStartAtMs(key);
        damaged.push(...hoursOf(windowAtMs).filter((hour) => isWithin(hour) && !pending.includes(hour)));
        this.#onDamagedWindow(windowAtMs);
        continue;
      }
      addButHours(points, buckets, { stretch: { fromMs, toMs }, pending, kept });
      await this.#pause();
    }
    for (const group of consecutive([...pending, ...damaged].sort(ascending))) {
      const [first = 0] = group;
      const stretch = { fromMs: first, toMs: first + group.length * HOUR_MS };
      const fresh = new Points(stretch, MINUTE_MS);
      await this.addSeconds(fresh, stretch);
      const before = group.flatMap((hour) => kept.get(hour) ?? []);
      points.addBuckets(
        before.reduceRight((all, each) => fuller(each, all), fresh.buckets()),
        { fromMs, toMs },
      );
    }
  }

  addLive(points: Points, stretch: Stretch): void {
    for (const samples of this.live) points.addSamples(samples, stretch);
  }

  /** The minutes of a window as they are on disk; undefined: there are none, or they cannot be decoded. */
  async window(windowAtMs: number): Promise<{ bytes: Buffer; buckets: Buckets | undefined } | undefined> {
    const range = minutesRange(this.#channel, { fromMs: windowAtMs, toMs: windowAtMs + 1 });
    for await (const [key, bytes] of this.#view.scan({ ...range, limit: 1 })) {
      return { bytes, buckets: this.#buckets(key, bytes, { widthMs: MINUTE_MS }) };
    }
    return undefined;
  }

  /** Hours in which chunks of seconds begin, from `fromMs` on. */
  async hoursOfSeconds(stretch: Stretch): Promise<Set<number>> {
    const hours = new Set<number>();
    for await (const [key] of this.#view.scan(chunkRange(PREFIX.secondSeries, this.#channel, stretch))) {
      hours.add(hourOf(chunkStartAtMs(key)));
    }
    return hours;
  }

  #buckets(key: Buffer, bytes: Buffer, { widthMs, room }: Decoding): Buckets | undefined {
    try {
      return decodeBuckets(bytes, widthMs, room);
    } catch (error) {
      this.#damage.tell(key, error);
      return undefined;
    }
  }

  #samples(key: Buffer, bytes: Buffer): Samples | undefined {
    try {
      return decodeChunk(bytes, chunkStartAtMs(key));
    } catch (error) {
      this.#damage.tell(key, error);
      return undefined;
    }
  }
}

export function hourOf(atMs: number): number {
  return Math.floor(atMs / HOUR_MS) * HOUR_MS;
}

export function windowOf(atMs: number): number {
  return Math.floor(atMs / MINUTES_WINDOW_MS) * MINUTES_WINDOW_MS;
}

/** Of a window. */
export function hoursOf(windowAtMs: number): number[] {
  return Array.from({ length: MINUTES_WINDOW_MS / HOUR_MS }, (_, i) => windowAtMs + i * HOUR_MS);
}

/** Not decoded for the hour behind its own. */
function secondsEndBefore(key: Buffer, bytes: Buffer, atMs: number): boolean {
  try {
    return chunkStartAtMs(key) < atMs && lastBucketAtMs(bytes, SECOND_MS) < atMs;
  } catch {
    // Damaged; decoding it reports that.
    return false;
  }
}

function ascending(a: number, b: number): number {
  return a - b;
}

/** Keys of the windows that begin in the stretch. */
export function minutesRange(channel: number, { fromMs, toMs }: Stretch): KeyRange {
  return { gte: minutesKey(channel, fromMs), lt: minutesKey(channel, toMs) };
}

function windows({ fromMs, toMs }: Stretch): Stretch {
  return { fromMs: windowOf(fromMs), toMs };
}

function takenFrom(samples: Samples, fromMs: number): Samples {
  let first = 0;
  while (first < samples.length && (samples.atMs[first] ?? 0) < fromMs) first++;
  return first === 0 ? samples : part(samples, first, samples.length);
}

interface Sorting {
  readonly stretch: Stretch;
  readonly pending: readonly number[];
  /** What belongs to the pending hours, by hour. */
  readonly kept: Map<number, Buckets[]>;
}

function addButHours(points: Points, buckets: Buckets, { stretch, pending, kept }: Sorting): void {
  const first = buckets.atMs[0] ?? 0;
  const last = buckets.atMs[buckets.length - 1] ?? 0;
  let { fromMs } = stretch;
  for (const hour of pending) {
    if (hour + HOUR_MS <= first || hour > last) continue;
    points.addBuckets(buckets, { fromMs, toMs: Math.min(hour, stretch.toMs) });
    const ofHour = new Points({ fromMs: hour, toMs: hour + HOUR_MS }, MINUTE_MS);
    ofHour.addBuckets(buckets);
    kept.set(hour, [...(kept.get(hour) ?? []), ofHour.buckets()]);
    fromMs = Math.max(fromMs, hour + HOUR_MS);
  }
  points.addBuckets(buckets, { fromMs, toMs: stretch.toMs });
}

/** Runs of hours without a gap, each of a bounded length. */
function consecutive(hours: readonly number[]): number[][] {
  const groups: number[][] = [];
  for (const hour of hours) {
    const group = groups.at(-1);
    if (group !== undefined && group.length < HOURS_AT_ONCE && group.at(-1) === hour - HOUR_MS) group.push(hour);
    else groups.push([hour]);
  }
  return groups;
}

/** Said by its header, so that an hour of chunks before the stretch is not decoded for nothing. */
function chunkEndsBefore(key: Buffer, bytes: Buffer, atMs: number): boolean {
  try {
    return chunkStartAtMs(key) + chunkHeader(bytes).spanMs < atMs;
  } catch {
    // Damaged; decoding it reports that.
    return false;
  }
}
