/** How the channels of this node are read, each by the part that can: joined under one list, with what is derived of them. */
import type { Channel } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { Sampler, Tripwire } from '../core/ports.js';
import type { Addon } from '../sensors/addon.js';
import { DerivedSampler } from '../sensors/derived-sampler.js';
import type { GpuLink } from '../sensors/gpu-link.js';
import { joinedSampler } from '../sensors/joined-sampler.js';
import { RAPL_FEED } from '../sensors/rapl.js';
import { RaplFeed, type RaplFeedOptions } from '../sensors/rapl-feed.js';

export interface SamplingOptions {
  readonly addon: Addon;
  readonly gpus: GpuLink;
  readonly actuator: RaplFeedOptions['actuator'];
  readonly deadlineMs: () => number;
  /** A tripwire was crossed. */
  readonly onCrossing: () => void;
  readonly clock: Clock;
}

type Part = 'file' | 'gpu' | 'rapl';

/** Makes the sampler of a list of channels; it takes over what is derived from the windows of the one before it. */
export function samplerMaker(
  options: SamplingOptions,
): (channels: readonly Channel[], tripwires: readonly Tripwire[]) => Sampler {
  const { addon, gpus, actuator, deadlineMs, onCrossing, clock } = options;
  const makers = {
    file: (own: readonly Channel[], wires: readonly Tripwire[]) =>
      addon.createSampler(own, wires, { readDeadlineMs: deadlineMs(), onCrossing }),
    gpu: (own: readonly Channel[], wires: readonly Tripwire[]) => gpus.sampler(own, wires),
    rapl: (own: readonly Channel[]) => new RaplFeed({ channels: own, actuator, clock }),
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
  return probe.kind === 'pushed' && probe.feed === RAPL_FEED ? 'rapl' : 'file';
}
