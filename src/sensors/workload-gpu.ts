/**
 * GPU memory of the workloads: the processes that each GPU's driver names, by the systemd unit that their cgroup belongs to.
 *
 * It is the sum over all GPUs, so that it is known only while every GPU is: one that hangs, or a process whose memory the driver does
 * not tell, may be just the one that matters. Processes in another PID namespace than the agent's cannot be told apart.
 * Source: proc_pid_cgroup(5), of both versions of cgroups.
 */
import type { Every } from '../core/beat.js';
import type { Channel } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { Gpus, Tree } from '../core/ports.js';
import { makeChannel } from './make-channel.js';
import { PolledFeed, type Told } from './polled-feed.js';

export const WORKLOAD_GPU_FEED = 'workload_gpu';
/** skos-gpu looks at the processes as often. */
const POLL_MS = 10_000;
/** Reading some hundred files of /proc takes milliseconds. */
const STALE_AFTER_MS = 30_000;
/** Of workloads, as in workload.ts. */
const MAX_WORKLOADS = 64;

/** `units`: name → systemd unit. None without a GPU. */
export function workloadGpuChannels(units: Readonly<Record<string, string>>, gpus: Gpus): Channel[] {
  if (gpus.status().gpus.length === 0) return [];
  return Object.entries(units)
    .slice(0, MAX_WORKLOADS)
    .map(([name, unit]) =>
      makeChannel({
        source: 'workload',
        device: name,
        name: 'gpu_memory',
        label: `GPU memory of ${unit}`,
        quantity: 'sizeBytes',
        class: 'gpu',
        probe: { kind: 'pushed', feed: WORKLOAD_GPU_FEED },
        rateHz: 1000 / POLL_MS,
        domain: WORKLOAD_GPU_FEED,
        path: unit,
      }),
    );
}

export function workloadGpuFeed(options: {
  /** As made above: the unit is their path. */
  readonly channels: readonly Channel[];
  readonly gpus: Gpus;
  readonly proc: Tree;
  readonly clock: Clock;
  readonly every?: Every;
}): PolledFeed {
  const { channels, gpus, proc } = options;
  const units = channels.map(({ path }) => path);
  return new PolledFeed({
    ...options,
    everyMs: POLL_MS,
    staleAfterMs: STALE_AFTER_MS,
    ask: () => memoryByUnit(units, gpus, proc),
  });
}

async function memoryByUnit(units: readonly string[], gpus: Gpus, proc: Tree): Promise<Told[]> {
  const { connected, gpus: views } = gpus.status();
  const isKnown = connected && views.every(({ state, details }) => isAway(state) || (state === 'serving' && details));
  if (!isKnown) return units.map(() => 'no_data');
  const processes = views.flatMap(({ state, details }) => (isAway(state) ? [] : (details?.processes ?? [])));
  const sums: Told[] = units.map(() => 0);
  const groups = new Map<number, Promise<string | undefined>>();
  for (const { pid, memoryBytes } of processes) {
    const group = groups.get(pid) ?? proc.text(`${pid}/cgroup`);
    groups.set(pid, group);
    const paths = (await group) ?? ''; // It has ended since.
    units.forEach((unit, i) => {
      const sum = sums[i];
      if (typeof sum !== 'number' || !isIn(paths, unit)) return;
      sums[i] = memoryBytes === null ? 'no_data' : sum + memoryBytes;
    });
  }
  return sums;
}

/** Nobody can use memory of a GPU that is let go of or has left the bus. */
function isAway(state: string): boolean {
  return state === 'detached' || state === 'gone';
}

/** Lines are "0::/system.slice/train.service/worker", with the names of systemd's units in their escaped form. */
function isIn(cgroups: string, unit: string): boolean {
  return cgroups.split('\n').some((line) => `${line}/`.includes(`/${unit}/`));
}
