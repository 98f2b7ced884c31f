/**
 * Episodes: records with a beginning, versions, and an end, such as alerts and actions. The latest version counts.
 *
 * The history is keyed by the time of the beginning and bounded by count. Those that are open are also kept in memory and
 * under a prefix of their own, so that they are known at once after a start, and answered while the disk is gone. A
 * version of an open episode is filed under the beginning that it was first put with.
 */
import type { Log } from '../core/ports.js';
import type { Database } from './database.js';
import { historyKey, type Prefix, prefixRange, textKey } from './keys.js';
import { FaultReport, isTooNew, parseRecord, recordText } from './record-form.js';
import type { Writer } from './writer.js';

/** Of the stored form. Version 1 is the bare record of format 1 too. */
const VERSION = 1;
/** Open at once; more than every rule on every channel of a large node. Beyond it the oldest is history only. */
const MAX_OPEN = 4_096;
/** Records deleted per step of retention. */
const MAX_DELETED_PER_STEP = 500;

export interface EpisodesOptions<T> {
  readonly database: Database;
  readonly writer: Writer;
  readonly log: Log;
  readonly history: Prefix;
  readonly open: Prefix;
  /** Records of the history to keep. */
  readonly keep: number;
  id(record: T): string;
  startedAtMs(record: T): number;
  isOpen(record: T): boolean;
}

interface Filed<T> {
  readonly startedAtMs: number;
  readonly record: T;
}

export class Episodes<T> {
  readonly #options: EpisodesOptions<T>;
  readonly #open = new Map<string, Filed<T>>();
  readonly #faults: FaultReport;
  #putSinceTrim = 0;

  constructor(options: EpisodesOptions<T>) {
    this.#options = options;
    this.#faults = new FaultReport(options.log);
  }

  async start(): Promise<void> {
    for await (const [key, value] of this.#options.database.scan(prefixRange(this.#options.open))) {
      const filed = this.#parse<Filed<T>>(key, value, (each) => this.#isWhole(each.record));
      if (filed !== undefined) this.#open.set(this.#options.id(filed.record), filed);
    }
  }

  put(record: T): void {
    const id = this.#options.id(record);
    const startedAtMs = this.#open.get(id)?.startedAtMs ?? this.#options.startedAtMs(record);
    const value = Buffer.from(recordText(VERSION, record), 'utf8');
    const key = historyKey(this.#options.history, { startedAtMs, id });
    this.#options.writer.putRecord({ type: 'put', key, value });
    if (this.#options.isOpen(record)) this.#keepOpen(id, { startedAtMs, record });
    else this.#forgetOpen(id);
    this.#putSinceTrim++;
  }

  /** Open ones, newest first. From memory. */
  openOnes(limit: number): T[] {
    const newest = [...this.#open.values()].sort((a, b) => b.startedAtMs - a.startedAtMs);
    return newest.slice(0, Math.max(0, limit)).map(({ record }) => record);
  }

  /** All of them, newest first. */
  async newest(limit: number): Promise<T[]> {
    const most = Math.min(Math.max(0, Math.floor(limit)), this.#options.keep);
    if (most === 0) return [];
    const range = { ...prefixRange(this.#options.history), reverse: true, limit: most };
    const entries = await this.#options.writer.range(range);
    return entries.flatMap(([key, value]) => this.#parse<T>(key, value, (each) => this.#isWhole(each)) ?? []);
  }

  /** One step of retention, when enough was put to make it worth the scan. */
  async trim(): Promise<void> {
    if (this.#putSinceTrim < MAX_DELETED_PER_STEP / 2) return;
    this.#putSinceTrim = 0;
    let position = 0;
    let deleted = 0;
    for await (const [key] of this.#options.database.scan({ ...prefixRange(this.#options.history), reverse: true })) {
      if (++position <= this.#options.keep) continue;
      if (++deleted > MAX_DELETED_PER_STEP) break;
      this.#options.writer.putRecord({ type: 'del', key });
    }
  }

  /** The database is a new one: what memory knows is written again. */
  republish(): void {
    for (const { record } of this.#open.values()) this.put(record);
  }

  #keepOpen(id: string, filed: Filed<T>): void {
    this.#open.delete(id);
    this.#open.set(id, structuredClone(filed));
    const value = Buffer.from(recordText(VERSION, filed), 'utf8');
    this.#options.writer.putRecord({ type: 'put', key: textKey(this.#options.open, id), value });
    const [oldest] = this.#open.keys();
    if (this.#open.size > MAX_OPEN && oldest !== undefined) this.#forgetOpen(oldest);
  }

  #forgetOpen(id: string): void {
    if (this.#open.delete(id)) this.#options.writer.putRecord({ type: 'del', key: textKey(this.#options.open, id) });
  }

  /** As much as is asked of a record before others see it: what this agent wrote itself has the form of its version. */
  #isWhole(record: T | undefined): boolean {
    if (typeof record !== 'object' || record === null) return false;
    return typeof this.#options.id(record) === 'string' && Number.isFinite(this.#options.startedAtMs(record));
  }

  #parse<R>(key: Buffer, value: Buffer, isWhole: (found: R) => boolean): R | undefined {
    const found = parseRecord(value);
    const fault = 'fault' in found ? found.fault : isTooNew(found.version, VERSION);
    if ('record' in found && fault === undefined && isWhole(found.record as R)) return found.record as R;
    this.#faults.say({ key, value, fault: fault ?? 'it lacks its id or its beginning' });
    return undefined;
  }
}
