/**
 * Replay: the rules of a configuration over what channels said in the past. The ladders, their bounds and the permission of each
 * action are those that run on a node; only the readings come from a store or a file. Nothing acts. Memory is bounded: ladders, and
 * the episodes that are kept (figures go on beyond them).
 *
 * Single samples are taken as they are. Where only seconds or minutes are kept of a time, what is known is the least and the greatest
 * value of each, how many samples had a value, and whether all had. So that nothing is invented,
 *
 * - the greatest value stands for the whole of it, as often as the rule asks for samples, but no more often than there were any. What
 *   fires is therefore the most that may have fired: one outlier in a second looks like a second that was hot. It is `certain` only
 *   when the least value was above the bound too;
 * - it is calm only when even the greatest value is below the clear bound, every sample had a value, and no more samples lack than a
 *   silence of the channel's ordinary rhythm swallows. Else the calm begins anew, as it does behind a missing reading;
 * - times are those of its beginning and its end: no more exact than it is wide.
 *
 * What was not stored is not replayed: words of operators, breakers and budgets, what the immune memory knew. And what a cap would have
 * changed about the readings behind it nobody knows.
 */
import type { Antibody } from '../antibodies/antibody.js';
import type { Config } from '../config/schema.js';
import { type ActionClass, actionClass, parseAction } from '../core/action-names.js';
import type { Channel, Quality } from '../core/channel.js';
import { SEVERITIES, type Severity } from '../core/vocabulary.js';
import { type Permission, permitted } from '../policy/action.js';
import {
  dueActions,
  initialLadder,
  type LadderState,
  NO_RUNG,
  stale,
  step,
  type Transition,
} from '../policy/ladder.js';
import type { Rule } from '../policy/rule.js';

/** Of one replay, to be shown; more than anybody reads. Figures count on. */
const MAX_EPISODES = 10_000;
/** Behind a sample of a point and before the next one: points have whole milliseconds. */
const LOST_AFTER_MS = 0.25;
/** Of one episode: a cap that comes and goes for days. */
const MAX_ACTIONS_PER_EPISODE = 64;

/** From firing until it is over. Times as those of the readings. */
export interface Episode {
  readonly rule: string;
  readonly channel: string;
  readonly fromMs: number;
  /** null: it stands at the end. */
  readonly toMs: number | null;
  readonly severity: Severity;
  /** Greatest value while it stood, canonical unit. */
  readonly peak: number;
  /** The bound that was exceeded first, canonical unit. */
  readonly threshold: number;
  /** Widest second or minute that it was decided from, ms; 0: single samples only. */
  readonly stepMs: number;
  /** False: single samples might have shown that it did not fire. */
  readonly certain: boolean;
  /** Of the time the last reading had no value, it says which. */
  readonly verdict: Quality;
  readonly actions: readonly EpisodeAction[];
}

export interface EpisodeAction {
  readonly action: string;
  readonly severity: Severity;
  readonly class: ActionClass;
  readonly permission: Permission;
  readonly fromMs: number;
  readonly toMs: number | null;
}

export interface ActionTotal {
  readonly action: string;
  readonly permission: Permission;
  readonly times: number;
  /** That it would have stood, for what is taken back. */
  readonly totalMs: number;
}

export interface ReplayReport {
  readonly episodes: readonly Episode[];
  /** All there were, and those from seconds or minutes that single samples might not have shown. */
  readonly fired: number;
  readonly uncertain: number;
  readonly bySeverity: Readonly<Record<Severity, number>>;
  readonly totals: readonly ActionTotal[];
  /** Rules that could not be bound, with the reason. */
  readonly skipped: readonly string[];
}

/** A second or a minute; values in the canonical unit, null where there is none. */
export interface Bucket {
  readonly atMs: number;
  readonly stepMs: number;
  readonly minimum: number | null;
  readonly maximum: number | null;
  /** Samples with a value. */
  readonly count: number;
  /** ok when every sample was. */
  readonly quality: Quality;
}

interface Open {
  readonly fromMs: number;
  readonly threshold: number;
  severity: Severity;
  peak: number;
  stepMs: number;
  certain: boolean;
  /** Those that are over; and those that stand, by their text. */
  readonly actions: EpisodeAction[];
  readonly standing: Map<string, EpisodeAction>;
}

interface Bound {
  readonly rule: Rule;
  readonly periodMs: number;
  /** The rule for points of so many ms, whose own width is no silence. */
  wide: { readonly stepMs: number; readonly rule: Rule };
  ladder: LadderState;
  open: Open | undefined;
  lastMs: number;
}

/** What a transition was decided from. */
interface Source {
  readonly stepMs: number;
  readonly minimum: number | null;
}

export interface ReplayOptions {
  readonly config: Config;
  readonly antibodies: readonly Antibody[];
  readonly channels: readonly Channel[];
  readonly onTransition?: (rule: Rule, transition: Transition) => void;
}

export class Replay {
  readonly #options: ReplayOptions;
  readonly #bound = new Map<string, Bound[]>();
  readonly #skipped: string[] = [];
  readonly #tickMs: number;
  #episodes: Episode[] = [];
  #fired = 0;
  #uncertain = 0;
  readonly #bySeverity: Record<Severity, number> = { warning: 0, critical: 0, emergency: 0 };
  readonly #totals = new Map<string, { action: string; permission: Permission; times: number; totalMs: number }>();

  constructor(options: ReplayOptions) {
    this.#options = options;
    const { config, antibodies, channels } = options;
    this.#tickMs = config.monitor.interval * 1000;
    const report = { skipped: (rule: string, why: string) => this.#skipped.push(`rule ${rule}: ${why}`) };
    const rates = new Map(channels.map(({ id, rateHz }) => [id, rateHz]));
    for (const antibody of antibodies) {
      for (const rule of antibody.rulesFor({ config, channels, report })) {
        const known = this.#bound.get(rule.channelId) ?? [];
        const periodMs = 1000 / (rates.get(rule.channelId) ?? 1);
        known.push({
          rule,
          periodMs,
          wide: { stepMs: 0, rule },
          ladder: initialLadder(rule),
          open: undefined,
          lastMs: 0,
        });
        this.#bound.set(rule.channelId, known);
      }
    }
  }

  /** Ids of the channels that a rule watches. */
  get channels(): readonly string[] {
    return [...this.#bound.keys()];
  }

  /** Of one channel in the order of time; what comes late is treated as a ladder treats it. */
  sample(channel: string, value: number | null, quality: Quality, atMs: number): void {
    for (const bound of this.#bound.get(channel) ?? []) {
      this.#take(bound, bound.rule, { value, quality, atMs }, { stepMs: 0, minimum: value });
    }
  }

  bucket(channel: string, bucket: Bucket): void {
    for (const bound of this.#bound.get(channel) ?? []) this.#bucket(bound, bucket);
  }

  #bucket(bound: Bound, { atMs, stepMs, minimum, maximum, count, quality }: Bucket): void {
    const { rule, periodMs } = bound;
    if (maximum === null || !(count > 0)) {
      const lost = quality === 'ok' ? 'no_data' : quality;
      this.#take(bound, rule, { value: null, quality: lost, atMs }, { stepMs, minimum: null });
      return;
    }
    // A silence that may hide in it ends the calm; else its own width is no silence.
    const isWhole = stepMs - count * periodMs <= rule.gapMs;
    if (bound.wide.stepMs !== stepMs) bound.wide = { stepMs, rule: { ...rule, gapMs: rule.gapMs + stepMs } };
    const taken = isWhole ? bound.wide.rule : rule;
    const isNear = maximum > (rule.rungs[bound.ladder.rung + 1]?.raise ?? Number.POSITIVE_INFINITY);
    const samples = Math.min(count, isNear ? Math.max(2, rule.forSamples) : 2);
    for (let i = 0; i < samples; i++) {
      const at = atMs + (samples === 1 ? 0 : ((stepMs - 1) * i) / (samples - 1));
      this.#take(bound, taken, { value: maximum, quality: 'ok', atMs: at }, { stepMs, minimum });
      // When the loss was nobody knows: it ends the calm wherever it may have been.
      if (quality !== 'ok')
        this.#take(bound, taken, { value: null, quality, atMs: at + LOST_AFTER_MS }, { stepMs, minimum });
    }
  }

  #take(
    bound: Bound,
    rule: Rule,
    sample: { value: number | null; quality: Quality; atMs: number },
    source: Source,
  ): void {
    const { lastMs } = bound.ladder;
    // A tick would have noticed the silence before this one came.
    if (lastMs !== null && sample.atMs > lastMs + rule.gapMs + this.#tickMs) {
      this.#advance(bound, stale(rule, bound.ladder, lastMs + rule.gapMs + 1), source);
    }
    this.#advance(bound, step(rule, bound.ladder, sample), source);
    bound.lastMs = sample.atMs;
    const { open } = bound;
    if (open === undefined || sample.value === null || sample.quality !== 'ok') return;
    open.peak = Math.max(open.peak, sample.value);
  }

  #advance(bound: Bound, { state, transitions }: ReturnType<typeof step>, source: Source): void {
    bound.ladder = state;
    for (const transition of transitions) {
      this.#options.onTransition?.(bound.rule, transition);
      this.#follow(bound, transition, source);
    }
  }

  // ---- Episodes ------------------------------------------------------------------------------------------------------

  #follow(bound: Bound, { kind, after, atMs, value, threshold }: Transition, source: Source): void {
    const { rule, ladder } = bound;
    if ((kind === 'fire' || kind === 'escalate') && after !== null) {
      const isCertain = source.stepMs === 0 || (source.minimum ?? Number.NEGATIVE_INFINITY) > (threshold ?? 0);
      bound.open ??= {
        fromMs: atMs,
        threshold: rule.rungs[0]?.raise ?? 0,
        severity: after,
        peak: value ?? 0,
        stepMs: 0,
        certain: true,
        actions: [],
        standing: new Map(),
      };
      const { open } = bound;
      if (SEVERITIES.indexOf(after) > SEVERITIES.indexOf(open.severity)) open.severity = after;
      open.stepMs = Math.max(open.stepMs, source.stepMs);
      open.certain &&= isCertain;
      this.#begin(bound, open, atMs);
    } else if (kind === 'step_down' && bound.open !== undefined) this.#end(bound, bound.open, atMs);
    else if (kind === 'clear' && bound.open !== undefined) {
      this.#end(bound, bound.open, atMs);
      this.#close(bound, bound.open, { toMs: atMs, verdict: ladder.verdict });
    }
  }

  /** Actions that are due now and were not. */
  #begin({ rule, ladder }: Bound, open: Open, atMs: number): void {
    const { hooks, auto_allow: autoAllow } = this.#options.config;
    for (const { action: text, severity } of dueActions(rule, ladder.rung)) {
      if (open.standing.has(text)) continue;
      const action = parseAction(text, hooks);
      if (typeof action === 'string') continue; // The config check refuses such a name.
      const permission = permitted(action, rule.mode, autoAllow);
      const kind = actionClass(action.verb);
      open.standing.set(text, { action: text, severity, class: kind, permission, fromMs: atMs, toMs: null });
    }
  }

  /** Actions that were due and are not any more. */
  #end({ rule, ladder }: Bound, open: Open, atMs: number): void {
    const due = new Set(ladder.rung === NO_RUNG ? [] : dueActions(rule, ladder.rung).map(({ action }) => action));
    for (const each of open.standing.values()) if (!due.has(each.action)) this.#over(open, each, atMs);
  }

  #over(open: Open, each: EpisodeAction, atMs: number): void {
    open.standing.delete(each.action);
    this.#count(each, atMs);
    if (open.actions.length < MAX_ACTIONS_PER_EPISODE) open.actions.push({ ...each, toMs: atMs });
  }

  #count({ action, permission, fromMs }: EpisodeAction, toMs: number): void {
    const key = `${action} ${permission}`;
    const total = this.#totals.get(key) ?? { action, permission, times: 0, totalMs: 0 };
    total.times += 1;
    total.totalMs += Math.max(0, toMs - fromMs);
    this.#totals.set(key, total);
  }

  #close(bound: Bound, open: Open, { toMs, verdict }: { toMs: number | null; verdict: Quality }): void {
    bound.open = undefined;
    this.#fired += 1;
    if (!open.certain) this.#uncertain += 1;
    this.#bySeverity[open.severity] += 1;
    for (const each of open.standing.values()) this.#count(each, bound.lastMs);
    if (this.#episodes.length >= MAX_EPISODES) return;
    const { fromMs, threshold, severity, peak, stepMs, certain } = open;
    const actions = [...open.actions, ...open.standing.values()].sort((a, b) => a.fromMs - b.fromMs);
    const { name: rule, channelId: channel } = bound.rule;
    this.#episodes.push({ rule, channel, fromMs, toMs, severity, peak, threshold, stepMs, certain, verdict, actions });
  }

  /** What stands still is reported as that. Once, at the end. */
  report(): ReplayReport {
    for (const bound of [...this.#bound.values()].flat()) {
      if (bound.open !== undefined) this.#close(bound, bound.open, { toMs: null, verdict: bound.ladder.verdict });
    }
    this.#episodes = this.#episodes.sort((a, b) => a.fromMs - b.fromMs || (a.channel < b.channel ? -1 : 1));
    return {
      episodes: this.#episodes,
      fired: this.#fired,
      uncertain: this.#uncertain,
      bySeverity: this.#bySeverity,
      totals: [...this.#totals.values()].sort((a, b) => (a.action < b.action ? -1 : 1)),
      skipped: this.#skipped,
    };
  }
}

/** Two policies over the same past: an episode of one, of the other, or of both. */
export interface Pair {
  readonly a: Episode | undefined;
  readonly b: Episode | undefined;
  /** Both, and alike in what was done and when. */
  readonly same: boolean;
}

/** Episodes of one rule on one channel that overlap belong together; in the order of time. */
export function paired(a: readonly Episode[], b: readonly Episode[]): Pair[] {
  const others = new Map<string, Episode[]>();
  for (const episode of b) {
    const known = others.get(keyOf(episode));
    if (known === undefined) others.set(keyOf(episode), [episode]);
    else known.push(episode);
  }
  const pairs: Pair[] = a.map((episode) => {
    const list = others.get(keyOf(episode)) ?? [];
    // What ended before this one began meets none that comes later either, but is told as the other's own.
    const at = list.findIndex((other) => overlap(episode, other));
    const [other] = at === -1 ? [undefined] : list.splice(at, 1);
    return { a: episode, b: other, same: other !== undefined && isSame(episode, other) };
  });
  for (const list of others.values()) for (const other of list) pairs.push({ a: undefined, b: other, same: false });
  const fromMs = ({ a: first, b: second }: Pair) => first?.fromMs ?? second?.fromMs ?? 0;
  return pairs.sort((x, y) => fromMs(x) - fromMs(y));
}

function keyOf({ rule, channel }: Episode): string {
  return `${rule} ${channel}`;
}

function overlap(a: Episode, b: Episode): boolean {
  return a.fromMs <= (b.toMs ?? Number.POSITIVE_INFINITY) && b.fromMs <= (a.toMs ?? Number.POSITIVE_INFINITY);
}

function isSame(a: Episode, b: Episode): boolean {
  const story = ({ fromMs, toMs, severity, actions }: Episode) => JSON.stringify([fromMs, toMs, severity, actions]);
  return story(a) === story(b);
}
