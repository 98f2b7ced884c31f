/**
 * The file of a Unix socket: made without a moment in which two servers share it, or in which its mode is too wide.
 *
 * The socket is bound under a name of its own, given its mode, and only then linked to the public path; link() fails
 * where something exists. A stale file (of an agent that was killed) goes only after a refused connection has proved
 * that nobody listens. (What keeps two agents from one data directory is the lock of the store, taken before this.)
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, linkSync, lstatSync, mkdirSync, renameSync, rmSync, type Stats } from 'node:fs';
import { connect, type Server } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { reason, SkosError } from '../core/errors.js';

/**
 * Everybody may knock: administrators and skos-net's user have no group in common that would not give one the rights of the
 * other. Who comes in is decided by SO_PEERCRED, and all others are refused with a code; how many may wait is bounded.
 */
const SOCKET_MODE = 0o666;
/** A listening process answers at once, even when it is stopped: the kernel accepts for it. */
const PROBE_DEADLINE_MS = 2_000;

/** Makes `server` listen at `path`. SKOS_SOCKET_BUSY when another process listens there. Returns how to remove it. */
export async function listenAt(path: string, server: Server): Promise<() => void> {
  const own = besides(path);
  try {
    mkdirSync(dirname(path), { recursive: true });
    await removeStale(path);
    rmSync(own, { force: true });
    await listen(server, own);
    chmodSync(own, SOCKET_MODE);
    publish(own, path);
  } catch (error) {
    server.close();
    throw error instanceof SkosError ? error : failed(path, error);
  } finally {
    rmSync(own, { force: true });
  }
  const inode = lstatSync(path).ino;
  return () => {
    if (stat(path)?.ino === inode) rmSync(path, { force: true }); // Otherwise it is another server's by now.
  };
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

function publish(own: string, path: string): void {
  try {
    linkSync(own, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new SkosError('SKOS_SOCKET_BUSY', `another agent has just taken ${path}`, { cause: error });
  }
}

async function removeStale(path: string): Promise<void> {
  const probed = stat(path);
  if (probed === undefined) return;
  if (!probed.isSocket()) throw new SkosError('SKOS_SOCKET_LISTEN', `${path} exists and is not a socket`);
  if (await answers(path)) throw new SkosError('SKOS_SOCKET_BUSY', `another agent listens on ${path}`);
  // Moved aside first and asked again: another agent may have replaced it since. (Inode numbers are reused at once.)
  const aside = besides(path);
  if (!moved(path, aside)) return;
  if (await answers(aside)) {
    renameSync(aside, path);
    throw new SkosError('SKOS_SOCKET_BUSY', `another agent has just taken ${path}`);
  }
  rmSync(aside);
}

/** False when the file is gone already. */
function moved(from: string, to: string): boolean {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/** False only when the kernel says that nobody listens. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(PROBE_DEADLINE_MS, () => done(true));
    socket.once('connect', () => done(true));
    socket.once('error', (error: NodeJS.ErrnoException) =>
      done(!['ECONNREFUSED', 'ENOENT'].includes(error.code ?? '')),
    );
  });
}

/** A name in the same directory that no other starter uses; short, because a socket's path may have 107 bytes. */
function besides(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(4).toString('hex')}`);
}

function stat(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function failed(path: string, error: unknown): SkosError {
  return new SkosError('SKOS_SOCKET_LISTEN', `cannot listen on ${path}: ${reason(error)}`, { cause: error });
}
