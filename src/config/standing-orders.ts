/**
 * Standing orders: what the actuator carries out by itself, agent or not. The operator's own rules that ask for one, and the emergency
 * bound of every sensor of the thermal table while the node is armed.
 */
import { createHash } from 'node:crypto';
import { type Channel, fileOf, isTemperature } from '../core/channel.js';
import { PPM_PER_PERCENT } from '../core/units.js';
import type { CompileInput, LeftOut } from './allow-input.js';
import { FLOOR_PPM, type Target, type Targets } from './allow-targets.js';
import { ruleBounds, watches } from './rule-bounds.js';
import type { RuleConfig } from './schema.js';
import { type Bounds, thermalBounds } from './thermal-bounds.js';

/** The bounds of the format; native/actuator/README.md. */
const MAX_ORDER_TARGETS = 64;
const MAX_ID_LENGTH = 64;
/** The rule that default orders are named after. */
export const DEFAULT_ORDER_RULE = 'thermal';
/** The default order caps as throttle_50 does. */
const DEFAULT_CAP_PPM = 500_000;
const HALF_PPM = 500_000;
/** One reading may be noise, and a reflex that waits longer is none. */
const DEFAULT_SAMPLES = 2;
/** Names of channels that stand in the allow-list as skos-gpu says them; others were escaped. */
const GPU_CHANNEL = /^[a-z0-9_-]{1,64}$/;
/** PATH of the format: printable ASCII without blanks, at most 320 bytes. */
const PATH = /^[\x21-\x7e]{1,320}$/;

export interface Order {
  readonly name: string;
  readonly channel: Channel;
  readonly bounds: Bounds;
  readonly samples: number;
  readonly capPpm: number;
  readonly targets: readonly Target[];
}

/** What an order may move, by what is hot. */
type Movable = Omit<Targets, 'others'>;

/** The operator's own come first: they were asked for by name. */
export function standingOrders(input: CompileInput, movable: Movable, leftOut: LeftOut): Order[] {
  const wanted = [...ruleOrders(input, movable, leftOut), ...defaultOrders(input, movable)];
  if (movable.cpu.length === 0 && wanted.some(({ channel }) => channel.probe.kind !== 'gpu')) {
    leftOut.push('standing orders: this machine has no CPU limit that could be moved');
  }
  return wanted
    .filter((order) => order.targets.length > 0 || order.channel.probe.kind === 'gpu')
    .filter((order) => isOrderable(order, input, leftOut))
    .flatMap(split);
}

/** The emergency bound of every sensor of the thermal table, while the node is armed. Beyond what fits, single cores go first. */
function defaultOrders(input: CompileInput, movable: Movable): Order[] {
  if (input.config.mode !== 'auto') return [];
  const cpu = input.channels.filter(
    (channel) => channel.thermalDefault === true && isCpuTemperature(channel) && channel.probe.kind === 'integer',
  );
  const gpus = movable.gpus.flatMap(({ path }) => gpuSensors(input, path));
  return [...cpu.filter(isPackage), ...gpus, ...cpu.filter((channel) => !isPackage(channel))].map((channel) => ({
    name: orderNameOf(DEFAULT_ORDER_RULE, channel),
    channel,
    bounds: thermalBounds(input.config, channel).emergency,
    samples: DEFAULT_SAMPLES,
    capPpm: DEFAULT_CAP_PPM,
    targets: cooling(channel, movable, DEFAULT_CAP_PPM),
  }));
}

/**
 * A hot GPU is cooled by its own limit, everything else by the CPU's. The actuator caps the GPU's clocks only where its power limit takes
 * no cap; nothing is between amdgpu's lowest level and none, so that it stands for a cap of half or less.
 */
function cooling({ probe }: Channel, { cpu, gpus, gpuClocks }: Movable, capPpm: number): readonly Target[] {
  if (probe.kind !== 'gpu') return cpu;
  const isOwn = ({ path }: Target) => path === probe.address;
  const own = gpus.filter(isOwn);
  const second = gpuClocks.filter((target) => isOwn(target) && (target.kind !== 'amdgpu_level' || capPpm <= HALF_PPM));
  return own.length === 0 ? [] : [...own, ...second];
}

/**
 * The temperatures of one GPU as skos-gpu described them; where it did not, the one that each GPU has, whose limits nobody knows:
 * an order on a channel that is not there holds nothing.
 */
function gpuSensors({ channels }: CompileInput, address: string): readonly Channel[] {
  const known = channels.filter((channel) => isGpuSensor(channel, address));
  return known.length > 0 ? known : [undescribedGpu(address)];
}

function isGpuSensor(channel: Channel, address: string): boolean {
  const { probe } = channel;
  return channel.thermalDefault === true && isTemperature(channel) && probe.kind === 'gpu' && probe.address === address;
}

function undescribedGpu(address: string): Channel {
  return {
    id: `gpu/${address}/temperature`,
    source: 'gpu',
    device: address,
    name: 'temperature',
    label: `GPU ${address}`,
    quantity: 'temperatureMilliCelsius',
    class: 'gpu',
    limits: {},
    probe: { kind: 'gpu', address, index: 0 },
    rateHz: 10,
    domain: `gpu ${address}`,
    path: 'skos-gpu',
    thermalDefault: true,
  };
}

const UNKNOWN_LIMITS =
  "its limits were not known when this was compiled, because skos-gpu did not serve it: the table's bound stands for the margin to them";

/** For the operator, about the GPUs whose orders hold bounds that nobody could check. */
export function gpuRemarks({ config, channels }: CompileInput, kept: readonly Order[]): string[] {
  if (config.thermal.thresholds !== null) return []; // Absolute bounds need no limits.
  const ordered = kept.flatMap(({ channel: { probe, id } }) =>
    probe.kind === 'gpu' && id.startsWith('gpu/') ? [probe.address] : [],
  );
  return ordered
    .filter((address) => !channels.some((channel) => isGpuSensor(channel, address)))
    .map((address) => `${address}: ${UNKNOWN_LIMITS}`);
}

function isCpuTemperature(channel: Channel): boolean {
  return channel.class === 'cpu' && channel.quantity === 'temperatureMilliCelsius';
}

/** The hottest spot of a whole package: what must not be left out where there are more cores than orders. */
function isPackage({ label, name }: Channel): boolean {
  return /package|x86_pkg|tdie|tctl/i.test(`${label} ${name}`);
}

function ruleOrders({ config, channels }: CompileInput, movable: Movable, leftOut: LeftOut): Order[] {
  const armed = config.rules.filter((rule) => rule.standing && (rule.mode ?? config.mode) === 'auto');
  return armed.flatMap((rule) => {
    const watched = channels.filter((channel) => watches(rule, channel));
    if (watched.length === 0) leftOut.push(`order of rule ${rule.name}: no channel of this machine matches`);
    return watched.map((channel) => ({
      name: orderNameOf(rule.name, channel),
      channel,
      bounds: ruleBounds(rule, channel.quantity),
      samples: rule.for.samples,
      capPpm: strictestCapPpm(rule),
      targets: cooling(channel, movable, strictestCapPpm(rule)),
    }));
  });
}

/** throttle_N leaves 100 − N %. */
function strictestCapPpm({ actions }: RuleConfig): number {
  const percents = actions.map((action) => Number(/^throttle_(\d+)$/.exec(action)?.[1] ?? 0));
  return (100 - Math.max(0, ...percents)) * PPM_PER_PERCENT;
}

/** What the actuator can sample by itself: one integer file below sysfs of what caps the CPU, or a channel of a GPU that it caps. */
function isOrderable(order: Order, { sysfsRoot }: CompileInput, leftOut: LeftOut): boolean {
  const { name, channel, bounds } = order;
  const hasBounds = Number.isSafeInteger(bounds.raise) && Number.isSafeInteger(bounds.clear);
  const why = channel.probe.kind === 'gpu' ? notOrderableGpu(order) : notOrderableFile(channel, sysfsRoot);
  const whyNot = why ?? (hasBounds ? undefined : 'its bounds are too large');
  if (whyNot !== undefined) leftOut.push(`order ${name}: ${whyNot}`);
  return whyNot === undefined;
}

function notOrderableGpu({ channel, targets }: Order): string | undefined {
  if (targets.length === 0) return 'its GPU has no limit that could be moved';
  return GPU_CHANNEL.test(channel.name) ? undefined : 'the name of its channel cannot be written';
}

function notOrderableFile({ class: hot, probe }: Channel, sysfsRoot: string): string | undefined {
  if (hot === 'gpu') return 'a cap of the CPU does not cool a GPU';
  if (probe.kind !== 'integer' || probe.perSecond === true)
    return 'the actuator reads only files that hold one integer';
  return relativePath(probe.path, sysfsRoot) === undefined
    ? 'its file is not below the sysfs root, or its name holds blanks'
    : undefined;
}

function relativePath(path: string, root: string): string | undefined {
  const prefix = root.endsWith('/') ? root : `${root}/`;
  if (!path.startsWith(prefix)) return undefined;
  const relative = path.slice(prefix.length);
  const isBelow = !relative.startsWith('/') && !relative.split('/').includes('..');
  return PATH.test(relative) && isBelow ? relative : undefined;
}

/**
 * The number in hwmonN changes with every boot and every load of a driver, and a sensor that cannot be read counts as hot. So
 * the number of a device's only chip is written as `*`, which the actuator looks up; two chips on one device keep theirs.
 */
function withoutNumber(path: string, channels: readonly Channel[]): string {
  const [, parent, chip] = /^(devices\/.*\/hwmon)\/(hwmon\d+)\//.exec(path) ?? [];
  if (parent === undefined || chip === undefined) return path;
  const chips = channels.flatMap((channel) => {
    const [, itsParent, itsChip] = /^(.*\/hwmon)\/(hwmon\d+)\//.exec(fileOf(channel) ?? '') ?? [];
    return itsParent?.endsWith(`/${parent}`) && itsChip !== undefined ? [itsChip] : [];
  });
  return new Set(chips).size > 1 ? path : path.replace(`${parent}/${chip}/`, `${parent}/*/`);
}

/** A GPU's order has the same name whether or not the GPU could be described when it was compiled. */
export function orderNameOf(rule: string, { id, name, probe }: Pick<Channel, 'id' | 'name' | 'probe'>): string {
  return orderName(rule, probe.kind === 'gpu' ? `gpu/${probe.address}/${name}` : id);
}

/** `<rule>:<channel id>`, shortened with a digest where it would not fit. Room is kept for split()'s suffix. */
function orderName(rule: string, channel: string): string {
  const name = `${rule}:${channel}`;
  const room = MAX_ID_LENGTH - 4;
  if (name.length <= room) return name;
  const digest = createHash('sha256').update(name).digest('hex').slice(0, 8);
  return `${name.slice(0, room - 9)}~${digest}`;
}

/**
 * An order takes a bounded number of targets and one cap that no target's floor may exceed: what does not fit into one
 * becomes several orders on one sensor.
 */
function split(order: Order): Order[] {
  const parts: Order[] = [];
  for (const [capPpm, targets] of byCap(order)) {
    for (let i = 0; i < targets.length; i += MAX_ORDER_TARGETS) {
      const name = parts.length === 0 ? order.name : `${order.name}@${parts.length + 1}`;
      parts.push({ ...order, name, capPpm, targets: targets.slice(i, i + MAX_ORDER_TARGETS) });
    }
  }
  return parts;
}

/** Targets by the cap that their floor leaves them. */
function byCap({ targets, capPpm }: Order): ReadonlyMap<number, readonly Target[]> {
  const groups = new Map<number, Target[]>();
  for (const target of targets) {
    const cap = Math.max(capPpm, FLOOR_PPM[target.kind]);
    groups.set(cap, [...(groups.get(cap) ?? []), target]);
  }
  return groups;
}

export function orderLine(
  { name, channel, bounds, samples, capPpm, targets }: Order,
  { config, sysfsRoot, channels }: CompileInput,
): string {
  const { probe } = channel;
  const place = (absolute: string) => {
    const relative = relativePath(absolute, sysfsRoot);
    return relative === undefined ? undefined : withoutNumber(relative, channels);
  };
  const common = [
    `raise=${bounds.raise} clear=${bounds.clear} samples=${samples}`,
    `rate_mhz=${Math.round(config.sampling.rate_hz * 1000)} cap_ppm=${capPpm}`,
    `targets=${targets.map(({ id }) => id).join(',')}`,
  ];
  if (probe.kind === 'gpu') return [`order ${name} gpu=${probe.address} channel=${channel.name}`, ...common].join(' ');
  if (probe.kind !== 'integer') throw new TypeError(`order ${name}: its sensor is no integer file`); // isOrderable() has looked.
  const words = [`order ${name} sensor=${place(probe.path)}`, ...common];
  const fault = probe.faultPath === undefined ? undefined : place(probe.faultPath);
  if (fault !== undefined) words.push(`fault=${fault}`);
  if (probe.multiplier !== undefined && probe.multiplier !== 1) words.push(`multiplier=${probe.multiplier}`);
  if (probe.offset !== undefined && probe.offset !== 0) words.push(`offset=${probe.offset}`);
  return words.join(' ');
}
