/**
 * Kill -9, torn writes, cut files, power cuts and failing disks against the store, as many as are asked for:
 *
 *   scripts/test-injections [COUNT] [--seed N] [--parallel N]
 *
 * Prints a line for each injection that finds a fault, and the totals; exits with 1 when there was one. A seed repeats a
 * series but for the machine's timing.
 */
import { parseArgs } from 'node:util';
import { noDiskFault } from '../test/fixtures/disk-fault.js';
import { runInjections } from '../test/fixtures/injections.js';

const DEFAULT_COUNT = 2_000;

const { values, positionals } = parseArgs({
  options: { seed: { type: 'string' }, parallel: { type: 'string', default: '2' } },
  allowPositionals: true,
});
const seed = Number(values.seed ?? Date.now() % 1_000_000_000);
const injections = Number(positionals[0] ?? DEFAULT_COUNT);
if (![seed, injections, Number(values.parallel)].every(Number.isSafeInteger)) {
  console.error('scripts/test-injections [COUNT] [--seed N] [--parallel N]');
  process.exit(2);
}
if (noDiskFault !== false) console.log(`power cuts and failing disks are left out: ${noDiskFault}`);
console.log(`${injections} injections from seed ${seed}`);
const startMs = performance.now();
let done = 0;
const totals = await runInjections({
  injections,
  seed,
  parallel: Number(values.parallel),
  shim: noDiskFault === false,
  each: (report) => {
    if (report.faults.length > 0) console.log(JSON.stringify(report, null, 1));
    if (++done % 100 === 0) console.log(`${done} done, ${Math.round((performance.now() - startMs) / 1000)} s`);
  },
});
const { failed, ...figures } = totals;
console.log(
  JSON.stringify({ ...figures, failed: failed.length, seconds: Math.round((performance.now() - startMs) / 1000) }),
);
process.exitCode = failed.length === 0 ? 0 : 1;
