/**
 * What the numbers of channels stand for: `d` channel:u32 → {"v":1,"record":{…}}. Keys of samples hold the number, so that a key
 * is short and an id may be long.
 *
 * A database of format 1 has the bare id there. Such a channel has its number, and its samples stay, but nobody can say in what unit
 * they are until it is seen again: until then get() and all() leave it out.
 *
 * When a channel was seen last is written about once an hour; in between it is known in memory.
 */
import { type Channel, DEVICE_CLASSES } from '../core/channel.js';
import type { Log, StoredChannel } from '../core/ports.js';
import { QUANTITIES } from '../core/units.js';
import type { Database } from './database.js';
import { channelKey, channelNumber, type KeyRange, PREFIX, type Prefix, prefixRange } from './keys.js';
import { parseRecord, recordText } from './record-form.js';
import type { Writer } from './writer.js';

/** Channels that may have a number; beyond it new ones are not stored, and that is said once. */
export const MAX_CHANNELS = 16_384;
/** A number beyond it is damage: numbers are given one by one, and whoever goes over all channels counts up to the last. */
const MAX_NUMBER = 1_000_000;
/** How far behind the stored time of the last sight may be: an hour, so that it costs some KiB a day. */
const SEEN_EVERY_MS = 3_600_000;
const RECORD_VERSION = 1;
/** A prefix and a number. */
const KEY_BYTES = 5;

/** Their keys begin with the number, too. */
const SERIES = [PREFIX.rawSeries, PREFIX.secondSeries, PREFIX.minuteSeries] as const;

/** What a number stands for, as far as it is known. */
interface Entry {
  readonly id: string;
  record: StoredChannel | undefined;
  /** `lastAtMs` as it was written. */
  writtenAtMs: number;
}

/** What is kept of a channel. */
type Described = Pick<Channel, 'id' | 'source' | 'device' | 'name' | 'label' | 'quantity' | 'class'>;

export interface ChannelDictionaryOptions {
  readonly database: Database;
  readonly writer: Writer;
  readonly log: Log;
}

export class ChannelDictionary {
  readonly #database: Database;
  readonly #writer: Writer;
  readonly #log: Log;
  readonly #numbers = new Map<string, number>();
  readonly #entries = new Map<number, Entry>();
  #nextNumber = 0;
  #saidFull = false;

  constructor({ database, writer, log }: ChannelDictionaryOptions) {
    this.#database = database;
    this.#writer = writer;
    this.#log = log;
  }

  /** Reads what is stored. Rejects with SKOS_STORE_READ. */
  async start(): Promise<void> {
    for await (const [key, value] of this.#database.scan(prefixRange(PREFIX.channel))) {
      const number = numberIn(key);
      this.#nextNumber = Math.max(this.#nextNumber, (number ?? -1) + 1);
      const entry = entryOf(value);
      if (number === undefined || entry === undefined) {
        const message = `The entry of channel ${number ?? 'without a number'} in the dictionary cannot be read; its samples are passed over`;
        this.#log.error(message, { event: 'store.damaged', code: 'SKOS_STORE_READ' });
        continue;
      }
      this.#numbers.set(entry.id, number);
      this.#entries.set(number, entry);
    }
    for (const prefix of SERIES) {
      // An entry that a failing disk has not taken, and whose samples it took, must not have its number given to another.
      for await (const [key] of this.#database.scan({ ...seriesRange(prefix), reverse: true, limit: 1 })) {
        this.#nextNumber = Math.max(this.#nextNumber, (numberIn(key) ?? -1) + 1);
      }
    }
  }

  /** Numbers are below it. */
  get nextNumber(): number {
    return this.#nextNumber;
  }

  numberOf(id: string): number | undefined {
    return this.#numbers.get(id);
  }

  /** Undefined for a number that nothing has, and for a channel of which only the id is known. */
  get(number: number): StoredChannel | undefined {
    return this.#entries.get(number)?.record;
  }

  all(): StoredChannel[] {
    return [...this.#entries.values()].flatMap(({ record }) => record ?? []);
  }

  /** The number of a channel that was seen just now; undefined when there are too many. Writes what has changed. */
  add(channel: Described, seenAtMs: number): number | undefined {
    const number = this.#numbers.get(channel.id) ?? this.#newNumber(channel.id);
    const entry = number === undefined ? undefined : this.#entries.get(number);
    if (number === undefined || entry === undefined) return undefined;
    const { id, source, device, name, label, quantity, class: deviceClass } = channel;
    const former = entry.record;
    const firstAtMs = Math.min(former?.firstAtMs ?? seenAtMs, seenAtMs);
    // What the clock says now, even if it said later before: a clock that was set years ahead must not leave its mark for ever.
    const lastAtMs = seenAtMs;
    entry.record = { id, source, device, name, label, quantity, class: deviceClass, firstAtMs, lastAtMs };
    const described = former?.label === label && former.quantity === quantity && former.class === deviceClass;
    const aged = Math.abs(lastAtMs - entry.writtenAtMs) >= SEEN_EVERY_MS;
    if (!described || firstAtMs < former.firstAtMs || aged) this.#put(number);
    return number;
  }

  /** The database is a new one: all is written again. */
  republish(): void {
    for (const number of this.#entries.keys()) this.#put(number);
  }

  #newNumber(id: string): number | undefined {
    if (this.#entries.size >= MAX_CHANNELS) {
      if (!this.#saidFull)
        this.#log.warn(`More than ${MAX_CHANNELS} channels were seen; new ones are not stored`, { channel: id });
      this.#saidFull = true;
      return undefined;
    }
    const number = this.#nextNumber++;
    this.#numbers.set(id, number);
    this.#entries.set(number, { id, record: undefined, writtenAtMs: 0 });
    return number;
  }

  #put(number: number): void {
    const entry = this.#entries.get(number);
    if (entry === undefined) return;
    // A channel of which only the id is known is written as it was found.
    const text = entry.record === undefined ? entry.id : recordText(RECORD_VERSION, entry.record);
    entry.writtenAtMs = entry.record?.lastAtMs ?? 0;
    this.#writer.putRecord({ type: 'put', key: channelKey(number), value: Buffer.from(text, 'utf8') });
  }
}

/** Keys of numbers that there may be. */
function seriesRange(prefix: Prefix): KeyRange {
  const { gte } = prefixRange(prefix);
  const end = channelKey(MAX_NUMBER);
  return { gte, lt: Buffer.concat([gte, end.subarray(gte.length)]) };
}

/** Undefined for a key that none of ours can be. */
function numberIn(key: Buffer): number | undefined {
  const number = key.length >= KEY_BYTES ? channelNumber(key) : MAX_NUMBER;
  return number < MAX_NUMBER ? number : undefined;
}

function entryOf(value: Buffer): Entry | undefined {
  const text = value.toString('utf8');
  // An id never begins with a brace; its segments have only letters, digits and _-~.
  if (!text.startsWith('{')) return text === '' ? undefined : { id: text, record: undefined, writtenAtMs: 0 };
  const found = parseRecord(value);
  if ('fault' in found || found.version !== RECORD_VERSION || !isStoredChannel(found.record)) return undefined;
  return { id: found.record.id, record: found.record, writtenAtMs: found.record.lastAtMs };
}

const TEXTS = ['id', 'source', 'device', 'name', 'label'] as const;

export function isStoredChannel(value: unknown): value is StoredChannel {
  if (typeof value !== 'object' || value === null) return false;
  const record: Partial<Record<keyof StoredChannel, unknown>> = value;
  return (
    TEXTS.every((name) => typeof record[name] === 'string') &&
    typeof record.quantity === 'string' &&
    Object.hasOwn(QUANTITIES, record.quantity) &&
    DEVICE_CLASSES.some((each) => each === record.class) &&
    Number.isFinite(record.firstAtMs) &&
    Number.isFinite(record.lastAtMs)
  );
}
