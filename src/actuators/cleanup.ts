/**
 * `cleanup_temp`, `cleanup_logs`, `emergency_cleanup`, `archive_old_data`: the units that delete or move what storage.cleanup lists, and
 * nothing else. A hook named `archive` takes the place of the built-in archive. All listed places are worked through, whichever file
 * system has raised: what an operator has listed may go.
 */
import { type ActName, actUnavailable } from '../config/act-plan.js';
import { actJob, hookJob } from '../config/jobs.js';
import type { Built, EffectContext, EffectKind } from './effect.js';

export const cleanupTemp = kindOf('cleanup_temp');
export const cleanupLogs = kindOf('cleanup_logs');
export const emergencyCleanup = kindOf('emergency_cleanup');
export const archiveOldData = kindOf('archive_old_data');

function kindOf(name: ActName): EffectKind {
  return {
    build({ config, jobs }: EffectContext): Built {
      const isHooked = name === 'archive_old_data' && config.hooks.archive !== undefined;
      const why = isHooked ? undefined : actUnavailable(config, name);
      if (why !== undefined) return { unavailable: why };
      const job = isHooked ? hookJob('archive') : actJob(name);
      return jobs.has(job) ? { effects: [], jobs: [{ job }] } : { unavailable: `the allow-list does not name ${job}` };
    },
  };
}
