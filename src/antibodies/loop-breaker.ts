/**
 * Loop breaker: synthesis chains of workloads, and SKOS's own repairs, that run and run. It has no channel and no ladder: steps of
 * chains are judged as they come (policy/chain.ts), and its alerts are raised by what was told (control/chains.ts,
 * control/repair-loops.ts).
 */
import type { Rule } from '../policy/rule.js';
import type { Antibody } from './antibody.js';

export const loopBreaker: Antibody = {
  name: 'loop-breaker',
  type: 'loop_breaker',
  rulesFor: (): Rule[] => [],
  // It has no rules, so that no ladder ever has something to say.
  describe: ({ rule }) => rule.name,
  metadata: () => ({}),
};
