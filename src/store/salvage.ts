/**
 * What can be read of a damaged database comes back: beside the running agent, the files of the one that was set aside are read
 * (level-files.ts) and what the new database lacks is put into it. The old directory is only read, never changed or deleted.
 *
 * - Audit entries: one stretch, linked entry by entry, of entries before the note with which the new chain began: the one
 *   that this note links to, else the longest. Numbers cannot collide, because the chain went on behind the last known head.
 * - Alerts, actions, state, typed records: those whose key is absent. Alerts and actions that stood are known at the next start.
 * - Samples: numbers of channels differ, so the key of each chunk gets the number that its channel has now; a dictionary that
 *   cannot be read leaves its channel's chunks behind. Of minutes that both have, those of more samples count.
 * - Recordings: with the numbers that they had; a new database gives others (recordings.ts).
 * - Outbox: what was not taken is put again, behind what waits, under new numbers: at least once.
 *
 * The new database says from its first write on that this is due, and later what came of it. Killed in the middle, it begins again:
 * everything but the outbox, which is the last step, is put only where it is absent. Memory: a batch, and a block of a handful of tables.
 */
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { reason } from '../core/errors.js';
import type { AuditEntry, AuditInput, AuditLog, Log, OutboxItem, StoredChannel } from '../core/ports.js';
import { hashFault, parseEntry, SALVAGE_KIND } from './audit-entry.js';
import { decodeBuckets, encodeBuckets } from './bucket-chunk.js';
import { type Buckets, MINUTE_MS, SECOND_MS } from './buckets.js';
import { isStoredChannel } from './channel-dictionary.js';
import { HOUR_MS, MINUTES_WINDOW_MS } from './channel-view.js';
import { RESTART_KIND } from './checkpoint.js';
import { chunkHeader } from './chunk.js';
import { type Database, FORMAT_VERSION, type Operation, type SetAsideDatabase } from './database.js';
import type { SetAside } from './health.js';
import {
  auditKey,
  auditSeq,
  channelNumber,
  chunkAddress,
  chunkKey,
  chunkStartAtMs,
  FORMAT_KEY,
  type KeyRange,
  minutesKey,
  nextKey,
  outboxQueueOf,
  outboxSeq,
  PREFIX,
  type Prefix,
  prefixRange,
  recordingNumber,
  SALVAGE_RANGE,
  salvageKey,
  salvageName,
} from './keys.js';
import { type LevelDamage, readLevelFiles } from './level-files.js';
import { fuller } from './points.js';
import { parseRecord } from './record-form.js';
import { slicesOf } from './slices.js';
import type { Writer } from './writer.js';

/** Put at once: a round of the writer, for which audit entries may have to wait, takes a few milliseconds with it. */
const BATCH_BYTES = 128 * 1024;
const BATCH_OPERATIONS = 64;
const SLICE_MS = 2;
/** Damages that are named one by one in the result; the others are counted. */
const MAX_NAMED = 20;
/** Of the marker: a database that was set aside this often has other troubles. */
const MAX_DUE = 8;
const MAX_MARKERS = 1_000;
/** Damages that are told apart; beyond it the same one may be counted for each range that meets it. */
const MAX_TOLD_APART = 10_000;
/** How often, and how long, the note with which the new chain begins is waited for: a disk may fail meanwhile. */
const NOTE_POLL_MS = 100;
const NOTE_WITHIN_MS = 600_000;

/** The least that a key of each kind has: whatever calls itself a database may be here. */
const KEY_BYTES: ReadonlyMap<string, number> = new Map<Prefix, number>([
  [PREFIX.audit, 9],
  [PREFIX.alertHistory, 10],
  [PREFIX.actionHistory, 10],
  [PREFIX.channel, 5],
  [PREFIX.rawSeries, 21],
  [PREFIX.secondSeries, 21],
  [PREFIX.minuteSeries, 13],
  [PREFIX.recording, 5],
  [PREFIX.recordingChannels, 9],
  [PREFIX.recordingBlock, 9],
  [PREFIX.outboxItem, 11],
]);
/** Windows of minutes are ten hours. */
const HOURS_PER_WINDOW = MINUTES_WINDOW_MS / HOUR_MS;

export interface SalvageOptions {
  readonly dataDir: string;
  readonly database: Database;
  readonly writer: Writer;
  readonly audit: Pick<AuditLog, 'append'>;
  readonly log: Log;
  /** The number of a channel in the new database; undefined when there are too many. */
  readonly numberOf: (record: StoredChannel) => number | undefined;
  /** Seconds of this time have come back: minutes may have to be made of them. */
  readonly onSeconds: (channel: number, atMs: number) => void;
  /** Recordings have come back. */
  readonly onRecordings: (records: readonly (readonly [number, Buffer])[]) => void;
  readonly onOutboxItem: (queue: string, item: Pick<OutboxItem, 'kind' | 'data'>) => void;
}

/** What became of one set-aside database. */
interface Tally {
  /** Records that were put, by the word of their kind. */
  readonly back: Record<string, number>;
  /** Of those that were found, how many no reader of ours would take. */
  unusable: number;
  damages: number;
  readonly named: string[];
  audit: { readonly fromSeq: number; readonly toSeq: number } | undefined;
  /** Entries before the note that are missing. */
  auditMissing: number;
}

/** A linked stretch of audit entries. */
interface Stretch {
  readonly fromSeq: number;
  toSeq: number;
  hash: string;
}

interface Due extends SetAsideDatabase {
  readonly name: string;
}

const KINDS: ReadonlyMap<Prefix, string> = new Map([
  [PREFIX.alertHistory, 'alerts'],
  [PREFIX.alertStanding, 'standing alerts'],
  [PREFIX.actionHistory, 'actions'],
  [PREFIX.actionOpen, 'open actions'],
  [PREFIX.state, 'state'],
  [PREFIX.named, 'typed records'],
]);

export class Salvage {
  readonly #options: SalvageOptions;
  #running: Promise<void> | undefined;
  #stopped = false;
  #state: SetAside | undefined;

  constructor(options: SalvageOptions) {
    this.#options = options;
  }

  /** The database that is being read, or was read last in this run. */
  get state(): SetAside | undefined {
    return this.#state;
  }

  /** A database was set aside now; the new one says that it is due. */
  setAside({ path, why }: SetAsideDatabase): void {
    this.#state = { path, why, salvage: 'what can be read of it will be put back', state: 'under way' };
  }

  /** Once the writer runs. Reads what is due, one database after the other, in the background. */
  start(): void {
    this.#running ??= this.#runAll().finally(() => {
      this.#running = undefined;
    });
  }

  /** What is not done yet is begun again at the next start. Does not wait for the disk. */
  stop(): void {
    this.#stopped = true;
  }

  async #runAll(): Promise<void> {
    const { log } = this.#options;
    try {
      for (let n = 0; n < MAX_DUE && !this.#stopped; n++) {
        const [due] = await this.#due();
        if (due === undefined) return;
        await this.#run(due);
      }
    } catch (error) {
      if (!this.#stopped)
        log.warn(`A set-aside database is read again later: ${reason(error)}`, { event: 'store.salvaged', error });
    }
  }

  async #due(): Promise<Due[]> {
    const { writer, dataDir } = this.#options;
    const found = await writer.range({ ...SALVAGE_RANGE, limit: MAX_MARKERS });
    return found.flatMap(([key, value]) => {
      const name = salvageName(key);
      const marker = parseRecord(value);
      if ('fault' in marker || basename(name) !== name) return [];
      const { state, why } = marker.record as { state?: unknown; why?: unknown };
      return state === 'due' ? [{ name, path: join(dataDir, name), why: String(why) }] : [];
    });
  }

  async #run(due: Due): Promise<void> {
    const { path, why, name } = due;
    this.#state = { path, why, salvage: 'what can be read of it is being put back', state: 'under way' };
    const reading = new Reading(this.#options, { ...due, stopped: () => this.#stopped });
    const tally = await reading.run();
    if (this.#stopped) return;
    const isWhole = tally.damages === 0 && tally.unusable === 0 && tally.auditMissing === 0;
    const salvage = inWords(tally, isWhole);
    const what: AuditInput['what'] = { path, ...tally };
    await this.#options.writer.putSynced([
      { type: 'put', key: salvageKey(name), value: Buffer.from(JSON.stringify({ state: 'done', ...what })) },
    ]);
    const level = isWhole ? 'info' : 'warn';
    this.#options.log[level](`Of the damaged database ${path}: ${salvage}`, { event: 'store.salvaged', path });
    // The chain may refuse it while the disk fails; the journal has it, and so has the marker.
    await this.#options.audit.append({ kind: SALVAGE_KIND, who: 'agent', what }).catch(() => undefined);
    this.#state = { path, why, salvage, state: isWhole ? 'whole' : 'missing' };
  }
}

function inWords({ back, damages, unusable, named, audit, auditMissing }: Tally, isWhole: boolean): string {
  const kinds = Object.entries(back).filter(([, count]) => count > 0);
  const found = kinds.length === 0 ? 'nothing was absent' : kinds.map(([kind, count]) => `${count} ${kind}`).join(', ');
  const entries = audit === undefined ? '' : ` (entries ${audit.fromSeq} to ${audit.toSeq} of the chain)`;
  if (isWhole) return `all of it could be read; put back: ${found}${entries}`;
  const lost = [
    ...(damages > 0 ? [`${damages} places could not be read, such as ${named[0] ?? ''}`] : []),
    ...(unusable > 0 ? [`${unusable} records could not be used`] : []),
    ...(auditMissing > 0 ? [`${auditMissing} audit entries are missing`] : []),
  ];
  return `put back: ${found}${entries}; ${lost.join('; ')}`;
}

/** One pass over one set-aside database. */
class Reading {
  readonly #options: SalvageOptions;
  readonly #path: string;
  readonly #stopped: () => boolean;
  readonly #pause = slicesOf(SLICE_MS);
  readonly #tally: Tally = { back: {}, unusable: 0, damages: 0, named: [], audit: undefined, auditMissing: 0 };
  readonly #said = new Set<string>();
  #batch: { kind: string; operation: Operation }[] = [];
  #batchBytes = 0;

  constructor(options: SalvageOptions, { path, stopped }: Due & { stopped: () => boolean }) {
    this.#options = options;
    this.#path = path;
    this.#stopped = stopped;
  }

  /** Rejects with SKOS_STORE_READ for the new database; the old one may be as damaged as it likes. */
  async run(): Promise<Tally> {
    try {
      // It must be there and be a directory; what is in it is looked at file by file.
      await readdir(this.#path);
    } catch (error) {
      this.#damaged({ file: basename(this.#path), why: reason(error) });
      return this.#tally;
    }
    if (!(await this.#isOurs())) return this.#tally;
    await this.#audit();
    for (const [prefix, kind] of KINDS) await this.#plain(prefix, kind);
    await this.#series();
    await this.#recordings();
    await this.#flush();
    await this.#outbox();
    return this.#tally;
  }

  /** False for a format that this program does not know. Where that cannot be read, each record speaks for itself. */
  async #isOurs(): Promise<boolean> {
    for await (const [, value] of this.#read({ gte: FORMAT_KEY, lt: nextKey(FORMAT_KEY) })) {
      const format = Number(value.toString('utf8'));
      if (format <= FORMAT_VERSION) return true;
      this.#damaged({
        file: basename(this.#path),
        why: `it has format ${format}; this version knows ${FORMAT_VERSION}`,
      });
      return false;
    }
    return true;
  }

  // ---- Audit entries ---------------------------------------------------------------------------------------------------

  async #audit(): Promise<void> {
    const note = await this.#note();
    if (note === undefined) return;
    const best = await this.#bestStretch(note);
    this.#tally.auditMissing = note.seq - 1 - (best === undefined ? 0 : best.toSeq - best.fromSeq + 1);
    if (best === undefined) return;
    this.#tally.audit = { fromSeq: best.fromSeq, toSeq: best.toSeq };
    // Where it links to the note and nothing was damaged, what is before it was removed by retention.
    const isLinked = best.toSeq === note.seq - 1 && best.hash === note.previous;
    if (isLinked && this.#tally.damages === 0) this.#tally.auditMissing = 0;
    for await (const [key, value] of this.#read({ gte: auditKey(best.fromSeq), lt: auditKey(best.toSeq + 1) })) {
      await this.#put('audit entries', { type: 'put', key, value });
    }
  }

  /**
   * The entry that says that this database was set aside; everything before it is of the old chain. An agent that was killed at that
   * moment has left it to the next to say that entries are missing, and that one does not know the name.
   */
  async #note(): Promise<AuditEntry | undefined> {
    const untilMs = performance.now() + NOTE_WITHIN_MS;
    while (!this.#stopped() && performance.now() < untilMs) {
      let nameless: AuditEntry | undefined;
      for await (const [, value] of this.#options.database.scan(prefixRange(PREFIX.audit))) {
        const entry = parseEntry(value);
        if (typeof entry === 'string' || entry.kind !== RESTART_KIND) continue;
        if (entry.what.setAside === null) nameless = entry;
        else if (basename(String(entry.what.setAside)) === basename(this.#path)) return entry;
      }
      if (nameless !== undefined) return nameless;
      // It is on its way to the disk.
      await new Promise((resolve) => setTimeout(resolve, NOTE_POLL_MS));
    }
    this.#damaged({ file: 'the new chain', why: 'it has no note of this database' });
    return undefined;
  }

  async #bestStretch(note: AuditEntry): Promise<Stretch | undefined> {
    let best: Stretch | undefined;
    let current: Stretch | undefined;
    const consider = () => {
      if (current === undefined) return;
      const isLinked = current.toSeq === note.seq - 1 && current.hash === note.previous;
      const length = (stretch: Stretch) => stretch.toSeq - stretch.fromSeq;
      if (best === undefined || isLinked || length(current) >= length(best)) best = current;
    };
    for await (const [key, value] of this.#read({ gte: prefixRange(PREFIX.audit).gte, lt: auditKey(note.seq) })) {
      const entry = parseEntry(value);
      const isSound = typeof entry !== 'string' && entry.seq === auditSeq(key) && hashFault(entry) === undefined;
      if (typeof entry === 'string' || !isSound) {
        this.#tally.unusable++;
        continue;
      }
      if (current !== undefined && entry.seq === current.toSeq + 1 && entry.previous === current.hash) {
        current.toSeq = entry.seq;
        current.hash = entry.hash;
      } else {
        consider();
        current = { fromSeq: entry.seq, toSeq: entry.seq, hash: entry.hash };
      }
      await this.#pause();
    }
    consider();
    return best;
  }

  // ---- Records ---------------------------------------------------------------------------------------------------------

  async #plain(prefix: Prefix, kind: string): Promise<void> {
    for await (const [key, value] of this.#read(prefixRange(prefix))) {
      if (isJson(value)) await this.#put(kind, { type: 'put', key, value });
      else this.#tally.unusable++;
    }
  }

  // ---- Samples ---------------------------------------------------------------------------------------------------------

  async #series(): Promise<void> {
    const numbers = new Map<number, number>();
    for await (const [key, value] of this.#read(prefixRange(PREFIX.channel))) {
      const record = parseRecord(value);
      const channel = 'fault' in record ? undefined : record.record;
      const number = isStoredChannel(channel) ? this.#options.numberOf(channel) : undefined;
      if (number === undefined) this.#tally.unusable++;
      else numbers.set(channelNumber(key), number);
    }
    await this.#chunks(PREFIX.rawSeries, {
      numbers,
      kind: 'raw chunks',
      isSound: (value) => chunkHeader(value).length > 0,
    });
    const isSound = (value: Buffer) => decodeBuckets(value, SECOND_MS).length > 0;
    await this.#chunks(PREFIX.secondSeries, { numbers, kind: 'chunks of seconds', isSound });
    await this.#minutes(numbers);
  }

  async #chunks(
    prefix: typeof PREFIX.rawSeries | typeof PREFIX.secondSeries,
    of: { numbers: ReadonlyMap<number, number>; kind: string; isSound: (value: Buffer) => boolean },
  ): Promise<void> {
    for await (const [key, value] of this.#read(prefixRange(prefix))) {
      const address = chunkAddress(key);
      const channel = of.numbers.get(address.channel);
      if (channel === undefined || !holds(() => of.isSound(value))) {
        this.#tally.unusable++;
        continue;
      }
      await this.#put(of.kind, { type: 'put', key: chunkKey(prefix, { ...address, channel }), value });
      if (prefix === PREFIX.secondSeries) this.#options.onSeconds(channel, address.startAtMs);
    }
  }

  async #minutes(numbers: ReadonlyMap<number, number>): Promise<void> {
    const kind = 'windows of minutes';
    for await (const [key, value] of this.#read(prefixRange(PREFIX.minuteSeries))) {
      const channel = numbers.get(key.readUInt32BE(1));
      const old = bucketsIn(value);
      if (channel === undefined || old === undefined) {
        this.#tally.unusable++;
        continue;
      }
      const target = minutesKey(channel, chunkStartAtMs(key));
      const present = await this.#options.writer.get(target);
      if (present === undefined) {
        await this.#put(kind, { type: 'put', key: target, value });
        continue;
      }
      const fresh = bucketsIn(present);
      if (fresh === undefined) continue;
      // Both have some of this window, in which the database was damaged.
      const merged = encodeBuckets(fuller(old, fresh), MINUTE_MS);
      if (!merged.equals(present)) this.#options.writer.putSamples({ type: 'put', key: target, value: merged });
      // Should minutes have been made meanwhile that this overwrites, they are made again.
      for (let hour = 0; hour < HOURS_PER_WINDOW; hour++) {
        this.#options.onSeconds(channel, chunkStartAtMs(key) + hour * HOUR_MS);
      }
      await this.#pause();
    }
  }

  // ---- Recordings ------------------------------------------------------------------------------------------------------

  /** The parts before the record itself, so that a recording is known only when it is there. */
  async #recordings(): Promise<void> {
    for (const prefix of [PREFIX.recordingChannels, PREFIX.recordingBlock]) {
      for await (const [key, value] of this.#read(prefixRange(prefix))) {
        await this.#put('parts of recordings', { type: 'put', key, value });
      }
    }
    await this.#flush();
    const found: (readonly [number, Buffer])[] = [];
    for await (const [key, value] of this.#read(prefixRange(PREFIX.recording))) {
      if (!isJson(value)) {
        this.#tally.unusable++;
        continue;
      }
      await this.#put('recordings', { type: 'put', key, value });
      found.push([recordingNumber(key), value]);
    }
    await this.#flush();
    if (!this.#stopped()) this.#options.onRecordings(found);
  }

  // ---- Outbox ----------------------------------------------------------------------------------------------------------

  async #outbox(): Promise<void> {
    const takenSeq = new Map<string, number>();
    for await (const [key, value] of this.#read(prefixRange(PREFIX.outboxQueue))) {
      const queue = parseRecord(value);
      if ('fault' in queue) this.#tally.unusable++;
      else
        takenSeq.set(key.subarray(1).toString('utf8'), Number((queue.record as { takenSeq?: unknown }).takenSeq) || 0);
    }
    let bytes = 0;
    for await (const [key, value] of this.#read(prefixRange(PREFIX.outboxItem))) {
      const queue = outboxQueueOf(key);
      if (outboxSeq(key) <= (takenSeq.get(queue) ?? 0)) continue;
      const item = parseRecord(value);
      const { kind, data } = 'fault' in item ? {} : (item.record as Partial<OutboxItem>);
      if (
        typeof kind !== 'string' ||
        data === undefined ||
        !holds(() => this.#options.onOutboxItem(queue, { kind, data }))
      ) {
        this.#tally.unusable++;
        continue;
      }
      this.#count('outbox items', 1);
      bytes += value.length;
      if (bytes >= BATCH_BYTES) {
        // The writer lets so many wait and no more: those before go to disk first.
        await this.#options.writer.putSynced([]);
        bytes = 0;
      }
      await this.#pause();
    }
  }

  // ---- Reading and putting ---------------------------------------------------------------------------------------------

  async *#read(range: KeyRange): AsyncGenerator<[Buffer, Buffer], void, undefined> {
    for await (const entry of readLevelFiles(this.#path, { range, onDamage: (damage) => this.#damaged(damage) })) {
      if (this.#stopped()) return;
      const [key] = entry;
      if (key.length >= (KEY_BYTES.get(key.toString('latin1', 0, 1)) ?? 2)) yield entry;
      else this.#tally.unusable++;
    }
  }

  /** The same place is met by each range that is read. */
  #damaged({ file, why }: LevelDamage): void {
    const text = `${file}: ${why}`;
    if (this.#said.has(text)) return;
    if (this.#said.size < MAX_TOLD_APART) this.#said.add(text);
    this.#tally.damages++;
    if (this.#tally.named.length < MAX_NAMED) this.#tally.named.push(text);
  }

  async #put(kind: string, operation: Operation): Promise<void> {
    this.#batch.push({ kind, operation });
    this.#batchBytes += operation.type === 'put' ? operation.value.length : 0;
    if (this.#batch.length >= BATCH_OPERATIONS || this.#batchBytes >= BATCH_BYTES) await this.#flush();
  }

  async #flush(): Promise<void> {
    const batch = this.#batch;
    this.#batch = [];
    this.#batchBytes = 0;
    if (this.#stopped()) return;
    for (const kind of new Set(batch.map((each) => each.kind))) {
      const operations = batch.filter((each) => each.kind === kind).map(({ operation }) => operation);
      this.#count(kind, await this.#options.writer.putAbsent(operations));
    }
  }

  #count(kind: string, count: number): void {
    this.#tally.back[kind] = (this.#tally.back[kind] ?? 0) + count;
  }
}

function bucketsIn(value: Buffer): Buckets | undefined {
  try {
    return decodeBuckets(value, MINUTE_MS);
  } catch {
    return undefined;
  }
}

function isJson(value: Buffer): boolean {
  return holds(() => typeof JSON.parse(value.toString('utf8')) === 'object');
}

/** False when it throws, too: what is read may be anything. */
function holds(condition: () => unknown): boolean {
  try {
    return condition() !== false;
  } catch {
    return false;
  }
}
