/** `limit_N@NAME`: the CPU quota of a listed cgroup, N % of one CPU as systemd's CPUQuota= counts. */
import { PPM_PER_PERCENT } from '../core/units.js';
import type { Built, EffectContext, EffectKind } from './effect.js';

export const limit: EffectKind = {
  build({ action, targets }: EffectContext): Built {
    const target = `quota/${action.target}`;
    if (!targets.some((each) => each.target === target))
      return { unavailable: `the allow-list does not name ${target}` };
    return { effects: [{ target, capPpm: (action.amount ?? 0) * PPM_PER_PERCENT }] };
  },
};
