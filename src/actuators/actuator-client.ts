/**
 * Client of skos-actuator (native/actuator/README.md is the contract): one packet socket, requests matched to replies by
 * number, each with a deadline. It judges nothing; who uses it reads the outcome.
 *
 * A client is used for one connection. When the connection is lost every outstanding call is rejected with
 * SKOS_ACTUATOR_ABSENT and `onLost` is called once.
 */
import { constants } from 'node:os';
import { QUALITIES, type Quality } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import { type ErrorCode, SkosError } from '../core/errors.js';
import {
  type Actuator,
  type ActuatorEvent,
  type ActuatorJob,
  type ActuatorLease,
  type ActuatorOrder,
  type ActuatorPower,
  type ActuatorTarget,
  type ConnectPacketSocket,
  JOB_STATES,
  type JobState,
  type LeaseRequest,
  type LeaseResult,
  type PacketSocket,
} from '../core/ports.js';

/** The actuator answers `hung` after 2 s by itself; beyond this it is gone or stopped. */
const DEADLINE_MS = 4_000;
/** The socket takes some 270 packets; a large node caps more targets than that at once, and the rest follows in this time. */
const SEND_AGAIN_MS = 1;
/** Lease ids in one renewal, so that the packet stays below the actuator's 8,192 bytes. */
const RENEWED_AT_ONCE = 60;

/** The actuator's refusals, as our codes. */
const REFUSALS: Readonly<Record<string, ErrorCode>> = {
  busy: 'SKOS_ACTUATOR_BUSY',
  denied: 'SKOS_ACTUATOR_DENIED',
  not_listed: 'SKOS_ACTUATOR_DENIED',
  out_of_bounds: 'SKOS_ACTUATOR_DENIED',
  allow_refused: 'SKOS_ACTUATOR_ALLOW',
};

interface Outstanding {
  readonly rows: string[];
  readonly deadline: NodeJS.Timeout;
  resolve(reply: Reply): void;
  reject(error: SkosError): void;
}

interface Reply {
  /** The words behind `ok`. */
  readonly words: readonly string[];
  readonly rows: readonly string[];
}

export interface ActuatorClientOptions {
  readonly path: string;
  readonly connect: ConnectPacketSocket;
  readonly clock: Clock;
  readonly onLost: (why: string) => void;
}

export class ActuatorClient implements Actuator {
  readonly #options: ActuatorClientOptions;
  readonly #outstanding = new Map<number, Outstanding>();
  /** In order; bounded by what is outstanding, whose deadlines end the connection. */
  readonly #unsent: string[] = [];
  #sendAgain: NodeJS.Timeout | undefined;
  #socket: PacketSocket | undefined;
  #nextSeq = 1;
  #lostWhy: string | undefined;

  constructor(options: ActuatorClientOptions) {
    this.#options = options;
  }

  get connected(): boolean {
    return this.#socket !== undefined;
  }

  /** Connects and says hello. Returns the boot id that the actuator knows. */
  async start(): Promise<string> {
    const { path, connect } = this.#options;
    try {
      this.#socket = connect(path, (packet) => this.#receive(packet));
    } catch (error) {
      throw new SkosError('SKOS_ACTUATOR_ABSENT', `no actuator answers at ${path}`, { cause: error });
    }
    const { words } = await this.#request('hello 1');
    const boot = /^boot=(.+)$/.exec(words[2] ?? '')?.[1];
    if (words[0] !== 'skos-actuator' || words[1] !== '1' || boot === undefined) {
      this.stop();
      throw new SkosError('SKOS_ACTUATOR_PROTOCOL', `the actuator introduces itself as "${words.join(' ')}"`);
    }
    return boot;
  }

  stop(): void {
    this.#lose('the connection was closed', { told: false });
  }

  async set({ lease, target, capPpm, ttlMs }: LeaseRequest): Promise<LeaseResult> {
    const { words } = await this.#request(`set ${lease} ${target} ${capPpm} ${Math.round(ttlMs)}`);
    return leaseResult(words, ['applied']);
  }

  async release(lease: string): Promise<LeaseResult> {
    const { words } = await this.#request(`release ${lease}`);
    // `applied`: another lease or an order still caps this target; ours is gone all the same.
    return leaseResult(words, ['released', 'applied', 'idle']);
  }

  async renew(leases: readonly string[], ttlMs: number): Promise<number> {
    const replies: Promise<Reply>[] = [];
    for (let i = 0; i < leases.length; i += RENEWED_AT_ONCE) {
      const some = leases.slice(i, i + RENEWED_AT_ONCE).join(' ');
      replies.push(this.#request(`renew ${Math.round(ttlMs)} ${some}`));
    }
    return (await Promise.all(replies)).reduce((known, { words }) => known + Number(words[1] ?? 0), 0);
  }

  async targets(): Promise<ActuatorTarget[]> {
    const { rows } = await this.#request('targets');
    return rows.map((row) => {
      const [target = '', state = '', ...rest] = row.split(' ');
      const { former = '-', current = '-' } = fields(rest);
      return { target, state, former, current };
    });
  }

  async leases(): Promise<ActuatorLease[]> {
    const { rows } = await this.#request('leases');
    return rows.map((row) => {
      const [lease = '', target = '', capPpm = '', state] = row.split(' ');
      return { lease, target, capPpm: Number(capPpm), orphaned: state === 'orphaned' };
    });
  }

  async orders(): Promise<ActuatorOrder[]> {
    const { rows } = await this.#request('orders');
    return rows.map((row) => {
      const [order = '', raised, quality = '', value = ''] = row.split(' ');
      const known: Quality = isQuality(quality) ? quality : 'fault';
      return { order, raised: raised === 'raised', quality: known, value: known === 'ok' ? Number(value) : null };
    });
  }

  async powers(): Promise<ActuatorPower[]> {
    const { rows } = await this.#request('powers');
    return rows.map((row) => {
      const [id = '', word = '', value = ''] = row.split(' ');
      const milliWatts = /^\d{1,12}$/.test(value) ? Number(value) : null;
      const quality: Quality = !isQuality(word) || (word === 'ok' && milliWatts === null) ? 'fault' : word;
      return { id, quality, milliWatts: quality === 'ok' ? milliWatts : null };
    });
  }

  async events(afterSeq: number): Promise<ActuatorEvent[]> {
    const { rows } = await this.#request(`events ${afterSeq}`);
    const now = this.#options.clock.wallMs();
    return rows.map((row) => {
      const [seq = '', ageMs = '', kind = '', subject = '', ...detail] = row.split(' ');
      return { seq: Number(seq), atMs: now - Number(ageMs), kind, subject, detail: detail.join(' ') };
    });
  }

  async run(job: string, key: string): Promise<void> {
    await this.#request(`run ${job} ${key}`);
  }

  async jobs(): Promise<ActuatorJob[]> {
    const { rows } = await this.#request('jobs');
    return rows.map((row) => {
      const [job = '', word = '', key = '', ...rest] = row.split(' ');
      const { exit = '', age_ms: age = '' } = fields(rest);
      return {
        job,
        state: isJobState(word) ? word : 'failed',
        key: key === '-' ? '' : key,
        exit: /^-?\d{1,6}$/.test(exit) ? Number(exit) : null,
        ageMs: Number(age) || 0,
      };
    });
  }

  async reload(): Promise<void> {
    await this.#request('reload');
  }

  #request(text: string): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const socket = this.#socket;
      if (socket === undefined) {
        reject(new SkosError('SKOS_ACTUATOR_ABSENT', this.#lostWhy ?? 'no actuator is connected'));
        return;
      }
      const seq = this.#nextSeq++;
      // A stopped or hung actuator must not be waited for: the connection is given up and made anew.
      const deadline = setTimeout(() => this.#lose(`the actuator did not answer "${text.slice(0, 80)}"`), DEADLINE_MS);
      this.#outstanding.set(seq, { rows: [], deadline, resolve, reject });
      this.#unsent.push(`${seq} ${text}`);
      if (this.#unsent.length === 1) this.#send(socket);
    });
  }

  #send(socket: PacketSocket): void {
    for (let packet = this.#unsent[0]; packet !== undefined; packet = this.#unsent[0]) {
      const error = socket.send(packet);
      if (error === constants.errno.EAGAIN) {
        this.#sendAgain = setTimeout(() => this.#send(socket), SEND_AGAIN_MS);
        return;
      }
      if (error !== 0) {
        this.#lose(`the actuator cannot be written to (errno ${error})`);
        return;
      }
      this.#unsent.shift();
    }
  }

  #receive(packet: string | null): void {
    if (packet === null) {
      this.#lose('the actuator closed the connection');
      return;
    }
    const [seqText = '', kind = '', ...words] = packet.split(' ');
    const outstanding = this.#outstanding.get(Number(seqText));
    if (outstanding === undefined) {
      // `0 err busy` and `0 err denied` are said before any request and end the connection.
      if (seqText === '0' && kind === 'err')
        this.#lose(`the actuator refuses: ${words.join(' ')}`, { code: codeOf(words) });
      return;
    }
    if (kind === 'row') {
      outstanding.rows.push(words.join(' '));
      return;
    }
    this.#outstanding.delete(Number(seqText));
    clearTimeout(outstanding.deadline);
    if (kind === 'ok') outstanding.resolve({ words, rows: outstanding.rows });
    else outstanding.reject(new SkosError(codeOf(words), `the actuator refused: ${words.join(' ') || packet}`));
  }

  #lose(why: string, { told = true, code = 'SKOS_ACTUATOR_ABSENT' as ErrorCode } = {}): void {
    if (this.#socket === undefined) return;
    this.#socket.close();
    this.#socket = undefined;
    this.#lostWhy = why;
    clearTimeout(this.#sendAgain);
    this.#unsent.length = 0;
    for (const { deadline, reject } of this.#outstanding.values()) {
      clearTimeout(deadline);
      reject(new SkosError(code, why));
    }
    this.#outstanding.clear();
    if (told) this.#options.onLost(why);
  }
}

function leaseResult(words: readonly string[], good: readonly string[]): LeaseResult {
  const [outcome = '', ...rest] = words;
  const { former, written, readback } = fields(rest);
  return {
    ok: good.includes(outcome),
    outcome,
    ...(former === undefined ? {} : { former }),
    ...(written === undefined ? {} : { written }),
    ...(readback === undefined ? {} : { readBack: readback }),
  };
}

/** `key=value` words. */
function fields(words: readonly string[]): Readonly<Record<string, string | undefined>> {
  return Object.fromEntries(words.map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]));
}

function codeOf(words: readonly string[]): ErrorCode {
  return REFUSALS[words[0] ?? ''] ?? 'SKOS_ACTUATOR_PROTOCOL';
}

function isJobState(word: string): word is JobState {
  return (JOB_STATES as readonly string[]).includes(word);
}

function isQuality(word: string): word is Quality {
  return (QUALITIES as readonly string[]).includes(word);
}
