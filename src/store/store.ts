/**
 * The store: everything that the agent remembers, over one LevelDB database under `data_dir`. This file only composes;
 * what is written when is said in writer.ts, how it is chained in audit.ts, how samples are kept in time-series.ts.
 *
 * A database that cannot be opened makes start() reject with a coded error; the agent then runs on a MemoryStore. One that
 * fails later is retried behind the scenes, and health() says so.
 */
import { join } from 'node:path';
import type { Channel, Quality } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import { isDoneWithin } from '../core/deadline.js';
import { reason } from '../core/errors.js';
import type {
  ActionRecord,
  Alert,
  History,
  Log,
  RecordKind,
  RecordSnapshot,
  Store,
  StoredChannel,
} from '../core/ports.js';
import { ActionRecords } from './actions.js';
import { AlertRecords } from './alerts.js';
import { AuditChain } from './audit.js';
import { RecordStream, writeBackup } from './backup.js';
import type { ChannelDictionary } from './channel-dictionary.js';
import { DamageReport } from './channel-view.js';
import type { Samples } from './chunk.js';
import { Database, type SetAsideDatabase } from './database.js';
import { FormerSeconds } from './former-seconds.js';
import { HeadMark } from './head-mark.js';
import type { StoreHealth } from './health.js';
import { StoredHistory } from './history.js';
import { Keyring } from './keyring.js';
import { PREFIX, prefixRange, recordingNumber } from './keys.js';
import { DEFAULT_LIMITS, type StoreLimits } from './limits.js';
import { migrate } from './migrations.js';
import { OUTBOX_LIMITS, OutboxQueues, type OutboxShelf } from './outbox.js';
import { DatabaseShelf } from './recording-shelf.js';
import { MAX_RECORDINGS, MAX_RECORDINGS_BYTES, Recordings } from './recordings.js';
import { TypedRecords } from './records.js';
import { finishRestore, tellRestores } from './restore-commit.js';
import { Retention } from './retention.js';
import { Salvage } from './salvage.js';
import { StateRecords } from './state.js';
import { Tiers } from './tiers.js';
import { type AddressedSamples, TimeSeries } from './time-series.js';
import { Writer } from './writer.js';

/** What the last writes and closing may take: systemd gives the agent longer, and a hanging disk no more than this. */
export const STOP_DEADLINE_MS = 5_000;
/** What a snapshot waits for the disk: beyond it the disk is broken, and a backup is wanted all the more. */
const SNAPSHOT_WAITS_MS = 10_000;
/** A step of retention is a few milliseconds; once a minute it keeps up with thousands of channels. */
const MAINTAIN_EVERY_MS = 60_000;
/** Numbers of recordings are 32 bits wide, and a clock may say anything. */
const MAX_FIRST_RECORDING = 2 ** 31;
/** Of the bound on the whole database, the audit chain has a third: years of an ordinary node. */
const AUDIT_PART = 3;

export interface StoreOptions {
  readonly dataDir: string;
  readonly log: Log;
  readonly clock: Clock;
  /** Default DEFAULT_LIMITS. */
  readonly limits?: StoreLimits;
  /** The node's name, for which the audit chain is signed. Absent: it is not signed. */
  readonly node?: string;
  /** Default STOP_DEADLINE_MS. */
  readonly stopDeadlineMs?: number;
}

export class LevelStore implements Store {
  readonly audit: AuditChain;
  readonly recordings: Recordings;
  readonly history: History;
  readonly outbox: OutboxQueues;
  readonly #log: Log;
  readonly #dataDir: string;
  readonly #stopDeadlineMs: number;
  readonly #database: Database;
  readonly #writer: Writer;
  readonly #mark: HeadMark;
  readonly #alerts: AlertRecords;
  readonly #actions: ActionRecords;
  readonly #state: StateRecords;
  readonly #records = new Map<string, { republish(): void }>();
  readonly #series: TimeSeries;
  readonly #tiers: Tiers;
  readonly #formerSeconds: FormerSeconds;
  readonly #retention: Retention;
  readonly #shelf: DatabaseShelf;
  readonly #clock: Clock;
  readonly #salvage: Salvage;
  #maintenance: NodeJS.Timeout | undefined;
  #maintaining: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;
  #started = false;

  constructor({ dataDir, log, clock, limits = DEFAULT_LIMITS, node, stopDeadlineMs = STOP_DEADLINE_MS }: StoreOptions) {
    this.#log = log;
    this.#clock = clock;
    this.#dataDir = dataDir;
    this.#stopDeadlineMs = stopDeadlineMs;
    const database: Database = new Database(dataDir, {
      migrate: (opening) => migrate({ ...opening, dataDir, backup: saveTo, clock, log }),
    });
    const saveTo = (path: string) =>
      writeBackup({ database, path, node: node ?? null, atMs: clock.wallMs(), force: true });
    const onFresh = (damaged: SetAsideDatabase) => {
      this.#wasSetAside(damaged);
      this.#republish();
      this.#salvage.start();
    };
    const writer = new Writer({
      database,
      log,
      clock,
      onFresh,
      onQueuedDrop: (operation) => this.outbox.dropped(operation),
    });
    this.#database = database;
    this.#writer = writer;
    this.#mark = new HeadMark({ dataDir, onError: (error) => this.#reportMark(error) });
    this.audit = new AuditChain({
      database,
      mark: this.#mark,
      log,
      clock,
      wake: () => writer.wake(),
      ...(node === undefined ? {} : { keyring: new Keyring({ dataDir, node }) }),
      bound: { maxBytes: limits.maxBytes / AUDIT_PART, remove: (operation) => writer.putRecord(operation) },
    });
    this.#alerts = new AlertRecords({ database, writer, log });
    this.#actions = new ActionRecords({ database, writer, log });
    this.#state = new StateRecords(writer);
    const outboxShelf: OutboxShelf = {
      put: (operation) => writer.putQueued(operation),
      range: (options) => writer.range(options),
    };
    this.outbox = new OutboxQueues({ shelf: outboxShelf, limits: OUTBOX_LIMITS, clock, log });
    const damage = new DamageReport(log);
    const channelCount = () => this.#series.dictionary.nextNumber;
    this.#tiers = new Tiers({ writer, log, clock, damage, channelCount });
    const onClosed = (closed: AddressedSamples) => this.#tiers.onClosed(closed);
    this.#series = new TimeSeries({ dataDir, database, writer, log, clock, limits, onClosed });
    const { dictionary } = this.#series;
    this.history = new StoredHistory({ writer, clock, series: this.#series, dictionary, tiers: this.#tiers, damage });
    this.#retention = new Retention({
      database,
      writer,
      log,
      clock,
      limits,
      directories: [database.directory, join(dataDir, 'raw-log')],
      channelCount,
    });
    this.#shelf = new DatabaseShelf({ database, writer });
    const shelfLimits = { recordings: MAX_RECORDINGS, bytes: MAX_RECORDINGS_BYTES };
    this.recordings = new Recordings({ shelf: this.#shelf, limits: shelfLimits, log });
    this.#formerSeconds = new FormerSeconds({ database, writer, onClosed, log });
    this.#salvage = new Salvage({
      dataDir,
      database,
      writer,
      audit: this.audit,
      log,
      numberOf: (record) => numberOf(dictionary, record),
      onSeconds: (channel, atMs) => this.#tiers.restored(channel, atMs),
      onRecordings: (records) => this.recordings.restore(records),
      onOutboxItem: (queue, item) => this.outbox.put(queue, item),
    });
  }

  /** Rejects with SKOS_STORE_LOCKED, SKOS_STORE_VERSION, SKOS_STORE_MIGRATION, SKOS_STORE_OPEN or SKOS_STORE_READ, holding nothing. */
  async start(): Promise<void> {
    const notes = await finishRestore(this.#dataDir);
    const opened = await this.#database.open();
    try {
      if (opened.setAside !== undefined) this.#wasSetAside(opened.setAside);
      await this.audit.attach(opened);
      await this.#alerts.start();
      await this.#actions.start();
      await this.outbox.start(this.#database);
      await this.#series.start(opened.run);
      await this.#adoptRecordings();
    } catch (error) {
      await this.#series.stop();
      await this.#database.close();
      throw error;
    }
    this.#writer.start(this.audit);
    this.#tiers.start();
    this.audit.begin();
    void tellRestores({ notes, dataDir: this.#dataDir, audit: this.audit, log: this.#log });
    this.#salvage.start();
    this.#formerSeconds.start();
    this.#started = true;
    this.#maintenance = setInterval(() => void this.maintain(), MAINTAIN_EVERY_MS);
    this.#maintenance.unref();
  }

  /** Writes what waits and closes. Idempotent; returns after the deadline even when the disk hangs, and says so. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopInTime();
    return this.#stopping;
  }

  health(): StoreHealth {
    const trouble = this.#writer.trouble();
    const { state } = this.#salvage;
    const setAside = state === undefined ? {} : { setAside: state };
    // Not a failure of the store: only a power cut at this time would take more raw samples than it should.
    const rawLog = this.#series.trouble();
    const why = rawLog === '' ? 'open' : `open; raw samples are in memory only: ${rawLog}`;
    if (trouble === '') return { ok: true, why, ...setAside };
    const waiting = { records: this.#writer.waitingRecords, lost: this.#writer.droppedRecords };
    return { ok: false, why: `kept in memory and retried: ${trouble}`, waiting, ...setAside };
  }

  /**
   * All records up to now, to be read at leisure. What is on its way to the disk is waited for; where the disk takes no writes, the
   * snapshot is without it, and says so.
   */
  async snapshot(): Promise<RecordSnapshot> {
    const missing: string[] = [];
    const settled = this.#series.settle().then(() => this.#writer.putSynced([]));
    if (!(await isDoneWithin(settled, SNAPSHOT_WAITS_MS))) {
      missing.push(`raw samples and ${this.#writer.waitingRecords} records that the disk does not take`);
    }
    return RecordStream.open(this.#database, missing);
  }

  putAlert(alert: Alert): void {
    this.#alerts.put(alert);
  }

  alerts({ standing = false, limit }: { standing?: boolean; limit: number }): Promise<Alert[]> {
    return standing ? Promise.resolve(this.#alerts.openOnes(limit)) : this.#alerts.newest(limit);
  }

  putAction(action: ActionRecord): void {
    this.#actions.put(action);
  }

  actions({ limit }: { limit: number }): Promise<ActionRecord[]> {
    return this.#actions.newest(limit);
  }

  putState(key: string, value: unknown): void {
    this.#state.put(key, value);
  }

  state(key: string): Promise<unknown> {
    return this.#state.get(key);
  }

  records<T>(kind: RecordKind<T>): TypedRecords<T> {
    if (this.#records.has(kind.name)) throw new RangeError(`records "${kind.name}" are asked for twice`);
    const records = new TypedRecords(kind, { writer: this.#writer, log: this.#log });
    this.#records.set(kind.name, records);
    return records;
  }

  sample(channel: Channel, value: number | null, quality: Quality, atMs: number): void {
    this.#series.sample(channel, value, quality, atMs);
  }

  /** Stored samples of a channel in [fromMs, toMs), wall time, one chunk after the other. */
  range(channelId: string, window: { fromMs: number; toMs: number }): AsyncGenerator<Samples, void, undefined> {
    return this.#series.range(channelId, window);
  }

  /**
   * A bounded step of what keeps the store in shape: minutes are made of seconds, what is too old or too much is deleted. Once a
   * minute by itself. Never rejects.
   */
  maintain(): Promise<void> {
    this.#maintaining ??= this.#upkeep().finally(() => {
      this.#maintaining = undefined;
    });
    return this.#maintaining;
  }

  async #adoptRecordings(): Promise<void> {
    const records: (readonly [number, Buffer])[] = [];
    for await (const [key, value] of this.#database.scan(prefixRange(PREFIX.recording))) {
      records.push([recordingNumber(key), value]);
    }
    this.recordings.adopt(records, { first: Math.min(MAX_FIRST_RECORDING, Math.round(this.#clock.wallMs() / 1_000)) });
  }

  async #stopInTime(): Promise<void> {
    if (await isDoneWithin(this.#stopAll(), this.#stopDeadlineMs)) return;
    const lost = this.audit.abandon();
    const message = `The store did not close in ${this.#stopDeadlineMs / 1000} s; ${lost} audit entries are not recorded`;
    this.#log.error(message, { event: 'store.failed', code: 'SKOS_SHUTDOWN_DEADLINE', lost });
  }

  async #stopAll(): Promise<void> {
    this.audit.close();
    clearInterval(this.#maintenance);
    this.#salvage.stop();
    this.#formerSeconds.stop();
    await this.#maintaining;
    await Promise.all([this.#tiers.stop(), this.#retention.stop()]);
    await this.#series.stop();
    if (this.#started && !(await this.#writer.stop())) this.#reportLoss();
    await this.#mark.flush();
    await this.#database.close();
  }

  #reportLoss(): void {
    const audit = this.audit.abandon();
    const records = this.#writer.waitingRecords;
    this.#log.error(
      `The disk took no writes to the end: ${audit} audit entries and ${records} records are not recorded`,
      {
        event: 'store.failed',
        code: 'SKOS_STORE_WRITE',
      },
    );
  }

  async #upkeep(): Promise<void> {
    if (!this.health().ok) return;
    await this.#tiers.step();
    try {
      await this.#retention.step();
      await this.audit.trim();
      await this.#alerts.trim();
      await this.#actions.trim();
      this.outbox.trim();
      // Parts of recordings that are being put back are known only when all of them are there.
      if (this.#salvage.state?.state !== 'under way') await this.#shelf.trim(this.recordings.oldest);
    } catch (error) {
      this.#log.warn(`Old records could not be looked through: ${reason(error)}`, { event: 'store.trim', error });
    }
  }

  #wasSetAside({ path, why }: SetAsideDatabase): void {
    this.#log.error(`The database was damaged (${why}); it was set aside as ${path}`, {
      event: 'store.set_aside',
      path,
    });
    this.#salvage.setAside({ path, why });
  }

  #republish(): void {
    this.#alerts.republish();
    for (const records of this.#records.values()) records.republish();
    this.outbox.republish();
    this.#actions.republish();
    this.#series.republish();
    this.#tiers.republish();
    this.recordings.republish();
  }

  #reportMark(error: unknown): void {
    this.#log.warn(`The mark of the audit head was not written: ${reason(error)}`, { event: 'store.mark', error });
  }
}

/** The number of a channel that a damaged database knew. */
function numberOf(dictionary: ChannelDictionary, record: StoredChannel): number | undefined {
  const known = dictionary.numberOf(record.id);
  if (known !== undefined) return known;
  dictionary.add(record, record.firstAtMs);
  return dictionary.add(record, record.lastAtMs);
}

/** A started store. Rejects as LevelStore.start() does. */
export async function openStore(options: StoreOptions): Promise<LevelStore> {
  const store = new LevelStore(options);
  await store.start();
  return store;
}
