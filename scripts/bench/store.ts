/**
 * What the store costs, beside its limits: CPU per sample, bytes per sample beside the entropy of its differences, latency
 * and throughput of audit entries, verification. Run by scripts/bench/store; `--json` prints one object.
 */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Channel } from '../../src/core/channel.js';
import { systemClock } from '../../src/core/clock.js';
import type { Log } from '../../src/core/ports.js';
import { decodeChunk, encodeChunk, MAX_CHUNK_SAMPLES, type Samples } from '../../src/store/chunk.js';
import { openStore } from '../../src/store/store.js';
import { randomWalk, SHAPES, type Shape } from './store-shapes.js';

interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly limit: number | null;
}

const CHANNELS = 64;
const RATE_HZ = 10;
const SIMULATED_S = 600;
/** The first rounds compile. */
const CODE_ROUNDS = 20;
/** Of the entropy of a chunk's differences, header, first value and check sum included. */
const MAX_RATIO = 1.35;
/**
 * Where there is no entropy what remains is the chunk itself: 5 bytes of header, 4 of check sum, up to 9 of first value and
 * common divisor.
 */
const MIN_CHUNK_BYTES = 18;
const APPENDS = 1_000;
const GROUPED = 8_000;

const say =
  (level: string) =>
  (message: string): void => {
    if (level !== 'debug' && level !== 'trace') process.stderr.write(`${level}: ${message}\n`);
  };
const log: Log = {
  trace: say('trace'),
  debug: say('debug'),
  info: say('info'),
  warn: say('warn'),
  error: say('error'),
  fatal: say('fatal'),
};

function channel(i: number): Channel {
  return {
    id: `hwmon/bench/temp${i}`,
    source: 'hwmon',
    device: 'bench',
    name: `temp${i}`,
    label: `temp${i}`,
    quantity: 'temperatureMilliCelsius',
    class: 'cpu',
    limits: {},
    probe: { kind: 'integer', path: '' },
    rateHz: RATE_HZ,
    domain: 'bench',
    path: '',
  };
}

/** Shannon entropy of the differences, in bytes per sample: what no encoding of them one by one can go below. */
function entropyBytes(values: Float64Array): number {
  const counts = new Map<number, number>();
  for (let i = 1; i < values.length; i++) {
    const difference = (values[i] ?? 0) - (values[i - 1] ?? 0);
    counts.set(difference, (counts.get(difference) ?? 0) + 1);
  }
  let bits = 0;
  for (const count of counts.values()) bits -= (count / (values.length - 1)) * Math.log2(count / (values.length - 1));
  return bits / 8;
}

function chunkOf({ series }: Shape, seed: number): Samples {
  const values = Float64Array.from({ length: MAX_CHUNK_SAMPLES }, series(seed));
  const atMs = Float64Array.from(values, (_value, k) => (k * 1000) / RATE_HZ);
  return { length: values.length, atMs, values, qualities: new Uint8Array(values.length) };
}

/** CPU nanoseconds per sample of the quickest round: what other programs take beside it does not count. */
function cpuPerSampleNs(each: () => void): number {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < CODE_ROUNDS; round++) {
    const before = process.cpuUsage();
    each();
    const { user, system } = process.cpuUsage(before);
    least = Math.min(least, ((user + system) * 1000) / CHANNELS / MAX_CHUNK_SAMPLES);
  }
  return least;
}

function shapeFigures(shape: Shape): Figure[] {
  const chunks = Array.from({ length: CHANNELS }, (_, i) => chunkOf(shape, i + 1));
  const coded = chunks.map(encodeChunk);
  const bytes = coded.reduce((sum, chunk) => sum + chunk.length, 0) / CHANNELS / MAX_CHUNK_SAMPLES;
  const entropy = chunks.reduce((sum, { values }) => sum + entropyBytes(values), 0) / CHANNELS;
  const limit = Math.max(entropy * MAX_RATIO, MIN_CHUNK_BYTES / MAX_CHUNK_SAMPLES);
  const encodeNs = cpuPerSampleNs(() => chunks.forEach(encodeChunk));
  const decodeNs = cpuPerSampleNs(() => {
    for (const chunk of coded) decodeChunk(chunk, 0);
  });
  const { name } = shape;
  return [
    { name: `${name}: sample`, value: bytes, unit: 'B', limit },
    { name: `${name}: entropy of differences`, value: entropy, unit: 'B', limit: null },
    // Below the absolute limit a ratio says nothing: the entropy is 0, or next to it.
    ...(limit > entropy * MAX_RATIO
      ? []
      : [{ name: `${name}: ratio`, value: bytes / entropy, unit: '', limit: MAX_RATIO }]),
    { name: `${name}: encode a sample`, value: encodeNs, unit: 'ns', limit: null },
    { name: `${name}: decode a sample`, value: decodeNs, unit: 'ns', limit: null },
  ];
}

function sampleFigures(sample: (c: Channel, value: number, atMs: number) => void): Figure[] {
  const channels = Array.from({ length: CHANNELS }, (_, i) => channel(i));
  const walks = channels.map((_, i) => randomWalk(i + 1));
  const count = SIMULATED_S * RATE_HZ;
  const values = walks.map((next) => Float64Array.from({ length: count }, next));
  const baseMs = systemClock.monotonicMs();
  let worstMs = 0;
  const before = process.cpuUsage();
  for (let k = 0; k < count; k++) {
    const startMs = performance.now();
    for (let i = 0; i < CHANNELS; i++) {
      const each = channels[i];
      if (each !== undefined) sample(each, values[i]?.[k] ?? 0, baseMs + (k * 1000) / RATE_HZ);
    }
    worstMs = Math.max(worstMs, performance.now() - startMs);
  }
  const { user, system } = process.cpuUsage(before);
  return [
    {
      name: 'sample() with closing chunks',
      value: ((user + system) * 1000) / count / CHANNELS,
      unit: 'ns',
      limit: 1_000,
    },
    { name: `longest round of ${CHANNELS} samples`, value: worstMs, unit: 'ms', limit: 20 },
  ];
}

const dataDir = mkdtempSync(join(process.cwd(), '.bench-store-'));
const figures: Figure[] = SHAPES.flatMap(shapeFigures);
try {
  const store = await openStore({ dataDir, log, clock: systemClock });
  figures.push(...sampleFigures((each, value, atMs) => store.sample(each, value, 'ok', atMs)));
  const what = { target: 'cpufreq/policy0', former: '3600000', written: '1800000', readBack: '1800000' };
  const latenciesMs: number[] = [];
  for (let i = 0; i < APPENDS; i++) {
    const startMs = performance.now();
    await store.audit.append({ kind: 'action.start', who: 'agent', what });
    latenciesMs.push(performance.now() - startMs);
  }
  latenciesMs.sort((a, b) => a - b);
  figures.push({ name: 'audit entry on disk, p50', value: latenciesMs[APPENDS / 2] ?? 0, unit: 'ms', limit: null });
  figures.push({ name: 'audit entry on disk, p99', value: latenciesMs[APPENDS * 0.99] ?? 0, unit: 'ms', limit: null });
  const startMs = performance.now();
  await Promise.all(
    Array.from({ length: GROUPED }, () => store.audit.append({ kind: 'action.start', who: 'agent', what })),
  );
  const groupedMs = performance.now() - startMs;
  figures.push({ name: 'audit entries, group commit', value: (GROUPED / groupedMs) * 1000, unit: '1/s', limit: null });
  const verifyMs = performance.now();
  const verdict = await store.audit.verify();
  if (!verdict.ok) throw new Error(verdict.why);
  figures.push({
    name: 'verify an audit entry',
    value: ((performance.now() - verifyMs) * 1000) / verdict.entries,
    unit: 'us',
    limit: null,
  });
  await store.stop();
  const files = readdirSync(join(dataDir, 'db')).map((name) => statSync(join(dataDir, 'db', name)).size);
  figures.push({ name: 'database', value: files.reduce((a, b) => a + b, 0) / 1e6, unit: 'MB', limit: null });
} finally {
  rmSync(dataDir, { recursive: true });
}

if (process.argv.includes('--json')) {
  process.stdout.write(`${JSON.stringify({ name: 'store', figures })}\n`);
} else {
  for (const { name, value, unit, limit } of figures) {
    const bound = limit === null ? '' : `limit ${limit.toPrecision(3)} ${unit}`;
    process.stdout.write(`${name.padEnd(40)} ${value.toPrecision(3).padStart(9)} ${unit.padEnd(4)} ${bound}\n`);
  }
}
