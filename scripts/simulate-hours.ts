/**
 * Node-hours with noisy, dropping, hanging sensors, failing cooling, agents that die and repairs that fail, as many as are asked for:
 *
 *   scripts/simulate-hours [HOURS] [--seed N]
 *
 * At every moment what stands is held against what was read (test/fixtures/policy-check.ts). Prints each node that breaks a rule, with
 * the seed that repeats it (`--seed N` with 25 hours), and the totals; exits with 1 when there was one.
 */
import { parseArgs } from 'node:util';
import { simulateHours } from '../test/fixtures/node-hours.js';

const DEFAULT_HOURS = 10_000;
const TOLD_EVERY_MS = 10_000;

const { values, positionals } = parseArgs({ options: { seed: { type: 'string' } }, allowPositionals: true });
const seed = Number(values.seed ?? Date.now() % 1_000_000_000);
const hours = Number(positionals[0] ?? DEFAULT_HOURS);
if (!Number.isSafeInteger(seed) || !(hours > 0) || !Number.isFinite(hours)) {
  console.error('scripts/simulate-hours [HOURS] [--seed N]');
  process.exit(2);
}
console.log(`${hours} node-hours from seed ${seed}`);
const startMs = performance.now();
let toldMs = startMs;
const report = await simulateHours({ hours, seed }, (run, doneHours) => {
  if (run.violations.length > 0) console.log(JSON.stringify(run, null, 1));
  if (performance.now() - toldMs < TOLD_EVERY_MS) return;
  toldMs = performance.now();
  console.log(`${doneHours} hours done`);
});
const seconds = (performance.now() - startMs) / 1000;
const { failed, ...figures } = report;
const perMinute = Math.round((report.hours * 60) / seconds);
console.log(JSON.stringify({ ...figures, failed: failed.map((run) => run.seed), hoursPerMinute: perMinute }));
process.exitCode = failed.length === 0 ? 0 : 1;
