/**
 * Actions that run a unit once: `restart_unit@NAME` (of `targets` or `workloads`), the operator's own hooks, and redistribute and
 * failover, which are hooks by those names. What the configuration does not name is unavailable.
 */
import type { Built, EffectContext, EffectKind } from './effect.js';

export const restartUnit: EffectKind = {
  build({ action, jobs }: EffectContext): Built {
    const job = [`unit/${action.target}/restart`, `workload/${action.target}/restart`].find((each) => jobs.has(each));
    return job === undefined
      ? { unavailable: `the allow-list names no unit "${action.target}" that may be restarted` }
      : { effects: [], jobs: [{ job }] };
  },
};

export const hook: EffectKind = {
  build: ({ action, jobs }: EffectContext) => hookJob(action.hook ?? '', jobs),
};

/** redistribute and failover. */
export const namedHook: EffectKind = {
  build: ({ action, jobs }: EffectContext) => hookJob(action.verb, jobs),
};

function hookJob(name: string, jobs: ReadonlySet<string>): Built {
  const job = `hook/${name}`;
  return jobs.has(job) ? { effects: [], jobs: [{ job }] } : { unavailable: `no hook "${name}" is configured` };
}
