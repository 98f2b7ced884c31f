/** `failover_route`: the routes that the configuration has for the lost peer, each a lease; released, each is taken away again. */
import { routeTarget } from '../config/jobs.js';
import type { Config, RouteConfig } from '../config/schema.js';
import type { Channel } from '../core/channel.js';
import type { Built, EffectContext, EffectKind } from './effect.js';
import { lostPeers } from './lost-peers.js';

export const failoverRoute: EffectKind = {
  build({ channel, config, targets }: EffectContext): Built {
    const wanted = Object.keys(routesFor(channel, config)).map(routeTarget);
    if (wanted.length === 0) return { unavailable: `no route is configured for what ${channel.id} has lost` };
    const listed = wanted.filter((target) => targets.some((each) => each.target === target));
    return listed.length === 0
      ? { unavailable: `the allow-list does not name ${wanted.join(', ')}` }
      : { effects: listed.map((target) => ({ target, capPpm: 0 })) };
  },
};

/** Those that the loss which a channel shows calls for, by name. */
export function routesFor(channel: Channel, config: Config): Record<string, RouteConfig> {
  const peers = lostPeers(channel, config);
  const wanted = Object.entries(config.routes).filter(([, route]) => route.peers.some((peer) => peers.includes(peer)));
  return Object.fromEntries(wanted);
}
