/**
 * What the store costs, beside its limits and beside what others take for the same samples: bytes per sample of each shape, CPU,
 * memory and bytes written for 64 channels at 10 Hz, looking back, audit entries. --hours N simulates so many of the load.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { auditFigures } from '../../build/ts/scripts/bench/store-audit.js';
import { promtoolIsThere } from '../../build/ts/scripts/bench/store-prometheus.js';
import { queryFigures } from '../../build/ts/scripts/bench/store-query.js';
import { SHAPES } from '../../build/ts/scripts/bench/store-shapes.js';
import { shapeFigures } from '../../build/ts/scripts/bench/store-size.js';
import { report } from './lib/figures.mjs';

const LOAD = fileURLToPath(new URL('../../build/ts/scripts/bench/store-load.js', import.meta.url));
/** Long enough that old raw samples go, and short enough to wait for. */
const DEFAULT_HOURS = 7;
const WRITING_HOURS = 4;
/** store.flush_seconds: the default, and what is meant for disks that wear out. */
const DEFAULT_FLUSH_SECONDS = 8;
const SELDOM_FLUSH_SECONDS = 30;
/** As the programs run: see src/app/programs.ts. */
const NODE_OPTIONS = ['--max-semi-space-size=2', '--expose-gc'];
const MB = 1e6;

const hours = Number(process.argv[process.argv.indexOf('--hours') + 1]) || DEFAULT_HOURS;

function load({ hours, flushSeconds, rateHz }) {
  const dataDir = mkdtempSync(join(process.cwd(), '.bench-store-'));
  try {
    const args = [...NODE_OPTIONS, LOAD, dataDir, ...[hours, flushSeconds, rateHz].map(String)];
    const env = { ...process.env, MALLOC_ARENA_MAX: '1' };
    return JSON.parse(execFileSync(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] }));
  } finally {
    rmSync(dataDir, { recursive: true });
  }
}

/** At 10 Hz most of what is written are the samples, however seldom; at 1 Hz it is the blocks that they are rounded up to. */
function loadFigures() {
  const usual = load({ hours, flushSeconds: DEFAULT_FLUSH_SECONDS, rateHz: 10 });
  const writtenMb = (rateHz, flushSeconds) =>
    perDayMb(load({ hours: WRITING_HOURS, flushSeconds, rateHz }).writeBytes, WRITING_HOURS);
  const seldom = writtenMb(10, SELDOM_FLUSH_SECONDS);
  const slow = writtenMb(1, DEFAULT_FLUSH_SECONDS);
  const slowSeldom = writtenMb(1, SELDOM_FLUSH_SECONDS);
  const figure = (name, value, unit, limit = null) => ({ name, value, unit, limit });
  const written = (rateHz, flushSeconds) =>
    `written to the disk in a day, ${rateHz} Hz, store.flush_seconds ${flushSeconds}`;
  return [
    figure(`store a sample, all told (${hours} h of 64 channels at 10 Hz)`, usual.cpuNs / usual.samples, 'ns', 100),
    figure('of that, sample() alone', usual.appendNs / usual.samples, 'ns'),
    figure('memory of its own that the store takes under that load (RssAnon)', usual.ownGrowthBytes / MB, 'MB', 12),
    figure('of that, what is left after a collection', usual.keptBytes / MB, 'MB'),
    figure('all of it, and code and tables mapped from files (VmRSS)', usual.growthBytes / MB, 'MB'),
    figure('given to write() in a day, 10 Hz', perDayMb(usual.wchar, hours), 'MB'),
    figure(written(10, DEFAULT_FLUSH_SECONDS), perDayMb(usual.writeBytes, hours), 'MB'),
    figure(written(10, SELDOM_FLUSH_SECONDS), seldom, 'MB'),
    figure(written(1, DEFAULT_FLUSH_SECONDS), slow, 'MB'),
    figure(written(1, SELDOM_FLUSH_SECONDS), slowSeldom, 'MB'),
    figure('share of the latter in the one before', slowSeldom / slow, '', 0.5),
  ];
}

function perDayMb(bytes, hours) {
  return (bytes * 24) / hours / MB;
}

const figures = [];
for (const shape of SHAPES) figures.push(...(await shapeFigures(shape)));
figures.push(...loadFigures(), ...(await queryFigures()), ...(await auditFigures()));
if (!promtoolIsThere()) process.stderr.write('Prometheus is not compared with: promtool is not installed\n');
process.exit(report('store', figures) ? 0 : 1);
