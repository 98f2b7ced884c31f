/** Where skos-gpu is found or how it is started, and the link to it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../config/schema.js';
import { reason, SkosError } from '../core/errors.js';
import type { Part } from '../core/lifecycle.js';
import type { Log } from '../core/ports.js';
import type { Addon } from '../sensors/addon.js';
import type { GpuLinkOptions } from '../sensors/gpu-link.js';
import { ChildProcess } from './children.js';
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

/** A skos-gpu of our own. A node without it is protected all the same, so that it never keeps the agent from starting. */
export function gpuChild(
  { gpu, sampling }: Config,
  { socket, sysfs, log }: { socket: string; sysfs: string; log: Log },
): Part & { replace(why: string): void } {
  const { rate_hz: rateHz, deadline_ms: deadlineMs } = sampling;
  let child: ChildProcess | undefined;
  return {
    name: 'skos-gpu',
    start: async () => {
      try {
        child = new ChildProcess(gpuSpec({ socket, sysfs, nvml: gpu.nvml, rateHz, deadlineMs }), { log });
        await child.start();
      } catch (error) {
        log.error(`GPUs are not read: ${reason(error)}`, { event: 'gpu.unread', code: 'SKOS_GPU_ABSENT', error });
      }
    },
    stop: () => child?.stop(),
    // It calls no driver: killing it harms none. Installed, the watchdog of its unit does the same.
    replace: (why) => child?.replace(why),
  };
}

/**
 * What sets GPUs for an actuator that is a child: half a megabyte until one is set. A process that holds a connection stays with the
 * actuator when this ends. A node without it is protected but for its GPUs.
 */
export function setterChild(
  { gpu }: Config,
  { socket, sysfs, log }: { socket: string; sysfs: string; log: Log },
): Part {
  let child: ChildProcess | undefined;
  return {
    name: 'skos-gpu-set',
    start: async () => {
      try {
        child = new ChildProcess(setterSpec({ socket, sysfs, nvml: gpu.nvml }), { log });
        await child.start();
      } catch (error) {
        log.error(`no GPU can be capped: ${reason(error)}`, { event: 'gpu.unread', code: 'SKOS_GPU_ABSENT', error });
      }
    },
    stop: () => child?.stop(),
  };
}

export function gpuConnector(addon: Addon): GpuLinkOptions['connect'] {
  return (path, onPacket) => {
    const socket = addon.createSeqPacket(onPacket);
    const error = socket.connect(path);
    if (error !== 0) throw new SkosError('SKOS_GPU_ABSENT', `nothing answers at ${path} (errno ${error})`);
    return { send: (packet) => socket.send(packet), close: () => socket.close() };
  };
}
