/**
 * Does a chain run away? A chain is something that takes step after step and may never end: an agent loop of a workload, or our own
 * repairs of one thing. Pure: the state of one chain, a step, now.
 *
 * Four signs: it is too deep, it has taken too many steps, it takes them too fast, or it is in a state in which it was before, again
 * and again. What is done about each is the configuration's business (responses); a chain that is held stays so until somebody
 * resets it, which is who keeps these states' business.
 *
 * What a step says of itself is believed as far as it makes the chain longer or deeper. A step that arrives twice (MQTT delivers at
 * least once) counts once; one that arrives late counts when it comes.
 */
import {
  CHAIN_VERDICTS,
  type ChainCondition,
  type ChainLimits,
  type ChainResponses,
  type ChainVerdict,
  type Intervention,
} from '../core/chains.js';

export interface ChainStep {
  readonly iteration: number;
  readonly depth: number;
  readonly state: string | null;
  /** Equal for a repeated delivery of the same step, and for nothing else. */
  readonly key: string;
}

interface SeenState {
  readonly state: string;
  readonly count: number;
  readonly sinceMs: number;
}

export interface ChainState {
  readonly depth: number;
  /** As the steps say it. */
  readonly iteration: number;
  /** Steps that came. */
  readonly counted: number;
  /** Of the leaky bucket that measures the rate. */
  readonly level: number;
  readonly lastMs: number;
  /** Those seen last at the end. */
  readonly seen: readonly SeenState[];
  /** Keys of the latest steps. */
  readonly latest: readonly string[];
}

export interface Excess {
  readonly condition: ChainCondition;
  readonly value: number;
  readonly limit: number;
}

/** Different states of one chain that are remembered: a loop of more steps than these is told by its iterations. */
export const MAX_SEEN_STATES = 48;
/** A broker repeats what was not acknowledged when the connection broke, which is a few steps. */
const LATEST_KEYS = 16;

export const FRESH_CHAIN: ChainState = {
  depth: 0,
  iteration: 0,
  counted: 0,
  level: 0,
  lastMs: 0,
  seen: [],
  latest: [],
};

/** `isRepeat`: this step has come before, and changes nothing. */
export function takeStep(
  limits: ChainLimits,
  state: ChainState,
  step: ChainStep,
  nowMs: number,
): { readonly state: ChainState; readonly excesses: readonly Excess[]; readonly isRepeat: boolean } {
  if (state.latest.includes(step.key)) return { state, excesses: excessesOf(limits, state, null), isRepeat: true };
  const elapsedMs = state.counted === 0 ? 0 : Math.max(0, nowMs - state.lastMs);
  const level = Math.max(0, state.level - (elapsedMs / 1000) * limits.maxStepsPerSecond) + 1;
  const seen = step.state === null ? state.seen : withState(limits, state.seen, { state: step.state, nowMs });
  const next: ChainState = {
    depth: Math.max(state.depth, step.depth),
    iteration: Math.max(state.iteration, step.iteration),
    counted: state.counted + 1,
    // What is above the limit is no debt: a chain that slows down is within it after a second.
    level: Math.min(level, 2 * limits.maxStepsPerSecond + 1),
    lastMs: nowMs,
    seen,
    latest: [...state.latest.slice(1 - LATEST_KEYS), step.key],
  };
  return { state: next, excesses: excessesOf(limits, next, step.state), isRepeat: false };
}

function withState(
  { windowMs }: ChainLimits,
  seen: readonly SeenState[],
  { state, nowMs }: { state: string; nowMs: number },
): readonly SeenState[] {
  const former = seen.find((each) => each.state === state);
  const isOver = former === undefined || nowMs - former.sinceMs > windowMs;
  const now = isOver ? { state, count: 1, sinceMs: nowMs } : { ...former, count: former.count + 1 };
  const others = seen.filter((each) => each !== former);
  return [...others.slice(1 - MAX_SEEN_STATES), now];
}

function excessesOf(limits: ChainLimits, chain: ChainState, state: string | null): Excess[] {
  const repeats = state === null ? 0 : (chain.seen.at(-1)?.count ?? 0);
  const iterations = Math.max(chain.iteration, chain.counted);
  const all: readonly (Excess & { readonly isOver: boolean })[] = [
    { condition: 'depth', value: chain.depth, limit: limits.maxDepth, isOver: chain.depth > limits.maxDepth },
    { condition: 'repeats', value: repeats, limit: limits.repeats, isOver: repeats >= limits.repeats },
    {
      condition: 'rate',
      value: Math.round(chain.level),
      limit: limits.maxStepsPerSecond,
      isOver: chain.level > limits.maxStepsPerSecond,
    },
    {
      condition: 'iterations',
      value: iterations,
      limit: limits.maxIterations,
      isOver: iterations > limits.maxIterations,
    },
  ];
  return all.filter(({ isOver }) => isOver).map(({ condition, value, limit }) => ({ condition, value, limit }));
}

export interface Judgement {
  readonly verdict: ChainVerdict;
  /** What the mode, or a missing permission, keeps from being the verdict; null when nothing is kept back. */
  readonly would: Intervention | null;
  /** What it is about: of the verdict, else of what would be; null where all is well. */
  readonly because: Excess | null;
}

/** The most severe of what acts; and of what does not, where that is more severe still. */
export function judge(excesses: readonly Excess[], responses: ChainResponses): Judgement {
  const asked = excesses.flatMap((excess) => responses[excess.condition].map((response) => ({ excess, ...response })));
  const most = (acts: boolean) =>
    asked
      .filter((each) => each.acts === acts)
      .reduce<(typeof asked)[number] | undefined>((worst, each) => (isWorse(each, worst) ? each : worst), undefined);
  const acting = most(true);
  const kept = most(false);
  const would = kept !== undefined && isWorse(kept, acting) ? kept : undefined;
  return {
    verdict: acting?.verdict ?? 'continue',
    would: would?.verdict ?? null,
    // A condition to which nothing answers is told all the same.
    because: (acting ?? would)?.excess ?? excesses[0] ?? null,
  };
}

function isWorse({ verdict }: { verdict: ChainVerdict }, than: { verdict: ChainVerdict } | undefined): boolean {
  return than === undefined || CHAIN_VERDICTS.indexOf(verdict) < CHAIN_VERDICTS.indexOf(than.verdict);
}

/** After reset_chain the workload begins anew, and so does what is known of it. */
export function afterVerdict(state: ChainState, verdict: ChainVerdict): ChainState {
  return verdict === 'reset_chain' ? { ...FRESH_CHAIN, lastMs: state.lastMs, latest: state.latest } : state;
}
