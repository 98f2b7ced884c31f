/**
 * Client of the agent's Unix socket: the CLI and skos-net speak to the agent through it, and through nothing else.
 *
 * Requests are answered in any order and matched by id; each has a deadline, so that a stopped agent cannot hang an
 * operator's tool. A lost connection rejects what is outstanding with SKOS_SOCKET_UNAVAILABLE (or with the reason that
 * the agent gave). A client is used for one connection: to connect again, make a new one.
 */
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { ERRORS, type ErrorCode, reason, SkosError } from './errors.js';
import { LineReader, lineOf, parseLine } from './lines.js';
import { type EventName, type Events, MAX_LINE_BYTES, type Verb, type Verbs } from './protocol.js';

/** Longer than any honest answer takes on a busy node; `audit.verify` of a long chain is asked with more. */
const DEFAULT_DEADLINE_MS = 5_000;
const RUN_DIRECTORY = '/run/skos';
const SOCKET_NAME = 'agent.sock';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Where the agent's socket is, for server and clients alike: $SKOS_RUN_DIR, else /run/skos where an agent already
 * listens or one may be started by this user, else the data directory, unless this user may not even look into it: then the
 * agent that is not running is the installed one.
 */
export function agentSocketPath(options: { env: Environment; dataDir: string; runDirectory?: string }): string {
  const { env, dataDir, runDirectory = RUN_DIRECTORY } = options;
  if (env.SKOS_RUN_DIR) return join(env.SKOS_RUN_DIR, SOCKET_NAME);
  const installed = join(runDirectory, SOCKET_NAME);
  const isInstalled = existsSync(installed) || isWritable(runDirectory) || isForbidden(dataDir);
  return isInstalled ? installed : join(dataDir, SOCKET_NAME);
}

function isWritable(directory: string): boolean {
  try {
    accessSync(directory, constants.W_OK);
    return true;
  } catch {
    return false; // Absent or not ours: the data directory is used instead.
  }
}

function isForbidden(directory: string): boolean {
  try {
    statSync(join(directory, SOCKET_NAME));
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EACCES';
  }
}

interface Outstanding {
  resolve(result: unknown): void;
  reject(error: SkosError): void;
  readonly deadline: NodeJS.Timeout;
}

type Listener<E extends EventName> = (data: Events[E]) => void;

export class AgentClient {
  readonly #deadlineMs: number;
  readonly #outstanding = new Map<number, Outstanding>();
  readonly #listeners = new Map<EventName, Set<(data: unknown) => void>>();
  readonly #closeListeners = new Set<(why: SkosError) => void>();
  readonly #reader = new LineReader({ maxBytes: MAX_LINE_BYTES });
  #socket: Socket | undefined;
  #nextId = 1;
  #ended: SkosError | undefined;

  constructor({ deadlineMs = DEFAULT_DEADLINE_MS }: { deadlineMs?: number } = {}) {
    this.#deadlineMs = deadlineMs;
  }

  get connected(): boolean {
    return this.#socket !== undefined && this.#ended === undefined;
  }

  /** Resolves when connected. SKOS_SOCKET_UNAVAILABLE: nobody answers; SKOS_SOCKET_DENIED: the file may not be opened. */
  connect(socketPath: string): Promise<void> {
    if (this.#socket !== undefined) throw new Error('AgentClient.connect() was called twice');
    const socket = connect(socketPath);
    this.#socket = socket;
    return new Promise((resolve, reject) => {
      const deadline = setTimeout(() => socket.destroy(new Error('the connection was not accepted')), this.#deadlineMs);
      socket.once('connect', () => {
        clearTimeout(deadline);
        resolve();
      });
      socket.on('data', (chunk) => this.#read(chunk));
      socket.on('error', (error) => this.#end(unavailable(socketPath, error)));
      socket.on('close', () => {
        clearTimeout(deadline);
        this.#end(new SkosError('SKOS_SOCKET_UNAVAILABLE', `the agent closed the connection (${socketPath})`));
        reject(this.#ended); // Has no effect once connected.
      });
    });
  }

  /** Asks the agent. Rejects with the code that the agent answers, or when the deadline is over. */
  request<V extends Verb>(
    verb: V,
    params: Verbs[V]['params'],
    { deadlineMs = this.#deadlineMs }: { deadlineMs?: number } = {},
  ): Promise<Verbs[V]['result']> {
    return new Promise((resolve, reject) => {
      if (this.#socket === undefined || this.#ended !== undefined) {
        reject(this.#ended ?? new SkosError('SKOS_SOCKET_UNAVAILABLE', 'not connected to the agent'));
        return;
      }
      const id = this.#nextId++;
      const deadline = setTimeout(() => {
        this.#outstanding.delete(id);
        reject(new SkosError('SKOS_SOCKET_DEADLINE', `no answer to ${verb} within ${deadlineMs} ms`));
      }, deadlineMs);
      // The result is what this verb returns by contract; both ends are of one version, the message says so if not.
      this.#outstanding.set(id, { resolve: resolve as (result: unknown) => void, reject, deadline });
      this.#socket.write(lineOf({ id, verb, params }));
    });
  }

  /** Listens to events, which come after `subscribe`. Returns how to stop listening. */
  on<E extends EventName>(event: E, listener: Listener<E>): () => void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners);
    const entry = listener as (data: unknown) => void;
    listeners.add(entry);
    return () => listeners.delete(entry);
  }

  /** Calls back once when the connection is over, with the reason; not for one's own close(). */
  onClose(listener: (why: SkosError) => void): void {
    this.#closeListeners.add(listener);
  }

  /** Ends the connection. Idempotent; what is outstanding is rejected. */
  close(): void {
    this.#closeListeners.clear();
    this.#end(new SkosError('SKOS_SOCKET_UNAVAILABLE', 'the connection was closed by this program'));
    this.#socket?.destroy();
  }

  #read(chunk: Buffer): void {
    try {
      this.#reader.push(chunk, (line) => this.#line(line));
    } catch (error) {
      this.#end(error instanceof SkosError ? error : new SkosError('SKOS_PROTOCOL_INVALID', reason(error)));
      this.#socket?.destroy();
    }
  }

  #line(line: string): void {
    const message = parseLine(line);
    if (typeof message.event === 'string') {
      // A listener's own error is a programming error of this program: it must not look like a protocol fault.
      for (const listener of this.#listeners.get(message.event as EventName) ?? []) {
        queueMicrotask(() => listener(message.data));
      }
      return;
    }
    const id = message.id;
    if (id === 0) throw errorOf(message.error); // About the connection, not about one request: see SocketServer.
    if (typeof id !== 'number') throw new SkosError('SKOS_PROTOCOL_INVALID', 'the agent sent a line of unknown kind');
    const asked = this.#outstanding.get(id);
    if (asked === undefined) return; // Its deadline is over; the answer came too late to matter.
    this.#outstanding.delete(id);
    clearTimeout(asked.deadline);
    if (message.error === undefined) asked.resolve(message.result);
    else asked.reject(errorOf(message.error));
  }

  #end(why: SkosError): void {
    if (this.#ended !== undefined) return;
    this.#ended = why;
    for (const { reject, deadline } of this.#outstanding.values()) {
      clearTimeout(deadline);
      reject(why);
    }
    this.#outstanding.clear();
    for (const listener of this.#closeListeners) listener(why);
  }
}

function unavailable(socketPath: string, error: Error & { code?: string }): SkosError {
  const denied = error.code === 'EACCES' || error.code === 'EPERM';
  const code = denied ? 'SKOS_SOCKET_DENIED' : 'SKOS_SOCKET_UNAVAILABLE';
  return new SkosError(code, `cannot reach the agent at ${socketPath}: ${reason(error)}`, { cause: error });
}

function errorOf(error: unknown): SkosError {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  const known = typeof code === 'string' && Object.hasOwn(ERRORS, code);
  return new SkosError(known ? (code as ErrorCode) : 'SKOS_PROTOCOL_INVALID', String(message ?? 'no message'));
}
