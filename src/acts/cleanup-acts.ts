/**
 * The acts that delete and archive: cleanup_temp, cleanup_logs, emergency_cleanup, archive_old_data, each with its listing. Unlike other
 * acts they read no configuration: what they may touch is root's plan (config/act-plan.ts), which stands beside what systemd lets
 * their units write to. Their command line, which only root's unit or a test writes, may name another plan: `--plan FILE`.
 */
import { readFileSync } from 'node:fs';
import { ACT_NAMES, type ActName } from '../config/act-plan.js';
import { reportDirectory } from '../control/job-reports.js';
import { SkosError } from '../core/errors.js';
import { loadAddon } from '../sensors/addon.js';
import type { Act } from './act.js';
import { cleanUp } from './cleanup.js';
import { openFiles } from './in-use.js';
import { JOURNALCTL } from './journal-vacuum.js';
import { LOGROTATE } from './logrotate.js';
import { readPlan } from './plan-file.js';
import { SPARE_MS, TMPFILES } from './tmpfiles.js';

/** The unit's own limit ends what takes longer. */
const TIMEOUT_MS = 2 * 3_600_000;

/** StateDirectory= of the unit, of which systemd says the place in $STATE_DIRECTORY. */
const STATE_DIRECTORY = '/var/lib/skos-act';

/** By the names that units give: cleanup-temp, cleanup-temp-list. */
export const CLEANUP_ACTS: readonly (readonly [string, Act])[] = ACT_NAMES.flatMap((name) => [
  [name.replaceAll('_', '-'), actOf(name, false)] as const,
  [`${name.replaceAll('_', '-')}-list`, actOf(name, true)] as const,
]);

function actOf(name: ActName, isListing: boolean): Act {
  return {
    reportName(args) {
      planFile(name, args);
      return isListing ? `${name}.list` : name;
    },
    async run({ args, env, clock }) {
      return cleanUp({
        plan: readPlan(planFile(name, args), name),
        isListing,
        reportDirectory: reportDirectory(env),
        stateDirectory: env.STATE_DIRECTORY || STATE_DIRECTORY,
        programs: { tmpfiles: TMPFILES, journalctl: JOURNALCTL, logrotate: LOGROTATE },
        root: '/',
        timeoutMs: TIMEOUT_MS,
        spareMs: SPARE_MS,
        wallMs: () => clock.wallMs(),
        uptimeMs: () => Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000,
        openFiles,
        attributes: loadAddon,
        warn: (text) => process.stderr.write(`${text}\n`),
      });
    },
  };
}

function planFile(name: ActName, args: readonly string[]): string {
  const [option, file, ...rest] = args;
  if (option === undefined) return `/etc/skos/act/${name}.json`;
  if (option !== '--plan' || file === undefined || rest.length > 0)
    throw new SkosError('SKOS_ACT_ARGUMENT', 'expected nothing, or --plan FILE');
  return file;
}
