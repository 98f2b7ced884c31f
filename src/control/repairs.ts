/**
 * The repairs of an agent: what they share. Asks the actuator about runs while there are any, sees to it that one action is repaired
 * once at a time however many channels want it, and closes what an earlier agent began without ever running it again.
 */
import { isListing } from '../config/jobs.js';
import { parseAction } from '../core/action-names.js';
import type { Clock } from '../core/clock.js';
import type { ActionRecord, Actuator, ActuatorJob } from '../core/ports.js';
import type { CurrentConfig } from './current-config.js';
import type { JobReport } from './job-reports.js';
import type { Record } from './record.js';
import { Repair, type RepairContext, type RepairSubject } from './repair.js';
import type { Attempt, RepairGate } from './repair-gate.js';

/** Units take seconds; a person who waits for one sees it within this. */
const POLL_MS = 500;

export interface RepairsOptions {
  readonly bootId: string;
  readonly config: CurrentConfig;
  readonly gate: RepairGate;
  readonly record: Record;
  /** What the unit of this job said of a run since then. */
  readonly report: (job: string, sinceAtMs: number) => Promise<JobReport | undefined>;
  readonly clock: Clock;
}

/** What became of a repair that an earlier agent began. */
export interface Settled {
  readonly record: ActionRecord;
  readonly job: ActuatorJob | undefined;
}

export class Repairs {
  readonly #options: RepairsOptions;
  readonly #open = new Set<Repair>();
  readonly #context: RepairContext;
  #earlier: readonly ActionRecord[] = [];
  #actuator: Actuator | undefined;
  #listed: ReadonlySet<string> = new Set();
  #nextPollMs = 0;
  #polling = false;

  constructor(options: RepairsOptions) {
    this.#options = options;
    const self = this;
    this.#context = {
      gate: options.gate,
      clock: options.clock,
      get actuator() {
        return self.#actuator;
      },
      get listed() {
        return self.#listed;
      },
      get verifyMs() {
        return options.config.get().repairs.verify * 1000;
      },
      isUnderWay: (action, repair) => self.#isUnderWay(action, repair),
      intend: (attempt, intent) => self.#intend(attempt, intent),
      report: options.report,
    };
  }

  /** A connection, and the jobs that its allow-list names; undefined: it is lost. What runs goes on. */
  use(actuator: Actuator | undefined, listed: ReadonlySet<string>): void {
    this.#actuator = actuator;
    this.#listed = listed;
    this.#nextPollMs = 0;
  }

  /** Unfinished repairs of an earlier agent. */
  recall(records: readonly ActionRecord[]): void {
    this.#earlier = [...this.#earlier, ...records];
  }

  open(subject: RepairSubject): Repair {
    const repair: Repair = new Repair(
      {
        ...subject,
        onOver: () => {
          this.#open.delete(repair);
          subject.onOver();
        },
      },
      this.#context,
    );
    this.#open.add(repair);
    return repair;
  }

  /** The danger is back before the end was settled. */
  reopen(repair: Repair): void {
    this.#open.add(repair);
    repair.dueAgain();
  }

  /** Each tick. `settled` is called for each repair of an earlier agent whose end is known. */
  look(nowMs: number, settled: (end: Settled) => void): void {
    for (const repair of [...this.#open]) repair.look(nowMs);
    const isAsked = this.#earlier.length > 0 || [...this.#open].some(({ isRunning }) => isRunning);
    if (!isAsked || this.#polling || nowMs < this.#nextPollMs || this.#actuator === undefined) return;
    this.#nextPollMs = nowMs + POLL_MS;
    void this.#poll(this.#actuator, settled);
  }

  async #poll(actuator: Actuator, settled: (end: Settled) => void): Promise<void> {
    this.#polling = true;
    try {
      const asked = [...this.#open];
      const rows = await actuator.jobs();
      if (actuator !== this.#actuator) return;
      for (const repair of asked) repair.seen(rows);
      this.#settleEarlier(rows, settled);
    } catch {
      // The link notices a lost connection; an actuator that knows no jobs lists none.
    } finally {
      this.#polling = false;
    }
  }

  #settleEarlier(rows: readonly ActuatorJob[], settled: (end: Settled) => void): void {
    const unsettled: ActionRecord[] = [];
    for (const record of this.#earlier) {
      const last = record.jobs?.at(-1);
      const job = rows.find((row) => row.job === last?.job && row.key === last.key);
      if (job?.state === 'running') unsettled.push(record);
      else {
        this.#tellGate(record, job);
        settled({ record, job });
      }
    }
    this.#earlier = unsettled;
  }

  /** The gates wait for the end of what they let through, also for an earlier agent. What is not known counts as a failure. */
  #tellGate({ action: text, rule, channel, severity }: ActionRecord, job: ActuatorJob | undefined): void {
    const { gate, config, clock } = this.#options;
    const action = parseAction(text, config.get().hooks);
    if (typeof action === 'string') return; // Of another configuration.
    const isWell = job !== undefined && (job.state === 'done' || isListing(job.job));
    gate.ended({ action, rule, channel, severity }, isWell ? 'done' : 'failed', clock.monotonicMs());
  }

  #isUnderWay(action: string, self: Repair): boolean {
    if (this.#earlier.some((record) => record.action === action)) return true;
    return [...this.#open].some((repair) => repair !== self && repair.action === action && repair.isUnderWay);
  }

  async #intend(
    { action, rule, channel, severity }: Attempt,
    intent: { readonly [key: string]: unknown },
  ): Promise<void> {
    const { record, bootId, clock } = this.#options;
    await record.intend({
      kind: 'action.intent',
      who: 'agent',
      what: { ...intent, verb: action.text, rule, channel, severity, boot: bootId, atMs: clock.wallMs() },
      level: 'info',
      message: `${action.text} for ${channel}: ${listingText(intent.listing as JobReport | undefined)}`,
      fields: { event: 'action.intent', verb: action.text, rule, channel },
    });
  }
}

function listingText(listing: JobReport | undefined): string {
  return listing === undefined ? 'about to run' : `about to run; ${listing.summary}`;
}
