/**
 * The circuit breakers, kept across restarts: one per action, whose text names its target, and one per kind of action that takes a
 * target, over all of them (`restart_unit` beside `restart_unit@a`). They gate what cannot simply be taken back; a cap, freeze or
 * notice never asks (policy/breaker.ts makes that a matter of types).
 */
import { type Action, actionClass, VERBS, type Verb } from '../core/action-names.js';
import type { RecordKind, Records, Store } from '../core/ports.js';
import { list, number, object, oneOf } from '../core/shape.js';
import {
  type Breaker,
  CLOSED,
  FAILURES_TO_OPEN,
  guard,
  isGated,
  NODE_FAILURES_TO_OPEN,
  PROBE_MS,
  recordFailure,
  recordSuccess,
  recordUnknown,
} from '../policy/breaker.js';
import type { Attempt, AttemptResult, RepairGate } from './repair-gate.js';

/** By the action's text, or its verb for the whole node. Those that have learnt nothing are not kept. */
export const BREAKER_RECORDS: RecordKind<Breaker> = {
  name: 'breaker',
  version: 1,
  shape: object({
    phase: oneOf('closed', 'open', 'half_open', 'latched'),
    failures: number({ min: 0, integer: true }),
    opensMs: list(number(), { max: 16 }),
    sinceMs: number(),
  }),
  upgrades: [],
  /** Each is an action that was written into a configuration and failed; nobody writes so many. */
  maxCount: 1_000,
  maxBytes: 1_024,
};

export interface BreakerEntry {
  readonly name: string;
  /** Of one action on its target, or of all actions of this kind on the node. */
  readonly scope: 'action' | 'node';
  readonly breaker: Breaker;
  readonly failuresToOpen: number;
}

export class Breakers implements RepairGate {
  readonly #records: Records<Breaker>;

  constructor(store: Pick<Store, 'records'>) {
    this.#records = store.records(BREAKER_RECORDS);
  }

  /** What an earlier agent learnt. Rejects with SKOS_STORE_READ, and can be tried again. */
  recall(): Promise<void> {
    return this.#records.load();
  }

  /** undefined: go ahead, and a probe is under way; else why not. `probeMs`: how long a probe may take. */
  refusal({ action }: Pick<Attempt, 'action'>, nowMs: number, probeMs = PROBE_MS): string | undefined {
    const kind = actionClass(action.verb);
    if (!isGated(kind)) return undefined;
    const gates = namesOf(action).map(({ name, scope }) => {
      return { name, scope, gate: guard(this.#get(name), kind, nowMs, { probeMs }) };
    });
    const refused = gates.find(({ gate }) => !gate.allowed);
    if (refused === undefined) {
      // All of them, or none: a probe of one is no probe that another has refused.
      for (const { name, gate } of gates) this.#keep(name, gate.breaker);
      return undefined;
    }
    const { name, scope, gate } = refused;
    const whose = scope === 'node' ? `the circuit breaker of ${name} on this node` : 'its circuit breaker';
    return gate.allowed ? undefined : `${whose} is open: ${gate.why}`;
  }

  ended({ action }: Pick<Attempt, 'action'>, result: AttemptResult, nowMs: number): void {
    if (!isGated(actionClass(action.verb))) return;
    const learn = result === 'helped' ? recordSuccess : result === 'done' ? recordUnknown : recordFailure;
    for (const { name, failuresToOpen } of namesOf(action)) {
      this.#keep(name, learn(this.#get(name), nowMs, { failuresToOpen }));
    }
  }

  /** Those that gate this action: its own, and that of its kind. */
  of(action: Action): BreakerEntry[] {
    return namesOf(action).map((each) => ({ ...each, breaker: this.#get(each.name) }));
  }

  /** Those that have learnt something. */
  list(): BreakerEntry[] {
    return [...this.#records.all()].map(([name, breaker]) => ({ name, breaker, ...scopeOf(name) }));
  }

  /** An operator's word: begins anew. The former state; undefined: it had learnt nothing. */
  reset(name: string): Breaker | undefined {
    const former = this.#records.get(name);
    if (former !== undefined) this.#records.remove(name);
    return former;
  }

  /** Times of a clock that was lost lie ahead of this one: the latest of them. */
  latestMs(): number {
    return Math.max(0, ...[...this.#records.all().values()].flatMap(({ sinceMs, opensMs }) => [sinceMs, ...opensMs]));
  }

  #get(name: string): Breaker {
    return this.#records.get(name) ?? CLOSED;
  }

  #keep(text: string, breaker: Breaker): void {
    const former = this.#records.get(text);
    if (former === breaker) return;
    const { phase, failures, opensMs } = breaker;
    if (phase !== 'closed' || failures > 0 || opensMs.length > 0) this.#records.put(text, breaker);
    else if (former !== undefined) this.#records.remove(text);
  }
}

function namesOf({ verb, text, target }: Action): ({ name: string } & ReturnType<typeof scopeOf>)[] {
  const names = target === null ? [text] : [text, verb];
  return names.map((name) => ({ name, ...scopeOf(name) }));
}

/** A verb that takes a target is never written without one, so that its name alone is free for the whole node. */
function scopeOf(name: string): Pick<BreakerEntry, 'scope' | 'failuresToOpen'> {
  const isNode = Object.hasOwn(VERBS, name) && 'target' in VERBS[name as Verb];
  return isNode
    ? { scope: 'node', failuresToOpen: NODE_FAILURES_TO_OPEN }
    : { scope: 'action', failuresToOpen: FAILURES_TO_OPEN };
}
