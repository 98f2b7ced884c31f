/** Which kind of effect serves which action. An action without one is recorded as unavailable, never silently dropped. */
import type { Verb } from '../core/action-names.js';
import { alertHuman } from './alert-human.js';
import { archiveOldData, cleanupLogs, cleanupTemp, emergencyCleanup } from './cleanup.js';
import type { Built, EffectContext, EffectKind } from './effect.js';
import { fans } from './fans.js';
import { freeze } from './freeze.js';
import { limit } from './limit.js';
import { pingPeer } from './ping.js';
import { failoverRoute } from './route.js';
import { shutdownNonEssential } from './shutdown.js';
import { throttle } from './throttle.js';
import { hook, namedHook, restartUnit } from './unit-job.js';
import { regenerateWireguard, restartWireguard } from './wireguard.js';

const KINDS: Partial<Record<Verb, EffectKind>> = {
  throttle,
  limit,
  freeze,
  fans_full: fans,
  restart_unit: restartUnit,
  shutdown_non_essential: shutdownNonEssential,
  redistribute: namedHook,
  failover: namedHook,
  hook,
  restart_wireguard: restartWireguard,
  regenerate_wireguard_config: regenerateWireguard,
  ping_peer: pingPeer,
  failover_route: failoverRoute,
  alert_human: alertHuman,
  cleanup_temp: cleanupTemp,
  cleanup_logs: cleanupLogs,
  emergency_cleanup: emergencyCleanup,
  archive_old_data: archiveOldData,
};

export function buildEffects(context: EffectContext): Built {
  const kind = KINDS[context.action.verb];
  return kind === undefined
    ? { unavailable: `${context.action.verb} has no target on this node` }
    : kind.build(context);
}
