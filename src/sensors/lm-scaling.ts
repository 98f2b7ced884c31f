/**
 * lm-sensors' `compute`, which is written in base units (volts, degrees), applied to what the kernel writes: probe
 * scaling and limits of a channel in its canonical unit.
 */
import type { Limits } from '../core/channel.js';
import type { FeatureConf } from '../core/ports.js';

export interface Units {
  /** Canonical units per unit that the kernel writes: 0.001 for µW → mW. */
  readonly perRaw: number;
  /** Canonical units per unit of lm-sensors: 1000 for V → mV. */
  readonly perBase: number;
}

export interface Scaling {
  readonly multiplier: number;
  readonly offset: number;
}

export function scalingOf({ perRaw, perBase }: Units, compute: FeatureConf['compute']): Scaling {
  if (compute === undefined) return { multiplier: perRaw, offset: 0 };
  return { multiplier: compute.multiplier * perRaw, offset: compute.offset * perBase };
}

/** Raw limits to canonical ones. A scaling that turns the sign (a negative supply) turns upper limits into lower ones. */
export function scaledLimits(raw: Limits, { multiplier, offset }: Scaling): Limits {
  const entries = Object.entries(multiplier < 0 ? mirrored(raw) : raw);
  return Object.fromEntries(entries.map(([name, value]) => [name, Math.round(value * multiplier + offset)]));
}

function mirrored({ min, max, lowCritical, critical }: Limits): Limits {
  return {
    ...(max === undefined ? {} : { min: max }),
    ...(min === undefined ? {} : { max: min }),
    ...(critical === undefined ? {} : { lowCritical: critical }),
    ...(lowCritical === undefined ? {} : { critical: lowCritical }),
  };
}
