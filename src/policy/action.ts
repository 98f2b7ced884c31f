/** What the mode lets an action do. The table of actions and their classes is core/action-names.ts. */
import { type Action, actionClass } from '../core/action-names.js';
import type { Mode } from '../core/vocabulary.js';

/** `act`: do it. `propose`: record it and wait for the operator. `observe`: record that it would have been due. */
export type Permission = 'act' | 'propose' | 'observe';

/**
 * `autoAllow` is the config's auto_allow; it names an action exactly as the rule writes it, target included, so that
 * a permission never covers more than the operator read when writing it. A notice is given in every mode, because it
 * changes nothing: an agent that only observes still tells people.
 */
export function permitted(action: Action, mode: Mode, autoAllow: readonly string[]): Permission {
  const kind = actionClass(action.verb);
  if (kind === 'notice') return 'act';
  if (mode !== 'auto') return mode;
  return kind === 'reversible' || autoAllow.includes(action.text) ? 'act' : 'propose';
}
