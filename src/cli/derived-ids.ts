/**
 * Which of these channels are derived from another one (sensors/derived.ts): the JSON of a channel does not say so, but its name is that of
 * its base with a suffix, and it stands with the same device. Without a value by nature at times, they are no lost sensors.
 */
import { type ChannelJson, DERIVED_SUFFIXES } from '../core/channel.js';

/** The longest first: `_thermal_share` is no `_share` of something thermal. */
const SUFFIXES = [...DERIVED_SUFFIXES].sort((a, b) => b.length - a.length);

/** Id of a derived channel → id of its base. */
export function derivedIds(channels: readonly ChannelJson[]): ReadonlyMap<string, string> {
  const ids = new Set(channels.map(({ id }) => id));
  const bases = channels.flatMap(({ id }) => {
    const bases = SUFFIXES.filter((suffix) => id.endsWith(suffix)).map((suffix) => id.slice(0, -suffix.length));
    const base = bases.find((each) => ids.has(each));
    return base === undefined ? [] : [[id, base] as const];
  });
  return new Map(bases);
}
