/**
 * Extended attributes of what is archived: access control lists, file capabilities, what users noted. The copy has exactly those of the
 * original, or the original stays: a list that is lost would let the group do what the list's mask allowed, and one that the archive
 * gives by itself lets others read. trusted.* is not seen without CAP_SYS_ADMIN, which no act has.
 */
import { getSystemErrorName } from 'node:util';
import type { FileAttributes } from '../sensors/addon.js';
import { shownPath } from './directory.js';

/** What they say holds where the file lies: labels of the machine's policy, its hashes, and how a file system stores it. The archive has its own. */
const OF_THE_PLACE = [
  'security.selinux',
  'security.SMACK64',
  'security.apparmor',
  'security.ima',
  'security.evm',
  'btrfs.',
  'bcachefs.',
  'lustre.',
];

/** Takes along what can be; throws where `to` does not read as `from` afterwards. Behind fchown() and fchmod(), which change some. */
export function takeAttributes(files: FileAttributes, from: number, to: number): void {
  const wanted = namesOf(files, from);
  for (const name of namesOf(files, to).filter((each) => !isOfThePlace(each) && !wanted.includes(each)))
    taken(files.removeAttribute(to, name), name);
  for (const name of wanted) {
    const errno = files.setAttribute(to, name, attributeOf(files, from, name));
    if (!isOfThePlace(name)) taken(errno, name);
  }
  if (!haveSameAttributes(files, from, to)) throw new Error('its attributes read back otherwise in the archive');
}

export function haveSameAttributes(files: FileAttributes, one: number, other: number): boolean {
  const names = namesOf(files, one).filter((name) => !isOfThePlace(name));
  const others = namesOf(files, other).filter((name) => !isOfThePlace(name));
  return (
    names.join('\0') === others.join('\0') &&
    names.every((name) => attributeOf(files, one, name).equals(attributeOf(files, other, name)))
  );
}

function isOfThePlace(name: string): boolean {
  return OF_THE_PLACE.some((prefix) => name.startsWith(prefix));
}

function namesOf(files: FileAttributes, fd: number): readonly string[] {
  const names = files.attributeNames(fd);
  if (typeof names === 'number') throw new Error(`its attributes cannot be read (${nameOf(names)})`);
  return [...names].sort();
}

function attributeOf(files: FileAttributes, fd: number, name: string): Buffer {
  const value = files.getAttribute(fd, name);
  if (typeof value === 'number') throw new Error(`its attribute ${shownPath(name)} cannot be read (${nameOf(value)})`);
  return value;
}

function taken(errno: number, name: string): void {
  if (errno !== 0) throw new Error(`the archive does not take its attribute ${shownPath(name)} (${nameOf(errno)})`);
}

function nameOf(errno: number): string {
  return getSystemErrorName(-errno);
}
