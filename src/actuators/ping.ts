/** `ping_peer`: has the lost peer asked at every address that is known of it; the report says where it answers. */
import { pingPeerJob } from '../config/jobs.js';
import type { Built, EffectContext, EffectKind } from './effect.js';
import { lostPeers } from './lost-peers.js';

export const pingPeer: EffectKind = {
  build({ channel, config, jobs }: EffectContext): Built {
    const peers = lostPeers(channel, config);
    if (peers.length === 0) return { unavailable: `${channel.id} is of no peer` };
    const asked = peers.map(pingPeerJob).filter((job) => jobs.has(job));
    return asked.length === 0
      ? { unavailable: `the allow-list names no ping of ${peers.join(', ')}` }
      : { effects: [], jobs: asked.map((job) => ({ job })) };
  },
};
