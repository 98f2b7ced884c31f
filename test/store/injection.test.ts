/**
 * Killed, torn, cut and powered off, 200 times: every acknowledged audit entry is there byte for byte, the chain verifies, the
 * store opens in time, and of the samples no more is gone than the documented window, and none is invented. How: see
 * test/fixtures/injections.ts. `scripts/test-injections` makes as many as one likes.
 */
import t from 'tap';
import { noDiskFault } from '../fixtures/disk-fault.js';
import { runInjections } from '../fixtures/injections.js';

const INJECTIONS = 200;

t.test(`${INJECTIONS} injections take nothing that was acknowledged`, { timeout: 300_000 }, async (t) => {
  const seed = Number(process.env.SKOS_TEST_SEED ?? Date.now() % 1_000_000_000);
  if (noDiskFault !== false) t.comment(`without power cuts and failing disks: ${noDiskFault}`);
  const totals = await runInjections({ injections: INJECTIONS, seed, parallel: 2, shim: noDiskFault === false });
  for (const { seed: of, kind, what, faults } of totals.failed) {
    t.fail(`seed ${of}, ${kind}: ${faults[0]}`, { kind, what, faults: faults.slice(0, 10) });
  }
  t.ok(totals.injections >= INJECTIONS);
  t.ok(totals.acknowledged > INJECTIONS, `${totals.acknowledged} entries were acknowledged`);
  t.comment(JSON.stringify({ seed, ...totals, failed: totals.failed.length }));
});
