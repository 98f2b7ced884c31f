/**
 * Actions that run a unit once: `restart_unit@NAME` (of `targets` or `workloads`), the operator's own hooks, and redistribute and
 * failover, which are hooks by those names. What the configuration does not name is unavailable.
 */
import { hookJob, unitJob, workloadJob } from '../config/jobs.js';
import type { Built, EffectContext, EffectKind } from './effect.js';

export const restartUnit: EffectKind = {
  build({ action, jobs }: EffectContext): Built {
    const name = action.target ?? '';
    const job = [unitJob(name, 'restart'), workloadJob(name, 'restart')].find((each) => jobs.has(each));
    return job === undefined
      ? { unavailable: `the allow-list names no unit "${name}" that may be restarted` }
      : { effects: [], jobs: [{ job }] };
  },
};

export const hook: EffectKind = {
  build: ({ action, jobs }: EffectContext) => built(action.hook ?? '', jobs),
};

/** redistribute and failover. */
export const namedHook: EffectKind = {
  build: ({ action, jobs }: EffectContext) => built(action.verb, jobs),
};

function built(name: string, jobs: ReadonlySet<string>): Built {
  const job = hookJob(name);
  return jobs.has(job) ? { effects: [], jobs: [{ job }] } : { unavailable: `no hook "${name}" is configured` };
}
