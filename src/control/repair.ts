/**
 * One repair: what an action runs that cannot be taken back, from its gates to the verdict whether it helped. README.md beside
 * this file is its story. Level-triggered like the executor: it is looked at each tick, waits for nothing, and an answer that comes
 * late is told apart by its turn.
 */
import { createHash } from 'node:crypto';
import { type Built, type Job, stepsOf } from '../actuators/effect.js';
import { isListing, listingOf } from '../config/jobs.js';
import { type ActionClass, actionClass } from '../core/action-names.js';
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import type { ActionJob, Actuator, ActuatorJob, JobState } from '../core/ports.js';
import type { ActionState } from '../core/vocabulary.js';
import type { JobReport } from './job-reports.js';
import type { Attempt, AttemptResult, RepairGate } from './repair-gate.js';

/** A disk that does not take the intent by then is dead: what cannot be taken back is not begun. */
export const INTENT_MS = 10_000;
/** A run that the actuator has not taken by then, over however many connections, is given up. */
export const START_MS = 30_000;
/** A connection that is lost, or a run of somebody else, may be over by then. */
const ASK_AGAIN_MS = 1_000;
/** Between two attempts, whatever the gates say: a refusal that comes at once must not become a storm of intents. */
export const REST_MS = 10_000;
/** What is refused is asked again so often: budgets and windows are of minutes, and a node may have hundreds of repairs that wait. */
const LOOK_AGAIN_MS = 500;
/** Attempts that a record shows; the chain has them all. */
const SHOWN_JOBS = 8;
/** KEY of the actuator's protocol. */
const MAX_KEY_LENGTH = 120;

type Phase = 'waiting' | 'listing' | 'intent' | 'running' | 'verifying' | 'over';

/** One run of one job. */
interface Run {
  readonly job: string;
  readonly key: string;
  readonly sinceMs: number;
  readonly sinceAtMs: number;
  askAtMs: number;
  asking: boolean;
  /** It was asked for, and the answer was lost. */
  unanswered: boolean;
  /** The actuator has it. */
  taken: boolean;
  /** It is over, and its report is being read. */
  ended: boolean;
}

/** What the readings say of what the repair is for: `calm`: it seems to be over, and is not certain; `unseen`: nothing. */
export type Condition = 'stands' | 'calm' | 'unseen';

const TAKEN = { asking: false, unanswered: false, taken: true, ended: false } as const;

export interface RepairSubject {
  readonly attempt: Attempt;
  readonly actionId: string;
  /** As of now: the configuration and the allow-list may be others than when it became due. */
  build(): Built;
  condition(): Condition;
  /** Why a person's word keeps a new attempt from beginning. */
  objection(): string | undefined;
  /** Runs the listings alone, for somebody who has to decide. */
  readonly listOnly: boolean;
  /** Runs that the record already tells of. */
  readonly former: readonly ActionJob[];
  /** What an earlier agent of this boot left it at: the attempt that it began is followed to its end. */
  readonly resumes?: ActionState;
  /** An attempt begins for good. */
  onBegin(): void;
  become(state: ActionState, why: string): void;
  /** The verdict on one attempt. */
  onResult(result: AttemptResult): void;
  /** It is over, and nothing of it runs. */
  onOver(): void;
}

/** What all repairs of an agent share. */
export interface RepairContext {
  readonly gate: RepairGate;
  readonly clock: Clock;
  readonly actuator: Actuator | undefined;
  /** Ids that the allow-list names. */
  readonly listed: ReadonlySet<string>;
  readonly verifyMs: number;
  /** Another repair of this action, on whatever channel, is under way. */
  isUnderWay(action: string, self: Repair): boolean;
  /** Resolves when the intent is on disk. */
  intend(attempt: Attempt, intent: Readonly<Record<string, unknown>>): Promise<void>;
  /** What the unit of this job said of a run since then. */
  report(job: string, sinceAtMs: number): Promise<JobReport | undefined>;
}

export class Repair {
  readonly #subject: RepairSubject;
  readonly #context: RepairContext;
  readonly #kind: ActionClass;
  readonly #jobs: ActionJob[];
  /** Attempts that an earlier agent began. */
  readonly #formerAttempts: number;
  /** Since when it is due: its effects are given their time. */
  #beganMs: number;
  #phase: Phase = 'waiting';
  /** Counts what we wait for: the answer to anything earlier is no longer ours. */
  #turn = 0;
  #attempts: number;
  /** Of this attempt, whatever the configuration says meanwhile: what is on record is what runs. */
  #planned: readonly Job[] = [];
  /** Jobs of this attempt that are still to run, the first of them now. */
  #queue: string[] = [];
  #current: Run | undefined;
  #sinceMs: number;
  #restUntilMs = 0;
  #listing: JobReport | undefined;
  #result: AttemptResult | undefined;
  #admitted = false;
  #isDue = true;
  #recovered = false;

  constructor(subject: RepairSubject, context: RepairContext) {
    this.#subject = subject;
    this.#context = context;
    this.#kind = actionClass(subject.attempt.action.verb);
    this.#jobs = [...subject.former];
    this.#formerAttempts = Math.max(0, ...subject.former.map(({ key }) => attemptOf(key, subject.actionId)));
    this.#attempts = this.#formerAttempts;
    this.#beganMs = context.clock.monotonicMs();
    this.#sinceMs = this.#beganMs;
    this.#resume();
  }

  /** It counts as the attempt that it is, and is not begun again. A listing changes nothing, and is forgotten. */
  #resume(): void {
    const { former, resumes } = this.#subject;
    const last = former.at(-1);
    if (last === undefined || isListing(last.job)) return;
    if (last.state === 'running') {
      this.#phase = 'running';
      const { job, key } = last;
      const sinceAtMs = this.#context.clock.wallMs();
      this.#current = { job, key, sinceAtMs, sinceMs: this.#beganMs, askAtMs: this.#beganMs, ...TAKEN };
    } else if (resumes === 'verifying') this.#phase = 'verifying';
    this.#admitted = this.#phase !== 'waiting' && this.#isGated();
  }

  get action(): string {
    return this.#subject.attempt.action.text;
  }

  get isUnderWay(): boolean {
    return this.#phase !== 'waiting' && this.#phase !== 'over';
  }

  get isOver(): boolean {
    return this.#phase === 'over';
  }

  /** The actuator has to be asked what became of a run. */
  get isRunning(): boolean {
    return this.#current !== undefined;
  }

  /** The latest attempts, oldest first. */
  get jobs(): readonly ActionJob[] {
    return this.#jobs;
  }

  get listing(): JobReport | undefined {
    return this.#listing;
  }

  /** How the record of the action ends. undefined: no attempt was made. */
  get endState(): ActionState | undefined {
    if (this.#subject.listOnly) return undefined;
    if (this.#result === undefined) return this.#attempts > this.#formerAttempts ? 'abandoned' : undefined;
    return this.#result;
  }

  // ---- Each tick ------------------------------------------------------------------------------------------------------

  look(nowMs: number): void {
    if (this.#phase === 'waiting') this.#wait(nowMs);
    else if (this.#phase === 'intent' && nowMs - this.#sinceMs >= INTENT_MS) this.#intentIsLate();
    else if (this.#phase === 'verifying' && nowMs - this.#sinceMs >= this.#context.verifyMs) this.#judge();
    if (this.#current !== undefined) this.#ask(nowMs);
  }

  /** While it seems to be over that is waited for: a rung is left a `keep` later, and that may be long. */
  #judge(): void {
    const condition = this.#subject.condition();
    const { verifyMs } = this.#context;
    if (condition === 'stands')
      this.#finish('unhelpful', `the condition stands ${Math.round(verifyMs / 1000)} s later`);
    else if (condition === 'unseen') this.#finish('done', 'whether it helped is not known: there is no reading');
  }

  #wait(nowMs: number): void {
    if (nowMs < this.#restUntilMs) return;
    const { listOnly } = this.#subject;
    const built = this.#subject.build();
    const { jobs } = stepsOf(built);
    const afterMs = Math.max(0, ...jobs.map((job) => job.afterMs ?? 0));
    if (nowMs - this.#beganMs < afterMs) return;
    const why = 'unavailable' in built ? unavailable(built.unavailable) : this.#refusal(jobs, nowMs);
    if (why !== undefined) {
      this.#restUntilMs = nowMs + LOOK_AGAIN_MS;
      if (!listOnly) this.#subject.become(why.state, why.text);
      return;
    }
    this.#planned = jobs;
    this.#attempts += 1;
    this.#admitted = !listOnly && this.#isGated();
    this.#listing = undefined;
    this.#result = undefined;
    const listings = jobs.map(({ job }) => listingOf(job)).filter((job) => this.#context.listed.has(job));
    this.#queue = listings;
    this.#phase = 'listing';
    if (!listOnly)
      this.#subject.become('pending', listings.length > 0 ? 'what it would touch is listed' : 'its intent is recorded');
    this.#next(nowMs);
  }

  /** Asked once for an attempt: the gate counts it when it lets it through. */
  #refusal(jobs: readonly Job[], nowMs: number): Refusal | undefined {
    const { attempt, listOnly } = this.#subject;
    const { actuator, listed, gate } = this.#context;
    if (actuator === undefined) return unavailable('no actuator is connected');
    const missing = jobs.find(({ job }) => !listed.has(job));
    if (missing !== undefined) return unavailable(`the allow-list does not name ${missing.job}`);
    if (jobs.length === 0) return unavailable('nothing of it is left to run');
    if (this.#context.isUnderWay(this.action, this)) return barred('another attempt of it is under way');
    if (listOnly || !this.#isGated()) return undefined;
    const why = this.#hindrance() ?? gate.refusal(attempt, nowMs);
    return why === undefined ? undefined : barred(why);
  }

  /** What may have changed while a listing ran, which may take minutes, or the disk was waited for. */
  #hindrance(): string | undefined {
    return this.#isGated() ? (this.#subject.objection() ?? this.#doubt()) : undefined;
  }

  /** Its attempt stays counted. */
  #withdraw(why: string): void {
    this.#turn += 1;
    this.#phase = 'waiting';
    this.#restUntilMs = this.#context.clock.monotonicMs() + REST_MS;
    this.#tellGate('done');
    this.#subject.become('barred', why);
  }

  /** A person who agreed to it has looked. */
  #doubt(): string | undefined {
    const condition = this.#subject.attempt.isApproved ? 'stands' : this.#subject.condition();
    if (condition === 'calm') return 'the reading is below the bound at which it is needed';
    return condition === 'unseen' ? 'there is no reading that says it is needed' : undefined;
  }

  #isGated(): boolean {
    return this.#kind === 'restartable' || this.#kind === 'irreversible';
  }

  // ---- An attempt -----------------------------------------------------------------------------------------------------

  /** The next job of the queue; behind the listings the intent, behind the jobs the verification. */
  #next(nowMs: number): void {
    this.#turn += 1;
    this.#current = undefined;
    // What runs is not cut off; what has not begun is not begun any more.
    if (!this.#isDue) this.#queue = [];
    const job = this.#queue.shift();
    if (job !== undefined) {
      const key = this.#key(job);
      const sinceAtMs = this.#context.clock.wallMs();
      this.#current = {
        job,
        key,
        sinceMs: nowMs,
        sinceAtMs,
        askAtMs: nowMs,
        asking: false,
        unanswered: false,
        taken: false,
        ended: false,
      };
      this.#show({ job, key, state: 'running', exit: null, summary: '' });
      // On record before it is asked for, so that whoever comes after knows whom to ask about.
      if (this.#phase === 'running') this.#subject.become('running', `runs ${job}`);
      this.#ask(nowMs);
    } else if (this.#phase === 'listing') this.#intend(nowMs);
    else this.#ran(nowMs);
  }

  /** Of this attempt and job alone, in the alphabet of the protocol. */
  #key(job: string): string {
    const written = `${this.#subject.actionId}/${this.#attempts}/${job}`;
    if (written.length <= MAX_KEY_LENGTH && /^[a-z0-9:_.@~/-]+$/.test(written)) return written;
    return `${this.#attempts}/${createHash('sha256').update(written).digest('hex')}`;
  }

  #intend(nowMs: number): void {
    const { attempt, listOnly } = this.#subject;
    if (listOnly) {
      const touched = this.#listing?.summary ?? '';
      this.#subject.become('proposed', joined('`skos approve` does it if you agree', touched));
    }
    if (listOnly || !this.#isDue) {
      this.#stop();
      return;
    }
    const why = this.#hindrance();
    if (why !== undefined) {
      this.#withdraw(why);
      return;
    }
    this.#phase = 'intent';
    this.#sinceMs = nowMs;
    const turn = this.#turn;
    const listing = this.#listing;
    this.#context
      .intend(attempt, {
        action: this.#subject.actionId,
        attempt: this.#attempts,
        jobs: this.#planned.map(({ job }) => job),
        deadlineMs: INTENT_MS,
        ...(listing === undefined ? {} : { listing }),
      })
      .then(
        () => {
          if (turn === this.#turn) this.#begin();
        },
        (error: unknown) => {
          if (turn === this.#turn) this.#intentFailed(reason(error));
        },
      );
  }

  #intentIsLate(): void {
    this.#intentFailed('the disk did not take it in time');
  }

  /** A restart is less than what happens when nobody restarts; a deletion is not. */
  #intentFailed(why: string): void {
    if (this.#kind === 'irreversible') this.#finish('failed', `not run, its intent is not on disk: ${why}`);
    else this.#begin();
  }

  #begin(): void {
    const why = this.#hindrance();
    if (why !== undefined) {
      this.#withdraw(why);
      return;
    }
    this.#subject.onBegin();
    this.#phase = 'running';
    this.#queue = this.#planned.map(({ job }) => job);
    this.#next(this.#context.clock.monotonicMs());
  }

  /** The same key as often as needed: the actuator starts it once. */
  #ask(nowMs: number): void {
    const current = this.#current;
    const { actuator } = this.#context;
    if (current === undefined || current.asking || current.taken || nowMs < current.askAtMs) return;
    if (nowMs - current.sinceMs >= START_MS) {
      const why = current.unanswered ? 'whether the actuator took it is not known' : 'the actuator did not take it';
      this.#jobEnded('failed', null, why);
      return;
    }
    if (actuator === undefined) return;
    current.asking = true;
    current.askAtMs = nowMs + ASK_AGAIN_MS;
    actuator.run(current.job, current.key).then(
      () => {
        current.asking = false;
        current.taken = true;
      },
      (error: unknown) => {
        current.asking = false;
        if (current !== this.#current) return;
        const code = error instanceof SkosError ? error.code : undefined;
        current.unanswered ||= code === 'SKOS_ACTUATOR_ABSENT';
        const isForLater = code === 'SKOS_ACTUATOR_ABSENT' || code === 'SKOS_ACTUATOR_BUSY';
        if (!isForLater) this.#jobEnded('failed', null, reason(error));
      },
    );
  }

  /** What the actuator knows of its jobs. */
  seen(rows: readonly ActuatorJob[]): void {
    const current = this.#current;
    const row = rows.find(({ job }) => job === current?.job);
    if (current === undefined || !current.taken || current.ended) return;
    if (row === undefined || row.key !== current.key) {
      this.#jobEnded('failed', null, 'the actuator knows nothing of it any more');
    } else if (row.state !== 'running') {
      current.ended = true;
      void this.#context.report(current.job, current.sinceAtMs).then((report) => {
        if (current === this.#current) this.#jobEnded(row.state, row.exit, report?.summary ?? '', report);
      });
    }
  }

  #jobEnded(state: JobState, exit: number | null, summary: string, report?: JobReport): void {
    const current = this.#current;
    if (current === undefined) return;
    const { job, key } = current;
    this.#show({ job, key, state, exit, summary });
    this.#current = undefined;
    const isGood = state === 'done' && report?.ok !== false;
    if (!isGood) {
      this.#queue = [];
      this.#finish('failed', `${job}: ${summary || wordsOf(state, exit)}`);
      return;
    }
    if (this.#phase === 'listing' && report !== undefined) this.#listing = report;
    this.#next(this.#context.clock.monotonicMs());
  }

  #show(job: ActionJob): void {
    const known = this.#jobs.findIndex(({ key }) => key === job.key);
    if (known >= 0) this.#jobs[known] = job;
    else this.#jobs.push(job);
    if (this.#jobs.length > SHOWN_JOBS) this.#jobs.shift();
  }

  #ran(nowMs: number): void {
    const said = this.#jobs.at(-1)?.summary ?? '';
    if (this.#kind === 'notice') this.#finish('done', said || 'done');
    else if (!this.#isDue && this.#recovered) this.#finish('helped', joined(said, 'the condition is over'));
    else if (!this.#isDue) this.#finish('done', joined(said, 'nothing asks for it any more'));
    else {
      this.#phase = 'verifying';
      this.#sinceMs = nowMs;
      this.#subject.become('verifying', joined(said, 'whether it helps will show'));
    }
  }

  /** The verdict on this attempt. */
  #finish(result: AttemptResult, why: string): void {
    this.#turn += 1;
    this.#current = undefined;
    this.#result = result;
    const wasListOnly = this.#subject.listOnly;
    this.#restUntilMs = this.#context.clock.monotonicMs() + REST_MS;
    this.#phase = !this.#isDue || this.#kind === 'notice' || wasListOnly ? 'over' : 'waiting';
    this.#tellGate(result);
    if (!wasListOnly) {
      this.#subject.become(result, why);
      this.#subject.onResult(result);
    }
    if (this.#phase === 'over') this.#subject.onOver();
  }

  #tellGate(result: AttemptResult): void {
    if (!this.#admitted) return;
    this.#admitted = false;
    this.#context.gate.ended(this.#subject.attempt, result, this.#context.clock.monotonicMs());
  }

  // ---- The condition --------------------------------------------------------------------------------------------------

  /** Nothing asks for it any more; `recovered`: because readings say that the condition is over. What runs is not cut off. */
  dueEnded(recovered: boolean): void {
    this.#isDue = false;
    this.#recovered = recovered;
    if (this.#phase === 'running' || this.#phase === 'over') return;
    if (this.#phase === 'verifying')
      this.#finish(recovered ? 'helped' : 'done', recovered ? 'the condition is over' : 'nothing asks for it any more');
    else this.#stop();
  }

  /** The condition came back before the end was settled. */
  dueAgain(): void {
    this.#isDue = true;
    this.#beganMs = this.#context.clock.monotonicMs();
    if (this.#phase === 'over' && this.#kind !== 'notice') this.#phase = 'waiting';
  }

  /** Before anything ran. A listing that still runs changes nothing. */
  #stop(): void {
    this.#turn += 1;
    this.#current = undefined;
    this.#queue = [];
    this.#phase = 'over';
    this.#tellGate('done');
    this.#subject.onOver();
  }
}

interface Refusal {
  readonly state: ActionState;
  readonly text: string;
}

function barred(text: string): Refusal {
  return { state: 'barred', text };
}

function unavailable(text: string): Refusal {
  return { state: 'unavailable', text };
}

/** The attempt that a key is of, as #key writes it; 0: it is not known. */
function attemptOf(key: string, actionId: string): number {
  const rest = key.startsWith(`${actionId}/`) ? key.slice(actionId.length + 1) : key;
  return Number(/^(\d{1,9})\//.exec(rest)?.[1] ?? 0);
}

function joined(...parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join('; ');
}

function wordsOf(state: JobState, exit: number | null): string {
  if (state === 'timeout') return 'it took longer than it may, and is not waited for any more';
  if (state === 'unknown') return 'how it ended is not known';
  if (state === 'unavailable') return 'nothing on this machine can start units';
  return exit === null ? 'it failed' : `it failed with exit status ${exit}`;
}
