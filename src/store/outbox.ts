/**
 * The outbox: queues of what must reach somebody who may be away for days. At least once, in order, bounded by count and bytes.
 *
 * Items are `o` queue 0 seq, the queue's numbers are one typed record `O` queue. What waits is known in memory by number and size;
 * the items themselves are on disk and read a page at a time. A reader takes what has arrived by its number, and whatever was
 * handed out but not taken is handed out again, under the same number: after a kill on either side nothing is missing, and
 * repeats can be told apart.
 *
 * Beyond the bound the oldest go, counted; the count is part of the queue's record. Items that are taken or gone are deleted a
 * bounded number at a time, because a writer that waits for a disk has room for some thousand operations only; those that
 * are left lie below the queue's first number, and are deleted later.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../core/clock.js';
import { reason } from '../core/errors.js';
import type { Log, Outbox, OutboxItem, OutboxPosition, OutboxState } from '../core/ports.js';
import { boolean, type Infer, number, object, parse, string } from '../core/shape.js';
import type { Database, Operation, ScanOptions } from './database.js';
import { keyText, outboxKey, outboxQueueOf, outboxRange, outboxSeq, PREFIX, prefixRange, textKey } from './keys.js';
import { FaultReport, isTooNew, parseRecord, recordText } from './record-form.js';

export interface OutboxLimits {
  readonly items: number;
  readonly bytes: number;
}

/** Of each queue: weeks of an ordinary node's alerts, actions and audit entries, some days of a troubled one's. */
export const OUTBOX_LIMITS: OutboxLimits = { items: 20_000, bytes: 8 * 1024 * 1024 };
/** Without a database they are in memory: hours. */
export const MEMORY_OUTBOX_LIMITS: OutboxLimits = { items: 2_000, bytes: 1024 * 1024 };
/** One consumer each; a mistake that makes names must not fill the disk. */
const MAX_QUEUES = 16;
/** Twice what any payload may have; nobody could carry a larger item. */
const MAX_ITEM_BYTES = 128 * 1024;
/** Of what read() returns: a line of the socket has 4 MiB, and JSON within JSON grows. */
const MAX_PAGE_BYTES = 1024 * 1024;
/** Deletions in one step: with their keys some 50 KiB of what the writer lets wait. */
const MAX_DELETED_PER_STEP = 256;
const EPOCH_BYTES = 4;
const QUEUE_NAME = /^[a-z][a-z0-9_-]{0,31}$/;
const VERSION = 1;

const count = number({ min: 0, integer: true });
const queueShape = object({
  epoch: string({ pattern: /^[0-9a-f]{8}$/ }),
  lastSeq: count,
  takenSeq: count,
  /** When this was written. */
  waiting: count,
  dropped: count,
  removed: boolean,
});
type QueueRecord = Infer<typeof queueShape>;

/** An item that waits. */
interface Waiting {
  readonly seq: number;
  readonly bytes: number;
  readonly atMs: number;
}

/** Where items are kept. */
export interface OutboxShelf {
  put(operation: Operation): void;
  range(options: ScanOptions & { readonly limit: number }): Promise<[Buffer, Buffer][]>;
}

export interface OutboxOptions {
  readonly shelf: OutboxShelf;
  readonly limits: OutboxLimits;
  readonly clock: Clock;
  readonly log: Log;
}

export class OutboxQueues implements Outbox {
  readonly #options: OutboxOptions;
  readonly #queues = new Map<string, Queue>();
  readonly #faults: FaultReport;

  constructor(options: OutboxOptions) {
    this.#options = options;
    this.#faults = new FaultReport(options.log);
  }

  /** Finds what an earlier agent left. Never rejects: a queue that cannot be read must not keep the agent from its database. */
  async start(database: Pick<Database, 'scan'>): Promise<void> {
    try {
      for await (const [key, value] of database.scan(prefixRange(PREFIX.outboxQueue))) {
        const name = key.subarray(1).toString('utf8');
        if (QUEUE_NAME.test(name)) this.#queues.set(name, new Queue(name, this.#options, this.#recordOf(key, value)));
      }
      for await (const [key, value] of database.scan(prefixRange(PREFIX.outboxItem))) {
        const name = outboxQueueOf(key);
        if (!QUEUE_NAME.test(name)) continue;
        this.#queue(name).adopt({ seq: outboxSeq(key), bytes: value.length, atMs: itemOf(value)?.atMs ?? 0 });
      }
    } catch (error) {
      const fields = { event: 'store.damaged', code: 'SKOS_STORE_READ', error } as const;
      this.#options.log.error(`The outbox could not be read to its end: ${reason(error)}`, fields);
    }
    for (const queue of this.#queues.values()) queue.adopted();
  }

  put(queue: string, { kind, data }: { readonly kind: string; readonly data: unknown }): void {
    if (data === undefined) throw new RangeError(`an item ${kind} without data`);
    this.#queue(queue).put(kind, data);
  }

  async read(queue: string, limit: number): Promise<OutboxItem[]> {
    return (await this.#queues.get(queue)?.read(limit)) ?? [];
  }

  take(queue: string, position: OutboxPosition): void {
    this.#queues.get(queue)?.take(position);
  }

  remove(queue: string): number {
    return this.#queues.get(queue)?.remove() ?? 0;
  }

  states(): OutboxState[] {
    const names = [...this.#queues.keys()].sort();
    return names.flatMap((name) => this.#queues.get(name)?.state ?? []);
  }

  /** Goes on deleting what is gone. */
  trim(): void {
    for (const queue of this.#queues.values()) queue.sweep();
  }

  /** The writer had no room for this. */
  dropped(operation: Operation): void {
    if (operation.type !== 'put' || operation.key.toString('latin1', 0, 1) !== PREFIX.outboxItem) return;
    this.#queues.get(outboxQueueOf(operation.key))?.lose([outboxSeq(operation.key)]);
  }

  /** The database is a new one: it must know the numbers that were given. */
  republish(): void {
    for (const queue of this.#queues.values()) queue.save();
  }

  #queue(name: string): Queue {
    const known = this.#queues.get(name);
    if (known !== undefined) return known;
    if (!QUEUE_NAME.test(name)) throw new RangeError(`"${name}" is no name of a queue`);
    if (this.#queues.size >= MAX_QUEUES) throw new RangeError(`more than ${MAX_QUEUES} queues`);
    const queue = new Queue(name, this.#options, undefined);
    this.#queues.set(name, queue);
    return queue;
  }

  /** Undefined when it cannot be read: the queue gets an epoch of its own, and keeps what still waits. */
  #recordOf(key: Buffer, value: Buffer): QueueRecord | undefined {
    const found = parseRecord(value);
    let fault = 'fault' in found ? found.fault : isTooNew(found.version, VERSION);
    if ('record' in found && fault === undefined) {
      const { value: record, issues } = parse(queueShape, found.record);
      if (record !== undefined) return record;
      fault = issues.map(({ path, message }) => `${path.join('.')} ${message}`).join('; ');
    }
    this.#faults.say({ key, value, fault: fault ?? 'it has another form' });
    return undefined;
  }
}

class Queue {
  readonly #name: string;
  readonly #options: OutboxOptions;
  readonly #epoch: string;
  /** Oldest first. */
  #waiting: Waiting[] = [];
  #bytes = 0;
  #lastSeq: number;
  #takenSeq: number;
  #dropped: number;
  #removed: boolean;
  /** What waited when the record was written; those that are not found are lost. */
  #expected: number;
  /** Up to here nothing is on disk any more. */
  #sweptSeq: number;
  /** Said since the queue last was empty. */
  #saidFull = false;

  constructor(name: string, options: OutboxOptions, record: QueueRecord | undefined) {
    this.#name = name;
    this.#options = options;
    this.#epoch = record?.epoch ?? randomBytes(EPOCH_BYTES).toString('hex');
    this.#lastSeq = record?.lastSeq ?? 0;
    this.#takenSeq = record?.takenSeq ?? 0;
    this.#dropped = record?.dropped ?? 0;
    this.#removed = record?.removed ?? false;
    this.#expected = record?.waiting ?? 0;
    this.#sweptSeq = this.#takenSeq;
  }

  get state(): OutboxState | undefined {
    if (this.#removed) return undefined;
    return {
      queue: this.#name,
      epoch: this.#epoch,
      waiting: this.#waiting.length,
      bytes: this.#bytes,
      oldestAtMs: this.#waiting[0]?.atMs ?? null,
      lastSeq: this.#lastSeq,
      takenSeq: this.#takenSeq,
      dropped: this.#dropped,
    };
  }

  /** An item that was found, in the order of numbers. */
  adopt(item: Waiting): void {
    if (item.seq <= this.#takenSeq) {
      this.#sweptSeq = Math.min(this.#sweptSeq, item.seq - 1);
      return;
    }
    this.#lastSeq = Math.max(this.#lastSeq, item.seq);
    this.#waiting.push(item);
    this.#bytes += item.bytes;
  }

  /** All were found. */
  adopted(): void {
    this.#dropped += Math.max(0, this.#expected - this.#waiting.length);
    this.sweep();
  }

  put(kind: string, data: unknown): void {
    const atMs = Math.round(this.#options.clock.wallMs());
    const value = Buffer.from(recordText(VERSION, { atMs, kind, data }), 'utf8');
    this.#removed = false;
    // A number is used up, so that a reader sees that there was something.
    const seq = ++this.#lastSeq;
    if (value.length > MAX_ITEM_BYTES) {
      this.#drop(1, `an item ${kind} of ${value.length} bytes is too large for any`);
    } else {
      this.#waiting.push({ seq, bytes: value.length, atMs });
      this.#bytes += value.length;
      this.#options.shelf.put({ type: 'put', key: outboxKey(this.#name, seq), value });
      this.#bound();
    }
    this.sweep();
    this.save();
  }

  async read(limit: number): Promise<OutboxItem[]> {
    const wanted = this.#page(limit);
    const [first, last] = [wanted[0], wanted.at(-1)];
    if (first === undefined || last === undefined) return [];
    const range = outboxRange(this.#name, { fromSeq: first.seq, toSeq: last.seq + 1 });
    const found = new Map<number, OutboxItem>();
    for (const [key, value] of await this.#options.shelf.range({ ...range, limit: wanted.length })) {
      const item = itemOf(value);
      const seq = outboxSeq(key);
      if (item !== undefined) found.set(seq, { epoch: this.#epoch, seq, ...item });
    }
    // What a failing disk has lost, or damaged, must not hold up what stands behind it.
    const lost = wanted.filter(({ seq }) => !found.has(seq)).map(({ seq }) => seq);
    if (lost.length > 0) this.lose(lost);
    return wanted.flatMap(({ seq }) => found.get(seq) ?? []);
  }

  take({ epoch, seq }: OutboxPosition): void {
    if (epoch !== this.#epoch || !Number.isSafeInteger(seq) || seq > this.#lastSeq || seq <= this.#takenSeq) return;
    this.#takenSeq = seq;
    const rest = this.#waiting.findIndex((item) => item.seq > seq);
    for (const { bytes } of this.#waiting.splice(0, rest === -1 ? this.#waiting.length : rest)) this.#bytes -= bytes;
    if (this.#waiting.length === 0) this.#saidFull = false;
    this.sweep();
    this.save();
  }

  remove(): number {
    if (this.#removed) return 0;
    const waiting = this.#waiting.length;
    this.#waiting = [];
    this.#bytes = 0;
    this.#takenSeq = this.#lastSeq;
    this.#dropped = 0;
    this.#saidFull = false;
    this.#removed = true;
    this.sweep();
    this.save();
    return waiting;
  }

  /** These are not there any more. Puts nothing: the writer may be in the middle of it. */
  lose(seqs: readonly number[]): void {
    const gone = new Set(seqs);
    const before = this.#waiting.length;
    this.#waiting = this.#waiting.filter(({ seq }) => !gone.has(seq));
    this.#bytes = this.#waiting.reduce((sum, { bytes }) => sum + bytes, 0);
    const lost = before - this.#waiting.length;
    if (lost > 0) this.#drop(lost, 'the disk does not take, or has lost, what waits in');
  }

  /** Deletes some of what lies below the first that waits. */
  sweep(): void {
    const goneSeq = (this.#waiting[0]?.seq ?? this.#lastSeq + 1) - 1;
    const toSeq = Math.min(goneSeq, this.#sweptSeq + MAX_DELETED_PER_STEP);
    for (let seq = this.#sweptSeq + 1; seq <= toSeq; seq++) {
      this.#options.shelf.put({ type: 'del', key: outboxKey(this.#name, seq) });
    }
    this.#sweptSeq = Math.max(this.#sweptSeq, toSeq);
  }

  /** Rides in the same batch as the items that were put before it: numbers and items are never apart on disk. */
  save(): void {
    const record: QueueRecord = {
      epoch: this.#epoch,
      lastSeq: this.#lastSeq,
      takenSeq: this.#takenSeq,
      waiting: this.#waiting.length,
      dropped: this.#dropped,
      removed: this.#removed,
    };
    const value = Buffer.from(recordText(VERSION, record), 'utf8');
    this.#options.shelf.put({ type: 'put', key: textKey(PREFIX.outboxQueue, this.#name), value });
  }

  #bound(): void {
    const { items, bytes } = this.#options.limits;
    let dropped = 0;
    while (this.#waiting.length > items || this.#bytes > bytes) {
      this.#bytes -= this.#waiting.shift()?.bytes ?? 0;
      dropped++;
    }
    if (dropped > 0) this.#drop(dropped, `more than ${items} items or ${bytes} bytes wait in`);
  }

  #drop(items: number, why: string): void {
    this.#dropped += items;
    if (this.#saidFull) return;
    this.#saidFull = true;
    this.#options.log.warn(`The oldest are dropped: ${why} the outbox queue ${this.#name}`, {
      event: 'outbox.dropped',
    });
  }

  #page(limit: number): Waiting[] {
    const page: Waiting[] = [];
    let bytes = 0;
    for (const item of this.#waiting) {
      bytes += item.bytes;
      if (page.length >= limit || (page.length > 0 && bytes > MAX_PAGE_BYTES)) break;
      page.push(item);
    }
    return page;
  }
}

/** Undefined when it is damaged. */
function itemOf(value: Buffer): Pick<OutboxItem, 'atMs' | 'kind' | 'data'> | undefined {
  const found = parseRecord(value);
  if ('fault' in found || found.version !== VERSION) return undefined;
  const { atMs, kind, data } = found.record as Partial<OutboxItem>;
  if (typeof atMs !== 'number' || typeof kind !== 'string' || data === undefined) return undefined;
  return { atMs, kind, data };
}

/** For a store without a database. */
export class MemoryOutboxShelf implements OutboxShelf {
  readonly #entries = new Map<string, [Buffer, Buffer]>();

  put(operation: Operation): void {
    const key = keyText(operation.key);
    if (operation.type === 'del') this.#entries.delete(key);
    else this.#entries.set(key, [operation.key, operation.value]);
  }

  range({ gte, lt, limit }: ScanOptions & { readonly limit: number }): Promise<[Buffer, Buffer][]> {
    const [from, to] = [keyText(gte), keyText(lt)];
    const found = [...this.#entries].filter(([key]) => key >= from && key < to).sort(([a], [b]) => (a < b ? -1 : 1));
    return Promise.resolve(found.slice(0, limit).map(([, entry]) => entry));
  }
}
