/**
 * Timers that fall together. A wake-up of the event loop costs more than most of what is done now and then: some 50 µs, and as much again
 * for caches that others have used meanwhile. A dozen timers, each at a moment of its own, would cost as much as all that they do. So
 * there is one timer, of the shortest period; each of its turns takes along what is due about then. It is an interval, because to set
 * a timer anew with each turn costs as much as the turn.
 *
 * The shortest period comes first in each turn: unless it is configured to be slow, the protection tick does not wait for what is done at
 * leisure. Each keeps its pace, every time within half of the shortest; what is missed is not made up for.
 */
import type { Clock } from './clock.js';

/** Calls again and again, first about a period from now; the result ends it, and may be called twice. */
export type Every = (periodMs: number, run: () => void) => () => void;

/** By a timer of its own, which does not keep the process alive. */
export const ownTimer: Every = (periodMs, run) => {
  const timer = setInterval(run, periodMs);
  timer.unref();
  return () => clearInterval(timer);
};

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
  /** Of the timer. */
  #periodMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Keeps the process alive until it is ended. */
  readonly every: Every = (periodMs, run) => {
    const job: Job = { periodMs, run, dueMs: this.#clock.monotonicMs() + periodMs, isOver: false };
    this.#use([...this.#jobs, job].sort((a, b) => a.periodMs - b.periodMs));
    return () => {
      job.isOver = true;
      this.#use(this.#jobs.filter((each) => each !== job));
    };
  };

  #use(jobs: readonly Job[]): void {
    this.#jobs = jobs;
    const periodMs = jobs[0]?.periodMs ?? 0;
    if (periodMs === this.#periodMs) return;
    clearInterval(this.#timer);
    this.#periodMs = periodMs;
    this.#timer = periodMs === 0 ? undefined : setInterval(() => this.#turn(), periodMs);
  }

  /** Each by itself: what throws keeps no other from its turn. The first mistake is thrown at the end. */
  #turn(): void {
    const nowMs = this.#clock.monotonicMs();
    const untilMs = nowMs + this.#periodMs / 2;
    const mistakes: unknown[] = [];
    for (const job of this.#jobs) {
      // One may have ended another just now.
      if (job.isOver || job.dueMs > untilMs) continue;
      job.dueMs = Math.max(job.dueMs, nowMs - job.periodMs / 2) + job.periodMs;
      try {
        job.run();
      } catch (error) {
        mistakes.push(error);
      }
    }
    if (mistakes.length > 0) throw mistakes[0];
  }
}
