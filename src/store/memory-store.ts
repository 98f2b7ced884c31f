/**
 * The store of an agent whose database cannot be opened: the same port, in memory, bounded. Protection goes on; what
 * is remembered ends with the process, and health() says so. It stays in memory until the agent is restarted.
 *
 * The audit chain is complete while it fits; append() resolves at once, although nothing is on disk: whoever must have
 * an entry on disk before he acts asks `durable`.
 */
import type { Channel, Quality } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import { SkosError } from '../core/errors.js';
import type {
  ActionRecord,
  Alert,
  AuditEntry,
  AuditHead,
  AuditInput,
  AuditLog,
  AuditSeal,
  AuditSealRequest,
  AuditVerdict,
  AuditVerifyOptions,
  History,
  Log,
  RecordKind,
  Store,
} from '../core/ports.js';
import { MAX_LISTED, MAX_LISTED_BYTES } from './audit.js';
import { draft, GENESIS, seal, verifyEntries } from './audit-entry.js';
import { sealOf } from './audit-export.js';
import type { StoreHealth } from './health.js';
import { MEMORY_OUTBOX_LIMITS, MemoryOutboxShelf, OutboxQueues } from './outbox.js';
import { MemoryShelf } from './recording-shelf.js';
import { Recordings } from './recordings.js';
import { TypedRecords } from './records.js';
import { stateText } from './state.js';

/** Of each kind; some MiB in all, for hours of a busy node. */
const KEPT_IN_MEMORY = 2_000;
/** Flight recordings: enough for what an operator looks into before the agent is restarted. */
const RECORDINGS = { recordings: 8, bytes: 4 * 1024 * 1024 };

export class MemoryAudit implements AuditLog {
  readonly durable = false;
  readonly #clock: Clock;
  readonly #entries: AuditEntry[] = [];
  /** The head before the first entry that is still here. */
  #before: AuditHead = GENESIS;
  #head: AuditHead = GENESIS;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  append(input: AuditInput): Promise<AuditEntry> {
    const { head, text } = seal(draft(input, this.#clock.wallMs()), this.#head);
    const entry = JSON.parse(text) as AuditEntry;
    this.#entries.push(entry);
    this.#head = head;
    if (this.#entries.length > KEPT_IN_MEMORY) {
      const oldest = this.#entries.shift();
      if (oldest !== undefined) this.#before = { seq: oldest.seq, hash: oldest.hash };
    }
    return Promise.resolve(entry);
  }

  head(): AuditHead {
    return this.#head;
  }

  /** Of the entries that are still here. Heads of a chain on disk say nothing about this one. */
  verify({ key }: AuditVerifyOptions = {}): Promise<AuditVerdict> {
    return verifyEntries([...this.#entries], { after: this.#before, known: [this.#head], pinned: key });
  }

  introductions(): Promise<AuditEntry[]> {
    return Promise.resolve([]);
  }

  rotateKey(): Promise<never> {
    return Promise.reject(new SkosError('SKOS_AUDIT_KEY', 'the record is kept in memory only, and not signed'));
  }

  sealExport(request: AuditSealRequest, { node }: { who: string; node: string }): Promise<AuditSeal> {
    const atMs = Math.round(this.#clock.wallMs());
    return Promise.resolve(sealOf(request, { atMs, signer: undefined, node }));
  }

  list({ fromSeq, limit }: { fromSeq: number; limit: number }): Promise<AuditEntry[]> {
    const most = Math.min(Math.max(0, Math.floor(limit)), MAX_LISTED);
    const wanted = this.#entries.filter(({ seq }) => seq >= fromSeq).slice(0, most);
    let bytes = 0;
    const tooMany = wanted.findIndex((entry) => {
      bytes += Buffer.byteLength(JSON.stringify(entry));
      return bytes > MAX_LISTED_BYTES;
    });
    return Promise.resolve(tooMany === -1 ? wanted : wanted.slice(0, tooMany));
  }
}

/** Samples are not kept: an empty answer would say that there were none. */
export const NO_HISTORY: History = {
  channels: () => {
    throw notKept();
  },
  page: () => Promise.reject(notKept()),
  latest: () => Promise.reject(notKept()),
  byDevice: () => Promise.reject(notKept()),
};

function notKept(): SkosError {
  return new SkosError('SKOS_STORE_OPEN', 'samples are not kept while no database is open');
}

export class MemoryStore implements Store {
  readonly history = NO_HISTORY;
  readonly audit: MemoryAudit;
  readonly recordings = new Recordings({ shelf: new MemoryShelf(), limits: RECORDINGS });
  readonly outbox: OutboxQueues;
  readonly #why: string;
  readonly #alerts = new Map<string, Alert>();
  readonly #actions = new Map<string, ActionRecord>();
  readonly #state = new Map<string, string>();

  /** `why` is what kept the database from being opened. */
  constructor({ clock, why, log }: { clock: Clock; why: string; log: Log }) {
    this.#why = why;
    this.audit = new MemoryAudit(clock);
    this.outbox = new OutboxQueues({ shelf: new MemoryOutboxShelf(), limits: MEMORY_OUTBOX_LIMITS, clock, log });
  }

  health(): StoreHealth {
    return { ok: false, why: `in memory only, until the agent is restarted: ${this.#why}`, memoryOnly: true };
  }

  /** Nothing to acquire; here so that it can stand in for the other store. */
  start(): Promise<void> {
    return Promise.resolve();
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }

  putAlert(alert: Alert): void {
    remember(this.#alerts, alert.id, structuredClone(alert));
  }

  alerts({ standing = false, limit }: { standing?: boolean; limit: number }): Promise<Alert[]> {
    const wanted = [...this.#alerts.values()].filter(({ severity }) => !standing || severity !== null);
    wanted.sort((a, b) => b.sinceAtMs - a.sinceAtMs);
    return Promise.resolve(wanted.slice(0, Math.max(0, limit)));
  }

  putAction(action: ActionRecord): void {
    remember(this.#actions, action.actionId, structuredClone(action));
  }

  actions({ limit }: { limit: number }): Promise<ActionRecord[]> {
    const newest = [...this.#actions.values()].sort((a, b) => b.startedAtMs - a.startedAtMs);
    return Promise.resolve(newest.slice(0, Math.max(0, limit)));
  }

  putState(key: string, value: unknown): void {
    const text = stateText(key, value);
    if (text === undefined) this.#state.delete(key);
    else remember(this.#state, key, text);
  }

  state(key: string): Promise<unknown> {
    const text = this.#state.get(key);
    return Promise.resolve(text === undefined ? undefined : JSON.parse(text));
  }

  records<T>(kind: RecordKind<T>): TypedRecords<T> {
    return new TypedRecords(kind);
  }

  /** The time series needs the database: without it, samples are not kept. */
  sample(_channel: Channel, _value: number | null, _quality: Quality, _atMs: number): void {}
}

/** The latest version moves to the end; what was touched longest ago goes first. */
function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > KEPT_IN_MEMORY && oldest !== undefined) map.delete(oldest);
}
