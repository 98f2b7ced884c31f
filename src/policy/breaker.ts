/**
 * Circuit breaker of one (action, target): stops repeating a repair that fails, or that runs and does not help.
 *
 * closed → open after FAILURES_TO_OPEN failures in a row → after OPEN_MS half-open, one single probe → closed when it
 * helped, open again when not; the third opening within OPENS_WINDOW_MS latches it until the operator resets it.
 *
 * Reversible protective caps and notices are never gated: `guard` answers those classes with the type `Free`, which
 * has no refusal in it, so that a caller cannot even write the branch that would hold a cap back.
 * Pure and plain JSON: budgets survive restarts with the state.
 */
import type { ActionClass } from '../core/action-names.js';

/** One failure is an accident, two a coincidence. */
export const FAILURES_TO_OPEN = 3;
/** Long enough for what a repair waits for (a disk, a tunnel, a peer) to change by itself. */
export const OPEN_MS = 5 * 60_000;
/** A probe of which nobody reported the outcome (the agent ended meanwhile) is given up after this. */
export const PROBE_MS = 10 * 60_000;
/** Openings within the window until it latches: by then an hour of attempts has shown that repeating is no cure. */
export const OPENS_TO_LATCH = 3;
export const OPENS_WINDOW_MS = 3_600_000;

export interface Breaker {
  readonly phase: 'closed' | 'open' | 'half_open' | 'latched';
  /** In a row; bounded by FAILURES_TO_OPEN. */
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

export function guard(breaker: Breaker, actionClass: FreeClass, nowMs: number): Free;
export function guard(breaker: Breaker, actionClass: ActionClass, nowMs: number): Gate;
export function guard(breaker: Breaker, actionClass: ActionClass, nowMs: number): Gate {
  if (actionClass === 'reversible' || actionClass === 'notice') return { allowed: true, breaker };
  return admit(onThisClock(breaker, nowMs), nowMs);
}

function admit(breaker: Breaker, nowMs: number): Gate {
  const elapsedMs = nowMs - breaker.sinceMs;
  switch (breaker.phase) {
    case 'closed':
      return { allowed: true, breaker };
    case 'open':
      return elapsedMs >= OPEN_MS
        ? probe(breaker, nowMs)
        : refuse(breaker, 'it failed repeatedly and is tried again later');
    case 'half_open':
      return elapsedMs >= PROBE_MS ? probe(breaker, nowMs) : refuse(breaker, 'a single probe is under way');
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

/** The action failed, or ran and did not help. */
export function recordFailure(breaker: Breaker, nowMs: number): Breaker {
  const here = onThisClock(breaker, nowMs);
  if (here.phase === 'latched' || here.phase === 'open') return here;
  const failures = Math.min(here.failures + 1, FAILURES_TO_OPEN);
  if (here.phase === 'closed' && failures < FAILURES_TO_OPEN) return { ...here, failures };
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
