/** Where flight recordings lie: in the database, through the writer's queue, or in memory when there is none. */
import type { Database } from './database.js';
import {
  type KeyRange,
  nextKey,
  PREFIX,
  recordingKey,
  recordingPart,
  recordingPartKey,
  recordingPartRange,
} from './keys.js';
import type { Shelf } from './recordings.js';
import type { Writer } from './writer.js';

/** Read from disk at once: 64 KiB each. */
const PARTS_PER_READ = 16;
/** Deleted per step of retention; a recording has some hundred parts at most. */
const MAX_DELETED_PER_STEP = 200;
const PART_PREFIXES = [PREFIX.recordingChannels, PREFIX.recordingBlock] as const;

export class DatabaseShelf implements Shelf {
  readonly #database: Database;
  readonly #writer: Writer;
  /** Erased ones whose parts are still there. */
  readonly #erased: number[] = [];
  /** Parts before this recording are gone. */
  #trimmedTo = 0;

  constructor({ database, writer }: { database: Database; writer: Writer }) {
    this.#database = database;
    this.#writer = writer;
  }

  putState(recording: number, text: Buffer): void {
    this.#writer.putRecord({ type: 'put', key: recordingKey(recording), value: text });
  }

  /** A record, not a sample: without it the samples of its channels could not be read. */
  putChannels(recording: number, first: number, text: Buffer): void {
    const key = recordingPartKey(PREFIX.recordingChannels, { recording, part: first });
    this.#writer.putRecord({ type: 'put', key, value: text });
  }

  putBlock(recording: number, block: number, bytes: Buffer): void {
    const key = recordingPartKey(PREFIX.recordingBlock, { recording, part: block });
    this.#writer.putSamples({ type: 'put', key, value: bytes });
  }

  async *channels(recording: number): AsyncGenerator<readonly [number, Buffer], void, undefined> {
    const range = recordingPartRange(PREFIX.recordingChannels, { from: recording, to: recording + 1 });
    for await (const [key, value] of this.#parts(range)) yield [recordingPart(key), value];
  }

  async *blocks(recording: number): AsyncGenerator<Buffer, void, undefined> {
    const range = recordingPartRange(PREFIX.recordingBlock, { from: recording, to: recording + 1 });
    for await (const [, value] of this.#parts(range)) yield value;
  }

  erase(recording: number): void {
    this.#writer.putRecord({ type: 'del', key: recordingKey(recording) });
    this.#erased.push(recording);
  }

  /** One step of retention: deletes parts of what was erased, also by an earlier process: `oldest` is the oldest one kept. */
  async trim(oldest: number): Promise<void> {
    if (oldest <= this.#trimmedTo && this.#erased.length === 0) return;
    let left = MAX_DELETED_PER_STEP;
    const erased = this.#erased.length;
    const later = this.#erased.filter((recording) => recording >= oldest);
    const ranges = [{ from: 0, to: oldest }, ...later.map((from) => ({ from, to: from + 1 }))];
    for (const range of ranges) {
      for (const prefix of PART_PREFIXES) {
        for await (const [key] of this.#database.scan({ ...recordingPartRange(prefix, range), limit: left })) {
          this.#writer.putSamples({ type: 'del', key });
          left--;
        }
        if (left <= 0) return;
      }
    }
    this.#erased.splice(0, erased);
    this.#trimmedTo = oldest;
  }

  async *#parts({ gte: first, lt }: KeyRange): AsyncGenerator<[Buffer, Buffer], void, undefined> {
    let gte = first;
    for (;;) {
      const parts = await this.#writer.range({ gte, lt, limit: PARTS_PER_READ });
      yield* parts;
      const last = parts.at(-1);
      if (last === undefined || parts.length < PARTS_PER_READ) return;
      gte = nextKey(last[0]);
    }
  }
}

interface Box {
  readonly channels: (readonly [number, Buffer])[];
  readonly blocks: Buffer[];
}

export class MemoryShelf implements Shelf {
  readonly #boxes = new Map<number, Box>();

  /** The book itself knows it for as long as the process lives. */
  putState(): void {}

  putChannels(recording: number, first: number, text: Buffer): void {
    this.#box(recording).channels.push([first, text]);
  }

  putBlock(recording: number, _block: number, bytes: Buffer): void {
    this.#box(recording).blocks.push(bytes);
  }

  async *channels(recording: number): AsyncGenerator<readonly [number, Buffer], void, undefined> {
    yield* this.#boxes.get(recording)?.channels ?? [];
  }

  async *blocks(recording: number): AsyncGenerator<Buffer, void, undefined> {
    yield* this.#boxes.get(recording)?.blocks ?? [];
  }

  erase(recording: number): void {
    this.#boxes.delete(recording);
  }

  #box(recording: number): Box {
    const box = this.#boxes.get(recording) ?? { channels: [], blocks: [] };
    this.#boxes.set(recording, box);
    return box;
  }
}
