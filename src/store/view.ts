/**
 * A few ranges of the database as they were at one moment, with what waited for the disk then: scans that take their time, while
 * chunks close, minutes are made of seconds and old ones are deleted, fit together. Close it: a snapshot keeps LevelDB from
 * dropping what was deleted since.
 */
import type { Database, Operation, ScanOptions, Snapshot } from './database.js';
import { keyText } from './keys.js';

export class View {
  readonly #database: Database;
  readonly #snapshot: Snapshot;
  /** In the order of keys. */
  readonly #waiting: readonly (readonly [string, Operation])[];

  /** `waiting` by keyText(), of the ranges that will be scanned. Throws SKOS_STORE_READ. */
  constructor(database: Database, waiting: readonly (readonly [string, Operation])[]) {
    this.#database = database;
    this.#waiting = [...waiting].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    this.#snapshot = database.snapshot();
  }

  /** In key order, or the reverse. Rejects with SKOS_STORE_READ. */
  async *scan(options: Omit<ScanOptions, 'snapshot'>): AsyncGenerator<[Buffer, Buffer], void, undefined> {
    let left = options.limit ?? Number.POSITIVE_INFINITY;
    if (left <= 0) return;
    for await (const entry of this.#merged(options)) {
      yield entry;
      if (--left <= 0) return;
    }
  }

  async *#merged(options: Omit<ScanOptions, 'snapshot'>): AsyncGenerator<[Buffer, Buffer], void, undefined> {
    const { reverse = false, limit } = options;
    const waiting = this.#within(options);
    if (reverse) waiting.reverse();
    let next = 0;
    // What waits may replace or delete as many of those on disk.
    const stored = limit === undefined ? {} : { limit: limit + waiting.length };
    for await (const entry of this.#database.scan({ ...options, ...stored, snapshot: this.#snapshot })) {
      const text = keyText(entry[0]);
      const from = next;
      while (next < waiting.length && isBefore(waiting[next]?.[0] ?? '', text, reverse)) next++;
      yield* puts(waiting.slice(from, next));
      if (waiting[next]?.[0] === text) yield* puts(waiting.slice(next, ++next));
      else yield entry;
    }
    yield* puts(waiting.slice(next));
  }

  close(): Promise<void> {
    return this.#snapshot.close();
  }

  #within({ gte, lt }: ScanOptions): (readonly [string, Operation])[] {
    const [from, to] = [keyText(gte), keyText(lt)];
    return this.#waiting.filter(([key]) => key >= from && key < to);
  }
}

function isBefore(a: string, b: string, reverse: boolean): boolean {
  return reverse ? a > b : a < b;
}

function* puts(waiting: readonly (readonly [string, Operation])[]): Generator<[Buffer, Buffer]> {
  for (const [, operation] of waiting) if (operation.type === 'put') yield [operation.key, operation.value];
}
