/** What judges and what acts: the rules and their alerts, what gates a repair, and the executor. */
import { ANTIBODIES } from '../antibodies/antibodies.js';
import { AlertBook } from '../control/alert-book.js';
import { Breakers } from '../control/breakers.js';
import { Executor } from '../control/executor.js';
import { FlightRecorder } from '../control/flight-recorder.js';
import { ImmuneMemory } from '../control/immune-memory.js';
import { readReport, reportDirectory } from '../control/job-reports.js';
import { OperatorWord } from '../control/operator-word.js';
import type { ActionOutcome } from '../control/repair-gate.js';
import { RepairGates } from '../control/repair-gates.js';
import { RepairLoops } from '../control/repair-loops.js';
import { Repairs } from '../control/repairs.js';
import { Rulebook } from '../control/rulebook.js';
import { Silences } from '../control/silences.js';
import type { Alert } from '../core/ports.js';
import { ANTIBODY_TYPES } from '../core/vocabulary.js';
import type { Ground } from './ground.js';

export type Acting = ReturnType<typeof composeActing>;

export function composeActing({ node, bootId, config, store, outlet, record, lasting, clock, every, log }: Ground) {
  const silences = new Silences({ store, lasting, record });
  const memory = new ImmuneMemory({ config, store });
  const rulebook = new Rulebook(ANTIBODIES, memory);
  const recorder = new FlightRecorder({ store, clock, every, log });
  const onChange = (alert: Alert) => {
    if (isRecorded(alert)) recorder.alert(alert);
  };
  const alerts = new AlertBook({ rulebook, store, outlet, record, clock, onChange, silences });
  const word = new OperatorWord({ bootId, store, clock });
  const gates = new RepairGates({ config, breakers: new Breakers(store), lasting, store, clock, bootId });
  const repairLoops = new RepairLoops({ next: gates, config, alerts, store, record, clock });
  const reports = reportDirectory(process.env);
  const repairs = new Repairs({
    bootId,
    config,
    gate: repairLoops,
    record,
    report: (job, sinceAtMs) => readReport(reports, { job, sinceAtMs }),
    clock,
  });
  const learn = (outcome: ActionOutcome) => memory.note(outcome, clock.wallMs());
  const told = { rulebook, repairs, learn, word, store, record, outlet };
  const executor = new Executor({ node, bootId, config, ...told, log, clock });
  return { silences, memory, rulebook, recorder, alerts, word, gates, repairLoops, executor };
}

/** A recording shows what the node's own sensors did: a guest's alerts, or a chain's, must not push older ones out. */
function isRecorded({ agentType }: Alert): boolean {
  return agentType !== 'loop_breaker' && ANTIBODY_TYPES.some((type) => type === agentType);
}
