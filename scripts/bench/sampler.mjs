/**
 * The sampler against its limit, in one run and on the same files: 64 files on tmpfs, read by the addon as the agent
 * uses it, and by the plainest C++ loop (native/bench/sampler_bench.cc). CPU time of the sampler is that of its own
 * threads, as the scheduler accounts it. Rounds alternate and the median counts, because the machine may be shared.
 *
 * Then a node at work: eight scripted GPUs behind the real skos-gpu beside the 64 channels of the agent's own sampler, CPU of each
 * and the longest gap between two samples. And what a sample costs as channels grow, in the sampler and in the agent's drain().
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadAddon } from '../../build/ts/src/sensors/addon.js';
import { median, report } from './lib/figures.mjs';
import { processCpuNs, startGpus } from './lib/gpus.mjs';
import { sleep as wait } from './lib/node.mjs';

const CHANNELS = 64;
const GPUS = 8;
const CHANNELS_A_GPU = 25;
const RATE_HZ = 10;
const NODE_SECONDS = 10; // Of a node at work: each rate has come round.
const SETTLE_MS = 2000; // Starting eight processes is no part of it.
const GROWTH = [64, 256, 1024, 4096];
const MAX_GROWTH = 1.25;
const ROUNDS = 5;
const REFRESHES = 200_000;
const { values: options } = parseArgs({
  options: { json: { type: 'boolean', default: false }, seconds: { type: 'string', default: '2' } },
});
const seconds = Number(options.seconds);
const addon = loadAddon();

function makeFiles(count) {
  const directory = mkdtempSync('/dev/shm/skos-bench-');
  const files = Array.from({ length: count }, (_, i) => join(directory, `temp${i}_input`));
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

/** Of each channel the longest time between two samples, in periods of that channel. */
class Gaps {
  #lastMs = new Map();
  longest = 0;

  take(key, periodMs, atMs) {
    const lastMs = this.#lastMs.get(key);
    if (lastMs !== undefined) this.longest = Math.max(this.longest, (atMs - lastMs) / periodMs);
    this.#lastMs.set(key, atMs);
  }
}

/** The fast channels of a region, told to `gaps`; anything but a good reading is a fault of the measurement. */
function regionDrain(region, key, gaps) {
  const { channels } = JSON.parse(region.description);
  if (channels.length !== CHANNELS_A_GPU)
    throw new Error(`a GPU has ${channels.length} channels, not ${CHANNELS_A_GPU}`);
  return () =>
    region.drain((channel, _value, quality, atMs) => {
      if (quality !== 'ok') throw new Error(`${key} ${channels[channel].name}: ${quality}`);
      const { rateHz } = channels[channel];
      if (rateHz === RATE_HZ) gaps.take(`${key} ${channel}`, 1000 / rateHz, atMs);
    });
}

/** Eight GPUs and 64 channels of hwmon at once. */
async function measureNode(files) {
  const gpus = await startGpus({ count: GPUS, addon });
  const sampler = startSampler(files, RATE_HZ);
  try {
    if (gpus.regions.size !== GPUS) throw new Error(`skos-gpu serves ${gpus.regions.size} GPUs:\n${gpus.said()}`);
    const own = new Gaps();
    const ofGpus = new Gaps();
    const drains = [...gpus.regions].map(([address, region]) => regionDrain(region, address, ofGpus));
    const drainAll = () => {
      sampler.drain((channel, _value, _quality, atMs) => own.take(channel, 1000 / RATE_HZ, atMs));
      for (const drain of drains) drain();
    };
    const gpuCpuNs = () => gpus.pids.reduce((sum, pid) => sum + processCpuNs(pid), 0);
    await wait(SETTLE_MS);
    const [samplerBefore, gpusBefore, begin] = [samplerCpuNs(), gpuCpuNs(), process.hrtime.bigint()];
    for (let i = 0; i < NODE_SECONDS * 10; i++) {
      await wait(100);
      drainAll();
    }
    const [samplerNs, gpusNs] = [samplerCpuNs() - samplerBefore, gpuCpuNs() - gpusBefore];
    const wallNs = Number(process.hrtime.bigint() - begin);
    return {
      gpuShare: gpusNs / wallNs,
      gpuGap: ofGpus.longest,
      samplerShare: samplerNs / wallNs,
      samplerGap: own.longest,
    };
  } finally {
    sampler.stop();
    await gpus.stop();
  }
}

/** Nanoseconds of a sample: CPU of the sampler's threads, and the median of what its record takes in drain(). */
function measureGrowth(files) {
  const sampler = startSampler(files, RATE_HZ);
  sampler.drain(() => {});
  const cpuBefore = samplerCpuNs();
  const drainNs = [];
  let records = 0;
  for (let i = 0; i < seconds * 10; i++) {
    sleep(0.1);
    const recordsBefore = records;
    const begin = process.hrtime.bigint();
    sampler.drain(() => records++);
    drainNs.push(Number(process.hrtime.bigint() - begin) / Math.max(1, records - recordsBefore));
  }
  const cpuNs = samplerCpuNs() - cpuBefore;
  if (sampler.overruns > 0) throw new Error(`${sampler.overruns} samples of ${files.length} channels were lost`);
  sampler.stop();
  return { sampleNs: cpuNs / records, drainNs: median(drainNs) };
}

/** The sizes take turns, so that a busy moment of the machine meets all of them. */
function measureAllGrowth() {
  const trees = GROWTH.map((count) => ({ count, ...makeFiles(count), sampleNs: [], drainNs: [] }));
  try {
    for (let round = 0; round < ROUNDS; round++) {
      for (const tree of trees) {
        const { sampleNs, drainNs } = measureGrowth(tree.files);
        tree.sampleNs.push(sampleNs);
        tree.drainNs.push(drainNs);
      }
    }
  } finally {
    for (const { directory } of trees) rmSync(directory, { recursive: true });
  }
  return trees.map(({ count, sampleNs, drainNs }) => ({
    count,
    sampleNs: median(sampleNs),
    drainNs: median(drainNs),
  }));
}

/** Linear or better: a channel among many must not cost more than one among few, but for the noise of a shared machine. */
function growthFigures(growth) {
  const [few] = growth;
  const figures = growth.flatMap(({ count, sampleNs, drainNs }) => [
    { name: `a sample of ${count} channels at ${RATE_HZ} Hz`, value: sampleNs, unit: 'ns CPU', limit: null },
    { name: `its record in drain()`, value: drainNs, unit: 'ns', limit: null },
  ]);
  const many = growth.at(-1);
  const name = `of ${many.count} / of ${few.count} channels`;
  return [
    ...figures,
    { name: `a sample ${name}`, value: many.sampleNs / few.sampleNs, unit: 'ratio', limit: MAX_GROWTH },
    { name: `a record ${name}`, value: many.drainNs / few.drainNs, unit: 'ratio', limit: MAX_GROWTH },
  ];
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

const { directory, files } = makeFiles(CHANNELS);
try {
  const fast = [];
  const plain = [];
  for (let round = 0; round < ROUNDS; round++) {
    plain.push(measureCpp(files, 1000));
    fast.push(measureSampler(files, 1000));
  }
  const slow = measureSampler(files, 10);
  const refresh = measureRefresh(files);
  const node = await measureNode(files);
  const growth = measureAllGrowth();
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
    {
      name: `skos-gpu, ${GPUS} GPUs x ${CHANNELS_A_GPU} channels (scripted NVML, its CPU counted in)`,
      value: percent(node.gpuShare),
      unit: '% of a core',
      limit: 1,
    },
    { name: 'its longest gap, fast channels', value: node.gpuGap, unit: 'periods', limit: 2 },
    {
      name: `beside it, sampler, ${CHANNELS} channels`,
      value: percent(node.samplerShare),
      unit: '% of a core',
      limit: 1,
    },
    { name: 'its longest gap', value: node.samplerGap, unit: 'periods', limit: 2 },
    ...growthFigures(growth),
  ]);
  process.exitCode = within ? 0 : 1;
} finally {
  rmSync(directory, { recursive: true });
}
