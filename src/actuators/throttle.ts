/**
 * `throttle_N`: N % off the pre-lease limit of the device that is hot. A hot CPU is capped by frequency (cpufreq policies, or
 * intel_pstate where there are none) and by its power limit, wherever the allow-list names them; a hot GPU by its power limit, it and
 * no other.
 */
import { gpuTarget } from '../config/compile.js';
import type { Channel } from '../core/channel.js';
import type { ActuatorTarget } from '../core/ports.js';
import { type Built, type EffectContext, type EffectKind, targetsOf } from './effect.js';

const PPM_PER_PERCENT = 10_000;

export const throttle: EffectKind = {
  build({ action, channel, targets }: EffectContext): Built {
    const capPpm = (100 - (action.amount ?? 0)) * PPM_PER_PERCENT;
    if (channel.class === 'gpu') return throttledGpu(channel, targets, capPpm);
    const found = targetsOf(targets, 'cpufreq', 'intel_pstate', 'rapl');
    if (found.length === 0)
      return { unavailable: 'the allow-list names no CPU frequency or power limit of this machine' };
    return { effects: found.map(({ target }) => ({ target, capPpm })) };
  },
};

function throttledGpu({ probe }: Channel, targets: readonly ActuatorTarget[], capPpm: number): Built {
  if (probe.kind !== 'gpu') return { unavailable: 'it is not known which GPU this channel is of' };
  const target = gpuTarget(probe.address);
  const isListed = targets.some((each) => each.target === target);
  return isListed
    ? { effects: [{ target, capPpm }] }
    : { unavailable: `the allow-list does not name the GPU ${probe.address}` };
}
