/**
 * What becomes of an action that is due, once the operator's words are weighed: bars (after `skos release`), a hold (`skos hold`)
 * and an approval (`skos approve`). Pure.
 *
 * A bar is the operator's latest word about a rule and beats everything. A hold begins nothing new; what acts already goes on, and
 * what only tells people is told. An approval is for one proposed action, as long as it stays due.
 */
import { type ActionClass, actionClass, type Verb } from '../core/action-names.js';
import type { Permission } from './action.js';

export type Consent = Permission | 'barred' | 'held';

/** How much may go wrong when a person agrees by mistake; shown before the question. */
export type Risk = 'low' | 'medium' | 'high';

const RISKS: Readonly<Record<ActionClass, Risk>> = {
  notice: 'low',
  reversible: 'low',
  restartable: 'medium',
  irreversible: 'high',
};

export function riskOf(verb: Verb): Risk {
  return RISKS[actionClass(verb)];
}

export interface Words {
  readonly isBarred: boolean;
  readonly isHeld: boolean;
  readonly isApproved: boolean;
  /** It acts already. */
  readonly isActing: boolean;
}

export function consent(
  permission: Permission,
  verb: Verb,
  { isBarred, isHeld, isApproved, isActing }: Words,
): Consent {
  const acts = permission === 'act' || (permission === 'propose' && isApproved);
  if (!acts) return permission;
  if (isBarred) return 'barred';
  const isNew = !isActing && !isApproved && actionClass(verb) !== 'notice';
  return isHeld && isNew ? 'held' : 'act';
}
