/**
 * The jobs that a configuration asks for: what the allow-list lets the actuator have started. Ids are those of
 * src/control/README.md.
 */
import type { Config } from './schema.js';

export interface JobSpec {
  readonly id: string;
  readonly verb: 'start' | 'stop' | 'restart';
  readonly unit: string;
  readonly timeoutMs: number;
}

const UNIT_VERBS = ['start', 'stop', 'restart'] as const;

export function jobsOf(config: Config): JobSpec[] {
  return [...hookJobs(config), ...unitJobs(config), ...workloadJobs(config)];
}

function timeoutMs({ repairs }: Config): number {
  return repairs.timeout * 1000;
}

function hookJobs(config: Config): JobSpec[] {
  return Object.entries(config.hooks).map(([name, { unit }]) => ({
    id: `hook/${name}`,
    verb: 'start',
    unit,
    timeoutMs: timeoutMs(config),
  }));
}

function unitJobs(config: Config): JobSpec[] {
  return Object.entries(config.targets).flatMap(([name, { unit }]) =>
    unit === undefined ? [] : verbsOf(config, `unit/${name}`, unit),
  );
}

function workloadJobs(config: Config): JobSpec[] {
  return Object.entries(config.workloads).flatMap(([name, { unit }]) => verbsOf(config, `workload/${name}`, unit));
}

function verbsOf(config: Config, id: string, unit: string): JobSpec[] {
  return UNIT_VERBS.map((verb) => ({ id: `${id}/${verb}`, verb, unit, timeoutMs: timeoutMs(config) }));
}

/** What the actuator calls the freeze of a workload. A dot is in no name of `targets`. */
export function workloadFreeze(name: string): string {
  return `freeze/workload.${name}`;
}
