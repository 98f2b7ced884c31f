/**
 * Deletes what is old in a place by systemd-tmpfiles, whose semantics hold: no link is followed, no other file system entered, what
 * somebody has locked (flock) stays. What it deletes is on the listing, because
 *  - it is given an age that reaches back to before the listing's, with time to spare for its start;
 *  - what the listing keeps is excluded by name, and so is each directory that has come since: a directory that was moved here
 *    brings old files along, and they are nobody's yet;
 *  - a place with a pattern or exclusions, which it cannot express, is not given to it at all (remove.ts), nor one in which too much
 *    is old or must stay;
 *  - nor is one with a directory into which others than root may put something. It finds files by itself, all along its pass, and would take
 *    an old one that is moved in behind our last look, within a directory, for one of those that it was started for.
 * What is left of that is root itself, moving a directory into such a place in the moment that it is cleaned.
 */
import { SkosError } from '../core/errors.js';
import { bytesOf, Directory } from './directory.js';
import type { InUse } from './in-use.js';
import { type Listing, mountPoints } from './listing.js';
import { removeListed } from './remove.js';
import { runToEnd } from './run-to-end.js';
import { KEPT_NAMES, walk } from './walk.js';

export const TMPFILES = '/usr/bin/systemd-tmpfiles';
/** It compares each of them with each file. */
const MAX_EXCEPTIONS = 2_048;
/** Between the computation of the age and that of its own cut-off: to be started may take a busy node so long. */
export const SPARE_MS = 60_000;
const NS_PER_MICROSECOND = 1_000n;
const NS_PER_MS = 1_000_000n;

export interface CleanOptions {
  readonly listing: Listing;
  readonly inUse: InUse;
  readonly program: string;
  readonly timeoutMs: number;
  readonly spareMs: number;
  readonly wallMs: () => number;
  readonly warn: (text: string) => void;
}

/** What is gone afterwards, the caller finds out. */
export function cleanByTmpfiles({ listing, inUse, program, timeoutMs, spareMs, wallMs, warn }: CleanOptions): void {
  const isForeign = listing.isPart || listing.isOpenToOthers;
  const exceptions = isForeign ? [] : [...listing.exceptions, ...newDirectories(listing, inUse)];
  // It cannot be told of a part, nor of so much that must stay: nobody may keep a full disk full.
  if (isForeign || exceptions.length > MAX_EXCEPTIONS) {
    removeListed({ listing, inUse, warn });
    return;
  }
  requireSame(listing);
  const input = Buffer.from(tmpfilesConfig(listing, { exceptions, wallMs: wallMs() + spareMs }), 'latin1');
  const { status, stderr } = runToEnd(program, ['--clean', '-'], { input, timeoutMs });
  for (const line of stderr.split('\n')) if (line !== '') warn(line);
  // 65, 73: a line of its configuration was not taken, or not followed. Then nothing is known.
  if (status !== 0) throw new SkosError('SKOS_ACT_PROGRAM', `${program} ended with ${status}`);
}

function newDirectories({ place, root, directories }: Listing, inUse: InUse): string[] {
  const found: string[] = [];
  const isWhole = walk(
    { place, root, inUse, mounts: mountPoints() },
    {
      file: () => undefined,
      left: ({ path, stat }) => {
        if (!directories.has(`${stat.dev}:${stat.ino}`)) found.push(path);
      },
      kept: ({ path, stat }) => {
        if (stat.isDirectory()) found.push(path);
      },
    },
  );
  if (!isWhole) throw new SkosError('SKOS_ACT_TOO_MANY', `${place.path} holds more than can be looked at`);
  return found;
}

/** It opens the place by its path. */
function requireSame({ place, root }: Listing): void {
  const again = Directory.place(place.path);
  again.close();
  if (again.stat.dev !== root.stat.dev || again.stat.ino !== root.stat.ino)
    throw new SkosError('SKOS_ACT_PLACE', `${place.path} has become another directory`);
}

/** tmpfiles.d(5), as bytes; `wallMs`: when it is started at the latest. */
function tmpfilesConfig(
  { place, cutoffNs }: Pick<Listing, 'place' | 'cutoffNs'>,
  { exceptions, wallMs }: { exceptions: readonly string[]; wallMs: number },
): string {
  const ageMicroseconds = (BigInt(Math.ceil(wallMs)) * NS_PER_MS - cutoffNs) / NS_PER_MICROSECOND;
  return [
    // "d" would create it, which --clean does not. What a place may be called is quoted by nothing but quotes: cleanup-places.ts.
    `d "${bytesOf(place.path)}" - - - ${ageMicroseconds}us`,
    ...KEPT_NAMES.map((name) => `x ${globOf(bytesOf(place.path))}/${name}`),
    ...[...new Set(exceptions)].map((kept) => `x ${globOf(kept)}`),
    '',
  ].join('\n');
}

/**
 * As a glob of fnmatch(3), in which a sign that quoting, specifiers or globs might mean otherwise, in this version of systemd or
 * another, stands as "?", any one byte: that may keep more than is meant, never less.
 */
function globOf(path: string): string {
  return path.replaceAll(/[^A-Za-z0-9._/@:+=,~-]/g, '?');
}
