/**
 * Channels: one quantity of one device, with an id that is stable across reboots.
 *
 * An id is `source/device/name`; each segment is escaped so that it can also be an MQTT topic level, a NATS token and
 * a file name. The raw label travels beside it, never inside it.
 */
import { createHash } from 'node:crypto';
import { QUANTITIES, type Quantity, toBase } from './units.js';

export const DEVICE_CLASSES = ['cpu', 'gpu', 'memory', 'board', 'disk', 'network', 'other'] as const;
export type DeviceClass = (typeof DEVICE_CLASSES)[number];

export const QUALITIES = ['ok', 'no_data', 'stale', 'fault', 'hung'] as const;
/** In the order of native/sampler/reading.h: the index is what the sampler's quality byte holds. */
export type Quality = (typeof QUALITIES)[number];

/** Limits that the device itself states, in the canonical unit of the channel's quantity. */
export interface Limits {
  readonly min?: number;
  readonly lowCritical?: number;
  readonly max?: number;
  readonly critical?: number;
  readonly emergency?: number;
}

export type Probe = FileProbe | GpuProbe | PushedProbe;

/**
 * How the native sampler of the agent reads a value. Paths are absolute (root already applied).
 * The raw integer (or decimal) is read, then value = round(raw × multiplier + offset), in the canonical unit.
 */
export type FileProbe = FileProbeKind & {
  /** Default 1. */
  readonly multiplier?: number;
  /** Default 0, in the canonical unit. */
  readonly offset?: number;
  /** Turn a growing counter into a rate: (value − previous) per second; no_data at the first read or when it fell. */
  readonly perSecond?: boolean;
  /** `*_fault` file read together with the value: 1 makes the quality `fault`. */
  readonly faultPath?: string;
};
type FileProbeKind =
  /** A file that holds one decimal integer. */
  | { readonly kind: 'integer'; readonly path: string }
  /** A file that holds one integer as 0x1f. */
  | { readonly kind: 'hexadecimal'; readonly path: string }
  /** Line whose first word is `key` ('' is the first line), white-space separated column (0 is the first word); a
   * column like `avg10=0.25` yields the decimal behind '='. All fields of one path in one domain share one read. */
  | { readonly kind: 'field'; readonly path: string; readonly key: string; readonly column: number }
  /** Busy share of a `cpu…` line of /proc/stat since the previous sample, in parts per million. */
  | { readonly kind: 'cpu_busy'; readonly path: string; readonly key: string }
  /** statvfs of a mount point. Used shares are of what an unprivileged user can use, as df counts. */
  | { readonly kind: 'statvfs'; readonly path: string; readonly field: StatvfsField }
  /** A file that holds a word or few ("Not charging"), perhaps behind a number ("4: ACTIVE"): the value is the text's index in
   * `words`, compared without regard to case; any other text is a fault. */
  | { readonly kind: 'word'; readonly path: string; readonly words: readonly string[] };

/** Read by skos-gpu, which puts it into a shared region: channel `index` of the GPU at this PCI address. */
export interface GpuProbe {
  readonly kind: 'gpu';
  readonly address: string;
  readonly index: number;
}

/** Made in the agent: derived from other channels, or told by another program. `feed` says by whom. */
export interface PushedProbe {
  readonly kind: 'pushed';
  readonly feed: string;
  /** PCI address of the GPU that it is of, where it is of one. */
  readonly address?: string;
}

/** The file that a channel is read from; undefined where another program reads it, or nobody. */
export function fileOf({ probe }: Pick<Channel, 'probe'>): string | undefined {
  return probe.kind === 'gpu' || probe.kind === 'pushed' ? undefined : probe.path;
}

/** `feed` of the channels that the agent computes from others (sensors/derived.ts). */
export const DERIVED_FEED = 'derived';

/** Computed from other channels: without a value by nature at times, and no reading of the device itself. */
export function isDerived({ probe }: Pick<Channel, 'probe'>): boolean {
  return probe.kind === 'pushed' && probe.feed === DERIVED_FEED;
}

/** What the names of derived channels end with. */
export const DERIVED_SUFFIXES = [
  '_power',
  '_slope',
  '_time_to_limit',
  '_imbalance',
  '_share',
  '_forecast',
  '_thermal_share',
  '_hardware_share',
  '_stopped',
  '_blind',
] as const;
export type DerivedSuffix = (typeof DERIVED_SUFFIXES)[number];

/**
 * How hot something is: what "the temperature of a GPU" means to a rule on a class and in a heartbeat. Neither what is derived of
 * one nor a GPU's margin (NVML's T.Limit), which is degrees too, but falls as the heat rises.
 */
export function isTemperature(channel: Pick<Channel, 'probe' | 'quantity' | 'name'>): boolean {
  return channel.quantity === 'temperatureMilliCelsius' && channel.name !== 'margin' && !isDerived(channel);
}

/** A counter turned into a rate, whose first reading is no_data by nature. */
export function isRate({ probe }: Pick<Channel, 'probe'>): boolean {
  if (probe.kind === 'gpu' || probe.kind === 'pushed') return false;
  return probe.kind === 'cpu_busy' || probe.perSecond === true;
}

export const STATVFS_FIELDS = ['total_bytes', 'available_bytes', 'used_ppm', 'inodes_used_ppm'] as const;
export type StatvfsField = (typeof STATVFS_FIELDS)[number];

export interface Channel {
  readonly id: string;
  readonly source: string;
  /** Escaped device segment of the id. */
  readonly device: string;
  /** Escaped name segment of the id. */
  readonly name: string;
  /** As the device or the operator's sensors.conf says it, any characters. */
  readonly label: string;
  readonly quantity: Quantity;
  readonly class: DeviceClass;
  readonly limits: Limits;
  readonly probe: Probe;
  /** 0.1–1000. */
  readonly rateHz: number;
  /** The driver whose hang takes this channel with it, and no other. */
  readonly domain: string;
  /** The file or call it comes from, relative to its root, for people. */
  readonly path: string;
  /** Set for the sensors that the default thermal table binds to. */
  readonly thermalDefault?: boolean;
}

/** One reading. Only `ok` carries a value; value is null otherwise. */
export interface Reading {
  readonly value: number | null;
  readonly quality: Quality;
  /** Clock.monotonicMs of the read. */
  readonly atMs: number;
}

/** The shape of a channel in the JSON of CLI, API and MQTT alike. */
export interface ChannelJson {
  readonly id: string;
  readonly source: string;
  readonly device: string;
  readonly name: string;
  readonly label: string;
  readonly class: DeviceClass;
  readonly quantity: string;
  readonly unit: string;
  readonly value: number | null;
  readonly quality: Quality;
  readonly limits: Readonly<Record<string, number>>;
  readonly path: string;
  readonly timestamp: string;
}

const MAX_SEGMENT_LENGTH = 64; // A topic level that still reads well.
const TRUNCATED_LENGTH = 55; // Leaves room for "~" and 8 hex digits.

/** Lower-cases and escapes one segment: `[a-z0-9_-]` stays, any other byte of the UTF-8 form becomes `~hh`. */
export function segment(raw: string): string {
  let escaped = '';
  for (const byte of Buffer.from(raw.toLowerCase(), 'utf8')) {
    const character = String.fromCharCode(byte);
    escaped += /[a-z0-9_-]/.test(character) ? character : `~${byte.toString(16).padStart(2, '0')}`;
  }
  // MQTT allows an empty level, but a name that cannot be seen helps nobody.
  if (escaped === '') return '~';
  if (escaped.length <= MAX_SEGMENT_LENGTH) return escaped;
  const digest = createHash('sha256').update(escaped).digest('hex').slice(0, 8);
  return `${escaped.slice(0, TRUNCATED_LENGTH)}~${digest}`;
}

export function channelId(source: string, device: string, name: string): string {
  return `${segment(source)}/${segment(device)}/${segment(name)}`;
}

/** `wallMs` is the wall time of the reading. */
export function channelJson(channel: Channel, reading: Reading, wallMs: number): ChannelJson {
  const limits: Record<string, number> = {};
  for (const [name, value] of Object.entries(channel.limits)) limits[name] = toBase(channel.quantity, value);
  const { quantity, unit } = QUANTITIES[channel.quantity];
  return {
    id: channel.id,
    source: channel.source,
    device: channel.device,
    name: channel.name,
    label: channel.label,
    class: channel.class,
    quantity,
    unit,
    value: reading.value === null ? null : toBase(channel.quantity, reading.value),
    quality: reading.quality,
    limits,
    path: channel.path,
    timestamp: new Date(wallMs).toISOString(),
  };
}
