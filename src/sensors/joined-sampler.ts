/**
 * One Sampler made of several, each for the channels that it can read: files by the addon's own, GPUs by regions, what other
 * programs tell by feeds. Indexes are those of the whole list.
 */
import type { Channel, Quality, Reading } from '../core/channel.js';
import type { Sampler, Tripwire } from '../core/ports.js';

export type MakeSampler = (channels: readonly Channel[], tripwires: readonly Tripwire[]) => Sampler;

interface Part {
  readonly sampler: Sampler;
  /** Its index → ours. */
  readonly indexes: readonly number[];
}

/** `partOf` says which of `makers` reads a channel. A part without channels is not made. */
export function joinedSampler<K extends string>(
  channels: readonly Channel[],
  tripwires: readonly Tripwire[],
  { partOf, makers }: { partOf: (channel: Channel) => K; makers: Readonly<Record<K, MakeSampler>> },
): Sampler {
  const members = new Map<K, number[]>();
  channels.forEach((channel, i) => {
    const key = partOf(channel);
    const indexes = members.get(key) ?? [];
    indexes.push(i);
    members.set(key, indexes);
  });
  const parts = [...members].map(([key, indexes]): Part => {
    const own = indexes.map((i) => channels[i] as Channel);
    const position = new Map(indexes.map((i, n) => [i, n]));
    const wires = tripwires.flatMap((wire) => {
      const channel = position.get(wire.channel);
      return channel === undefined ? [] : [{ ...wire, channel }];
    });
    return { sampler: makers[key](own, wires), indexes };
  });
  return new JoinedSampler(channels, parts);
}

class JoinedSampler implements Sampler {
  readonly channels: readonly Channel[];
  readonly #parts: readonly Part[];
  /** Our index → part and its index. */
  readonly #places: { sampler: Sampler; index: number }[] = [];

  constructor(channels: readonly Channel[], parts: readonly Part[]) {
    this.channels = channels;
    this.#parts = parts;
    for (const { sampler, indexes } of parts) {
      indexes.forEach((i, index) => {
        this.#places[i] = { sampler, index };
      });
    }
  }

  /** All or none. */
  start(): void {
    try {
      for (const { sampler } of this.#parts) sampler.start();
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  stop(): void {
    for (const { sampler } of this.#parts) sampler.stop();
  }

  latest(i: number): Reading {
    const place = this.#places[i];
    return place === undefined ? { value: null, quality: 'no_data', atMs: 0 } : place.sampler.latest(place.index);
  }

  refresh(): void {
    for (const { sampler } of this.#parts) sampler.refresh();
  }

  drain(each: (channel: number, value: number, quality: Quality, atMs: number) => void): void {
    for (const { sampler, indexes } of this.#parts) {
      sampler.drain((index, value, quality, atMs) => each(indexes[index] as number, value, quality, atMs));
    }
  }

  get overruns(): number {
    return this.#parts.reduce((sum, { sampler }) => sum + sampler.overruns, 0);
  }
}
