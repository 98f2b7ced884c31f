/**
 * Compiles the allow-list: what skos-actuator may move on this machine (allow-targets.ts), the standing orders that it carries out by
 * itself (standing-orders.ts), the jobs that it may start and the energies that it may read. Pure: what the machine has is given as
 * facts. The format is stated in native/actuator/README.md.
 *
 * What the operator asked for and does not fit stands in the file as a comment, so that the list itself says what it lacks.
 */
import type { CompileInput, LeftOut } from './allow-input.js';
import { allowedTargets, isListable, type Target, targetLine } from './allow-targets.js';
import { type JobSpec, jobsOf } from './jobs.js';
import type { Config } from './schema.js';
import { gpuRemarks, orderLine, standingOrders } from './standing-orders.js';

/** How many of each the format has room for; native/actuator/README.md. */
const ROOM = { targets: 512, orders: 64, energies: 64, jobs: 256 };

/** The whole text of the allow-list. */
export function compileAllowList(input: CompileInput): string {
  const leftOut: LeftOut = [];
  const { cpu, gpus, gpuClocks, others } = allowedTargets(input, leftOut);
  const targets = fitting([...cpu, ...gpus, ...gpuClocks, ...others], ROOM.targets, leftOut, ({ id }) => id);
  const listed = new Set(targets.map(({ id }) => id));
  const isListed = ({ id }: Target) => listed.has(id);
  const movable = { cpu: cpu.filter(isListed), gpus: gpus.filter(isListed), gpuClocks: gpuClocks.filter(isListed) };
  const wanted = standingOrders(input, movable, leftOut);
  const energies = fitting(input.facts.energyZones, ROOM.energies, leftOut, ({ zone }) => `energy ${zone}`);
  const jobs = fitting(listableJobs(input.config, leftOut), ROOM.jobs, leftOut, ({ id }) => `job ${id}`);
  const kept = fitting(wanted, ROOM.orders, leftOut, ({ name }) => `order ${name}`);
  const lines = [
    `# Made by \`skos config compile\` for node ${input.config.node}, mode ${input.config.mode}. Do not edit: compile again.`,
    ...leftOut.map((what) => `# left out: ${printable(what)}`),
    ...gpuRemarks(input, kept).map((remark) => `# ${remark}`),
    `controller ${input.controllerUid}`,
    ...targets.map(targetLine),
    ...kept.map((order) => orderLine(order, input)),
    ...energies.map(({ zone, path, maxMicroJoules }) => `energy ${powerId(zone)} ${path} max_uj=${maxMicroJoules}`),
    ...jobs.map(({ id, verb, unit, timeoutMs }) => `job ${id} ${verb} ${unit} timeout_ms=${timeoutMs}`),
  ];
  return ['skos-allow 1', ...lines, `end ${lines.length}`, ''].join('\n');
}

/** What the actuator calls the power of a zone; the kernel's name of one is "intel-rapl:0:0". */
export function powerId(zone: string): string {
  return `rapl/${zone}`;
}

function fitting<T>(items: readonly T[], max: number, leftOut: LeftOut, nameOf: (item: T) => string): readonly T[] {
  for (const item of items.slice(max)) leftOut.push(`${nameOf(item)}: the list is full (${max})`);
  return items.slice(0, max);
}

/** A comment is one line of ASCII, whatever the operator's names hold. */
function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?');
}

/** Of slices and scopes there is nothing to start. */
function listableJobs(config: Config, leftOut: LeftOut): JobSpec[] {
  return jobsOf(config).filter(({ id, unit }) => unit.endsWith('.service') && isListable(id, unit, leftOut));
}
