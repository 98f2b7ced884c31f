/**
 * The embedded MQTT 3.1.1 broker: aedes, with the rules of this node around it.
 *
 * Who may what: anybody on loopback may subscribe, and nothing else; a guest, who comes with a user name and a token that the agent
 * knows, may publish what its role says (guest-desk.ts); a peer (by its certificate, or by its client id
 * where its own URL is plain loopback) may subscribe to this node's own topics and leave a last will for its own peer
 * topic. A publish by anyone else closes its connection, as section 3.3.5 allows. Sessions end with the connection (`clean` is forced): an absent subscriber would otherwise have messages
 * queued for it without bound.
 *
 * What is bounded: packets and bytes that come in (packet-guard.ts), connections, subscriptions, topic depth, and what
 * waits for a slow reader, each and all together. aedes would make every publisher wait for the slowest subscriber;
 * here the slowest is disconnected instead.
 */
import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import {
  Aedes,
  type AuthenticateError,
  type Client,
  type ConnectPacket,
  type PublishPacket,
  type Subscription,
} from 'aedes';
import mqttPacket from 'mqtt-packet';
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import { GUEST_NAME, MAX_TOKEN_LENGTH } from '../core/guests.js';
import type { Log } from '../core/ports.js';
import { TokenBucket } from '../core/token-bucket.js';
import { Audience } from './audience.js';
import type { Bus } from './bus.js';
import type { GuestDesk, Pass } from './guest-desk.js';
import { Listener, type TlsFiles } from './listener.js';
import { guardSocket, type InboundLimits, PacketGuard } from './packet-guard.js';
import { MAX_PAYLOAD_BYTES } from './payloads.js';
import { shown } from './shown.js';
import { couldMatchSensors, isOwnFilter, MAX_TOPIC_LEVELS, type Message, topic } from './topics.js';

// mqtt-packet builds 65,536 Buffers (17 MB) at its first write unless told before. aedes and mqtt.js share this instance.
mqttPacket.writeToStream.cacheNumbers = false;

/** Dashboards, tools and a forgotten script or two. An idle client costs 11–34 KB. */
const MAX_LOCAL_CLIENTS = 128;
/** A full mesh serves up to 16 nodes; each may be seen twice while it reconnects. */
const MAX_PEER_CLIENTS = 32;
/** New connections per second: a restart of all clients at once passes, a flood costs an accept and no more. */
const CONNECTIONS_PER_SECOND = 50;
const BURST_CONNECTIONS = 200;
/** Headers, topic and the like beside the largest payload. */
const PACKET_OVERHEAD_BYTES = 1024;
/** A subscriber sends acknowledgements, pings and its subscriptions; this is ten times what a busy one needs. */
const INBOUND: InboundLimits = {
  maxPacketBytes: MAX_PAYLOAD_BYTES + PACKET_OVERHEAD_BYTES,
  bytesPerSecond: 64 * 1024,
  burstBytes: 128 * 1024,
  packetsPerSecond: 500,
  burstPackets: 2_000,
};
const MAX_SUBSCRIPTIONS_PER_CLIENT = 64;
/** Each subscription replays what is retained, so that asking again and again is work for nothing. */
const SUBSCRIPTIONS_PER_SECOND = 10;
const BURST_SUBSCRIPTIONS = 256;
const MAX_CLIENT_ID_LENGTH = 128;
/** Retained messages are written up to this and then at the reader's pace. */
const PACE_BYTES = 128 * 1024;
/** What may wait for one reader: several seconds of everything. */
const MAX_BACKLOG_BYTES = 512 * 1024;
/** What may wait for all readers together; then whoever has more than the pace goes. */
const MAX_TOTAL_BACKLOG_BYTES = 8 * 1024 * 1024;
/** A reader that takes nothing at all for so long is gone. */
const STALLED_READER_MS = 10_000;
/** Time to say CONNECT. */
const CONNECT_TIMEOUT_MS = 5_000;
const BACKLOG_SWEEP_MS = 1_000;
/** Readers' time to take the last words when the broker stops. */
const DRAIN_DEADLINE_MS = 300;

/** Where what guests publish ends: no filter with a wildcard in front matches it, section 4.7.2. */
const TAKEN_TOPIC = '$skos/taken';
const NOTHING = Buffer.alloc(0);
/** Before the client ids of guests. */
const GUEST_ID = 'guest:';

/** Return codes of CONNACK, section 3.2.2.3. */
const IDENTIFIER_REJECTED = 2;
const SERVER_UNAVAILABLE = 3;
const BAD_USER_NAME = 4;
const NOT_AUTHORIZED = 5;

/** What CONNECT says beside the types of aedes, and what is changed of it. */
interface Asked {
  clean: boolean;
  clientId: string;
  readonly username?: string;
  readonly will?: { readonly topic: string };
}

export interface BrokerPeer {
  /** Its own URL is plain loopback: it may come without a certificate. */
  readonly plainLoopback: boolean;
}

export interface EmbeddedBrokerOptions {
  readonly node: string;
  readonly prefix: string;
  readonly listen: string;
  readonly meshListen: string | null;
  readonly tls: TlsFiles | null;
  readonly peers: ReadonlyMap<string, BrokerPeer>;
  /** Demand for sensor topics of this or of a peer's node has begun or ended. */
  readonly onSensorDemand: (node: string, demand: boolean) => void;
  /** The broker speaks a peer's last will: its connection to this node broke. */
  readonly onLastWill: (peer: string) => void;
  /** Absent: no user name is known. */
  readonly guests?: Pick<GuestDesk, 'authenticate' | 'limits' | 'take'>;
  readonly clock: Clock;
  readonly log: Log;
}

/** What the broker knows of one connection beside aedes' own state. */
interface Session {
  readonly socket: Socket;
  /** Name in the verified certificate; null on the plain listener. */
  readonly commonName: string | null;
  readonly subscriptions: TokenBucket;
  /** Set when CONNECT shows that this is a peer. */
  peer: string | null;
  readonly guard: PacketGuard;
  /** Set when the agent has taken its credential. */
  pass: Pass | null;
  refusal: { readonly returnCode: number; readonly why: string } | null;
  backlogBytes: number;
  /** What it is subscribed to. */
  filters: ReadonlySet<string>;
  /** Nodes whose sensors that could match. */
  demands: ReadonlySet<string>;
}

/** The part of aedes' persistence that is used here: its types leave it out. */
interface Persistence {
  storeRetained(packet: PublishPacket): Promise<void>;
}

export class EmbeddedBroker implements Bus {
  readonly #options: EmbeddedBrokerOptions;
  /** Also of clients that are gone: a last will is judged after its connection has closed. */
  readonly #sessions = new WeakMap<Client, Session>();
  readonly #live = new Set<Session>();
  readonly #connected = new Set<Client>();
  readonly #demand = new Map<string, number>();
  readonly #connections: TokenBucket;
  #aedes: Aedes | undefined;
  #listeners: Listener[] = [];
  #sweep: NodeJS.Timeout | undefined;
  #totalBacklogBytes = 0;
  readonly #queue: Message[] = [];
  readonly #audience = new Audience();
  /** Sockets that hold back what is written to them until the queue is empty. */
  #corked: readonly Socket[] = [];
  #uncorking: NodeJS.Immediate | undefined;

  constructor(options: EmbeddedBrokerOptions) {
    this.#options = options;
    const rate = { perSecond: CONNECTIONS_PER_SECOND, burst: BURST_CONNECTIONS };
    this.#connections = new TokenBucket({ clock: options.clock, ...rate });
  }

  get address(): string {
    return this.#listeners[0]?.address ?? this.#options.listen;
  }

  get listening(): boolean {
    return this.#listeners.length > 0 && this.#listeners.every(({ listening }) => listening);
  }

  get clients(): number {
    return this.#connected.size;
  }

  sensorDemand(node: string): boolean {
    return (this.#demand.get(node) ?? 0) > 0;
  }

  async start(): Promise<void> {
    if (this.#aedes !== undefined) return;
    this.#aedes = await this.#makeAedes();
    const { listen, meshListen, tls } = this.#options;
    this.#listeners = [this.#listener(listen, null, MAX_LOCAL_CLIENTS)];
    if (meshListen !== null && tls === null) this.#sayNoTls();
    if (meshListen !== null && tls !== null) this.#listeners.push(this.#listener(meshListen, tls, MAX_PEER_CLIENTS));
    for (const listener of this.#listeners) await listener.start();
  }

  /** The in-memory persistence of aedes holds no resource, so that nothing but the broker is to be closed. */
  async stop(): Promise<void> {
    const aedes = this.#aedes;
    if (aedes === undefined) return;
    this.#aedes = undefined;
    await this.#drained();
    const closing = this.#listeners.map((listener) => listener.stop());
    await new Promise<void>((resolve) => aedes.close(resolve));
    await Promise.all(closing);
    this.#listeners = [];
    clearTimeout(this.#sweep);
    this.#sweep = undefined;
  }

  publish(sent: Message): void {
    this.#queue.push(sent);
    if (this.#queue.length === 1) this.#publishNext();
  }

  /**
   * One after the other, because aedes loses messages otherwise: it numbers them when they are published, delivers them
   * some promises later (more of them for QoS 1 and for retained ones), and drops for each subscriber what comes with
   * a lower number than the last. A nextTick asked for by a microtask runs when no microtask is left, so that each
   * message has been handed to its subscribers before the next one is numbered; the queue is empty within the turn.
   */
  #publishNext(): void {
    for (let sent = this.#queue[0]; sent !== undefined; sent = this.#queue[0]) {
      const packet = packetOf(sent);
      if (this.#audience.hears(sent.topic)) {
        this.#deliver(packet);
        queueMicrotask(() =>
          process.nextTick(() => {
            this.#queue.shift();
            this.#publishNext();
          }),
        );
        return;
      }
      this.#queue.shift();
      if (sent.retain) this.#retain(packet);
    }
    this.#uncorkSoon();
  }

  /**
   * What is published together leaves together: one system call for each subscriber, and one wake-up at its end. aedes writes in
   * immediates, and those of all that was in the queue are waiting when the queue is empty, so that the one asked for then comes behind
   * them. What is published before it has run is not held back once more: somebody who publishes in every turn must not cork for ever.
   */
  #cork(): void {
    if (this.#corked.length > 0) return;
    this.#corked = [...this.#live].filter(({ filters }) => filters.size > 0).map(({ socket }) => socket);
    for (const socket of this.#corked) socket.cork();
  }

  #uncorkSoon(): void {
    if (this.#corked.length === 0 || this.#uncorking !== undefined) return;
    this.#uncorking = setImmediate(() => {
      for (const socket of this.#corked) socket.uncork();
      this.#corked = [];
      this.#uncorking = undefined;
    });
  }

  #deliver(packet: PublishPacket): void {
    this.#cork();
    this.#aedes?.publish(packet, (error) => {
      if (error) this.#notPublished(packet, error);
    });
  }

  /** For who subscribes later. Most of what a node says, and all that it mirrors, is heard by nobody at the time. */
  #retain(packet: PublishPacket): void {
    const { persistence } = (this.#aedes ?? {}) as { persistence?: Persistence };
    persistence?.storeRetained(packet).catch((error) => this.#notPublished(packet, error));
  }

  #notPublished({ topic: at }: PublishPacket, error: unknown): void {
    this.#options.log.error(`could not publish on ${at}: ${reason(error)}`, { event: 'net.publish', error });
  }

  // ---- Connections ---------------------------------------------------------------------------------------------------

  #listener(address: string, tls: TlsFiles | null, maxConnections: number): Listener {
    return new Listener({
      address,
      tls,
      maxConnections,
      highWaterMarkBytes: PACE_BYTES,
      onConnection: (socket, commonName) => this.#accept(socket, commonName),
      log: this.#options.log,
    });
  }

  #accept(socket: Socket, commonName: string | null): void {
    const aedes = this.#aedes;
    if (aedes === undefined || !this.#connections.take(1)) {
      socket.destroy();
      return;
    }
    if (commonName !== null && !this.#options.peers.has(commonName)) {
      this.#say(`a certificate for "${shown(commonName)}" is no configured peer's`);
      socket.destroy();
      return;
    }
    const { clock } = this.#options;
    const guard = new PacketGuard(INBOUND, clock);
    guardSocket(socket, guard, (why) => this.#say(`a client sent ${why}`));
    const rate = { perSecond: SUBSCRIPTIONS_PER_SECOND, burst: BURST_SUBSCRIPTIONS };
    const client = aedes.handle(socket);
    const session: Session = {
      socket,
      commonName,
      subscriptions: new TokenBucket({ clock, ...rate }),
      peer: null,
      guard,
      pass: null,
      refusal: null,
      backlogBytes: 0,
      filters: new Set(),
      demands: new Set(),
    };
    this.#sessions.set(client, session);
    this.#live.add(session);
    socket.once('close', () => this.#forget(client, session));
  }

  #forget(client: Client, session: Session): void {
    this.#live.delete(session);
    this.#connected.delete(client);
    this.#totalBacklogBytes -= session.backlogBytes;
    this.#setFilters(session, new Set());
    this.#setDemands(session, new Set());
  }

  #sayNoTls(): void {
    const why = 'mesh.listen needs mesh.tls: peers are admitted by certificate only';
    this.#options.log.error(why, { event: 'mesh.tls', code: 'SKOS_MESH_TLS' });
  }

  #say(what: string): void {
    this.#options.log.warn(what, { event: 'net.client', code: 'SKOS_NET_CLIENT' });
  }

  async #makeAedes(): Promise<Aedes> {
    const aedes = await Aedes.createBroker({
      concurrency: 0, // No queue in front of the subscribers: what waits, waits in the sockets, which are bounded.
      connectTimeout: CONNECT_TIMEOUT_MS,
      drainTimeout: STALLED_READER_MS,
      maxTopicLevels: MAX_TOPIC_LEVELS,
      preConnect: (client, packet, done) => {
        this.#introduce(client, packet as ConnectPacket & Asked);
        done(null, true);
      },
      authenticate: (client, username, password, done) => {
        const answer = (refusal: AuthenticateError | null) => done(refusal, refusal === null);
        this.#authenticate(client, username, password).then(answer, (error) =>
          answer(refused(SERVER_UNAVAILABLE, reason(error))),
        );
      },
      authorizePublish: (client, packet, done) => done(this.#judgePublish(client, packet)),
      authorizeSubscribe: (client, subscription, done) => {
        // null as subscription is the answer 0x80, "failure", of section 3.9.3.
        done(null, this.#maySubscribe(client, subscription) ? subscription : null);
      },
      authorizeForward: (client, packet) => (this.#keepsUp(client) ? packet : null),
    });
    // Its types do not know this event, without a listener of which a failed persistence would end the process.
    (aedes as EventEmitter).on('error', (error) =>
      this.#options.log.error(`the broker failed: ${reason(error)}`, { error }),
    );
    aedes.on('clientReady', (client) => this.#connected.add(client));
    aedes.on('clientDisconnect', (client) => this.#connected.delete(client));
    aedes.on('subscribe', (_subscriptions, client) => this.#updateSubscriptions(client));
    aedes.on('unsubscribe', (_filters, client) => this.#updateSubscriptions(client));
    aedes.on('clientError', (_client, error) => this.#options.log.debug(`MQTT client: ${reason(error)}`));
    aedes.on('connectionError', (_client, error) => this.#options.log.debug(`MQTT connection: ${reason(error)}`));
    return aedes;
  }

  // ---- Who it is, and what it may ----------------------------------------------------------------------------------

  /** Judges CONNECT. The answer is given by authenticate(), because only there aedes sends a return code. */
  #introduce(client: Client, packet: ConnectPacket & Asked): void {
    const session = this.#sessions.get(client);
    if (session === undefined) return;
    const { clean, will, username } = packet;
    const clientId = packet.clientId ?? '';
    const refuse = (returnCode: number, why: string) => {
      session.refusal = { returnCode, why };
    };
    // Section 3.1.3.1: a client without an id must ask for a clean session, or is refused with code 2.
    if (clientId === '' && !clean) refuse(IDENTIFIER_REJECTED, 'it has no client id and wants a session kept');
    if (clientId.length > MAX_CLIENT_ID_LENGTH || clientId.startsWith(GUEST_ID))
      refuse(IDENTIFIER_REJECTED, 'its client id is too long, or kept for others');
    const claimed = this.#claimedPeer(session, clientId);
    if (claimed === null && (session.commonName !== null || clientId.startsWith('skos-'))) {
      refuse(NOT_AUTHORIZED, `it may not be "${shown(clientId)}"`);
    }
    session.peer = claimed;
    if (will !== undefined && (claimed === null || will.topic !== this.#peerTopic(claimed))) {
      refuse(NOT_AUTHORIZED, `it may not leave a will on "${shown(will.topic)}"`);
    }
    packet.clean = true;
    // A client with the same id is taken over (section 3.1.4): nobody without the token shall throw a guest out by its id.
    if (username !== undefined && clientId !== '') packet.clientId = `${GUEST_ID}${username}/${clientId}`;
  }

  /** The configured peer that a client with this id is, or null. */
  #claimedPeer({ commonName }: Session, clientId: string): string | null {
    const name = clientId.startsWith('skos-') ? clientId.slice('skos-'.length) : '';
    const peer = this.#options.peers.get(name);
    if (peer === undefined) return null;
    return (commonName === null ? peer.plainLoopback : commonName === name) ? name : null;
  }

  /** null: welcome. */
  async #authenticate(
    client: Client,
    user: string | undefined,
    token: Buffer | undefined,
  ): Promise<AuthenticateError | null> {
    const session = this.#sessions.get(client);
    const hasCredential = user !== undefined || token !== undefined;
    const refusal =
      session?.refusal ?? (hasCredential && session ? await this.#credential(session, user, token) : null);
    if (refusal === null) return null;
    this.#say(`an MQTT client was refused: ${refusal.why}`);
    return refused(refusal.returnCode, refusal.why);
  }

  async #credential(session: Session, user = '', token: Buffer = NOTHING): Promise<Session['refusal']> {
    const { guests } = this.#options;
    // Who mixes the two up gives the token for a name.
    const name = GUEST_NAME.test(user) ? `"${shown(user)}"` : 'that is none';
    const bad = { returnCode: BAD_USER_NAME, why: `user name ${name} and its token are not known here` };
    // Peers come with certificates; on their listener a token could only be somebody's who should not have it.
    if (guests === undefined || session.commonName !== null || session.peer !== null) return bad;
    if (user.length > MAX_TOKEN_LENGTH || token.length > MAX_TOKEN_LENGTH) return bad;
    try {
      session.pass = await guests.authenticate({ user, token: token.toString('utf8') });
      const limits = guests.limits(session.pass);
      if (limits !== undefined) session.guard.use(limits);
      return null;
    } catch (error) {
      const isDenied = error instanceof SkosError && error.code === 'SKOS_TOKEN_DENIED';
      return isDenied ? bad : { returnCode: SERVER_UNAVAILABLE, why: reason(error) };
    }
  }

  /** Who came with this user name is disconnected. */
  dropGuests(user: string): void {
    for (const session of this.#live) {
      if (session.pass?.user !== user) continue;
      // What was read already is judged as anybody's.
      session.pass = null;
      session.socket.destroy();
    }
  }

  /** Each user name and token that somebody came with. */
  get passes(): readonly Pass[] {
    return [...this.#live].flatMap(({ pass }) => (pass === null ? [] : [pass]));
  }

  /** Also asked for wills. An error closes the connection; for a will it means that aedes does not send it. */
  #judgePublish(client: Client | null, packet: PublishPacket): Error | null {
    const session = client === null ? undefined : this.#sessions.get(client);
    if (session?.pass && !client?.closed) return this.#judgeGuest(session.pass, packet);
    const peer = session?.peer;
    if (typeof peer === 'string' && packet.topic === this.#peerTopic(peer) && client?.closed) {
      // The will says one thing, whatever its bytes are: peer-links.ts publishes it in this node's words.
      this.#options.onLastWill(peer);
      return new Error('last will noted');
    }
    this.#say(`a client that may only subscribe tried to publish on "${shown(packet.topic)}"`);
    return new Error('only subscribing is allowed');
  }

  #judgeGuest(pass: Pass, packet: PublishPacket): Error | null {
    const { topic: at, payload, qos } = packet;
    const isExactlyOnce = (qos as number) === 2;
    const offence = isExactlyOnce
      ? `${pass.user} publishes with QoS 2; 0 and 1 are taken`
      : this.#options.guests?.take(pass, at, Buffer.isBuffer(payload) ? payload : Buffer.from(payload));
    if (offence !== undefined) {
      this.#say(offence);
      return new Error(offence);
    }
    // It is acknowledged, and goes to nobody: what comes of it is published in this node's own words, in order with all others.
    Object.assign(packet, { topic: TAKEN_TOPIC, payload: NOTHING, retain: false });
    return null;
  }

  #peerTopic(peer: string): string {
    return topic(this.#options.prefix, 'peer', peer);
  }

  #maySubscribe(client: Client, { topic: filter }: Subscription): boolean {
    const session = this.#sessions.get(client);
    if (session === undefined) return false;
    if (!session.subscriptions.take(1)) {
      this.#say('a client subscribes again and again');
      session.socket.destroy();
      return false;
    }
    const { prefix, node } = this.#options;
    if (session.peer !== null && !isOwnFilter(prefix, node, filter)) return false;
    return filters(client).length < MAX_SUBSCRIPTIONS_PER_CLIENT;
  }

  // ---- Slow readers ------------------------------------------------------------------------------------------------

  /** Asked before every message to every subscriber: reads one number, and only a slow reader costs more. */
  #keepsUp(client: Client): boolean {
    const session = this.#sessions.get(client);
    if (session === undefined) return false;
    const waiting = session.socket.writableLength;
    this.#totalBacklogBytes += waiting - session.backlogBytes;
    session.backlogBytes = waiting;
    if (this.#totalBacklogBytes > 0) this.#sweep ??= setTimeout(() => this.#sweepBacklogs(), BACKLOG_SWEEP_MS);
    const tooMuch = this.#totalBacklogBytes > MAX_TOTAL_BACKLOG_BYTES && waiting > PACE_BYTES;
    if (waiting <= MAX_BACKLOG_BYTES && !tooMuch) return true;
    this.#say(`subscriber "${shown(client.id)}" does not read: ${waiting} bytes wait for it`);
    session.socket.destroy();
    return false;
  }

  /** What has drained since the last message. While nothing waits there is nothing to look at, each second, for ever. */
  #sweepBacklogs(): void {
    this.#sweep = undefined;
    this.#totalBacklogBytes = 0;
    for (const session of this.#live) {
      session.backlogBytes = session.socket.writableLength;
      this.#totalBacklogBytes += session.backlogBytes;
    }
    if (this.#totalBacklogBytes > 0) this.#sweep = setTimeout(() => this.#sweepBacklogs(), BACKLOG_SWEEP_MS);
  }

  /** Until the sockets have taken all, or the deadline is over. */
  async #drained(): Promise<void> {
    const end = this.#options.clock.monotonicMs() + DRAIN_DEADLINE_MS;
    const waits = () => [...this.#live].some(({ socket }) => socket.writableLength > 0);
    // One turn at least: aedes hands a message to its subscribers in the next one.
    do await new Promise((resolve) => setTimeout(resolve, 10));
    while (waits() && this.#options.clock.monotonicMs() < end);
  }

  // ---- Subscriptions -----------------------------------------------------------------------------------------------

  #updateSubscriptions(client: Client): void {
    const session = this.#sessions.get(client);
    if (session === undefined || !this.#live.has(session)) return;
    const { prefix, node, peers } = this.#options;
    const wanted = filters(client);
    this.#setFilters(session, new Set(wanted));
    const demands = [node, ...peers.keys()].filter((each) =>
      wanted.some((filter) => couldMatchSensors(prefix, each, filter)),
    );
    this.#setDemands(session, new Set(demands));
  }

  #setFilters(session: Session, filters: ReadonlySet<string>): void {
    const before = session.filters;
    session.filters = filters;
    for (const filter of filters) if (!before.has(filter)) this.#audience.add(filter);
    for (const filter of before) if (!filters.has(filter)) this.#audience.remove(filter);
  }

  #setDemands(session: Session, demands: ReadonlySet<string>): void {
    const before = session.demands;
    session.demands = demands;
    for (const node of demands) if (!before.has(node)) this.#count(node, +1);
    for (const node of before) if (!demands.has(node)) this.#count(node, -1);
  }

  #count(node: string, change: 1 | -1): void {
    const count = (this.#demand.get(node) ?? 0) + change;
    this.#demand.set(node, count);
    if (count === 0 || (count === 1 && change === 1)) this.#options.onSensorDemand(node, count > 0);
  }
}

function packetOf({ topic: at, payload, retain, qos }: Message): PublishPacket {
  return { cmd: 'publish', topic: at, payload, retain, qos, dup: false };
}

function refused(returnCode: number, why: string): AuthenticateError {
  return Object.assign(new Error(why), { returnCode });
}

/** Filters that were granted. aedes keeps them per client, but its types do not say so. */
function filters(client: Client): string[] {
  return Object.keys((client as Client & { subscriptions: Record<string, unknown> }).subscriptions);
}
