/**
 * A site's own broker instead of the embedded one (mqtt.url): the same messages, by one connection.
 *
 * What is retained is kept here and told anew after every reconnection, since the broker may have forgotten it or held
 * a last will against us. What must not be missed waits in the agent's outbox: deliver() says when the broker has it. The rest is
 * of the moment, and lost while there is no connection.
 */

import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import { brokerUrl } from './address.js';
import { BackOff } from './back-off.js';
import type { Bus } from './bus.js';
import { readTlsFiles, type TlsFiles } from './listener.js';
import { MqttClient } from './mqtt-client.js';
import { type Origin, peerPayload } from './payloads.js';
import { type Message, message, topic } from './topics.js';

const RECONNECT_FIRST_MS = 500;
const RECONNECT_LIMIT_MS = 10_000;
/** Bounded by RetainedTopics already; this is the same bound for what is kept here. */
const MAX_KEPT = 8_192;
/** What the broker has to acknowledge the last words. */
const GOODBYE_DEADLINE_MS = 500;

export interface RemoteBusOptions {
  readonly url: string;
  readonly origin: Origin;
  readonly prefix: string;
  /** For mqtts://: the identity of this node and the authority it trusts. */
  readonly tls: TlsFiles | null;
  readonly onChange: () => void;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

export class RemoteBus implements Bus {
  readonly #options: RemoteBusOptions;
  readonly #kept = new Map<string, Message>();
  readonly #backOff: BackOff;
  #client: MqttClient | undefined;
  #retry: NodeJS.Timeout | undefined;
  #stopped = true;
  #said = '';

  constructor(options: RemoteBusOptions) {
    this.#options = options;
    this.#backOff = new BackOff({ firstMs: RECONNECT_FIRST_MS, limitMs: RECONNECT_LIMIT_MS, random: options.random });
  }

  /** Without user name and password, which the URL may hold. */
  get address(): string {
    const { tls, host, port } = brokerUrl(this.#options.url);
    return `${tls ? 'mqtts' : 'mqtt'}://${host}:${port}`;
  }

  get listening(): boolean {
    return this.#client?.connected ?? false;
  }

  /** Those of the site's broker are not ours to count. */
  get clients(): number {
    return 0;
  }

  /** Who subscribes at the site's broker cannot be seen; so its sensors are published while it is reached. */
  sensorDemand(node: string): boolean {
    return this.listening && node === this.#options.origin.node;
  }

  /** Does not wait for the broker: it may be far, or not there at all. */
  async start(): Promise<void> {
    if (!this.#stopped) return;
    this.#stopped = false;
    void this.#attempt();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retry);
    const client = this.#client;
    this.#client = undefined;
    if (client === undefined) return;
    await Promise.race([
      client.end({ goodbye: true }),
      new Promise((resolve) => setTimeout(resolve, GOODBYE_DEADLINE_MS)),
    ]);
    await client.end({ goodbye: false });
  }

  publish(sent: Message): void {
    if (sent.retain) this.#keep(sent);
    if (this.#client?.connected) this.#send(this.#client, sent);
  }

  /** Resolves when the broker has acknowledged it; rejects with SKOS_MESH_LINK when there is, or was, no connection. */
  deliver(sent: Message): Promise<void> {
    if (this.#client !== undefined) return this.#client.publish(sent);
    return Promise.reject(new SkosError('SKOS_MESH_LINK', `${this.address} is not connected`));
  }

  #keep(sent: Message): void {
    if (sent.payload.length === 0) this.#kept.delete(sent.topic);
    else if (this.#kept.has(sent.topic) || this.#kept.size < MAX_KEPT) this.#kept.set(sent.topic, sent);
  }

  #send(client: MqttClient, sent: Message): void {
    client.publish(sent).catch((error) => this.#options.log.debug(`not published on ${sent.topic}: ${reason(error)}`));
  }

  async #attempt(): Promise<void> {
    let client: MqttClient | undefined;
    try {
      client = await this.#makeClient();
      if (this.#stopped) return;
      this.#client = client;
      await client.connect();
      this.#backOff.reset();
      this.#said = '';
      this.#options.log.info(`joined the broker ${this.address}`, { event: 'net.joined' });
      for (const sent of this.#kept.values()) this.#send(client, sent);
      this.#options.onChange();
    } catch (error) {
      this.#lost(client, reason(error));
    }
  }

  async #makeClient(): Promise<MqttClient> {
    const { url, origin, prefix, tls, clock } = this.#options;
    const { username, password } = new URL(url);
    const parsed = brokerUrl(url);
    const lastWords = { ...origin, state: 'offline', why: 'last will', atMs: null, status: null, peers: [] } as const;
    const client: MqttClient = new MqttClient({
      url: parsed,
      clientId: `skos-${origin.node}`,
      will: message('peer', topic(prefix, 'peer', origin.node), JSON.stringify(peerPayload(lastWords))),
      tls: parsed.tls && tls !== null ? await readTlsFiles(tls) : {},
      ...(username === '' ? {} : { username: decodeURIComponent(username), password: decodeURIComponent(password) }),
      onMessage: () => undefined,
      onEnd: (why) => this.#lost(client, why.message),
      clock,
    });
    return client;
  }

  /** A failure is told twice, by the attempt and by its client: the first word counts. */
  #lost(client: MqttClient | undefined, why: string): void {
    if (client !== this.#client) return;
    void this.#client?.end({ goodbye: false });
    this.#client = undefined;
    if (this.#stopped) return;
    if (this.#said !== why) {
      this.#said = why;
      const fields = { event: 'net.broker_lost', code: 'SKOS_NET_LISTEN' } as const;
      this.#options.log.error(`cannot reach the broker ${this.address}: ${why}; trying again`, fields);
    }
    this.#options.onChange();
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#attempt(), this.#backOff.delayMs());
  }
}
