/**
 * Which files other processes hold open: what is open is not touched. A writer that goes on after its file was moved writes into
 * nothing, and what is deleted while it is open frees no space.
 *
 * /proc/PID/fdinfo tells the inode without asking its file system, which may hang (Linux 5.14; before that the file is asked).
 * An inode number alone may be another disk's: then a file stays that could have gone. Files that are mapped and no longer open are
 * not seen.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { systemCode } from '../core/errors.js';

export interface InUse {
  readonly inodes: ReadonlySet<bigint>;
  /** Processes that could not be looked into. */
  readonly unseen: number;
}

export function openFiles(procRoot = '/proc'): InUse {
  const inodes = new Set<bigint>();
  let unseen = 0;
  for (const pid of readdirSync(procRoot).filter((name) => /^\d+$/.test(name))) {
    if (Number(pid) === process.pid) continue;
    try {
      for (const fd of readdirSync(join(procRoot, pid, 'fdinfo'))) addInode(inodes, join(procRoot, pid), fd);
    } catch (error) {
      // It has ended meanwhile; or it is the init of a container, which root in it may not look into and which works on no data.
      if (!['ENOENT', 'ESRCH'].includes(systemCode(error)) && pid !== '1') unseen++;
    }
  }
  return { inodes, unseen };
}

function addInode(inodes: Set<bigint>, process: string, fd: string): void {
  try {
    const [, inode] = /^ino:\s*(\d+)$/m.exec(readFileSync(join(process, 'fdinfo', fd), 'utf8')) ?? [];
    inodes.add(inode === undefined ? statSync(join(process, 'fd', fd), { bigint: true }).ino : BigInt(inode));
  } catch (error) {
    if (!['ENOENT', 'ESRCH'].includes(systemCode(error))) throw error; // Closed meanwhile.
  }
}
