/**
 * What an act would touch in one place, and why it leaves the rest: found by looking alone. Nothing is deleted or moved that a
 * listing did not name before.
 */
import { type BigIntStats, readFileSync } from 'node:fs';
import type { Place } from '../config/act-plan.js';
import { SkosError } from '../core/errors.js';
import { globMatches } from '../core/glob.js';
import { parseMounts } from '../core/mount-info.js';
import { type Directory, identity, textOf } from './directory.js';
import type { InUse } from './in-use.js';
import { type Entry, type KeptReason, MAX_ENTRIES, walk } from './walk.js';

/** Of one place: some 300 bytes of memory for each. */
const MAX_LISTED = 1_000_000;
const OTHERS_MAY_WRITE = 0o022;
const NS_PER_SECOND = 1_000_000_000n;
const NS_PER_MS = 1_000_000n;
/** st_blocks counts in these, whatever the file system has. */
const BYTES_PER_BLOCK = 512n;

/** `tree`: whatever is old, and directories that are empty then. `files`: files and links. `archive`: regular files with one name. */
export type ListingKind = 'tree' | 'files' | 'archive';

export interface Listed {
  /** Bytes; see directory.ts. */
  readonly path: string;
  readonly isDirectory: boolean;
  readonly identity: string;
  /** What its end frees: 0 for a directory, and for one of several names. */
  readonly freedBytes: number;
}

export interface Listing {
  readonly place: Place;
  readonly root: Directory;
  readonly items: ReadonlyMap<string, Listed>;
  readonly kept: ReadonlyMap<KeptReason, number>;
  /** Paths of what must stay although it may look old. */
  readonly exceptions: readonly string[];
  /** Others than root may put something into a directory that was walked, at any moment. */
  readonly isOpenToOthers: boolean;
  /** "dev:ino" of every directory that was walked. */
  readonly directories: ReadonlySet<string>;
  /** All that is listed was last read, written and changed before. */
  readonly cutoffNs: bigint;
  /** There is more than can be listed at once: what is listed can go, the rest is left for the next run. */
  readonly isPart: boolean;
}

export interface ListingOptions {
  readonly place: Place;
  readonly kind: ListingKind;
  /** Held open by who asks, as long as the listing is used. */
  readonly root: Directory;
  readonly inUse: InUse;
  readonly wallMs: number;
  readonly maxListed?: number;
}

/** SKOS_ACT_TOO_MANY where nothing old is among as many entries as can be looked at. */
export function listPlace({ place, kind, root, inUse, wallMs, maxListed = MAX_LISTED }: ListingOptions): Listing {
  const cutoffNs = BigInt(Math.floor(wallMs)) * NS_PER_MS - BigInt(place.ageSeconds) * NS_PER_SECOND;
  const items = new Map<string, Listed>();
  const kept = new Map<KeptReason, number>();
  const exceptions: string[] = [];
  const directories = new Set<string>();
  /** Directories in which something stays. */
  const inhabited = new Set<string>();
  let isFull = false;
  let isOpenToOthers = othersMayWrite(root.stat);

  const stays = ({ path }: Entry) => inhabited.add(path.slice(0, path.lastIndexOf('/')));
  const keep = (entry: Entry, why: KeptReason) => {
    kept.set(why, (kept.get(why) ?? 0) + 1);
    stays(entry);
    if (why !== 'system' && (entry.stat.isDirectory() || isOld(entry, cutoffNs))) exceptions.push(entry.path);
  };
  const list = (entry: Entry) => {
    isFull ||= items.size >= maxListed;
    if (isFull) {
      stays(entry);
      return;
    }
    const isDirectory = entry.stat.isDirectory();
    const isLast = !isDirectory && entry.stat.nlink === 1n;
    const freedBytes = isLast ? Number(entry.stat.blocks * BYTES_PER_BLOCK) : 0;
    items.set(entry.path, { path: entry.path, isDirectory, identity: identity(entry.stat), freedBytes });
  };

  const isWhole = walk(
    { place, root, inUse, mounts: mountPoints() },
    {
      file(entry) {
        if (!isOld(entry, cutoffNs) || !isMeant(entry, place, kind)) stays(entry);
        else if (kind === 'archive' && entry.stat.nlink > 1n) keep(entry, 'hard_link');
        else list(entry);
      },
      left(entry) {
        directories.add(`${entry.stat.dev}:${entry.stat.ino}`);
        isOpenToOthers ||= othersMayWrite(entry.stat);
        const isEmptied = !inhabited.delete(entry.path);
        if (kind === 'tree' && isEmptied && isOld(entry, cutoffNs)) list(entry);
        else stays(entry);
      },
      kept: keep,
    },
  );
  if (!isWhole && items.size === 0)
    throw new SkosError('SKOS_ACT_TOO_MANY', `${place.path} holds more than ${MAX_ENTRIES} files`);
  return { place, root, items, kept, exceptions, isOpenToOthers, directories, cutoffNs, isPart: isFull || !isWhole };
}

/** With an access control list the bits of the group are its mask: the most that it gives to anybody. */
function othersMayWrite({ uid, mode }: BigIntStats): boolean {
  return (Number(uid) !== 0 && Number(uid) !== process.geteuid?.()) || (Number(mode) & OTHERS_MAY_WRITE) !== 0;
}

function isMeant({ name, stat }: Entry, { pattern }: Place, kind: ListingKind): boolean {
  if (pattern !== undefined && !globMatches(pattern, textOf(name))) return false;
  return kind === 'archive' || pattern !== undefined ? stat.isFile() : true;
}

/**
 * As systemd-tmpfiles counts the age: of a directory without its change time, which the removal of a file in it would renew. It may
 * look at the time of birth too, which can only keep more.
 */
function isOld({ stat }: Entry, cutoffNs: bigint): boolean {
  const times = stat.isDirectory() ? [stat.atimeNs, stat.mtimeNs] : [stat.atimeNs, stat.mtimeNs, stat.ctimeNs];
  return times.every((time) => time < cutoffNs);
}

export function mountPoints(): ReadonlySet<string> {
  return new Set(parseMounts(readFileSync('/proc/self/mountinfo', 'utf8')).map(({ point }) => point));
}

export function freedBytes(items: Iterable<Listed>): number {
  let sum = 0;
  for (const item of items) sum += item.freedBytes;
  return sum;
}
