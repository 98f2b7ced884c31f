/**
 * The raw log: what is in the heads and not in the database yet, as files below `raw-log/`, so that a kill or a power cut takes
 * no more samples than those since the last flush: `store.flush_seconds` and the write itself.
 *
 * A file, a _segment_, is called RUN-N.log and is blocks one after the other (raw-log-block.ts says what a block is); each flush
 * appends what the heads grew by and syncs it. What does not parse is the end: a torn tail is never appended to.
 *
 * A segment begins with the whole stream of every head that there is then, live or waiting to be encoded. So as soon as it is
 * synced, nothing before it is needed: what is in an earlier segment is in this one too, or in the database, synced (putSynced() of
 * the writer: a head leaves memory only then). The earlier ones are removed, and the log is one segment, two for a moment. A new one is
 * begun when the hour is over, when heads have just ended and are short; when the segment has grown; and after a failure.
 *
 * When a write fails, the log is left alone until the next flush begins a new segment: nobody waits for it, memory goes on. That is
 * said when it begins and when it is over.
 *
 * Calls of append() must not overlap.
 */
import { type FileHandle, mkdir, open, readdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { syncDirectory } from '../core/atomic-file.js';
import type { Clock } from '../core/clock.js';
import { reason, SkosError, systemCode } from '../core/errors.js';
import type { Log, StoredChannel } from '../core/ports.js';
import type { ChunkAddress } from './keys.js';
import type { Stream } from './raw-head.js';
import { BlockBuilder } from './raw-log-block.js';

/** Of all files together: two segments with the heads of 2,000 channels at 10 Hz. 64 channels at 10 Hz need 3 MiB. */
export const MAX_LOG_BYTES = 128 * 1024 * 1024;
/** A segment that has grown by this since it began is followed by a new one: an hour of 64 channels at 10 Hz is less. */
const SEGMENT_BYTES = 4 * 1024 * 1024;
const SEGMENT_MS = 3_600_000;
/** While segments are held a new one replaces nothing, and repeats what memory holds: seldom. */
const HELD_SEGMENT_BYTES = MAX_LOG_BYTES / 4;
/** Heads end with the hour; after so long they have. */
const AFTER_HOUR_MS = 30_000;
/** Files of earlier runs that are looked at; a run leaves two at most. */
const MAX_EARLIER_FILES = 1_000;

const NAME = /^(\d{1,10})-(\d{1,10})\.log$/;

/** A head, as the log sees it. */
export interface LoggedHead {
  readonly address: ChunkAddress;
  stream(): Stream;
  /** For the log alone: the segment that holds its first `loggedEnd` bytes. */
  loggedIn: number;
  loggedEnd: number;
}

interface Segment {
  readonly number: number;
  readonly path: string;
  readonly file: FileHandle;
  /** Channels that it describes. */
  readonly channels: Set<number>;
  readonly endsMs: number;
  bytes: number;
  /** What it began with. */
  firstBytes: number;
}

export interface RawLogOptions {
  readonly directory: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly describe: (channel: number) => StoredChannel | undefined;
}

export class RawLog {
  readonly #options: RawLogOptions;
  #run = 0;
  #nextNumber = 1;
  #listed: Promise<string[]> | undefined;
  #segment: Segment | undefined;
  /** Closed segments of this run that the next one replaces. */
  #former: { readonly path: string; readonly bytes: number }[] = [];
  /** Closed segments of this run with heads that are in no other place. */
  #kept: { readonly path: string; readonly bytes: number }[] = [];
  #held = false;
  #renew = false;
  #failure: { readonly why: string; readonly sinceMs: number } | undefined;

  constructor(options: RawLogOptions) {
    this.#options = options;
  }

  /** Does not wait for the disk. */
  start(run: number): void {
    this.#run = run;
    this.#listed = earlierFiles(this.#options);
  }

  /** Files of earlier runs, oldest first. */
  earlier(): Promise<readonly string[]> {
    return this.#listed ?? Promise.resolve([]);
  }

  /** Closed segments of this run that hold heads which are in no other place, oldest first. */
  kept(): string[] {
    return this.#kept.map(({ path }) => path);
  }

  /** Empty when all is well. */
  trouble(): string {
    return this.#failure?.why ?? '';
  }

  /** From now on what is logged is in no other place: no segment is removed until renew(). */
  hold(): void {
    this.#held = true;
  }

  /** The next append() begins a new segment; those before it are in kept() if they were held. */
  renew(): void {
    this.#renew = true;
  }

  /** Appends what the heads grew by; resolves when it is on disk, or when it is known that it cannot be now. Never rejects. */
  async append(heads: readonly LoggedHead[]): Promise<void> {
    try {
      // Names of this run must not be taken for those of earlier ones.
      await this.#listed;
      if (this.#segment === undefined && this.#former.length === 0 && heads.length === 0) return;
      if (this.#segment === undefined || this.#isDone(this.#segment)) await this.#begin(heads);
      else await this.#grow(this.#segment, heads);
      this.#reportRecovery();
    } catch (error) {
      await this.#abandon();
      this.#reportFailure(error);
    }
  }

  /** Removes a file that was replayed. Never rejects: what stays is replayed again. */
  async remove(path: string): Promise<void> {
    this.#kept = this.#kept.filter((each) => each.path !== path);
    await unlink(path).catch(() => undefined);
  }

  /** `empty`: every head is in the database, synced. Idempotent. */
  async stop({ empty }: { empty: boolean }): Promise<void> {
    await this.#abandon();
    if (!empty) return;
    const done = this.#held ? [] : this.#former.splice(0);
    for (const { path } of done) await unlink(path).catch(() => undefined);
  }

  #isDone({ bytes, firstBytes, endsMs }: Segment): boolean {
    // What it began with is counted twice, so that with many channels it is not begun again and again.
    const grown = bytes - firstBytes >= Math.max(SEGMENT_BYTES, firstBytes);
    if (this.#renew) return true;
    if (this.#held) return bytes >= HELD_SEGMENT_BYTES;
    return grown || this.#options.clock.monotonicMs() >= endsMs;
  }

  /** A new segment with all that the heads hold; what it replaces is removed. */
  async #begin(heads: readonly LoggedHead[]): Promise<void> {
    await this.#abandon();
    await this.#makeRoom();
    const segment = await this.#create();
    try {
      await this.#grow(segment, heads);
      segment.firstBytes = segment.bytes;
      await syncDirectory(this.#options.directory);
    } catch (error) {
      // All that it holds is in memory and, before the failure, in the segment before.
      await segment.file.close().catch(() => undefined);
      await unlink(segment.path).catch(() => undefined);
      throw error;
    }
    this.#segment = segment;
    const former = this.#former.splice(0);
    if (this.#held) this.#kept.push(...former);
    else for (const { path } of former) await unlink(path).catch(() => undefined);
    if (this.#renew) this.#held = false;
    this.#renew = false;
  }

  async #create(): Promise<Segment> {
    const { directory, clock } = this.#options;
    if ((await mkdir(directory, { recursive: true, mode: 0o700 })) !== undefined)
      await syncDirectory(dirname(directory));
    const wallMs = clock.wallMs();
    const untilHourMs = SEGMENT_MS - (((wallMs % SEGMENT_MS) + SEGMENT_MS) % SEGMENT_MS);
    const endsMs = clock.monotonicMs() + untilHourMs + AFTER_HOUR_MS;
    for (;;) {
      const number = this.#nextNumber++;
      const path = join(directory, `${this.#run}-${number}.log`);
      try {
        // A database that was begun anew counts its runs from 1 again: the name may be taken.
        const file = await open(path, 'wx', 0o600);
        return { number, path, file, channels: new Set(), endsMs, bytes: 0, firstBytes: 0 };
      } catch (error) {
        if (systemCode(error) !== 'EEXIST') throw error;
      }
    }
  }

  /** Blocks with what the segment does not have yet, then one sync. */
  async #grow(segment: Segment, heads: readonly LoggedHead[]): Promise<void> {
    const builder = new BlockBuilder(this.#run);
    const before = segment.bytes;
    for (const head of heads) {
      this.#add(segment, head, builder);
      if (builder.full) await this.#write(segment, builder);
    }
    if (!builder.empty) await this.#write(segment, builder);
    if (segment.bytes > before) await segment.file.datasync();
  }

  #add(segment: Segment, head: LoggedHead, builder: BlockBuilder): void {
    const { bytes, count } = head.stream();
    const offset = head.loggedIn === segment.number ? head.loggedEnd : 0;
    // A head that went to the database meanwhile is empty.
    if (bytes.length <= offset) return;
    const { channel } = head.address;
    if (!segment.channels.has(channel)) {
      const record = this.#options.describe(channel);
      if (record === undefined || !builder.channel(channel, record)) return;
      segment.channels.add(channel);
    }
    builder.piece({ address: head.address, offset, count, bytes: bytes.subarray(offset) });
    // Counts as written from here on: when it is not, the segment ends, and the next begins with everything.
    head.loggedIn = segment.number;
    head.loggedEnd = bytes.length;
  }

  async #write(segment: Segment, builder: BlockBuilder): Promise<void> {
    const block = builder.take();
    if (segment.bytes + block.length + this.#bytes() > MAX_LOG_BYTES) {
      throw new SkosError('SKOS_STORE_WRITE', `the raw log would be larger than ${MAX_LOG_BYTES} bytes`);
    }
    // A disk that becomes full takes a part first, and fails at the next.
    for (let at = 0; at < block.length; ) at += (await segment.file.write(block, at, block.length - at)).bytesWritten;
    segment.bytes += block.length;
  }

  /** Of the segments that are closed. */
  #bytes(): number {
    return [...this.#former, ...this.#kept].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** What was kept for a database that takes no writes gives way to what is new, the oldest first. */
  async #makeRoom(): Promise<void> {
    let lost = 0;
    while (this.#bytes() > MAX_LOG_BYTES / 2) {
      const oldest = this.#kept.shift();
      if (oldest === undefined) break;
      await unlink(oldest.path).catch(() => undefined);
      lost++;
    }
    if (lost === 0) return;
    const message = `The raw log is full: ${lost} of its files, the oldest, were removed before the database took them`;
    this.#options.log.warn(message, { event: 'store.raw_log', code: 'SKOS_STORE_WRITE', lost });
  }

  /** Nothing is appended to the present segment any more. */
  async #abandon(): Promise<void> {
    const segment = this.#segment;
    if (segment === undefined) return;
    this.#segment = undefined;
    this.#former.push({ path: segment.path, bytes: segment.bytes });
    await segment.file.close().catch(() => undefined);
  }

  #reportFailure(error: unknown): void {
    const why = reason(error);
    if (this.#failure === undefined) {
      const message = `Raw samples are in memory only: ${why}`;
      this.#options.log.error(message, { event: 'store.raw_log', code: 'SKOS_STORE_WRITE', error });
    }
    this.#failure = { why, sinceMs: this.#failure?.sinceMs ?? this.#options.clock.monotonicMs() };
  }

  #reportRecovery(): void {
    if (this.#failure === undefined) return;
    const seconds = Math.round((this.#options.clock.monotonicMs() - this.#failure.sinceMs) / 1000);
    this.#failure = undefined;
    this.#options.log.warn(`Raw samples are on disk again after ${seconds} s`, { event: 'store.raw_log_recovered' });
  }
}

/** In the order in which they were begun. A directory that cannot be listed has none. */
async function earlierFiles({ directory, log }: RawLogOptions): Promise<string[]> {
  try {
    const names = (await readdir(directory)).filter((name) => NAME.test(name));
    const order = (name: string) => (NAME.exec(name) ?? []).slice(1).map(Number);
    const files = names.map((name) => ({ name, order: order(name) }));
    files.sort((a, b) => (a.order[0] ?? 0) - (b.order[0] ?? 0) || (a.order[1] ?? 0) - (b.order[1] ?? 0));
    // The newest have what counts: each segment begins with all that was not in the database.
    return files.slice(-MAX_EARLIER_FILES).map(({ name }) => join(directory, name));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    log.warn(`The raw log cannot be listed: ${reason(error)}`, { event: 'store.raw_log', code: 'SKOS_STORE_READ' });
    return [];
  }
}
