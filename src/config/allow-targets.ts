/**
 * The targets of the allow-list: what skos-actuator may move on this machine, under which ids, and how far at most.
 */
import type { ActuatableFacts, CompileInput, LeftOut } from './allow-input.js';
import { cgroupPath } from './check-units.js';
import { unitRunsOf, workloadFreeze } from './jobs.js';

/** No cap below this share whatever is asked, in parts per million: the node must still answer its operator. */
export const FLOOR_PPM = {
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
/** ID and UNIT of the format. */
const ID = /^[a-z0-9:_.@~/-]{1,64}$/;
const UNIT = /^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,239}\.(service|scope|slice)$/;

export interface Target {
  readonly id: string;
  readonly kind: keyof typeof FLOOR_PPM;
  readonly path: string;
}

/** By what moves them: a standing order moves the CPU's and the GPUs', what is asked of the actuator may move all. */
export interface Targets {
  readonly cpu: readonly Target[];
  readonly gpus: readonly Target[];
  /** What stands in for these. */
  readonly gpuClocks: readonly Target[];
  readonly others: readonly Target[];
}

export function allowedTargets(input: CompileInput, leftOut: LeftOut): Targets {
  return {
    cpu: cpuTargets(input.facts),
    gpus: gpuTargets(input),
    gpuClocks: gpuClockTargets(input),
    others: [...fanTargets(input), ...cgroupTargets(input, leftOut), ...unitTargets(input, leftOut)],
  };
}

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

/** What is moved where a GPU's power limit is not permitted: by actions (actuators/throttle.ts), and by the actuator for an order. */
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

/** What the configuration's own checks do not see, such as a unit that is made from other names: never a list that is refused whole. */
export function isListable(id: string, unit: string, leftOut: LeftOut): boolean {
  const why = !ID.test(id) ? 'its name is too long' : !UNIT.test(unit) ? `${unit} is no unit` : undefined;
  if (why !== undefined) leftOut.push(`${id}: ${why}`);
  return why === undefined;
}

function joined(directory: string, path: string): string {
  return directory === '' ? path : `${directory}/${path}`;
}

export function targetLine({ id, kind, path }: Target): string {
  return `target ${id} ${kind} ${path} floor_ppm=${FLOOR_PPM[kind]}`;
}
