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
const SLOW_FLUSH_HOURS = 1;
/** As the programs run: see src/app/programs.ts. */
const NODE_OPTIONS = ['--max-semi-space-size=2', '--expose-gc'];
const MB = 1e6;

const hours = Number(process.argv[process.argv.indexOf('--hours') + 1]) || DEFAULT_HOURS;

/** What the default of 8 s and one of 30 s cost. */
function load({ hours, flushSeconds }) {
  const dataDir = mkdtempSync(join(process.cwd(), '.bench-store-'));
  try {
    const args = [...NODE_OPTIONS, LOAD, dataDir, String(hours), String(flushSeconds)];
    const env = { ...process.env, MALLOC_ARENA_MAX: '1' };
    return JSON.parse(execFileSync(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] }));
  } finally {
    rmSync(dataDir, { recursive: true });
  }
}

function loadFigures() {
  const usual = load({ hours, flushSeconds: 8 });
  const slow = load({ hours: SLOW_FLUSH_HOURS, flushSeconds: 30 });
  const perDayMb = (bytes, { hours }) => (bytes * 24) / hours / MB;
  const written = perDayMb(usual.writeBytes, usual);
  const writtenSlowly = perDayMb(slow.writeBytes, slow);
  const figure = (name, value, unit, limit = null) => ({ name, value, unit, limit });
  return [
    figure(`store a sample, all told (${hours} h of 64 channels at 10 Hz)`, usual.cpuNs / usual.samples, 'ns', 100),
    figure('of that, sample() alone', usual.appendNs / usual.samples, 'ns'),
    figure('memory that the store takes under that load', usual.growthBytes / MB, 'MB', 12),
    figure('written to files in a day', perDayMb(usual.wchar, usual), 'MB'),
    figure('written to the disk in a day', written, 'MB'),
    figure('written to the disk in a day, store.flush_seconds 30', writtenSlowly, 'MB'),
    figure('share of that in what is written by default', writtenSlowly / written, '', 0.5),
  ];
}

const figures = [];
for (const shape of SHAPES) figures.push(...(await shapeFigures(shape)));
figures.push(...loadFigures(), ...(await queryFigures()), ...(await auditFigures()));
if (!promtoolIsThere()) process.stderr.write('Prometheus is not compared with: promtool is not installed\n');
process.exit(report('store', figures) ? 0 : 1);
