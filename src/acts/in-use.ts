/**
 * Which files of a file system other processes hold open: what is open is not touched. A writer that goes on after its file was moved writes
 * into nothing, and what is deleted while it is open frees no space.
 *
 * /proc/PID/fdinfo tells mount and inode without asking the file system, which may hang (Linux 5.14; before that the file is asked). The
 * mount is looked up in the process's own mountinfo, since it may be a container's; one that is not there counts as on every file system:
 * then a file stays that could have gone. The kernel itself holds images of loop devices open. Not seen are files that are mapped and
 * no longer open, and what other machines have open on a network file system.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { systemCode } from '../core/errors.js';

export interface InUse {
  readonly inodes: ReadonlySet<bigint>;
  /** Images of loop devices, absolute, bytes; of them the kernel tells no more than the path. */
  readonly paths?: ReadonlySet<string>;
  /** Processes that could not be looked into. */
  readonly unseen: number;
}

/** "major:minor" of the file system of an open descriptor of ours, as mountinfo has it (stat() tells another one on btrfs and overlays). */
export function fileSystemOf(fd: number, procRoot = '/proc'): string | undefined {
  const own = join(procRoot, 'self');
  return mountsOf(own).get(field(readFileSync(join(own, 'fdinfo', String(fd)), 'utf8'), 'mnt_id') ?? '');
}

/** Of that file system; undefined: of whichever. */
export function openFiles(fileSystem: string | undefined, procRoot = '/proc', sysRoot = '/sys'): InUse {
  const inodes = new Set<bigint>();
  const byNamespace = new Map<string, ReadonlyMap<string, string>>();
  let unseen = 0;
  for (const pid of readdirSync(procRoot).filter((name) => /^\d+$/.test(name))) {
    if (Number(pid) === process.pid) continue;
    const directory = join(procRoot, pid);
    try {
      const namespace = readlinkSync(join(directory, 'ns/mnt'));
      const mounts = byNamespace.get(namespace) ?? mountsOf(directory);
      byNamespace.set(namespace, mounts);
      for (const fd of readdirSync(join(directory, 'fdinfo'))) {
        const inode = openInode({ directory, fd, mounts, fileSystem });
        if (inode !== undefined) inodes.add(inode);
      }
    } catch (error) {
      // It has ended meanwhile; or it is the init of a container, which root in it may not look into and which works on no data.
      if (!hasEnded(error) && pid !== '1') unseen++;
    }
  }
  return { inodes, paths: loopImages(sysRoot), unseen };
}

function loopImages(sysRoot: string): ReadonlySet<string> {
  const block = join(sysRoot, 'block');
  const names = existsSync(block) ? readdirSync(block).filter((name) => name.startsWith('loop')) : [];
  const images = names.flatMap((name) => {
    try {
      return readFileSync(join(block, name, 'loop/backing_file'), 'latin1').replace(/\n$/, '');
    } catch (error) {
      if (['ENOENT', 'ENXIO'].includes(systemCode(error))) return []; // It has none.
      throw error;
    }
  });
  return new Set(images);
}

interface Descriptor {
  readonly directory: string;
  readonly fd: string;
  readonly mounts: ReadonlyMap<string, string>;
  readonly fileSystem: string | undefined;
}

function openInode({ directory, fd, mounts, fileSystem }: Descriptor): bigint | undefined {
  try {
    // Pipes and sockets have numbers too, but no place in a directory by which they could be meant.
    if (!readlinkSync(join(directory, 'fd', fd)).startsWith('/')) return undefined;
    const info = readFileSync(join(directory, 'fdinfo', fd), 'utf8');
    const found = mounts.get(field(info, 'mnt_id') ?? '');
    if (found !== undefined && fileSystem !== undefined && found !== fileSystem) return undefined;
    const inode = field(info, 'ino');
    return inode === undefined ? statSync(join(directory, 'fd', fd), { bigint: true }).ino : BigInt(inode);
  } catch (error) {
    if (hasEnded(error)) return undefined; // Closed meanwhile.
    throw error;
  }
}

function field(info: string, name: string): string | undefined {
  return new RegExp(`^${name}:\\s*(\\d+)$`, 'm').exec(info)?.[1];
}

/** Id of a mount → "major:minor" of its file system. */
function mountsOf(directory: string): ReadonlyMap<string, string> {
  const lines = readFileSync(join(directory, 'mountinfo'), 'utf8').matchAll(/^(\d+) \d+ (\d+:\d+) /gm);
  return new Map([...lines].map(([, id = '', device = '']) => [id, device]));
}

function hasEnded(error: unknown): boolean {
  // A process that is just ending has no mounts any more.
  return ['ENOENT', 'ESRCH', 'EINVAL'].includes(systemCode(error));
}
