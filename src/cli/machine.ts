/**
 * This machine seen without an agent, for `skos sensors --once`: discovered, and read once by the same native sampler that
 * the agent uses, and beside it by the feed of mounts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/schema.js';
import { Machine } from '../control/machine.js';
import { type Channel, type ChannelJson, channelJson, isRate } from '../core/channel.js';
import { systemClock } from '../core/clock.js';
import type { Sampler } from '../core/ports.js';
import { loadAddon } from '../sensors/addon.js';
import { joinedSampler } from '../sensors/joined-sampler.js';
import { mountFeed } from '../sensors/mount-feed.js';
import type { Io } from './command.js';

/**
 * Rates are differences of two readings. For one look these are a quarter of a second apart: nobody waits for it, and the
 * kernel counts CPU time in steps of 10 ms.
 */
const DIFFERENCE_RATE_HZ = 4;
const POLL_MS = 10;
/** Beyond the read deadline: the first round of a domain's thread, and the second reading of rates. */
const MARGIN_MS = 500;

interface Where {
  readonly config: Config;
  readonly env: Io['env'];
}

export interface OneReading {
  readonly channels: readonly ChannelJson[];
  /** What discovery passed over, one line each. */
  readonly skipped: readonly string[];
}

export async function readOnce({ config, env, wallMs }: Where & Pick<Io, 'wallMs'>): Promise<OneReading> {
  const machine = new Machine(env);
  const discovery = await machine.discover(config, { hasActuator: false });
  const channels = discovery.channels.map(forOneLook);
  const readDeadlineMs = config.sampling.deadline_ms;
  const addon = loadAddon();
  const makers = {
    file: (own: readonly Channel[]) => addon.createSampler(own, [], { readDeadlineMs, onCrossing: () => undefined }),
    mounts: (own: readonly Channel[]) => mountFeed({ channels: own, proc: machine.proc, clock: systemClock }),
  };
  // Of what is pushed, discovery without an actuator finds mounts alone.
  const partOf = ({ probe }: Channel) => (probe.kind === 'pushed' ? 'mounts' : 'file');
  const sampler = joinedSampler(channels, [], { partOf, makers });
  sampler.start();
  try {
    await untilRead(sampler, readDeadlineMs + MARGIN_MS);
    const now = wallMs();
    return {
      channels: discovery.channels.map((channel, i) => channelJson(channel, sampler.latest(i), now)),
      skipped: discovery.skipped.map(({ source, what, why }) => `${source}: ${what}: ${why}`),
    };
  } finally {
    sampler.stop();
  }
}

function forOneLook(channel: Channel): Channel {
  return isRate(channel) ? { ...channel, rateHz: DIFFERENCE_RATE_HZ } : channel;
}

/** Until every channel was read, differences twice; what hangs is waited for no longer than its deadline. */
async function untilRead(sampler: Sampler, deadlineMs: number): Promise<void> {
  const readings = sampler.channels.map(() => 0);
  for (let waitedMs = 0; waitedMs < deadlineMs; waitedMs += POLL_MS) {
    await sleep(POLL_MS);
    sampler.refresh();
    sampler.drain((i) => {
      readings[i] = (readings[i] ?? 0) + 1;
    });
    if (sampler.channels.every((channel, i) => (readings[i] ?? 0) >= (isRate(channel) ? 2 : 1))) return;
  }
}
