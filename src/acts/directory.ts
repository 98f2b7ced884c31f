/**
 * An open directory, and what is in it. Node.js has no openat(): a name in a directory that is held open is reached as
 * /proc/self/fd/N/NAME, which no rename and no symbolic link on the way there can turn into another place.
 *
 * Names are what the kernel has, bytes: here strings of one character for each byte ("latin1"), shown to people by shownPath().
 */
import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
} from 'node:fs';
import { SkosError, systemCode } from '../core/errors.js';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const OTHERS_MAY_WRITE = 0o022;
const STICKY = 0o1000;

export class Directory {
  readonly #fd: number;
  readonly stat: BigIntStats;

  private constructor(fd: number) {
    this.#fd = fd;
    this.stat = fstatSync(fd, { bigint: true });
  }

  /**
   * A place that root's plan names. SKOS_ACT_PLACE where it is not that directory itself: it is missing, a link leads there, or
   * somebody else could put a link into its path while this works.
   */
  static place(path: string): Directory {
    const names = path.split('/').slice(1);
    names.slice(0, -1).forEach((_, i) => {
      requireSafe(`/${names.slice(0, i).join('/')}`, `/${names.slice(0, i + 1).join('/')}`);
    });
    const directory = Directory.#opened(path);
    const real = readlinkSync(`/proc/self/fd/${directory.#fd}`);
    if (real === path) return directory;
    directory.close();
    throw new SkosError('SKOS_ACT_PLACE', `${path} leads to ${real}; write that path`);
  }

  static #opened(path: string): Directory {
    try {
      return new Directory(openSync(path, DIRECTORY));
    } catch (error) {
      const what =
        systemCode(error) === 'ENOENT' ? 'is not there' : `is no directory to work in (${systemCode(error)})`;
      throw new SkosError('SKOS_ACT_PLACE', `${path} ${what}`);
    }
  }

  /** undefined: it is gone, or no directory any more. */
  child(name: string): Directory | undefined {
    try {
      return new Directory(openSync(this.at(name), DIRECTORY));
    } catch {
      return undefined;
    }
  }

  /** For the calls of node:fs: the path of a name in it, or of itself. */
  at(name?: string): Buffer {
    const own = `/proc/self/fd/${this.#fd}`;
    return Buffer.from(name === undefined ? own : `${own}/${name}`, 'latin1');
  }

  /** Sorted by bytes, so that a list of the same files is the same list. */
  names(): string[] {
    const names = readdirSync(this.at(), { encoding: 'buffer' }).map((name) => name.toString('latin1'));
    return names.sort((a, b) => (a < b ? -1 : 1));
  }

  /** undefined: it is gone. */
  lstat(name: string): BigIntStats | undefined {
    try {
      return lstatSync(this.at(name), { bigint: true });
    } catch {
      return undefined;
    }
  }

  get fd(): number {
    return this.#fd;
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** `directory` holds `child`, which is on the way to a place: who may rename it may put a link there. */
function requireSafe(directory: string, child: string): void {
  const holder = lstatSync(directory, { throwIfNoEntry: false });
  const held = lstatSync(child, { throwIfNoEntry: false });
  if (holder === undefined || held === undefined) throw new SkosError('SKOS_ACT_PLACE', `${child} is not there`);
  if (!held.isDirectory()) throw new SkosError('SKOS_ACT_PLACE', `${child} is no directory, or a link to one`);
  const ours = [0, process.geteuid?.() ?? 0];
  const isOwned = ours.includes(holder.uid);
  const isSafe = (holder.mode & OTHERS_MAY_WRITE) === 0 || ((holder.mode & STICKY) !== 0 && ours.includes(held.uid));
  if (!isOwned || !isSafe)
    throw new SkosError('SKOS_ACT_PLACE', `${directory} is not root's alone: a link could be put where ${child} is`);
}

/** "dev:ino" and what changes with the content: two equal ones are one file that nobody has touched. */
export function identity({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
}

/** A path of bytes for people: what is no text, and what would break a line, as \xhh. */
export function shownPath(path: string): string {
  const text = textOf(path);
  const escaped = (unit: string) => `\\x${unit.charCodeAt(0).toString(16).padStart(2, '0')}`;
  return text.includes('\ufffd') ? path.replaceAll(/[^\x20-\x7e]/g, escaped) : text.replaceAll(/\p{Cc}/gu, escaped);
}

/** A name as it was most probably meant. */
export function textOf(name: string): string {
  return Buffer.from(name, 'latin1').toString('utf8');
}

export function bytesOf(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}
