/** The same samples in SQLite, as WebAssembly: what a table of them takes on disk. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import sqlite from 'node-sqlite3-wasm';

export interface Stored {
  readonly atMs: Float64Array;
  /** Canonical unit, so that SQLite stores the shortest integer. */
  readonly values: Float64Array;
}

/** Bytes of a database with these series: sorted by channel and time, without a rowid, vacuumed. */
export function sqliteBytes(directory: string, series: readonly Stored[]): number {
  const file = join(directory, 'samples.sqlite');
  const database = new sqlite.Database(file);
  try {
    database.exec('PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF');
    database.exec(
      'CREATE TABLE sample (channel INTEGER, at INTEGER, value INTEGER, PRIMARY KEY (channel, at)) WITHOUT ROWID',
    );
    database.exec('BEGIN');
    const insert = database.prepare('INSERT INTO sample VALUES (?, ?, ?)');
    series.forEach(({ atMs, values }, channel) => {
      values.forEach((value, i) => {
        insert.run([channel, atMs[i] ?? 0, value]);
      });
    });
    insert.finalize();
    database.exec('COMMIT; VACUUM');
  } finally {
    database.close();
  }
  return statSync(file).size;
}
