/**
 * One MQTT connection to another broker, for one attempt: mqtt.js behind an interface of ours.
 *
 * mqtt.js does not compile under full strictness, reconnects in step and trusts what it receives; so its own
 * reconnection is off, the socket is ours (TLS rules, bounded packets), and its module is loaded when the first link is
 * made: a node without peers does not pay for it.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import mqttPacket from 'mqtt-packet';
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import type { BrokerUrl } from './address.js';
import { guardSocket, type InboundLimits, PacketGuard } from './packet-guard.js';
import { MAX_PAYLOAD_BYTES } from './payloads.js';
import type { Message, QoS } from './topics.js';

// See broker.ts: both libraries share this switch, and either may be the first to write.
mqttPacket.writeToStream.cacheNumbers = false;

const CONNECT_TIMEOUT_MS = 5_000;
/** A link that is silently gone is noticed within 1.5 times this; heartbeats have their own, longer time. */
const KEEP_ALIVE_SECONDS = 5;
/** A restarted peer replays everything it retains at once (thousands of topics); beyond this it is broken. */
const INBOUND: InboundLimits = {
  maxPacketBytes: MAX_PAYLOAD_BYTES + 1024,
  bytesPerSecond: 2 * 1024 * 1024,
  burstBytes: 8 * 1024 * 1024,
  packetsPerSecond: 2_000,
  burstPackets: 10_000,
};
/** What may wait to be sent or acknowledged; a broker that does not take it is gone. */
const MAX_BACKLOG_BYTES = 2 * 1024 * 1024;
const MAX_UNACKNOWLEDGED = 10_000;

export interface TlsContents {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

export interface MqttClientOptions {
  readonly url: BrokerUrl;
  readonly clientId: string;
  readonly will?: Message;
  readonly tls: TlsContents;
  /** The broker's certificate must bear this common name; absent: its host name, as usual in TLS. */
  readonly commonName?: string;
  readonly username?: string;
  readonly password?: string;
  readonly onMessage: (topic: string, payload: Buffer, retained: boolean) => void;
  /** Once, when the connection is over or could not be made. */
  readonly onEnd: (why: SkosError) => void;
  readonly clock: Clock;
}

/** The part of mqtt.js' client that is used here. */
interface LibraryClient {
  on(event: 'connect' | 'close', listener: () => void): void;
  on(event: 'error', listener: (error: Error) => void): void;
  on(event: 'message', listener: (topic: string, payload: Buffer, packet: { retain: boolean }) => void): void;
  subscribe(filters: string[], options: { qos: QoS }, done: (error: Error | null) => void): void;
  unsubscribe(filters: string[], done: () => void): void;
  publish(topic: string, payload: string | Buffer, options: object, done: (error?: Error) => void): void;
  end(force: boolean, options: object, done: () => void): void;
}
/** A CommonJS module with a default export: Node and esbuild agree that importing it yields it twice wrapped. */
type LibraryModule = { default: { default: new (stream: () => Socket, options: object) => LibraryClient } };

export class MqttClient {
  readonly #options: MqttClientOptions;
  #client: LibraryClient | undefined;
  #socket: Socket | undefined;
  #why: SkosError | undefined;
  #over = false;
  #connected = false;
  #unacknowledged = 0;

  constructor(options: MqttClientOptions) {
    this.#options = options;
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** Resolves when the broker has accepted; rejects with the reason that onEnd gets too. */
  async connect(): Promise<void> {
    const library = (await import('mqtt/lib/client')) as unknown as LibraryModule;
    const Library = library.default.default;
    if (this.#over) throw this.#link('it was ended');
    const { clientId, will, username, password } = this.#options;
    await new Promise<void>((resolve, reject) => {
      const client = new Library(() => this.#open(), {
        clientId,
        ...(will === undefined ? {} : { will }),
        ...(username === undefined ? {} : { username }),
        ...(password === undefined ? {} : { password }),
        protocolVersion: 4,
        clean: true,
        keepalive: KEEP_ALIVE_SECONDS,
        connectTimeout: CONNECT_TIMEOUT_MS,
        reconnectPeriod: 0,
        resubscribe: false,
        queueQoSZero: false,
        writeCache: false,
      });
      this.#client = client;
      client.on('connect', () => {
        this.#connected = true;
        resolve();
      });
      client.on('error', (error) => this.#remember(error));
      client.on('message', (topic, payload, { retain }) => this.#options.onMessage(topic, payload, retain));
      client.on('close', () => {
        const why = this.#why ?? this.#link('the connection was closed');
        reject(why);
        this.#end(why);
      });
    });
  }

  async subscribe(filters: readonly string[], qos: QoS): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      if (this.#client === undefined) return reject(this.#link('not connected'));
      this.#client.subscribe([...filters], { qos }, (error) => (error ? reject(this.#link(reason(error))) : resolve()));
    });
  }

  async unsubscribe(filters: readonly string[]): Promise<void> {
    await new Promise<void>((resolve) => {
      if (this.#client === undefined) return resolve();
      this.#client.unsubscribe([...filters], () => resolve());
    });
  }

  /** Resolves when the broker has it (QoS 1) or it is on its way (QoS 0). A broker that does not read is left. */
  async publish({ topic, payload, retain, qos }: Message): Promise<void> {
    const client = this.#client;
    if (client === undefined || !this.#connected) throw this.#link('not connected');
    if ((this.#socket?.writableLength ?? 0) > MAX_BACKLOG_BYTES || this.#unacknowledged > MAX_UNACKNOWLEDGED) {
      this.#socket?.destroy(this.#link('the broker does not keep up'));
      throw this.#link('the broker does not keep up');
    }
    this.#unacknowledged++;
    await new Promise<void>((resolve, reject) => {
      client.publish(topic, payload, { qos, retain }, (error) => {
        this.#unacknowledged--;
        if (error) reject(this.#link(reason(error)));
        else resolve();
      });
    });
  }

  /**
   * Ends the connection. Without a goodbye the broker speaks the last will, which is what a stopping node wants its
   * peers to hear; with one it stays silent.
   */
  end({ goodbye }: { goodbye: boolean }): Promise<void> {
    this.#over = true;
    this.#connected = false;
    if (!goodbye) this.#socket?.destroy();
    return new Promise((resolve) => {
      if (this.#client === undefined) resolve();
      else this.#client.end(!goodbye, {}, () => resolve());
    });
  }

  #open(): Socket {
    const { url, tls, commonName, clock } = this.#options;
    const { host, port } = url;
    const socket = url.tls
      ? connectTls({
          host,
          port,
          ...tls,
          rejectUnauthorized: true,
          minVersion: 'TLSv1.2',
          ...(commonName === undefined
            ? {}
            : { checkServerIdentity: (_host, { subject }) => named(subject.CN, commonName) }),
        })
      : connectTcp({ host, port, noDelay: true });
    guardSocket(socket, new PacketGuard(INBOUND, clock), (why) => this.#remember(new Error(`it sent ${why}`)));
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => {
      if (!this.#connected) socket.destroy(new Error('it does not answer'));
    });
    socket.on('error', (error) => this.#remember(error));
    this.#socket = socket;
    return socket;
  }

  #remember(error: Error): void {
    this.#why ??= this.#link(reason(error), error);
  }

  #link(why: string, cause?: unknown): SkosError {
    const { host, port } = this.#options.url;
    const code = /certificate|ssl|tls|unable to (get|verify)|CERT_|common name/i.test(why)
      ? 'SKOS_MESH_TLS'
      : 'SKOS_MESH_LINK';
    return new SkosError(code, `${host}:${port}: ${why}`, { cause });
  }

  #end(why: SkosError): void {
    this.#connected = false;
    if (this.#over) return;
    this.#over = true;
    // Lets the library drop its timers and stores; it has nothing to say any more.
    this.#client?.end(true, {}, () => undefined);
    this.#options.onEnd(why);
  }
}

function named(found: unknown, wanted: string): Error | undefined {
  return found === wanted
    ? undefined
    : new Error(`its certificate bears the common name "${String(found)}", not "${wanted}"`);
}
