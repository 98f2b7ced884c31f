/**
 * The sampler against its limit, in one run and on the same files: 64 files on tmpfs, read by the addon as the agent
 * uses it, and by the plainest C++ loop (native/bench/sampler_bench.cc). CPU time of the sampler is that of its own
 * threads, as the scheduler accounts it. Rounds alternate and the median counts, because the machine may be shared.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadAddon } from '../../build/ts/src/sensors/addon.js';
import { median, report } from './lib/figures.mjs';

const CHANNELS = 64;
const ROUNDS = 5;
const REFRESHES = 200_000;
const { values: options } = parseArgs({
  options: { json: { type: 'boolean', default: false }, seconds: { type: 'string', default: '2' } },
});
const seconds = Number(options.seconds);
const addon = loadAddon();

function makeFiles() {
  const directory = mkdtempSync('/dev/shm/skos-bench-');
  const files = Array.from({ length: CHANNELS }, (_, i) => join(directory, `temp${i}_input`));
  for (const [i, file] of files.entries()) writeFileSync(file, `${40_000 + i * 125}\n`);
  return { directory, files };
}

function channel(path, rateHz) {
  const quantity = 'temperatureMilliCelsius';
  const probe = { kind: 'integer', path };
  const names = { id: path, source: 'bench', device: 'bench', name: path, label: '', path };
  return { ...names, quantity, class: 'cpu', limits: {}, probe, rateHz, domain: 'bench' };
}

/** A tripwire on each channel, as the agent has them. */
function startSampler(files, rateHz) {
  const channels = files.map((file) => channel(file, rateHz));
  const tripwires = files.map((_, i) => ({ channel: i, raise: 90_000, clear: 80_000, samples: 2 }));
  const sampler = addon.createSampler(channels, tripwires, { readDeadlineMs: 1000, onCrossing: () => {} });
  sampler.start();
  sleep(0.2);
  return sampler;
}

function sleep(forSeconds) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, forSeconds * 1000);
}

/** CPU nanoseconds of the sampler's and the supervisor's threads. */
function samplerCpuNs() {
  let sum = 0;
  for (const id of readdirSync('/proc/self/task')) {
    const name = readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim();
    if (name.startsWith('skos-s')) sum += Number(readFileSync(`/proc/self/task/${id}/schedstat`, 'utf8').split(' ')[0]);
  }
  return sum;
}

/** CPU share of a core, and CPU per round of all files. */
function measureSampler(files, rateHz) {
  const sampler = startSampler(files, rateHz);
  sampler.drain(() => {});
  const lostBefore = sampler.overruns;
  const cpuBefore = samplerCpuNs();
  const begin = process.hrtime.bigint();
  let records = 0;
  // Drained as the agent does, ten times a second; the main thread's time is not the sampler's.
  for (let i = 0; i < seconds * 10; i++) {
    sleep(0.1);
    sampler.drain(() => records++);
  }
  const cpuNs = samplerCpuNs() - cpuBefore;
  const wallNs = Number(process.hrtime.bigint() - begin);
  records += sampler.overruns - lostBefore;
  sampler.stop();
  return { share: cpuNs / wallNs, perRoundNs: cpuNs / (records / CHANNELS) };
}

function measureCpp(files, rateHz) {
  const output = execFileSync('build/native-bench/bench-sampler', [String(rateHz), String(seconds), ...files]);
  const [perRoundNs, share] = output.toString().trim().split(' ').map(Number);
  return { share, perRoundNs };
}

function measureRefresh(files) {
  const sampler = startSampler(files, 10);
  for (let i = 0; i < REFRESHES; i++) sampler.refresh();
  globalThis.gc();
  const heapBefore = process.memoryUsage().heapUsed;
  const begin = process.hrtime.bigint();
  for (let i = 0; i < REFRESHES; i++) sampler.refresh();
  const ns = Number(process.hrtime.bigint() - begin) / REFRESHES;
  const heapBytes = (process.memoryUsage().heapUsed - heapBefore) / REFRESHES;
  sampler.stop();
  return { ns, heapBytes };
}

function percent(share) {
  return share * 100;
}

const { directory, files } = makeFiles();
try {
  const fast = [];
  const plain = [];
  for (let round = 0; round < ROUNDS; round++) {
    plain.push(measureCpp(files, 1000));
    fast.push(measureSampler(files, 1000));
  }
  const slow = measureSampler(files, 10);
  const refresh = measureRefresh(files);
  const plainNs = median(plain.map(({ perRoundNs }) => perRoundNs));
  const fastNs = median(fast.map(({ perRoundNs }) => perRoundNs));
  const plainShare = median(plain.map(({ share }) => share));
  const fastShare = median(fast.map(({ share }) => share));
  const within = report('sampler', [
    { name: 'plain C++, one sample of 64 files', value: plainNs / 1000, unit: 'us CPU', limit: null },
    { name: 'sampler, one sample of 64 files', value: fastNs / 1000, unit: 'us CPU', limit: (1.2 * plainNs) / 1000 },
    { name: 'sampler / plain C++', value: fastNs / plainNs, unit: 'ratio', limit: 1.2 },
    { name: 'plain C++, 64 files at 1 kHz', value: percent(plainShare), unit: '% of a core', limit: null },
    {
      name: 'sampler, 64 channels at 1 kHz',
      value: percent(fastShare),
      unit: '% of a core',
      limit: percent(1.2 * plainShare),
    },
    { name: 'sampler, 64 channels at 10 Hz', value: percent(slow.share), unit: '% of a core', limit: 1 },
    { name: 'refresh() of 64 channels', value: refresh.ns, unit: 'ns', limit: 5000 },
    { name: 'refresh(), JS heap', value: refresh.heapBytes, unit: 'bytes', limit: 1 },
  ]);
  process.exitCode = within ? 0 : 1;
} finally {
  rmSync(directory, { recursive: true });
}
