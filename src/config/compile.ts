/**
 * Compiles the allow-list: what skos-actuator may move on this machine, and the standing orders that it carries out by
 * itself. Pure: what the machine has is given as facts. The format is stated in native/actuator/README.md.
 *
 * What the operator asked for and does not fit stands in the file as a comment, so that the list itself says what it lacks.
 */

import { createHash } from 'node:crypto';
import { type Channel, DERIVED_SUFFIXES, fileOf, isDerived, isTemperature } from '../core/channel.js';
import { globMatches } from '../core/glob.js';
import { PPM_PER_PERCENT } from '../core/units.js';
import { cgroupPath } from './check-units.js';
import { type JobSpec, jobsOf, unitRunsOf, workloadFreeze } from './jobs.js';
import { ruleBounds } from './rule-bounds.js';
import type { Config, RuleConfig } from './schema.js';
import { type Bounds, thermalBounds } from './thermal-bounds.js';

/** The bounds of the format; native/actuator/README.md. */
const ALLOW_LIMITS = { targets: 512, orders: 64, orderTargets: 64, energies: 64, jobs: 256, idLength: 64 };

/** No cap below this share whatever is asked, in parts per million: the node must still answer its operator. */
const FLOOR_PPM = {
  cpufreq: 200_000,
  pstate: 200_000,
  rapl: 300_000,
  quota: 10_000,
  freeze: 0,
  // The device's own constraint is above this as a rule, and holds in any case.
  nvml_power: 300_000,
  amdgpu_power: 300_000,
  unit_quota: 10_000,
  unit_freeze: 0,
  unit_run: 0,
  nvml_clocks: 300_000,
  // On or off: its lowest level, or none.
  amdgpu_level: 1,
  fan: 0,
};
/** The rule that default orders are named after. */
export const DEFAULT_ORDER_RULE = 'thermal';
/** The default order caps as throttle_50 does. */
const DEFAULT_CAP_PPM = 500_000;
/** One reading may be noise, and a reflex that waits longer is none. */
const DEFAULT_SAMPLES = 2;
/** Names of channels that stand in the allow-list as skos-gpu says them; others were escaped. */
const GPU_CHANNEL = /^[a-z0-9_-]{1,64}$/;
/** ID, UNIT and PATH of the format: a path is printable ASCII without blanks, at most 320 bytes. */
const ID = /^[a-z0-9:_.@~/-]{1,64}$/;
const UNIT = /^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,239}\.(service|scope|slice)$/;
const PATH = /^[\x21-\x7e]{1,320}$/;

/** Which hierarchy holds a controller; `directory` is relative to the cgroup root, '' for a v2 root. */
export interface CgroupController {
  readonly version: 1 | 2;
  readonly directory: string;
}

/** What this machine lets itself be limited by; found by actuators/facts.ts. Paths are relative to the sysfs root. */
export interface ActuatableFacts {
  /** Directories of cpufreq policies, in natural order. */
  readonly cpufreqPolicies: readonly string[];
  /** intel_pstate/max_perf_pct is there. Used only where there are no policies: both would cap twice. */
  readonly pstate: boolean;
  /** Package zones whose limit can be written. */
  readonly raplZones: readonly string[];
  /** GPUs whose power limit may be set, by PCI address. */
  readonly gpus: readonly { readonly address: string; readonly kind: 'nvml_power' | 'amdgpu_power' }[];
  /** Fans whose control can be told: `name` is the same after every boot, `path` their pwm file. */
  readonly fans: readonly { readonly name: string; readonly path: string }[];
  /** Zones whose energy is counted: `zone` is the kernel's name, `path` its directory. */
  readonly energyZones: readonly { readonly zone: string; readonly path: string; readonly maxMicroJoules: number }[];
  /** null: this machine has no such controller. */
  readonly cgroup: { readonly cpu: CgroupController | null; readonly freezer: CgroupController | null };
}

export interface CompileInput {
  readonly config: Config;
  /** As discovered. */
  readonly channels: readonly Channel[];
  /** Absolute root below which the channels' probes read. */
  readonly sysfsRoot: string;
  readonly facts: ActuatableFacts;
  /** User id of the agent. */
  readonly controllerUid: number;
}

interface Target {
  readonly id: string;
  readonly kind: keyof typeof FLOOR_PPM;
  readonly path: string;
}

interface Order {
  readonly name: string;
  readonly channel: Channel;
  readonly bounds: Bounds;
  readonly samples: number;
  readonly capPpm: number;
  readonly targets: readonly Target[];
}

/** Collects what did not fit, for the comments. */
type LeftOut = string[];

/** The whole text of the allow-list. */
export function compileAllowList(input: CompileInput): string {
  const leftOut: LeftOut = [];
  const cpu = cpuTargets(input.facts);
  const gpus = gpuTargets(input);
  const all = [
    ...[...cpu, ...gpus, ...gpuClockTargets(input), ...fanTargets(input)],
    ...[...cgroupTargets(input, leftOut), ...unitTargets(input, leftOut)],
  ];
  const targets = fitting(all, ALLOW_LIMITS.targets, leftOut, ({ id }) => id);
  const listed = new Set(targets.map(({ id }) => id));
  const isListed = ({ id }: Target) => listed.has(id);
  const wanted = orders(input, { cpu: cpu.filter(isListed), gpus: gpus.filter(isListed) }, leftOut);
  const energies = fitting(input.facts.energyZones, ALLOW_LIMITS.energies, leftOut, ({ zone }) => `energy ${zone}`);
  const jobs = fitting(listableJobs(input.config, leftOut), ALLOW_LIMITS.jobs, leftOut, ({ id }) => `job ${id}`);
  const kept = fitting(wanted, ALLOW_LIMITS.orders, leftOut, ({ name }) => `order ${name}`);
  const lines = [
    `# Made by \`skos config compile\` for node ${input.config.node}, mode ${input.config.mode}. Do not edit: compile again.`,
    ...leftOut.map((what) => `# left out: ${printable(what)}`),
    ...unknownGpus(input, kept).map((address) => `# ${address}: ${UNKNOWN_LIMITS}`),
    `controller ${input.controllerUid}`,
    ...targets.map(targetLine),
    ...kept.map((order) => orderLine(order, input)),
    ...energies.map(({ zone, path, maxMicroJoules }) => `energy ${powerId(zone)} ${path} max_uj=${maxMicroJoules}`),
    ...jobs.map(({ id, verb, unit, timeoutMs }) => `job ${id} ${verb} ${unit} timeout_ms=${timeoutMs}`),
  ];
  return ['skos-allow 1', ...lines, `end ${lines.length}`, ''].join('\n');
}

/** What the actuator calls the power of a zone; the kernel's name of one is "intel-rapl:0:0". */
export function powerId(zone: string): string {
  return `rapl/${zone}`;
}

function fitting<T>(items: readonly T[], max: number, leftOut: LeftOut, nameOf: (item: T) => string): readonly T[] {
  for (const item of items.slice(max)) leftOut.push(`${nameOf(item)}: the list is full (${max})`);
  return items.slice(0, max);
}

/** A comment is one line of ASCII, whatever the operator's names hold. */
function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?');
}

// ---- Targets -------------------------------------------------------------------------------------------------------

function cpuTargets({ cpufreqPolicies, pstate, raplZones }: ActuatableFacts): Target[] {
  const targets: Target[] = cpufreqPolicies.map((path) => ({
    id: `cpufreq/${lastSegment(path)}`,
    kind: 'cpufreq',
    path,
  }));
  if (targets.length === 0 && pstate) {
    targets.push({ id: 'intel_pstate/max_perf', kind: 'pstate', path: 'devices/system/cpu/intel_pstate' });
  }
  targets.push(...raplZones.map((path): Target => ({ id: `rapl/${lastSegment(path)}`, kind: 'rapl', path })));
  return targets;
}

/** Where nobody reads GPUs, nobody knows whether one is hot. */
function gpuTargets({ config, facts }: CompileInput): Target[] {
  if (config.gpu.mode === 'off') return [];
  return facts.gpus.map(({ address, kind }) => ({ id: gpuTarget(address), kind, path: address }));
}

/** What the actuator calls the power limit of the GPU at a PCI address. */
export function gpuTarget(address: string): string {
  return `gpu/${address}`;
}

/** What is moved where a GPU's power limit is not permitted (actuators/throttle.ts): not by standing orders, which ask nobody. */
function gpuClockTargets({ config, facts }: CompileInput): Target[] {
  if (config.gpu.mode === 'off') return [];
  return facts.gpus.map(({ address, kind }) =>
    kind === 'nvml_power'
      ? { id: gpuClocksTarget(address), kind: 'nvml_clocks', path: address }
      : { id: gpuLevelTarget(address), kind: 'amdgpu_level', path: address },
  );
}

export function gpuClocksTarget(address: string): string {
  return `gpu-clocks/${address}`;
}

export function gpuLevelTarget(address: string): string {
  return `gpu-level/${address}`;
}

/** Only where an action asks for it: whoever can stop a fan's curve can also leave it stopped. */
function fanTargets({ config, facts }: CompileInput): Target[] {
  const { warning, critical, emergency } = config.thermal.actions;
  const asked = [warning, critical, emergency, ...config.rules.map(({ actions }) => actions)];
  if (!asked.some((actions) => actions.includes('fans_full'))) return [];
  return facts.fans.map(({ name, path }) => ({ id: `fan/${name}`, kind: 'fan', path }));
}

function lastSegment(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function cgroupTargets({ config, facts }: CompileInput, leftOut: LeftOut): Target[] {
  const targets: Target[] = [];
  for (const [name, { cgroup }] of Object.entries(config.targets)) {
    if (cgroup === undefined) continue;
    for (const [kind, controller] of [
      ['quota', facts.cgroup.cpu],
      ['freeze', facts.cgroup.freezer],
    ] as const) {
      const id = `${kind}/${name}`;
      if (controller === null) leftOut.push(`${id}: this machine has no such cgroup controller`);
      else targets.push({ id, kind, path: joined(controller.directory, cgroupPath(cgroup)) });
    }
  }
  return targets;
}

/** Units: systemd is asked for their limits, so that no controller of ours has to be there. */
function unitTargets({ config }: CompileInput, leftOut: LeftOut): Target[] {
  const workloads = Object.entries(config.workloads).filter(([, { essential }]) => !essential);
  const ofWorkloads = new Map(workloads.map(([name, { unit }]) => [unit, workloadFreeze(name)]));
  const targets: Target[] = [];
  for (const [name, { unit }] of Object.entries(config.targets)) {
    if (unit === undefined) continue;
    targets.push({ id: `quota/${name}`, kind: 'unit_quota', path: unit });
    const same = ofWorkloads.get(unit);
    // Two names for one freeze would each take the other's for what stood before.
    if (same !== undefined) leftOut.push(`freeze/${name}: ${unit} is a workload that ${same} freezes`);
    else targets.push({ id: `freeze/${name}`, kind: 'unit_freeze', path: unit });
  }
  for (const [unit, id] of ofWorkloads) targets.push({ id, kind: 'unit_freeze', path: unit });
  for (const { id, unit } of unitRunsOf(config)) targets.push({ id, kind: 'unit_run', path: unit });
  return targets.filter((target) => isListable(target.id, target.path, leftOut));
}

/** Of slices and scopes there is nothing to start. */
function listableJobs(config: Config, leftOut: LeftOut): JobSpec[] {
  return jobsOf(config).filter(({ id, unit }) => unit.endsWith('.service') && isListable(id, unit, leftOut));
}

/** What the configuration's own checks do not see, such as a unit that is made from other names: never a list that is refused whole. */
function isListable(id: string, unit: string, leftOut: LeftOut): boolean {
  const why = !ID.test(id) ? 'its name is too long' : !UNIT.test(unit) ? `${unit} is no unit` : undefined;
  if (why !== undefined) leftOut.push(`${id}: ${why}`);
  return why === undefined;
}

function joined(directory: string, path: string): string {
  return directory === '' ? path : `${directory}/${path}`;
}

function targetLine({ id, kind, path }: Target): string {
  return `target ${id} ${kind} ${path} floor_ppm=${FLOOR_PPM[kind]}`;
}

// ---- Orders --------------------------------------------------------------------------------------------------------

/** What an order may move, by what is hot. */
interface Movable {
  readonly cpu: readonly Target[];
  readonly gpus: readonly Target[];
}

/** The operator's own come first: they were asked for by name. */
function orders(input: CompileInput, movable: Movable, leftOut: LeftOut): Order[] {
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
    targets: cooling(channel, movable),
  }));
}

/** A hot GPU is cooled by its own limit, everything else by the CPU's. */
function cooling({ probe }: Channel, { cpu, gpus }: Movable): readonly Target[] {
  return probe.kind === 'gpu' ? gpus.filter(({ path }) => path === probe.address) : cpu;
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

function unknownGpus({ config, channels }: CompileInput, kept: readonly Order[]): string[] {
  if (config.thermal.thresholds !== null) return []; // Absolute bounds need no limits.
  const ordered = kept.flatMap(({ channel: { probe, id } }) =>
    probe.kind === 'gpu' && id.startsWith('gpu/') ? [probe.address] : [],
  );
  return ordered.filter((address) => !channels.some((channel) => isGpuSensor(channel, address)));
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
      targets: cooling(channel, movable),
    }));
  });
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
  const room = ALLOW_LIMITS.idLength - 4;
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
    for (let i = 0; i < targets.length; i += ALLOW_LIMITS.orderTargets) {
      const name = parts.length === 0 ? order.name : `${order.name}@${parts.length + 1}`;
      parts.push({ ...order, name, capPpm, targets: targets.slice(i, i + ALLOW_LIMITS.orderTargets) });
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

function orderLine(
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
