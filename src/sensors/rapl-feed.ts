/**
 * Readings of the channels of rapl.ts: asks the actuator once a second for the average powers and gives them out as a sampler does.
 *
 * Nothing stands for what was not told: without an actuator, or where its list does not name a zone, a channel says no_data;
 * an answer that does not come makes the last one stale. Tripwires are not watched, since an average of a second waits for the tick.
 */
import type { Channel, Quality, Reading } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { Actuator, ActuatorPower, Sampler } from '../core/ports.js';
import { powerIdOf } from './rapl.js';

/** The actuator has a new average about as often. */
const POLL_MS = 1_000;
/** An actuator that answers at all does so within milliseconds; its client gives it up after 4 s. */
const STALE_AFTER_MS = 3_000;
/** Of each channel, between two drains: far longer than a tick. */
const MAX_QUEUED = 16;

export interface RaplFeedOptions {
  /** Those whose probe names RAPL_FEED. */
  readonly channels: readonly Channel[];
  /** The connected actuator, asked for anew each time; undefined while there is none. */
  readonly actuator: () => Pick<Actuator, 'powers'> | undefined;
  readonly clock: Clock;
}

interface Sample {
  readonly channel: number;
  readonly reading: Reading;
}

const UNREAD: Reading = { value: null, quality: 'no_data', atMs: 0 };

export class RaplFeed implements Sampler {
  readonly channels: readonly Channel[];
  readonly #options: RaplFeedOptions;
  readonly #ids: readonly string[];
  #latest: Reading[];
  #queue: Sample[] = [];
  #overruns = 0;
  #timer: NodeJS.Timeout | undefined;
  /** When the question under way was asked. */
  #askedAtMs: number | undefined;
  /** Counts starts and stops: an answer that comes after either is nobody's. */
  #run = 0;

  constructor(options: RaplFeedOptions) {
    this.channels = options.channels;
    this.#options = options;
    this.#ids = options.channels.map(powerIdOf);
    this.#latest = options.channels.map(() => UNREAD);
  }

  start(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setInterval(() => this.#poll(), POLL_MS);
    this.#timer.unref();
    this.#poll();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
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
    const { actuator, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    if (this.#askedAtMs !== undefined) {
      // One question at a time. Who answers later than this is waited for no longer.
      if (nowMs - this.#askedAtMs >= STALE_AFTER_MS)
        this.#tell((i) => (this.latest(i).quality === 'ok' ? 'stale' : null));
      return;
    }
    const connected = actuator();
    if (connected === undefined) {
      this.#tell(() => 'no_data');
      return;
    }
    this.#askedAtMs = nowMs;
    const run = this.#run;
    const answered = (powers: readonly ActuatorPower[]) => {
      if (run !== this.#run) return;
      this.#askedAtMs = undefined;
      const byId = new Map(powers.map((power) => [power.id, power]));
      this.#tell((i) => byId.get(this.#ids[i] ?? '') ?? 'no_data');
    };
    // Lost, or older than this question: either way nothing is known.
    connected.powers().then(answered, () => answered([]));
  }

  /** null: nothing new. */
  #tell(what: (channel: number) => ActuatorPower | Quality | null): void {
    const atMs = this.#options.clock.monotonicMs();
    this.channels.forEach((_, channel) => {
      const told = what(channel);
      if (told === null) return;
      const { quality, milliWatts } = typeof told === 'string' ? { quality: told, milliWatts: null } : told;
      const reading: Reading = { value: quality === 'ok' ? milliWatts : null, quality, atMs };
      this.#latest[channel] = reading;
      this.#queue.push({ channel, reading });
    });
    const surplus = this.#queue.length - MAX_QUEUED * this.channels.length;
    if (surplus <= 0) return;
    this.#queue.splice(0, surplus);
    this.#overruns += surplus;
  }
}
