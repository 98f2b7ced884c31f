/**
 * Starts the parts of a program in order and stops them in reverse. When one does not start, those before it are stopped
 * again, so that a failed start leaves nothing behind.
 *
 * Every step has a deadline, because a part may sit on a dead disk or a hung driver: stopping goes on without it, says
 * so (SKOS_SHUTDOWN_DEADLINE) and leaves the rest to the kernel. The contract of a part is that stop() is idempotent
 * and copes with a start() that failed half way.
 */
import { isDoneWithin } from './deadline.js';
import { reason, SkosError } from './errors.js';
import type { Log } from './ports.js';

export interface Part {
  readonly name: string;
  start(): void | Promise<void>;
  stop(): void | Promise<void>;
  /** Absent: START_DEADLINE_MS. */
  readonly startDeadlineMs?: number;
  /** Absent: STOP_DEADLINE_MS. */
  readonly stopDeadlineMs?: number;
}

/** Opening a database after a power loss replays its log; beyond this the part is taken to hang. */
const START_DEADLINE_MS = 30_000;
/** Twelve parts that all hang still end before systemd's TimeoutStopSec of 90 s would kill the rest. */
export const STOP_DEADLINE_MS = 5_000;

export type LifecycleState = 'stopped' | 'starting' | 'running' | 'stopping';

export class Lifecycle {
  private readonly parts: readonly Part[];
  private readonly log: Log;
  /** In order of start; what stop() has to undo. */
  private readonly started: Part[] = [];
  private starting: Promise<boolean> | undefined;
  private stopping: Promise<void> | undefined;
  private current: LifecycleState = 'stopped';

  constructor({ parts, log }: { parts: readonly Part[]; log: Log }) {
    this.parts = parts;
    this.log = log;
  }

  get state(): LifecycleState {
    return this.current;
  }

  /**
   * True when every part runs; false when stop() came in between (everything is stopped then). Rejects with the error
   * of the part that failed, after those before it were stopped. A second call joins the first.
   */
  start(): Promise<boolean> {
    if (this.stopping !== undefined) return this.stopping.then(() => this.start());
    this.starting ??= this.startAll();
    return this.starting;
  }

  /** Never rejects: what does not stop is logged and left behind. A second call joins the first. */
  stop(): Promise<void> {
    this.stopping ??= this.stopAll().finally(() => {
      this.stopping = undefined;
    });
    return this.stopping;
  }

  private async startAll(): Promise<boolean> {
    this.current = 'starting';
    try {
      for (const part of this.parts) {
        if (this.stopping !== undefined) return false;
        this.started.push(part);
        await this.startPart(part);
      }
    } catch (error) {
      // A stop() that is already on its way takes the parts back; otherwise it is ours to do.
      if (this.stopping === undefined) await this.rollBack();
      throw error;
    }
    if (this.stopping !== undefined) return false;
    this.current = 'running';
    return true;
  }

  private async startPart(part: Part): Promise<void> {
    const deadlineMs = part.startDeadlineMs ?? START_DEADLINE_MS;
    const start = Promise.resolve().then(() => part.start());
    if (await isDoneWithin(start, deadlineMs)) return;
    // It may still come up after we gave up on it: then it is stopped a second time, which stop() must allow.
    start.then(() => this.stopPart(part)).catch((error) => this.lateFailure(part, error));
    throw new SkosError('SKOS_STARTUP_DEADLINE', `${part.name} did not start within ${deadlineMs} ms`);
  }

  private lateFailure(part: Part, error: unknown): void {
    this.log.warn(`${part.name} failed to start after its deadline`, { part: part.name, error });
  }

  private async rollBack(): Promise<void> {
    this.stopping = this.stopStarted().finally(() => {
      this.stopping = undefined;
    });
    await this.stopping;
  }

  private async stopAll(): Promise<void> {
    // A start on its way sees `stopping` before its next part; its error belongs to whoever called start().
    if (this.starting !== undefined) await this.starting.catch(() => undefined);
    await this.stopStarted();
  }

  private async stopStarted(): Promise<void> {
    this.current = 'stopping';
    for (let part = this.started.pop(); part !== undefined; part = this.started.pop()) {
      await this.stopPart(part);
    }
    this.starting = undefined;
    this.current = 'stopped';
  }

  private async stopPart(part: Part): Promise<void> {
    const deadlineMs = part.stopDeadlineMs ?? STOP_DEADLINE_MS;
    const stop = Promise.resolve().then(() => part.stop());
    try {
      if (await isDoneWithin(stop, deadlineMs)) return;
      stop.catch((error) => this.log.error(`${part.name} failed to stop`, { part: part.name, error }));
      this.log.error(`${part.name} did not stop within ${deadlineMs} ms and is left behind`, {
        part: part.name,
        code: 'SKOS_SHUTDOWN_DEADLINE',
      });
    } catch (error) {
      this.log.error(`${part.name} failed to stop: ${reason(error)}`, { part: part.name, error });
    }
  }
}
