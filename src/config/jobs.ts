/**
 * The jobs that a configuration asks for: what the allow-list lets the actuator have started. Ids are those of
 * src/control/README.md.
 */
import { UNIT_VERBS, type UnitVerb } from '../core/vocabulary.js';
import { ACT_NAMES, actUnavailable, actUnit } from './act-plan.js';
import type { Config, InterfaceConfig } from './schema.js';

export interface JobSpec {
  readonly id: string;
  readonly verb: UnitVerb;
  readonly unit: string;
  readonly timeoutMs: number;
}

/** The job that says what this one would touch, and changes nothing. */
export function listingOf(job: string): string {
  return `${job}.list`;
}

export function isListing(job: string): boolean {
  return job.endsWith('.list');
}

export function jobsOf(config: Config): JobSpec[] {
  return [
    ...actJobs(config),
    ...hookJobs(config),
    ...unitJobs(config),
    ...workloadJobs(config),
    ...wireguardJobs(config),
    ...pingJobs(config),
  ];
}

/** What is started while a lease stands, and stopped when it ends. */
export interface UnitRun {
  /** Of the target. */
  readonly id: string;
  readonly unit: string;
}

export function unitRunsOf({ routes }: Config): UnitRun[] {
  return Object.keys(routes).map((name) => ({ id: routeTarget(name), unit: `skos-act-route@${name}.service` }));
}

/** What the actuator calls a route. */
export function routeTarget(name: string): string {
  return `route/${name}`;
}

export const actJob = (name: string) => `act/${name}`;
export const hookJob = (name: string) => `hook/${name}`;
export const unitJob = (name: string, verb: UnitVerb) => `unit/${name}/${verb}`;
export const workloadJob = (name: string, verb: UnitVerb) => `workload/${name}/${verb}`;
export const restartWireguardJob = (name: string) => actJob(`restart_wireguard.${name}`);
export const regenerateWireguardJob = (name: string) => actJob(`regenerate_wireguard_config.${name}`);
export const pingPeerJob = (peer: string) => actJob(`ping_peer.${peer}`);

/** The unit that makes an interface. */
export function wireguardUnit(name: string, { unit }: InterfaceConfig): string {
  return unit ?? `wg-quick@${name}.service`;
}

function wireguardJobs(config: Config): JobSpec[] {
  return Object.entries(config.wireguard.interfaces).flatMap(([name, each]): JobSpec[] => {
    const within = { timeoutMs: timeoutMs(config) };
    const restart = {
      id: restartWireguardJob(name),
      verb: 'restart',
      unit: wireguardUnit(name, each),
      ...within,
    } as const;
    if (each.template === undefined) return [restart];
    const id = regenerateWireguardJob(name);
    const unit = (act: string) => `skos-act-${act}@${name}.service`;
    return [
      restart,
      { id, verb: 'start', unit: unit('regenerate-wireguard-config'), ...within },
      { id: listingOf(id), verb: 'start', unit: unit('regenerate-wireguard-config-list'), ...within },
    ];
  });
}

function pingJobs(config: Config): JobSpec[] {
  const tunnels = Object.values(config.wireguard.interfaces).flatMap(({ peers }) => Object.keys(peers));
  const names = new Set([...Object.keys(config.mesh.peers), ...tunnels]);
  return [...names].map((peer) => ({
    id: pingPeerJob(peer),
    verb: 'start',
    unit: `skos-act-ping-peer@${peer}.service`,
    timeoutMs: timeoutMs(config),
  }));
}

function timeoutMs({ repairs }: Config): number {
  return repairs.timeout * 1000;
}

/** Those that have something to do; each with the listing that comes before it. */
function actJobs(config: Config): JobSpec[] {
  const names = ACT_NAMES.filter((name) => actUnavailable(config, name) === undefined);
  return names.flatMap((name) =>
    [false, true].map(
      (listing): JobSpec => ({
        id: listing ? listingOf(actJob(name)) : actJob(name),
        verb: 'start',
        unit: actUnit(name, { listing }),
        timeoutMs: timeoutMs(config),
      }),
    ),
  );
}

function hookJobs(config: Config): JobSpec[] {
  return Object.entries(config.hooks).map(([name, { unit }]) => ({
    id: hookJob(name),
    verb: 'start',
    unit,
    timeoutMs: timeoutMs(config),
  }));
}

function unitJobs(config: Config): JobSpec[] {
  return Object.entries(config.targets).flatMap(([name, { unit }]) =>
    unit === undefined ? [] : verbsOf(config, unit, (verb) => unitJob(name, verb)),
  );
}

function workloadJobs(config: Config): JobSpec[] {
  return Object.entries(config.workloads).flatMap(([name, { unit }]) =>
    verbsOf(config, unit, (verb) => workloadJob(name, verb)),
  );
}

function verbsOf(config: Config, unit: string, idOf: (verb: UnitVerb) => string): JobSpec[] {
  return UNIT_VERBS.map((verb) => ({ id: idOf(verb), verb, unit, timeoutMs: timeoutMs(config) }));
}

/** What the actuator calls the freeze of a workload. A dot is in no name of `targets`. */
export function workloadFreeze(name: string): string {
  return `freeze/workload.${name}`;
}
