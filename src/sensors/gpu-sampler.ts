/**
 * Readings of GPUs as a Sampler: the regions that skos-gpu fills, under the indexes of one list of channels. It owns no
 * region: a worker that was started afresh brings a new one, which is read from then on without a new list.
 *
 * A GPU that is not served now gives no_data, one whose worker hangs gives hung, again and again: silence would become stale,
 * which says less than is known.
 */
import type { Channel, Quality, Reading } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { Region, Sampler, Tripwire } from '../core/ports.js';

/** Shorter than the longest silence that a rule takes for ordinary; a hundred channels cost nothing at this rate. */
const REPEAT_MS = 500;

/** What the link knows of one GPU now. */
export interface ServedGpu {
  /** undefined: it is not served. */
  readonly region: Region | undefined;
  /** Its list of channels, by which indexes are checked: a new region may describe others. */
  readonly channels: readonly Channel[];
}

export interface GpuSamplerOptions {
  readonly channels: readonly Channel[];
  readonly tripwires: readonly Tripwire[];
  readonly served: (address: string) => ServedGpu | undefined;
  readonly setWires: (address: string, wires: readonly GpuWire[]) => void;
  readonly clock: Clock;
}

/** A tripwire in the numbers of the GPU's own region. */
export interface GpuWire {
  readonly index: number;
  readonly raise: number;
  readonly clear: number;
  readonly samples: number;
}

interface Gpu {
  readonly address: string;
  /** Index in the region → index in our list; undefined: a channel that nobody asked for. */
  readonly indexes: (number | undefined)[];
  region: Region | undefined;
  /** When a sample of it was given last. */
  givenMs: number;
  /** The list that was compared with ours last, and whether it fits: it is another one only with a new region. */
  compared: readonly Channel[] | undefined;
  fits: boolean;
}

function newGpu(address: string): Gpu {
  return { address, indexes: [], region: undefined, givenMs: -Infinity, compared: undefined, fits: false };
}

const ABSENT: Reading = { value: null, quality: 'no_data', atMs: 0 };

export class GpuSampler implements Sampler {
  readonly channels: readonly Channel[];
  readonly #options: GpuSamplerOptions;
  readonly #gpus = new Map<string, Gpu>();
  #overruns = 0;

  constructor(options: GpuSamplerOptions) {
    this.#options = options;
    this.channels = options.channels;
    options.channels.forEach(({ probe }, i) => {
      if (probe.kind !== 'gpu') throw new TypeError('a channel of no GPU');
      const { address, index } = probe;
      const gpu = this.#gpus.get(address) ?? newGpu(address);
      gpu.indexes[index] = i;
      this.#gpus.set(address, gpu);
    });
  }

  start(): void {
    for (const { address } of this.#gpus.values()) this.#options.setWires(address, this.#wires(address));
  }

  stop(): void {
    this.#gpus.clear();
  }

  #wires(of: string): GpuWire[] {
    return this.#options.tripwires.flatMap(({ channel, raise, clear, samples }) => {
      const probe = this.channels[channel]?.probe;
      return probe?.kind === 'gpu' && probe.address === of ? [{ index: probe.index, raise, clear, samples }] : [];
    });
  }

  latest(i: number): Reading {
    const probe = this.channels[i]?.probe;
    if (probe?.kind !== 'gpu') return ABSENT;
    const region = this.#region(probe.address);
    return region === undefined || probe.index >= region.channelCount ? ABSENT : region.latest(probe.index);
  }

  refresh(): void {
    for (const { address } of this.#gpus.values()) this.#region(address)?.refresh();
  }

  drain(each: (channel: number, value: number, quality: Quality, atMs: number) => void): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const gpu of this.#gpus.values()) {
      gpu.region = this.#region(gpu.address);
      gpu.region?.drain((index, value, quality, atMs) => {
        const i = gpu.indexes[index];
        if (i === undefined) return;
        gpu.givenMs = nowMs;
        each(i, value, quality, atMs);
      });
      if (nowMs - gpu.givenMs >= REPEAT_MS) this.#repeat(gpu, nowMs, each);
    }
  }

  /** Nothing came for a while: says again what is the matter. */
  #repeat(gpu: Gpu, nowMs: number, each: Parameters<Sampler['drain']>[0]): void {
    gpu.region?.refresh();
    let isTold = false;
    gpu.indexes.forEach((i, index) => {
      if (i === undefined) return;
      const { quality } =
        gpu.region === undefined || index >= gpu.region.channelCount ? ABSENT : gpu.region.latest(index);
      // A slow channel that is quiet between two reads is in order.
      if (quality === 'ok') return;
      isTold = true;
      each(i, 0, quality, nowMs);
    });
    if (isTold) gpu.givenMs = nowMs;
  }

  /** Its region, unless that describes other channels than ours: then a new list is on its way. */
  #region(address: string): Region | undefined {
    const served = this.#options.served(address);
    if (served?.region === undefined) return undefined;
    const ours = this.#gpus.get(address);
    if (ours === undefined) return undefined;
    if (ours.compared !== served.channels) {
      ours.compared = served.channels;
      ours.fits = ours.indexes.every(
        (i, index) => i === undefined || this.channels[i]?.id === served.channels[index]?.id,
      );
    }
    return ours.fits ? served.region : undefined;
  }

  get overruns(): number {
    let sum = 0;
    for (const { region } of this.#gpus.values()) sum += region?.overruns ?? 0;
    // A new region counts from 0: what was lost stays lost.
    this.#overruns = Math.max(this.#overruns, sum);
    return this.#overruns;
  }
}
