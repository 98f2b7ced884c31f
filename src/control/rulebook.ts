/**
 * Decide: the rules that the antibodies made of config and channels, each with its ladder. Samples go in, transitions come
 * out; the ladders outlive a new discovery and a new configuration wherever rule and channel are still the same.
 */
import type { Antibody, Finding, RuleReport } from '../antibodies/antibody.js';
import type { Config } from '../config/schema.js';
import { type Channel, type Quality, segment } from '../core/channel.js';
import { initialLadder, isSilent, type LadderState, NO_RUNG, stale, step } from '../policy/ladder.js';
import type { Rule } from '../policy/rule.js';

export interface BoundRule {
  readonly rule: Rule;
  readonly channel: Channel;
  readonly antibody: Antibody;
  readonly alertId: string;
  ladder: LadderState;
  /** The last ok reading, canonical unit; null before the first. */
  value: number | null;
  /** Its ladder began on a higher rung than the readings asked for, and has not been over since. */
  isRaised: boolean;
}

/** What is remembered of earlier times; policy/memory.ts says what for. */
export interface BeginsWith {
  /** The rung that a ladder which fires now begins with at least; −1: any. */
  firstRung(rule: Rule): number;
  /** It fired. */
  fired(rule: Rule): void;
}
const NO_MEMORY: BeginsWith = { firstRung: () => NO_RUNG, fired: () => undefined };

/** What rebuild() replaces. */
export interface Kept {
  readonly bound: BoundRule[];
  readonly byChannel: BoundRule[][];
}

export type OnFinding = (bound: BoundRule, finding: Finding) => void;

export class Rulebook {
  readonly #antibodies: readonly Antibody[];
  #bound: BoundRule[] = [];
  #byChannel: BoundRule[][] = [];
  readonly #memory: BeginsWith;

  constructor(antibodies: readonly Antibody[], memory: BeginsWith = NO_MEMORY) {
    this.#antibodies = antibodies;
    this.#memory = memory;
  }

  get bound(): readonly BoundRule[] {
    return this.#bound;
  }

  get antibodies(): readonly Antibody[] {
    return this.#antibodies;
  }

  /** `channels` in the sampler's order. Returns what was in force, for restore(). */
  rebuild({ config, channels, report }: { config: Config; channels: readonly Channel[]; report: RuleReport }): Kept {
    const kept: Kept = { bound: this.#bound, byChannel: this.#byChannel };
    const former = new Map(this.#bound.map((bound) => [keyOf(bound.rule), bound]));
    const byId = new Map(channels.map((channel) => [channel.id, channel]));
    const next: BoundRule[] = [];
    for (const antibody of this.#antibodies) {
      for (const rule of antibody.rulesFor({ config, channels, report })) {
        const channel = byId.get(rule.channelId);
        if (channel === undefined) continue;
        const before = former.get(keyOf(rule));
        const ladder = carriedLadder(before, rule);
        next.push({
          rule,
          channel,
          antibody,
          alertId: alertIdOf(rule),
          ladder,
          value: before?.value ?? null,
          isRaised: before?.isRaised ?? false,
        });
      }
    }
    this.#bound = next;
    this.#byChannel = channels.map((channel) => next.filter((bound) => bound.channel === channel));
    return kept;
  }

  /** Takes a rebuild back whose channels could not be sampled. */
  restore({ bound, byChannel }: Kept): void {
    this.#bound = bound;
    this.#byChannel = byChannel;
  }

  /** The rule behind an alert; it changes with every rebuild, so that nobody keeps it. */
  byAlert(alertId: string): BoundRule | undefined {
    return this.#bound.find((each) => each.alertId === alertId);
  }

  /** One sample of the channel at this index of the last rebuild. */
  sample(index: number, value: number, quality: Quality, atMs: number, onFinding: OnFinding): void {
    const bound = this.#byChannel[index];
    if (bound === undefined) return;
    for (const each of bound) {
      if (quality === 'ok') each.value = value;
      const firstRung = this.#firstRung(each, value);
      const sample = { value: quality === 'ok' ? value : null, quality, atMs, firstRung };
      this.#advance(each, step(each.rule, each.ladder, sample), onFinding);
    }
  }

  /** Each tick: channels that gave no sample at all become stale. */
  checkStale(nowMs: number, onFinding: OnFinding): void {
    for (const each of this.#bound) {
      if (!isSilent(each.rule, each.ladder, nowMs)) continue;
      this.#advance(each, stale(each.rule, each.ladder, nowMs), onFinding);
    }
  }

  /**
   * After a restart: puts a ladder back on the rung that an alert or lease of the earlier agent proves, so that nothing is
   * released early and nothing is announced again.
   */
  seed(bound: BoundRule, rung: number): void {
    if (rung <= bound.ladder.rung) return;
    bound.ladder = { ...bound.ladder, rung: Math.min(rung, bound.rule.rungs.length - 1), phase: 'firing' };
  }

  /** Asked only where a fire may be near: nine ladders of ten are quiet, ten times a second. */
  #firstRung({ rule, ladder }: BoundRule, value: number): number {
    const isNear = ladder.rung === NO_RUNG && value > (rule.rungs[0]?.raise ?? Infinity);
    return isNear ? this.#memory.firstRung(rule) : NO_RUNG;
  }

  #advance(bound: BoundRule, { state, transitions }: ReturnType<typeof step>, onFinding: OnFinding): void {
    bound.ladder = state;
    if (state.rung === NO_RUNG) bound.isRaised = false;
    for (const transition of transitions) {
      if (transition.kind === 'fire') {
        bound.isRaised = transition.firstRung !== undefined;
        this.#memory.fired(bound.rule);
      }
      onFinding(bound, { rule: bound.rule, channel: bound.channel, transition });
    }
  }
}

function keyOf({ name, channelId }: Rule): string {
  return `${name} ${channelId}`;
}

/** Stable, as one topic segment. */
export function alertIdOf({ name, channelId }: Pick<Rule, 'name' | 'channelId'>): string {
  return segment(`${name}-${channelId.replaceAll('/', '-')}`);
}

/** A ladder goes on where its rule still has the rung it stands on; its runs are of the former bounds and begin afresh. */
function carriedLadder(former: BoundRule | undefined, rule: Rule): LadderState {
  const fresh = initialLadder(rule);
  if (former === undefined) return fresh;
  if (JSON.stringify(former.rule.rungs) === JSON.stringify(rule.rungs)) return former.ladder;
  const rung = Math.min(former.ladder.rung, rule.rungs.length - 1);
  if (rung === NO_RUNG) return fresh;
  return { ...fresh, rung, phase: 'firing', lastMs: former.ladder.lastMs, verdict: former.ladder.verdict };
}
