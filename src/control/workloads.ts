/**
 * What runs on this node by the configuration's word, and the operator's hand on it: start, stop, restart, by the jobs of the
 * allow-list. An operator's word passes no breaker and no budget; it is on record before it is done, and so is a refusal; what came of
 * it the actuator tells (its event job_ended).
 */

import { workloadFreeze, workloadJob } from '../config/jobs.js';
import type { Config } from '../config/schema.js';
import type { ChannelJson } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import type { Actuator, ActuatorJob, ActuatorTarget } from '../core/ports.js';
import type { WorkloadView } from '../core/protocol.js';
import { suggest } from '../core/suggest.js';
import { UNIT_VERBS, type UnitVerb } from '../core/vocabulary.js';
import type { Record } from './record.js';

export interface WorkloadsOptions {
  readonly config: { get(): Config };
  readonly actuator: () => Actuator | undefined;
  readonly sensors: () => readonly ChannelJson[];
  readonly record: Pick<Record, 'add'>;
  readonly clock: Clock;
}

export class Workloads {
  readonly #options: WorkloadsOptions;
  /** Keeps two words of one millisecond apart. */
  #asked = 0;

  constructor(options: WorkloadsOptions) {
    this.#options = options;
  }

  async list(): Promise<WorkloadView[]> {
    const actuator = this.#options.actuator();
    const [jobs, targets] =
      actuator === undefined ? [[], []] : await Promise.all([actuator.jobs(), actuator.targets()]);
    const { workloads } = this.#options.config.get();
    return Object.entries(workloads).map(([name, { unit, essential, movable, hosts }]) => ({
      name,
      unit,
      essential,
      movable,
      hosts: [...hosts],
      isRunning: this.#isRunning(name),
      isFrozen: isHeld(targets, workloadFreeze(name)),
      last: lastJob(jobs, name),
    }));
  }

  /** systemd gives a unit that runs a cgroup, which can be read. */
  #isRunning(name: string): boolean {
    const ofIt = this.#options.sensors().filter(({ source, device }) => source === 'workload' && device === name);
    return ofIt.some(({ quality }) => quality === 'ok');
  }

  /** Resolves when it is started; `list` tells what comes of it. */
  async run({ name, verb, who }: { name: string; verb: UnitVerb; who: string }): Promise<void> {
    const { config, actuator: connected, record, clock } = this.#options;
    const { workloads } = config.get();
    if (!Object.hasOwn(workloads, name)) throw new SkosError('SKOS_WORKLOAD_UNKNOWN', unknown(name, workloads));
    const actuator = connected();
    if (actuator === undefined) throw new SkosError('SKOS_ACTUATOR_ABSENT', 'no actuator is connected');
    const job = workloadJob(name, verb);
    this.#asked += 1;
    const key = `operator/${clock.wallMs()}/${this.#asked}/${verb}`;
    const told = { kind: 'workload.operator', who, level: 'warn', fields: { event: 'workload.operator' } } as const;
    const what = { workload: name, verb, job, key };
    const words = `${verb} of workload ${name}, asked for by ${who}`;
    record.add({ ...told, what, message: words });
    try {
      await actuator.run(job, key);
    } catch (error) {
      record.add({
        ...told,
        what: { ...what, refused: reason(error) },
        message: `${words}, is refused: ${reason(error)}`,
      });
      throw error;
    }
  }
}

function isHeld(targets: readonly ActuatorTarget[], id: string): boolean {
  return targets.some(({ target, state }) => target === id && state === 'held');
}

function lastJob(jobs: readonly ActuatorJob[], name: string): WorkloadView['last'] {
  const ids = UNIT_VERBS.map((verb) => workloadJob(name, verb));
  const run = jobs
    .filter(({ job, state }) => ids.includes(job) && state !== 'idle')
    .reduce<ActuatorJob | undefined>(
      (newest, each) => (newest && newest.ageMs <= each.ageMs ? newest : each),
      undefined,
    );
  if (run === undefined) return null;
  const { job, state, exit, ageMs } = run;
  return { verb: job.slice(job.lastIndexOf('/') + 1), state, exit, ageMs };
}

function unknown(name: string, workloads: Config['workloads']): string {
  const close = suggest(name, Object.keys(workloads));
  return `there is no workload "${name}"${close === undefined ? '' : `; did you mean ${close}?`}`;
}
