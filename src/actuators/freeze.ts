/** `freeze@NAME`: stops every process of a listed cgroup in place; releasing lets them go on where they were. */
import type { Built, EffectContext, EffectKind } from './effect.js';

export const freeze: EffectKind = {
  build({ action, targets }: EffectContext): Built {
    const target = `freeze/${action.target}`;
    if (!targets.some((each) => each.target === target))
      return { unavailable: `the allow-list does not name ${target}` };
    return { effects: [{ target, capPpm: 0 }] };
  },
};
