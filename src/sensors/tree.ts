/**
 * Read access for discovery under one root (/sys, /proc, a test tree): the Tree port over the file system.
 *
 * Three dangers are kept out here, so that no source has to think of them: a FIFO or device node planted as an attribute
 * (opened without blocking, refused unless a regular file), a link that leads out of the root (not followed), and a
 * driver whose read does not return. Such a read holds a thread of libuv's pool until the kernel lets go; the database
 * needs that pool too, so its directory is not asked again meanwhile, and only few reads may hang at a time.
 */
import { close, constants, fstat, open, read } from 'node:fs';
import { lstat, readdir, realpath } from 'node:fs/promises';
import { dirname, join, normalize, sep } from 'node:path';
import { promisify } from 'node:util';
import type { Tree } from '../core/ports.js';

/** No attribute of sysfs is larger than a page (4 to 64 KiB); /proc files that are longer are asked with a bound of their own. */
const MAX_TEXT_BYTES = 64 * 1024;
/** Far more than any class directory has; a directory beyond it is no sensor tree, and its rest is not listed. */
const MAX_ENTRIES = 65_536;
/** A slow I²C chip answers in 0.2 s. */
const READ_DEADLINE_MS = 1_000;
/** Half of libuv's four threads: the others stay free for the database. */
const MAX_STUCK = 2;

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
  const sysfs = env['SKOS_SYSFS_ROOT'] || '/sys';
  return {
    sysfs,
    proc: env['SKOS_PROC_ROOT'] || '/proc',
    dev: env['SKOS_DEV_ROOT'] || '/dev',
    cgroup: env['SKOS_CGROUP_ROOT'] || join(sysfs, 'fs/cgroup'),
  };
}

export class FileTree implements Tree {
  readonly root: string;
  readonly #readDeadlineMs: number;
  readonly #stuck = new Map<string, string>();
  #realRoot: Promise<string | undefined> | undefined;

  constructor(root: string, { readDeadlineMs = READ_DEADLINE_MS }: { readDeadlineMs?: number } = {}) {
    this.root = root;
    this.#readDeadlineMs = readDeadlineMs;
  }

  get stuck(): readonly string[] {
    return [...this.#stuck.values()];
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
    const directory = dirname(real);
    if (this.#stuck.has(directory) || this.#stuck.size >= MAX_STUCK) return undefined;
    return this.#withDeadline(readRegularFile(real, maxBytes).catch(absent), { path, directory });
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

  async #withDeadline(
    reading: Promise<string | undefined>,
    { path, directory }: { path: string; directory: string },
  ): Promise<string | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => {
        this.#stuck.set(directory, path);
        reading.finally(() => this.#stuck.delete(directory));
        resolve(undefined);
      }, this.#readDeadlineMs);
    });
    const text = await Promise.race([reading, deadline]);
    clearTimeout(timer);
    return text;
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

async function readRegularFile(path: string, maxBytes: number): Promise<string | undefined> {
  // Before open(), because opening a device node has effects of its own; after it again, because a path may change.
  if (!(await lstat(path)).isFile()) return undefined;
  const fd = await openFile(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    if (!(await statFile(fd)).isFile()) return undefined;
    return (await readUpTo(fd, maxBytes)).trim();
  } finally {
    await closeFile(fd);
  }
}

/** Files of /proc state a size of 0 and come in pieces: read until nothing comes. */
async function readUpTo(fd: number, maxBytes: number): Promise<string> {
  const pieces: Buffer[] = [];
  let length = 0;
  while (length < maxBytes) {
    const piece = Buffer.allocUnsafe(Math.min(maxBytes - length, length === 0 ? 4096 : MAX_TEXT_BYTES));
    const { bytesRead } = await readFile(fd, piece, 0, piece.length, null);
    if (bytesRead === 0) break;
    pieces.push(piece.subarray(0, bytesRead));
    length += bytesRead;
  }
  return Buffer.concat(pieces).toString('utf8');
}
