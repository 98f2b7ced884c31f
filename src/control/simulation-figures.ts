/** What is counted of simulated hours: how often rules fire and how closely, what actions begin, how long anything is capped. */
import type { Finding } from '../antibodies/antibody.js';
import type { ActionRecord } from '../core/ports.js';
import { SEVERITIES } from '../core/vocabulary.js';
import { FLAP_WINDOW_MS, NO_RUNG } from '../policy/ladder.js';
import { leastSpacingMs, mostEntries } from '../policy/oscillation.js';
import type { Rule } from '../policy/rule.js';
import type { LeaseEvent } from './simulated-actuator.js';

/** How many actions that began lately are remembered: each is told many times. */
const MAX_BEGUN = 1_000;

export interface RuleFigures {
  readonly rule: string;
  readonly channel: string;
  readonly fired: number;
  /** By severity, the ones that were reached from below. */
  readonly entered: Readonly<Record<string, number>>;
  readonly flapped: number;
  /** The most within FLAP_WINDOW_MS, and how many there may be (policy/oscillation.ts). */
  readonly mostEntries: number;
  readonly allowedEntries: number;
  readonly closestMs: number | null;
  readonly leastSpacingMs: number;
}

export interface ActionFigures {
  readonly action: string;
  readonly begun: number;
  readonly state: string;
}

export interface Figures {
  readonly rules: readonly RuleFigures[];
  /** By action and state in which it began: active, proposed, observed, unavailable. */
  readonly actions: readonly ActionFigures[];
  readonly leases: Readonly<Record<LeaseEvent, number>>;
  /** Time with any cap, by target. */
  readonly cappedMs: Readonly<Record<string, number>>;
}

/** Figures of one bound rule while it goes on. */
interface Tally {
  readonly rule: Rule;
  fired: number;
  flapped: number;
  readonly entered: Record<string, number>;
  /** By rung, entries within the window; bounded by the greatest rate that there may be, unless something is broken. */
  readonly recentMs: Map<number, number[]>;
  mostEntries: number;
  closestMs: number;
}

export class SimulationFigures {
  readonly #periodMs: number;
  readonly #tallies = new Map<string, Tally>();
  readonly #actions = new Map<string, { action: string; state: string; begun: number }>();
  /** Actions that began lately. */
  readonly #begun = new Set<string>();
  readonly #leases = { set: 0, released: 0, ended: 0 };
  readonly #cappedMs: Record<string, number> = {};

  constructor(periodMs: number) {
    this.#periodMs = periodMs;
  }

  get report(): Figures {
    return {
      rules: [...this.#tallies.values()].map((tally) => figuresOf(tally, this.#periodMs)),
      actions: [...this.#actions.values()],
      leases: { ...this.#leases },
      cappedMs: { ...this.#cappedMs },
    };
  }

  countLease(kind: LeaseEvent): void {
    this.#leases[kind] += 1;
  }

  countCapped(target: string, passedMs: number): void {
    this.#cappedMs[target] = (this.#cappedMs[target] ?? 0) + passedMs;
  }

  /** Of each action the state in which it begins. */
  countAction({ actionId, action, state, endedAtMs }: ActionRecord): void {
    if (endedAtMs !== null || state === 'pending') return;
    if (this.#begun.has(actionId)) return;
    this.#begun.add(actionId);
    // Ids are of one second: those of long ago come never again.
    const [oldest] = this.#begun;
    if (this.#begun.size > MAX_BEGUN && oldest !== undefined) this.#begun.delete(oldest);
    const key = `${action} ${state}`;
    const figures = this.#actions.get(key) ?? { action, state, begun: 0 };
    figures.begun += 1;
    this.#actions.set(key, figures);
  }

  countFinding({ rule, transition }: Finding, nowMs: number): void {
    const { kind, after } = transition;
    const tally = this.#tallyOf(rule);
    if (kind === 'flapping') tally.flapped += 1;
    if (kind !== 'fire' && kind !== 'escalate') return;
    if (kind === 'fire') tally.fired += 1;
    tally.entered[after ?? ''] = (tally.entered[after ?? ''] ?? 0) + 1;
    // A rung that is skipped is entered with the one above it.
    const from = transition.before === null ? NO_RUNG : SEVERITIES.indexOf(transition.before);
    const to = after === null ? NO_RUNG : SEVERITIES.indexOf(after);
    for (let rung = from + 1; rung <= to; rung++) {
      const recent = tally.recentMs.get(rung) ?? [];
      const latest = recent.at(-1);
      if (latest !== undefined) tally.closestMs = Math.min(tally.closestMs, nowMs - latest);
      recent.push(nowMs);
      while (nowMs - (recent[0] ?? 0) > FLAP_WINDOW_MS) recent.shift();
      tally.recentMs.set(rung, recent);
      tally.mostEntries = Math.max(tally.mostEntries, recent.length);
    }
  }

  #tallyOf(rule: Rule): Tally {
    const key = `${rule.name} ${rule.channelId}`;
    const known = this.#tallies.get(key);
    if (known !== undefined) return known;
    const fresh: Tally = {
      rule,
      fired: 0,
      flapped: 0,
      entered: {},
      recentMs: new Map(),
      mostEntries: 0,
      closestMs: Number.POSITIVE_INFINITY,
    };
    this.#tallies.set(key, fresh);
    return fresh;
  }
}

function figuresOf(
  { rule, fired, flapped, entered, mostEntries: most, closestMs }: Tally,
  periodMs: number,
): RuleFigures {
  return {
    rule: rule.name,
    channel: rule.channelId,
    fired,
    entered,
    flapped,
    mostEntries: most,
    allowedEntries: mostEntries(rule, periodMs),
    closestMs: Number.isFinite(closestMs) ? closestMs : null,
    leastSpacingMs: leastSpacingMs(rule, periodMs),
  };
}
