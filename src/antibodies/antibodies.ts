/** All antibodies, in the order in which their rules are made: what the agent runs, and what replays and simulations run. */
import type { Antibody } from './antibody.js';
import { hardwareWatcher } from './hardware-watcher.js';
import { loopBreaker } from './loop-breaker.js';
import { meshHealer } from './mesh-healer.js';
import { operatorRules } from './operator-rules.js';
import { storageWatcher } from './storage-watcher.js';
import { thermalSentinel } from './thermal-sentinel.js';

export const ANTIBODIES: readonly Antibody[] = [
  thermalSentinel,
  storageWatcher,
  meshHealer,
  loopBreaker,
  hardwareWatcher,
  operatorRules,
];
