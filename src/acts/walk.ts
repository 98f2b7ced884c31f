/**
 * Walks what is below a place: every name once, depth first, in the order of bytes, through directories that are held open. It enters
 * no other file system, follows no link, and passes over what is in use, excluded or kept by its name, with all that is in it.
 */
import type { BigIntStats } from 'node:fs';
import type { Place } from '../config/act-plan.js';
import { globMatches } from '../core/glob.js';
import { bytesOf, type Directory, textOf } from './directory.js';
import type { InUse } from './in-use.js';

/** One descriptor each; systemd-tmpfiles goes no deeper than 512. */
const MAX_DEPTH = 400;
/** Some GB of memory for what is listed of them would be more than the node can spare. */
export const MAX_ENTRIES = 4_000_000;
const STICKY = 0o1000n;

/** Directly below a place: what belongs to systemd, to X11 and to the file system itself. The same globs are systemd-tmpfiles'. */
export const KEPT_NAMES = [
  'systemd-private-*',
  'snap-private-tmp',
  'snap.*',
  '.*-unix',
  'lost+found',
  '.journal',
  'aquota.user',
  'aquota.group',
];

export type KeptReason =
  | 'in_use'
  | 'excluded'
  | 'system'
  | 'mount'
  | 'sticky'
  | 'socket'
  | 'device'
  | 'too_deep'
  | 'unreadable'
  /** Of what is archived: another name of it would stay, and no space be free. */
  | 'hard_link';

export interface Entry {
  readonly directory: Directory;
  readonly name: string;
  /** Absolute, bytes. */
  readonly path: string;
  readonly stat: BigIntStats;
}

export interface Visitor {
  /** A regular file, link or FIFO. */
  file(entry: Entry): void;
  /** All that is in it was visited; its times are those from before. */
  left?(entry: Entry): void;
  kept(entry: Entry, why: KeptReason): void;
}

export interface WalkOptions {
  readonly place: Pick<Place, 'path' | 'exclude'>;
  readonly root: Directory;
  readonly inUse: InUse;
  /** Points of mounts, absolute. */
  readonly mounts: ReadonlySet<string>;
}

/** False: there are more entries than it looks at. */
export function walk(options: WalkOptions, visitor: Visitor): boolean {
  const walker = new Walker(options, visitor);
  walker.inside(options.root, bytesOf(options.place.path), 0);
  return walker.visited <= MAX_ENTRIES;
}

class Walker {
  visited = 0;
  readonly #options: WalkOptions;
  readonly #visitor: Visitor;

  constructor(options: WalkOptions, visitor: Visitor) {
    this.#options = options;
    this.#visitor = visitor;
  }

  inside(directory: Directory, path: string, depth: number): void {
    for (const name of directory.names()) {
      this.visited++;
      if (this.visited > MAX_ENTRIES) return;
      const stat = directory.lstat(name);
      if (stat === undefined) continue;
      this.#entry({ directory, name, path: `${path}/${name}`, stat }, depth);
    }
  }

  #entry(entry: Entry, depth: number): void {
    const why = this.#whyKept(entry, depth);
    if (why !== undefined) this.#visitor.kept(entry, why);
    else if (entry.stat.isDirectory()) this.#directory(entry, depth);
    else this.#visitor.file(entry);
  }

  #directory(entry: Entry, depth: number): void {
    const child = entry.directory.child(entry.name);
    if (child === undefined || child.stat.ino !== entry.stat.ino || child.stat.dev !== entry.stat.dev) {
      child?.close();
      this.#visitor.kept(entry, 'unreadable');
      return;
    }
    try {
      this.inside(child, entry.path, depth + 1);
    } finally {
      child.close();
    }
    this.#visitor.left?.(entry);
  }

  #whyKept({ name, path, stat }: Entry, depth: number): KeptReason | undefined {
    const { place, root, inUse, mounts } = this.#options;
    const text = textOf(name);
    if (depth === 0 && KEPT_NAMES.some((kept) => globMatches(kept, text))) return 'system';
    if (isExcluded(text, textOf(path).slice(place.path.length + 1), place.exclude)) return 'excluded';
    if (stat.isDirectory()) {
      // An overlay tells another device for files than for directories.
      if (stat.dev !== root.stat.dev) return 'mount';
      if (depth >= MAX_DEPTH) return 'too_deep';
    } else {
      if (stat.isSocket()) return 'socket';
      if (stat.isBlockDevice() || stat.isCharacterDevice()) return 'device';
      // As systemd-tmpfiles reads it: whose file it is wants it to stay.
      if ((stat.mode & STICKY) !== 0n) return 'sticky';
    }
    if (mounts.has(textOf(path))) return 'mount';
    return inUse.inodes.has(stat.ino) || inUse.paths?.has(path) === true ? 'in_use' : undefined;
  }
}

/** A pattern without "/" names something anywhere, one with "/" a path below the place. */
function isExcluded(name: string, relative: string, exclude: readonly string[]): boolean {
  return exclude.some((pattern) => globMatches(pattern, pattern.includes('/') ? relative : name));
}
