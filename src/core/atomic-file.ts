/**
 * Files that are written whole: to a temporary name in the same directory, synced, renamed. A reader sees the old or the
 * new content, never a part of it, also across a power loss.
 */
import { randomBytes } from 'node:crypto';
import { access, mkdir, open, readFile, rename, rm, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { systemCode } from './errors.js';

/** Readable by all, writable by its owner: skos-actuator refuses a list with more. */
const DEFAULT_MODE = 0o644;

export async function writeAtomically(file: string, text: string, mode = DEFAULT_MODE): Promise<void> {
  const directory = dirname(file);
  await mkdir(directory, { recursive: true, mode: 0o755 });
  const temporary = join(directory, `.${basename(file)}.${randomBytes(6).toString('hex')}.tmp`);
  try {
    const handle = await open(temporary, 'wx', mode);
    try {
      // The umask may have taken bits away; the mode is part of the contract.
      await handle.chmod(mode);
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
    await syncDirectory(directory);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** What was created, renamed and removed in it is on disk. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** False also where nobody may look. */
export async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** undefined when there is no such file. */
export async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Puts a file back as readIfThere() found it. */
export async function restore(file: string, former: string | undefined): Promise<void> {
  if (former !== undefined) return writeAtomically(file, former);
  try {
    await unlink(file);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}
