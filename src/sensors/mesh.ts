/**
 * The peers of the mesh, as skos-net hears them: how long each is silent, and for how long one that is heard says that it does not hear
 * this node (`one_way`).
 *
 * skos-net is asked, not the peers: while it is down or silent itself nothing is known of them, and nothing is what is said. A peer that
 * skos-net, started anew, has not heard yet has no silence before the time is over in which it would have spoken.
 */
import type { Config } from '../config/schema.js';
import type { Every } from '../core/beat.js';
import type { Channel } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { PeerView } from '../core/protocol.js';
import { makeChannel } from './make-channel.js';
import { PolledFeed, type Told } from './polled-feed.js';

export const MESH_SOURCE = 'mesh';
export const MESH_FEED = 'mesh';
export const SILENCE = 'silence';
export const ONE_WAY = 'one_way';
/** skos-net reports every four seconds, and a change at once. */
const POLL_MS = 2_000;
/** What it reported is in memory. */
const STALE_AFTER_MS = 10_000;

const WORDS = { [SILENCE]: 'silence', [ONE_WAY]: 'does not hear this node' } as const;

/** None on a site's own broker: what the peers say there is for everybody to hear, and no link of this node. */
export function meshChannels({ mesh, mqtt }: Config): Channel[] {
  if (mqtt.url !== null) return [];
  return Object.keys(mesh.peers).flatMap((peer) =>
    ([SILENCE, ONE_WAY] as const).map((name) =>
      makeChannel({
        source: MESH_SOURCE,
        device: peer,
        name,
        label: `peer ${peer} ${WORDS[name]}`,
        quantity: 'durationMs',
        class: 'network',
        probe: { kind: 'pushed', feed: MESH_FEED },
        rateHz: 1000 / POLL_MS,
        domain: MESH_SOURCE,
        path: `skos/peer/${peer}`,
      }),
    ),
  );
}

export function meshFeed(options: {
  readonly channels: readonly Channel[];
  /** undefined: nobody knows. */
  readonly peers: () => readonly PeerView[] | undefined;
  readonly clock: Clock;
  readonly every?: Every;
}): PolledFeed {
  const { channels, peers } = options;
  return new PolledFeed({
    ...options,
    everyMs: POLL_MS,
    staleAfterMs: STALE_AFTER_MS,
    ask: () => {
      const views = peers();
      if (views === undefined) return undefined;
      const byNode = new Map(views.map((view) => [view.node, view]));
      return Promise.resolve(channels.map((channel) => toldBy(byNode.get(channel.device), channel)));
    },
  });
}

function toldBy(view: PeerView | undefined, { name }: Channel): Told {
  const ms = name === SILENCE ? view?.silentMs : view?.deafMs;
  return ms === undefined || ms === null ? 'no_data' : Math.round(ms);
}
