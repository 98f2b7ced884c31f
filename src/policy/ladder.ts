/**
 * The ladder: the state machine of one rule on one channel. Up at once, as far as the readings say; down one rung per
 * `keep`; nothing at all on missing data. Pure: (rule, state, sample) → state and transitions, so that stored history
 * replays to the same decisions. State is plain JSON, of bounded size, and never changed in place.
 *
 * Up: a rung is entered when `forSamples` consecutive ok samples lay above its raise bound and at least `forMs` passed
 * between the first of them and this one. Rungs may be skipped. A sample without a value neither counts nor resets: a
 * gap is no proof of safety, so that the time of a gap counts for `for`.
 *
 * A ladder that fires may begin on a higher rung than the one whose bound was crossed, when the sample says so (`firstRung`): then
 * it goes down from there like any other.
 *
 * Down: ok samples below the clear bound of the rung make the below-run; when it has lasted `keepMs`, one rung is left
 * and a fresh keep begins against the clear bound of the next. A sample without a value, or a silence longer than the
 * channel's rhythm (`gapMs`), ends the below-run: time in which nobody looked does not count as calm.
 *
 * Damping: an alert that enters one and the same rung again and again is flapping: one that fires so, and one that goes up and down
 * between two rungs. It then stays up for a multiple of keep until it clears. Damping lengthens a hold and nothing else: it delays no
 * rung on the way up and shortens no keep, so that it can neither block nor release a protective cap early.
 */
import type { Quality } from '../core/channel.js';
import type { AlertState, Severity } from '../core/vocabulary.js';
import type { Rule, Rung } from './rule.js';

/** A raise-run in which no ok sample came for this long is forgotten: what was hot a minute ago must be seen again. */
export const RUN_EXPIRY_MS = 60_000;
/** Alarm practice (ISA-18.2 speaks of chattering at three a minute): more entries of a rung than this in a window are flapping. */
export const FLAP_COUNT = 4;
export const FLAP_WINDOW_MS = 10 * 60_000;
/** With the default keep of 10 s a flapping alert must be calm for a minute per rung. */
const FLAP_KEEP_FACTOR = 6;
/** Because the factor would do nothing for a keep of 0. */
export const FLAP_KEEP_MIN_MS = 60_000;
/**
 * Samples that are this much older than the newest one did not arrive late: the clock is another one (state of an
 * earlier boot, or one absurd time stamp). The ladder then starts its times afresh, or it would be deaf for ever.
 */
export const CLOCK_RESTART_MS = 60_000;

/** Rung −1. */
export const NO_RUNG = -1;

/** Consecutive ok samples above the raise bound of one rung. */
export interface Run {
  /** 0: there is no run. Counted up to forSamples only. */
  readonly samples: number;
  /** Time of the first. */
  readonly sinceMs: number;
}

export interface LadderState {
  /** Index into the rule's rungs; −1 is ok. */
  readonly rung: number;
  readonly phase: AlertState;
  /** Quality of the last sample; no_data before the first. */
  readonly verdict: Quality;
  /** One per rung. */
  readonly runs: readonly Run[];
  /** Since when every sample was ok and below the clear bound of the rung; null when the last was not. */
  readonly belowSinceMs: number | null;
  /** Time of the newest sample, and of the newest ok one. */
  readonly lastMs: number | null;
  readonly lastOkMs: number | null;
  /** One per rung: when it was entered within FLAP_WINDOW_MS, at most FLAP_COUNT + 1 times. */
  readonly enteredMs: readonly (readonly number[])[];
}

/** One reading of the rule's channel; the shape of core's Reading. */
export interface Sample {
  readonly value: number | null;
  readonly quality: Quality;
  readonly atMs: number;
  /**
   * The rung that the immune memory begins with, an index; used only if this sample fires, and only upwards. What it was is in
   * the transition, so that a replay gives it again instead of the memory.
   */
  readonly firstRung?: number;
}

export type TransitionKind =
  | 'fire'
  | 'escalate'
  | 'step_down'
  | 'clear'
  | 'recovering'
  | 'relapse'
  | 'verdict'
  | 'flapping';

export interface Transition {
  readonly kind: TransitionKind;
  readonly before: Severity | null;
  readonly after: Severity | null;
  /** After the step. */
  readonly phase: AlertState;
  readonly verdict: Quality;
  /** Canonical unit; null when the sample had none. */
  readonly value: number | null;
  /** The bound that was crossed: raise on the way up, clear on the way down; for a verdict the raise of the rung. */
  readonly threshold: number | null;
  readonly atMs: number;
  /** Of a fire that the memory raised above the rung whose bound was crossed: the rung it began with. */
  readonly firstRung?: number;
}

export interface Step {
  readonly state: LadderState;
  readonly transitions: readonly Transition[];
}

const NO_RUN: Run = { samples: 0, sinceMs: 0 };
const NO_TRANSITIONS: readonly Transition[] = [];

export function initialLadder(rule: Rule): LadderState {
  return {
    rung: NO_RUNG,
    phase: 'ok',
    verdict: 'no_data',
    runs: rule.rungs.map(() => NO_RUN),
    belowSinceMs: null,
    lastMs: null,
    lastOkMs: null,
    enteredMs: rule.rungs.map(() => []),
  };
}

/** Duplicates and late samples (atMs not after the newest) change nothing. */
export function step(rule: Rule, state: LadderState, sample: Sample): Step {
  const { atMs } = sample;
  if (!Number.isFinite(atMs)) return { state, transitions: NO_TRANSITIONS };
  if (state.lastMs !== null && atMs <= state.lastMs) {
    if (state.lastMs - atMs <= CLOCK_RESTART_MS) return { state, transitions: NO_TRANSITIONS };
    return step(rule, onNewClock(state, atMs), sample);
  }
  if (sample.quality !== 'ok') return blind(rule, state, { quality: sample.quality, atMs, lastMs: atMs });
  // An ok that carries no number is a fault of the sensor's reader, and no reading.
  if (sample.value === null || !Number.isFinite(sample.value)) {
    return blind(rule, state, { quality: 'fault', atMs, lastMs: atMs });
  }
  return seen(rule, state, { value: sample.value, atMs, firstRung: sample.firstRung ?? NO_RUNG });
}

/**
 * To be asked now and then (each tick): when no sample at all came for longer than the channel's rhythm, the verdict
 * becomes stale. A channel that never gave a sample keeps its no_data.
 */
export function stale(rule: Rule, state: LadderState, nowMs: number): Step {
  if (!isSilent(rule, state, nowMs)) return { state, transitions: NO_TRANSITIONS };
  // lastMs stays: a sample that was taken before now and arrives after it still counts.
  return blind(rule, state, { quality: 'stale', atMs: nowMs, lastMs: state.lastMs });
}

/** Whether stale() would change anything: asked of each ladder with each tick, and nearly always false. */
export function isSilent({ gapMs }: Rule, { lastMs, verdict }: LadderState, nowMs: number): boolean {
  return lastMs !== null && verdict !== 'stale' && nowMs - lastMs > gapMs;
}

/** The severity that stands. */
export function severityOf(rule: Rule, rung: number): Severity | null {
  return rule.rungs[rung]?.severity ?? null;
}

export interface DueAction {
  readonly action: string;
  readonly severity: Severity;
}

/**
 * What is due while on a rung: all actions up to it, the mildest first. An action that several rungs name is due once,
 * by the lowest, because that is how long it must hold.
 */
export function dueActions(rule: Rule, rung: number): DueAction[] {
  const due = new Map<string, DueAction>();
  for (const { severity, actions } of rule.rungs.slice(0, rung + 1)) {
    for (const action of actions) if (!due.has(action)) due.set(action, { action, severity });
  }
  return [...due.values()];
}

// ---- No value ------------------------------------------------------------------------------------------------------

interface Blindness {
  readonly quality: Exclude<Quality, 'ok'>;
  readonly atMs: number;
  readonly lastMs: number | null;
}

/** The level stays; the calm that was being waited for must be seen again from its beginning. */
function blind(rule: Rule, state: LadderState, { quality, atMs, lastMs }: Blindness): Step {
  const runs = freshRuns(state, atMs);
  const next: LadderState = {
    rung: state.rung,
    phase: state.rung === NO_RUNG ? quietPhase(runs) : state.phase === 'recovering' ? 'firing' : state.phase,
    verdict: quality,
    runs,
    belowSinceMs: null,
    lastMs,
    lastOkMs: state.lastOkMs,
    enteredMs: state.enteredMs,
  };
  if (state.verdict === quality) return { state: next, transitions: NO_TRANSITIONS };
  return { state: next, transitions: [verdictChange(rule, next, null, atMs)] };
}

function verdictChange(rule: Rule, next: LadderState, value: number | null, atMs: number): Transition {
  const threshold = rule.rungs[next.rung]?.raise ?? null;
  const severity = severityOf(rule, next.rung);
  return {
    kind: 'verdict',
    before: severity,
    after: severity,
    phase: next.phase,
    verdict: next.verdict,
    value,
    threshold,
    atMs,
  };
}

// ---- A value -------------------------------------------------------------------------------------------------------

interface Seen {
  readonly value: number;
  readonly atMs: number;
  readonly firstRung: number;
}

function seen(rule: Rule, state: LadderState, { value, atMs, firstRung }: Seen): Step {
  const runs = nextRuns(rule, freshRuns(state, atMs), value, atMs);
  const reached = highestHeld(rule, runs, atMs);
  const base: LadderState = {
    rung: state.rung,
    phase: state.rung === NO_RUNG && reached === NO_RUNG ? quietPhase(runs) : state.phase,
    verdict: 'ok',
    runs,
    belowSinceMs: state.belowSinceMs,
    lastMs: atMs,
    lastOkMs: atMs,
    enteredMs: state.enteredMs,
  };
  const moved =
    reached > state.rung
      ? up(rule, base, { reached, value, atMs, firstRung })
      : state.rung === NO_RUNG
        ? { state: base, transitions: NO_TRANSITIONS }
        : onRung(rule, base, { value, atMs, gapMs: atMs - (state.lastOkMs ?? atMs) });
  // The very first reading is the expected one and no news.
  if (state.verdict === 'ok' || state.lastMs === null) return moved;
  const back = verdictChange(rule, { ...base, phase: moved.state.phase }, value, atMs);
  return { state: moved.state, transitions: [back, ...moved.transitions] };
}

function freshRuns(state: LadderState, atMs: number): readonly Run[] {
  const expired = state.lastOkMs !== null && atMs - state.lastOkMs > RUN_EXPIRY_MS;
  return expired ? state.runs.map(() => NO_RUN) : state.runs;
}

/** The very same list where nothing changes: a quiet channel has no run, ten times a second. */
function nextRuns(rule: Rule, runs: readonly Run[], value: number, atMs: number): readonly Run[] {
  for (let i = 0; i < runs.length; i++) {
    const run = runs[i] as Run;
    if (nextRun(rule, { run, rung: i, value, atMs }) !== run)
      return runs.map((each, rung) => nextRun(rule, { run: each, rung, value, atMs }));
  }
  return runs;
}

function nextRun(rule: Rule, { run, rung, value, atMs }: { run: Run; rung: number; value: number; atMs: number }): Run {
  // A rung that the rule does not have is never above its bound.
  if (!(value > (rule.rungs[rung]?.raise ?? Infinity))) return run.samples === 0 ? run : NO_RUN;
  if (run.samples === 0) return { samples: 1, sinceMs: atMs };
  return run.samples >= rule.forSamples ? run : { samples: run.samples + 1, sinceMs: run.sinceMs };
}

function highestHeld(rule: Rule, runs: readonly Run[], atMs: number): number {
  for (let i = runs.length - 1; i >= 0; i--) {
    const { samples, sinceMs } = runs[i] as Run;
    if (samples >= rule.forSamples && atMs - sinceMs >= rule.forMs) return i;
  }
  return NO_RUNG;
}

function quietPhase(runs: readonly Run[]): AlertState {
  for (const { samples } of runs) if (samples > 0) return 'pending';
  return 'ok';
}

function up(
  rule: Rule,
  state: LadderState,
  { reached, value, atMs, firstRung }: Seen & { readonly reached: number },
): Step {
  const fires = state.rung === NO_RUNG;
  const isRaised = fires && firstRung > reached && rule.rungs[firstRung] !== undefined;
  const to = isRaised ? firstRung : reached;
  const enteredMs = rule.rungs.map((_, rung) => {
    const earlierMs = state.enteredMs[rung] ?? [];
    return rung > state.rung && rung <= to ? remembered(earlierMs, atMs) : earlierMs;
  });
  const isEntered = enteredMs.slice(state.rung + 1, to + 1);
  const flaps = state.phase !== 'flapping' && isEntered.some(({ length }) => length > FLAP_COUNT);
  const phase = flaps || state.phase === 'flapping' ? 'flapping' : 'firing';
  const next: LadderState = { ...state, rung: to, phase, belowSinceMs: null, enteredMs };
  const change = {
    before: severityOf(rule, state.rung),
    after: severityOf(rule, to),
    phase,
    verdict: next.verdict,
    value,
    threshold: rule.rungs[reached]?.raise ?? null,
    atMs,
  } as const;
  const transitions: Transition[] = [
    { kind: fires ? 'fire' : 'escalate', ...change, ...(isRaised ? { firstRung } : {}) },
  ];
  if (flaps) transitions.push({ kind: 'flapping', ...change, before: change.after });
  return { state: next, transitions };
}

function remembered(enteredMs: readonly number[], atMs: number): number[] {
  const recent = enteredMs.filter((earlierMs) => atMs - earlierMs <= FLAP_WINDOW_MS);
  return [...recent, atMs].slice(-(FLAP_COUNT + 1));
}

interface OnRung {
  readonly value: number;
  readonly atMs: number;
  /** Since the ok sample before. */
  readonly gapMs: number;
}

function onRung(rule: Rule, state: LadderState, { value, atMs, gapMs }: OnRung): Step {
  const rung = rule.rungs[state.rung];
  // State of a rule that had more rungs than this one: kept up, for want of a bound that would allow to leave.
  if (rung === undefined) return { state, transitions: NO_TRANSITIONS };
  if (value >= rung.clear) return above(state, rung, { value, atMs });
  if (state.belowSinceMs === null || gapMs > rule.gapMs) return below(state, rung, { value, atMs });
  if (atMs - state.belowSinceMs < keepMs(rule, state)) return { state, transitions: NO_TRANSITIONS };
  return down(rule, state, rung, { value, atMs });
}

function keepMs(rule: Rule, state: LadderState): number {
  return state.phase === 'flapping' ? flapKeepMs(rule.keepMs) : rule.keepMs;
}

/** How long a flapping rung is held instead. */
export function flapKeepMs(keepMs: number): number {
  return Math.max(keepMs * FLAP_KEEP_FACTOR, FLAP_KEEP_MIN_MS);
}

/** A crossing as it is reported when the rung stays. */
function crossing(
  kind: TransitionKind,
  state: LadderState,
  { severity, clear }: Rung,
  { value, atMs }: { value: number; atMs: number },
): Transition {
  return {
    kind,
    before: severity,
    after: severity,
    phase: state.phase,
    verdict: state.verdict,
    value,
    threshold: clear,
    atMs,
  };
}

function above(state: LadderState, rung: Rung, at: { value: number; atMs: number }): Step {
  if (state.phase !== 'recovering') return { state: { ...state, belowSinceMs: null }, transitions: NO_TRANSITIONS };
  const next: LadderState = { ...state, phase: 'firing', belowSinceMs: null };
  return { state: next, transitions: [crossing('relapse', next, rung, at)] };
}

function below(state: LadderState, rung: Rung, at: { value: number; atMs: number }): Step {
  const next: LadderState = {
    ...state,
    phase: state.phase === 'flapping' ? 'flapping' : 'recovering',
    belowSinceMs: at.atMs,
  };
  // A flapping alert says so once; its ups and downs are what is being damped.
  return {
    state: next,
    transitions: next.phase === state.phase ? NO_TRANSITIONS : [crossing('recovering', next, rung, at)],
  };
}

/** A keep is over: one rung, never more. The sample that ended this keep begins the next. */
function down(rule: Rule, state: LadderState, left: Rung, at: { value: number; atMs: number }): Step {
  const rung = state.rung - 1;
  const lower = rule.rungs[rung];
  const stillBelow = lower !== undefined && at.value < lower.clear;
  const next: LadderState = {
    ...state,
    rung,
    phase: lower === undefined ? quietPhase(state.runs) : heldPhase(state, stillBelow),
    belowSinceMs: stillBelow ? at.atMs : null,
  };
  const kind = lower === undefined ? 'clear' : 'step_down';
  const transition: Transition = { ...crossing(kind, next, left, at), after: lower?.severity ?? null };
  return { state: next, transitions: [transition] };
}

function heldPhase(state: LadderState, stillBelow: boolean): AlertState {
  if (state.phase === 'flapping') return 'flapping';
  return stillBelow ? 'recovering' : 'firing';
}

/** The level stands; everything that was measured on the other clock begins again with the sample of this time. */
function onNewClock(state: LadderState, atMs: number): LadderState {
  return {
    ...state,
    phase: state.phase === 'recovering' ? 'firing' : state.phase,
    runs: state.runs.map(() => NO_RUN),
    belowSinceMs: null,
    lastMs: atMs - 1,
    lastOkMs: null,
    enteredMs: state.enteredMs.map(() => []),
  };
}
