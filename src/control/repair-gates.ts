/**
 * The gates before a repair: maintenance windows, circuit breakers, attempt budgets, damping. All of them hold over restarts and
 * reboots, on the lasting clock; README.md says the formulas. A cap, a freeze and a notice pass at once and are not even counted:
 * nothing here can hold protection back, nor can a breaker or a budget release anything.
 *
 * What is stored must be known before a repair may begin: a node that forgot its attempts would repeat them. A store that does
 * not answer therefore holds repairs back (and says so) as it does by the intent that must be on disk; it is asked again.
 */
import { ACT_NAMES } from '../config/act-plan.js';
import { type MaintenanceWindow, maintenanceWindows } from '../config/maintenance.js';
import { type Config, MAX_NODE_PER_DAY } from '../config/schema.js';
import { type Action, actionClass } from '../core/action-names.js';
import type { Clock } from '../core/clock.js';
import type { RecordKind, Records, Store } from '../core/ports.js';
import type { BreakersView } from '../core/protocol.js';
import { list, nullable, number, object, string } from '../core/shape.js';
import { WALL_CLOCK } from '../core/vocabulary.js';
import { type Breaker, CLOSED, FAILURES_TO_OPEN, isGated, nextProbeMs } from '../policy/breaker.js';
import { type Budget, budgetSpent, budgetUsed, DAY_MS, spend } from '../policy/budget.js';
import { intervalMs, MAX_SETBACKS } from '../policy/damping.js';
import { openWindow } from '../policy/maintenance.js';
import type { BreakerEntry, Breakers } from './breakers.js';
import type { CurrentConfig } from './current-config.js';
import { inTime, RECALL_MS } from './in-time.js';
import type { LastingClock } from './lasting-clock.js';
import type { Attempt, AttemptResult, RepairGate } from './repair-gate.js';

/** What has been tried of one action, or of all together. */
interface Attempts {
  /** When each began, ascending, within a day. */
  readonly startsMs: readonly number[];
  /** When the last one ended. */
  readonly endedMs: number | null;
  /** In a row that failed or did not help. */
  readonly setbacks: number;
  /** One is under way since then, begun in this boot; nobody has said yet what came of it. */
  readonly openMs: number | null;
  readonly bootId: string;
}

const ATTEMPTS: RecordKind<Attempts> = {
  name: 'repair-attempts',
  version: 1,
  shape: object({
    startsMs: list(number({ min: 0 }), { max: MAX_NODE_PER_DAY }),
    endedMs: nullable(number({ min: 0 })),
    setbacks: number({ min: 0, max: MAX_SETBACKS, integer: true }),
    openMs: nullable(number({ min: 0 })),
    bootId: string({ max: 64 }),
  }),
  upgrades: [],
  /** Twice what the budget of the node lets begin in a day; what a day did not touch is not kept. */
  maxCount: 2 * MAX_NODE_PER_DAY,
  /** Of so many starts with the decimals of the monotonic clock. */
  maxBytes: 16 * 1024,
};
const NONE: Attempts = { startsMs: [], endedMs: null, setbacks: 0, openMs: null, bootId: '' };
/** All actions together; no action is written so. */
const NODE = '*';
/** The clock that is not believed, shown and reset as a breaker is. */
const STUCK: Breaker = { ...CLOSED, phase: 'latched' };

const TEND_EVERY_MS = 60_000;
/** What the intent and the actuator's answer may take, beside the listing, the unit and the verification. */
const ATTEMPT_SLACK_MS = 120_000;
const MINUTE_MS = 60_000;
/** As many as begin in an hour; one more counts as an attempt of which nothing is known. */
const MAX_UNTOLD = 64;

export interface RepairGatesOptions {
  readonly config: CurrentConfig;
  readonly breakers: Breakers;
  readonly lasting: LastingClock;
  readonly store: Pick<Store, 'records'>;
  readonly clock: Clock;
  readonly bootId: string;
}

interface Refusal {
  readonly why: string;
  /** On the lasting clock; absent: nobody knows. */
  readonly untilMs?: number | undefined;
}

export class RepairGates implements RepairGate {
  readonly name = 'repair gates';
  readonly #options: RepairGatesOptions;
  readonly #records: Records<Attempts>;
  /** Words that were given: their times must not wander with the clock, because each new reason is told. */
  readonly #said = new Map<string, Refusal & { text: string }>();
  /** What came of attempts of an earlier agent, said before they were known. */
  readonly #untold: { readonly action: Action; readonly result: AttemptResult }[] = [];
  /** The windows of the configuration that was asked last. */
  #calendar: { readonly of: Config['maintenance']; readonly windows: readonly MaintenanceWindow[] } | undefined;
  #isKnown = false;
  #isAsking = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: RepairGatesOptions) {
    this.#options = options;
    this.#records = options.store.records(ATTEMPTS);
  }

  async start(): Promise<void> {
    await inTime(this.#recall(), RECALL_MS);
    this.#timer = setInterval(() => this.tend(), TEND_EVERY_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
    if (this.#isKnown) this.#options.lasting.touch({ isWritten: true });
  }

  /** Each minute. */
  tend(): void {
    if (!this.#isKnown) {
      void this.#recall();
      return;
    }
    const { lasting } = this.#options;
    lasting.touch();
    const nowMs = lasting.nowMs();
    for (const [name, attempts] of [...this.#records.all()]) {
      const lastMs = Math.max(attempts.endedMs ?? 0, attempts.openMs ?? 0, ...attempts.startsMs.slice(-1));
      if (nowMs - lastMs >= DAY_MS) this.#records.remove(name);
    }
  }

  /** Never rejects. */
  async #recall(): Promise<void> {
    if (this.#isKnown || this.#isAsking) return;
    this.#isAsking = true;
    const { breakers, lasting } = this.#options;
    try {
      await Promise.all([lasting.load(), breakers.recall(), this.#records.load()]);
      const startsMs = [...this.#records.all().values()].flatMap((each) => [...each.startsMs, each.endedMs ?? 0]);
      lasting.notBefore(Math.max(breakers.latestMs(), ...startsMs));
      lasting.touch({ isWritten: true });
      this.#isKnown = true;
      for (const { action, result } of this.#untold.splice(0)) this.#end(action, result, lasting.nowMs());
    } catch {
      // The store has said so, and is asked again within a minute.
    } finally {
      this.#isAsking = false;
    }
  }

  // ---- The gate ------------------------------------------------------------------------------------------------------

  refusal(attempt: Attempt, nowMs: number): string | undefined {
    const { text, verb } = attempt.action;
    if (!isGated(actionClass(verb))) return undefined;
    if (!this.#isKnown) return 'what was tried before is not known yet: the store does not answer';
    const atMs = this.#options.lasting.nowMs(nowMs);
    this.#settle(attempt.action, atMs);
    const refusal = this.#refusal(attempt, atMs);
    if (refusal !== undefined) return this.#words(text, refusal);
    this.#said.delete(text);
    this.#begin(attempt.action, atMs);
    return undefined;
  }

  ended({ action }: Attempt, result: AttemptResult, nowMs: number): void {
    if (!isGated(actionClass(action.verb))) return;
    if (this.#isKnown) this.#end(action, result, this.#options.lasting.nowMs(nowMs));
    else if (this.#untold.length < MAX_UNTOLD) this.#untold.push({ action, result });
  }

  /** In the order of src/control/README.md. The breakers come last: a probe that they let through must really begin. */
  #refusal({ action, isApproved = false }: Attempt, atMs: number): Refusal | undefined {
    const { breakers } = this.#options;
    const unsafe = isApproved ? undefined : (this.#window() ?? this.#doubtedClock(action));
    if (unsafe !== undefined) return unsafe;
    const gating = breakers.of(action).map(({ breaker }) => breaker);
    const isLatched = gating.some(({ phase }) => phase === 'latched');
    const spent = isLatched ? undefined : (this.#spent(action, atMs) ?? this.#damped(action, atMs));
    if (spent !== undefined) return spent;
    const why = breakers.refusal({ action }, atMs, this.#attemptMs());
    if (why === undefined) return undefined;
    const untilMs = Math.max(...gating.map((breaker) => this.#opensMs(breaker) ?? 0));
    return { why, untilMs: !isLatched && untilMs > atMs ? untilMs : undefined };
  }

  #window(): Refusal | undefined {
    const { clock, config, lasting } = this.#options;
    const wallMs = clock.wallMs();
    const open = openWindow(this.#windows(config.get()), wallMs);
    if (open === undefined) return undefined;
    const untilMs = lasting.nowMs() + open.untilAtMs - wallMs;
    return { why: `maintenance window "${open.name}": no repair begins by itself`, untilMs };
  }

  /** What deletes or moves by age would take every file for old. */
  #doubtedClock({ verb }: Action): Refusal | undefined {
    const days = Math.floor(this.#options.lasting.wallAheadMs / DAY_MS);
    if (days === 0 || !ACT_NAMES.some((name) => name === verb)) return undefined;
    return { why: `the clock went ahead by ${days} days; if it is right: \`skos breaker reset ${WALL_CLOCK}\`` };
  }

  #windows({ maintenance }: Config): readonly MaintenanceWindow[] {
    if (this.#calendar?.of !== maintenance) {
      this.#calendar = { of: maintenance, windows: maintenanceWindows(maintenance) };
    }
    return this.#calendar.windows;
  }

  #spent({ text }: Action, atMs: number): Refusal | undefined {
    const { action, node } = budgetsOf(this.#options.config.get());
    const own = budgetSpent(this.#get(text).startsMs, action, atMs);
    if (own !== undefined)
      return { why: `its ${own.limit} attempts in one ${own.per} are used up`, untilMs: own.untilMs };
    const all = budgetSpent(this.#get(NODE).startsMs, node, atMs);
    if (all === undefined) return undefined;
    return { why: `the ${all.limit} attempts of this node in one ${all.per} are used up`, untilMs: all.untilMs };
  }

  #damped({ text }: Action, atMs: number): Refusal | undefined {
    const { openMs, setbacks } = this.#get(text);
    if (openMs !== null) return { why: 'an attempt of it is under way' };
    const untilMs = this.#nextMs(text);
    if (untilMs <= atMs) return undefined;
    const why = setbacks > 0 ? `it waits longer after ${setbacks} that did not help` : 'it was tried a moment ago';
    return { why, untilMs };
  }

  /** When the interval since the last attempt is over. */
  #nextMs(name: string): number {
    const { startsMs, endedMs, setbacks } = this.#get(name);
    const [startMs] = startsMs.slice(-1);
    const lastMs = startMs === undefined ? endedMs : Math.max(startMs, endedMs ?? 0);
    return lastMs === null ? 0 : lastMs + intervalMs(dampingOf(this.#options.config.get()), setbacks);
  }

  #begin({ text }: Action, atMs: number): void {
    const { bootId, lasting } = this.#options;
    const own = this.#get(text);
    this.#records.put(text, { ...own, startsMs: spend(own.startsMs, atMs), openMs: atMs, bootId });
    this.#records.put(NODE, { ...this.#get(NODE), startsMs: spend(this.#get(NODE).startsMs, atMs), bootId });
    lasting.touch({ isWritten: true });
  }

  /** One of which nobody will say any more what came of it (a reboot, perhaps its own doing) is one that did not help. */
  #settle(action: Action, atMs: number): void {
    const { openMs, bootId } = this.#get(action.text);
    if (openMs === null) return;
    const isOver = bootId !== this.#options.bootId || atMs - openMs > this.#attemptMs();
    if (isOver) this.#end(action, 'failed', atMs);
  }

  /** What was not let through, or is over already, says nothing. */
  #end(action: Action, result: AttemptResult, atMs: number): void {
    const own = this.#get(action.text);
    if (own.openMs === null) return;
    const isSetback = result === 'failed' || result === 'unhelpful';
    this.#options.breakers.ended({ action }, result, atMs);
    const setbacks = isSetback ? Math.min(own.setbacks + 1, MAX_SETBACKS) : result === 'helped' ? 0 : own.setbacks;
    this.#records.put(action.text, { ...own, endedMs: atMs, setbacks, openMs: null });
  }

  /** The longest that an attempt may take, with its listing. */
  #attemptMs(): number {
    const { timeout, verify } = this.#options.config.get().repairs;
    return (2 * timeout + verify) * 1000 + ATTEMPT_SLACK_MS;
  }

  #opensMs(breaker: Breaker): number | undefined {
    return nextProbeMs(breaker, { probeMs: this.#attemptMs() });
  }

  #get(name: string): Attempts {
    return this.#records.get(name) ?? NONE;
  }

  #words(text: string, refusal: Refusal): string {
    const { why, untilMs } = refusal;
    if (untilMs === undefined) return why;
    const said = this.#said.get(text);
    const isSame = said?.why === why && said.untilMs !== undefined && Math.abs(said.untilMs - untilMs) < MINUTE_MS;
    if (isSame) return said.text;
    const words = `${why}, until ${minuteText(this.#options.lasting.wallAtMs(untilMs))}`;
    this.#said.set(text, { why, untilMs, text: words });
    return words;
  }

  // ---- What an operator sees and says --------------------------------------------------------------------------------

  view(): BreakersView {
    const { breakers, config, clock, lasting } = this.#options;
    const budgets = budgetsOf(config.get());
    const nowMs = lasting.nowMs();
    const known = new Map(breakers.list().map((entry) => [entry.name, entry]));
    for (const name of this.#records.all().keys()) {
      if (name !== NODE && !known.has(name)) known.set(name, fresh(name));
    }
    if (lasting.wallAheadMs > 0) known.set(WALL_CLOCK, { ...fresh(WALL_CLOCK), scope: 'node', breaker: STUCK });
    const open = openWindow(this.#windows(config.get()), clock.wallMs());
    return {
      isKnown: this.#isKnown,
      window: open ?? null,
      node: { ...usedOf(this.#get(NODE).startsMs, nowMs), ...budgets.node },
      breakers: [...known.values()]
        .sort((a, b) => (a.name < b.name ? -1 : 1))
        .map(({ name, scope, breaker, failuresToOpen }) => {
          const { startsMs, setbacks, openMs } = this.#get(name);
          const untilMs = Math.max(this.#opensMs(breaker) ?? 0, this.#nextMs(name));
          const isWaiting = breaker.phase !== 'latched' && openMs === null && untilMs > nowMs;
          return {
            name,
            scope,
            phase: breaker.phase,
            failures: breaker.failures,
            failuresToOpen,
            setbacks,
            isUnderWay: openMs !== null,
            sinceAtMs: breaker === CLOSED || breaker === STUCK ? null : lasting.wallAtMs(breaker.sinceMs),
            untilAtMs: isWaiting ? lasting.wallAtMs(untilMs) : null,
            budget: scope === 'node' ? null : { ...usedOf(startsMs, nowMs), ...budgets.action },
          };
        }),
    };
  }

  /**
   * Closes breakers and ends back-offs; the attempts that were made stay counted. Answers what was reset. The clock is believed only
   * when it is named: who resets all has not looked at it, and what goes by a wrong one cannot be taken back.
   */
  reset(name: string | undefined): string[] {
    const { breakers, lasting } = this.#options;
    const all = this.view().breakers.map((each) => each.name);
    const names = name === undefined ? all.filter((each) => each !== WALL_CLOCK) : [name];
    return names.filter((each) => {
      if (each === WALL_CLOCK) {
        const wasDoubted = lasting.wallAheadMs > 0;
        if (wasDoubted) lasting.believeWall();
        return wasDoubted;
      }
      const former = breakers.reset(each);
      const attempts = this.#records.get(each);
      if (attempts !== undefined && attempts.setbacks > 0) this.#records.put(each, { ...attempts, setbacks: 0 });
      this.#said.delete(each);
      return former !== undefined || (attempts?.setbacks ?? 0) > 0;
    });
  }
}

function fresh(name: string): BreakerEntry {
  return { name, scope: 'action', breaker: CLOSED, failuresToOpen: FAILURES_TO_OPEN };
}

function budgetsOf({ repairs }: Config): { action: Budget; node: Budget } {
  return {
    action: { perHour: repairs.per_hour, perDay: repairs.per_day },
    node: { perHour: repairs.node_per_hour, perDay: repairs.node_per_day },
  };
}

function dampingOf({ repairs }: Config) {
  return { intervalMs: repairs.interval * 1000, backOffMaxMs: repairs.back_off * 1000 };
}

function usedOf(startsMs: readonly number[], nowMs: number): { usedHour: number; usedDay: number } {
  const { hour, day } = budgetUsed(startsMs, nowMs);
  return { usedHour: hour, usedDay: day };
}

/** The minute after it, UTC: "2026-01-31T22:05Z". */
function minuteText(wallMs: number): string {
  return `${new Date(Math.ceil(wallMs / MINUTE_MS) * MINUTE_MS).toISOString().slice(0, 16)}Z`;
}
