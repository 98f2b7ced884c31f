/**
 * Readings of the channels of rapl.ts: asks the actuator once a second for the average powers. Without an actuator, or where
 * its list does not name a zone, a channel says no_data.
 */
import type { Every } from '../core/beat.js';
import type { Channel } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { Actuator, ActuatorPower } from '../core/ports.js';
import { PolledFeed, type Told } from './polled-feed.js';
import { powerIdOf } from './rapl.js';

/** The actuator has a new average about as often. */
const POLL_MS = 1_000;
/** An actuator that answers at all does so within milliseconds; its client gives it up after 4 s. */
const STALE_AFTER_MS = 3_000;

export interface RaplFeedOptions {
  /** Those whose probe names RAPL_FEED. */
  readonly channels: readonly Channel[];
  /** The connected actuator, asked for anew each time; undefined while there is none. */
  readonly actuator: () => Pick<Actuator, 'powers'> | undefined;
  readonly clock: Clock;
  readonly every?: Every;
}

export function raplFeed(options: RaplFeedOptions): PolledFeed {
  const { channels, actuator } = options;
  const ids = channels.map(powerIdOf);
  return new PolledFeed({
    ...options,
    everyMs: POLL_MS,
    staleAfterMs: STALE_AFTER_MS,
    ask: () =>
      actuator()
        ?.powers()
        .then((powers) => {
          const byId = new Map(powers.map((power) => [power.id, toldBy(power)]));
          return ids.map((id) => byId.get(id));
        }),
  });
}

function toldBy({ quality, milliWatts }: ActuatorPower): Told {
  if (quality !== 'ok') return quality;
  return milliWatts ?? 'no_data';
}
