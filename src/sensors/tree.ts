/**
 * Read access for discovery under one root (/sys, /proc, a test tree): the Tree port over the file system.
 *
 * Three dangers are kept out here, so that no source has to think of them: a FIFO or device node planted as an attribute
 * (opened without blocking, refused unless a regular file), a link that leads out of the root (not followed), and a
 * driver whose read does not return. Such a read holds a thread of libuv's pool until the kernel lets go, and the
 * database needs that pool too: few reads are under way at a time, and a file that hangs is not read again meanwhile. Sources
 * ask `stuck`, and spare the other attributes of that driver; names and labels, which touch no hardware, stay readable.
 */
import { close, constants, fstat, open, read } from 'node:fs';
import { lstat, readdir, realpath } from 'node:fs/promises';
import { join, normalize, sep } from 'node:path';
import { promisify } from 'node:util';
import type { Tree } from '../core/ports.js';

/** No attribute of sysfs is larger than a page (4 to 64 KiB); /proc files that are longer are asked with a bound of their own. */
const MAX_TEXT_BYTES = 64 * 1024;
/** Most attributes have a few bytes, and discovery reads hundreds of them. */
const SMALL_PIECE_BYTES = 4096;
/** Far more than any class directory has; a directory beyond it is no sensor tree, and its rest is not listed. */
const MAX_ENTRIES = 65_536;
/** A slow I²C chip answers in 0.2 s. */
const READ_DEADLINE_MS = 1_000;
/**
 * The deadline is counted in so many turns of the event loop: a loop that was blocked has not waited for the driver. More than twice the
 * steps of a read (lstat, open, fstat, two reads, close), of which a slow machine with a busy loop takes one in each turn.
 */
const DEADLINE_TURNS = 16;
/** Under way at a time, those that hang included. Half of libuv's four threads: the others stay free for the database. */
const MAX_READS = 2;

const openFile = promisify(open);
const statFile = promisify(fstat);
const readFile = promisify(read);
const closeFile = promisify(close);

export interface Roots {
  readonly sysfs: string;
  readonly proc: string;
  readonly dev: string;
  readonly cgroup: string;
}

/** Roots of this machine, or those that the environment names (tests, captured machines). */
export function rootsFromEnvironment(env: Readonly<Record<string, string | undefined>>): Roots {
  const sysfs = env.SKOS_SYSFS_ROOT || '/sys';
  return {
    sysfs,
    proc: env.SKOS_PROC_ROOT || '/proc',
    dev: env.SKOS_DEV_ROOT || '/dev',
    cgroup: env.SKOS_CGROUP_ROOT || join(sysfs, 'fs/cgroup'),
  };
}

export class FileTree implements Tree {
  readonly root: string;
  readonly #readDeadlineMs: number;
  readonly #reads: Reads;
  #realRoot: Promise<string | undefined> | undefined;

  constructor(root: string, { readDeadlineMs = READ_DEADLINE_MS }: { readDeadlineMs?: number } = {}) {
    this.root = root;
    this.#readDeadlineMs = readDeadlineMs;
    this.#reads = Reads.of(root);
  }

  get stuck(): readonly string[] {
    return this.#reads.stuck;
  }

  absolute(path: string): string {
    return join(this.root, contained(path));
  }

  async list(directory: string, pattern: RegExp): Promise<string[]> {
    const real = await this.#real(directory);
    if (real === undefined) return [];
    const names = await readdir(real).catch(absent);
    return (names ?? [])
      .slice(0, MAX_ENTRIES)
      .filter((name) => pattern.test(name))
      .sort(compareNaturally);
  }

  async text(path: string, { maxBytes = MAX_TEXT_BYTES }: { maxBytes?: number } = {}): Promise<string | undefined> {
    const real = await this.#real(path);
    if (real === undefined) return undefined;
    return this.#reads.run(readRegularFile(maxBytes), { path, real, deadlineMs: this.#readDeadlineMs });
  }

  async integer(path: string): Promise<number | undefined> {
    const text = await this.text(path);
    if (text === undefined || !/^-?\d{1,16}$/.test(text)) return undefined;
    const value = Number(text);
    return Number.isSafeInteger(value) ? value : undefined;
  }

  async exists(path: string): Promise<boolean> {
    return (await this.#real(path)) !== undefined;
  }

  async resolve(path: string): Promise<string | undefined> {
    const [real, root] = await Promise.all([this.#real(path), this.#rootReal()]);
    if (real === undefined || root === undefined) return undefined;
    return real === root ? '' : real.slice(withSeparator(root).length);
  }

  /** Absolute real path; undefined when absent, dangling or outside the root. */
  async #real(path: string): Promise<string | undefined> {
    const root = await this.#rootReal();
    if (root === undefined) return undefined;
    const real = await realpath(this.absolute(path)).catch(absent);
    if (real === undefined) return undefined;
    return real === root || real.startsWith(withSeparator(root)) ? real : undefined;
  }

  #rootReal(): Promise<string | undefined> {
    // Asked again while it is absent: a root may be mounted later.
    this.#realRoot ??= realpath(this.root).catch(() => {
      this.#realRoot = undefined;
      return undefined;
    });
    return this.#realRoot;
  }
}

type Read = (real: string) => Promise<string | undefined>;

/**
 * The reads under way below one root. They are counted for the process, not for a tree: the pool is the process's, and
 * each discovery may make trees of its own. Once all that are allowed hang, a read fails instead of saying "absent",
 * since a chip that seems to have lost its name would get another id.
 */
class Reads {
  static readonly #byRoot = new Map<string, Reads>();
  readonly #stuck = new Set<{ readonly real: string; readonly path: string }>();
  readonly #waiting: (() => void)[] = [];
  #free = MAX_READS;

  static of(root: string): Reads {
    const reads = Reads.#byRoot.get(root) ?? new Reads();
    Reads.#byRoot.set(root, reads);
    return reads;
  }

  get stuck(): readonly string[] {
    return [...this.#stuck].map(({ path }) => path);
  }

  async run(
    read: Read,
    { path, real, deadlineMs }: { path: string; real: string; deadlineMs: number },
  ): Promise<string | undefined> {
    const asked = { real, path };
    while (this.#free === 0 && this.#stuck.size < MAX_READS) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if ([...this.#stuck].some((each) => each.real === real)) {
      this.#wakeNext();
      return undefined;
    }
    if (this.#free === 0) throw new Error(`no file can be read: reads of ${this.stuck.join(' and ')} do not return`);
    this.#free--;
    const reading = read(real)
      .catch(absent)
      .finally(() => {
        this.#free++;
        this.#stuck.delete(asked);
        this.#wakeNext();
      });
    return this.#untilDeadline(reading, deadlineMs, () => this.#stuck.add(asked));
  }

  async #untilDeadline(
    reading: Promise<string | undefined>,
    deadlineMs: number,
    onDeadline: () => void,
  ): Promise<string | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<undefined>((resolve) => {
      let turns = 0;
      timer = setInterval(() => {
        if (++turns < DEADLINE_TURNS) return;
        clearInterval(timer);
        onDeadline();
        // Whoever waits looks again: perhaps nothing is left to wait for.
        for (const wake of this.#waiting.splice(0)) wake();
        resolve(undefined);
      }, deadlineMs / DEADLINE_TURNS);
    });
    const text = await Promise.race([reading, deadline]);
    clearInterval(timer);
    return text;
  }

  #wakeNext(): void {
    this.#waiting.shift()?.();
  }
}

/** temp2 before temp10: runs of digits compare as numbers. */
export function compareNaturally(a: string, b: string): number {
  const left = a.match(/\d+|\D+/g) ?? [];
  const right = b.match(/\d+|\D+/g) ?? [];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const [l = '', r = ''] = [left[i], right[i]];
    if (l === r) continue;
    const difference = /^\d/.test(l) && /^\d/.test(r) ? Number(l) - Number(r) : 0;
    return difference !== 0 ? difference : l < r ? -1 : 1;
  }
  return left.length - right.length;
}

/** A relative path that cannot climb out of the root by "..": the surplus is dropped, as chroot does. */
function contained(path: string): string {
  return normalize(`/${path}`).slice(1);
}

function withSeparator(root: string): string {
  return root.endsWith(sep) ? root : `${root}${sep}`;
}

/** What is absent, unreadable or gone in between is one and the same to discovery: there is nothing to read. */
function absent(): undefined {
  return undefined;
}

function readRegularFile(maxBytes: number): Read {
  return async (path) => {
    // Before open(), because opening a device node has effects of its own; after it again, because a path may change.
    if (!(await lstat(path)).isFile()) return undefined;
    const fd = await openFile(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    try {
      if (!(await statFile(fd)).isFile()) return undefined;
      return (await readUpTo(fd, maxBytes)).trim();
    } finally {
      await closeFile(fd);
    }
  };
}

/** Files of /proc state a size of 0 and come in pieces: read until nothing comes. */
async function readUpTo(fd: number, maxBytes: number): Promise<string> {
  const pieces: Buffer[] = [];
  let length = 0;
  let pieceBytes = SMALL_PIECE_BYTES;
  while (length < maxBytes) {
    const piece = Buffer.allocUnsafe(Math.min(maxBytes - length, pieceBytes));
    const { bytesRead } = await readFile(fd, piece, 0, piece.length, null);
    if (bytesRead === 0) break;
    // A piece that was not filled is as a rule the last: large ones are for files that go on.
    pieceBytes = bytesRead < piece.length ? SMALL_PIECE_BYTES : MAX_TEXT_BYTES;
    pieces.push(piece.subarray(0, bytesRead));
    length += bytesRead;
  }
  return Buffer.concat(pieces).toString('utf8');
}
