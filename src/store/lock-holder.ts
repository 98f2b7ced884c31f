/**
 * Which process holds a LevelDB database open. LevelDB locks its file LOCK with fcntl(2), which can only be asked about by
 * trying, and trying means opening, which writes. The kernel's own list says it too: /proc/locks (proc_locks(5)).
 */
import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** A machine with more locks than this is not one of ours. */
const MAX_LOCKS = 65_536;

interface Lock {
  readonly pid: number;
  readonly device: string;
  readonly inode: number;
}

/** The process id; undefined: nobody that can be seen from here. Never rejects. */
export async function lockHolder(directory: string, procRoot = '/proc'): Promise<number | undefined> {
  const path = join(directory, 'LOCK');
  try {
    const { dev, ino } = await stat(path);
    const locks = parseLocks(await readFile(join(procRoot, 'locks'), 'latin1')).filter(({ inode }) => inode === ino);
    for (const { pid, device } of locks) {
      // Some file systems show another device here than stat() does; then the open files of the process decide.
      if (device === deviceText(dev) || (await hasOpen(join(procRoot, String(pid), 'fd'), path))) return pid;
    }
    return undefined;
  } catch {
    return undefined; // No LOCK file: nobody has it open.
  }
}

/** "1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF" */
function parseLocks(text: string): Lock[] {
  return text
    .split('\n')
    .slice(0, MAX_LOCKS)
    .flatMap((line) => {
      const [, pid, device, inode] = / (\d+) ([0-9a-f]+:[0-9a-f]+):(\d+) /.exec(line) ?? [];
      return pid === undefined || device === undefined ? [] : [{ pid: Number(pid), device, inode: Number(inode) }];
    });
}

/** As the kernel writes it: major and minor in hex. The encoding of st_dev is glibc's (gnu_dev_major, gnu_dev_minor). */
function deviceText(dev: number): string {
  const big = BigInt(dev);
  const major = Number(((big >> 8n) & 0xfffn) | ((big >> 32n) & 0xfffff000n));
  const minor = Number((big & 0xffn) | ((big >> 12n) & 0xffffff00n));
  const hex = (value: number) => value.toString(16).padStart(2, '0');
  return `${hex(major)}:${hex(minor)}`;
}

async function hasOpen(fdDirectory: string, path: string): Promise<boolean> {
  const names = await readdir(fdDirectory).catch(() => []);
  for (const name of names) {
    if ((await readlink(join(fdDirectory, name)).catch(() => '')) === path) return true;
  }
  return false;
}
