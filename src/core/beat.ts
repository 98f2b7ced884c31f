/**
 * Timers that fall together. A wake-up of the event loop costs more than most of what is done now and then: some 50 µs, and as much again
 * for caches that others have used meanwhile. A dozen timers, each at a moment of its own, would cost as much as all that they do. So
 * all periods are counted from one origin: what is due ten times a second takes along what is due each second, or each minute.
 *
 * Of what is due together the shortest period comes first: the protection tick does not wait for what is done at leisure. A period
 * that is missed is not made up for.
 */
import type { Clock } from './clock.js';

/** Calls again and again, first after one period at most; the result ends it, and may be called twice. */
export type Every = (periodMs: number, run: () => void) => () => void;

/** By a timer of its own, which does not keep the process alive. */
export const ownTimer: Every = (periodMs, run) => {
  const timer = setInterval(run, periodMs);
  timer.unref();
  return () => clearInterval(timer);
};

/** What is due so soon is done in the same turn: timers count in whole milliseconds. */
const TOGETHER_MS = 1;

interface Job {
  readonly periodMs: number;
  readonly run: () => void;
  dueMs: number;
  isOver: boolean;
}

export class Beat {
  readonly #clock: Clock;
  /** The shortest period first. */
  #jobs: readonly Job[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Keeps the process alive until it is ended. */
  readonly every: Every = (periodMs, run) => {
    const job: Job = { periodMs, run, dueMs: nextDueMs(periodMs, this.#clock.monotonicMs()), isOver: false };
    this.#jobs = [...this.#jobs, job].sort((a, b) => a.periodMs - b.periodMs);
    this.#arm();
    return () => {
      job.isOver = true;
      this.#jobs = this.#jobs.filter((each) => each !== job);
      this.#arm();
    };
  };

  #arm(): void {
    clearTimeout(this.#timer);
    if (this.#jobs.length === 0) return;
    let dueMs = Number.POSITIVE_INFINITY;
    for (const job of this.#jobs) dueMs = Math.min(dueMs, job.dueMs);
    // Timers are set in whole milliseconds, and the rest is cut off: too early would be a wake-up more.
    const afterMs = Math.ceil(dueMs - this.#clock.monotonicMs());
    this.#timer = setTimeout(() => this.#run(), Math.max(1, afterMs));
  }

  #run(): void {
    const untilMs = this.#clock.monotonicMs() + TOGETHER_MS;
    try {
      for (const job of this.#jobs) {
        // One may have ended another just now.
        if (job.isOver || job.dueMs > untilMs) continue;
        // Before it runs: what throws is not called again at once, for ever.
        job.dueMs = nextDueMs(job.periodMs, untilMs);
        job.run();
      }
    } finally {
      this.#arm();
    }
  }
}

function nextDueMs(periodMs: number, nowMs: number): number {
  return (Math.floor(nowMs / periodMs) + 1) * periodMs;
}
