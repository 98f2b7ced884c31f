/**
 * `throttle_N`: N % off the pre-lease limit of the device that is hot. A hot CPU is capped by frequency (cpufreq policies, or
 * intel_pstate where there are none) and by its power limit, wherever the allow-list names them; a hot GPU by its power limit, it and
 * no other, and where that is not permitted by its clocks.
 */

import { gpuClocksTarget, gpuLevelTarget, gpuTarget } from '../config/allow-targets.js';
import type { Channel } from '../core/channel.js';
import type { ActuatorTarget } from '../core/ports.js';
import { PPM_PER_PERCENT } from '../core/units.js';
import { type Built, type EffectContext, type EffectKind, targetsOf } from './effect.js';

const HALF_PPM = 500_000;
/** State of a target whose device takes no such limit from us: native/actuator/README.md. */
const NOT_PERMITTED = 'not_permitted';

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
  const address = probe.kind === 'gpu' || probe.kind === 'pushed' ? probe.address : undefined;
  if (address === undefined) return { unavailable: 'it is not known which GPU this channel is of' };
  const listed = (id: string) => targets.find(({ target }) => target === id);
  const power = listed(gpuTarget(address));
  const capped = (target: string): Built => ({ effects: [{ target, capPpm }] });
  if (power !== undefined && power.state !== NOT_PERMITTED) return capped(power.target);
  const clocks = listed(gpuClocksTarget(address));
  if (clocks !== undefined && clocks.state !== NOT_PERMITTED) return capped(clocks.target);
  const level = listed(gpuLevelTarget(address));
  // Nothing is between the lowest level and none: it stands for a cap of half or less.
  if (level !== undefined && level.state !== NOT_PERMITTED && capPpm <= HALF_PPM) return capped(level.target);
  if (power !== undefined) return capped(power.target); // Nothing is permitted: that shows in what it answers.
  return { unavailable: `the allow-list does not name the GPU ${address}` };
}
