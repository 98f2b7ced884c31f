/**
 * One listening port of the broker, plain or with mutual TLS. A port that is taken is reported and tried again with
 * back-off for ever: protection does not depend on it, and whoever took it may leave.
 */
import { readFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { reason, SkosError } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import { hostPort, isLoopback } from './address.js';
import { BackOff } from './back-off.js';

const RETRY_FIRST_MS = 1_000;
const RETRY_LIMIT_MS = 10_000;
/** A TLS handshake on a loaded node takes tens of milliseconds. */
const HANDSHAKE_TIMEOUT_MS = 5_000;
/** Finds peers that vanished without a word, beside MQTT's own keep-alive. */
const TCP_KEEP_ALIVE_MS = 30_000;

export interface TlsFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface ListenerOptions {
  readonly address: string;
  /** null: plain, and then loopback only. */
  readonly tls: TlsFiles | null;
  readonly maxConnections: number;
  /** Beyond it a socket counts as full and the broker waits for it to drain. */
  readonly highWaterMarkBytes: number;
  /** `commonName` is that of the client's verified certificate; null on a plain listener. */
  readonly onConnection: (socket: Socket, commonName: string | null) => void;
  readonly log: Log;
}

export class Listener {
  readonly #options: ListenerOptions;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #retry: NodeJS.Timeout | undefined;
  #stopped = true;
  #address: string;
  #listening = false;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#address = options.address;
  }

  get listening(): boolean {
    return this.#listening;
  }

  /** As configured; with the real port where 0 was asked for. */
  get address(): string {
    return this.#address;
  }

  /** Resolves after the first attempt, whatever came of it. */
  async start(): Promise<void> {
    if (!this.#stopped) return;
    this.#stopped = false;
    const backOff = new BackOff({ firstMs: RETRY_FIRST_MS, limitMs: RETRY_LIMIT_MS, random: Math.random });
    await this.#attempt(backOff);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retry);
    const server = this.#server;
    this.#server = undefined;
    this.#listening = false;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #attempt(backOff: BackOff): Promise<void> {
    const { log, tls } = this.#options;
    try {
      await this.#listen();
      backOff.reset();
      log.info(`listening for MQTT${tls === null ? '' : ' with TLS'} on ${this.#address}`, { event: 'net.listen' });
    } catch (error) {
      const failure = coded(error, this.#options.address);
      log.error(failure.message, { event: 'net.listen_failed', code: failure.code, error: failure });
      if (!this.#stopped) this.#retry = setTimeout(() => void this.#attempt(backOff), backOff.delayMs());
    }
  }

  async #listen(): Promise<void> {
    const { host, port } = hostPort(this.#options.address);
    const server = await this.#makeServer(host);
    if (this.#stopped) return;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port }, () => {
        server.removeListener('error', reject);
        resolve();
      });
    });
    const bound = server.address();
    if (bound !== null && typeof bound === 'object') {
      this.#address = `${this.#options.address.slice(0, this.#options.address.lastIndexOf(':'))}:${bound.port}`;
    }
    server.on('error', (error) => this.#options.log.error(`the MQTT listener failed: ${reason(error)}`, { error }));
    this.#server = server;
    this.#listening = true;
    if (this.#stopped) await this.stop();
  }

  async #makeServer(host: string): Promise<Server> {
    const { tls, maxConnections, highWaterMarkBytes: highWaterMark } = this.#options;
    const server = tls === null ? this.#plain(host, highWaterMark) : await this.#secure(tls, highWaterMark);
    server.maxConnections = maxConnections;
    server.on('connection', (socket) => this.#track(socket));
    return server;
  }

  #plain(host: string, highWaterMark: number): Server {
    if (!isLoopback(host)) {
      throw new SkosError(
        'SKOS_NET_LISTEN',
        `${host} is not loopback: plain MQTT is for this machine; see mesh.listen`,
      );
    }
    return createServer({ highWaterMark, noDelay: true }, (socket) => this.#options.onConnection(socket, null));
  }

  async #secure(files: TlsFiles, highWaterMark: number): Promise<Server> {
    const options = { ...(await readTlsFiles(files)), highWaterMark, noDelay: true };
    const server = createTlsServer({
      ...options,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    });
    server.on('secureConnection', (socket) => this.#options.onConnection(socket, commonName(socket)));
    server.on('tlsClientError', (error) => {
      this.#options.log.warn(`a TLS client was refused: ${reason(error)}`, {
        event: 'mesh.tls',
        code: 'SKOS_MESH_TLS',
      });
    });
    return server;
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.setKeepAlive(true, TCP_KEEP_ALIVE_MS);
    socket.on('error', () => undefined); // How clients leave; 'close' follows.
    socket.once('close', () => this.#sockets.delete(socket));
  }
}

/** Contents of the files; SKOS_MESH_TLS when one cannot be read. */
export async function readTlsFiles({ ca, cert, key }: TlsFiles): Promise<{ ca: Buffer; cert: Buffer; key: Buffer }> {
  try {
    return { ca: await readFile(ca), cert: await readFile(cert), key: await readFile(key) };
  } catch (error) {
    throw new SkosError('SKOS_MESH_TLS', reason(error), { cause: error });
  }
}

/** An empty name is no node's: the connection is then refused by the broker. Two names in one subject are none. */
function commonName(socket: TLSSocket): string {
  const name: unknown = socket.getPeerCertificate().subject?.CN;
  return typeof name === 'string' ? name : '';
}

function coded(error: unknown, address: string): SkosError {
  if (error instanceof SkosError) return error;
  const code = /PEM|SSL|key values/i.test(reason(error)) ? 'SKOS_MESH_TLS' : 'SKOS_NET_LISTEN';
  return new SkosError(code, `cannot listen on ${address}: ${reason(error)}`, { cause: error });
}
