/** storage.cleanup: what the schema cannot see of it. Everything that it refuses here could delete what nobody named. */
import type { Path } from '../core/shape.js';
import { ageSeconds } from './act-plan.js';
import { logrotatePlaceProblem, overlaps, placeProblem } from './cleanup-places.js';
import type { Config, LogPlaceConfig } from './schema.js';

type Report = (path: Path, message: string) => void;

/** Below it a program that is still at work would lose its files. */
const MIN_AGE_SECONDS = 600;

interface Named {
  readonly path: string;
  readonly at: Path;
  readonly list: 'temp' | 'logs' | 'caches' | 'archive';
  /** By logrotate, which knows no age and touches what its configuration names. */
  readonly isRotated: boolean;
}

export function checkCleanup({ storage: { cleanup }, data_dir, hooks }: Config, report: Report): void {
  const root: Path = ['storage', 'cleanup'];
  const named: Named[] = [];
  cleanup.logs.forEach((place, i) => {
    checkLogPlace(place, [...root, 'logs', i], report);
  });
  for (const list of ['temp', 'logs', 'caches', 'archive'] as const) {
    cleanup[list].forEach((place, i) => {
      const { path, age, exclude } = place;
      const at = [...root, list, i];
      checkAge(age, [...at, 'age'], report);
      checkExclusions(exclude, [...at, 'exclude'], report);
      const isRotated = 'logrotate' in place && place.logrotate !== undefined;
      const problemOf = isRotated ? logrotatePlaceProblem : placeProblem;
      if (path !== undefined && checkPlace(path, { at: [...at, 'path'], data_dir, problemOf }, report))
        named.push({ path, at: [...at, 'path'], list, isRotated });
    });
  }
  checkOverlaps(named, report);
  checkArchive({ named, to: cleanup.archive_to, data_dir, hasHook: hooks.archive !== undefined }, report);
}

interface Placed {
  readonly at: Path;
  readonly data_dir: string;
  readonly problemOf?: (path: string) => string | undefined;
}

function checkPlace(path: string, { at, data_dir, problemOf = placeProblem }: Placed, report: Report): boolean {
  const problem = problemOf(path);
  if (problem !== undefined) report(at, problem);
  else if (overlaps(path, data_dir)) report(at, `"${path}" and data_dir (${data_dir}) lie in each other`);
  else return true;
  return false;
}

function checkAge(age: string | undefined, at: Path, report: Report): void {
  if (age !== undefined && ageSeconds(age) < MIN_AGE_SECONDS)
    report(at, `"${age}" is too young; expected at least 10m`);
}

function checkExclusions(exclude: readonly string[], at: Path, report: Report): void {
  exclude.forEach((written, i) => {
    const names = written.split('/');
    if (!names.some((name) => name === '' || name === '.' || name === '..')) return;
    report([...at, i], `"${written}" is no path below the place; expected names joined by "/"`);
  });
}

function checkLogPlace(
  { journal, logrotate, path, age, pattern, exclude }: LogPlaceConfig,
  at: Path,
  report: Report,
): void {
  if (journal !== undefined) {
    if (logrotate !== undefined || path !== undefined || age !== undefined)
      report([...at, 'journal'], 'stands beside other keys; expected an entry of its own');
    if (journal.size === undefined && journal.age === undefined)
      report([...at, 'journal'], 'says nothing; expected size, age or both');
    checkAge(journal.age, [...at, 'journal', 'age'], report);
    return;
  }
  if (path === undefined) {
    report(
      at,
      logrotate === undefined
        ? 'names nothing; expected journal, logrotate or path'
        : 'lacks path; expected where logrotate may write',
    );
    return;
  }
  if (logrotate === undefined) {
    if (age === undefined) report([...at, 'age'], 'is missing; expected an age such as 12h, 7d or 4w');
    return;
  }
  if (age !== undefined || pattern !== undefined || exclude.length > 0)
    report([...at, 'logrotate'], 'stands beside age, pattern or exclude; expected an entry of its own, with path only');
  if (!/^\/[\w./+-]+$/.test(logrotate) || logrotate.split('/').includes('..'))
    report([...at, 'logrotate'], `"${logrotate}" is no plain path; expected one such as /etc/logrotate.d/name`);
}

/** Two ages for one directory would mean the smaller one, and what is to be archived must not be deleted first. */
function checkOverlaps(named: readonly Named[], report: Report): void {
  named.forEach(({ path, at, list, isRotated }, i) => {
    for (const other of named.slice(0, i)) {
      if (!overlaps(path, other.path)) continue;
      const isArchived = list === 'archive' || other.list === 'archive';
      if (!isArchived && (list !== other.list || isRotated || other.isRotated)) continue;
      const [index, key] = other.at.slice(-2);
      report(
        at,
        `"${path}" and ${other.list}[${index}].${key} (${other.path}) lie in each other; expected separate directories`,
      );
      return;
    }
  });
}

function checkArchive(
  { named, to, data_dir, hasHook }: { named: readonly Named[]; to: string | null; data_dir: string; hasHook: boolean },
  report: Report,
): void {
  const at: Path = ['storage', 'cleanup', 'archive_to'];
  if (to === null) {
    if (named.some(({ list }) => list === 'archive') && !hasHook)
      report(at, 'is null; expected where archive shall move to');
    return;
  }
  if (!checkPlace(to, { at, data_dir }, report)) return;
  const cleaned = named.find(({ path }) => overlaps(path, to));
  if (cleaned !== undefined)
    report(at, `"${to}" and ${cleaned.list} (${cleaned.path}) lie in each other; expected separate directories`);
}
