/** Which kind of effect serves which action. An action without one is recorded as unavailable, never silently dropped. */
import type { Verb } from '../core/action-names.js';
import type { Built, EffectContext, EffectKind } from './effect.js';
import { freeze } from './freeze.js';
import { limit } from './limit.js';
import { throttle } from './throttle.js';

const KINDS: Partial<Record<Verb, EffectKind>> = { throttle, limit, freeze };

export function buildEffects(context: EffectContext): Built {
  const kind = KINDS[context.action.verb];
  return kind === undefined
    ? { unavailable: `${context.action.verb} has no target on this node` }
    : kind.build(context);
}
