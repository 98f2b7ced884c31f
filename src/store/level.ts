/** LevelDB as the store uses it: opening a directory, reading in the order of keys, what its errors mean. */
import { Level } from 'level';
import { systemCode } from '../core/errors.js';

export type LevelHandle = Level<Buffer, Buffer>;
/** LevelDB's own, and what `level` adds. */
type LevelOptions = NonNullable<ConstructorParameters<typeof Level<Buffer, Buffer>>[1]>;

export async function openLevel(directory: string, options: LevelOptions = {}): Promise<LevelHandle> {
  const level: LevelHandle = new Level(directory, { keyEncoding: 'buffer', valueEncoding: 'buffer', ...options });
  await level.open();
  return level;
}

export interface BatchOptions {
  /** Fetched per hop to a pool thread. */
  readonly entries: number;
  /** And so many bytes at the most; absent: LevelDB's own bound. */
  readonly highWaterMarkBytes?: number;
}

/** As it was at the first step. Scans are long and read once: they do not push out of the cache what is read again. */
export async function* batchesOf(
  level: LevelHandle,
  range: object,
  { entries, highWaterMarkBytes }: BatchOptions,
): AsyncGenerator<[Buffer, Buffer][], void, undefined> {
  const bound = highWaterMarkBytes === undefined ? {} : { highWaterMarkBytes };
  const iterator = level.iterator({ ...range, ...bound, fillCache: false });
  try {
    for (;;) {
      const batch = await iterator.nextv(entries);
      if (batch.length === 0) return;
      yield batch;
    }
  } finally {
    await iterator.close();
  }
}

/** Errors of LevelDB come wrapped; the innermost has the code and says what it is. */
export function rootCause(error: unknown): unknown {
  let current = error;
  while (current instanceof Error && current.cause !== undefined) current = current.cause;
  return current;
}

/** How a table ends (LevelDB's doc/table_format.md). */
export const TABLE_MAGIC = Buffer.from('57fb808b247547db', 'hex');

export function isTableName(name: string): boolean {
  return /^\d+\.(ldb|sst)$/.test(name);
}

/** Such as LEVEL_LOCKED; '' where there is none. */
export function levelCode(error: unknown): string {
  return systemCode(rootCause(error));
}
