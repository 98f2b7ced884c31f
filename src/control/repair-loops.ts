/**
 * The loop breaker on SKOS's own repairs: the same repair for the same trouble, with the same result, over and over. The breaker
 * counts failures; this also finds repairs that seem to help each time, and two that undo each other. What is found to loop is
 * refused until an operator resets it. It is asked about repairs only, as every repair gate: a cap is never in its way.
 *
 * A trouble is a rule on a channel; a step is a repair that ended, its state what was done and what came of it (policy/chain.ts).
 * Wall time, because a loop may be slower than reboots; a clock that was set back makes what lies ahead of it happen now.
 */
import type { ChainLimits } from '../core/chains.js';
import type { Clock } from '../core/clock.js';
import type { RecordKind, Records, Store } from '../core/ports.js';
import type { ChainView } from '../core/protocol.js';
import { type Infer, list, nullable, number, object, string } from '../core/shape.js';
import { FRESH_CHAIN, takeStep } from '../policy/chain.js';
import type { AlertBook } from './alert-book.js';
import { CHAIN_RULE } from './chains.js';
import type { CurrentConfig } from './current-config.js';
import { inTime, RECALL_MS } from './in-time.js';
import type { Record as AuditRecord } from './record.js';
import type { Attempt, AttemptResult, RepairGate } from './repair-gate.js';
import { alertIdOf } from './rulebook.js';

/** As many as the largest count that the configuration takes, for two repairs in turn. */
const KEPT_STEPS = 200;
/** Troubles that were repaired of late: rules times their channels. */
const MAX_TROUBLES = 512;
const UNLIMITED = Number.MAX_SAFE_INTEGER;

const troubleShape = object({
  steps: list(object({ state: string({ max: 128 }), atMs: number() }), { max: KEPT_STEPS }),
  loop: nullable(object({ reason: string({ max: 256 }), sinceAtMs: number() })),
});
type Trouble = Infer<typeof troubleShape>;

const REPAIR_LOOP_RECORDS: RecordKind<Trouble> = {
  name: 'repair-loop',
  version: 1,
  shape: troubleShape,
  upgrades: [],
  maxCount: MAX_TROUBLES,
  maxBytes: 64 * 1_024,
};

export interface RepairLoopsOptions {
  /** Asked after this one, which counts nothing by being asked. */
  readonly next: RepairGate;
  readonly config: CurrentConfig;
  readonly alerts: Pick<AlertBook, 'raise' | 'end'>;
  readonly store: Pick<Store, 'records'>;
  readonly record: Pick<AuditRecord, 'add'>;
  readonly clock: Clock;
}

export class RepairLoops implements RepairGate {
  readonly name = 'repair-loops';
  readonly #options: RepairLoopsOptions;
  readonly #troubles: Records<Trouble>;

  constructor(options: RepairLoopsOptions) {
    this.#options = options;
    this.#troubles = options.store.records(REPAIR_LOOP_RECORDS);
  }

  /** Never rejects; what a slow disk says later counts from then on. */
  async start(): Promise<void> {
    await inTime(this.#troubles.load(), RECALL_MS);
  }

  stop(): void {}

  refusal(attempt: Attempt, nowMs: number): string | undefined {
    return this.#loop(attempt) ?? this.#options.next.refusal(attempt, nowMs);
  }

  #loop(attempt: Attempt): string | undefined {
    // Who agrees to this one attempt has looked at it.
    const loop = attempt.isApproved ? null : this.#troubles.get(keyOf(attempt))?.loop;
    return loop ? `${loop.reason}; skos chain reset ${shownId(keyOf(attempt))} lets it be tried again` : undefined;
  }

  ended(attempt: Attempt, result: AttemptResult, nowMs: number): void {
    this.#options.next.ended(attempt, result, nowMs);
    this.#note(attempt, result);
  }

  #note({ action, rule, channel }: Attempt, result: AttemptResult): void {
    // Nothing is repaired by a notice, and nothing is known of what has no result.
    if (result === 'done') return;
    const key = keyOf({ rule, channel });
    const nowAtMs = this.#options.clock.wallMs();
    const former = this.#troubles.get(key);
    const kept = (former?.steps ?? []).map(({ state, atMs }) => ({ state, atMs: Math.min(atMs, nowAtMs) }));
    const { windowMs } = this.#limits();
    const steps = [...kept, { state: `${action.text} ${result}`, atMs: nowAtMs }]
      .filter(({ atMs }) => nowAtMs - atMs <= windowMs)
      .slice(-KEPT_STEPS);
    const loop = former?.loop ?? this.#loopOf(steps);
    this.#troubles.put(key, { steps, loop });
    if (loop !== null && !former?.loop) this.#found(key, { action: action.text, reason: loop.reason });
  }

  #limits(): ChainLimits {
    const { repair_repeats: repeats, repair_window: window } = this.#options.config.get().loop;
    return {
      maxDepth: UNLIMITED,
      maxIterations: UNLIMITED,
      maxStepsPerSecond: UNLIMITED,
      repeats,
      windowMs: window * 1000,
    };
  }

  /** The steps are taken anew each time: there are few, and no more state has to be kept than what happened. */
  #loopOf(steps: Trouble['steps']): Trouble['loop'] {
    const limits = this.#limits();
    let chain = FRESH_CHAIN;
    for (const [i, { state, atMs }] of steps.entries()) {
      const taken = takeStep(limits, chain, { iteration: i + 1, depth: 0, state, key: String(i) }, atMs);
      chain = taken.state;
      const excess = taken.excesses.find(({ condition }) => condition === 'repeats');
      if (excess === undefined || i < steps.length - 1) continue;
      const hours = Math.round((limits.windowMs / 3_600_000) * 10) / 10;
      return { reason: `a loop: "${state}" ${excess.value} times within ${hours} h`, sinceAtMs: atMs };
    }
    return null;
  }

  #found(key: string, { action, reason }: { action: string; reason: string }): void {
    const { alerts, record } = this.#options;
    const what = `Repairs of ${key.slice(key.indexOf('/') + 1)} (rule ${key.slice(0, key.indexOf('/'))}) run in ${reason}`;
    record.add({
      kind: 'repair.loop',
      who: 'agent',
      what: { trouble: key, action, reason },
      level: 'error',
      message: `${what}: they are not tried again until reset`,
      fields: { event: 'repair.loop', rule: CHAIN_RULE },
    });
    alerts.raise({
      id: repairAlert(key),
      rule: CHAIN_RULE,
      agentType: 'loop_breaker',
      type: 'loop',
      channel: shownId(key),
      sensor: 'repair',
      severity: 'critical',
      message: `${what}: not tried again until skos chain reset ${shownId(key)}`,
      value: null,
      threshold: this.#limits().repeats,
      unit: '',
    });
  }

  list(): ChainView[] {
    return [...this.#troubles.all()].flatMap(([key, { loop }]) => {
      if (loop === null) return [];
      const { reason, sinceAtMs } = loop;
      return [{ chain: shownId(key), kind: 'repair', isHeld: true, reason, sinceAtMs, who: 'agent' } as const];
    });
  }

  /** `id` as list() gives it. False: it is not held. */
  reset(id: string, who: string): boolean {
    const key = [...this.#troubles.all()].find(([each, { loop }]) => loop !== null && shownId(each) === id)?.[0];
    if (key === undefined) return false;
    this.#troubles.remove(key);
    const { alerts, record } = this.#options;
    record.add({
      kind: 'chain.reset',
      who,
      what: { chain: id },
      level: 'info',
      message: `${id} was reset by ${who}: its repairs may be tried again`,
      fields: { event: 'chain.reset', rule: CHAIN_RULE },
    });
    alerts.end(repairAlert(key), `reset by ${who}`);
    return true;
  }

  /** `skos release chain` ends the alerts of all that is held: nothing may stay refused without one. Answers what was held. */
  resetAll(who: string): string[] {
    return this.list().flatMap(({ chain }) => (this.reset(chain, who) ? [chain] : []));
  }
}

function keyOf({ rule, channel }: Pick<Attempt, 'rule' | 'channel'>): string {
  return `${rule}/${channel}`;
}

/** As people name it; no workload's chain has a "/" in its id. */
function shownId(key: string): string {
  return `repair/${key}`;
}

function repairAlert(key: string): string {
  return alertIdOf({ name: CHAIN_RULE, channelId: `repair/${key}` });
}
