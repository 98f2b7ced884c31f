/** How the channels of this node are read, each by the part that can: joined under one list, with what is derived of them. */
import type { Every } from '../core/beat.js';
import type { Channel } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { Sampler, Tree, Tripwire } from '../core/ports.js';
import type { PeerView } from '../core/protocol.js';
import type { Addon } from '../sensors/addon.js';
import { DerivedSampler } from '../sensors/derived-sampler.js';
import { MOUNT_FEED } from '../sensors/file-system.js';
import type { GpuLink } from '../sensors/gpu-link.js';
import { joinedSampler } from '../sensors/joined-sampler.js';
import { MESH_FEED, meshFeed } from '../sensors/mesh.js';
import { mountFeed } from '../sensors/mount-feed.js';
import { RAPL_FEED } from '../sensors/rapl.js';
import { type RaplFeedOptions, raplFeed } from '../sensors/rapl-feed.js';
import { WIREGUARD_FEED, type WireguardWatch } from '../sensors/wireguard.js';
import { WORKLOAD_GPU_FEED, workloadGpuFeed } from '../sensors/workload-gpu.js';

export interface SamplingOptions {
  readonly addon: Addon;
  readonly gpus: GpuLink;
  readonly actuator: RaplFeedOptions['actuator'];
  readonly proc: Tree;
  readonly wireguard: WireguardWatch;
  /** wireguard.stale. */
  readonly tunnelStaleMs: () => number;
  /** As skos-net hears them; undefined while nobody knows. */
  readonly peers: () => readonly PeerView[] | undefined;
  readonly deadlineMs: () => number;
  /** A tripwire was crossed. */
  readonly onCrossing: () => void;
  readonly clock: Clock;
  readonly every: Every;
}

type Part = 'file' | 'gpu' | 'rapl' | 'workload_gpu' | 'wireguard' | 'mesh' | 'mounts';

/** Makes the sampler of a list of channels; it takes over what is derived from the windows of the one before it. */
export function samplerMaker(
  options: SamplingOptions,
): (channels: readonly Channel[], tripwires: readonly Tripwire[]) => Sampler {
  const { addon, gpus, actuator, proc, wireguard, tunnelStaleMs, peers, deadlineMs, onCrossing, clock, every } =
    options;
  const makers = {
    file: (own: readonly Channel[], wires: readonly Tripwire[]) =>
      addon.createSampler(own, wires, { readDeadlineMs: deadlineMs(), onCrossing }),
    gpu: (own: readonly Channel[], wires: readonly Tripwire[]) => gpus.sampler(own, wires),
    rapl: (own: readonly Channel[]) => raplFeed({ channels: own, actuator, clock, every }),
    workload_gpu: (own: readonly Channel[]) => workloadGpuFeed({ channels: own, gpus, proc, clock, every }),
    wireguard: (own: readonly Channel[]) => wireguard.feed(own, tunnelStaleMs()),
    mesh: (own: readonly Channel[]) => meshFeed({ channels: own, peers, clock, every }),
    mounts: (own: readonly Channel[]) => mountFeed({ channels: own, proc, clock, every }),
  };
  let former: DerivedSampler | undefined;
  return (channels, tripwires) => {
    former = new DerivedSampler({
      channels,
      tripwires,
      clock,
      deadlineMs: deadlineMs(),
      former,
      createBase: (own, wires) => joinedSampler(own, wires, { partOf, makers }),
    });
    return former;
  };
}

function partOf({ probe }: Channel): Part {
  if (probe.kind === 'gpu') return 'gpu';
  if (probe.kind !== 'pushed') return 'file';
  if (probe.feed === RAPL_FEED) return 'rapl';
  if (probe.feed === WORKLOAD_GPU_FEED) return 'workload_gpu';
  if (probe.feed === WIREGUARD_FEED) return 'wireguard';
  if (probe.feed === MESH_FEED) return 'mesh';
  if (probe.feed === MOUNT_FEED) return 'mounts';
  throw new TypeError(`nobody feeds ${probe.feed}`);
}
