/** What is found on this node and how it is read: discovery, the mesh's words, and hot-plug. */
import { workloadUnits } from '../control/machine.js';
import { NetState } from '../control/net-state.js';
import { Sensing } from '../control/sensing.js';
import type { Part } from '../core/lifecycle.js';
import type { Log } from '../core/ports.js';
import type { Addon } from '../sensors/addon.js';
import { withDerived } from '../sensors/derived.js';
import type { GpuLink } from '../sensors/gpu-link.js';
import { type HotPlug, watchHotPlug } from '../sensors/hot-plug.js';
import { meshChannels } from '../sensors/mesh.js';
import type { RaplFeedOptions } from '../sensors/rapl-feed.js';
import { WireguardWatch } from '../sensors/wireguard.js';
import { workloadGpuChannels } from '../sensors/workload-gpu.js';
import type { Acting } from './acting.js';
import type { Ground } from './ground.js';
import { samplerMaker } from './sampling.js';

export interface ComposedSensing {
  readonly sensing: Sensing;
  readonly net: NetState;
  readonly hotPlug: Part;
}

export function composeSensing(
  { addon, machine, config, clock, every, log }: Ground,
  {
    rulebook,
    gpus,
    actuator,
    onCrossing,
  }: {
    rulebook: Acting['rulebook'];
    gpus: GpuLink;
    actuator: RaplFeedOptions['actuator'];
    onCrossing: () => void;
  },
): ComposedSensing {
  const wireguard = new WireguardWatch({ env: process.env, proc: machine.proc, clock, every });
  const net = new NetState(clock);
  const sensing = new Sensing({
    config,
    rulebook,
    discover: async () => {
      const discovery = await machine.discover(config.get());
      const ofWorkloads = workloadGpuChannels(workloadUnits(config.get()), gpus);
      const tunnels = await wireguard.discover(config.get());
      const ofMesh = [...tunnels.channels, ...meshChannels(config.get())];
      return {
        ...discovery,
        channels: withDerived([...discovery.channels, ...ofMesh, ...ofWorkloads, ...gpus.channels]),
        skipped: [...discovery.skipped, ...tunnels.skipped],
      };
    },
    createSampler: samplerMaker({
      addon,
      gpus,
      actuator,
      proc: machine.proc,
      wireguard,
      tunnelStaleMs: () => config.get().wireguard.stale * 1000,
      peers: () => net.peers(),
      deadlineMs: () => config.get().sampling.deadline_ms,
      onCrossing,
      clock,
      every,
    }),
    log,
  });
  return { sensing, net, hotPlug: hotPlugPart(addon, sensing, log) };
}

function hotPlugPart(addon: Addon, sensing: Sensing, log: Log): Part {
  let watch: HotPlug | undefined;
  return {
    name: 'hot-plug',
    start: () => {
      watch = watchHotPlug(addon, (subsystems) => sensing.lookSoon([...subsystems].join(' ')), log);
    },
    stop: () => watch?.close(),
  };
}
