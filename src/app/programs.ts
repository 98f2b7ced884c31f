/** The other programs as children of the agent, under `skos run`: where they lie, how they are started and bounded. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ErrorCode, SkosError } from '../core/errors.js';
import type { ChildSpec } from './children.js';

/** skos-net uses some 40 MB; several times that is a flood or a leak. Installed, systemd's MemoryMax is the limit. */
export const NET_RSS_LIMIT_BYTES = 160 * 1024 * 1024;
/** Keeps the young generation small: the heap of a quiet program need not grow to what a busy moment wanted. */
const NODE_FLAGS = ['--max-semi-space-size=2'];
/** Twice of what skos-gpu takes at most (native/gpu/README.md). */
const GPU_STOP_DEADLINE_MS = 2_000;
const INSTALLED_DIRECTORY = '/usr/lib/skos';

export interface ActuatorPaths {
  readonly allow: string;
  readonly socket: string;
  readonly state: string;
  readonly sysfs: string;
  readonly cgroup: string;
  /** Socket of the setters of GPUs. */
  readonly setter: string;
  /** Socket of skos-gpu. */
  readonly gpu: string;
  /** Socket of skos-units; null where systemd does not run. */
  readonly units: string | null;
}

export function actuatorSpec({ allow, socket, state, sysfs, cgroup, setter, units, gpu }: ActuatorPaths): ChildSpec {
  const args = [
    '--allow',
    allow,
    '--socket',
    socket,
    '--state',
    state,
    '--sysfs',
    sysfs,
    '--cgroup',
    cgroup,
    '--setter',
    setter,
    '--gpu',
    gpu,
    ...(units === null ? [] : ['--units', units]),
    '--child',
  ];
  return {
    name: 'skos-actuator',
    command: find('build/native/skos-actuator', { installed: 'skos-actuator', code: 'SKOS_ACTUATOR_ABSENT' }),
    args,
    code: 'SKOS_ACTUATOR_ABSENT',
    event: 'actuator.lost',
    outlives: true,
  };
}

/**
 * Has systemd do what the actuator asks for. It stays for as long as the actuator holds something in a unit, and the actuator
 * outlives the agent.
 */
export function unitsSpec({ socket }: { socket: string }): ChildSpec {
  return {
    name: 'skos-units',
    command: find('build/native/skos-units', { installed: 'skos-units', code: 'SKOS_UNITS_ABSENT' }),
    args: ['--socket', socket, '--child'],
    code: 'SKOS_UNITS_ABSENT',
    event: 'units.lost',
    outlives: true,
  };
}

/** Sets what the actuator asks for through the drivers of GPUs. Started with the actuator, as root. */
export function setterSpec({ socket, sysfs, nvml }: { socket: string; sysfs: string; nvml: string }): ChildSpec {
  return {
    name: 'skos-gpu-set',
    command: find('build/native/skos-gpu', { installed: 'skos-gpu', code: 'SKOS_GPU_ABSENT' }),
    args: ['--setters', '--socket', socket, '--sysfs', sysfs, '--nvml', nvml],
    code: 'SKOS_GPU_ABSENT',
    event: 'gpu.unread',
  };
}

export interface GpuPaths {
  readonly socket: string;
  readonly sysfs: string;
  readonly nvml: string;
  readonly rateHz: number;
  readonly deadlineMs: number;
}

export function gpuSpec({ socket, sysfs, nvml, rateHz, deadlineMs }: GpuPaths): ChildSpec {
  return {
    name: 'skos-gpu',
    command: find('build/native/skos-gpu', { installed: 'skos-gpu', code: 'SKOS_GPU_ABSENT' }),
    args: [
      ...['--socket', socket, '--sysfs', sysfs, '--nvml', nvml],
      ...['--rate-mhz', String(Math.round(rateHz * 1000)), '--deadline-ms', String(deadlineMs)],
    ],
    code: 'SKOS_GPU_ABSENT',
    event: 'gpu.unread',
    // It waits a second for workers that hang; killed, it leaves no driver in the lurch, because it calls none.
    stopDeadlineMs: GPU_STOP_DEADLINE_MS,
  };
}

export function netSpec({ runDirectory }: { runDirectory: string }): ChildSpec {
  return {
    name: 'skos-net',
    command: process.execPath,
    args: [...NODE_FLAGS, find('dist/net.js', { installed: 'dist/net.js', code: 'SKOS_NET_CHILD' })],
    env: { SKOS_RUN_DIR: runDirectory, MALLOC_ARENA_MAX: '1' },
    code: 'SKOS_NET_CHILD',
    event: 'net.restarted',
    rssLimitBytes: NET_RSS_LIMIT_BYTES,
  };
}

/** In a checkout below one of our parent directories; installed, in its own. */
function find(inCheckout: string, { installed, code }: { installed: string; code: ErrorCode }): string {
  for (let directory = dirname(fileURLToPath(import.meta.url)); directory !== '/'; directory = dirname(directory)) {
    const path = join(directory, inCheckout);
    if (existsSync(path)) return path;
  }
  const path = join(INSTALLED_DIRECTORY, installed);
  if (existsSync(path)) return path;
  throw new SkosError(code, `${inCheckout} is not built: run \`npm run build\``);
}
