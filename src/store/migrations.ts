/**
 * Bringing a database of an earlier format to this one, before anything else touches it.
 *
 * First all of it is saved into `backup/before-format-N-TIME.skos`; where that cannot be written, nothing is changed, and the agent
 * goes on in memory. Then each format's step says what is to be written, and that goes in one synced batch with the new number:
 * the database is a whole one of the earlier format up to that batch, and a whole one of the new format after it, whenever the
 * power goes; a step that was interrupted runs again and says the same.
 *
 * A step reads and writes little, because protection begins when the database is open. What takes long is noted in that batch, and
 * done beside the running agent (former-seconds.ts).
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isThere } from '../core/atomic-file.js';
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import { FORMAT_VERSION, type Opening, type Operation, RUN_KEY } from './database.js';
import { FORMER_SECONDS_KEY } from './former-seconds.js';
import { FORMAT_KEY, namedKey, PREFIX, textKey } from './keys.js';
import { recordText } from './record-form.js';

/** Of backups made by migrations: the last one, and the one before in case that was a mistake. */
export const KEPT_BACKUPS = 2;
const BACKUP_DIRECTORY = 'backup';
const BACKUP_NAME = /^before-format-\d+-\d{8}T\d{6}Z\.skos$/;
/** What a backup that was interrupted has left. */
const LEFTOVER_NAME = /^\.before-format-.*\.tmp$/;

/** There from the backup to the new number: an interrupted migration does not make a backup of its own work. */
const UNDER_WAY_KEY = textKey(PREFIX.meta, 'migration');

interface Migration {
  readonly from: number;
  readonly to: number;
  /** Returns what is to be written with the new number. */
  readonly run: (opening: Pick<Opening, 'get'>) => Promise<readonly Operation[]>;
}

/** In order, each from where the one before ends. */
const MIGRATIONS: readonly Migration[] = [
  { from: 1, to: 2, run: async ({ get }) => [...(await breakersAsRecords(get)), await secondsToMake(get)] },
];

export interface MigrateOptions extends Opening {
  readonly dataDir: string;
  /** Writes all of the database into a file. */
  readonly backup: (path: string) => Promise<unknown>;
  readonly clock: Clock;
  readonly log: Log;
}

/** Rejects with SKOS_STORE_MIGRATION; then the database still is of its earlier format. */
export async function migrate(options: MigrateOptions): Promise<void> {
  const { format, get, write, clock, log } = options;
  const beganMs = clock.monotonicMs();
  try {
    const path = await saved(options);
    log.warn(`The database is brought from format ${format} to ${FORMAT_VERSION}; what it was is in ${path}`, {
      event: 'store.migrating',
      path,
    });
    for (const { from, to, run } of MIGRATIONS) {
      if (from < format) continue;
      const changes = await run({ get });
      const number: Operation = { type: 'put', key: FORMAT_KEY, value: Buffer.from(String(to)) };
      await write([...changes, number, { type: 'del', key: UNDER_WAY_KEY }], { sync: true });
    }
  } catch (error) {
    const text = `the database of format ${format} was not brought to format ${FORMAT_VERSION}: ${reason(error)}`;
    throw new SkosError('SKOS_STORE_MIGRATION', text, { cause: error });
  }
  const seconds = Math.round((clock.monotonicMs() - beganMs) / 1000);
  log.warn(`The database has format ${FORMAT_VERSION} now, after ${seconds} s`, { event: 'store.migrated' });
}

// ---- The backup ------------------------------------------------------------------------------------------------------

/** Returns where what the database was before the first step is. */
async function saved({ dataDir, get, write, backup, clock }: MigrateOptions): Promise<string> {
  const directory = join(dataDir, BACKUP_DIRECTORY);
  const run = (await get(RUN_KEY))?.toString('utf8') ?? '';
  const former = underWay(await get(UNDER_WAY_KEY));
  // An earlier version that ran in between has counted its run, and may have written what that backup does not have.
  if (former !== undefined && former.run === run && (await isThere(join(directory, former.name)))) {
    return join(directory, former.name);
  }
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await removeAll(directory, await leftovers(directory));
  const stamp = new Date(clock.wallMs()).toISOString().replaceAll(/[-:]/g, '').replace(/\..*/, 'Z');
  const name = `before-format-${FORMAT_VERSION}-${stamp}.skos`;
  await backup(join(directory, name));
  const text = JSON.stringify({ name, run });
  await write([{ type: 'put', key: UNDER_WAY_KEY, value: Buffer.from(text, 'utf8') }], { sync: true });
  await removeAll(directory, await oldBackups(directory, name));
  return join(directory, name);
}

function underWay(value: Buffer | undefined): { readonly name: string; readonly run: string } | undefined {
  if (value === undefined) return undefined;
  try {
    const { name, run } = JSON.parse(value.toString('utf8')) as { name?: unknown; run?: unknown };
    if (typeof name === 'string' && BACKUP_NAME.test(name) && typeof run === 'string') return { name, run };
  } catch {
    // It is made again.
  }
  return undefined;
}

async function leftovers(directory: string): Promise<string[]> {
  return (await readdir(directory)).filter((name) => LEFTOVER_NAME.test(name));
}

/** The newest stay, and the one that was made now whatever its clock says. */
async function oldBackups(directory: string, made: string): Promise<string[]> {
  const others = (await readdir(directory)).filter((name) => BACKUP_NAME.test(name) && name !== made);
  const stamp = (name: string) => name.slice(-'YYYYMMDDTHHMMSSZ.skos'.length);
  others.sort((a, b) => (stamp(a) < stamp(b) ? 1 : -1));
  return others.slice(KEPT_BACKUPS - 1);
}

/** What cannot be removed is removed with the next one. */
async function removeAll(directory: string, names: readonly string[]): Promise<void> {
  for (const name of names) await rm(join(directory, name), { force: true }).catch(() => undefined);
}

// ---- Format 2 --------------------------------------------------------------------------------------------------------

/** Format 1 kept raw samples only, those of its last run being the last without seconds. */
async function secondsToMake(get: Opening['get']): Promise<Operation> {
  return { type: 'put', key: FORMER_SECONDS_KEY, value: (await get(RUN_KEY)) ?? Buffer.from('0') };
}

/** Format 1 had all breakers in one state value, a list of [action, breaker]; what was no breaker was passed over, and is. */
async function breakersAsRecords(get: Opening['get']): Promise<readonly Operation[]> {
  const formerKey = textKey(PREFIX.state, 'breakers');
  const former = await get(formerKey);
  if (former === undefined) return [];
  const operations: Operation[] = [{ type: 'del', key: formerKey }];
  for (const entry of listIn(former)) {
    if (!Array.isArray(entry) || typeof entry[0] !== 'string' || entry[0] === '') continue;
    const [text, breaker] = entry as [string, unknown];
    if (!isBreaker1(breaker)) continue;
    operations.push({
      type: 'put',
      key: namedKey('breaker', text),
      value: Buffer.from(recordText(1, breaker), 'utf8'),
    });
  }
  return operations;
}

/** As it was in format 1, whatever a breaker becomes: version 1 of its record has the same members. */
function isBreaker1(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { phase, failures, opensMs, sinceMs } = value as Record<string, unknown>;
  return (
    typeof phase === 'string' &&
    ['closed', 'open', 'half_open', 'latched'].includes(phase) &&
    Number.isFinite(failures) &&
    Array.isArray(opensMs) &&
    Number.isFinite(sinceMs)
  );
}

function listIn(value: Buffer): readonly unknown[] {
  try {
    const list: unknown = JSON.parse(value.toString('utf8'));
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}
