/**
 * A simulated year of a store with a small bound: does it stay within it, are queries as quick in the last month as in the first,
 * how long does it take to start. --days N for less. Some minutes.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { simulateYear } from '../../build/ts/test/fixtures/year.js';
import { report } from './lib/figures.mjs';

const MIB = 1024 * 1024;
const CAP_MIB = 12;
/** LevelDB's log of 1 MiB, a table of 2 MiB that is being written, and what came since the last look at the size. */
const SLACK_MIB = 4;
const MONTHS = 12;
/** Sixteen channels. */
const SCALE = 4;

const days = Number(process.argv[process.argv.indexOf('--days') + 1]) || 365;
const say = (message) => process.stderr.write(`${message}\n`);
const quiet = () => undefined;
const log = { trace: quiet, debug: quiet, info: quiet, warn: say, error: say, fatal: say };

const dataDir = mkdtempSync(join(process.cwd(), '.bench-year-'));
let year;
try {
  year = await simulateYear({ dataDir, days, parts: MONTHS, scale: SCALE, maxBytes: CAP_MIB * MIB, log });
} finally {
  rmSync(dataDir, { recursive: true });
}
for (const difference of year.differences) say(difference);
if (year.auditTrouble !== '') say(year.auditTrouble);

const first = year.parts[0];
const last = year.parts.at(-1);
const figure = (name, value, unit, limit = null) => ({ name, value, unit, limit });
const within = report(`year: ${days} days, ${year.samples} samples, a bound of ${CAP_MIB} MiB`, [
  figure('files at their largest', year.greatestBytes / MIB, 'MiB', CAP_MIB + SLACK_MIB),
  figure('history reaches back', year.reachDays, 'd'),
  figure('start of the store, slowest month', Math.max(...year.parts.map(({ startMs }) => startMs)), 'ms', 400),
  figure('a day of all channels to 1,000 points, first month', first.dayQueryMs, 'ms'),
  figure(
    'a day of all channels to 1,000 points, last month',
    last.dayQueryMs,
    'ms',
    Math.max(20, 3 * first.dayQueryMs),
  ),
  figure('a week of a channel, first month', first.weekQueryMs, 'ms'),
  figure('a week of a channel, last month', last.weekQueryMs, 'ms', Math.max(20, 3 * first.weekQueryMs)),
  figure('audit entries', year.auditEntries, ''),
  figure('audit chains that do not verify', year.auditTrouble === '' ? 0 : 1, '', 0),
  figure('hours compared with what was measured', year.hoursCompared, ''),
  figure('hours that differ', year.differences.length, '', 0),
]);
process.exit(within ? 0 : 1);
