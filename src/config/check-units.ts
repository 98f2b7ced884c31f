/** What the schema cannot see of systemd units: those that nothing may move, those named twice, names that make too long an id. */
import type { Path } from '../core/shape.js';
import type { Config } from './schema.js';

/** Ids of the allow-list have 64 characters: `workload/NAME/restart` and `freeze/workload.NAME`, `unit/NAME/restart`. */
const MAX_WORKLOAD_LENGTH = 47;
const MAX_UNIT_TARGET_LENGTH = 51;
/** As native/units/unit_name.h: without these nothing is taken back any more. */
const VITAL =
  /^(-\.slice|init\.scope|system\.slice|skos\.slice|systemd-journald\.service|skos-(?!act-).*\.(service|scope|slice))$/;

type Report = (path: Path, message: string) => void;

/** Relative to the cgroup root, in one spelling. */
export function cgroupPath(written: string): string {
  return written
    .split('/')
    .filter((part) => part !== '')
    .join('/');
}

export function checkUnits({ targets, hooks, workloads }: Config, report: Report): void {
  checkOnce(targets, 'targets', report);
  checkOnce(workloads, 'workloads', report);
  checkCgroups({ targets, workloads }, report);
  for (const [section, entries] of Object.entries({ targets, hooks, workloads })) {
    for (const [name, { unit }] of Object.entries(entries)) {
      if (unit === undefined || !VITAL.test(unit)) continue;
      report([section, name, 'unit'], `${unit} is what everything here depends on; expected another unit`);
    }
  }
  for (const [name, { unit }] of Object.entries(hooks)) {
    if (!unit.endsWith('.service')) report(['hooks', name, 'unit'], `${unit} cannot be started; expected a .service`);
  }
  for (const name of Object.keys(workloads)) checkLength(name, ['workloads', name], MAX_WORKLOAD_LENGTH, report);
  for (const [name, { unit }] of Object.entries(targets)) {
    if (unit !== undefined) checkLength(name, ['targets', name], MAX_UNIT_TARGET_LENGTH, report);
  }
}

function checkLength(name: string, path: Path, max: number, report: Report): void {
  if (name.length > max)
    report(path, `the name has ${name.length} characters; expected at most ${max} where it has a unit`);
}

/** Two names for one limit would each take the other's cap for the former value. */
function checkOnce(
  entries: Readonly<Record<string, { readonly unit?: string | undefined }>>,
  section: string,
  report: Report,
): void {
  const owners = new Map<string, string>();
  for (const [name, { unit }] of Object.entries(entries)) {
    if (unit === undefined) continue;
    const owner = owners.get(unit);
    if (owner !== undefined)
      report([section, name, 'unit'], `is the unit of ${section}.${owner} too; expected one name for it`);
    else owners.set(unit, name);
  }
}

/** The cgroup of a unit is named as the unit. */
function checkCgroups({ targets, workloads }: Pick<Config, 'targets' | 'workloads'>, report: Report): void {
  const owners = new Map<string | undefined, string>();
  for (const [section, entries] of Object.entries({ workloads, targets })) {
    for (const [name, { unit }] of Object.entries(entries)) owners.set(unit, `${section}.${name}`);
  }
  for (const [name, { cgroup }] of Object.entries(targets)) {
    if (cgroup === undefined) continue;
    const path = ['targets', name, 'cgroup'];
    const leaf = cgroupPath(cgroup).split('/').at(-1) ?? '';
    // Frozen by its own hand, the actuator thaws nothing any more.
    if (VITAL.test(leaf)) report(path, `${leaf} is what everything here depends on; expected another cgroup`);
    const owner = owners.get(leaf);
    if (owner !== undefined) report(path, `is the cgroup of ${leaf}, which is ${owner}; expected one name for it`);
  }
}
