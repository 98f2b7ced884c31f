/**
 * The circuit breakers, one per action (whose text names its target), kept across restarts. They gate what cannot simply be
 * taken back; a cap, freeze or notice never asks (policy/breaker.ts makes that a matter of types).
 */
import { type Action, actionClass } from '../core/action-names.js';
import type { RecordKind, Records, Store } from '../core/ports.js';
import { list, number, object, oneOf } from '../core/shape.js';
import { type Breaker, CLOSED, guard, recordFailure, recordSuccess } from '../policy/breaker.js';
import { inTime } from './in-time.js';
import type { Attempt, AttemptResult, RepairGate } from './repair-gate.js';

/** By the action's text. Those that have learnt nothing are not kept. */
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
/** A dead disk or a damaged record must not keep the node from being protected; its breakers then begin closed. */
const RECALL_MS = 500;

export class Breakers implements RepairGate {
  readonly #records: Records<Breaker>;

  constructor(store: Pick<Store, 'records'>) {
    this.#records = store.records(BREAKER_RECORDS);
  }

  /** What an earlier agent learnt: attempt budgets survive restarts. What a slow disk says later counts from then on. */
  async load(): Promise<void> {
    await inTime(this.#records.load(), RECALL_MS);
  }

  /** undefined: go ahead; else why not. */
  refusal({ action: { verb, text } }: Attempt, nowMs: number): string | undefined {
    const kind = actionClass(verb);
    if (kind === 'reversible' || kind === 'notice') return undefined;
    const gate = guard(this.#records.get(text) ?? CLOSED, kind, nowMs);
    this.#keep(text, gate.breaker);
    return gate.allowed ? undefined : `its circuit breaker is open: ${gate.why}`;
  }

  ended({ action }: Attempt, result: AttemptResult, nowMs: number): void {
    if (result === 'helped') this.#learn(action, nowMs, recordSuccess);
    else if (result !== 'done') this.#learn(action, nowMs, recordFailure);
  }

  #learn({ verb, text }: Action, nowMs: number, record: (breaker: Breaker, nowMs: number) => Breaker): void {
    const kind = actionClass(verb);
    if (kind === 'reversible' || kind === 'notice') return;
    this.#keep(text, record(this.#records.get(text) ?? CLOSED, nowMs));
  }

  #keep(text: string, breaker: Breaker): void {
    const former = this.#records.get(text);
    if (former === breaker) return;
    const { phase, failures, opensMs } = breaker;
    if (phase !== 'closed' || failures > 0 || opensMs.length > 0) this.#records.put(text, breaker);
    else if (former !== undefined) this.#records.remove(text);
  }
}
