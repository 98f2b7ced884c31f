/**
 * A program that runs as a child of the agent, under `skos run` only (installed, systemd does this). It is restarted when
 * it ends, kept below a memory limit, and stopped or left running when the agent stops. The only file with child_process.
 *
 * A child has a session of its own (setsid), so that Ctrl-C reaches the agent alone, which then stops its children in
 * order. A child that must not outlive the agent holds one end of a socket pair on PARENT_FD and ends when the other end
 * closes (parent.ts): the kernel closes it however the agent dies, SIGKILL included.
 */
import { type ChildProcess as NodeChild, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { type Every, ownTimer } from '../core/beat.js';
import { type Clock, systemClock } from '../core/clock.js';
import { isDoneWithin } from '../core/deadline.js';
import { type ErrorCode, reason, SkosError } from '../core/errors.js';
import type { Part } from '../core/lifecycle.js';
import type { Log } from '../core/ports.js';
import { PARENT_FD_VARIABLE } from './parent.js';

export interface ChildSpec {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Added to the agent's own environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Code and event of its log lines. */
  readonly code: ErrorCode;
  readonly event: string;
  /** Resident memory beyond which it is killed and started again. */
  readonly rssLimitBytes?: number;
  /** It is left running when the agent stops or dies (the actuator, until its last lease is over). */
  readonly outlives?: boolean;
  /** Between SIGTERM and SIGKILL. */
  readonly stopDeadlineMs?: number;
}

/** The first restart comes well within a second; then twice as long each time. */
const FIRST_BACKOFF_MS = 200;
/** A program that cannot run costs one start in half a minute. */
const MAX_BACKOFF_MS = 30_000;
/** After a minute of running it counts as healthy and its next restart is a first one. */
const HEALTHY_MS = 60_000;
/** One read of /proc a second: 20 µs. A flood fills 100 MB in about that time, which the machine can bear. */
const RSS_PERIOD_MS = 1_000;
export const STOP_DEADLINE_MS = 3_000;
/** A process that SIGKILL does not end in this time sits in the kernel; nobody can end it. */
const KILL_DEADLINE_MS = 1_000;
/** Where the child finds the pipe of its parent; the first descriptor behind the standard ones. */
const PARENT_FD = 3;

interface Run {
  readonly child: NodeChild;
  readonly sinceMs: number;
  /** Resolves when the process is gone. */
  readonly gone: Promise<void>;
  /** Why we killed it, if we did. */
  killedFor?: string;
}

export class ChildProcess implements Part {
  readonly name: string;
  private readonly spec: ChildSpec;
  private readonly log: Log;
  private readonly clock: Clock;
  private run: Run | undefined;
  private wanted = false;
  private backoffMs = FIRST_BACKOFF_MS;
  private restartTimer: NodeJS.Timeout | undefined;
  private endRssChecks: () => void = () => undefined;
  private lastReason = '';

  private readonly every: Every;

  constructor(
    spec: ChildSpec,
    { log, clock = systemClock, every = ownTimer }: { log: Log; clock?: Clock; every?: Every },
  ) {
    this.name = spec.name;
    this.spec = spec;
    this.log = log;
    this.clock = clock;
    this.every = every;
  }

  /** Process id while it runs. */
  get pid(): number | undefined {
    return this.run?.child.pid;
  }

  get stopDeadlineMs(): number {
    return (this.spec.stopDeadlineMs ?? STOP_DEADLINE_MS) + 2 * KILL_DEADLINE_MS;
  }

  /** Rejects with the spec's code when the program cannot be started at all; from then on it is kept running. */
  async start(): Promise<void> {
    if (this.wanted) return;
    this.wanted = true;
    this.backoffMs = FIRST_BACKOFF_MS;
    this.lastReason = '';
    try {
      await this.spawn();
    } catch (error) {
      this.wanted = false;
      throw new SkosError(this.spec.code, `${this.name} cannot be started`, { cause: error });
    }
    // stop() may have come while the process was being made.
    if (!this.wanted) return this.stop();
    if (this.spec.rssLimitBytes !== undefined) {
      this.endRssChecks = this.every(RSS_PERIOD_MS, () => this.checkRss());
    }
  }

  async stop(): Promise<void> {
    this.wanted = false;
    clearTimeout(this.restartTimer);
    this.endRssChecks();
    const run = this.run;
    if (run === undefined) return;
    if (this.spec.outlives === true) {
      run.child.unref();
      return;
    }
    await this.end(run);
  }

  /** Kills it, so that it is started again. For a program that is there and does not do its work. */
  replace(why: string): void {
    const { run } = this;
    if (run === undefined || run.killedFor !== undefined) return;
    run.killedFor = why;
    run.child.kill('SIGKILL');
  }

  private async end(run: Run): Promise<void> {
    run.child.kill('SIGTERM');
    if (await isDoneWithin(run.gone, this.spec.stopDeadlineMs ?? STOP_DEADLINE_MS)) return;
    this.log.warn(`${this.name} does not end on SIGTERM and is killed`, { child: this.name, pid: run.child.pid });
    run.child.kill('SIGKILL');
    if (await isDoneWithin(run.gone, KILL_DEADLINE_MS)) return;
    run.child.unref();
    this.log.error(`${this.name} is stuck in the kernel and left behind`, {
      child: this.name,
      pid: run.child.pid,
      code: 'SKOS_SHUTDOWN_DEADLINE',
    });
  }

  private async spawn(): Promise<void> {
    const { command, args, env, outlives } = this.spec;
    const child = spawn(command, args, {
      detached: true,
      stdio: ['ignore', 'inherit', 'inherit', ...(outlives === true ? [] : ['pipe' as const])],
      env: { ...process.env, ...env, ...(outlives === true ? {} : { [PARENT_FD_VARIABLE]: String(PARENT_FD) }) },
    });
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    // After 'spawn' an error is a kill() that failed, because the process is gone already: 'exit' says so too.
    child.on('error', (error) => this.log.debug(`${this.name}: ${error.message}`, { child: this.name }));
    // The child never writes there; what a broken one sends is read and dropped.
    const pipe = child.stdio[PARENT_FD];
    pipe?.on('error', () => undefined);
    if (pipe instanceof Readable) pipe.resume();
    const run: Run = { child, gone, sinceMs: this.clock.monotonicMs() };
    this.run = run;
    child.once('exit', (status, signal) => this.onExit(run, status, signal));
    this.log.info(`${this.name} started`, { child: this.name, pid: child.pid });
  }

  private onExit(run: Run, status: number | null, signal: NodeJS.Signals | null): void {
    if (this.run === run) this.run = undefined;
    if (!this.wanted) return;
    if (this.clock.monotonicMs() - run.sinceMs >= HEALTHY_MS) {
      this.backoffMs = FIRST_BACKOFF_MS;
      this.lastReason = '';
    }
    this.restartLater(run.killedFor ?? (signal === null ? `it ended with status ${status}` : `it ended by ${signal}`));
  }

  private restartLater(why: string, error?: unknown): void {
    const { code, event } = this.spec;
    const delayMs = this.backoffMs;
    this.backoffMs = Math.min(2 * delayMs, MAX_BACKOFF_MS);
    // A program that fails for ever in the same way is said once, not every half minute.
    const level = why === this.lastReason ? 'debug' : 'warn';
    this.lastReason = why;
    this.log[level](`${this.name} is started again in ${delayMs} ms: ${why}`, {
      event,
      code,
      child: this.name,
      ...(error === undefined ? {} : { error }),
    });
    this.restartTimer = setTimeout(() => this.restart(), delayMs).unref();
  }

  private restart(): void {
    this.spawn().then(
      () => (this.wanted ? undefined : this.stop()),
      (error) => {
        if (this.wanted) this.restartLater('it cannot be started', error);
      },
    );
  }

  private checkRss(): void {
    const { rssLimitBytes } = this.spec;
    const run = this.run;
    if (run?.child.pid === undefined || rssLimitBytes === undefined || run.killedFor !== undefined) return;
    const rssBytes = residentBytes(run.child.pid);
    if (rssBytes === undefined || rssBytes <= rssLimitBytes) return;
    const megabytes = (bytes: number) => Math.round(bytes / 1_048_576);
    // SIGKILL at once: a process that is flooded may not come to handle SIGTERM before memory is short.
    this.replace(`it used ${megabytes(rssBytes)} MiB of memory, its limit is ${megabytes(rssLimitBytes)} MiB`);
  }
}

/** A child that the node does without: a start that fails is said, and keeps nothing else from starting. */
export function optionalChild({
  name,
  spec,
  without,
  event,
  code,
  log,
}: Pick<ChildSpec, 'name' | 'event' | 'code'> & {
  /** Throws where its program is not built. */
  spec: () => ChildSpec;
  /** What the node is without it. */
  without: string;
  log: Log;
}): Part & { replace(why: string): void } {
  let child: ChildProcess | undefined;
  return {
    name,
    start: async () => {
      try {
        child = new ChildProcess(spec(), { log });
        await child.start();
      } catch (error) {
        log.error(`${without}: ${reason(error)}`, { event, code, error });
      }
    },
    stop: () => child?.stop(),
    replace: (why) => child?.replace(why),
  };
}

/** VmRSS of a process; undefined once it is gone. */
function residentBytes(pid: number): number | undefined {
  try {
    // In kB whatever the page size is, unlike statm.
    const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1_024;
  } catch {
    return undefined;
  }
}
