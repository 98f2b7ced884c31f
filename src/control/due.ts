/**
 * What is due: an action that a rule asks for, and what the mode and the operator's words let become of it. An action is told apart by
 * its rule, its channel and its name, whichever rung asks for it.
 */
import type { Config } from '../config/schema.js';
import { type Action, parseAction } from '../core/action-names.js';
import type { Severity } from '../core/vocabulary.js';
import { permitted } from '../policy/action.js';
import { type Consent, consent, type Words } from '../policy/consent.js';
import type { BoundRule } from './rulebook.js';

export interface Due {
  readonly bound: BoundRule;
  readonly action: Action;
  readonly severity: Severity;
  readonly verdict: Consent;
}

interface Asked {
  readonly bound: BoundRule;
  /** As the rule names it. */
  readonly action: string;
  readonly severity: Severity;
}

/** undefined: no such action; the config check refuses its name. */
export function weigh(
  { bound, action: text, severity }: Asked,
  { hooks, auto_allow: autoAllow }: Config,
  words: (key: string) => Words,
): Due | undefined {
  const action = parseAction(text, hooks);
  if (typeof action === 'string') return undefined;
  const permission = permitted(action, bound.rule.mode, autoAllow);
  return { bound, action, severity, verdict: consent(permission, action.verb, words(keyOf({ bound, action }))) };
}

export function keyOf({ bound, action }: Pick<Due, 'bound' | 'action'>): string {
  return `${bound.rule.name} ${bound.channel.id} ${action.text}`;
}

/** The rung that asks for it. */
export function rungOf({ bound, severity }: Pick<Due, 'bound' | 'severity'>): number {
  return bound.rule.rungs.findIndex((rung) => rung.severity === severity);
}
