/**
 * The mesh as this node sees it: one outbound link to the broker of each configured peer, which mirrors that peer's own
 * topics into the local broker, and judges whether the peer is there.
 *
 * There are no loops by construction: a link takes only topics that bear its peer's name, and a peer may subscribe only
 * to topics that bear this node's name (broker.ts), so that a mirrored message is never mirrored again.
 */
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import type { NetConfig, PeerView } from '../core/protocol.js';
import { brokerUrl, isPlainLoopback } from './address.js';
import { BackOff } from './back-off.js';
import type { Bus } from './bus.js';
import { readTlsFiles, type TlsFiles } from './listener.js';
import { MqttClient, type TlsContents } from './mqtt-client.js';
import { isPeerPayload, type Origin, type PeerPayload, peerPayload, readPayload } from './payloads.js';
import { type Moment, PeerState } from './peer-state.js';
import { RetainedTopics } from './retained-topics.js';
import { shown } from './shown.js';
import { type Message, message, ownFilters, sensorFilter, type TopicName, topic, topicNameOf } from './topics.js';

const RECONNECT_FIRST_MS = 500;
const RECONNECT_LIMIT_MS = 10_000;
/**
 * What a link asks for, whatever the contract says of a topic: its session ends with its connection, within which TCP loses nothing, so
 * that an acknowledgement would be a packet and a wake-up at both ends for nothing. It is mirrored with the QoS of the contract.
 */
const LINK_QOS = 0;
/** A peer that is online has replayed what it retains after this; what it did not repeat no longer holds. */
const SETTLE_MS = 3_000;

export interface PeerLinksOptions {
  /** This node. */
  readonly origin: Origin;
  readonly prefix: string;
  readonly mesh: Pick<NetConfig['mesh'], 'peers' | 'tls'>;
  readonly heartbeatTimeoutMs: number;
  readonly bus: Pick<Bus, 'publish' | 'sensorDemand'>;
  /** A peer's state has changed. */
  readonly onChange: () => void;
  readonly clock: Clock;
  /** 0 ≤ x < 1: jitter. */
  readonly random: () => number;
  readonly log: Log;
}

export class PeerLinks {
  readonly #links: ReadonlyMap<string, PeerLink>;

  constructor(options: PeerLinksOptions) {
    this.#links = new Map(Object.keys(options.mesh.peers).map((peer) => [peer, new PeerLink(peer, options)]));
  }

  get views(): PeerView[] {
    return [...this.#links.values()].map((link) => link.view);
  }

  start(): void {
    for (const link of this.#links.values()) link.start();
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#links.values()].map((link) => link.stop()));
  }

  /** Once a second. */
  tick(): void {
    for (const link of this.#links.values()) link.tick();
  }

  sensorDemandChanged(node: string): void {
    this.#links.get(node)?.sensorDemandChanged();
  }

  lastWill(peer: string): void {
    this.#links.get(peer)?.lastWill();
  }
}

class PeerLink {
  readonly #peer: string;
  readonly #options: PeerLinksOptions;
  readonly #state: PeerState;
  readonly #mirror: RetainedTopics;
  readonly #backOff: BackOff;
  #client: MqttClient | undefined;
  #retry: NodeJS.Timeout | undefined;
  #settle: NodeJS.Timeout | undefined;
  #stopped = true;
  #takesSensors = false;
  /** The last trouble that was logged: the same one is not said at every attempt. */
  #said = '';

  constructor(peer: string, options: PeerLinksOptions) {
    this.#peer = peer;
    this.#options = options;
    this.#state = new PeerState({ node: peer, timeoutMs: options.heartbeatTimeoutMs, ...this.#now() });
    this.#mirror = new RetainedTopics(options.bus);
    this.#backOff = new BackOff({
      firstMs: RECONNECT_FIRST_MS,
      limitMs: RECONNECT_LIMIT_MS,
      random: options.random,
    });
  }

  get view(): PeerView {
    return this.#state.view(this.#now());
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    void this.#attempt();
  }

  /** The link breaks without a goodbye, so that the peer hears the last will at once. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retry);
    clearTimeout(this.#settle);
    await this.#client?.end({ goodbye: false });
    this.#client = undefined;
  }

  tick(): void {
    if (this.#state.tick(this.#now())) this.#changed(null);
  }

  lastWill(): void {
    if (this.#state.lastWill(this.#now())) this.#changed(null);
  }

  sensorDemandChanged(): void {
    const wanted = this.#state.online && this.#options.bus.sensorDemand(this.#peer);
    if (wanted === this.#takesSensors || this.#client === undefined) return;
    this.#takesSensors = wanted;
    const filters = [sensorFilter(this.#options.prefix, this.#peer)];
    const asked = wanted ? this.#client.subscribe(filters, LINK_QOS) : this.#client.unsubscribe(filters);
    asked.catch((error) => this.#options.log.debug(`link to ${this.#peer}: ${reason(error)}`));
    // Without renewal a retained value would look live to whoever subscribes next.
    if (!wanted) this.#mirror.forget('sensor');
  }

  // ---- The connection ----------------------------------------------------------------------------------------------

  async #attempt(): Promise<void> {
    let client: MqttClient | undefined;
    try {
      client = await this.#makeClient();
      if (this.#stopped) return;
      this.#client = client;
      await client.connect();
      this.#state.linkUp();
      this.#mirror.startGeneration();
      await client.subscribe(ownFilters(this.#options.prefix, this.#peer), LINK_QOS);
      this.#options.log.info(`linked to ${this.#peer}`, { event: 'mesh.linked', peer: this.#peer });
      this.#said = '';
    } catch (error) {
      this.#lost(client, error instanceof SkosError ? error : new SkosError('SKOS_MESH_LINK', reason(error)));
    }
  }

  async #makeClient(): Promise<MqttClient> {
    const { origin, prefix, mesh, clock } = this.#options;
    const config = mesh.peers[this.#peer];
    if (config === undefined) throw new Error(`no peer ${this.#peer} is configured`);
    const url = brokerUrl(config.url);
    if (!url.tls && !isPlainLoopback(config.url)) {
      throw new SkosError('SKOS_MESH_TLS', `${config.url}: plain MQTT is for loopback only; use mqtts://`);
    }
    const lastWords = { ...origin, state: 'offline', why: 'last will', atMs: null, status: null, peers: [] } as const;
    const client: MqttClient = new MqttClient({
      url,
      clientId: `skos-${origin.node}`,
      will: message('peer', topic(prefix, 'peer', origin.node), JSON.stringify(peerPayload(lastWords))),
      tls: url.tls ? await tlsContents(config, mesh.tls) : {},
      commonName: this.#peer,
      onMessage: (at, payload, retained) => this.#receive(at, payload, retained),
      onEnd: (why) => this.#lost(client, why),
      clock,
    });
    return client;
  }

  /** A failure is told twice, by the attempt and by its client: the first word counts. */
  #lost(client: MqttClient | undefined, why: SkosError): void {
    if (client !== this.#client) return;
    void this.#client?.end({ goodbye: false });
    this.#client = undefined;
    this.#takesSensors = false;
    clearTimeout(this.#settle);
    this.#settle = undefined;
    if (this.#stopped) return;
    if (this.#said !== why.message) {
      this.#said = why.message;
      const fields = { event: 'mesh.link_lost', peer: this.#peer, code: why.code };
      this.#options.log.warn(`no link to ${this.#peer}: ${why.message}; trying again`, fields);
    }
    if (this.#state.linkDown(why.message, this.#now())) this.#options.onChange();
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#attempt(), this.#backOff.delayMs());
  }

  // ---- What the peer says ------------------------------------------------------------------------------------------

  #receive(at: string, payload: Buffer, retained: boolean): void {
    const name = topicNameOf(this.#options.prefix, this.#peer, at);
    if (name === undefined || this.#stopped) return; // Of a kind that this version does not know, or not its own.
    const mirrored = message(name, at, payload);
    if (payload.length === 0) {
      if (mirrored.retain && name !== 'peer') this.#mirror.publish(name, mirrored);
      return;
    }
    const content = this.#read(name, at, payload);
    if (content === undefined) return;
    if (isPeerPayload(name, content)) {
      this.#status(content, mirrored, retained);
      return;
    }
    if (!retained) this.#state.heard(this.#now());
    if (name === 'sensor' && !this.#takesSensors) return; // Still on its way when it was no longer asked for.
    this.#publish(name, mirrored);
  }

  #read(name: TopicName, at: string, payload: Buffer): { readonly node: string } | undefined {
    try {
      return readPayload(name, this.#peer, payload);
    } catch (error) {
      const why = `dropped what ${this.#peer} sent on ${at}: ${shown(reason(error))}`;
      this.#options.log.warn(why, { event: 'mesh.payload', code: 'SKOS_NET_PAYLOAD', peer: this.#peer });
      return undefined;
    }
  }

  #status(content: PeerPayload, mirrored: Message, retained: boolean): void {
    const why = content.why ?? 'it says so';
    const changed = this.#state.status(content.state, { why, retained }, this.#now());
    if (content.state === 'online') {
      if (retained) return; // Said before: whether it still holds, the next status shows within a second.
      this.#state.hears(wordOf(content, this.#options.origin.node), this.#now());
      this.#backOff.reset();
      this.#settle ??= setTimeout(() => this.#mirror.forgetOld(), SETTLE_MS);
    }
    if (changed) this.#changed(mirrored);
    else this.#publish('peer', mirrored);
  }

  /** `words` are the peer's own; null: this node speaks of it. */
  #changed(words: Message | null): void {
    const { state, why } = this.view;
    this.#publish('peer', words ?? this.#ownWords(why));
    if (state === 'offline') this.#mirror.forget('sensor');
    this.sensorDemandChanged();
    const fields = { event: `mesh.peer_${state}`, peer: this.#peer };
    this.#options.log[state === 'online' ? 'info' : 'warn'](`peer ${this.#peer} is ${state}: ${why}`, fields);
    this.#options.onChange();
  }

  /** Only ever of a peer that is offline: nobody else says that it is online. */
  #ownWords(why: string): Message {
    const { prefix, clock, origin } = this.#options;
    const words = {
      node: this.#peer,
      bootId: '',
      state: 'offline',
      why,
      atMs: clock.wallMs(),
      status: null,
      peers: [],
    } as const;
    const payload = { ...peerPayload(words), reported_by: origin.node };
    return message('peer', topic(prefix, 'peer', this.#peer), JSON.stringify(payload));
  }

  #publish(name: TopicName, mirrored: Message): void {
    if (this.#mirror.publish(name, mirrored)) return;
    const why = `${this.#peer} retains too many topics; ${mirrored.topic} is not mirrored`;
    this.#options.log.warn(why, { event: 'mesh.payload', code: 'SKOS_NET_PAYLOAD', peer: this.#peer });
  }

  #now(): Moment {
    const { clock } = this.#options;
    return { nowMs: clock.monotonicMs(), wallMs: clock.wallMs() };
  }
}

/** What a peer says of `node`; undefined: nothing that we know. */
function wordOf({ peers }: PeerPayload, node: string): PeerView['state'] | undefined {
  const said = Object.hasOwn(peers, node) ? peers[node]?.state : undefined;
  return said === 'online' || said === 'offline' || said === 'unknown' ? said : undefined;
}

/** A peer's own files, else those of mesh.tls: one identity per node is the usual case. */
async function tlsContents(
  files: Partial<Record<keyof TlsFiles, string | undefined>>,
  shared: TlsFiles | null,
): Promise<TlsContents> {
  const ca = files.ca ?? shared?.ca;
  const cert = files.cert ?? shared?.cert;
  const key = files.key ?? shared?.key;
  if (ca === undefined || cert === undefined || key === undefined) {
    throw new SkosError('SKOS_MESH_TLS', 'mqtts:// needs ca, cert and key, at the peer or in mesh.tls');
  }
  return readTlsFiles({ ca, cert, key });
}
