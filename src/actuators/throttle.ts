/**
 * `throttle_N`: N % off the pre-lease limit of the device that is hot. A hot CPU is capped by frequency (cpufreq policies, or
 * intel_pstate where there are none) and by its power limit, wherever the allow-list names them.
 */
import { type Built, type EffectContext, type EffectKind, targetsOf } from './effect.js';

const PPM_PER_PERCENT = 10_000;

export const throttle: EffectKind = {
  build({ action, channel, targets }: EffectContext): Built {
    if (channel.class === 'gpu') return { unavailable: 'no GPU target is known to the actuator' };
    const found = targetsOf(targets, 'cpufreq', 'intel_pstate', 'rapl');
    if (found.length === 0)
      return { unavailable: 'the allow-list names no CPU frequency or power limit of this machine' };
    const capPpm = (100 - (action.amount ?? 0)) * PPM_PER_PERCENT;
    return { effects: found.map(({ target }) => ({ target, capPpm })) };
  },
};
