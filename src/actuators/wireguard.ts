/**
 * `restart_wireguard` and `regenerate_wireguard_config`: of the interface whose tunnel is down, or, where a peer of the mesh is
 * lost, of those interfaces among whose peers it is.
 */
import { regenerateWireguardJob, restartWireguardJob } from '../config/jobs.js';
import type { Config } from '../config/schema.js';
import type { Channel } from '../core/channel.js';
import { MESH_SOURCE } from '../sensors/mesh.js';
import { WIREGUARD_SOURCE } from '../sensors/wireguard.js';
import type { Built, EffectContext, EffectKind } from './effect.js';

export const restartWireguard: EffectKind = {
  build: (context) => jobsOnInterfaces(context, restartWireguardJob),
};

export const regenerateWireguard: EffectKind = {
  build: (context) => jobsOnInterfaces(context, regenerateWireguardJob),
};

function jobsOnInterfaces({ channel, config, jobs }: EffectContext, jobOf: (name: string) => string): Built {
  const interfaces = interfacesOf(channel, config);
  if (interfaces.length === 0) return { unavailable: `no interface of \`wireguard\` has to do with ${channel.id}` };
  const wanted = interfaces.map(jobOf);
  const missing = wanted.filter((job) => !jobs.has(job));
  if (missing.length > 0) return { unavailable: `the allow-list does not name ${missing.join(', ')}` };
  return { effects: [], jobs: wanted.map((job) => ({ job })) };
}

function interfacesOf({ source, device }: Channel, { wireguard }: Config): string[] {
  return Object.entries(wireguard.interfaces).flatMap(([name, { peers }]) => {
    const isIts =
      source === WIREGUARD_SOURCE ? device === name : source === MESH_SOURCE && Object.hasOwn(peers, device);
    return isIts ? [name] : [];
  });
}
