/**
 * The moment at which a restore happens, and what is left to do behind it.
 *
 * A restored database is built beside the present one, as `db.restoring-STAMP`. Then the file `restore.json` is written, at once
 * and for good (a rename): that is the restore. Before it, the old database stands whatever ends the program; from there on the
 * new one does, because whoever comes next, this program or the agent when it starts, finishes what `restore.json` says:
 *
 *   keys, raw-log, db                    → keys.replaced-STAMP, raw-log.replaced-STAMP, db.replaced-STAMP   (kept for the operator)
 *   keys.restoring-STAMP, db.restoring-STAMP → keys, db
 *
 * `db` last: while db.restoring-STAMP is there, something is left to do. Every step can be done twice. A db.restoring that no
 * `restore.json` names was cut off; the agent does not look at it, and the next restore removes it.
 *
 * `restore.json` is also what the agent learns of it: it writes each restore into the audit chain, and then removes the file.
 */
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readIfThere, syncDirectory, writeAtomically } from '../core/atomic-file.js';
import { reason, SkosError, systemCode } from '../core/errors.js';
import type { AuditHead, AuditLog, Log } from '../core/ports.js';

const MARK = 'restore.json';
const STAMP = /^\d{8}T\d{6}Z(-\d{1,3})?$/;
/** Restores without a start of the agent between them: beyond it, the earliest are no longer told one by one. */
const MAX_TOLD = 16;
/** Another program that finishes the same restore moves things under one's hands; what it left is looked at anew. */
const MAX_TRIES = 5;

/** One restore, as it is told in the audit chain. */
export interface RestoreNote {
  readonly stamp: string;
  readonly atMs: number;
  readonly who: string;
  /** What `sudo` said, which is a claim. */
  readonly sudoUser: string | null;
  /** Of the backup. */
  readonly node: string | null;
  readonly takenAtMs: number;
  readonly sha256: string;
  readonly auditHead: AuditHead;
  /** The last head that was acknowledged in the database that was replaced; null: not known. */
  readonly replacedHead: AuditHead | null;
  readonly withKeys: boolean;
}

/** Names below data_dir. */
export function restoringName(what: 'db' | 'keys', stamp: string): string {
  return `${what}.restoring-${stamp}`;
}

export function replacedName(what: 'db' | 'keys' | 'raw-log', stamp: string): string {
  return `${what}.replaced-${stamp}`;
}

/** "20260102T030405Z", with a number behind it where something has that name already. */
export async function freeStamp(dataDir: string, atMs: number): Promise<string> {
  const second = `${new Date(atMs).toISOString().replaceAll(/[-:]/g, '').replace(/\..*/, '')}Z`;
  const names = await readdir(dataDir);
  for (let n = 0; ; n++) {
    const stamp = n === 0 ? second : `${second}-${n}`;
    if (!names.some((name) => name.endsWith(`-${stamp}`))) return stamp;
  }
}

/** From here on the restored database is the database. Rejects before that, and then nothing has changed. */
export async function commitRestore(dataDir: string, note: RestoreNote): Promise<void> {
  const notes = [...(await readNotes(dataDir)), note].slice(-MAX_TOLD);
  await writeAtomically(join(dataDir, MARK), `${JSON.stringify({ restores: notes }, null, 1)}\n`, 0o600);
}

/**
 * Does what is left of a restore that was committed; nothing when none is. Call before the database is opened. Returns what the
 * agent has still to tell. Rejects with SKOS_STORE_OPEN. `step` is told each step before it is done.
 */
export async function finishRestore(
  dataDir: string,
  step: (name: string) => void = () => undefined,
): Promise<RestoreNote[]> {
  const notes = await readNotes(dataDir);
  const stamp = notes.at(-1)?.stamp;
  if (stamp === undefined) return notes;
  for (let n = 1; ; n++) {
    try {
      if (await exists(join(dataDir, restoringName('db', stamp)))) await finish(dataDir, stamp, step);
      return notes;
    } catch (error) {
      if (n < MAX_TRIES) continue;
      const text = `${dataDir}: the restore of ${stamp} could not be finished: ${reason(error)}`;
      throw new SkosError('SKOS_STORE_OPEN', text, { cause: error });
    }
  }
}

async function finish(dataDir: string, stamp: string, step: (name: string) => void): Promise<void> {
  if (await exists(join(dataDir, restoringName('keys', stamp)))) {
    step('keys aside');
    await putAside(dataDir, 'keys', stamp);
    step('keys in place');
    await rename(join(dataDir, restoringName('keys', stamp)), join(dataDir, 'keys'));
  }
  step('raw log aside');
  await putAside(dataDir, 'raw-log', stamp);
  step('database aside');
  if (await holdsNothing(join(dataDir, 'db'))) await rm(join(dataDir, 'db'), { recursive: true, force: true });
  await putAside(dataDir, 'db', stamp);
  step('database in place');
  await rename(join(dataDir, restoringName('db', stamp)), join(dataDir, 'db'));
  step('synced');
  await syncDirectory(dataDir);
}

/** Not what was put in its place already. */
async function putAside(dataDir: string, what: 'db' | 'keys' | 'raw-log', stamp: string): Promise<void> {
  const [from, to] = [join(dataDir, what), join(dataDir, replacedName(what, stamp))];
  if ((await exists(from)) && !(await exists(to))) await rename(from, to);
}

/** A directory that was only made to be locked. */
async function holdsNothing(directory: string): Promise<boolean> {
  const names = await readdir(directory).catch(() => undefined);
  return names?.every((name) => name === 'LOCK') ?? false;
}

/** Leftovers of restores that were cut off before they happened. */
export async function removeLeftovers(dataDir: string): Promise<void> {
  const stamp = (await readNotes(dataDir)).at(-1)?.stamp ?? '';
  for (const name of await readdir(dataDir)) {
    const isLeftover = /^(db|keys)\.restoring-|^restore\.lock-|^\.restore\.json\..*\.tmp$/.test(name);
    const isNamed = stamp !== '' && name.endsWith(`.restoring-${stamp}`);
    if (isLeftover && !isNamed) await rm(join(dataDir, name), { recursive: true, force: true });
  }
}

// ---- What the agent makes of it --------------------------------------------------------------------------------------

export interface TellOptions {
  readonly notes: readonly RestoreNote[];
  readonly dataDir: string;
  readonly audit: Pick<AuditLog, 'append'>;
  readonly log: Log;
}

/** Writes what was restored into the audit chain. Never rejects: what is not on disk now is told at the next start. */
export async function tellRestores({ notes, dataDir, audit, log }: TellOptions): Promise<void> {
  if (notes.length === 0) return;
  const told = notes.map(({ who, ...what }) => {
    const replaced = replacedName('db', what.stamp);
    const message = `The database was restored by ${who} from a backup of ${new Date(what.takenAtMs).toISOString()}`;
    log.warn(`${message}; the one before is ${replaced}`, { event: 'store.restored', replaced });
    return audit.append({ kind: 'audit.restore', who, what });
  });
  try {
    await Promise.all(told);
    await rm(join(dataDir, MARK), { force: true });
  } catch (error) {
    log.warn(`A restore is not in the audit chain yet: ${reason(error)}`, { event: 'store.restored', error });
  }
}

/** Oldest first; none where the file is absent. A file that is damaged says nothing: the chain's own heads show the change. */
export async function readNotes(dataDir: string): Promise<RestoreNote[]> {
  const text = await readIfThere(join(dataDir, MARK)).catch((error: unknown) => {
    // Whether a restore is to be finished is not known: the database must not be opened before it is.
    throw new SkosError('SKOS_STORE_OPEN', `${dataDir}: ${reason(error)}`, { cause: error });
  });
  if (text === undefined) return [];
  try {
    const { restores } = JSON.parse(text) as { restores: RestoreNote[] };
    return restores.filter(isNote);
  } catch {
    return [];
  }
}

/** The stamp becomes part of paths. */
function isNote({ stamp, who, takenAtMs }: RestoreNote): boolean {
  return typeof stamp === 'string' && STAMP.test(stamp) && typeof who === 'string' && Number.isSafeInteger(takenAtMs);
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}
