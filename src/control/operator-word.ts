/**
 * The operator's words that take precedence over policy: which rules are barred, whether the node is on hold, which proposed actions
 * are approved. They outlive a restart of the agent, but not the boot: each of them takes protection away or acts, and another
 * boot has another monotonic clock.
 */
import type { Clock } from '../core/clock.js';
import type { Store } from '../core/ports.js';
import { type Bar, isBarred, MAX_BAR_MS, standingBars, withBar } from '../policy/bar.js';
import type { Words } from '../policy/consent.js';

/** Where the store keeps them. */
export const WORD_KEY = 'bars';

/** Approvals at once; each is typed by a person. */
const MAX_APPROVALS = 256;
/** So long a run that is approved may wait for its gates; a restart of the agent begins it anew. */
export const APPROVED_MS = 3_600_000;

export interface OperatorHold {
  readonly sinceMs: number;
  readonly untilMs: number;
  readonly who: string;
}

export interface OperatorWordOptions {
  readonly bootId: string;
  readonly store: Pick<Store, 'putState'>;
  readonly clock: Clock;
}

export class OperatorWord {
  readonly #options: OperatorWordOptions;
  #bars: readonly Bar[] = [];
  #hold: OperatorHold | undefined;
  /** Since when. An approval of what cannot be taken back is for one attempt: a spent one covers that, and no other agent's. */
  readonly #approved = new Map<string, number>();
  readonly #spent = new Set<string>();

  constructor(options: OperatorWordOptions) {
    this.#options = options;
  }

  /** What the store held; garbage says nothing. */
  recall(known: unknown): void {
    const { boot, list, hold, approved } = (known ?? {}) as Readonly<Record<string, unknown>>;
    if (boot !== this.#options.bootId) return;
    const nowMs = this.#options.clock.monotonicMs();
    // What takes protection away ends within a day, also where the record of it is damaged.
    const isOurs = ({ sinceMs, untilMs }: Bar | OperatorHold) => sinceMs <= nowMs && untilMs - sinceMs <= MAX_BAR_MS;
    if (Array.isArray(list)) this.#bars = list.filter((bar) => isBar(bar) && isOurs(bar));
    if (isHold(hold) && isOurs(hold)) this.#hold = hold;
    if (!Array.isArray(approved)) return;
    for (const key of approved.slice(0, MAX_APPROVALS)) if (typeof key === 'string') this.#approved.set(key, nowMs);
  }

  get bars(): readonly Bar[] {
    return standingBars(this.#bars, this.#options.clock.monotonicMs());
  }

  get hold(): OperatorHold | undefined {
    const nowMs = this.#options.clock.monotonicMs();
    return this.#hold !== undefined && nowMs < this.#hold.untilMs ? this.#hold : undefined;
  }

  /** `key` names one action of one rule on one channel. */
  about({ rule, key, isActing }: { rule: string; key: string; isActing: boolean }, nowMs: number): Words {
    return {
      isBarred: isBarred(this.#bars, rule, nowMs),
      isHeld: this.#hold !== undefined && nowMs < this.#hold.untilMs,
      isApproved: this.isApproved(key),
      isActing,
    };
  }

  bar(rules: readonly string[], forMs: number): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const rule of rules) this.#bars = withBar(this.#bars, { rule, nowMs, forMs });
    this.#keep();
  }

  /** A hold takes protection away, so that a forgotten one ends by itself, as a bar does. Returns when. */
  holdFor(forMs: number, who: string): OperatorHold {
    const sinceMs = this.#options.clock.monotonicMs();
    const hold = { sinceMs, untilMs: sinceMs + Math.min(Math.max(0, forMs), MAX_BAR_MS), who };
    this.#hold = hold;
    this.#keep();
    return hold;
  }

  /** False: there was none. */
  endHold(): boolean {
    const stood = this.hold !== undefined;
    this.#hold = undefined;
    this.#keep();
    return stood;
  }

  /** False: too many stand already. */
  approve(key: string): boolean {
    if (this.#approved.size >= MAX_APPROVALS) return false;
    this.#approved.set(key, this.#options.clock.monotonicMs());
    this.#keep();
    return true;
  }

  /** What was shown before it was approved is no longer what is there. */
  isOutdated(key: string, nowMs: number): boolean {
    const sinceMs = this.#approved.get(key);
    return sinceMs !== undefined && nowMs - sinceMs >= APPROVED_MS;
  }

  isApproved(key: string): boolean {
    return this.#approved.has(key) || this.#spent.has(key);
  }

  /** Its one attempt begins. Nothing without an approval. */
  spend(key: string): void {
    if (!this.#approved.delete(key)) return;
    this.#spent.add(key);
    this.#keep();
  }

  /** Its one attempt is over: the next one must be approved again. */
  settle(key: string): void {
    this.#spent.delete(key);
  }

  /** An approval is for this time: what is no longer due must be approved again. */
  forgetApprovals(isOver: (key: string) => boolean): void {
    for (const key of this.#spent) if (isOver(key)) this.#spent.delete(key);
    const over = [...this.#approved.keys()].filter(isOver);
    if (over.length === 0) return;
    for (const key of over) this.#approved.delete(key);
    this.#keep();
  }

  #keep(): void {
    const { store, bootId } = this.#options;
    store.putState(WORD_KEY, {
      boot: bootId,
      list: this.#bars,
      hold: this.#hold ?? null,
      approved: [...this.#approved.keys()],
    });
  }
}

function isBar(value: unknown): value is Bar {
  const { rule, sinceMs, untilMs } = (value ?? {}) as Partial<Bar>;
  return typeof rule === 'string' && Number.isFinite(sinceMs) && Number.isFinite(untilMs);
}

function isHold(value: unknown): value is OperatorHold {
  const { sinceMs, untilMs, who } = (value ?? {}) as Partial<OperatorHold>;
  return Number.isFinite(sinceMs) && Number.isFinite(untilMs) && typeof who === 'string';
}
