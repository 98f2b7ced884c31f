/**
 * The cost of each call into NVML, and of reading one GPU's channels at their rates (native/bench/nvml_bench.cc).
 *
 * Without a driver it runs on the test double and says so: then the figures are those of the reader and the double, a limit
 * below which no driver gets. Only the CPU of eight GPUs has a budget; what a call costs is the driver's affair.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { report } from './lib/figures.mjs';

const PROGRAM = 'build/native-bench/bench-nvml';
const DOUBLE = resolve('build/native-bench/double/libnvidia-ml.so.1');
const GPUS = 8;
const FAST_HZ = 10;
const SLOW_HZ = 0.1;
const { values: options } = parseArgs({
  options: { json: { type: 'boolean', default: false }, library: { type: 'string', default: 'libnvidia-ml.so.1' } },
});

function measureDriver() {
  const { status, stdout, stderr } = spawnSync(PROGRAM, ['calls', options.library], { encoding: 'utf8' });
  if (status === 0) return JSON.parse(stdout);
  process.stderr.write(`${stderr}nvml: no driver; these figures are of the test double\n`);
}

function measureDouble() {
  const directory = mkdtempSync(join(tmpdir(), 'skos-bench-'));
  try {
    const script = join(directory, 'script');
    writeFileSync(script, 'gpu 0 pci 0000:3b:00.0\ngpu 0 preset h100\n');
    const env = { ...process.env, SKOS_NVML_SCRIPT: script };
    return JSON.parse(execFileSync(PROGRAM, ['calls', DOUBLE], { env, encoding: 'utf8' }));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** CPU of GPUS GPUs at the default rates, in % of a core. */
function cpuPercent({ fast, medium, slow }) {
  const usPerSecond = fast.cpuUs * FAST_HZ + medium.cpuUs + slow.cpuUs * SLOW_HZ;
  return (GPUS * usPerSecond) / 1e4;
}

const ofDriver = measureDriver();
const measured = ofDriver ?? measureDouble();
const name = ofDriver === undefined ? 'nvml (test double)' : `nvml (${measured.gpu}, driver ${measured.driver})`;
const figures = measured.calls.flatMap(({ call, p50Us, p99Us }) => [
  { name: `${call} p50`, value: p50Us, unit: 'us', limit: null },
  { name: `${call} p99`, value: p99Us, unit: 'us', limit: null },
]);
for (const [rate, { channels, p50Us, p99Us }] of Object.entries(measured.rounds)) {
  figures.push({ name: `round of ${channels} ${rate} channels p50`, value: p50Us, unit: 'us', limit: null });
  figures.push({ name: `round of ${channels} ${rate} channels p99`, value: p99Us, unit: 'us', limit: null });
}
figures.push(
  { name: 'open', value: measured.openUs, unit: 'us', limit: null },
  { name: 'discover', value: measured.discoverUs, unit: 'us', limit: null },
  { name: 'memory of a process with one GPU open', value: measured.memoryKib / 1024, unit: 'MiB PSS', limit: null },
  {
    name: `${GPUS} GPUs x ${measured.channels} channels`,
    value: cpuPercent(measured.rounds),
    unit: '% of a core',
    limit: 1,
  },
);
process.exitCode = report(name, figures) ? 0 : 1;
