/** Which peers are lost when the rule of a channel has raised, by the names of the configuration. */
import type { Config } from '../config/schema.js';
import type { Channel } from '../core/channel.js';
import { MESH_SOURCE } from '../sensors/mesh.js';
import { tunnelPeerOf, WIREGUARD_SOURCE } from '../sensors/wireguard.js';

/** All named peers of an interface when it is the interface that is down. */
export function lostPeers(channel: Channel, { wireguard }: Config): string[] {
  if (channel.source === MESH_SOURCE) return [channel.device];
  if (channel.source !== WIREGUARD_SOURCE) return [];
  const peer = tunnelPeerOf(channel);
  if (peer !== undefined) return [peer];
  const { interfaces } = wireguard;
  return Object.hasOwn(interfaces, channel.device) ? Object.keys(interfaces[channel.device]?.peers ?? {}) : [];
}
