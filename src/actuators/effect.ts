/**
 * What an action means on this machine: which targets of the actuator it caps, and how far. One file per kind of effect;
 * this one is their small interface. Building is pure; the executor sends what comes out.
 */
import type { Config } from '../config/schema.js';
import type { Action } from '../core/action-names.js';
import type { Channel } from '../core/channel.js';
import type { ActuatorTarget } from '../core/ports.js';

export interface EffectContext {
  readonly action: Action;
  /** The channel that raised: its device class says what is hot. */
  readonly channel: Channel;
  /** What the actuator's allow-list names. */
  readonly targets: readonly ActuatorTarget[];
  /** Ids of the jobs that it names. */
  readonly jobs: ReadonlySet<string>;
  readonly config: Config;
}

export interface Effect {
  readonly target: string;
  readonly capPpm: number;
}

/** What runs once; src/control/README.md. One after the other, in order; the first that fails ends the attempt. */
export interface Job {
  readonly job: string;
  /** So long after the effects stand, where they may be enough. */
  readonly afterMs?: number;
}

/** What is done: the effects at once, the jobs as they may. */
export interface Steps {
  readonly effects: readonly Effect[];
  readonly jobs?: readonly Job[];
}

/** Steps, or why there are none: the action is then recorded as unavailable with these words. */
export type Built = Steps | { readonly unavailable: string };

/** None where it is unavailable. */
export function stepsOf(built: Built): Required<Steps> {
  return 'unavailable' in built ? { effects: [], jobs: [] } : { jobs: [], ...built };
}

export interface EffectKind {
  build(context: EffectContext): Built;
}

/** The targets whose id begins with one of these kinds. */
export function targetsOf(targets: readonly ActuatorTarget[], ...kinds: readonly string[]): ActuatorTarget[] {
  return targets.filter(({ target }) => kinds.includes(target.slice(0, target.indexOf('/'))));
}
