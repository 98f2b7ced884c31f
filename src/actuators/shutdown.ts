/**
 * `shutdown_non_essential`: freezes the workloads that the configuration marks as not essential, at once, and stops them when that was
 * not enough. A freeze is taken back; what was stopped stays so until somebody starts it.
 */
import { workloadFreeze, workloadJob } from '../config/jobs.js';
import type { Built, EffectContext, EffectKind } from './effect.js';

/** A frozen unit draws no power within a second, and heat takes some tens of seconds to leave. */
const STOP_AFTER_MS = 60_000;

export const shutdownNonEssential: EffectKind = {
  build({ config, targets, jobs }: EffectContext): Built {
    const names = Object.entries(config.workloads).flatMap(([name, { essential }]) => (essential ? [] : [name]));
    if (names.length === 0) return { unavailable: 'no workload is marked as not essential' };
    const listed = new Set(targets.map(({ target }) => target));
    const effects = names.map(workloadFreeze).filter((target) => listed.has(target));
    const stops = names.map((name) => workloadJob(name, 'stop')).filter((job) => jobs.has(job));
    if (effects.length === 0 && stops.length === 0)
      return { unavailable: 'the allow-list names none of the workloads that are not essential' };
    return {
      effects: effects.map((target) => ({ target, capPpm: 0 })),
      jobs: stops.map((job) => ({ job, afterMs: STOP_AFTER_MS })),
    };
  },
};
