/**
 * The seconds of raw samples that format 1 of the database left: it kept nothing else, for six hours, and what has no seconds is gone
 * with its samples. They are made once, beside the running agent, after a migration has noted it (migrations.ts).
 *
 * The note holds the last run of the earlier format, and is removed when all is surely on disk. Interrupted, the work begins anew at
 * the next start and writes the same.
 */
import { reason } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import { decodeChunk } from './chunk.js';
import type { Database, Operation } from './database.js';
import { chunkAddress, chunkStartAtMs, PREFIX, prefixRange, textKey } from './keys.js';
import { slicesOf } from './slices.js';
import type { Tiers } from './tiers.js';
import type { Writer } from './writer.js';

/** Its value is the number of the last run of format 1. */
export const FORMER_SECONDS_KEY = textKey(PREFIX.meta, 'former-seconds');
/** Measured: a chunk takes 0.1 ms, so that a batch and its pause are an eighth of a core, and six hours of 64 channels 20 s. */
const CHUNKS_PER_BATCH = 64;
const PAUSE_MS = 50;
/** Shorter than a tick. */
const SLICE_MS = 2;
const SAY_EVERY_CHUNKS = 10_000;

export interface FormerSecondsOptions {
  readonly database: Database;
  readonly writer: Pick<Writer, 'putSynced'>;
  readonly onClosed: Tiers['onClosed'];
  readonly log: Log;
}

export class FormerSeconds {
  readonly #options: FormerSecondsOptions;
  #stopped = false;

  constructor(options: FormerSecondsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#run().catch((error: unknown) => {
      // A database that is being closed, or opened anew, ends the scan: what is left is made at the next start.
      if (this.#stopped) return;
      const message = `The seconds of earlier samples are not made yet: ${reason(error)}`;
      this.#options.log.warn(message, { event: 'store.migrating', error });
    });
  }

  stop(): void {
    this.#stopped = true;
  }

  async #run(): Promise<void> {
    const { database, writer, log } = this.#options;
    const note = await database.get(FORMER_SECONDS_KEY);
    if (note === undefined) return;
    const lastRun = Number(note.toString('utf8'));
    const rest = slicesOf(SLICE_MS);
    let batch: Operation[] = [];
    let chunks = 0;
    for await (const [key, value] of database.scan(prefixRange(PREFIX.rawSeries))) {
      if (this.#stopped) return;
      if (chunkAddress(key).run > lastRun) continue;
      batch.push(...this.#secondsOf(key, value));
      if (++chunks % SAY_EVERY_CHUNKS === 0) {
        log.info(`Seconds of ${chunks} chunks of earlier samples are made`, { event: 'store.migrating' });
      }
      await rest();
      if (batch.length < CHUNKS_PER_BATCH) continue;
      await writer.putSynced(batch);
      batch = [];
      await pause();
    }
    if (this.#stopped) return;
    await writer.putSynced([...batch, { type: 'del', key: FORMER_SECONDS_KEY }]);
    log.info(`Seconds of all ${chunks} chunks of earlier samples are made`);
  }

  /** None of a chunk that is damaged: who reads it will say so. */
  #secondsOf(key: Buffer, value: Buffer): readonly Operation[] {
    try {
      const samples = decodeChunk(value, chunkStartAtMs(key));
      return this.#options.onClosed({ address: chunkAddress(key), samples });
    } catch (error) {
      if (error instanceof RangeError) return [];
      throw error;
    }
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, PAUSE_MS).unref();
  });
}
