/**
 * This node's own truth on the bus: the agent's events as messages of the contract.
 *
 * When the agent is gone, or says nothing, its node is published as offline and its sensor values are taken back; when
 * it is there again it tells the whole truth anew, and what it does not repeat is emptied.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import type { ActionRecord, Alert, Log, OutboxItem } from '../core/ports.js';
import type { Events, PeerStatus, PeerView, QueuedData, QueuedEvent } from '../core/protocol.js';
import type { Bus } from './bus.js';
import {
  alertPayload,
  answerPayload,
  antibodyCommandPayload,
  auditPayload,
  commandPayload,
  type Delivery,
  heartbeatPayload,
  MAX_PAYLOAD_BYTES,
  type Origin,
  peerPayload,
  resultPayload,
  sensorPayload,
} from './payloads.js';
import { RetainedTopics } from './retained-topics.js';
import { type Message, message, type TopicName, topic } from './topics.js';

const NONCE_BYTES = 8;

export interface PublisherOptions {
  readonly origin: Origin;
  readonly prefix: string;
  readonly bus: Pick<Bus, 'publish'>;
  /** How this node sees its peers: part of its status. */
  readonly peers: () => readonly PeerView[];
  readonly heartbeatTimeoutMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

type PublishedEvents = Omit<Events, 'net.config' | 'chains' | 'token.revoked'>;
type EventHandlers = { readonly [E in keyof PublishedEvents]: (data: Events[E]) => void };

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #retained: RetainedTopics;
  #replaying = false;
  /** Set while the node is published as online. */
  #heardMs: number | undefined;
  #saidOffline = false;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#retained = new RetainedTopics(options.bus);
  }

  /** One per event of the agent. */
  readonly on: EventHandlers = {
    heartbeat: (beat) => {
      const payload = heartbeatPayload(this.#options.origin, beat);
      // What the agent repeats to a new subscriber is its last heartbeat, not a new one.
      if (!this.#replaying) this.#send('heartbeat', [], payload);
      this.#send('lastHeartbeat', [beat.agentType], payload);
    },
    alert: (alert) => this.#send('alert', [], alertPayload(this.#options.origin, alert)),
    active: (alert) => this.#active(alert),
    sensor: (channel) => this.#send('sensor', channel.id.split('/'), sensorPayload(this.#options.origin, channel)),
    command: (action) => this.#command(action),
    result: (action) => {
      this.#send('result', [], resultPayload(this.#options.origin, action, this.#options.clock.wallMs()));
    },
    answer: (answer) => this.#send('result', [], answerPayload(this.#options.origin, answer)),
    'antibody.command': (command) => {
      const nonce = randomBytes(NONCE_BYTES).toString('hex');
      this.#send('antibodyCommand', [command.agentType], antibodyCommandPayload(this.#options.origin, command, nonce));
    },
    audit: (entry) => this.#send('audit', [], auditPayload(this.#options.origin, entry)),
    peer: (status) => this.#status(status),
  };

  /**
   * An item of the agent's outbox as a message: the same item gives the same number and nonce however often it is carried.
   * undefined: it can be none, which is said.
   */
  queued(item: OutboxItem): Message | undefined {
    const { origin, prefix, log } = this.#options;
    const name = item.kind as QueuedEvent;
    try {
      const payload: Delivery & object = {
        ...this.#queuedPayload(item),
        outbox_epoch: item.epoch,
        outbox_seq: item.seq,
      };
      const text = JSON.stringify(payload);
      const at = topic(prefix, name, origin.node);
      if (Buffer.byteLength(text) <= MAX_PAYLOAD_BYTES) return message(name, at, text);
      this.#refuse(at, Buffer.byteLength(text));
    } catch (error) {
      // An agent of another version may have left what this one does not know.
      const code = 'SKOS_NET_PAYLOAD';
      log.warn(`item ${item.seq} of the outbox is no message: ${reason(error)}`, { event: 'net.payload', code });
    }
    return undefined;
  }

  #queuedPayload({ kind, atMs, epoch, seq, data: stored }: OutboxItem): object {
    const { node } = this.#options.origin;
    const { bootId, data } = stored as QueuedData;
    const origin = { node, bootId };
    switch (kind as QueuedEvent) {
      case 'alert':
        return alertPayload(origin, data as Events['alert']);
      case 'command': {
        const hash = createHash('sha256').update(`${node}/${epoch}/${seq}`).digest('hex');
        const nonce = hash.slice(0, 2 * NONCE_BYTES);
        return commandPayload(origin, data as Events['command'], {
          nonce,
          ageMs: this.#options.clock.wallMs() - atMs,
        });
      }
      case 'result':
        return resultPayload(origin, data as Events['result'], atMs);
      case 'audit':
        return auditPayload(origin, data as Events['audit']);
      default:
        throw new Error(`unknown kind ${kind}`);
    }
  }

  /** The agent begins to tell the truth anew. */
  startReplay(): void {
    this.#replaying = true;
    this.#retained.startGeneration();
  }

  /** It has told all of it. */
  endReplay(): void {
    this.#replaying = false;
    this.#retained.forgetOld();
  }

  /** The agent, or this program, is going away. */
  offline(why: string): void {
    this.#heardMs = undefined;
    this.#replaying = false;
    this.#retained.forget('sensor');
    if (this.#saidOffline) return; // Said once: it is retained.
    this.#saidOffline = true;
    this.#words('offline', why, null);
  }

  /** Time passes: an agent that is there but says nothing is as good as gone. */
  tick(): void {
    const { clock, heartbeatTimeoutMs } = this.#options;
    if (this.#heardMs === undefined || clock.monotonicMs() - this.#heardMs <= heartbeatTimeoutMs) return;
    this.offline(`no word from the agent for ${heartbeatTimeoutMs / 1000} s`);
  }

  #active(alert: Alert): void {
    // Over: an empty retained message empties the topic (MQTT 3.1.1, section 3.3.1.3).
    const payload = alert.severity === null ? null : alertPayload(this.#options.origin, alert);
    this.#send('active', [alert.id], payload);
  }

  #command(action: ActionRecord): void {
    const nonce = randomBytes(NONCE_BYTES).toString('hex');
    this.#send('command', [], commandPayload(this.#options.origin, action, { nonce }));
  }

  #status(status: PeerStatus): void {
    if (status.state === 'offline') {
      this.offline('the agent is stopping');
      return;
    }
    this.#heardMs = this.#options.clock.monotonicMs();
    this.#saidOffline = false;
    this.#words('online', 'the agent says so', status);
  }

  #words(state: 'online' | 'offline', why: string, status: PeerStatus | null): void {
    const { origin, peers, clock } = this.#options;
    const atMs = status?.atMs ?? clock.wallMs();
    this.#send('peer', [], peerPayload({ ...origin, state, why, atMs, status, peers: peers() }));
  }

  #send(name: TopicName, rest: readonly string[], payload: object | null): void {
    const { prefix, origin } = this.#options;
    const at = topic(prefix, name, origin.node, ...rest);
    const text = payload === null ? '' : JSON.stringify(payload);
    const bytes = Buffer.byteLength(text);
    const taken = bytes <= MAX_PAYLOAD_BYTES && this.#retained.publish(name, message(name, at, text));
    if (!taken) this.#refuse(at, bytes);
  }

  #refuse(at: string, bytes: number): void {
    const error = new SkosError(
      'SKOS_NET_PAYLOAD',
      `${at}: ${bytes} bytes, or too many retained topics: not published`,
    );
    this.#options.log.warn(error.message, { event: 'net.payload', code: error.code });
  }
}
