/**
 * Archived files of the system's persistent journal: which would go, and their removal by `journalctl --vacuum-size/--vacuum-time`.
 * Only this machine's own; files that are written to stay. Which go first is journald's decision; it is repeated here for the
 * listing: the oldest by the time in their names (and no later than their own times), as long as all archived files together
 * take more than the size. Source: journal_directory_vacuum() in systemd's journal-vacuum.c.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { JOURNAL_DIRECTORY } from '../config/act-plan.js';
import { SkosError } from '../core/errors.js';
import { runToEnd } from './run-to-end.js';

export const JOURNALCTL = '/usr/bin/journalctl';
/** The listing's cut-off and journald's lie so far apart at most, in the direction that keeps more. */
const SPARE_SECONDS = 60;
const MICROSECONDS_PER_MS = 1_000;
const BYTES_PER_BLOCK = 512;

export interface JournalFile {
  readonly path: string;
  readonly bytes: number;
  readonly atMs: number;
}

export interface Vacuum {
  readonly sizeBytes: number | null;
  readonly ageSeconds: number | null;
}

/** undefined: this machine keeps no journal on disk. */
export function journalDirectory(root = '/'): string | undefined {
  try {
    const machine = readFileSync(join(root, 'etc/machine-id'), 'utf8').trim();
    const directory = join(root, JOURNAL_DIRECTORY, machine);
    return /^[0-9a-f]{32}$/.test(machine) && statSync(directory).isDirectory() ? directory : undefined;
  } catch {
    return undefined;
  }
}

/** Oldest first. */
export function archivedFiles(directory: string): JournalFile[] {
  const found = readdirSync(directory).flatMap((name) => {
    // user-1000@<id>-<seqnum>-<realtime>.journal, or of an unclean end user-1000@<realtime>-<random>.journal~
    const [, tidy, broken] =
      /@(?:[0-9a-f]{32}-[0-9a-f]{16}-([0-9a-f]{16})\.journal|([0-9a-f]{16})-[0-9a-f]{16}\.journal~)$/.exec(name) ?? [];
    const realtime = tidy ?? broken;
    const stat = realtime === undefined ? undefined : statSync(join(directory, name), { throwIfNoEntry: false });
    if (realtime === undefined || stat === undefined) return [];
    const namedMs = Number(BigInt(`0x${realtime}`)) / MICROSECONDS_PER_MS;
    const atMs = Math.min(namedMs, stat.atimeMs, stat.mtimeMs, stat.ctimeMs);
    return { path: join(directory, name), bytes: stat.blocks * BYTES_PER_BLOCK, atMs };
  });
  return found.sort((a, b) => a.atMs - b.atMs);
}

/** What would go now. */
export function vacuumable(
  files: readonly JournalFile[],
  { sizeBytes, ageSeconds }: Vacuum,
  wallMs: number,
): JournalFile[] {
  let sum = files.reduce((total, { bytes }) => total + bytes, 0);
  return files.filter(({ bytes, atMs }) => {
    const isOld = ageSeconds !== null && atMs < wallMs - ageSeconds * 1000;
    if (!isOld && (sizeBytes === null || sum <= sizeBytes)) return false;
    sum -= bytes;
    return true;
  });
}

export function vacuum(
  { sizeBytes, ageSeconds }: Vacuum,
  { directory, program, timeoutMs }: { directory: string; program: string; timeoutMs: number },
): void {
  const words = [
    '--quiet',
    `--directory=${directory}`,
    ...(sizeBytes === null ? [] : [`--vacuum-size=${sizeBytes}`]),
    ...(ageSeconds === null ? [] : [`--vacuum-time=${ageSeconds + SPARE_SECONDS}s`]),
  ];
  const { status, stderr } = runToEnd(program, words, { timeoutMs });
  if (status === 0) return;
  throw new SkosError('SKOS_ACT_PROGRAM', `${program} ended with ${status}: ${stderr.trim().split('\n')[0]}`);
}
