/**
 * The tiers above the raw samples. Seconds are made of each raw chunk when it closes and go to the database with it. Minutes are
 * made of seconds, an hour of a channel at a time: computed anew from all that the seconds have of that hour, and put in place of
 * what was there, within the chunk of the window of ten hours. The same seconds give the same minutes, so that an hour can be done
 * again at any time, and is after every interruption.
 *
 * Which hours are to be done is remembered in memory alone: an hour is pending from the moment a chunk of it closes until its
 * minutes are handed to the writer. After a start, what an earlier process may have left undone is found in the keys: the hours of
 * seconds from where the channel's minutes end.
 */
import type { Clock } from '../core/clock.js';
import { reason } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import { encodeBuckets, MAX_CHUNK_BUCKETS } from './bucket-chunk.js';
import { type Buckets, bucketsOf, emptyBuckets, MINUTE_MS, SECOND_MS } from './buckets.js';
import {
  ChannelView,
  type DamageReport,
  HOUR_MS,
  hourOf,
  hoursOf,
  MAX_AT_MS,
  MINUTES_WINDOW_MS,
  windowOf,
} from './channel-view.js';
import type { Operation } from './database.js';
import { chunkKey, minutesKey, PREFIX } from './keys.js';
import { fuller, Points } from './points.js';
import { type Pause, slicesOf } from './slices.js';
import type { AddressedSamples } from './time-series.js';
import type { Writer } from './writer.js';

/** How often pending hours are looked through. */
const STEP_EVERY_MS = 5_000;
/** An hour is left alone for so long after it is over, and after its last chunk: chunks of slow channels close later. */
const SETTLE_MS = 60_000;
const QUIET_MS = 30_000;
/** Hours rolled up in a step: 64 channels are done within a minute of the hour. With more, a share of what is due. */
const HOURS_PER_STEP = 8;
const STEPS_FOR_ALL = 60;
/** Channels that are looked at after a start, per step: a scan of some keys each. */
const LOOKS_PER_STEP = 64;
/** Of decoding and looking: shorter than a tick. */
const SLICE_MS = 2;
/** Pending hours: a day of 4,000 channels. Beyond it the channel is looked at again instead, as after a start. */
const MAX_PENDING_HOURS = 100_000;

export interface TiersOptions {
  readonly writer: Writer;
  readonly log: Log;
  readonly clock: Clock;
  readonly damage: DamageReport;
  /** Numbers of channels are below it. */
  readonly channelCount: () => number;
}

interface Pending {
  /** Monotonic time of the last chunk. */
  readonly touchedMs: number;
}

export class Tiers {
  readonly #options: TiersOptions;
  /** By channel, by the beginning of the hour. A new object each time, by which a roll-up sees that it was overtaken. */
  readonly #pending = new Map<number, Map<number, Pending>>();
  #pendingHours = 0;
  /** For the seconds of one chunk. */
  readonly #room = emptyBuckets(MAX_CHUNK_BUCKETS);
  /** Channels of which everything undone is pending. */
  readonly #looked = new Set<number>();
  #timer: NodeJS.Timeout | undefined;
  #stepping: Promise<void> | undefined;
  #stopped = false;

  constructor(options: TiersOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => void this.step(), STEP_EVERY_MS);
    this.#timer.unref();
  }

  /** What is pending then is found again at the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    this.#timer = undefined;
    await this.#stepping;
  }

  /** The seconds of a raw chunk, for the same batch. */
  onClosed({ address, samples }: AddressedSamples): readonly Operation[] {
    const buckets = bucketsOf(samples, SECOND_MS, this.#room);
    if (buckets.length === 0) return [];
    const lastAtMs = buckets.atMs[buckets.length - 1] ?? 0;
    for (let hour = hourOf(buckets.atMs[0] ?? 0); hour <= lastAtMs; hour += HOUR_MS) {
      this.#touch(address.channel, hour);
    }
    return [{ type: 'put', key: chunkKey(PREFIX.secondSeries, address), value: encodeBuckets(buckets, SECOND_MS) }];
  }

  /** Seconds of this hour have come from elsewhere. */
  restored(channel: number, atMs: number): void {
    this.#touch(channel, hourOf(atMs));
  }

  /** Hours of a channel whose minutes are not made of all their seconds yet. Complete once look() has been awaited. */
  pendingHours(channel: number): ReadonlySet<number> {
    return new Set(this.#pending.get(channel)?.keys());
  }

  /** Makes sure that what an earlier process left undone of this channel is pending. Rejects with SKOS_STORE_READ. */
  async look(channel: number): Promise<void> {
    if (this.#looked.has(channel)) return;
    const view = this.#view(channel, slicesOf(SLICE_MS));
    try {
      const minutes = await view.lastBuckets('minutes', MAX_AT_MS);
      const fromMs = minutes === undefined ? 0 : hourOf(minutes.atMs[minutes.length - 1] ?? 0);
      const hours = await view.hoursOfSeconds({ fromMs, toMs: MAX_AT_MS });
      // Minutes of a clock that was years ahead stand behind everything that was measured since it was set right.
      const nowMs = this.#options.clock.wallMs();
      if (fromMs > nowMs) {
        const before = await view.lastBuckets('minutes', Math.max(0, nowMs));
        const resumeMs = before === undefined ? 0 : hourOf(before.atMs[before.length - 1] ?? 0);
        for (const hour of await view.hoursOfSeconds({ fromMs: resumeMs, toMs: fromMs })) hours.add(hour);
      }
      // Before: where there are too many to remember, the channel is looked at again.
      this.#looked.add(channel);
      for (const hour of hours) if (this.#pending.get(channel)?.has(hour) !== true) this.#add(channel, hour, 0);
    } finally {
      await view.close();
    }
  }

  /** A reader could not decode it: its hours are rolled up again, from what the seconds still have. */
  onDamagedWindow(channel: number, windowAtMs: number): void {
    const pending = this.pendingHours(channel);
    // Not again what waits already: readers who come often would keep it from being quiet.
    for (const hour of hoursOf(windowAtMs)) if (!pending.has(hour)) this.#touch(channel, hour);
  }

  /** The database is a new one: nothing of it is known. */
  republish(): void {
    this.#looked.clear();
  }

  /** Looks at channels, and rolls up hours that are over and quiet; bounded. */
  step(): Promise<void> {
    this.#stepping ??= this.#step().finally(() => {
      this.#stepping = undefined;
    });
    return this.#stepping;
  }

  async #step(): Promise<void> {
    const { writer, log } = this.#options;
    // What is written now would only wait in memory, and push out samples there.
    if (writer.trouble() !== '') return;
    try {
      await this.#lookAtSome();
      const due = this.#due();
      const most = Math.max(HOURS_PER_STEP, Math.ceil(due.length / STEPS_FOR_ALL));
      const pause = slicesOf(SLICE_MS);
      for (const [channel, hour] of due.slice(0, most)) {
        if (this.#stopped) return;
        await this.#rollUp(channel, hour, pause);
      }
    } catch (error) {
      log.warn(`Minutes could not be made of seconds: ${reason(error)}`, { event: 'store.roll_up', error });
    }
  }

  async #lookAtSome(): Promise<void> {
    let looks = 0;
    const all = this.#options.channelCount();
    for (let channel = 0; channel < all && looks < LOOKS_PER_STEP && !this.#stopped; channel++) {
      if (this.#looked.has(channel)) continue;
      looks++;
      await this.look(channel);
    }
  }

  #due(): (readonly [channel: number, hour: number])[] {
    const nowMs = this.#options.clock.wallMs();
    const monotonicMs = this.#options.clock.monotonicMs();
    const due: (readonly [number, number])[] = [];
    for (const [channel, hours] of this.#pending) {
      for (const [hour, { touchedMs }] of hours) {
        // An hour that is yet to come is one of a clock that has been set back.
        const isOver = hour + HOUR_MS + SETTLE_MS <= nowMs || hour > nowMs;
        if (isOver && monotonicMs - touchedMs >= QUIET_MS) due.push([channel, hour]);
      }
    }
    return due;
  }

  async #rollUp(channel: number, hour: number, pause: Pause): Promise<void> {
    const before = this.#pending.get(channel)?.get(hour);
    const view = this.#view(channel, pause);
    try {
      const windowAtMs = windowOf(hour);
      const present = await view.window(windowAtMs);
      const isDamaged = present !== undefined && present.buckets === undefined;
      // Of a damaged window all is made anew that the seconds still have.
      const stretch = isDamaged
        ? { fromMs: windowAtMs, toMs: windowAtMs + MINUTES_WINDOW_MS }
        : { fromMs: hour, toMs: hour + HOUR_MS };
      const points = new Points(stretch, MINUTE_MS);
      await view.addSeconds(points, stretch);
      const buckets = merged(present?.buckets, points.buckets());
      const overtaken = this.#pending.get(channel)?.get(hour) !== before;
      const key = minutesKey(channel, windowAtMs);
      if (buckets.length > 0) {
        const value = encodeBuckets(buckets, MINUTE_MS);
        if (present?.bytes.equals(value) !== true) this.#options.writer.putSamples({ type: 'put', key, value });
      } else if (isDamaged) {
        // Nothing is left to make it of: it would only be reported for ever.
        this.#options.writer.putSamples({ type: 'del', key });
      }
      if (!overtaken) this.#remove(channel, hour);
    } finally {
      await view.close();
    }
  }

  #view(channel: number, pause: Pause): ChannelView {
    const { writer, damage } = this.#options;
    const onDamagedWindow = () => {};
    return new ChannelView({ channel, writer, live: [], pendingHours: new Set(), damage, pause, onDamagedWindow });
  }

  #touch(channel: number, hour: number): void {
    this.#add(channel, hour, this.#options.clock.monotonicMs());
  }

  #add(channel: number, hour: number, touchedMs: number): void {
    const hours = this.#pending.get(channel) ?? new Map<number, Pending>();
    if (!hours.has(hour)) {
      if (this.#pendingHours >= MAX_PENDING_HOURS) {
        this.#looked.delete(channel);
        return;
      }
      this.#pendingHours++;
    }
    hours.set(hour, { touchedMs });
    this.#pending.set(channel, hours);
  }

  #remove(channel: number, hour: number): void {
    const hours = this.#pending.get(channel);
    if (hours?.delete(hour) === true) this.#pendingHours--;
    if (hours?.size === 0) this.#pending.delete(channel);
  }
}

/**
 * Samples are only ever added to an hour. So a minute that comes to fewer of them than before has lost some of its seconds, to their
 * age or to damage, and the one that is there stays.
 */
function merged(present: Buckets | undefined, fresh: Buckets): Buckets {
  return present === undefined ? fresh : fuller(present, fresh);
}
