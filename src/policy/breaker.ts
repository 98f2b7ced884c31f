/**
 * Circuit breaker of one (action, target), or of one kind of action on the whole node: stops repeating a repair that fails, or
 * that runs and does not help.
 *
 * closed → open after FAILURES_TO_OPEN failures in a row (NODE_FAILURES_TO_OPEN over all its targets) → after OPEN_MS half-open, one single probe → closed when it
 * helped, open again when not; the third opening within OPENS_WINDOW_MS latches it until the operator resets it.
 *
 * Reversible protective caps and notices are never gated: `guard` answers those classes with the type `Free`, which
 * has no refusal in it, so that a caller cannot even write the branch that would hold a cap back.
 * Pure and plain JSON: budgets survive restarts with the state.
 */
import type { ActionClass } from '../core/action-names.js';

/** One failure is an accident, two a coincidence. */
export const FAILURES_TO_OPEN = 3;
/**
 * Of one kind of action over all its targets, without a success of any in between. One target by itself makes five failures at
 * most until its own breaker is latched (three, and a probe after each of two openings): with six it is not the target.
 */
export const NODE_FAILURES_TO_OPEN = 6;
/** Long enough for what a repair waits for (a disk, a tunnel, a peer) to change by itself. */
export const OPEN_MS = 5 * 60_000;
/** A probe of which nobody reported the outcome (the agent ended meanwhile) is given up after this. */
export const PROBE_MS = 10 * 60_000;
/** Openings within the window until it latches: by then an hour of attempts has shown that repeating is no cure. */
export const OPENS_TO_LATCH = 3;
export const OPENS_WINDOW_MS = 3_600_000;

export interface Breaker {
  readonly phase: 'closed' | 'open' | 'half_open' | 'latched';
  /** In a row; bounded by what opens it. */
  readonly failures: number;
  /** When it opened, newest last, within the window; at most OPENS_TO_LATCH. */
  readonly opensMs: readonly number[];
  /** When this phase began. */
  readonly sinceMs: number;
}

/** A breaker that has seen nothing, and what an operator's reset makes of any. */
export const CLOSED: Breaker = { phase: 'closed', failures: 0, opensMs: [], sinceMs: 0 };

export type GatedClass = Extract<ActionClass, 'restartable' | 'irreversible'>;
export type FreeClass = Exclude<ActionClass, GatedClass>;

/** `breaker` is to be kept, in either case: it knows of the probe that was admitted, and of the clock. */
export interface Free {
  readonly allowed: true;
  readonly breaker: Breaker;
}
export type Gate = Free | { readonly allowed: false; readonly breaker: Breaker; readonly why: string };

export interface Bounds {
  readonly failuresToOpen: number;
  /** A probe may last as long as the repair itself. */
  readonly probeMs: number;
}
const ONE_TARGET: Bounds = { failuresToOpen: FAILURES_TO_OPEN, probeMs: PROBE_MS };

export function guard(breaker: Breaker, actionClass: FreeClass, nowMs: number, bounds?: Pick<Bounds, 'probeMs'>): Free;
export function guard(
  breaker: Breaker,
  actionClass: ActionClass,
  nowMs: number,
  bounds?: Pick<Bounds, 'probeMs'>,
): Gate;
export function guard(
  breaker: Breaker,
  actionClass: ActionClass,
  nowMs: number,
  { probeMs }: Pick<Bounds, 'probeMs'> = ONE_TARGET,
): Gate {
  if (!isGated(actionClass)) return { allowed: true, breaker };
  return admit(onThisClock(breaker, nowMs), nowMs, probeMs);
}

export function isGated(actionClass: ActionClass): actionClass is GatedClass {
  return actionClass === 'restartable' || actionClass === 'irreversible';
}

/** When an open or half-open breaker lets the next attempt through; undefined: it does now, or only an operator can let one. */
export function nextProbeMs({ phase, sinceMs }: Breaker, { probeMs }: Pick<Bounds, 'probeMs'> = ONE_TARGET) {
  if (phase === 'open') return sinceMs + OPEN_MS;
  return phase === 'half_open' ? sinceMs + probeMs : undefined;
}

function admit(breaker: Breaker, nowMs: number, probeMs: number): Gate {
  const elapsedMs = nowMs - breaker.sinceMs;
  switch (breaker.phase) {
    case 'closed':
      return { allowed: true, breaker };
    case 'open':
      return elapsedMs >= OPEN_MS
        ? probe(breaker, nowMs)
        : refuse(breaker, 'it failed repeatedly and is tried again later');
    case 'half_open':
      return elapsedMs >= probeMs ? probe(breaker, nowMs) : refuse(breaker, 'a single probe is under way');
    case 'latched':
      return refuse(breaker, 'it failed again and again and waits for an operator to reset it');
  }
}

function probe(breaker: Breaker, nowMs: number): Gate {
  return { allowed: true, breaker: { ...breaker, phase: 'half_open', sinceMs: nowMs } };
}

function refuse(breaker: Breaker, why: string): Gate {
  return { allowed: false, breaker, why };
}

/** The action helped. A late word about an action from before the latch does not undo the latch. */
export function recordSuccess(breaker: Breaker, nowMs: number): Breaker {
  const here = onThisClock(breaker, nowMs);
  if (here.phase === 'latched' || here.phase === 'open') return here;
  return { ...here, phase: 'closed', failures: 0, sinceMs: nowMs };
}

/** It ran, and nobody can say whether it helped: the probe is over, and the next failure opens again. */
export function recordUnknown(
  breaker: Breaker,
  nowMs: number,
  { failuresToOpen }: Pick<Bounds, 'failuresToOpen'> = ONE_TARGET,
): Breaker {
  const here = onThisClock(breaker, nowMs);
  if (here.phase !== 'half_open') return here;
  return { ...here, phase: 'closed', failures: failuresToOpen - 1, sinceMs: nowMs };
}

/** The action failed, or ran and did not help. */
export function recordFailure(
  breaker: Breaker,
  nowMs: number,
  { failuresToOpen }: Pick<Bounds, 'failuresToOpen'> = ONE_TARGET,
): Breaker {
  const here = onThisClock(breaker, nowMs);
  if (here.phase === 'latched' || here.phase === 'open') return here;
  const failures = Math.min(here.failures + 1, failuresToOpen);
  if (here.phase === 'closed' && failures < failuresToOpen) return { ...here, failures };
  const opensMs = [...here.opensMs.filter((openedMs) => nowMs - openedMs <= OPENS_WINDOW_MS), nowMs];
  const phase = opensMs.length >= OPENS_TO_LATCH ? 'latched' : 'open';
  return { phase, failures, opensMs, sinceMs: nowMs };
}

/** State of an earlier boot has times ahead of this clock: its waits begin again, and nothing of it is forgiven. */
function onThisClock(breaker: Breaker, nowMs: number): Breaker {
  if (breaker.sinceMs <= nowMs && breaker.opensMs.every((openedMs) => openedMs <= nowMs)) return breaker;
  return {
    ...breaker,
    sinceMs: Math.min(breaker.sinceMs, nowMs),
    opensMs: breaker.opensMs.map((openedMs) => Math.min(openedMs, nowMs)),
  };
}
