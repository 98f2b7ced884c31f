/**
 * Which of these channels are derived from another one (sensors/derived.ts): the JSON of a channel does not say so, but its name is that of
 * its base with a suffix, and it stands with the same device. Without a value by nature at times, they are no lost sensors.
 */
import type { ChannelJson } from '../core/channel.js';

const SUFFIX = /_(power|slope|time_to_limit|imbalance|share|forecast)$/;

/** Id of a derived channel → id of its base. */
export function derivedIds(channels: readonly ChannelJson[]): ReadonlyMap<string, string> {
  const ids = new Set(channels.map(({ id }) => id));
  const bases = channels.flatMap(({ id }) => {
    const base = id.replace(SUFFIX, '');
    return base !== id && ids.has(base) ? [[id, base] as const] : [];
  });
  return new Map(bases);
}
