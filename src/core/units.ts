/**
 * Quantities and units: inside, every value is an integer in one canonical unit per quantity; outside, a base unit.
 *
 * The quantity's name carries the canonical unit last (temperatureMilliCelsius). Conversion to base units (celsius,
 * volts) happens only at the edges: config, CLI, MQTT, metrics. Base units follow Prometheus' naming practice.
 */

interface QuantitySpec {
  /** What people call it: the `quantity` of a channel's JSON. */
  readonly quantity: string;
  /** Base unit outside. */
  readonly unit: string;
  /** Canonical integer per base unit: 1000 for milli. */
  readonly perBase: number;
  /** Short symbol for tables. */
  readonly symbol: string;
}

/** Ratios are in parts per million inside, in percent where people write them. */
export const PPM_PER_PERCENT = 10_000;

export const QUANTITIES = {
  temperatureMilliCelsius: { quantity: 'temperature', unit: 'celsius', perBase: 1000, symbol: '°C' },
  temperatureRateMilliCelsiusPerSecond: {
    quantity: 'temperature_rate',
    unit: 'celsius_per_second',
    perBase: 1000,
    symbol: '°C/s',
  },
  voltageMilliVolts: { quantity: 'voltage', unit: 'volts', perBase: 1000, symbol: 'V' },
  currentMilliAmps: { quantity: 'current', unit: 'amperes', perBase: 1000, symbol: 'A' },
  powerMilliWatts: { quantity: 'power', unit: 'watts', perBase: 1000, symbol: 'W' },
  energyMilliJoules: { quantity: 'energy', unit: 'joules', perBase: 1000, symbol: 'J' },
  frequencyHertz: { quantity: 'frequency', unit: 'hertz', perBase: 1, symbol: 'Hz' },
  fanRpm: { quantity: 'fan', unit: 'rpm', perBase: 1, symbol: 'RPM' },
  ratioPartsPerMillion: { quantity: 'ratio', unit: 'ratio', perBase: 1_000_000, symbol: '' },
  sizeBytes: { quantity: 'size', unit: 'bytes', perBase: 1, symbol: 'B' },
  countTotal: { quantity: 'count', unit: 'total', perBase: 1, symbol: '' },
  durationMs: { quantity: 'duration', unit: 'seconds', perBase: 1000, symbol: 's' },
  rateBytesPerSecond: { quantity: 'rate', unit: 'bytes_per_second', perBase: 1, symbol: 'B/s' },
  flagsBitmask: { quantity: 'flags', unit: 'bitmask', perBase: 1, symbol: '' },
  stateCode: { quantity: 'state', unit: 'code', perBase: 1, symbol: '' },
} as const satisfies Record<string, QuantitySpec>;

export type Quantity = keyof typeof QUANTITIES;

/** Canonical integer → base unit, for the edges. */
export function toBase(quantity: Quantity, canonical: number): number {
  return canonical / QUANTITIES[quantity].perBase;
}

/** Base unit as people write it → canonical integer, rounded to nearest. */
export function fromBase(quantity: Quantity, base: number): number {
  return Math.round(base * QUANTITIES[quantity].perBase);
}
