/**
 * Thermal zones of the kernel: /sys/class/thermal/thermal_zone*.
 *
 * A zone's id is its type with the device path behind it where there is one, else its ordinal among the zones of that
 * type: the number in thermal_zoneN is counted anew at every boot.
 * Source: Documentation/ABI/testing/sysfs-class-thermal.
 */
import type { Channel, DeviceClass, Limits } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import { whyNone } from './absence.js';
import { chipName } from './chip-name.js';
import { stableDeviceName } from './device-path.js';
import { scaledLimits, scalingOf } from './lm-scaling.js';
import { makeChannel, scaling } from './make-channel.js';

const SOURCE = 'thermal_zone';
/** The kernel allowed 12 for long; no zone of today has more than a few dozen. */
const MAX_TRIP_POINTS = 64;
const MILLI_CELSIUS = { perRaw: 1, perBase: 1000 };

/** In this order: the first that fits. */
const CLASSES: readonly (readonly [RegExp, DeviceClass])[] = [
  [/^gpu|[-_]gpu/i, 'gpu'],
  [/^(x86_pkg_temp|acpitz|TCPU.*|B0D4|cpu.*|.*[-_]cpu.*|soc[-_]thermal|.*[-_]soc[-_]thermal)$/i, 'cpu'],
  [/^(nvme|drivetemp)/i, 'disk'],
  [/^(iwlwifi|mt7|ath1|mlx|wlan|eth)/i, 'network'],
  [/^(mem|ddr|dram|TMEM)/i, 'memory'],
];

/** What the default thermal table binds to. discover.ts adds acpitz where there is nothing better. */
const THERMAL_DEFAULT = /^(x86_pkg_temp|cpu.*[-_]thermal|soc[-_]thermal)$/;

export interface Zone {
  readonly directory: string;
  /** Resolved directory. */
  readonly real: string;
  readonly type: string;
}

export const thermalZones: Source = {
  name: SOURCE,

  async discover(context: SourceContext): Promise<Channel[]> {
    const { sysfs, report } = context;
    const zones: Zone[] = [];
    for (const directory of await zoneDirectories(sysfs)) {
      const zone = await readZone(sysfs, directory);
      if (typeof zone === 'string') report.skipped(directory, zone);
      else zones.push(zone);
    }
    if (zones.length === 0) {
      report.skipped('thermal zones', `none in ${sysfs.absolute('class/thermal')}: ${await whyNone(context)}`);
    }
    const ordinals = new Map<string, number>();
    const channels: Channel[] = [];
    for (const zone of zones) {
      const ordinal = ordinals.get(zone.type) ?? 0;
      ordinals.set(zone.type, ordinal + 1);
      const channel = await zoneChannel(context, { zone, ordinal });
      if (channel !== undefined) channels.push(channel);
    }
    return channels;
  },
};

/** Zones that can be read; hwmon needs to know which of its chips only repeat one. */
export async function readableZones(sysfs: Tree): Promise<Zone[]> {
  const zones = await Promise.all((await zoneDirectories(sysfs)).map((directory) => readZone(sysfs, directory)));
  return zones.filter((zone) => typeof zone !== 'string');
}

async function zoneDirectories(sysfs: Tree): Promise<string[]> {
  const names = await sysfs.list('class/thermal', /^thermal_zone\d+$/);
  return names.map((name) => `class/thermal/${name}`);
}

async function readZone(sysfs: Tree, directory: string): Promise<Zone | string> {
  const real = await sysfs.resolve(directory);
  if (real === undefined) return 'a dangling link: the zone is going away';
  const type = await sysfs.text(`${real}/type`);
  if (type === undefined || type === '') return 'no type file: the zone is going away';
  if (!(await sysfs.exists(`${real}/temp`))) return `${type}: no temp file`;
  return { directory, real, type };
}

async function zoneChannel(
  { sysfs, sensorsConf, rateHz, report }: SourceContext,
  { zone: { directory, real, type }, ordinal }: { zone: Zone; ordinal: number },
): Promise<Channel | undefined> {
  const device = await sysfs.resolve(`${real}/device`);
  // The hwmon chip that the kernel makes of the zones of one type, under which lm-sensors knows them.
  const chip = await chipName(sysfs, type.replaceAll('-', '_'), device);
  const conf = sensorsConf.feature(chip, `temp${ordinal + 1}`);
  if (conf.ignored) {
    report.skipped(directory, `${type}: ignored by lm-sensors' configuration`);
    return undefined;
  }
  if (conf.notComputed !== undefined) report.skipped(`compute of ${directory}`, `shown raw: ${conf.notComputed}`);
  const scale = scalingOf(MILLI_CELSIUS, conf.compute);
  const path = `${real}/temp`;
  return makeChannel({
    source: SOURCE,
    device: type,
    name: device === undefined ? String(ordinal) : await stableDeviceName(sysfs, device),
    label: conf.label ?? type,
    quantity: 'temperatureMilliCelsius',
    class: CLASSES.find(([pattern]) => pattern.test(type))?.[1] ?? 'board',
    limits: scaledLimits(await tripPoints(sysfs, real), scale),
    probe: { kind: 'integer', path: sysfs.absolute(path), ...scaling(scale) },
    rateHz,
    domain: `${SOURCE}-${type}`,
    path,
    thermalDefault: THERMAL_DEFAULT.test(type),
  });
}

/**
 * `critical` shuts the machine down, `hot` is the last warning before or beside it, `passive` is where the kernel begins
 * to throttle. Trips that are switched off read 0 or −274000 (THERMAL_TEMP_INVALID).
 */
async function tripPoints(sysfs: Tree, zone: string): Promise<Limits> {
  const lowest = new Map<string, number>();
  const types = await sysfs.list(zone, /^trip_point_\d+_type$/);
  for (const file of types.slice(0, MAX_TRIP_POINTS)) {
    if (sysfs.stuck.some((path) => path.startsWith(`${zone}/`))) break;
    const type = await sysfs.text(`${zone}/${file}`);
    const temperature = await sysfs.integer(`${zone}/${file.replace(/type$/, 'temp')}`);
    if (type === undefined || temperature === undefined || temperature <= 0) continue;
    lowest.set(type, Math.min(temperature, lowest.get(type) ?? Infinity));
  }
  const critical = lowest.get('critical');
  const hot = lowest.get('hot');
  const isBeyond = hot !== undefined && critical !== undefined && hot > critical;
  const max = isBeyond ? lowest.get('passive') : (hot ?? lowest.get('passive'));
  return {
    ...(max === undefined ? {} : { max }),
    ...(critical === undefined ? {} : { critical }),
    ...(isBeyond ? { emergency: hot } : {}),
  };
}
