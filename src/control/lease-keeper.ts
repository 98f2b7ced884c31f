/**
 * Keeps leases with the actuator for whoever holds them: asks, renews, gives back, and looks again at what is not settled. Nothing
 * here waits: requests are sent at once, and their answers become the state of a hold when they come. One lease stands for one cap
 * on one target, however many holders want it, and is released with the last of them.
 */
import { reason } from '../core/errors.js';
import type { Actuator, ActuatorTarget, LeaseResult } from '../core/ports.js';
import type { ActionState } from '../core/vocabulary.js';
import { type Hold, isSettled } from './hold.js';

/** Renewals in one lifetime of a lease: several may be lost before a cap is orphaned. */
export const RENEWALS_PER_LEASE = 6;
/** How often what the actuator has not settled is looked at again. */
const SETTLE_EVERY_MS = 1_000;
/** What the actuator says of a target that it could not cap (native/actuator/README.md), the most certain last. */
const TROUBLES: readonly string[] = ['pending', 'hung', 'failed', 'foreign_change', 'not_permitted'];

export interface Holder {
  readonly holds: Hold[];
  /** Gives back what it holds, and wants nothing any more. */
  readonly ending: boolean;
}

export interface LeaseKeeperOptions<H extends Holder> {
  /** Without a renewal a lease is orphaned after this time. */
  readonly ttlMs: () => number;
  readonly holders: () => Iterable<H>;
  readonly become: (holder: H, state: ActionState, why: string) => void;
  /** A device takes nothing of the kind from us: something else may be moved in its place. */
  readonly onRefused: () => void;
  /** Something of it came back, perhaps the last. */
  readonly onGivenBack: (holder: H) => void;
}

export class LeaseKeeper<H extends Holder> {
  readonly #options: LeaseKeeperOptions<H>;
  #actuator: Actuator | undefined;
  #nextRenewalMs = 0;
  #nextSettleMs = 0;
  #settling = false;
  /** Requests on their way, by lease: who wants the same cap waits for the same answer. */
  readonly #asking = new Map<string, Promise<LeaseResult>>();
  /** Leases of targets that are no longer listed, until the actuator has said that they are gone. */
  readonly #dropped = new Set<string>();

  constructor(options: LeaseKeeperOptions<H>) {
    this.#options = options;
  }

  use(actuator: Actuator): void {
    this.#actuator = actuator;
  }

  /** The connection is lost, and with it what was on its way. */
  lose(): void {
    this.#actuator = undefined;
    this.#asking.clear();
    for (const { holds } of this.#options.holders()) {
      for (const hold of holds) {
        if (hold.state === 'over') continue;
        hold.state = 'lost';
        hold.turn += 1;
      }
    }
  }

  /** What was asked of a lost connection is asked again. */
  takeUp(holder: H): void {
    for (const hold of holder.holds) {
      if (hold.state === 'over') continue;
      if (holder.ending) this.giveBack(holder, hold);
      else this.ask(holder, hold);
    }
  }

  /** Each tick. */
  look(nowMs: number): void {
    if (nowMs >= this.#nextRenewalMs) this.#renew(nowMs);
    if (nowMs >= this.#nextSettleMs) this.#settle(nowMs);
  }

  /** Its target is no longer listed: the actuator undoes that by itself. */
  drop(holder: H, hold: Hold): void {
    holder.holds.splice(holder.holds.indexOf(hold), 1);
    hold.turn += 1;
    this.#asking.delete(hold.lease);
    this.#letGo(hold.lease);
  }

  /** At a new connection: what is left of dropped targets says nothing about a danger, and goes unless somebody wants it again. */
  dropAgain(): ReadonlySet<string> {
    const dropped = new Set(this.#dropped);
    for (const lease of dropped) {
      if (this.#wanting(lease) === undefined) this.#letGo(lease);
      else this.#dropped.delete(lease);
    }
    return dropped;
  }

  #letGo(lease: string): void {
    this.#dropped.add(lease);
    this.#actuator?.release(lease).then(
      () => this.#dropped.delete(lease),
      () => undefined, // If nobody takes it up again, the lease ends by itself.
    );
  }

  ask(holder: H, hold: Hold): void {
    const actuator = this.#actuator;
    hold.turn += 1;
    if (actuator === undefined) {
      hold.state = 'lost';
      return;
    }
    hold.state = 'asked';
    const { turn } = hold;
    this.#lease(actuator, hold).then(
      (result) => this.#answered(holder, hold, { turn, result, state: result.ok ? 'held' : 'troubled' }),
      (error: unknown) =>
        this.#answered(holder, hold, { turn, result: { ok: false, outcome: reason(error) }, state: 'refused' }),
    );
  }

  /** The answer to the request for this lease: the one that is on its way, or what another action was told, or a new one. */
  #lease(actuator: Actuator, { lease, target, capPpm }: Hold): Promise<LeaseResult> {
    const asking = this.#asking.get(lease);
    if (asking !== undefined) return asking;
    const held = this.#wanting(lease, ({ state, result }) => state === 'held' && result !== undefined)?.result;
    if (held !== undefined) return Promise.resolve(held);
    const ttlMs = this.#options.ttlMs();
    const request = actuator.set({ lease, target, capPpm, ttlMs });
    this.#asking.set(lease, request);
    this.#dropped.delete(lease);
    const settled = () => {
      if (this.#asking.get(lease) === request) this.#asking.delete(lease);
    };
    request.then(settled, settled);
    return request;
  }

  /**
   * A hold of an action that is not ending and wants this lease. Asked for each of thousands of holds at once where many cores
   * are hot on a large node, so it takes the first that there is and makes no list of them.
   */
  #wanting(lease: string, fits: (hold: Hold) => boolean = () => true): Hold | undefined {
    for (const { ending, holds } of this.#options.holders()) {
      if (ending) continue;
      for (const hold of holds) if (hold.lease === lease && fits(hold)) return hold;
    }
    return undefined;
  }

  #answered(
    holder: H,
    hold: Hold,
    { turn, result, state }: { turn: number; result: LeaseResult; state: 'held' | 'troubled' | 'refused' },
  ): void {
    if (hold.turn !== turn) return; // Asked again, released or lost in the meantime; that answer tells.
    hold.result = result;
    delete hold.after;
    hold.state = state;
    if (result.outcome === 'not_permitted') this.#options.onRefused();
    if (holder.holds.some((each) => each.state === 'asked')) return;
    const bad = holder.holds.filter((each) => each.state !== 'held');
    const list = bad.map(({ target, result: each }) => `${target}: ${each?.outcome ?? 'unknown'}`).join(', ');
    const good = holder.holds.length - bad.length;
    if (bad.length === 0) this.#options.become(holder, 'active', 'capped, and read back');
    else if (good > 0) this.#options.become(holder, 'active', `capped on ${good} of ${holder.holds.length}; ${list}`);
    else if (bad.every((each) => each.result?.outcome === 'pending')) this.#options.become(holder, 'pending', list);
    else this.#options.become(holder, 'failed', list);
  }

  // ---- Giving back ---------------------------------------------------------------------------------------------------

  giveBack(holder: H, hold: Hold): void {
    if (hold.state === 'over') return;
    const actuator = this.#actuator;
    hold.turn += 1;
    hold.state = 'releasing';
    if (this.#wanting(hold.lease) !== undefined) {
      const result = { ok: true, outcome: 'shared', readBack: hold.result?.readBack ?? '-' };
      this.#givenBack(holder, hold, { turn: hold.turn, result });
      return;
    }
    if (actuator === undefined) {
      this.#options.become(holder, 'undo_pending', 'the actuator is not reachable');
      return;
    }
    const { turn } = hold;
    this.#asking.delete(hold.lease); // Who asks from now on asks behind this release.
    actuator.release(hold.lease).then(
      (result) => this.#givenBack(holder, hold, { turn, result }),
      (error: unknown) => {
        if (hold.turn !== turn) return; // Lost with its connection: whoever takes it up releases again.
        hold.state = 'unreleased';
        this.#options.become(holder, 'undo_pending', reason(error));
      },
    );
  }

  #givenBack(holder: H, hold: Hold, { turn, result }: { turn: number; result: LeaseResult }): void {
    if (hold.turn !== turn) return; // Asked for again in the meantime.
    // An answer without values is about a lease that was gone already: whether its value came back, the target tells.
    const isProven = result.readBack !== undefined && (result.ok || result.outcome === 'foreign_change');
    hold.after = result;
    hold.state = isProven ? 'over' : 'undoing';
    if (!isProven && !result.ok) this.#options.become(holder, 'undo_pending', `${hold.target}: ${result.outcome}`);
    this.#options.onGivenBack(holder);
  }

  // ---- Keeping -------------------------------------------------------------------------------------------------------

  #renew(nowMs: number): void {
    const ttlMs = this.#options.ttlMs();
    this.#nextRenewalMs = nowMs + ttlMs / RENEWALS_PER_LEASE;
    const actuator = this.#actuator;
    if (actuator === undefined) return;
    const leases = new Set<string>();
    for (const holder of this.#options.holders()) {
      if (holder.ending) continue;
      for (const hold of holder.holds) {
        if (hold.state === 'held' || hold.state === 'troubled') leases.add(hold.lease);
        else if (hold.state === 'refused') this.ask(holder, hold);
      }
    }
    if (leases.size === 0) return;
    actuator
      .renew([...leases], ttlMs)
      .then((known) => (known < leases.size ? this.#askLostAgain(actuator) : undefined))
      .catch(() => undefined); // The connection is lost, and what is held is taken up with the next one.
  }

  /** Leases that ended behind our back (an operator's release-all) while their cause stands are asked for again. */
  async #askLostAgain(actuator: Actuator): Promise<void> {
    const known = new Set((await actuator.leases()).map(({ lease }) => lease));
    if (this.#actuator !== actuator) return;
    for (const holder of this.#options.holders()) {
      if (holder.ending) continue;
      for (const hold of holder.holds) {
        const isThoughtHeld = hold.state === 'held' || hold.state === 'troubled';
        if (isThoughtHeld && !known.has(hold.lease)) this.ask(holder, hold);
      }
    }
  }

  /** Looks at the targets of actions that the actuator has not settled: a retry of its own may have succeeded since. */
  #settle(nowMs: number): void {
    this.#nextSettleMs = nowMs + SETTLE_EVERY_MS;
    for (const holder of this.#options.holders()) {
      for (const hold of holder.holds) if (hold.state === 'unreleased') this.giveBack(holder, hold);
    }
    const unsettled = [...this.#options.holders()].filter(({ holds }) =>
      holds.some(({ state }) => state === 'troubled' || state === 'undoing'),
    );
    const actuator = this.#actuator;
    if (actuator === undefined || unsettled.length === 0 || this.#settling) return;
    this.#settling = true;
    actuator
      .targets()
      .then((targets) => {
        for (const holder of unsettled) this.#compare(holder, targets);
      })
      .catch(() => undefined) // The link notices the lost connection.
      .finally(() => {
        this.#settling = false;
      });
  }

  #compare(holder: H, targets: readonly ActuatorTarget[]): void {
    for (const hold of holder.holds) {
      const target = targets.find((each) => each.target === hold.target);
      if (hold.state === 'troubled' && target?.state === 'held') {
        const { former, current: readBack } = target;
        const result = { ok: true, outcome: 'applied', former, readBack };
        this.#answered(holder, hold, { turn: hold.turn, result, state: 'held' });
      } else if (hold.state === 'troubled' && target !== undefined && isNewTrouble(hold, target)) {
        const { former, current: readBack, state: outcome } = target;
        this.#answered(holder, hold, {
          turn: hold.turn,
          result: { ok: false, outcome, former, readBack },
          state: 'troubled',
        });
      } else if (hold.state === 'undoing' && isSettled(target)) {
        const outcome = target?.state === 'foreign_change' ? 'foreign_change' : 'released';
        const { former = '-', current = '-' } = target ?? {};
        const result = { ok: outcome === 'released', outcome, former, readBack: current };
        this.#givenBack(holder, hold, { turn: hold.turn, result });
      }
    }
  }
}

/**
 * The actuator has tried again and knows more: a device that was away now takes nothing of the kind from us. Back and forth is no news:
 * one that hangs for seconds and then fails, at each attempt, would fill the record.
 */
function isNewTrouble({ result }: Hold, { state }: ActuatorTarget): boolean {
  return TROUBLES.indexOf(state) > TROUBLES.indexOf(result?.outcome ?? '');
}
