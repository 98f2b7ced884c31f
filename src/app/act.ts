/**
 * skos-act: what the units skos-act-*.service run, one act each.
 *
 *   node act.js ACT [ARGUMENT…]
 *
 * The unit says which act; what it does is in the configuration, which root owns. It leaves a report and says the same in the
 * journal. Exit status: 0 done, 1 not done or failed, 64 wrong command line.
 */

import type { Act, ActContext, Outcome } from '../acts/act.js';
import { CLEANUP_ACTS } from '../acts/cleanup-acts.js';
import { runCommand } from '../acts/command.js';
import { pingPeer } from '../acts/ping-peer.js';
import { regenerateWireguard, regenerateWireguardList } from '../acts/regenerate-wireguard-config.js';
import { writeReport } from '../acts/report.js';
import { route } from '../acts/route.js';
import { loadConfig } from '../config/load.js';
import { systemClock as clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';

const EXIT_FAILED = 1;
const EXIT_USAGE = 64;

/** By the name that the units give. */
const ACTS: ReadonlyMap<string, Act> = new Map<string, Act>([
  ['ping-peer', pingPeer],
  ['regenerate-wireguard-config', regenerateWireguard],
  ['regenerate-wireguard-config-list', regenerateWireguardList],
  ['route', route],
  ...CLEANUP_ACTS,
]);

async function main(argv: readonly string[]): Promise<number> {
  const [name = '', ...args] = argv;
  const act = ACTS.get(name);
  if (act === undefined) {
    process.stderr.write(`usage: act.js ACT [ARGUMENT...], ACT being one of ${[...ACTS.keys()].join(', ')}\n`);
    return EXIT_USAGE;
  }
  const { env } = process;
  const startedAtMs = clock.wallMs();
  const report = act.reportName(args);
  const config = async () => (await loadConfig({ env })).config;
  const outcome = await outcomeOf(act, { args, env, config, run: runCommand, clock });
  const { ok, summary } = outcome;
  process[ok ? 'stdout' : 'stderr'].write(`${summary}\n`);
  if (report !== null) await writeReport({ ...outcome, name: report, startedAtMs, endedAtMs: clock.wallMs() }, env);
  return ok ? 0 : EXIT_FAILED;
}

async function outcomeOf(act: Act, context: ActContext): Promise<Outcome> {
  try {
    return await act.run(context);
  } catch (error) {
    return { ok: false, summary: reason(error) };
  }
}

main(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    process.stderr.write(`${reason(error)}\n`);
    process.exitCode = error instanceof SkosError && error.code === 'SKOS_ACT_ARGUMENT' ? EXIT_USAGE : EXIT_FAILED;
  },
);
