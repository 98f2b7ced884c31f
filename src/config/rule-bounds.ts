/**
 * An operator's own rule and one channel: whether it watches it, and its bounds in the channel's canonical unit. Shared by the antibody
 * that evaluates the rule and by the standing order that is compiled from it.
 *
 * People write °C, watts and volts as they are, and shares (CPU usage, memory, file systems) in percent.
 */
import { type Channel, DERIVED_SUFFIXES, isDerived, isTemperature } from '../core/channel.js';
import { globMatches } from '../core/glob.js';
import { fromBase, PPM_PER_PERCENT, type Quantity } from '../core/units.js';
import type { RuleConfig } from './schema.js';
import type { Bounds } from './thermal-bounds.js';

/** °C, or points of a share, from the raise bound down to a clear bound that is not written. */
const DEFAULT_HYSTERESIS = 5;
/** For quantities where "5" means nothing (1.2 V, 3000 RPM): 5 % of the raise bound. */
const DEFAULT_HYSTERESIS_SHARE = 0.05;

export function ruleBounds(rule: Pick<RuleConfig, 'raise' | 'clear'>, quantity: Quantity): Bounds {
  const raise = canonical(quantity, rule.raise);
  const clear = canonical(quantity, rule.clear ?? rule.raise - defaultHysteresis(quantity, rule.raise));
  // Two written values may round to one canonical integer; the clear bound stays strictly inside all the same.
  return { raise, clear: Math.min(clear, raise - 1) };
}

function defaultHysteresis(quantity: Quantity, raise: number): number {
  const inPoints = quantity === 'temperatureMilliCelsius' || quantity === 'ratioPartsPerMillion';
  return inPoints ? DEFAULT_HYSTERESIS : Math.abs(raise) * DEFAULT_HYSTERESIS_SHARE;
}

function canonical(quantity: Quantity, written: number): number {
  return quantity === 'ratioPartsPerMillion' ? Math.round(written * PPM_PER_PERCENT) : fromBase(quantity, written);
}

/**
 * A class stands for its temperatures; a glob for whatever it matches, of what is derived only where it says so by its end: who
 * writes `temp*` with 80 °C means neither 80 °C/s nor 80 s.
 */
export function watches(rule: Pick<RuleConfig, 'channel' | 'class'>, channel: Channel): boolean {
  const { channel: glob } = rule;
  if (glob !== undefined) return globMatches(glob, channel.id) && (!isDerived(channel) || meansDerived(glob, channel));
  return rule.class === channel.class && isTemperature(channel);
}

function meansDerived(glob: string, { name }: Channel): boolean {
  return DERIVED_SUFFIXES.some((suffix) => name.endsWith(suffix) && glob.endsWith(suffix));
}
