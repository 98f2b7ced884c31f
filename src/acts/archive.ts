/**
 * Moves what a listing names to the archive, each file below it under its whole path. In this order, so that a kill or a power cut
 * at any moment leaves the file whole in at least one of both places:
 *
 *   copy to <archive>/.skos-partial/, with owner, mode, attributes and times → fsync → read back, SHA-256 compared → link to its name in the
 *   archive, which fails where something of that name is → fsync of that directory → unlink of the original, if neither it nor
 *   its name has changed since it was opened
 *
 * A file that is there already with the same content was moved by a run that did not come to its end: only its original goes. With
 * other content or attributes, the original stays. Holes stay holes.
 */
import { createHash, type Hash } from 'node:crypto';
import {
  type BigIntStats,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmdirSync,
  statfsSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { reason, SkosError, systemCode } from '../core/errors.js';
import { parseMounts, placeInFileSystem } from '../core/mount-info.js';
import type { FileAttributes } from '../sensors/addon.js';
import { haveSameAttributes, takeAttributes } from './attributes.js';
import { Directory, identity, shownPath } from './directory.js';
import type { InUse } from './in-use.js';
import { type Listing, mountPoints } from './listing.js';
import { type Entry, walk } from './walk.js';

export const PARTIAL = '.skos-partial';
const CHUNK_BYTES = 1024 * 1024;
/** The size of a page, which is what file systems make holes of. */
const HOLE_BYTES = 4096;
const PERMISSIONS = 0o7777;
const PARTIAL_MODE = 0o700;
/** What others write to the archive must go on fitting in. */
const LEFT_FREE_SHARE = 0.05;
/** The set of open files is looked up anew when it is older: writers come and go while large files are copied. */
const IN_USE_EVERY_MS = 5_000;

export interface Archive {
  readonly root: Directory;
  /** Where files are until they are whole. Absent: this only lists. */
  readonly partial?: Directory;
  readonly attributes: FileAttributes;
}

/** SKOS_ACT_PLACE where it is not there, or its file system is not mounted. A listing changes nothing in it. */
export function openArchive({
  path,
  inside,
  isListing,
  attributes,
}: {
  path: string;
  inside: string;
  isListing: boolean;
  attributes: FileAttributes;
}): Archive {
  const root = Directory.place(path);
  try {
    const found = placeInFileSystem(path, parseMounts(readFileSync('/proc/self/mountinfo', 'utf8')));
    if (found !== inside)
      throw new SkosError(
        'SKOS_ACT_PLACE',
        `${path} is not on the file system that it was on when the plan was made: is it mounted? If it was moved for good, remove the plan and compile it again`,
      );
    return { root, attributes, ...(isListing ? {} : { partial: partialDirectory(root, path) }) };
  } catch (error) {
    root.close();
    throw error;
  }
}

function partialDirectory(root: Directory, path: string): Directory {
  const partial = madeDirectory(root, PARTIAL);
  // Not as it was before it was closed: the archive itself may give what is made in it more than was asked for.
  const { uid, mode } = fstatSync(partial.fd);
  if (uid !== process.geteuid?.() || (mode & PERMISSIONS) !== PARTIAL_MODE)
    throw new SkosError('SKOS_ACT_PLACE', `${path}/${PARTIAL} is not this program's alone`);
  // What is left in it is of a run that was killed; its originals are where they were.
  for (const name of partial.names()) unlinkSync(partial.at(name));
  return partial;
}

export function closeArchive({ root, partial }: Archive): void {
  partial?.close();
  root.close();
}

export interface MoveOptions {
  readonly listing: Listing;
  readonly archive: Archive & { readonly partial: Directory };
  readonly openFiles: () => InUse;
  readonly nowMs: () => number;
  readonly warn: (text: string) => void;
}

export interface Moved {
  readonly files: number;
  readonly bytes: number;
  /** The archive has no room for what is left. */
  readonly isFull: boolean;
}

export function moveListed({ listing, archive, openFiles, nowMs, warn }: MoveOptions): Moved {
  if (listing.root.stat.dev === archive.root.stat.dev)
    throw new SkosError(
      'SKOS_ACT_PLACE',
      `${listing.place.path} is on the file system of the archive: moving frees nothing`,
    );
  let inUse = openFiles();
  let inUseAtMs = nowMs();
  const isOpen = ({ path, stat }: Entry) => {
    if (nowMs() - inUseAtMs > IN_USE_EVERY_MS) {
      inUse = openFiles();
      inUseAtMs = nowMs();
    }
    return inUse.inodes.has(stat.ino) || inUse.paths?.has(path) === true;
  };
  let files = 0;
  let bytes = 0;
  let isFull = false;
  walk(
    { place: listing.place, root: listing.root, inUse: { ...inUse, inodes: new Set() }, mounts: mountPoints() },
    {
      file(entry) {
        if (isFull || listing.items.get(entry.path)?.identity !== identity(entry.stat)) return;
        if (isOpen(entry)) return;
        try {
          moveFile(entry, { archive, isOpen });
          files++;
          bytes += listing.items.get(entry.path)?.freedBytes ?? 0;
        } catch (error) {
          isFull = isSpace(error);
          warn(`${shownPath(entry.path)} stays: ${reason(error)}`);
        }
      },
      kept: () => undefined,
    },
  );
  return { files, bytes, isFull };
}

function isSpace(error: unknown): boolean {
  return error instanceof SkosError ? error.code === 'SKOS_ACT_FULL' : ['ENOSPC', 'EDQUOT'].includes(systemCode(error));
}

/** One file, which has the identity of the listing. Throws where the original stays. */
function moveFile(
  entry: Entry,
  { archive, isOpen }: Pick<MoveOptions, 'archive'> & { isOpen: (entry: Entry) => boolean },
): void {
  const fd = openedUnread(entry.directory.at(entry.name));
  try {
    const before = fstatSync(fd, { bigint: true });
    if (identity(before) !== identity(entry.stat) || !before.isFile()) throw new Error('it was changed');
    const target = targetDirectory(entry, archive);
    try {
      const isNew = place({ fd, before, entry, archive, target });
      fsyncSync(target.fd);
      // A large one took long: who has opened it meanwhile may write to it later.
      const isLate = isOpen(entry) || !isUnchanged(entry, fd, before);
      if (isLate) {
        if (isNew) removeIfThere(target.at(entry.name));
        throw new Error('it was opened or changed while it was copied');
      }
      unlinkSync(entry.directory.at(entry.name));
    } finally {
      if (target !== archive.root) target.close();
    }
  } finally {
    closeSync(fd);
  }
}

/** Reading it does not make it younger: a run that is cut off must find it old again. */
function openedUnread(path: Buffer): number {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  try {
    return openSync(path, flags | constants.O_NOATIME);
  } catch (error) {
    if (systemCode(error) !== 'EPERM') throw error;
    return openSync(path, flags); // Neither its owner nor root.
  }
}

function isUnchanged(entry: Entry, fd: number, before: BigIntStats): boolean {
  const named = entry.directory.lstat(entry.name);
  return (
    named !== undefined &&
    identity(named) === identity(before) &&
    identity(fstatSync(fd, { bigint: true })) === identity(before)
  );
}

interface Placing {
  readonly fd: number;
  readonly before: BigIntStats;
  readonly entry: Entry;
  readonly archive: MoveOptions['archive'];
  readonly target: Directory;
}

/** False: it was there already. */
function place({ fd, before, entry, archive, target }: Placing): boolean {
  const there = target.lstat(entry.name);
  if (there !== undefined) {
    requireEqual({ fd, before, name: entry.name, archive, target, there });
    return false;
  }
  requireRoom(archive, before);
  const partial = archive.partial.at(`${before.dev}-${before.ino}`);
  try {
    const sum = copied({ from: fd, stat: before, path: partial, attributes: archive.attributes });
    if (sum !== sumOfFile(partial)) throw new Error('what was written reads back otherwise');
    if (!isUnchanged(entry, fd, before)) throw new Error('it was changed while it was copied');
    linkSync(partial, target.at(entry.name));
  } finally {
    removeIfThere(partial);
  }
  return true;
}

function requireEqual({
  fd,
  before,
  name,
  archive,
  target,
  there,
}: Omit<Placing, 'entry'> & { name: string; there: BigIntStats }): void {
  // A copy is younger than what it was copied from. What has the same change time is the file itself, seen by another way.
  if (there.ctimeNs === before.ctimeNs) throw new Error('the archive shows the file itself in its place');
  const isEqual = there.isFile() && there.size === before.size && sumOf(fd) === sumOfFile(target.at(name));
  if (!isEqual) throw new Error('the archive has another file of this name');
  // The run that put it there may have been cut off before it was on disk.
  const written = openSync(target.at(name), constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    if (!haveSameAttributes(archive.attributes, fd, written))
      throw new Error('the archive has a file of this name with other attributes');
    fsyncSync(written);
  } finally {
    closeSync(written);
  }
}

function requireRoom({ root }: Archive, { blocks }: BigIntStats): void {
  const { bavail, blocks: all, bsize } = statfsSync(root.at());
  if (Number(blocks) * 512 + all * bsize * LEFT_FREE_SHARE > bavail * bsize)
    throw new SkosError('SKOS_ACT_FULL', `the archive would be less than ${LEFT_FREE_SHARE * 100} % free`);
}

/** Returns the SHA-256 of what was read. The file is on disk then, with all that is taken along. */
function copied({
  from,
  stat,
  path,
  attributes,
}: {
  from: number;
  stat: BigIntStats;
  path: Buffer;
  attributes: FileAttributes;
}): string {
  const to = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
  try {
    const hash = createHash('sha256');
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    let position = 0;
    for (let length = -1; length !== 0; position += length) {
      length = readSync(from, buffer, 0, buffer.length, position);
      hash.update(buffer.subarray(0, length));
      writeWithHoles(to, buffer.subarray(0, length), position);
    }
    ftruncateSync(to, position);
    // Owner first: a change of owner takes the set-user-id bit away.
    fchownSync(to, Number(stat.uid), Number(stat.gid));
    fchmodSync(to, Number(stat.mode) & PERMISSIONS);
    takeAttributes(attributes, from, to);
    requireOwnerAndMode(to, stat);
    if (attributes.setTimes(to, stat.atimeNs, stat.mtimeNs) !== 0)
      throw new Error('the archive does not take its times');
    fsyncSync(to);
    return hash.digest('hex');
  } finally {
    closeSync(to);
  }
}

/** A file system may say that it took them and go on with its own. */
function requireOwnerAndMode(fd: number, { uid, gid, mode }: BigIntStats): void {
  const made = fstatSync(fd, { bigint: true });
  if (made.uid !== uid || made.gid !== gid || made.mode !== mode)
    throw new Error('the archive does not keep its owner and mode');
}

function writeWithHoles(to: number, bytes: Buffer, position: number): void {
  for (let start = 0; start < bytes.length; ) {
    let end = start;
    while (end < bytes.length && !isHole(bytes, end)) end = Math.min(end + HOLE_BYTES, bytes.length);
    for (let at = start; at < end; ) at += writeSync(to, bytes, at, end - at, position + at);
    start = end;
    while (start < bytes.length && isHole(bytes, start)) start += HOLE_BYTES;
  }
}

const NOTHING = Buffer.alloc(HOLE_BYTES);

function isHole(bytes: Buffer, at: number): boolean {
  return at + HOLE_BYTES <= bytes.length && bytes.compare(NOTHING, 0, HOLE_BYTES, at, at + HOLE_BYTES) === 0;
}

function sumOfFile(path: Buffer): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    return sumOf(fd);
  } finally {
    closeSync(fd);
  }
}

function sumOf(fd: number): string {
  const hash: Hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let position = 0, length = -1; length !== 0; position += length) {
    length = readSync(fd, buffer, 0, buffer.length, position);
    hash.update(buffer.subarray(0, length));
  }
  return hash.digest('hex');
}

function removeIfThere(path: Buffer): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}

// ---- Directories of the archive ------------------------------------------------------------------------------------

/**
 * That of the same path below the archive; what is missing is made like the original's. What is mounted there is not entered: it may
 * be the place itself, where each file would be found to be archived already.
 */
function targetDirectory({ path }: Entry, { root, attributes }: Archive): Directory {
  const names = path.split('/').slice(1, -1);
  let directory = root;
  try {
    names.forEach((name, i) => {
      const model = Buffer.from(`/${names.slice(0, i + 1).join('/')}`, 'latin1');
      const next = madeDirectory(directory, name, (made) => makeLike(made.fd, model, attributes));
      if (directory !== root) directory.close();
      directory = next;
      if (next.stat.dev !== root.stat.dev)
        throw new Error(`the archive has another file system in the place of ${shownPath(name)}`);
    });
  } catch (error) {
    if (directory !== root) directory.close();
    throw error;
  }
  return directory;
}

/** Closed to all but root until `finish` has made it what it shall be; where that fails it is not there. */
function madeDirectory(
  parent: Directory,
  name: string,
  finish: (made: Directory) => void = () => undefined,
): Directory {
  let isNew = false;
  try {
    mkdirSync(parent.at(name), { mode: PARTIAL_MODE });
    isNew = true;
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
  }
  const made = parent.child(name);
  if (made === undefined) throw new Error(`the archive has no directory in the place of ${shownPath(name)}`);
  if (!isNew) return made;
  try {
    // What the archive itself would give it, such as its group's.
    fchmodSync(made.fd, PARTIAL_MODE);
    finish(made);
    fsyncSync(made.fd);
    fsyncSync(parent.fd);
  } catch (error) {
    made.close();
    rmdirSync(parent.at(name));
    throw error;
  }
  return made;
}

/** Of what is no directory any more nothing is taken over. */
function makeLike(made: number, model: Buffer, attributes: FileAttributes): void {
  let fd: number;
  try {
    fd = openSync(model, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch {
    return;
  }
  try {
    const stat = fstatSync(fd, { bigint: true });
    fchownSync(made, Number(stat.uid), Number(stat.gid));
    fchmodSync(made, Number(stat.mode) & PERMISSIONS);
    takeAttributes(attributes, fd, made);
    requireOwnerAndMode(made, stat);
  } finally {
    closeSync(fd);
  }
}
