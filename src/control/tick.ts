/**
 * The protection tick: observe → decide → act, at `monitor.interval` and at once when a tripwire is crossed. It never
 * awaits anything. The watchdog is fed by a finished tick and by nothing else.
 */

import type { Finding } from '../antibodies/antibody.js';
import { type Every, ownTimer } from '../core/beat.js';
import type { Clock } from '../core/clock.js';
import { reason } from '../core/errors.js';
import type { Log, Store } from '../core/ports.js';
import type { AlertBook } from './alert-book.js';
import type { CurrentConfig } from './current-config.js';
import type { Executor } from './executor.js';
import type { FlightRecorder } from './flight-recorder.js';
import type { BoundRule, Rulebook } from './rulebook.js';
import type { Sensing } from './sensing.js';

/** Durations kept for the percentile that `skos status` shows. */
const KEPT_DURATIONS = 1_000;
/** systemd's WatchdogSec is several times this. */
const FEED_EVERY_MS = 1_000;

export interface TickOptions {
  readonly config: CurrentConfig;
  readonly sensing: Sensing;
  readonly rulebook: Rulebook;
  readonly alerts: AlertBook;
  readonly executor: Executor;
  readonly recorder: FlightRecorder;
  readonly store: Store;
  readonly clock: Clock;
  readonly every?: Every;
  readonly log: Log;
  /** Feeds the watchdog. */
  readonly feed: () => void;
}

export class Tick {
  readonly name = 'tick';
  readonly #options: TickOptions;
  readonly #durationsMs = new Float64Array(KEPT_DURATIONS);
  readonly #onFinding: (bound: BoundRule, finding: Finding) => void;
  #failures = 0;
  #count = 0;
  #unbeat: (() => void) | undefined;
  #fedMs = 0;
  #woken = false;

  constructor(options: TickOptions) {
    this.#options = options;
    this.#onFinding = (bound, finding) => this.#part('telling an alert', () => options.alerts.apply(bound, finding));
  }

  get count(): number {
    return this.#count;
  }

  get p99Ms(): number {
    const known = Array.from(this.#durationsMs.subarray(0, Math.min(this.#count, KEPT_DURATIONS))).sort(
      (a, b) => a - b,
    );
    return known[Math.floor(known.length * 0.99)] ?? 0;
  }

  start(): void {
    this.#run();
    this.#schedule();
  }

  stop(): void {
    this.#unbeat?.();
    this.#unbeat = undefined;
  }

  /** The interval may have changed. */
  reload(): void {
    if (this.#unbeat !== undefined) this.#schedule();
  }

  /** A tripwire was crossed: look now. Several crossings at once are one look. */
  wake(): void {
    if (this.#woken || this.#unbeat === undefined) return;
    this.#woken = true;
    setImmediate(() => {
      this.#woken = false;
      if (this.#unbeat !== undefined) this.#run();
    });
  }

  #schedule(): void {
    const { every = ownTimer, config } = this.#options;
    this.#unbeat?.();
    this.#unbeat = every(config.get().monitor.interval * 1000, () => this.#run());
  }

  #run(): void {
    const { clock } = this.#options;
    const startMs = clock.monotonicMs();
    this.#failures = 0;
    this.#look(startMs);
    // An unfinished tick does not feed the watchdog: if this goes on, systemd restarts us and the actuator holds the caps.
    if (this.#failures > 0) return;
    const endMs = clock.monotonicMs();
    this.#durationsMs[this.#count % KEPT_DURATIONS] = endMs - startMs;
    this.#count += 1;
    if (endMs - this.#fedMs < FEED_EVERY_MS) return;
    this.#fedMs = endMs;
    this.#options.feed();
  }

  /** Each part by itself: what cannot be told or stored must not keep a cap from being set. */
  #look(nowMs: number): void {
    const { rulebook, alerts, executor } = this.#options;
    this.#part('observing', () => this.#observe());
    this.#part('deciding', () => rulebook.checkStale(nowMs, this.#onFinding));
    this.#part('tending alerts', () => alerts.tend(nowMs));
    this.#part('acting', () => executor.reconcile(nowMs));
  }

  #observe(): void {
    const { sensing, rulebook, recorder, store } = this.#options;
    const channels = sensing.channels;
    this.#part('recording', () => recorder.use(channels));
    sensing.drain((index, value, quality, atMs) => {
      // No closure for each sample: there are hundreds in a tick.
      try {
        rulebook.sample(index, value, quality, atMs, this.#onFinding);
      } catch (error) {
        this.#failed('deciding', error);
      }
      const channel = channels[index];
      if (channel === undefined) return;
      try {
        recorder.sample(index, value, quality, atMs);
        store.sample(channel, quality === 'ok' ? value : null, quality, atMs);
      } catch (error) {
        this.#failed('storing a sample', error);
      }
    });
  }

  #part(what: string, run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#failed(what, error);
    }
  }

  /** Said once a tick; not `fatal`, whose lines are not bounded: this may go on for hours. */
  #failed(what: string, error: unknown): void {
    this.#failures += 1;
    if (this.#failures === 1)
      this.#options.log.error(`the protection tick failed at ${what}: ${reason(error)}`, { error });
  }
}
