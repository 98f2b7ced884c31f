/** `fans_full`: every fan that the allow-list names turns at full speed; releasing gives each the control back that it had. */
import { type Built, type EffectContext, type EffectKind, targetsOf } from './effect.js';

export const fans: EffectKind = {
  build({ targets }: EffectContext): Built {
    const found = targetsOf(targets, 'fan');
    if (found.length === 0) return { unavailable: 'the allow-list names no fan of this machine' };
    return { effects: found.map(({ target }) => ({ target, capPpm: 0 })) };
  },
};
