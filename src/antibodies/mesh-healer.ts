/**
 * Mesh healer: WireGuard tunnels, their peers, and the peers of the mesh.
 *
 *   wireguard      an interface of whose peers none has a fresh handshake          mesh.actions.tunnel_down
 *   mesh-peer      a peer of a tunnel without a fresh handshake, or of the mesh    mesh.actions.peer_unreachable
 *                  that is not heard
 *   mesh-one-way   a peer of the mesh that is heard and does not hear this node    alerts only
 *
 * Actions are steps: the first on warning, the second on critical, all others on emergency, `escalate` seconds apart, each only
 * when those before it were not enough.
 */
import { routesFor } from '../actuators/route.js';
import type { Config } from '../config/schema.js';
import type { Channel } from '../core/channel.js';
import { type BuiltInRule, SEVERITIES } from '../core/vocabulary.js';
import { type Rule, type Rung, sampleGapMs } from '../policy/rule.js';
import { MESH_SOURCE, ONE_WAY, SILENCE } from '../sensors/mesh.js';
import { isCounted, tunnelPeerOf } from '../sensors/wireguard.js';
import { type Antibody, type Finding, type RulesContext, usable, watched } from './antibody.js';
import { message } from './message.js';

/** One dump, or one report of skos-net, may be odd; a second that says the same is not. */
const FOR_SAMPLES = 2;
/** A sound tunnel is far below, a lost one never: only a handshake, or a word of the peer, makes an age smaller. */
const CLEAR_SHARE = 0.8;

type MeshRule = Extract<BuiltInRule, 'wireguard' | 'mesh-peer' | 'mesh-one-way'>;
interface Binding {
  readonly rule: MeshRule;
  readonly sensor: string;
  readonly raiseMs: number;
  readonly escalateMs: number;
  readonly keepMs: number;
  /** null: it only warns. */
  readonly steps: readonly string[] | null;
}

export const meshHealer: Antibody = {
  name: 'mesh-healer',
  type: 'mesh_healer',

  rulesFor({ config, channels, report }: RulesContext): Rule[] {
    const rules = channels.flatMap((channel) => {
      const binding = bindingOf(config, channel);
      return binding === undefined ? [] : [meshRule(config, channel, binding)];
    });
    return usable(rules, report);
  },

  describe({ transition, channel }: Finding): string {
    const { what, whose } = wordsOf(channel);
    return message(transition, {
      subject: `${what} of ${whose}`,
      measured: (value) => `${what} ${Math.round(value / 1000)} s of ${whose}`,
    });
  },

  metadata: watched,
};

function bindingOf({ mesh, wireguard, heartbeat }: Config, channel: Channel): Binding | undefined {
  const { tunnel_down: tunnelDown, peer_unreachable: peerUnreachable } = mesh.actions;
  const ofTunnel = {
    raiseMs: wireguard.stale * 1000,
    escalateMs: wireguard.escalate * 1000,
    keepMs: wireguard.keep * 1000,
  };
  if (isCounted(channel)) {
    return tunnelPeerOf(channel) === undefined
      ? { rule: 'wireguard', sensor: 'tunnel', ...ofTunnel, steps: tunnelDown }
      : { rule: 'mesh-peer', sensor: 'peer', ...ofTunnel, steps: peerUnreachable };
  }
  if (channel.source !== MESH_SOURCE) return undefined;
  const ofMesh = {
    sensor: 'peer',
    raiseMs: heartbeat.timeout * 1000,
    escalateMs: mesh.escalate * 1000,
    keepMs: mesh.keep * 1000,
  };
  if (channel.name === SILENCE) return { rule: 'mesh-peer', ...ofMesh, steps: peerUnreachable };
  return channel.name === ONE_WAY ? { rule: 'mesh-one-way', ...ofMesh, steps: null } : undefined;
}

function meshRule(config: Config, channel: Channel, binding: Binding): Rule {
  const { sampling, mode } = config;
  const { rule, sensor } = binding;
  return {
    name: rule,
    agentType: 'mesh_healer',
    type: 'mesh',
    sensor,
    channelId: channel.id,
    quantity: channel.quantity,
    rungs: rungsOf(binding),
    forMs: 0,
    forSamples: FOR_SAMPLES,
    keepMs: Math.max(binding.keepMs, ...routeKeepsMs(config, channel, binding)),
    gapMs: sampleGapMs({ rateHz: channel.rateHz, deadlineMs: sampling.deadline_ms }),
    mode,
    standing: false,
  };
}

/** A route may be why the peer is heard again: without it the danger would be back at once, and so to and fro. */
function routeKeepsMs(config: Config, channel: Channel, { steps }: Binding): number[] {
  if (steps?.includes('failover_route') !== true) return [];
  return Object.values(routesFor(channel, config)).map(({ keep }) => keep * 1000);
}

/** That it goes on is worse than that it began, also where nothing more can be done: critical has its rung without an action, too. */
function rungsOf({ raiseMs, escalateMs, steps }: Binding): Rung[] {
  const actions = steps === null ? [[]] : [steps.slice(0, 1), steps.slice(1, 2), steps.slice(2)];
  const isEmpty = (i: number) => i === 2 && actions[i]?.length === 0;
  return SEVERITIES.slice(0, actions.length).flatMap((severity, i) => {
    if (isEmpty(i)) return [];
    const raise = raiseMs + i * escalateMs;
    return [{ severity, raise, clear: Math.floor(raiseMs * CLEAR_SHARE), actions: actions[i] ?? [] }];
  });
}

function wordsOf(channel: Channel): { what: string; whose: string } {
  if (channel.source === MESH_SOURCE) {
    const what = channel.name === SILENCE ? 'Silence' : 'Deafness to this node';
    return { what, whose: `peer ${channel.device}` };
  }
  const peer = tunnelPeerOf(channel);
  const whose = peer === undefined ? `tunnel ${channel.device}` : `peer ${peer} in tunnel ${channel.device}`;
  return { what: 'Handshake age', whose };
}
