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
  checkCgroups(targets, report);
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
function checkCgroups(targets: Config['targets'], report: Report): void {
  const units = new Map(Object.entries(targets).map(([name, { unit }]) => [unit, name]));
  for (const [name, { cgroup }] of Object.entries(targets)) {
    if (cgroup === undefined) continue;
    const leaf = cgroupPath(cgroup).split('/').at(-1);
    const owner = units.get(leaf);
    if (leaf === undefined || owner === undefined) continue;
    report(
      ['targets', name, 'cgroup'],
      `is the cgroup of ${leaf}, which is targets.${owner}; expected one name for it`,
    );
  }
}
