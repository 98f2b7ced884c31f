/**
 * Plans of the programs that delete and archive, and what systemd lets their units write to (config/act-plan.ts): written with the
 * allow-list of an installed node, because both are root's word on the same configuration.
 */
import { execFile } from 'node:child_process';
import { readFile, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { type ActPlan, actFiles, planShape } from '../config/act-plan.js';
import type { Config } from '../config/schema.js';
import { isThere, readIfThere, restore, writeAtomically } from '../core/atomic-file.js';
import { reason } from '../core/errors.js';
import { parseMounts, placeInFileSystem } from '../core/mount-info.js';
import { parse } from '../core/shape.js';
import { INSTALLED_FILE } from './allow-list.js';
import type { Io } from './command.js';

const SYSTEMCTL = '/usr/bin/systemctl';
/** It reads all units anew. */
const RELOAD_DEADLINE_MS = 60_000;

export interface FileChange {
  readonly file: string;
  readonly former: string | undefined;
  /** undefined: it goes. */
  readonly text: string | undefined;
}

/** What is to be written for this configuration; nothing where the list is not that of an installed node. */
export async function actFileChanges(
  { config, allowList }: { config: Config; allowList: string },
  { env }: Pick<Io, 'env'>,
): Promise<FileChange[]> {
  if (allowList !== INSTALLED_FILE && !env.SKOS_HOST_ROOT) return [];
  const inside = await archivePlace(config, env.SKOS_HOST_ROOT || '/');
  const changes = actFiles(config, () => inside).map(async ({ path, text }) => {
    const file = join(env.SKOS_HOST_ROOT || '/', path);
    return { file, former: await readIfThere(file), text };
  });
  return (await Promise.all(changes)).filter(({ former, text }) => former !== text);
}

/**
 * Where in its file system the archive lies: as the former plan says, else as it is now. A list that is made anew at boot, before the disk
 * of the archive is mounted or without it, must not make a directory of the system's disk the archive.
 */
async function archivePlace({ storage }: Config, root: string): Promise<string | undefined> {
  const { archive_to } = storage.cleanup;
  if (archive_to === null) return undefined;
  const former = await formerArchive(join(root, 'etc/skos/act/archive_old_data.json'));
  if (former?.path === archive_to) return former.inside;
  if (!(await isThere(archive_to))) return undefined;
  return placeInFileSystem(archive_to, parseMounts(await readFile('/proc/self/mountinfo', 'utf8')));
}

async function formerArchive(file: string): Promise<ActPlan['archiveTo'] | undefined> {
  const text = await readIfThere(file);
  if (text === undefined) return undefined;
  try {
    return parse(planShape, JSON.parse(text)).value?.archiveTo;
  } catch {
    return undefined; // It is made anew.
  }
}

/** Why an act that the configuration asks for gets no plan, a sentence for each. */
export async function missingPlans({ storage: { cleanup } }: Config): Promise<string[]> {
  const { archive, archive_to } = cleanup;
  if (archive.length === 0 || archive_to === null || (await isThere(archive_to))) return [];
  return [`storage.cleanup.archive_to: ${archive_to} is not there, so that nothing is archived now`];
}

export async function writeActFiles(
  changes: readonly FileChange[],
  { env, err }: Pick<Io, 'env' | 'err'>,
): Promise<void> {
  for (const { file, text } of changes) {
    if (text !== undefined) await writeAtomically(file, text);
    else {
      await restore(file, undefined);
      await rmdir(dirname(file)).catch(() => undefined); // Other drop-ins of the operator's own are in it.
    }
  }
  const isRunning = !env.SKOS_HOST_ROOT && (await isThere('/run/systemd/system'));
  if (changes.length === 0 || !isRunning) return;
  try {
    await promisify(execFile)(SYSTEMCTL, ['daemon-reload'], { timeout: RELOAD_DEADLINE_MS });
  } catch (error) {
    err(`skos: systemd did not take what the units may write to; run \`systemctl daemon-reload\`: ${reason(error)}`);
  }
}
