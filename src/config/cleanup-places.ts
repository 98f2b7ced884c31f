/**
 * Which directories storage.cleanup may name. What is deleted by mistake does not come back, so that a place must be one that
 * nobody can mean by mistake: deep enough, no directory of the system, and spelled as it is.
 *
 * Asked when a configuration is checked, and again by the program that deletes, which believes no file.
 */

/** Of the system, whatever lies in them: deleting by age there breaks the machine. */
const SYSTEM = 'bin boot dev efi etc initrd lib lib32 lib64 libx32 proc run sbin sys usr'.split(' ');

/** How many names a path must have at least, where two are too few or one is enough. The longest prefix counts. */
const MIN_DEPTHS: Readonly<Record<string, number>> = {
  '/tmp': 1,
  '/var/tmp': 2,
  // Each directory below is what a whole service, user or disk has.
  '/var': 3,
  '/var/lib': 4,
  '/home': 3,
  '/mnt': 3,
  '/media': 3,
  '/opt': 3,
  '/srv': 3,
};
const MIN_DEPTH = 2;
const MAX_PATH_BYTES = 512;

/** What is wrong with a path as one that is cleaned, archived or archived to; undefined: nothing. */
export function placeProblem(path: string): string | undefined {
  if (!path.startsWith('/')) return `"${path}" is not an absolute path`;
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) return `is longer than ${MAX_PATH_BYTES} bytes`;
  const names = path.slice(1).split('/');
  if (names.includes('..') || names.includes('.')) return `"${path}" contains "." or ".."; expected the plain path`;
  if (path === '/') return 'is the root of all files; expected a directory that holds nothing else';
  if (names.includes('')) return `"${path}" has "/" twice or at its end; expected one spelling of it`;
  if (/[*?[\]{}]/.test(path)) return `"${path}" is a glob; expected one directory (pattern says which files in it)`;
  // Units and systemd-tmpfiles read these as their own signs.
  if (/[\p{Cc}"'\\$%]/u.test(path))
    return `"${path}" contains a sign that no path may have here: " ' \\ $ % or a control character`;
  const [top = ''] = names;
  if (SYSTEM.includes(top)) return `"${path}" is in /${top}, which belongs to the system; expected a directory of data`;
  const needed = minDepth(path);
  if (names.length < needed) return `"${path}" holds too much; expected a directory that is at least ${needed} deep`;
  return undefined;
}

/** Where the logs of the system itself lie, side by side. */
const LOG_DIRECTORY = '/var/log';

/** As one that logrotate may write to: what it touches there, its configuration names. */
export function logrotatePlaceProblem(path: string): string | undefined {
  return path === LOG_DIRECTORY ? undefined : placeProblem(path);
}

function minDepth(path: string): number {
  const prefixes = Object.keys(MIN_DEPTHS).filter((prefix) => isWithin(path, prefix));
  const longest = prefixes.sort((a, b) => b.length - a.length)[0];
  // What lies in /tmp is as deep as elsewhere.
  if (longest === undefined || (longest === '/tmp' && path !== longest)) return MIN_DEPTH;
  return MIN_DEPTHS[longest] ?? MIN_DEPTH;
}

/** Is it the directory, or in it? Both in one spelling. */
export function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

export function overlaps(one: string, other: string): boolean {
  return isWithin(one, other) || isWithin(other, one);
}
