/**
 * Reads a plan: only from a regular file that root owns (in a test: who runs it) and nobody else may write. What is in it is
 * checked as if nobody had checked it before.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { type ActName, type ActPlan, planShape } from '../config/act-plan.js';
import { logrotatePlaceProblem, placeProblem } from '../config/cleanup-places.js';
import { reason, SkosError } from '../core/errors.js';
import { parse } from '../core/shape.js';

/** Four lists of 32 places of some hundred bytes. */
const MAX_PLAN_BYTES = 256 * 1024;
const OTHERS_MAY_WRITE = 0o022;

/** SKOS_ACT_PLAN where it may not be believed. */
export function readPlan(file: string, name: ActName): ActPlan {
  const text = trustedText(file);
  let written: unknown;
  try {
    written = JSON.parse(text);
  } catch (error) {
    throw new SkosError('SKOS_ACT_PLAN', `${file} is no JSON: ${reason(error)}`);
  }
  const { value, issues } = parse(planShape, written);
  if (value === undefined) {
    const [first] = issues;
    throw new SkosError('SKOS_ACT_PLAN', `${file}: ${first?.path.join('.')} ${first?.message}`);
  }
  if (value.name !== name) throw new SkosError('SKOS_ACT_PLAN', `${file} is the plan of ${value.name}`);
  const places = [...value.places, ...(value.archiveTo === null ? [] : [value.archiveTo])];
  const problems = [
    ...places.map(({ path }) => placeProblem(path)),
    ...value.logrotate.map(({ path }) => logrotatePlaceProblem(path)),
  ];
  for (const problem of problems) {
    if (problem !== undefined) throw new SkosError('SKOS_ACT_PLAN', `${file}: ${problem}`);
  }
  return value;
}

function trustedText(file: string): string {
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    throw new SkosError('SKOS_ACT_PLAN', `${file} cannot be read: ${reason(error)}`);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new SkosError('SKOS_ACT_PLAN', `${file} is no regular file`);
    const isOwned = stat.uid === 0 || stat.uid === process.geteuid?.();
    if (!isOwned || (stat.mode & OTHERS_MAY_WRITE) !== 0)
      throw new SkosError('SKOS_ACT_PLAN', `${file} may be written by others than root`);
    if (stat.size > MAX_PLAN_BYTES) throw new SkosError('SKOS_ACT_PLAN', `${file} is larger than any plan`);
    const bytes = Buffer.alloc(stat.size);
    return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, 0));
  } finally {
    closeSync(fd);
  }
}
