/** What the allow-list is compiled from: the configuration, the channels, and what of this machine can be limited. Plain data. */
import type { Channel } from '../core/channel.js';
import type { Config } from './schema.js';

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

/** Collects what the operator asked for and does not fit, with the reason. */
export type LeftOut = string[];
