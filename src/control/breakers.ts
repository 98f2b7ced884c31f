/**
 * The circuit breakers, one per action (whose text names its target), kept across restarts. They gate what cannot simply be
 * taken back; a cap, freeze or notice never asks (policy/breaker.ts makes that a matter of types).
 */
import { type Action, actionClass } from '../core/action-names.js';
import type { Store } from '../core/ports.js';
import { type Breaker, CLOSED, guard, recordFailure, recordSuccess } from '../policy/breaker.js';
import { inTime } from './in-time.js';

const STATE_KEY = 'breakers';
/** A dead disk or a damaged record must not keep the node from being protected; its breakers then begin closed. */
const RECALL_MS = 500;

export class Breakers {
  readonly #store: Store;
  #breakers = new Map<string, Breaker>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** What an earlier agent learnt: attempt budgets survive restarts. */
  async load(): Promise<void> {
    const known = await inTime(this.#store.state(STATE_KEY), RECALL_MS);
    if (Array.isArray(known)) this.#breakers = new Map(known.filter(isEntry));
  }

  /** undefined: go ahead; else why not. */
  refusal({ verb, text }: Action, nowMs: number): string | undefined {
    const kind = actionClass(verb);
    if (kind === 'reversible' || kind === 'notice') return undefined;
    const gate = guard(this.#breakers.get(text) ?? CLOSED, kind, nowMs);
    this.#keep(text, gate.breaker);
    return gate.allowed ? undefined : `its circuit breaker is open: ${gate.why}`;
  }

  failed(action: Action, nowMs: number): void {
    this.#learn(action, nowMs, recordFailure);
  }

  succeeded(action: Action, nowMs: number): void {
    this.#learn(action, nowMs, recordSuccess);
  }

  #learn({ verb, text }: Action, nowMs: number, record: (breaker: Breaker, nowMs: number) => Breaker): void {
    const kind = actionClass(verb);
    if (kind === 'reversible' || kind === 'notice') return;
    this.#keep(text, record(this.#breakers.get(text) ?? CLOSED, nowMs));
  }

  #keep(text: string, breaker: Breaker): void {
    if (this.#breakers.get(text) === breaker) return;
    this.#breakers.set(text, breaker);
    this.#store.putState(STATE_KEY, [...this.#breakers]);
  }
}

function isEntry(entry: unknown): entry is [string, Breaker] {
  if (!Array.isArray(entry) || typeof entry[0] !== 'string') return false;
  const { phase, failures, opensMs, sinceMs } = (entry[1] ?? {}) as Partial<Breaker>;
  const isPhase = phase === 'closed' || phase === 'open' || phase === 'half_open' || phase === 'latched';
  return isPhase && Number.isFinite(failures) && Array.isArray(opensMs) && Number.isFinite(sinceMs);
}
