/**
 * One client of the agent's socket: its requests, its bounded queue, its subscription. Whatever it sends is answered
 * by a result or a coded error; a stream that is out of step (a line too long) or a reader too slow ends it.
 */
import type { Socket } from 'node:net';
import { type ErrorCode, reason, SkosError } from '../core/errors.js';
import { LineReader, lineOf, parseLine } from '../core/lines.js';
import { MAX_LINE_BYTES, MAX_QUEUED_BYTES } from '../core/protocol.js';
import type { NetBudget } from './net-budget.js';

/** Requests of one client that are not answered yet; beyond it the client is simply not read for a while. */
const MAX_OUTSTANDING_REQUESTS = 64;
/** What a client has to take its last lines. */
const CLOSE_DEADLINE_MS = 500;

export interface ConnectionOptions {
  readonly socket: Socket;
  /** Answers one request: resolves with the result or rejects. */
  readonly answer: (verb: unknown, params: unknown) => Promise<unknown>;
  /** What it may ask; undefined: as much as it likes. */
  readonly budget: () => NetBudget | undefined;
  readonly onEnd: (why: SkosError | undefined) => void;
}

export class SocketConnection {
  readonly #options: ConnectionOptions;
  readonly #reader = new LineReader({ maxBytes: MAX_LINE_BYTES });
  #outstanding = 0;
  /** While what it may ask is spent. */
  #wait: NodeJS.Timeout | undefined;
  #corked = false;
  #ended = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  start(): void {
    const { socket } = this.#options;
    socket.on('data', (chunk) => this.#read(chunk));
    // A broken pipe is how clients leave; 'close' follows and says what matters.
    socket.on('error', () => undefined);
    socket.on('close', () => this.#end(undefined));
  }

  /** Queues a line. A client that has too much outstanding is disconnected. */
  send(line: Buffer): void {
    const { socket } = this.#options;
    if (this.#ended || socket.destroyed) return;
    if (socket.writableLength + line.length > MAX_QUEUED_BYTES) {
      this.#end(
        new SkosError('SKOS_PROTOCOL_OVERFLOW', `a client does not read (${socket.writableLength} bytes wait)`),
      );
      socket.destroy();
      return;
    }
    this.#cork(socket);
    socket.write(line);
  }

  /** Says why, then closes. Id 0 is never a request's: it means the connection. */
  refuse(error: SkosError): void {
    this.send(lineOf({ id: 0, error: { code: error.code, message: error.message } }));
    this.#end(error);
    // What it still sends is not read: one that floods would go on to cost time until it leaves by itself.
    this.#options.socket.pause();
    this.#options.socket.destroySoon();
    this.#destroyInTime();
  }

  /** Sends what is queued, then closes; destroys what does not drain in time. */
  close(): void {
    const { socket } = this.#options;
    this.#end(undefined);
    socket.end();
    socket.resume(); // Its end is seen only when what it still sends is read (and dropped).
    this.#destroyInTime();
  }

  #destroyInTime(): void {
    const { socket } = this.#options;
    const timer = setTimeout(() => socket.destroy(), CLOSE_DEADLINE_MS);
    socket.once('close', () => clearTimeout(timer));
  }

  /** What is sent in one turn of the event loop leaves in one writev(): a tick's events cost one system call. */
  #cork(socket: Socket): void {
    if (this.#corked) return;
    this.#corked = true;
    socket.cork();
    process.nextTick(() => {
      this.#corked = false;
      socket.uncork();
    });
  }

  #read(chunk: Buffer): void {
    if (this.#ended) return;
    const budget = this.#options.budget();
    budget?.takeBytes(chunk.length);
    try {
      this.#reader.push(chunk, (line) => this.#request(line));
      this.#waitFor(budget);
    } catch (error) {
      this.refuse(error instanceof SkosError ? error : new SkosError('SKOS_PROTOCOL_INVALID', reason(error)));
    }
  }

  /** Reads no further while what it may ask is spent. */
  #waitFor(budget: NetBudget | undefined): void {
    const waitMs = budget?.waitMs ?? 0;
    if (this.#ended || waitMs === 0) return;
    this.#options.socket.pause();
    this.#wait ??= setTimeout(() => {
      this.#wait = undefined;
      this.#waitFor(budget);
      this.#readOn();
    }, waitMs);
  }

  #readOn(): void {
    if (this.#ended || this.#wait !== undefined) return;
    if (this.#outstanding < MAX_OUTSTANDING_REQUESTS) this.#options.socket.resume();
  }

  #request(line: string): void {
    if (this.#ended) return;
    if (this.#options.budget()?.takeRequest() === false) {
      this.refuse(new SkosError('SKOS_SOCKET_FLOOD', 'skos-net asks for more than the agent has time for'));
      return;
    }
    let id = 0;
    try {
      const message = parseLine(line);
      id = requestId(message.id);
      this.#outstanding++;
      if (this.#outstanding >= MAX_OUTSTANDING_REQUESTS) this.#options.socket.pause();
      this.#options
        .answer(message.verb, message.params === undefined ? {} : message.params)
        .then((result) => this.#result(id, result ?? {}))
        .catch((error) => this.#error(id, error))
        .finally(() => this.#answered());
    } catch (error) {
      this.#error(id, error);
    }
  }

  #answered(): void {
    this.#outstanding--;
    this.#readOn();
  }

  #result(id: number, result: unknown): void {
    const line = lineOf({ id, result });
    if (line.length > MAX_LINE_BYTES) {
      throw new SkosError('SKOS_PROTOCOL_INVALID', 'the answer is too large for one line; ask for less (limit, glob)');
    }
    this.send(line);
  }

  /** A line that is no request has no id: it is answered with -1, which no client waits for and a person can read. */
  #error(id: number, error: unknown): void {
    // A handler's own failure is the agent's mistake, and still an answer: the client must not wait for its deadline.
    const code: ErrorCode = error instanceof SkosError ? error.code : 'SKOS_AGENT_INTERNAL';
    this.send(lineOf({ id: id === 0 ? -1 : id, error: { code, message: reason(error) } }));
  }

  #end(why: SkosError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#wait);
    this.#wait = undefined;
    this.#options.onEnd(why);
  }
}

function requestId(id: unknown): number {
  if (Number.isSafeInteger(id) && (id as number) > 0) return id as number;
  throw new SkosError('SKOS_PROTOCOL_INVALID', 'a request needs "id", a positive integer');
}
