/**
 * Retention: how long the tiers of the time series are kept, and how large the files may become. What else the store holds (audit
 * entries, alerts, actions, recordings) has bounds of its own and is never touched from here.
 *
 * By age. A clock that is set years ahead must not make everything old at once. So each tier has a cut-off of its own, which goes to
 * where the clock says that it belongs at no more than ten times the speed of the monotonic clock, either way; and nothing is deleted
 * that is not old by the clock as well, so that a clock years back deletes nothing. Where the cut-off begins, and what it may leap to, is the
 * oldest chunk that is there: below it there is nothing to lose. So it needs no memory of its own: after a restart it goes on from
 * what is left. What a wrong clock has dated in the future stays until it is due, or the size takes it.
 *
 * A look at a channel costs as much as thousands of samples. So where its oldest chunk begins is remembered, and it is looked at when
 * that is due, or after hours: what was put behind that, by a clock that was set back or by a salvage, is found then.
 *
 * By size. When the files are larger than the bound, the oldest raw chunks of all channels are deleted, an hour of all of them at a
 * time, until a tenth is free; when no raw is left, seconds, then minutes. LevelDB gives space back only where tables are merged, so
 * that is done then, a part of a tier at a time, on a thread of the pool. The tenth keeps it from being done every minute.
 */
import type { Clock } from '../core/clock.js';
import { reason } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import { HOUR_MS, MAX_AT_MS, MINUTES_WINDOW_MS, minutesRange } from './channel-view.js';
import { MAX_CHUNK_SPAN_MS } from './chunk.js';
import type { Database, Operation } from './database.js';
import { bytesIn } from './file-sizes.js';
import { chunkRange, chunkStartAtMs, type KeyRange, nextKey, PREFIX, prefixRange } from './keys.js';
import type { StoreLimits } from './limits.js';
import type { Stretch } from './points.js';
import type { Writer } from './writer.js';

/** A clock that is a month ahead for an hour costs ten hours of the oldest; a week without the agent is made good in hours. */
const CUT_OFF_SPEED = 10;
/** Channels looked at per step, of those that are due: all within a quarter of an hour of steps, at least so many. */
const CHANNELS_PER_STEP = 64;
const STEPS_FOR_ALL = 16;
/** An oldest chunk that is due waits for the next of its channel, which a look then finds too. */
const DUE_TOGETHER_MS = 15 * 60_000;
const LOOK_AGAIN_MS = 6 * HOUR_MS;
/** Keys read at first: more are seldom due. */
const FIRST_KEYS = 4;
/** Chunks deleted per step and per channel in it: they wait in the writer's memory, 240 bytes each. */
const MAX_DELETED_PER_STEP = 4_096;
const MAX_DELETED_PER_CHANNEL = 256;
/**
 * Samples and seconds that are younger are not deleted for their size: minutes are not made of them yet (an hour, the longest chunk
 * behind it, and time to make them), and an hour that is deleted before would be in no tier at all.
 */
const SPARED_MS = 3 * HOUR_MS;
/** Between two walks over the files. */
const SIZE_EVERY_MS = 5 * 60_000;
/** How much is free after room was made, of the bound. */
const FREED_PART = 0.1;
/**
 * When less of what was deleted has come free, a snapshot keeps it, as a backup has one for an hour at most: then to delete more would
 * free no more. It is merged again later, before anything else is deleted.
 */
const LEAST_FREED_PART = 0.25;
/** Deleted in one synced batch. */
const DELETED_PER_BATCH = 512;
/** Merged in one call: a second of a pool thread, which closing has to wait for. */
const MERGED_BYTES = 64 * 1024 * 1024;
/** Before anything is deleted for its size, what is deleted already may give its space back; but not every minute. */
const MERGE_ALL_EVERY_MS = 6 * HOUR_MS;
/** When nothing is left to delete, or nothing comes free, it is tried again so seldom. */
const HOPELESS_MS = HOUR_MS;
const MIB = 1024 * 1024;

/** What the last look at a channel found. */
interface Looked {
  readonly atMonotonicMs: number;
  /** Beginning of the oldest chunk, or of one before it that was deleted then; undefined: there was none. */
  readonly oldestAtMs: number | undefined;
  /** Nothing is due whose cut-off is before this. */
  readonly dueAtMs: number;
}

interface Tier {
  readonly name: string;
  readonly prefix: typeof PREFIX.rawSeries | typeof PREFIX.secondSeries | typeof PREFIX.minuteSeries;
  readonly keepMs: number;
  /** A chunk has nothing later than this from its beginning. */
  readonly spanMs: number;
  /** Of all channels, deleted at once for their size. */
  readonly sliceMs: number;
  /** Undefined until everything was looked at once. */
  cutOffAtMs: number | undefined;
  /** By channel. */
  readonly looked: Map<number, Looked>;
}

export interface RetentionOptions {
  readonly database: Database;
  readonly writer: Writer;
  readonly log: Log;
  readonly clock: Clock;
  readonly limits: Pick<StoreLimits, 'rawMs' | 'secondMs' | 'minuteMs' | 'maxBytes'>;
  /** Whose files count: the database's and the raw log's. */
  readonly directories: readonly string[];
  /** Numbers of channels are below it. */
  readonly channelCount: () => number;
}

export class Retention {
  readonly #options: RetentionOptions;
  /** In the order in which they give way. */
  readonly #tiers: readonly Tier[];
  #movedMs: number | undefined;
  #nextChannel = 0;
  #shrinking: Promise<void> | undefined;
  #mergedAllMs = Number.NEGATIVE_INFINITY;
  #hopelessMs = Number.NEGATIVE_INFINITY;
  #sizedMs = Number.NEGATIVE_INFINITY;
  #saidHopeless = false;
  /** A snapshot kept what was deleted. */
  #isHeld = false;
  #stopped = false;
  #onStop: () => void = () => {};
  readonly #untilStopped: Promise<void>;

  constructor(options: RetentionOptions) {
    this.#options = options;
    const { rawMs, secondMs, minuteMs } = options.limits;
    // A tier is kept at least as long as the finer one: readers go from one to the other once.
    const keptSecondMs = Math.max(secondMs, rawMs);
    const chunks = () => ({ spanMs: MAX_CHUNK_SPAN_MS, cutOffAtMs: undefined, looked: new Map<number, Looked>() });
    this.#tiers = [
      { ...chunks(), name: 'samples', prefix: PREFIX.rawSeries, keepMs: rawMs, sliceMs: HOUR_MS },
      { ...chunks(), name: 'seconds', prefix: PREFIX.secondSeries, keepMs: keptSecondMs, sliceMs: 6 * HOUR_MS },
      {
        ...chunks(),
        name: 'minutes',
        prefix: PREFIX.minuteSeries,
        keepMs: Math.max(minuteMs, keptSecondMs),
        spanMs: MINUTES_WINDOW_MS,
        sliceMs: 10 * MINUTES_WINDOW_MS,
      },
    ];
    this.#untilStopped = new Promise((resolve) => {
      this.#onStop = resolve;
    });
  }

  /** What is being merged is waited for. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#onStop();
    await this.#shrinking;
  }

  /** A bounded step of both; about once a minute. Making room goes on beside it. Rejects with SKOS_STORE_READ. */
  async step(): Promise<void> {
    await this.#deleteOld();
    const nowMs = this.#options.clock.monotonicMs();
    if (this.#stopped || this.#shrinking !== undefined || nowMs - this.#sizedMs < SIZE_EVERY_MS) return;
    this.#sizedMs = nowMs;
    const bytes = await this.bytes();
    if (bytes <= this.#options.limits.maxBytes) this.#saidHopeless = false;
    else if (nowMs - this.#hopelessMs >= HOPELESS_MS) this.#shrinkBeside();
  }

  /** Resolves when no room is being made. */
  async settled(): Promise<void> {
    await this.#shrinking;
  }

  /** Of all files. */
  async bytes(): Promise<number> {
    let sum = 0;
    for (const directory of this.#options.directories) sum += await bytesIn(directory);
    return sum;
  }

  // ---- By age ------------------------------------------------------------------------------------------------------

  async #deleteOld(): Promise<void> {
    this.#moveCutOffs();
    const { channelCount } = this.#options;
    const all = channelCount();
    const share = Math.min(all, Math.max(CHANNELS_PER_STEP, Math.ceil(all / STEPS_FOR_ALL)));
    let left = MAX_DELETED_PER_STEP;
    let looks = 0;
    for (let n = 0; n < all && looks < share && left > 0 && !this.#stopped; n++) {
      const channel = this.#nextChannel % all;
      this.#nextChannel = channel + 1;
      const due = this.#tiers.filter((tier) => this.#isDue(tier, channel));
      if (due.length > 0) looks++;
      for (const tier of due) left -= await this.#deleteOldOf(tier, channel, left);
    }
    for (const tier of this.#tiers) if (tier.looked.size >= all) this.#leap(tier);
  }

  #isDue(tier: Tier, channel: number): boolean {
    const looked = tier.looked.get(channel);
    if (looked === undefined) return true;
    const isLongAgo = this.#options.clock.monotonicMs() - looked.atMonotonicMs >= LOOK_AGAIN_MS;
    return isLongAgo || looked.dueAtMs < this.#untilAtMs(tier);
  }

  /** A chunk that ends before is deleted. */
  #untilAtMs({ cutOffAtMs = Number.NEGATIVE_INFINITY, keepMs }: Tier): number {
    return Math.min(cutOffAtMs, this.#options.clock.wallMs() - keepMs);
  }

  #moveCutOffs(): void {
    const { clock } = this.#options;
    const nowMs = clock.monotonicMs();
    const mayMoveMs = CUT_OFF_SPEED * Math.max(0, nowMs - (this.#movedMs ?? nowMs));
    this.#movedMs = nowMs;
    for (const tier of this.#tiers) {
      if (tier.cutOffAtMs === undefined) continue;
      const targetAtMs = clock.wallMs() - tier.keepMs;
      const wayMs = targetAtMs - tier.cutOffAtMs;
      tier.cutOffAtMs += Math.sign(wayMs) * Math.min(Math.abs(wayMs), mayMoveMs);
    }
  }

  /** All channels were looked at: below the oldest chunk there is nothing that a leap could lose. */
  #leap(tier: Tier): void {
    const { looked, cutOffAtMs = Number.NEGATIVE_INFINITY, keepMs } = tier;
    let oldest = Number.POSITIVE_INFINITY;
    for (const { oldestAtMs } of looked.values()) oldest = Math.min(oldest, oldestAtMs ?? oldest);
    if (!Number.isFinite(oldest) || oldest <= cutOffAtMs) return;
    tier.cutOffAtMs = Math.max(cutOffAtMs, Math.min(oldest, this.#options.clock.wallMs() - keepMs));
  }

  /** Returns how many chunks are deleted. */
  async #deleteOldOf(tier: Tier, channel: number, most: number): Promise<number> {
    const { clock, writer } = this.#options;
    const untilMs = this.#untilAtMs(tier);
    const limit = Math.min(MAX_DELETED_PER_CHANNEL, most);
    let deleted = 0;
    let oldestAtMs: number | undefined;
    for await (const key of this.#oldestKeys(tier, channel, limit + 1)) {
      oldestAtMs = chunkStartAtMs(key);
      if (oldestAtMs + tier.spanMs >= untilMs || deleted === limit) break;
      writer.putSamples({ type: 'del', key });
      deleted++;
    }
    // What is put where nothing is begins now at the earliest.
    const dueAtMs = (oldestAtMs ?? clock.wallMs()) + tier.spanMs + DUE_TOGETHER_MS;
    tier.looked.set(channel, { atMonotonicMs: clock.monotonicMs(), oldestAtMs, dueAtMs });
    return deleted;
  }

  async *#oldestKeys(tier: Tier, channel: number, most: number): AsyncGenerator<Buffer, void, undefined> {
    const { database } = this.#options;
    const range = rangeOf(tier, channel, EVER);
    const first = await database.keys({ ...range, limit: Math.min(FIRST_KEYS, most) });
    yield* first;
    const last = first.at(-1);
    if (last === undefined || first.length < FIRST_KEYS || most <= FIRST_KEYS) return;
    yield* await database.keys({ ...range, gte: Buffer.concat([last, Buffer.of(0)]), limit: most - FIRST_KEYS });
  }

  // ---- By size -----------------------------------------------------------------------------------------------------

  #shrinkBeside(): void {
    this.#shrinking = this.#shrink()
      .catch((error: unknown) => {
        if (this.#stopped) return;
        this.#options.log.warn(`No room could be made: ${reason(error)}`, { event: 'store.trim', error });
      })
      .finally(() => {
        this.#shrinking = undefined;
      });
  }

  async #shrink(): Promise<void> {
    const { clock, limits } = this.#options;
    if (this.#isHeld || clock.monotonicMs() - this.#mergedAllMs >= MERGE_ALL_EVERY_MS) {
      this.#mergedAllMs = clock.monotonicMs();
      for (const tier of this.#tiers) await this.#merge(tier, { whole: this.#isHeld });
      this.#isHeld = false;
    }
    let bytes = await this.bytes();
    // Sizes of what is deleted are those of its values: a second time makes good what that was wrong by.
    for (let round = 0; round < 2 && bytes > limits.maxBytes; round++) {
      const before = bytes;
      const deleted = await this.#makeRoom(bytes - limits.maxBytes * (1 - FREED_PART));
      bytes = await this.bytes();
      for (const { looked } of this.#tiers) looked.clear();
      if (bytes > limits.maxBytes && before - bytes < deleted * LEAST_FREED_PART) {
        this.#hopelessMs = clock.monotonicMs();
        this.#isHeld = true;
        return;
      }
    }
    if (!this.#stopped && bytes > limits.maxBytes) this.#reportHopeless(bytes);
  }

  /** Returns how many bytes were deleted. */
  async #makeRoom(wantedBytes: number): Promise<number> {
    let missing = wantedBytes;
    for (const tier of this.#tiers) {
      let freed = 0;
      for (let slice = -1; slice !== 0 && missing > 0 && !this.#stopped; ) {
        slice = await this.#deleteOldest(tier);
        freed += slice;
        missing -= slice;
      }
      if (freed > 0) await this.#merge(tier, { whole: false });
    }
    return wantedBytes - missing;
  }

  /** A slice of time of all channels, from where the oldest chunk begins. Returns the bytes; 0: the tier is empty. */
  async #deleteOldest(tier: Tier): Promise<number> {
    const oldestAtMs = await this.#oldestOf(tier);
    const spared = tier.prefix === PREFIX.minuteSeries ? undefined : this.#sparedFrom(oldestAtMs);
    if (oldestAtMs === undefined || (spared !== undefined && oldestAtMs >= spared)) return 0;
    const stretch = { fromMs: 0, toMs: Math.min(oldestAtMs + tier.sliceMs, spared ?? MAX_AT_MS) };
    let freed = 0;
    let batch: Operation[] = [];
    for (const channel of this.#channels()) {
      for await (const [key, value] of this.#options.database.scan(rangeOf(tier, channel, stretch))) {
        freed += key.length + value.length;
        batch.push({ type: 'del', key });
        if (batch.length < DELETED_PER_BATCH) continue;
        await this.#write(batch);
        if (this.#stopped) return freed;
        batch = [];
      }
    }
    if (batch.length > 0) await this.#write(batch);
    return freed;
  }

  /** undefined: all that is there is of a clock that was ahead. */
  #sparedFrom(oldestAtMs: number | undefined): number | undefined {
    const nowMs = this.#options.clock.wallMs();
    return oldestAtMs === undefined || oldestAtMs > nowMs ? undefined : nowMs - SPARED_MS;
  }

  async #oldestOf(tier: Tier): Promise<number | undefined> {
    let oldestAtMs: number | undefined;
    for (const channel of this.#channels()) {
      const [key] = await this.#options.database.keys({ ...rangeOf(tier, channel, EVER), limit: 1 });
      if (key !== undefined) oldestAtMs = Math.min(oldestAtMs ?? Number.POSITIVE_INFINITY, chunkStartAtMs(key));
    }
    return oldestAtMs;
  }

  *#channels(): Generator<number> {
    const all = this.#options.channelCount();
    for (let channel = 0; channel < all && !this.#stopped; channel++) yield channel;
  }

  /** On disk, or the store is stopped: then what waits is written at the end, as far as the disk takes it. */
  async #write(operations: readonly Operation[]): Promise<void> {
    await Promise.race([this.#options.writer.putSynced(operations), this.#untilStopped]);
  }

  /**
   * A part of the channels after the other. LevelDB leaves the tables of the last level alone, unless there are newer ones over them.
   * `whole`: a deletion of nothing at both ends makes one that goes over all of them.
   */
  async #merge(tier: Tier, { whole }: { whole: boolean }): Promise<void> {
    const { database, channelCount } = this.#options;
    const all = channelCount();
    const bytes = await database.approximateBytes(prefixRange(tier.prefix));
    const parts = Math.min(all, Math.ceil(bytes / MERGED_BYTES) || 1);
    for (let part = 0; part < parts && !this.#stopped; part++) {
      const [from, to] = [part, part + 1].map((n) => Math.floor((all * n) / parts));
      const range = { gte: rangeOf(tier, from ?? 0, EVER).gte, lt: rangeOf(tier, to ?? all, EVER).gte };
      // No chunk has such a key, with a byte more than its address.
      if (whole) await this.#write([range.gte, rangeOf(tier, (to ?? all) - 1, EVER).lt].map(deletionBehind));
      await database.compact(range);
    }
  }

  #reportHopeless(bytes: number): void {
    const { clock, log, limits } = this.#options;
    this.#hopelessMs = clock.monotonicMs();
    if (this.#saidHopeless) return;
    this.#saidHopeless = true;
    const [size, bound] = [bytes, limits.maxBytes].map((each) => `${(each / MIB).toFixed(1)} MiB`);
    const left = 'audit entries, alerts, actions and recordings are all that is left';
    log.warn(`The store takes ${size}, more than its ${bound}, and has no samples to delete: ${left}`, {
      event: 'store.over_bound',
      bytes,
      maxBytes: limits.maxBytes,
    });
  }
}

const EVER: Stretch = { fromMs: 0, toMs: MAX_AT_MS };

function rangeOf({ prefix }: Tier, channel: number, stretch: Stretch): KeyRange {
  return prefix === PREFIX.minuteSeries ? minutesRange(channel, stretch) : chunkRange(prefix, channel, stretch);
}

function deletionBehind(key: Buffer): Operation {
  return { type: 'del', key: nextKey(key) };
}
