/** Samples put into a store of its own on an accelerated clock: what the measurements of the store share. */
import { setImmediate as breath, setTimeout as pause } from 'node:timers/promises';
import type { Channel } from '../../src/core/channel.js';
import type { Log, Store } from '../../src/core/ports.js';
import type { StoreLimits } from '../../src/store/limits.js';
import { type LevelStore, openStore } from '../../src/store/store.js';
import { HandTimers } from '../../test/fixtures/hand-timers.js';

/** Turns of the event loop in which slices of encoding and writes go on before the clock moves again. */
const BREATHS = 8;

const say =
  (level: string) =>
  (message: string): void => {
    process.stderr.write(`${level}: ${message}\n`);
  };
const quiet = (): void => undefined;

export const benchLog: Log = {
  trace: quiet,
  debug: quiet,
  info: quiet,
  warn: say('warn'),
  error: say('error'),
  fatal: say('fatal'),
};

export function benchChannel(i: number, rateHz: number): Channel {
  return {
    id: `hwmon/bench/temp${i}`,
    source: 'hwmon',
    device: 'bench',
    name: `temp${i}`,
    label: `temp${i}`,
    quantity: 'temperatureMilliCelsius',
    class: 'cpu',
    limits: {},
    probe: { kind: 'integer', path: '' },
    rateHz,
    domain: 'bench',
    path: '',
  };
}

export interface FeedOptions {
  readonly dataDir: string;
  readonly rateHz: number;
  /** The next values of each channel. */
  readonly series: readonly (() => number)[];
  readonly limits?: StoreLimits;
}

export function cpuSinceNs(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) * 1000;
}

/** A write that was under way while the clock was moved would look like a disk that hangs. */
async function writesDone(store: LevelStore): Promise<void> {
  while (!store.health().ok) await pause(1);
}

/** What was begun goes on. */
export async function rest(pauseMs: number): Promise<void> {
  for (let i = 0; i < BREATHS; i++) await breath();
  if (pauseMs > 0) await pause(pauseMs);
}

/** A store whose clock and intervals go as fast as it is fed. */
export class Feed {
  readonly store: LevelStore;
  readonly timers: HandTimers;
  readonly channels: readonly Channel[];
  readonly #series: readonly (() => number)[];
  readonly #periodMs: number;
  /** Samples given so far, of all channels. */
  samples = 0;
  /** CPU while they were given. */
  givingNs = 0;

  private constructor(store: LevelStore, timers: HandTimers, { rateHz, series }: FeedOptions) {
    this.store = store;
    this.timers = timers;
    this.channels = series.map((_, i) => benchChannel(i, rateHz));
    this.#series = series;
    this.#periodMs = 1000 / rateHz;
  }

  static async open(options: FeedOptions): Promise<Feed> {
    const timers = new HandTimers();
    timers.install();
    try {
      const { dataDir, limits } = options;
      const clock = timers.clock;
      const store = await openStore({ dataDir, log: benchLog, clock, ...(limits === undefined ? {} : { limits }) });
      return new Feed(store, timers, options);
    } catch (error) {
      timers.restore();
      throw error;
    }
  }

  /** So much time passes, and every channel was sampled in it; `pauseMs` of real time are the disk's. */
  async pass(ms: number, pauseMs = 0): Promise<void> {
    const startMs = this.timers.clock.monotonicMs();
    const count = Math.round(ms / this.#periodMs);
    this.timers.clock.advance(ms);
    await writesDone(this.store);
    const before = process.cpuUsage();
    this.give(this.store, { startMs, count });
    this.givingNs += cpuSinceNs(before);
    this.samples += count * this.channels.length;
    this.timers.fire();
    await rest(pauseMs);
  }

  /** The samples of so many periods. */
  give(store: Pick<Store, 'sample'>, { startMs, count }: { startMs: number; count: number }): void {
    const { channels } = this;
    for (let k = 0; k < count; k++) {
      const atMs = startMs + k * this.#periodMs;
      for (let i = 0; i < channels.length; i++) {
        const channel = channels[i];
        if (channel !== undefined) store.sample(channel, this.#series[i]?.() ?? null, 'ok', atMs);
      }
    }
  }

  async stop(): Promise<void> {
    await this.store.stop();
    this.timers.restore();
  }
}
