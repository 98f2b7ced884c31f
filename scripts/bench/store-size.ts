/**
 * Bytes per sample of each shape in the real database, key and index included, beside what no encoding of single differences
 * can go below, Gorilla, SQLite and Prometheus, which get the same samples.
 */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Level } from 'level';
import { chunkHeader, decodeChunk, encodeChunk, MAX_CHUNK_SAMPLES, type Samples } from '../../src/store/chunk.js';
import { PREFIX, type Prefix, prefixRange } from '../../src/store/keys.js';
import { Feed } from './store-feed.js';
import type { Figure } from './store-figure.js';
import { gorillaBytes } from './store-gorilla.js';
import { prometheusBytes, promtoolIsThere } from './store-prometheus.js';
import type { Shape } from './store-shapes.js';
import { type Stored, sqliteBytes } from './store-sqlite.js';

const RATE_HZ = 10;
const CHANNELS = 2;
/** Of ten minutes each at 10 Hz. */
const CHUNKS = 21;
const STEP_MS = 60_000;
const WINDOW_MS = 600_000;
/** Of the entropy of the differences. */
export const MAX_RATIO = 1.35;
/**
 * Where there is no entropy what remains is the chunk itself: header, first value, divisor and check sum, its key of 21 bytes
 * with LevelDB's 8 and its share of the index.
 */
const MIN_CHUNK_BYTES = 64;
/** The first rounds compile. */
const CODE_ROUNDS = 12;
/** What is compared is held in memory, and SQLite and promtool take their time. */
const COMPARED_SAMPLES = 60_000;
const PER_BASE = 1_000;

/** Shannon entropy of the differences, in bytes per sample: what no encoding of them one by one can go below. */
export function entropyBytes(values: Float64Array): number {
  const counts = new Map<number, number>();
  for (let i = 1; i < values.length; i++) {
    const difference = (values[i] ?? 0) - (values[i - 1] ?? 0);
    counts.set(difference, (counts.get(difference) ?? 0) + 1);
  }
  let bits = 0;
  for (const count of counts.values()) bits -= (count / (values.length - 1)) * Math.log2(count / (values.length - 1));
  return bits / 8;
}

/** Bytes of the tables that hold one kind of record alone, merged: data, keys and index. Also how many samples are in them. */
async function tableBytes(dataDir: string, prefix: Prefix): Promise<{ bytes: number; samples: number }> {
  const options = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const;
  const from = new Level<Buffer, Buffer>(join(dataDir, 'db'), options);
  const directory = join(dataDir, `only-${prefix}`);
  // Where a captured series repeats, LevelDB's own compression would find that chunks are alike; what is coded already it leaves as it is.
  const to = new Level<Buffer, Buffer>(directory, { ...options, compression: false });
  let samples = 0;
  for await (const [key, value] of from.iterator(prefixRange(prefix))) {
    if (prefix === PREFIX.rawSeries) samples += chunkHeader(value).length;
    await to.put(key, value);
  }
  await from.close();
  const { gte, lt } = prefixRange(prefix);
  await (to as unknown as { compactRange(start: Buffer, end: Buffer): Promise<void> }).compactRange(gte, lt);
  await to.close();
  const tables = readdirSync(directory).filter((name) => /\.(ldb|sst)$/.test(name));
  return { bytes: tables.reduce((sum, name) => sum + statSync(join(directory, name)).size, 0), samples };
}

interface InStore {
  readonly raw: number;
  readonly seconds: number;
  readonly minutes: number;
}

/** Bytes per raw sample of each tier. */
async function bytesInStore(series: readonly (() => number)[]): Promise<InStore> {
  const dataDir = mkdtempSync(join(process.cwd(), '.bench-store-'));
  try {
    const feed = await Feed.open({ dataDir, rateHz: RATE_HZ, series });
    for (let ms = 0; ms < CHUNKS * WINDOW_MS; ms += STEP_MS) await feed.pass(STEP_MS);
    await feed.stop();
    const { bytes, samples } = await tableBytes(dataDir, PREFIX.rawSeries);
    if (samples < 0.9 * feed.samples) throw new Error(`${samples} of ${feed.samples} samples are in the database`);
    const seconds = await tableBytes(dataDir, PREFIX.secondSeries);
    const minutes = await tableBytes(dataDir, PREFIX.minuteSeries);
    return { raw: bytes / samples, seconds: seconds.bytes / samples, minutes: minutes.bytes / samples };
  } finally {
    rmSync(dataDir, { recursive: true });
  }
}

function valuesOf(next: () => number, length: number): Float64Array {
  return Float64Array.from({ length }, next);
}

function evenTimes(length: number, fromMs: number): Float64Array {
  return Float64Array.from({ length }, (_, k) => fromMs + (k * 1000) / RATE_HZ);
}

/** CPU nanoseconds per sample of the quickest round: what other programs take beside it does not count. */
function cpuPerSampleNs(samples: number, each: () => void): number {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < CODE_ROUNDS; round++) {
    const before = process.cpuUsage();
    each();
    const { user, system } = process.cpuUsage(before);
    least = Math.min(least, ((user + system) * 1000) / samples);
  }
  return least;
}

function codeFigures({ name, series }: Shape): Figure[] {
  const chunks = Array.from({ length: 32 }, (_, i): Samples => {
    const values = valuesOf(series(i + 1), MAX_CHUNK_SAMPLES);
    const { length } = values;
    return { length, atMs: evenTimes(length, 0), values, qualities: new Uint8Array(length) };
  });
  const coded = chunks.map((chunk) => encodeChunk(chunk));
  const samples = chunks.length * MAX_CHUNK_SAMPLES;
  const encodeNs = cpuPerSampleNs(samples, () => {
    for (const chunk of chunks) encodeChunk(chunk);
  });
  const decodeNs = cpuPerSampleNs(samples, () => {
    for (const chunk of coded) decodeChunk(chunk, 0);
  });
  return [
    { name: `${name}: encode a sample`, value: encodeNs, unit: 'ns', limit: null },
    { name: `${name}: decode a sample`, value: decodeNs, unit: 'ns', limit: null },
  ];
}

/** The same samples elsewhere. What is not installed is said once, by the caller. */
function elsewhereFigures({ name, series }: Shape): Figure[] {
  const stored: Stored[] = Array.from({ length: CHANNELS }, (_, i) => ({
    atMs: evenTimes(COMPARED_SAMPLES, 1_700_000_000_000),
    values: valuesOf(series(i + 1), COMPARED_SAMPLES),
  }));
  const count = CHANNELS * COMPARED_SAMPLES;
  const sum = (bytes: (each: Stored) => number) => stored.reduce((total, each) => total + bytes(each), 0);
  // Doubles of round numbers and of thousandths compress differently: the better of the two stands here.
  const gorilla = Math.min(
    sum(gorillaBytes),
    sum(({ atMs, values }) => gorillaBytes({ atMs, values: values.map((value) => value / PER_BASE) })),
  );
  const directory = mkdtempSync(join(process.cwd(), '.bench-store-'));
  try {
    const figure = (what: string, bytes: number): Figure => ({
      name: `${name}: ${what}`,
      value: bytes / count,
      unit: 'B',
      limit: null,
    });
    return [
      figure('Gorilla', gorilla),
      ...(promtoolIsThere() ? [figure('Prometheus', prometheusBytes(directory, stored, PER_BASE))] : []),
      figure('SQLite', sqliteBytes(directory, stored)),
    ];
  } finally {
    rmSync(directory, { recursive: true });
  }
}

export async function shapeFigures(shape: Shape): Promise<Figure[]> {
  const { name, series } = shape;
  const inStore = await bytesInStore(Array.from({ length: CHANNELS }, (_, i) => series(i + 1)));
  const samples = (CHUNKS * WINDOW_MS * RATE_HZ) / 1000;
  const entropies = Array.from({ length: CHANNELS }, (_, i) => entropyBytes(valuesOf(series(i + 1), samples)));
  const entropy = entropies.reduce((sum, each) => sum + each, 0) / CHANNELS;
  const least = (MIN_CHUNK_BYTES * 1000) / (WINDOW_MS * RATE_HZ);
  const limit = Math.max(entropy * MAX_RATIO, least);
  return [
    { name: `${name}: sample`, value: inStore.raw, unit: 'B', limit },
    { name: `${name}: entropy of differences`, value: entropy, unit: 'B', limit: null },
    // Below the absolute limit a ratio says nothing: the entropy is 0, or next to it.
    ...(limit === least ? [] : [{ name: `${name}: ratio`, value: inStore.raw / entropy, unit: '', limit: MAX_RATIO }]),
    ...elsewhereFigures(shape),
    { name: `${name}: its seconds, per sample`, value: inStore.seconds, unit: 'B', limit: null },
    { name: `${name}: its minutes, per sample`, value: inStore.minutes, unit: 'B', limit: null },
    ...codeFigures(shape),
  ];
}
