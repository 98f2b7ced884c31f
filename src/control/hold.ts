/** A hold: what one action wants of one target of the actuator, and what came of it so far. The executor moves it. */
import { createHash } from 'node:crypto';
import type { Effect } from '../actuators/effect.js';
import type { Action } from '../core/action-names.js';
import type { ActionEffect, ActuatorTarget, LeaseResult } from '../core/ports.js';

export interface Hold {
  readonly lease: string;
  readonly target: string;
  readonly capPpm: number;
  /**
   * asked → held, or troubled (the actuator retries by itself), or refused (there is no lease: we retry); lost with the
   * connection. releasing: the release is asked for. unreleased: that was refused. undoing: the lease is gone, the device
   * does not have its value back yet. over: it has.
   */
  state: 'new' | 'asked' | 'held' | 'troubled' | 'refused' | 'lost' | 'releasing' | 'unreleased' | 'undoing' | 'over';
  /** Counts our requests: an answer to an earlier one than the last says nothing about what stands now. */
  turn: number;
  /** Of the cap. */
  result?: LeaseResult;
  /** Of the way back. */
  after?: LeaseResult;
}

/** The same for the same action and target, whichever rule and sensor want it, also in the next life of the agent. */
export function leaseOf(action: string, target: string): string {
  const digest = createHash('sha256').update(`${action}\n${target}`).digest('hex');
  return `${action.slice(0, 48)}:${digest.slice(0, 16)}`;
}

export function holdOf(action: Action, { target, capPpm }: Effect): Hold {
  return { lease: leaseOf(action.text, target), target, capPpm, state: 'new', turn: 0 };
}

/** As records show it. */
export function effectOf({ target, capPpm, state, result, after }: Hold): ActionEffect {
  // An actuator that knew the lease no more tells the former value with its release only.
  const { former = after?.former, written, readBack } = result ?? {};
  const readAfter = after?.readBack;
  return {
    target,
    capPpm,
    outcome: after?.outcome ?? result?.outcome ?? state,
    ...(former === undefined ? {} : { former }),
    ...(written === undefined ? {} : { written }),
    ...(readBack === undefined ? {} : { readBack }),
    ...(readAfter === undefined ? {} : { readAfter }),
  };
}

/** Nothing of ours stands there any more, or what stands belongs to another lease or order. */
export function isSettled(target: ActuatorTarget | undefined): boolean {
  if (target === undefined || ['idle', 'held', 'foreign_change'].includes(target.state)) return true;
  // It stays that without a lease, too; a cap that it does not let us take back shows in its value.
  return target.state === 'not_permitted' && target.current === target.former;
}
