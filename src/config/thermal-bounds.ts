/**
 * The bounds of the thermal ladder for one channel: the one place where they are computed, because thermal-sentinel and
 * the standing orders of the allow-list must never disagree.
 *
 * What the operator writes is absolute. Otherwise the margin to the limit that the device states counts, since some CPUs
 * run at 95 °C by design; a device that states none (or one that cannot be true) gets the table below.
 */
import type { Channel } from '../core/channel.js';
import { fromBase } from '../core/units.js';
import type { Severity } from '../core/vocabulary.js';
import type { ConfigFile } from './schema.js';

/** Canonical units: milli-degrees Celsius. `clear` is below `raise`. */
export interface Bounds {
  readonly raise: number;
  readonly clear: number;
}

/** °C, of a device that states no limit. Public defaults. */
export const TABLE_CELSIUS: Readonly<Record<Severity, number>> = { warning: 75, critical: 85, emergency: 95 };

/** °C below the device's stated critical limit. Public defaults. */
const MARGIN_CELSIUS: Readonly<Record<Severity, number>> = { warning: 15, critical: 8, emergency: 3 };

/** Drivers without data report 0, −128, 127.875 or 65535 °C as `crit`; no CPU or GPU means a limit outside this range. */
const PLAUSIBLE_CRITICAL_CELSIUS = { min: 60, max: 125 };

export function thermalBounds(
  config: Pick<ConfigFile, 'thermal'>,
  channel: Pick<Channel, 'limits'>,
): Readonly<Record<Severity, Bounds>> {
  const raise = raiseCelsius(config, channel);
  const { hysteresis } = config.thermal;
  return {
    warning: bounds(raise.warning, hysteresis),
    critical: bounds(raise.critical, hysteresis),
    emergency: bounds(raise.emergency, hysteresis),
  };
}

function raiseCelsius(
  config: Pick<ConfigFile, 'thermal'>,
  channel: Pick<Channel, 'limits'>,
): Readonly<Record<Severity, number>> {
  if (config.thermal.thresholds !== null) return config.thermal.thresholds;
  const critical = statedCriticalCelsius(channel);
  if (critical === undefined) return TABLE_CELSIUS;
  return {
    warning: critical - MARGIN_CELSIUS.warning,
    critical: critical - MARGIN_CELSIUS.critical,
    emergency: critical - MARGIN_CELSIUS.emergency,
  };
}

/** °C; undefined when the device states none, or one that cannot be true. */
export function statedCriticalCelsius({ limits }: Pick<Channel, 'limits'>): number | undefined {
  if (limits.critical === undefined) return undefined;
  const celsius = limits.critical / 1000;
  const plausible = celsius >= PLAUSIBLE_CRITICAL_CELSIUS.min && celsius <= PLAUSIBLE_CRITICAL_CELSIUS.max;
  return plausible ? celsius : undefined;
}

function bounds(raiseCelsius: number, hysteresisCelsius: number): Bounds {
  return {
    raise: fromBase('temperatureMilliCelsius', raiseCelsius),
    clear: fromBase('temperatureMilliCelsius', raiseCelsius - hysteresisCelsius),
  };
}
