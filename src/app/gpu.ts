/** Where skos-gpu is found, and how it and the setters of GPUs are started. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../config/schema.js';
import type { Part } from '../core/lifecycle.js';
import type { Log } from '../core/ports.js';
import { optionalChild } from './children.js';
import { gpuSpec, setterSpec } from './programs.js';

export interface GpuPlace {
  readonly path: string | null;
  readonly why: string;
  /** Start one of our own. */
  readonly own: boolean;
  readonly socket: string;
}

/** auto is the installed one's socket if present, else a child under `skos run`, else whoever comes to that socket. */
export function placeOfGpu(
  { gpu }: Config,
  { runDirectory, withChildren }: { runDirectory: string; withChildren: boolean },
): GpuPlace {
  const beside = join(runDirectory, 'gpu.sock');
  if (gpu.mode === 'off') return { path: null, why: 'gpu.mode is off', own: false, socket: beside };
  const own = gpu.mode === 'child' || (gpu.mode === 'auto' && withChildren && !existsSync(gpu.socket));
  const socket = own ? beside : gpu.socket;
  return { path: socket, why: own ? 'it is being started' : `nothing answers at ${socket}`, own, socket };
}

/** It calls no driver, so that replacing it harms none. Installed, the watchdog of its unit does the same. */
export function gpuChild(
  { gpu, sampling }: Config,
  { socket, sysfs, log }: { socket: string; sysfs: string; log: Log },
): Part & { replace(why: string): void } {
  const { rate_hz: rateHz, deadline_ms: deadlineMs } = sampling;
  return optionalChild({
    name: 'skos-gpu',
    spec: () => gpuSpec({ socket, sysfs, nvml: gpu.nvml, rateHz, deadlineMs }),
    without: 'GPUs are not read',
    event: 'gpu.unread',
    code: 'SKOS_GPU_ABSENT',
    log,
  });
}

/**
 * What sets GPUs for an actuator that is a child: half a megabyte until one is set. A process that holds a connection stays with the
 * actuator when this ends.
 */
export function setterChild(
  { gpu }: Config,
  { socket, sysfs, log }: { socket: string; sysfs: string; log: Log },
): Part {
  return optionalChild({
    name: 'skos-gpu-set',
    spec: () => setterSpec({ socket, sysfs, nvml: gpu.nvml }),
    without: 'no GPU can be capped',
    event: 'gpu.unread',
    code: 'SKOS_GPU_ABSENT',
    log,
  });
}
