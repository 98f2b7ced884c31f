/**
 * Channels whose readings are asked for now and then, of another program or of what the agent knows already, given out as a
 * sampler does.
 *
 * Nothing stands for what was not told: an answer that does not come makes the last one stale, one that fails is no_data. Tripwires
 * are not watched, since what is asked for once a second or more seldom waits for the tick.
 */
import { type Every, ownTimer } from '../core/beat.js';
import type { Channel, Quality, Reading } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { Sampler } from '../core/ports.js';

/** Of each channel, between two drains: far longer than a tick. */
const MAX_QUEUED = 16;

/** A value in the canonical unit, or why there is none. */
export type Told = number | Exclude<Quality, 'ok'>;

export interface PolledFeedOptions {
  readonly channels: readonly Channel[];
  readonly everyMs: number;
  /** An answer that takes longer makes what is known stale. */
  readonly staleAfterMs: number;
  /** One for each channel, in order; a missing one is no_data. undefined: there is nobody to ask. */
  readonly ask: () => Promise<readonly (Told | undefined)[]> | undefined;
  readonly clock: Clock;
  readonly every?: Every;
}

interface Sample {
  readonly channel: number;
  readonly reading: Reading;
}

const UNREAD: Reading = { value: null, quality: 'no_data', atMs: 0 };

export class PolledFeed implements Sampler {
  readonly channels: readonly Channel[];
  readonly #options: PolledFeedOptions;
  readonly #latest: Reading[];
  #queue: Sample[] = [];
  #overruns = 0;
  #unbeat: (() => void) | undefined;
  /** When the question under way was asked. */
  #askedAtMs: number | undefined;
  /** Counts starts and stops: an answer that comes after either is nobody's. */
  #run = 0;

  constructor(options: PolledFeedOptions) {
    this.channels = options.channels;
    this.#options = options;
    this.#latest = options.channels.map(() => UNREAD);
  }

  start(): void {
    if (this.#unbeat !== undefined) return;
    const { every = ownTimer, everyMs } = this.#options;
    this.#unbeat = every(everyMs, () => this.#poll());
    this.#poll();
  }

  stop(): void {
    this.#unbeat?.();
    this.#unbeat = undefined;
    this.#askedAtMs = undefined;
    this.#run += 1;
  }

  latest(i: number): Reading {
    return this.#latest[i] ?? UNREAD;
  }

  refresh(): void {
    // latest() is always the newest.
  }

  drain(each: (channel: number, value: number, quality: Quality, atMs: number) => void): void {
    // What `each` throws must not make it see the same samples again.
    for (const { channel, reading } of this.#queue.splice(0))
      each(channel, reading.value ?? 0, reading.quality, reading.atMs);
  }

  get overruns(): number {
    return this.#overruns;
  }

  #poll(): void {
    const { ask, staleAfterMs, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    if (this.#askedAtMs !== undefined) {
      // One question at a time. Who answers later than this is waited for no longer.
      if (nowMs - this.#askedAtMs >= staleAfterMs)
        this.#tell((i) => (this.latest(i).quality === 'ok' ? 'stale' : null));
      return;
    }
    const answer = ask();
    if (answer === undefined) {
      this.#tell(() => 'no_data');
      return;
    }
    this.#askedAtMs = nowMs;
    const run = this.#run;
    const answered = (told: readonly (Told | undefined)[]) => {
      if (run !== this.#run) return;
      this.#askedAtMs = undefined;
      this.#tell((i) => told[i] ?? 'no_data');
    };
    // Lost, or older than this question: either way nothing is known.
    answer.then(answered, () => answered([]));
  }

  /** null: nothing new. */
  #tell(what: (channel: number) => Told | null): void {
    const atMs = this.#options.clock.monotonicMs();
    this.channels.forEach((_, channel) => {
      const told = what(channel);
      if (told === null) return;
      const reading: Reading =
        typeof told === 'number' ? { value: told, quality: 'ok', atMs } : { value: null, quality: told, atMs };
      this.#latest[channel] = reading;
      this.#queue.push({ channel, reading });
    });
    const surplus = this.#queue.length - MAX_QUEUED * this.channels.length;
    if (surplus <= 0) return;
    this.#queue.splice(0, surplus);
    this.#overruns += surplus;
  }
}
