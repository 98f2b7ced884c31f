/**
 * Sensor chips of the kernel: /sys/class/hwmon/hwmon*.
 *
 * hwmonN is counted anew at every boot, so that a chip is named by its own name and the place of the device behind it;
 * equal chips at one place by their order. Files are addressed below the device's own directory, where a number that
 * moved to another chip cannot be mistaken for this one. A chip that only repeats a thermal zone is left to the zone.
 * Names and units of the attributes: Documentation/hwmon/sysfs-interface.rst.
 */
import type { Channel, DeviceClass, Limits } from '../core/channel.js';
import type { ChipName, FeatureConf, Source, SourceContext } from '../core/ports.js';
import type { Quantity } from '../core/units.js';
import { whyNone } from './absence.js';
import { chipName } from './chip-name.js';
import { stableDeviceName } from './device-path.js';
import { scaledLimits, scalingOf, type Units } from './lm-scaling.js';
import { makeChannel, scaling } from './make-channel.js';
import { readableZones, type Zone } from './thermal-zone.js';

const SOURCE = 'hwmon';
/** Voltages, fans, power and flags: for people and slow rules. Reading them costs an I²C transfer on some boards. */
const SLOW_RATE_HZ = 1;

const ATTRIBUTE = /^(temp|fan|power|in|curr|energy|humidity|freq|pwm|intrusion)(\d+)(?:_([a-z_]+))?$/;

interface Kind extends Units {
  readonly quantity: Quantity;
  /** Items that hold a value; '' is the file without an item. The first that exists gives the channel its name. */
  readonly values: readonly string[];
  /** Limit and the items that may state it, the better one first. */
  readonly limits: Readonly<Partial<Record<keyof Limits, readonly string[]>>>;
}

const FULL_LIMITS = { min: ['min'], lowCritical: ['lcrit'], max: ['max'], critical: ['crit'] };

const KINDS: Readonly<Record<string, Kind>> = {
  temp: {
    quantity: 'temperatureMilliCelsius',
    perRaw: 1,
    perBase: 1000,
    values: ['input', 'average'],
    limits: { ...FULL_LIMITS, emergency: ['emergency'] },
  },
  in: {
    quantity: 'voltageMilliVolts',
    perRaw: 1,
    perBase: 1000,
    values: ['input', 'average'],
    limits: FULL_LIMITS,
  },
  curr: {
    quantity: 'currentMilliAmps',
    perRaw: 1,
    perBase: 1000,
    values: ['input', 'average'],
    limits: FULL_LIMITS,
  },
  power: {
    quantity: 'powerMilliWatts',
    perRaw: 0.001,
    perBase: 1000,
    values: ['input', 'average'],
    limits: { min: ['min'], max: ['max', 'cap'], critical: ['crit'] },
  },
  energy: { quantity: 'energyMilliJoules', perRaw: 0.001, perBase: 1000, values: ['input'], limits: {} },
  fan: { quantity: 'fanRpm', perRaw: 1, perBase: 1, values: ['input'], limits: { min: ['min'], max: ['max'] } },
  // Written in thousandths of a percent; lm-sensors counts in percent.
  humidity: {
    quantity: 'ratioPartsPerMillion',
    perRaw: 10,
    perBase: 10_000,
    values: ['input'],
    limits: { min: ['min'], max: ['max'] },
  },
  freq: { quantity: 'frequencyHertz', perRaw: 1, perBase: 1, values: ['input'], limits: {} },
  pwm: { quantity: 'ratioPartsPerMillion', perRaw: 1_000_000 / 255, perBase: 1_000_000, values: [''], limits: {} },
  intrusion: { quantity: 'stateCode', perRaw: 1, perBase: 1, values: [], limits: {} },
};

/** Chips of GPUs. On the PCI bus skos-gpu reads them, so that a driver that hangs takes no one else's readings with it. */
const GPU_DRIVERS = new Set(['amdgpu', 'radeon', 'nouveau', 'i915', 'xe']);
const PCI_ADDRESS = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;

/** What the default thermal table binds to. */
const CPU_CHIPS = new Set(['coretemp', 'k10temp', 'zenpower', 'cpu_thermal']);
const GPU_CHIPS = new Set(['amdgpu']);

const CLASSES: readonly (readonly [RegExp, DeviceClass])[] = [
  [/^(coretemp|k\d+temp|zenpower|zenergy|cpu_thermal|fam15h_power|via_cputemp|amd_energy|peci_cputemp)$/, 'cpu'],
  [/^(amdgpu|radeon|nouveau|nvidia|i915|xe)$/, 'gpu'],
  [/^(jc42|spd5118|peci_dimmtemp|ee1004)$/, 'memory'],
  [/^(nvme|drivetemp)$/, 'disk'],
  [/^(iwlwifi|ath\d|mt7|mlx|bnxt|ixgbe|igb|i40e|ice|be2net|cxgb|tg3|r8169|qed|atlantic)/, 'network'],
];

/** Drivers whose unset limits read as the ends of their scale: an nvme disk says −273.15 and 65261.85 °C. */
const PLAUSIBLE_MILLI_CELSIUS = { above: -273_000, below: 1_000_000 };

interface Chip {
  /** class/hwmon/hwmonN, for people. */
  readonly directory: string;
  /** Resolved directory that holds the attributes. */
  readonly base: string;
  readonly name: string;
  /** Raw device segment of the ids. */
  readonly device: string;
  readonly domain: string;
  readonly class: DeviceClass;
  readonly lmName: ChipName;
  /** temp1 → the items that exist: '', input, label, crit … */
  readonly features: ReadonlyMap<string, ReadonlySet<string>>;
}

export const hwmon: Source = {
  name: SOURCE,

  async discover(context: SourceContext): Promise<Channel[]> {
    const { sysfs, report } = context;
    const zones = await readableZones(sysfs);
    const directories = (await sysfs.list('class/hwmon', /^hwmon\d+$/)).map((name) => `class/hwmon/${name}`);
    const found = await Promise.all(directories.map((directory) => readChip(context, directory, zones)));
    const chips = distinct(found.filter((chip) => chip !== undefined));
    if (chips.length === 0) {
      const where = sysfs.absolute('class/hwmon');
      const repeated = directories.length > 0 ? 'each chip there is passed over as stated' : await whyNone(context);
      report.skipped('hwmon chips', `none in ${where}: ${repeated}`);
    }
    const ofDomains = await Promise.all(byDomain(chips).map((each) => domainChannels(context, each)));
    const channels = new Map(ofDomains.flat());
    return chips.flatMap((chip) => channels.get(chip) ?? []);
  },
};

function byDomain(chips: readonly Chip[]): Chip[][] {
  const domains = new Map<string, Chip[]>();
  for (const chip of chips) domains.set(chip.domain, [...(domains.get(chip.domain) ?? []), chip]);
  return [...domains.values()];
}

/** One chip of a driver after the other: where one hangs, the others are not asked for their limits. */
async function domainChannels(context: SourceContext, chips: readonly Chip[]): Promise<[Chip, Channel[]][]> {
  const channels: [Chip, Channel[]][] = [];
  for (const chip of chips) {
    const isHung = () => context.sysfs.stuck.some((path) => chips.some(({ base }) => path.startsWith(`${base}/`)));
    channels.push([chip, await chipChannels(context, chip, isHung)]);
    if (isHung()) context.report.skipped(`limits of ${chip.directory}`, `${chip.name}: its driver hangs`);
  }
  return channels;
}

async function readChip(
  { sysfs, report }: SourceContext,
  directory: string,
  zones: readonly Zone[],
): Promise<Chip | undefined> {
  const real = await sysfs.resolve(directory);
  if (real === undefined) {
    report.skipped(directory, 'a dangling link: the chip is going away');
    return undefined;
  }
  const device = await sysfs.resolve(`${real}/device`);
  const driver = basename(await sysfs.resolve(`${real}/device/driver`));
  const name = (await chipOwnName(sysfs, real)) ?? driver ?? 'unnamed';
  const zone = zones.find((each) => repeats(each, { name, device }));
  if (zone !== undefined) {
    report.skipped(directory, `${name}: repeats ${zone.directory}`);
    return undefined;
  }
  if (GPU_DRIVERS.has(name) && (await isPci(sysfs, device))) {
    report.skipped(directory, `${name}: read by skos-gpu`);
    return undefined;
  }
  const { base, features } = await attributes(sysfs, real);
  if (features.size === 0) {
    report.skipped(directory, `${name}: has no sensor attributes`);
    return undefined;
  }
  const place = device === undefined ? undefined : await stableDeviceName(sysfs, device);
  const deviceName = joined(name, place);
  const deviceClass = await classOf(sysfs, { name, device });
  return {
    directory,
    base,
    name,
    device: deviceName,
    // A driver that hangs takes all its chips with it; two GPUs of one driver are two devices that hang alone.
    domain: driver === undefined || deviceClass === 'gpu' ? deviceName : driver,
    class: deviceClass,
    lmName: await chipName(sysfs, name, device),
    features,
  };
}

/** In a captured tree the device may lie anywhere; its uevent file still says that it was a PCI device. */
async function isPci(sysfs: SourceContext['sysfs'], device: string | undefined): Promise<boolean> {
  if (device === undefined) return false;
  return (
    PCI_ADDRESS.test(basename(device) ?? '') || /^PCI_SLOT_NAME=/m.test((await sysfs.text(`${device}/uevent`)) ?? '')
  );
}

/** Older drivers have it, like their attributes, in the device's directory. */
async function chipOwnName(sysfs: SourceContext['sysfs'], real: string): Promise<string | undefined> {
  return (await sysfs.text(`${real}/name`)) || (await sysfs.text(`${real}/device/name`)) || undefined;
}

/**
 * The kernel makes a hwmon chip of most thermal zones: its device is the zone. Old kernels give it none; then its name is
 * the zone's type.
 */
function repeats(zone: Zone, { name, device }: { name: string; device: string | undefined }): boolean {
  return device === undefined ? zone.type.replaceAll('-', '_') === name : zone.real === device;
}

async function attributes(sysfs: SourceContext['sysfs'], real: string): Promise<Pick<Chip, 'base' | 'features'>> {
  const own = features(await sysfs.list(real, ATTRIBUTE));
  if (own.size > 0) return { base: real, features: own };
  const base = (await sysfs.resolve(`${real}/device`)) ?? real;
  return { base, features: features(await sysfs.list(base, ATTRIBUTE)) };
}

function features(files: readonly string[]): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const file of files) {
    const [, type = '', number = '', item = ''] = ATTRIBUTE.exec(file) ?? [];
    const name = type + number;
    const items = found.get(name) ?? new Set();
    found.set(name, items.add(item));
  }
  return found;
}

/** coretemp behind coretemp.0 is coretemp-0, not coretemp-coretemp-0. */
function joined(name: string, place: string | undefined): string {
  if (place === undefined) return name;
  return place === name || place.startsWith(`${name}-`) ? place : `${name}-${place}`;
}

async function classOf(
  sysfs: SourceContext['sysfs'],
  { name, device }: { name: string; device: string | undefined },
): Promise<DeviceClass> {
  const known = CLASSES.find(([pattern]) => pattern.test(name))?.[1];
  if (known !== undefined || device === undefined) return known ?? 'board';
  if (await sysfs.exists(`${device}/net`)) return 'network';
  return (await sysfs.exists(`${device}/drm`)) ? 'gpu' : 'board';
}

/** Two equal chips behind one device: told apart by their order, in which one driver registers them at every boot. */
function distinct(chips: readonly Chip[]): Chip[] {
  const seen = new Map<string, number>();
  return chips.map((chip) => {
    const ordinal = seen.get(chip.device) ?? 0;
    seen.set(chip.device, ordinal + 1);
    return ordinal === 0 ? chip : { ...chip, device: `${chip.device}-${ordinal}` };
  });
}

async function chipChannels(context: SourceContext, chip: Chip, isHung: () => boolean): Promise<Channel[]> {
  const { sysfs, sensorsConf, report } = context;
  const labels = new Map<string, string>();
  for (const [feature, items] of chip.features) {
    const label = items.has('label') ? await sysfs.text(`${chip.base}/${feature}_label`) : undefined;
    labels.set(feature, label || feature);
  }
  const isDefault = defaultBinding(chip, [...labels.values()]);
  const channels: Channel[] = [];
  for (const [feature, items] of chip.features) {
    const conf = sensorsConf.feature(chip.lmName, feature);
    const what = `${chip.directory}/${feature}`;
    if (conf.ignored) {
      report.skipped(what, `${chip.name}: ignored by lm-sensors' configuration`);
      continue;
    }
    if (conf.notComputed !== undefined) report.skipped(`compute of ${what}`, `shown raw: ${conf.notComputed}`);
    const ownLabel = labels.get(feature) ?? feature;
    channels.push(
      ...(await featureChannels(context, {
        chip,
        feature,
        items,
        conf,
        label: conf.label ?? ownLabel,
        isHung,
        thermalDefault: feature.startsWith('temp') && isDefault(ownLabel),
      })),
    );
  }
  return channels;
}

/**
 * Which temperatures of a chip the default table binds to. A CPU package reports the hottest of its cores (Intel SDM,
 * IA32_PACKAGE_THERM_STATUS), so that its cores need no rules of their own. Tctl of AMD is the fan control's scale, up
 * to 27 °C above the die on some models; where the driver knows the die (Tdie), that counts.
 */
function defaultBinding(chip: Chip, labels: readonly string[]): (label: string) => boolean {
  if (GPU_CHIPS.has(chip.name)) return () => true;
  if (!CPU_CHIPS.has(chip.name)) return () => false;
  const isPackage = (label: string) => /^(Package|Physical) id /.test(label);
  if (chip.name === 'coretemp' && labels.some(isPackage)) return isPackage;
  if (labels.includes('Tdie')) return (label) => label !== 'Tctl';
  return () => true;
}

interface Feature {
  readonly chip: Chip;
  readonly feature: string;
  readonly items: ReadonlySet<string>;
  readonly conf: FeatureConf;
  readonly label: string;
  readonly isHung: () => boolean;
  readonly thermalDefault: boolean;
}

async function featureChannels(context: SourceContext, feature: Feature): Promise<Channel[]> {
  const kind = KINDS[/^[a-z]+/.exec(feature.feature)?.[0] ?? ''];
  if (kind === undefined) return [];
  const values = kind.values.filter((item) => feature.items.has(item));
  const limits = values.length === 0 ? {} : await statedLimits(context, feature, kind);
  const channels = values.map((item, i) => valueChannel(context, feature, { kind, item, isFirst: i === 0, limits }));
  return [...channels, ...alarmChannels(context, feature)];
}

function valueChannel(
  { sysfs, rateHz }: SourceContext,
  { chip, feature, items, conf, label, thermalDefault }: Feature,
  { kind, item, isFirst, limits }: { kind: Kind; item: string; isFirst: boolean; limits: Limits },
): Channel {
  const scale = scalingOf(kind, conf.compute);
  const path = `${chip.base}/${fileName(feature, item)}`;
  return makeChannel({
    source: SOURCE,
    device: chip.device,
    // power1 is its instantaneous value, else its average; where a chip has both, the average says so.
    name: isFirst ? feature : `${feature}_${item}`,
    label: isFirst ? label : `${label} ${item}`,
    quantity: kind.quantity,
    class: chip.class,
    limits: scaledLimits(limits, scale),
    probe: {
      kind: 'integer',
      path: sysfs.absolute(path),
      ...scaling(scale),
      ...(items.has('fault') ? { faultPath: sysfs.absolute(`${chip.base}/${feature}_fault`) } : {}),
    },
    rateHz: kind.quantity === 'temperatureMilliCelsius' ? rateHz : SLOW_RATE_HZ,
    domain: chip.domain,
    path,
    thermalDefault: thermalDefault && isFirst,
  });
}

/** Flags that the chip itself raises: temp1_alarm, or one for each limit such as temp1_crit_alarm. */
function alarmChannels({ sysfs }: SourceContext, { chip, feature, items, label }: Feature): Channel[] {
  const alarms = [...items].filter((item) => /(^|_)alarm$/.test(item));
  return alarms.map((item) => {
    const path = `${chip.base}/${fileName(feature, item)}`;
    return makeChannel({
      source: SOURCE,
      device: chip.device,
      name: `${feature}_${item}`,
      label: `${label} ${item.replaceAll('_', ' ')}`,
      quantity: 'stateCode',
      class: chip.class,
      probe: { kind: 'integer', path: sysfs.absolute(path) },
      rateHz: SLOW_RATE_HZ,
      domain: chip.domain,
      path,
    });
  });
}

async function statedLimits(
  { sysfs }: SourceContext,
  { chip, feature, items, isHung }: Feature,
  kind: Kind,
): Promise<Limits> {
  const stated: [string, number][] = [];
  for (const [limit, candidates] of Object.entries(kind.limits)) {
    const item = candidates.find((each) => items.has(each));
    if (item === undefined || isHung()) continue;
    const value = await sysfs.integer(`${chip.base}/${feature}_${item}`);
    if (value !== undefined && isPlausible(kind, value)) stated.push([limit, value]);
  }
  return Object.fromEntries(stated);
}

function isPlausible({ quantity }: Kind, value: number): boolean {
  if (quantity !== 'temperatureMilliCelsius') return true;
  return value > PLAUSIBLE_MILLI_CELSIUS.above && value < PLAUSIBLE_MILLI_CELSIUS.below;
}

function fileName(feature: string, item: string): string {
  return item === '' ? feature : `${feature}_${item}`;
}

function basename(path: string | undefined): string | undefined {
  return path?.slice(path.lastIndexOf('/') + 1);
}
