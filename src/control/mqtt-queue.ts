/**
 * What a site's own broker (mqtt.url) must not miss: alerts, commands, results and audit entries are queued in the outbox, on
 * their way to the subscribers of the agent's socket. skos-net publishes them from there, when and as often as it takes.
 * Without mqtt.url there is no queue: skos-net publishes what it hears.
 *
 * An alert and a result are put before the audit entry of the same event is appended, so that they ride in its synced batch. A
 * command is put behind its entry, and may be up to a second from the disk: the result that goes before it says the same.
 * An audit entry is queued when it is on disk already; what a kill took from the queue in between is found in the chain at the
 * next start, by the number of the last one that was queued.
 */
import { reason } from '../core/errors.js';
import type { Log, Store } from '../core/ports.js';
import {
  type EventName,
  type Events,
  MQTT_QUEUE,
  QUEUED_EVENTS,
  type QueuedData,
  type QueuedEvent,
} from '../core/protocol.js';
import type { CurrentConfig } from './current-config.js';
import { inTime, RECALL_MS } from './in-time.js';
import type { Outlet } from './outlet.js';

const STATE_KEY = 'mqtt-queue';
/** A kill takes a second's entries at most; more than these were never in the queue's reach. */
const MAX_MISSED = 1_000;

export interface MqttQueueOptions {
  readonly bootId: string;
  readonly config: CurrentConfig;
  readonly store: Pick<Store, 'outbox' | 'audit' | 'state' | 'putState'>;
  /** The subscribers of the socket. */
  readonly outlet: Outlet;
  readonly log: Log;
}

export class MqttQueue implements Outlet {
  readonly #options: MqttQueueOptions;
  #isOpen = false;

  constructor(options: MqttQueueOptions) {
    this.#options = options;
  }

  /** Before anything is broadcast. Never rejects. */
  async start(): Promise<void> {
    const { store } = this.#options;
    const known = auditSeqOf(await inTime(store.state(STATE_KEY), RECALL_MS));
    this.#isOpen = known !== undefined;
    this.#followConfig();
    if (this.#isOpen && known !== undefined) await inTime(this.#queueMissed(known), RECALL_MS);
  }

  broadcast<E extends EventName>(event: E, data: Events[E]): void {
    if (event === 'net.config') this.#followConfig();
    if (this.#isOpen && isQueued(event)) this.#put(event, data as Events[QueuedEvent]);
    this.#options.outlet.broadcast(event, data);
  }

  #followConfig(): void {
    const { config, store, log } = this.#options;
    const isWanted = config.get().mqtt.url !== null;
    // What waits is for the broker that the configuration named; nobody else shall get it later.
    const letGo = isWanted ? 0 : store.outbox.remove(MQTT_QUEUE);
    if (letGo > 0) log.warn(`mqtt.url is gone: ${letGo} messages for it are let go`, { event: 'outbox.removed' });
    if (isWanted !== this.#isOpen) this.#keepAuditSeq(isWanted ? store.audit.head().seq : null);
    this.#isOpen = isWanted;
  }

  /** Nothing on the protection path fails because of what others shall hear. */
  #put(event: QueuedEvent, data: Events[QueuedEvent]): void {
    const { bootId, store, log } = this.#options;
    try {
      store.outbox.put(MQTT_QUEUE, { kind: event, data: { bootId, data } satisfies QueuedData });
      if (event === 'audit') this.#keepAuditSeq((data as Events['audit']).seq);
    } catch (error) {
      log.error(`an event ${event} is not queued: ${reason(error)}`, { error });
    }
  }

  async #queueMissed(queuedSeq: number): Promise<void> {
    const { audit } = this.#options.store;
    const { seq } = audit.head();
    if (queuedSeq >= seq) return;
    const fromSeq = Math.max(queuedSeq + 1, seq - MAX_MISSED + 1);
    for (const entry of await audit.list({ fromSeq, limit: MAX_MISSED })) this.#put('audit', entry);
  }

  #keepAuditSeq(auditSeq: number | null): void {
    this.#options.store.putState(STATE_KEY, auditSeq === null ? null : { auditSeq });
  }
}

function isQueued(event: EventName): event is QueuedEvent {
  return QUEUED_EVENTS.some((each) => each === event);
}

function auditSeqOf(known: unknown): number | undefined {
  const { auditSeq } = (known ?? {}) as { auditSeq?: unknown };
  return typeof auditSeq === 'number' && Number.isSafeInteger(auditSeq) ? auditSeq : undefined;
}
