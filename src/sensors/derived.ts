/**
 * Derived channels: what policies ask for and no device says. This file decides which there are and from what each is made; the
 * formulas are in policy/ (slope, time-to-limit, mean-power, throttled-share, fill-forecast), derived-sampler.ts computes them once a second.
 *
 *   suffix           of                                                     formula
 *   _power           an energy counter whose device has no power channel    ΔE ÷ Δt over ≥ 1 s
 *   _slope           temperatures of the thermal table and of GPUs          median of pairwise slopes over 10 s
 *   _time_to_limit   the same                                               (limit − value) ÷ slope, while it rises
 *   _imbalance       `temperature` and `power` of ≥ 3 GPUs of one source    value − median over these GPUs
 *   _forecast        `used` of file systems                                 value in 4 h at the rate of the last hour
 *   _share           `throttle_reasons`, and counters of throttled time     share of the last 60 s
 *
 *   _thermal_share   `throttle_reasons` of GPUs                             share of the last 60 s with a thermal reason
 *   _hardware_share  the same                                               with one of the hardware's own
 *   _stopped         fans                                                   1: stands still though it should turn
 *   _blind           `temperature` of GPUs                                  time since it was read, if it was under load
 *
 * A derived channel stands with the device it is of (same source and device) and has its class.
 */
import { statedCriticalCelsius, TABLE_CELSIUS } from '../config/thermal-bounds.js';
import { type Channel, DERIVED_FEED, type DerivedSuffix, isDerived, isTemperature } from '../core/channel.js';
import { fromBase, type Quantity } from '../core/units.js';
import { ASKED_DUTY_PPM, ASKED_MILLI_CELSIUS } from '../policy/fan-stopped.js';
import { FORECAST_HOURS } from '../policy/fill-forecast.js';
import type { Bits } from '../policy/throttled-share.js';
import { makeChannel } from './make-channel.js';

/** What is derived changes over seconds; the ladder of a rule on it needs no more. */
export const DERIVED_RATE_HZ = 1;
/** A slope needs a point a second. */
const MIN_SLOPE_RATE_HZ = 1;
/** Fewer have no median that one of them could deviate from. */
export const MIN_BALANCED_GPUS = 3;
/** As many again as a quarter of what discovery lists: a machine of some hundred sensors has all of them. */
export const MAX_DERIVED = 1_024;

/**
 * Reasons of NVML that are no throttling: GPU idle 0x1, applications clocks setting 0x2, sync boost 0x10, display clock
 * setting 0x100. Source: nvml.h, nvmlClocksEventReason*.
 */
const NVML_HARMLESS_REASONS = 0x1 | 0x2 | 0x10 | 0x100;
/** Sources whose GPUs are compared with each other. */
const GPU_SOURCES = ['nvml', 'amdgpu'];
const BALANCED = ['temperature', 'power'];

/** Of a segment of an id, as core/channel.ts bounds it. */
const MAX_NAME_LENGTH = 64;

export type Formula =
  | { readonly kind: 'power' }
  | { readonly kind: 'slope' }
  | { readonly kind: 'time_to_limit'; readonly limitMilliCelsius: number }
  | { readonly kind: 'imbalance' }
  | { readonly kind: 'flag_share'; readonly ignored: number }
  | { readonly kind: 'reason_share'; readonly bits: Bits }
  | { readonly kind: 'fan_stopped'; readonly askedFrom: number }
  | { readonly kind: 'blind' }
  | { readonly kind: 'counter_share' }
  | { readonly kind: 'forecast' };

export interface Derivation {
  readonly channel: Channel;
  readonly formula: Formula;
  /** Id of the channel that it is of. */
  readonly base: string;
  /** Of an imbalance: ids of all GPUs' channels, its own among them. Of a fan: what asks it to turn. Of a GPU: its utilization. */
  readonly peers: readonly string[];
}

/** What can be derived from these channels; derived ones among them are passed over. */
export function derivationsOf(channels: readonly Channel[]): Derivation[] {
  const base = channels.filter((channel) => !isDerived(channel));
  const powered = new Set(base.filter(isPower).map(deviceOf));
  const balanced = balancedGpus(base);
  const taken = new Set(base.map(({ id }) => id));
  const found = base.flatMap((channel) => [
    ...(channel.quantity === 'energyMilliJoules' && !powered.has(deviceOf(channel)) ? [power(channel)] : []),
    ...(isRising(channel) ? [slope(channel), timeToLimit(channel)] : []),
    ...imbalance(channel, balanced),
    ...share(channel),
    ...throttleShares(channel),
    ...fanStopped(channel, base),
    ...blind(channel, base),
    ...(isFilling(channel) ? [forecast(channel)] : []),
  ]);
  // A device may have a channel of such a name itself.
  const unique = found.filter(({ channel: { id } }) => !taken.has(id) && taken.add(id));
  return unique.slice(0, MAX_DERIVED);
}

/** The channels as discovered, and behind them what is derived from them. */
export function withDerived(channels: readonly Channel[]): Channel[] {
  return [...channels, ...derivationsOf(channels).map(({ channel }) => channel)];
}

function deviceOf({ source, device }: Channel): string {
  return `${source}/${device}`;
}

/** A limit of power is no measurement of it. */
function isPower({ quantity, name }: Channel): boolean {
  return quantity === 'powerMilliWatts' && !name.startsWith('power_limit');
}

function isRising(channel: Channel): boolean {
  if (!isTemperature(channel) || channel.rateHz < MIN_SLOPE_RATE_HZ) return false;
  return channel.thermalDefault === true || channel.class === 'gpu';
}

function derived(
  base: Channel,
  given: { suffix: DerivedSuffix; words: string; quantity: Quantity; path: string; formula: Formula; peers?: string[] },
): Derivation {
  const channel = makeChannel({
    source: base.source,
    device: '',
    name: '',
    label: `${base.label} ${given.words}`,
    quantity: given.quantity,
    class: base.class,
    probe: {
      kind: 'pushed',
      feed: DERIVED_FEED,
      ...(base.probe.kind === 'gpu' ? { address: base.probe.address } : {}),
    },
    rateHz: DERIVED_RATE_HZ,
    domain: DERIVED_FEED,
    path: given.path,
  });
  // The segments of the base are escaped already; only a very long name has no room for the suffix.
  const name = `${base.name.slice(0, MAX_NAME_LENGTH - given.suffix.length)}${given.suffix}`;
  const id = `${base.id.slice(0, base.id.lastIndexOf('/'))}/${name}`;
  return {
    channel: { ...channel, id, device: base.device, name },
    formula: given.formula,
    base: base.id,
    peers: given.peers ?? [],
  };
}

function isFilling({ probe }: Channel): boolean {
  return probe.kind === 'statvfs' && probe.field === 'used_ppm';
}

function forecast(base: Channel): Derivation {
  return derived(base, {
    suffix: '_forecast',
    words: `in ${FORECAST_HOURS} h`,
    quantity: 'ratioPartsPerMillion',
    path: `${base.name} + ${FORECAST_HOURS} h × its rate of the last hour`,
    formula: { kind: 'forecast' },
  });
}

function power(base: Channel): Derivation {
  return derived(base, {
    suffix: '_power',
    words: 'power',
    quantity: 'powerMilliWatts',
    path: `Δ${base.name} ÷ Δt over ≥ 1 s`,
    formula: { kind: 'power' },
  });
}

function slope(base: Channel): Derivation {
  return derived(base, {
    suffix: '_slope',
    words: 'rate of rise',
    quantity: 'temperatureRateMilliCelsiusPerSecond',
    path: `median of pairwise slopes of ${base.name} over 10 s`,
    formula: { kind: 'slope' },
  });
}

function timeToLimit(base: Channel): Derivation {
  const limitMilliCelsius = fromBase('temperatureMilliCelsius', limitCelsius(base));
  return derived(base, {
    suffix: '_time_to_limit',
    words: 'time to limit',
    quantity: 'durationMs',
    path: `(${limitMilliCelsius / 1000} °C − ${base.name}) ÷ ${base.name}_slope`,
    formula: { kind: 'time_to_limit', limitMilliCelsius },
  });
}

/** The device's critical limit, else its maximum, where it may be believed; else the thermal table's. */
function limitCelsius(base: Channel): number {
  const { max } = base.limits;
  const stated = statedCriticalCelsius(base);
  if (stated !== undefined) return stated;
  return (
    (max === undefined ? undefined : statedCriticalCelsius({ limits: { critical: max } })) ?? TABLE_CELSIUS.critical
  );
}

/** "source name" → ids of that channel on every GPU of the source, where there are enough. */
function balancedGpus(channels: readonly Channel[]): ReadonlyMap<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const channel of channels) {
    if (!isBalanced(channel)) continue;
    const key = `${channel.source} ${channel.name}`;
    const ids = groups.get(key) ?? [];
    ids.push(channel.id);
    groups.set(key, ids);
  }
  return new Map([...groups].filter(([, ids]) => ids.length >= MIN_BALANCED_GPUS));
}

function isBalanced({ class: deviceClass, source, name, quantity }: Channel): boolean {
  const measured = quantity === 'temperatureMilliCelsius' || quantity === 'powerMilliWatts';
  return measured && deviceClass === 'gpu' && GPU_SOURCES.includes(source) && BALANCED.includes(name);
}

function imbalance(base: Channel, balanced: ReadonlyMap<string, string[]>): Derivation[] {
  const peers = isBalanced(base) ? balanced.get(`${base.source} ${base.name}`) : undefined;
  if (peers === undefined) return [];
  const given = {
    suffix: '_imbalance',
    words: 'imbalance',
    quantity: base.quantity,
    path: `${base.name} − median of ${base.name} over all GPUs of ${base.source}`,
    formula: { kind: 'imbalance' },
    peers,
  } as const;
  return [derived(base, given)];
}

/**
 * Reasons for which the GPU itself slows down. Not counted is what a limit of power or clocks asks for, be it ours or the operator's.
 * NVML (nvml.h, nvmlClocksEventReason*, nvmlClocksThrottleReason*): SW thermal slowdown 0x20; HW slowdown 0x8, HW thermal 0x40, HW power
 * brake 0x80. amdgpu's common status (amdgpu_smu.h, SMU_THROTTLER_*): temperatures from bit 32 to 45, PROCHOT 46 and 47.
 */
const THROTTLE_BITS: Readonly<Record<string, { readonly thermal: Bits; readonly hardware: Bits }>> = {
  nvml: { thermal: { low: 0x20, high: 0 }, hardware: { low: 0x8 | 0x40 | 0x80, high: 0 } },
  amdgpu: { thermal: { low: 0, high: 0x3fff }, hardware: { low: 0, high: 0xc000 } },
};

function throttleShares(base: Channel): Derivation[] {
  const bits = THROTTLE_BITS[base.source];
  if (bits === undefined || base.quantity !== 'flagsBitmask' || base.name !== 'throttle_reasons') return [];
  const one = (suffix: DerivedSuffix, words: string, wanted: Bits) =>
    derived(base, {
      suffix,
      words,
      quantity: 'ratioPartsPerMillion',
      path: `samples of ${base.name} with ${words} ÷ samples, last 60 s`,
      formula: { kind: 'reason_share', bits: wanted },
    });
  return [
    one('_thermal_share', 'a thermal slowdown', bits.thermal),
    one('_hardware_share', 'a hardware slowdown', bits.hardware),
  ];
}

/** Witnesses of heat; a package or two are enough. */
const MAX_WITNESSES = 8;

/** fan2 beside pwm2 of a chip, fan_rpm beside fan of a GPU; a fan without a duty by the heat of the CPUs. */
function fanStopped(base: Channel, channels: readonly Channel[]): Derivation[] {
  if (base.quantity !== 'fanRpm') return [];
  const control = base.name === 'fan_rpm' ? 'fan' : base.name.replace(/^fan/, 'pwm');
  const duty = channels.find(
    (each) => each.name === control && deviceOf(each) === deviceOf(base) && each.quantity === 'ratioPartsPerMillion',
  );
  if (duty === undefined && base.class === 'gpu') return [];
  const heat = channels.filter(
    (each) => each.class === 'cpu' && each.thermalDefault === true && each.quantity === 'temperatureMilliCelsius',
  );
  const peers = duty === undefined ? heat.slice(0, MAX_WITNESSES).map(({ id }) => id) : [duty.id];
  if (peers.length === 0) return [];
  return [
    derived(base, {
      suffix: '_stopped',
      words: 'stands still',
      quantity: 'stateCode',
      path: duty === undefined ? `${base.name} is 0 while a CPU is hot` : `${base.name} is 0 while ${control} is not`,
      formula: { kind: 'fan_stopped', askedFrom: duty === undefined ? ASKED_MILLI_CELSIUS : ASKED_DUTY_PPM },
      peers,
    }),
  ];
}

function blind(base: Channel, channels: readonly Channel[]): Derivation[] {
  if (base.probe.kind !== 'gpu' || base.name !== 'temperature' || !isTemperature(base)) return [];
  const load = channels.find((each) => each.name === 'utilization' && deviceOf(each) === deviceOf(base));
  if (load === undefined) return [];
  return [
    derived(base, {
      suffix: '_blind',
      words: 'not read under load',
      quantity: 'durationMs',
      path: `time since ${base.name} was read, if ${load.name} was above 10 % within the minute before`,
      formula: { kind: 'blind' },
      peers: [load.id],
    }),
  ];
}

/** throttled_power and the like of GPUs, throttle_total_time of CPUs. */
const THROTTLED_TIME = /^throttled_|^throttle_(total_)?time/;

function share(base: Channel): Derivation[] {
  const given = { suffix: '_share', words: 'share of time', quantity: 'ratioPartsPerMillion' } as const;
  if (base.quantity === 'flagsBitmask' && base.name === 'throttle_reasons') {
    const ignored = base.source === 'nvml' ? NVML_HARMLESS_REASONS : 0;
    const path = `samples of ${base.name} with ${ignored === 0 ? 'any' : 'a harmful'} bit ÷ samples, last 60 s`;
    return [derived(base, { ...given, path, formula: { kind: 'flag_share', ignored } })];
  }
  if (base.quantity !== 'durationMs' || !THROTTLED_TIME.test(base.name)) return [];
  return [derived(base, { ...given, path: `Δ${base.name} ÷ Δt, last 60 s`, formula: { kind: 'counter_share' } })];
}
