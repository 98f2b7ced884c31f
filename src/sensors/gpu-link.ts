/**
 * Keeps the connection to skos-gpu (native/gpu/README.md is the contract): connects, again when it is lost, and knows of each GPU
 * its state, its region and its channels. Who wants readings makes a sampler of it; who wants to know asks status().
 *
 * A GPU stays known for as long as this agent lives: one that is detached, lost or gone is told as that.
 */
import { closeSync } from 'node:fs';
import { type Every, ownTimer } from '../core/beat.js';
import type { Channel, Reading } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import { gpuNamed } from '../core/gpu-names.js';
import type {
  GpuDetails,
  GpuLibrary,
  GpuState,
  GpuStatus,
  Gpus,
  GpuView,
  HardwareEvent,
  Log,
  PacketSocket,
  Region,
  Sampler,
  Tripwire,
} from '../core/ports.js';
import { type GpuDescription, type GpuMessage, gpuDescription, gpuEvent, gpuMessage } from './gpu-message.js';
import { GpuSampler, type GpuWire, type ServedGpu } from './gpu-sampler.js';

/** A restarted skos-gpu is there within a second; one that is not installed is asked for seldom. */
const RECONNECT_FIRST_MS = 200;
const RECONNECT_MAX_MS = 5_000;
/** skos-gpu answers a detach that cannot end after 5 s by itself. */
const REPLY_DEADLINE_MS = 8_000;
/** skos-gpu has one loop, which waits for nobody: who does not answer for so long is stopped or stuck. */
const ASK_EVERY_MS = 3_000;
const SILENT_AFTER_MS = 5_000;
/** Of the contract: more would not fit into a packet. */
const MAX_WIRES = 64;
/** A node's largest is 16; a mistaken or broken skos-gpu must not fill the memory. */
const MAX_GPUS = 64;
/** Sixteen GPUs of a hundred channels are half of it. */
const MAX_CHANNELS = 4_096;
/** There is one for each vendor at most. */
const MAX_LIBRARIES = 8;

export interface GpuLinkOptions {
  /** null: no skos-gpu is wanted or possible; `why` says it. */
  readonly path: string | null;
  readonly why: string;
  /** Throws when nobody answers. `fd` is −1, or a descriptor that is the receiver's from then on. */
  readonly connect: (path: string, onPacket: (packet: string | null, fd: number) => void) => PacketSocket;
  /** Takes `fd` over. */
  readonly openRegion: (fd: number) => Region;
  /** Rate of temperatures and deadline of a read; asked for at each connection. */
  readonly rates: () => { readonly rateHz: number; readonly deadlineMs: number };
  /** The list of channels is another one now. */
  readonly onChange: () => void;
  /** A tripwire was crossed: the reading is in its region. */
  readonly onCrossing: () => void;
  /** A GPU is in another state than before. */
  readonly onState: (address: string, state: GpuState, why: string) => void;
  readonly onEvent: (event: HardwareEvent) => void;
  /** skos-gpu is there and does not answer; said again and again while it is so. Readings may go on. */
  readonly onSilent?: () => void;
  readonly log: Log;
  readonly clock: Clock;
  readonly every?: Every;
}

interface Gpu {
  readonly address: string;
  source: string;
  state: GpuState;
  why: string;
  sinceAtMs: number;
  /** Its first state is news, too. */
  isTold: boolean;
  region: Region | undefined;
  description: GpuDescription | undefined;
  details: GpuDetails | null;
}

interface Outstanding {
  readonly deadline: NodeJS.Timeout;
  resolve(): void;
  reject(error: SkosError): void;
}

const LEVELS: Readonly<Record<GpuState, 'info' | 'warn' | 'error'>> = {
  opening: 'info',
  serving: 'info',
  failed: 'error',
  lost: 'error',
  reset_required: 'error',
  hung: 'error',
  detached: 'warn',
  gone: 'warn',
};

const EVENTS: Readonly<Record<Exclude<GpuState, 'opening'>, string>> = {
  serving: 'gpu.serving',
  failed: 'gpu.failed',
  lost: 'gpu.lost',
  reset_required: 'gpu.reset_required',
  hung: 'gpu.hung',
  detached: 'gpu.detached',
  gone: 'gpu.gone',
};

/** In these the region holds readings, or says by itself that they hang. */
const READABLE: ReadonlySet<GpuState> = new Set<GpuState>(['serving', 'lost', 'hung']);

export class GpuLink implements Gpus {
  readonly name = 'gpu';
  readonly #options: GpuLinkOptions;
  readonly #gpus = new Map<string, Gpu>();
  /** Addresses that this connection has named. */
  readonly #named = new Set<string>();
  readonly #libraries = new Map<string, GpuLibrary>();
  readonly #wires = new Map<string, readonly GpuWire[]>();
  readonly #outstanding = new Map<number, Outstanding>();
  #socket: PacketSocket | undefined;
  #nextSeq = 1;
  #why: string;
  #told = '';
  #retry: NodeJS.Timeout | undefined;
  #endAsking: () => void = () => undefined;
  #isSilent = false;
  #delayMs = RECONNECT_FIRST_MS;
  #stopped = true;

  constructor(options: GpuLinkOptions) {
    this.#options = options;
    this.#why = options.why;
  }

  /** Waits for nothing: GPUs come by onChange, and a node whose driver hangs is protected without them. */
  start(): void {
    this.#stopped = false;
    if (this.#options.path !== null) this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retry);
    this.#disconnect('the agent stops');
  }

  /** All channels of all GPUs that were served since the start and are not gone. */
  get channels(): readonly Channel[] {
    const ids = new Set<string>();
    const listed = [...this.#gpus.values()].filter(({ state }) => state !== 'gone');
    // Two GPUs that claim one identity (broken virtual machines do): the second one is left out rather than mixed up.
    return listed
      .flatMap(({ description }) => description?.channels ?? [])
      .filter(({ id }) => !ids.has(id) && ids.add(id))
      .slice(0, MAX_CHANNELS);
  }

  /** Why there are not more, one line each, as discovery says it. */
  get notFound(): readonly string[] {
    if (this.#socket === undefined) return [`gpu: GPUs: skos-gpu is not there: ${this.#why}`];
    const libraries = [...this.#libraries.values()].filter(({ state }) => state === 'failed' || state === 'hung');
    const gpus = [...this.#gpus.values()].filter(({ state }) => state !== 'serving' && state !== 'opening');
    return [
      ...libraries.map(({ source, state, why }) => `gpu: ${source}: ${state}: ${why}`),
      ...gpus.map(({ address, state, why }) => `gpu: ${address}: ${why === '' ? state : `${state}: ${why}`}`),
    ];
  }

  sampler(channels: readonly Channel[], tripwires: readonly Tripwire[]): Sampler {
    return new GpuSampler({
      channels,
      tripwires,
      served: (address) => this.#served(address),
      setWires: (address, wires) => this.#setWires(address, wires),
      clock: this.#options.clock,
    });
  }

  /** Rates or deadline may have changed. */
  reload(): void {
    if (this.#socket !== undefined) void this.#configure();
  }

  status(): GpuStatus {
    const connected = this.#socket !== undefined;
    return {
      connected,
      why: connected ? '' : this.#why,
      libraries: [...this.#libraries.values()],
      gpus: [...this.#gpus.values()].map(viewOf).sort((a, b) => (a.address < b.address ? -1 : 1)),
    };
  }

  /** The latest reading of a GPU's channel by its name; undefined while the GPU is not served, or has no such channel. */
  reading(address: string, name: string): Reading | undefined {
    const { region, channels } = this.#served(address) ?? { region: undefined, channels: [] };
    const index = channels.findIndex((channel) => channel.name === name);
    if (region === undefined || index < 0 || index >= region.channelCount) return undefined;
    region.refresh();
    return region.latest(index);
  }

  detach(address: string): Promise<void> {
    return this.#request(`detach ${address}`);
  }

  attach(address: string): Promise<void> {
    return this.#request(`attach ${address}`);
  }

  addressOf(id: string): string {
    return gpuNamed([...this.#gpus.values()].map(viewOf), id).address;
  }

  #served(address: string): ServedGpu | undefined {
    const gpu = this.#gpus.get(address);
    if (gpu === undefined) return undefined;
    return {
      region: READABLE.has(gpu.state) ? gpu.region : undefined,
      channels: gpu.description?.channels ?? [],
    };
  }

  #setWires(address: string, wires: readonly GpuWire[]): void {
    this.#wires.set(address, wires);
    if (this.#socket !== undefined) void this.#sendWires(address, wires);
  }

  // ---- The connection ------------------------------------------------------------------------------------------------

  #connect(): void {
    const { path, connect, every = ownTimer } = this.#options;
    if (path === null || this.#stopped) return;
    try {
      const socket = connect(path, (packet, fd) => this.#receive(socket, packet, fd));
      this.#socket = socket;
      this.#named.clear();
      this.#endAsking = every(ASK_EVERY_MS, () => void this.#ask(socket));
    } catch (error) {
      this.#tryLater(reason(error));
      return;
    }
    void this.#greet();
  }

  async #greet(): Promise<void> {
    try {
      await this.#request('hello 1');
      this.#isSilent = false;
      this.#delayMs = RECONNECT_FIRST_MS;
      this.#told = '';
      await this.#configure();
      for (const [address, wires] of this.#wires) await this.#sendWires(address, wires);
    } catch (error) {
      this.#unanswered(error);
      this.#lost(reason(error));
    }
  }

  /** Asks for what is in force already, which changes nothing and is answered at once. */
  async #ask(socket: PacketSocket): Promise<void> {
    try {
      await this.#request(this.#rates(), SILENT_AFTER_MS);
      this.#isSilent = false;
    } catch (error) {
      if (socket === this.#socket) this.#unanswered(error);
    }
  }

  #unanswered(error: unknown): void {
    // A refusal is an answer, and the end of a connection is told by itself.
    if (!(error instanceof SkosError) || error.code !== 'SKOS_GPU_ABSENT') return;
    if (!this.#isSilent)
      this.#options.log.error('skos-gpu does not answer: it is stopped or stuck', {
        event: 'gpu.silent',
        code: error.code,
      });
    this.#isSilent = true;
    this.#options.onSilent?.();
  }

  async #configure(): Promise<void> {
    await this.#tryRequest(this.#rates());
  }

  #rates(): string {
    const { rateHz, deadlineMs } = this.#options.rates();
    return `configure ${Math.round(rateHz * 1000)} ${deadlineMs}`;
  }

  /** What a GPU does not take now (it is not served), it is told again when it is. */
  async #sendWires(address: string, wires: readonly GpuWire[]): Promise<void> {
    const gpu = this.#gpus.get(address);
    if (gpu === undefined || !READABLE.has(gpu.state)) return;
    const words = wires
      .slice(0, MAX_WIRES)
      .map(({ index, raise, clear, samples }) => `${index}:${raise}:${clear}:${samples}`);
    await this.#tryRequest(['wires', address, ...words].join(' '));
  }

  async #tryRequest(words: string): Promise<void> {
    try {
      await this.#request(words);
    } catch (error) {
      this.#options.log.debug(`skos-gpu: ${words.slice(0, 64)}: ${reason(error)}`);
    }
  }

  #request(words: string, deadlineMs = REPLY_DEADLINE_MS): Promise<void> {
    const socket = this.#socket;
    if (socket === undefined) return Promise.reject(new SkosError('SKOS_GPU_ABSENT', this.#why));
    const seq = this.#nextSeq++;
    return new Promise((resolve, reject) => {
      const deadline = setTimeout(() => {
        this.#outstanding.delete(seq);
        reject(new SkosError('SKOS_GPU_ABSENT', 'skos-gpu does not answer'));
      }, deadlineMs).unref();
      this.#outstanding.set(seq, { deadline, resolve, reject });
      const error = socket.send(`${seq} ${words}`);
      if (error !== 0) this.#answer(seq, { ok: false, why: `errno ${error}` });
    });
  }

  #answer(seq: number, { ok, why }: { ok: boolean; why: string }): void {
    const outstanding = this.#outstanding.get(seq);
    if (outstanding === undefined) return;
    this.#outstanding.delete(seq);
    clearTimeout(outstanding.deadline);
    if (ok) outstanding.resolve();
    else outstanding.reject(new SkosError('SKOS_GPU_REFUSED', why));
  }

  #lost(why: string): void {
    if (this.#socket === undefined) return;
    this.#disconnect(why);
    this.#tryLater(why);
  }

  #disconnect(why: string): void {
    this.#endAsking();
    this.#socket?.close();
    this.#socket = undefined;
    this.#why = why;
    for (const seq of [...this.#outstanding.keys()]) this.#answer(seq, { ok: false, why });
    for (const gpu of this.#gpus.values()) {
      this.#drop(gpu);
      // What skos-gpu said last is not how it is: it says it anew when it is there again.
      if (!this.#stopped) this.#turn(gpu, { state: 'opening', why });
    }
  }

  #turn(gpu: Gpu, { state, why }: { state: GpuState; why: string }): void {
    const former = gpu.state;
    gpu.state = state;
    gpu.why = why;
    if (former === state && gpu.isTold) return;
    gpu.isTold = true;
    gpu.sinceAtMs = this.#options.clock.wallMs();
    this.#tell(gpu, former);
    this.#options.onState(gpu.address, state, why);
  }

  #tryLater(why: string): void {
    this.#why = why;
    if (this.#stopped) return;
    // Once for each reason: a node without GPUs has none installed, and wants to read of it once.
    if (this.#told !== why) this.#options.log.info(`no GPU is read: ${why}`, { event: 'gpu.unread' });
    this.#told = why;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect(), this.#delayMs).unref();
    this.#delayMs = Math.min(this.#delayMs * 2, RECONNECT_MAX_MS);
  }

  // ---- What it says --------------------------------------------------------------------------------------------------

  #receive(socket: PacketSocket, packet: string | null, fd: number): void {
    if (socket !== this.#socket || packet === null) {
      if (fd >= 0) closeSync(fd);
      if (socket === this.#socket) this.#lost('skos-gpu has closed the connection');
      return;
    }
    let message: GpuMessage | undefined;
    try {
      message = gpuMessage(packet);
    } catch (error) {
      this.#misunderstood(error);
    }
    // openRegion takes over the descriptor of a device; nothing else comes with one.
    if (fd >= 0 && message?.type !== 'device') closeSync(fd);
    if (message === undefined) return;
    try {
      if (message.type === 'device') this.#device(message, fd);
      else this.#take(message);
    } catch (error) {
      this.#misunderstood(error);
    }
  }

  #misunderstood(error: unknown): void {
    this.#options.log.warn(`skos-gpu says what is not understood: ${reason(error)}`, { code: 'SKOS_GPU_PROTOCOL' });
  }

  #take(message: Exclude<GpuMessage, { type: 'device' }>): void {
    const { type } = message;
    if (type === 'reply') this.#answer(message.seq, message);
    else if (type === 'event') this.#event(message.address, message.event);
    else if (type === 'crossing') this.#options.onCrossing();
    else if (type === 'library') {
      const { source, state, why, path, version } = message;
      if (this.#libraries.size >= MAX_LIBRARIES && !this.#libraries.has(source)) return;
      this.#libraries.set(source, { source, state, why, path, version });
    } else if (type === 'details') {
      const gpu = this.#gpus.get(message.address);
      if (gpu !== undefined) gpu.details = message.details;
    } else if (type === 'listed') this.#listed();
  }

  /** A skos-gpu that was started again names all that it finds: what it does not name has gone meanwhile. */
  #listed(): void {
    const before = this.channels;
    for (const gpu of this.#gpus.values()) {
      if (this.#named.has(gpu.address) || gpu.state === 'gone') continue;
      this.#turn(gpu, { state: 'gone', why: 'skos-gpu finds it no more' });
    }
    if (!sameChannels(before, this.channels)) this.#options.onChange();
  }

  #event(address: string, input: unknown): void {
    const { kind, code, detail } = gpuEvent(input);
    const atMs = this.#options.clock.monotonicMs();
    const text = [kind, code, ...Object.values(detail)].filter((part) => part !== null).join(' ');
    this.#options.onEvent({ kind, origin: 'nvml', address, code, detail, text: text.slice(0, 512), atMs, count: 1 });
  }

  #device(message: Extract<GpuMessage, { type: 'device' }>, fd: number): void {
    const { address, source, state, why } = message;
    const known = this.#gpus.get(address);
    if (known === undefined && this.#gpus.size >= MAX_GPUS) {
      if (fd >= 0) closeSync(fd);
      return;
    }
    this.#named.add(address);
    const gpu = known ?? newGpu(address, this.#options.clock.wallMs());
    this.#gpus.set(address, gpu);
    const before = this.channels;
    gpu.source = source;
    if (fd >= 0) this.#adopt(gpu, fd);
    if (!READABLE.has(state)) this.#drop(gpu);
    this.#turn(gpu, { state, why });
    if (READABLE.has(state)) void this.#sendWires(address, this.#wires.get(address) ?? []);
    if (!sameChannels(before, this.channels)) this.#options.onChange();
  }

  #adopt(gpu: Gpu, fd: number): void {
    this.#drop(gpu);
    const region = this.#options.openRegion(fd);
    try {
      gpu.description = gpuDescription(region.description, gpu.address);
      gpu.region = region;
    } catch (error) {
      region.close();
      throw error;
    }
  }

  #drop(gpu: Gpu): void {
    gpu.region?.close();
    gpu.region = undefined;
  }

  #tell({ address, state, why, description }: Gpu, former: GpuState): void {
    if (state === 'opening') return;
    // A driver that is not there yet is asked for again and again; what it says is told once.
    const name = description?.info.name ?? 'GPU';
    const rest = why === '' ? '' : `: ${why}`;
    const returned = state === 'serving' && former !== 'opening' ? ' again' : '';
    this.#options.log[LEVELS[state]](`${name} ${address} is ${state.replaceAll('_', ' ')}${returned}${rest}`, {
      event: EVENTS[state],
      channel: address,
    });
  }
}

function newGpu(address: string, sinceAtMs: number): Gpu {
  return {
    address,
    source: '',
    state: 'opening',
    why: '',
    sinceAtMs,
    isTold: false,
    region: undefined,
    description: undefined,
    details: null,
  };
}

function viewOf({ address, source, state, why, sinceAtMs, description, details }: Gpu): GpuView {
  const { device = '', info = {} } = description ?? {};
  return { address, source, state, why, sinceAtMs, device, info, details };
}

/** By what a sampler and a rule depend on. */
function sameChannels(a: readonly Channel[], b: readonly Channel[]): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
