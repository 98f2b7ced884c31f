/**
 * The agent's Unix socket: the only way in for the CLI and for skos-net (core/protocol.ts is the contract).
 *
 * Who a client is, the kernel says (SO_PEERCRED), once, when it connects. Params are checked before a handler sees
 * them. Nothing that a client does or leaves undone holds up the agent: queues, lines, clients and requests are
 * bounded, as is the time that skos-net can have of it (net-budget.ts), an event is serialised once for all subscribers, and costs nothing when nobody subscribes.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import { lineOf } from '../core/lines.js';
import type { Log } from '../core/ports.js';
import { type EventName, type Events, MAX_CLIENTS, NET_VERBS, type Verb, type Verbs } from '../core/protocol.js';
import { parse } from '../core/shape.js';
import { suggest } from '../core/suggest.js';
import { NetBudget } from './net-budget.js';
import { SocketConnection } from './socket-connection.js';
import { listenAt } from './socket-file.js';
import { VERB_PARAMS } from './verb-params.js';

/** Kept free of operators' tools, so that a forgotten `--watch` cannot keep skos-net out. Two: it may overlap itself. */
const CLIENTS_RESERVED_FOR_NET = 2;
/** Connections in the kernel's hands, refused ones included: bounds the file descriptors that strangers can hold. */
const MAX_CONNECTIONS = 2 * MAX_CLIENTS;

export interface Credentials {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
  readonly pid: number;
}

export type Role = 'admin' | 'net';

export interface Caller {
  readonly role: Role;
  readonly credentials: Credentials;
  /** Aborted when the connection is over; absent when it is not the socket that asks. One object for each connection. */
  readonly gone?: AbortSignal;
}

/** One per verb; `subscribe` is the server's own. Params have the shape of VERB_PARAMS when a handler sees them. */
export type Handlers = {
  readonly [V in Exclude<Verb, 'subscribe'>]: (
    params: Verbs[V]['params'],
    caller: Caller,
  ) => Promise<Verbs[V]['result']> | Verbs[V]['result'];
};

export type SendEvent = <E extends EventName>(event: E, data: Events[E]) => void;

export interface SocketServerOptions {
  readonly path: string;
  /** SO_PEERCRED and the groups of a connected Unix socket, from the native addon. */
  readonly credentialsOf: (fd: number) => Credentials;
  /** null: not admitted. */
  readonly roleOf: (credentials: Credentials) => Role | null;
  readonly handlers: Handlers;
  /** Called for each new subscriber: sends the retained truth before any live event. */
  readonly onSubscribe: (send: SendEvent, caller: Caller) => void;
  readonly clock: Clock;
  readonly log: Log;
}

interface Client {
  readonly connection: SocketConnection;
  readonly caller: Caller;
  readonly gone: AbortController;
}

export class SocketServer {
  readonly #options: SocketServerOptions;
  readonly #clients = new Set<Client>();
  readonly #subscribers = new Set<Client>();
  readonly #netBudget: NetBudget;
  #server: Server | undefined;
  #remove: (() => void) | undefined;

  constructor(options: SocketServerOptions) {
    this.#options = options;
    this.#netBudget = new NetBudget(options.clock);
  }

  /** Listens. SKOS_SOCKET_BUSY when another agent does; a stale file is removed. */
  async start(): Promise<void> {
    if (this.#server !== undefined) return;
    const server = createServer((socket) => this.#accept(socket));
    server.maxConnections = MAX_CONNECTIONS;
    this.#remove = await listenAt(this.#options.path, server);
    server.on('error', (error) => this.#options.log.error('the agent socket failed', { event: 'socket.error', error }));
    this.#server = server;
  }

  /** Stops listening, lets clients take their last lines, removes the file. Idempotent. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    this.#remove?.();
    for (const { connection } of [...this.#clients]) connection.close();
    await closed;
  }

  get clients(): number {
    return this.#clients.size;
  }

  get subscribers(): number {
    return this.#subscribers.size;
  }

  /** Sends an event to every subscriber. */
  broadcast<E extends EventName>(event: E, data: Events[E]): void {
    if (this.#subscribers.size === 0) return;
    const line = lineOf({ event, data });
    for (const { connection } of this.#subscribers) connection.send(line);
  }

  #accept(socket: Socket): void {
    const { log } = this.#options;
    let client: Client | undefined;
    const connection = new SocketConnection({
      socket,
      answer: async (verb, params) => (client === undefined ? undefined : this.#answer(client, verb, params)),
      budget: () => (client?.caller.role === 'net' ? this.#netBudget : undefined),
      onEnd: (why) => {
        if (client !== undefined) this.#forget(client);
        if (why !== undefined) log.warn(`client of the agent socket ended: ${why.message}`, ended(why, client?.caller));
      },
    });
    connection.start();
    try {
      const gone = new AbortController();
      const caller = { ...this.#admit(socket), gone: gone.signal };
      client = { connection, caller, gone };
      this.#clients.add(client);
    } catch (error) {
      const denied = error instanceof SkosError ? error : new SkosError('SKOS_SOCKET_DENIED', reason(error));
      connection.refuse(denied);
    }
  }

  #admit(socket: Socket): Caller {
    const credentials = this.#options.credentialsOf(descriptorOf(socket));
    const role = this.#options.roleOf(credentials);
    if (role === null) {
      throw new SkosError('SKOS_SOCKET_DENIED', `user ${credentials.uid} (process ${credentials.pid}) is not admitted`);
    }
    const limit = role === 'net' ? MAX_CLIENTS : MAX_CLIENTS - CLIENTS_RESERVED_FOR_NET;
    if (this.#clients.size >= limit) throw new SkosError('SKOS_SOCKET_FULL', `${this.#clients.size} clients already`);
    if (role === 'net' && !this.#netBudget.takeConnection()) {
      throw new SkosError('SKOS_SOCKET_FLOOD', 'skos-net connects, or asks, more often than the agent has time for');
    }
    return { role, credentials };
  }

  async #answer(client: Client, verb: unknown, params: unknown): Promise<unknown> {
    const known = knownVerb(verb);
    if (client.caller.role === 'net' && !NET_VERBS.includes(known)) {
      throw new SkosError('SKOS_SOCKET_DENIED', `skos-net may not use the verb ${known}`);
    }
    if (client.caller.role === 'net') this.#netBudget.takeVerb(known);
    const { value, issues } = parse(VERB_PARAMS[known], params);
    if (issues.length > 0) {
      const wrong = issues.map(({ path, message }) => `${['params', ...path].join('.')} ${message}`).join('; ');
      throw new SkosError('SKOS_PROTOCOL_INVALID', `${known}: ${wrong}`);
    }
    if (known === 'subscribe') return this.#subscribe(client);
    // The table above has just checked the params of this very verb.
    const handler = this.#options.handlers[known] as (params: unknown, caller: Caller) => unknown;
    return handler(value, client.caller);
  }

  #subscribe(client: Client): Record<string, never> {
    if (this.#subscribers.has(client)) return {};
    // Before it joins the subscribers, so that no live event overtakes the retained truth.
    this.#options.onSubscribe((event, data) => client.connection.send(lineOf({ event, data })), client.caller);
    if (this.#clients.has(client)) this.#subscribers.add(client); // It may have been dropped for overflow just now.
    return {};
  }

  #forget(client: Client): void {
    this.#clients.delete(client);
    this.#subscribers.delete(client);
    client.gone.abort();
  }
}

function knownVerb(verb: unknown): Verb {
  if (typeof verb === 'string' && Object.hasOwn(VERB_PARAMS, verb)) return verb as Verb;
  const verbs = Object.keys(VERB_PARAMS);
  const close = typeof verb === 'string' ? suggest(verb, verbs) : undefined;
  const hint = close === undefined ? `known verbs: ${verbs.join(', ')}` : `did you mean ${close}?`;
  throw new SkosError('SKOS_PROTOCOL_INVALID', `unknown verb ${JSON.stringify(verb ?? null).slice(0, 60)}; ${hint}`);
}

/**
 * File descriptor of a connected socket. Node has no public name for it; `_handle.fd` has been there since its first
 * versions, and is used because SO_PEERCRED can be asked only of a descriptor. Without it nobody is admitted.
 */
function descriptorOf(socket: Socket): number {
  const fd = (socket as Socket & { _handle?: { fd?: unknown } })._handle?.fd;
  if (typeof fd === 'number' && fd >= 0) return fd;
  throw new SkosError('SKOS_SOCKET_DENIED', 'the client was gone before it could be asked who it is');
}

function ended(why: SkosError, caller: Caller | undefined) {
  const { uid, pid } = caller?.credentials ?? {};
  return { event: 'socket.client', code: why.code, uid, pid };
}
