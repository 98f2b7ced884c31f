/**
 * A program that stores 64 channels for simulated hours, and says what that cost this process: run by store.mjs as a child,
 * so that nothing else is in its memory and its bytes.
 *
 *   node store-load.js DATA_DIR HOURS FLUSH_SECONDS RATE_HZ
 *
 * The clock goes on four seconds at a time, and every interval that is due fires, so that there are as many flushes, closed windows
 * and roll-ups to a simulated hour as to a real one. Between the steps the disk has real time to finish what was begun. What a block
 * device writes is rounded up to its blocks at each fdatasync, in a simulated hour as often as in a real one.
 */
import { readFileSync } from 'node:fs';
import { DEFAULT_LIMITS } from '../../src/store/limits.js';
import { cpuSinceNs, Feed, rest } from './store-feed.js';
import { randomWalk } from './store-shapes.js';

const CHANNELS = 64;
const STEP_MS = 4_000;
const PAUSE_MS = 2;
const HOUR_MS = 3_600_000;
/** The first hours compile; they count for memory alone. */
const WARM_UP_HOURS = 2;
const FEEDING_HOURS = 1;
const LOOK_EVERY_MS = 60_000;
/** Samples are made before, so that making them costs next to nothing while they are stored. */
const MADE = 65_536;

export interface Load {
  readonly samples: number;
  readonly hours: number;
  /** Without what making the samples takes: all told, and of sample() alone. */
  readonly cpuNs: number;
  readonly appendNs: number;
  /** Greatest over that before the store was opened, without collecting first: resident memory, and what of it is no file's. */
  readonly growthBytes: number;
  readonly ownGrowthBytes: number;
  /** The latter at the end, after a collection. */
  readonly keptBytes: number;
  /** Bytes that the process handed to write(), and pages of files that it made dirty: /proc/self/io. */
  readonly wchar: number;
  readonly writeBytes: number;
}

function ioCounter(name: string): number {
  return Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(readFileSync('/proc/self/io', 'latin1'))?.[1]);
}

/** `RssAnon` is without the code of programs and the tables of the database, which the kernel takes back when it wants. */
function residentBytes(what: 'VmRSS' | 'RssAnon'): number {
  const found = new RegExp(`^${what}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'latin1'));
  return 1024 * Number(found?.[1]);
}

function madeSeries(seed: number): () => number {
  const values = Float64Array.from({ length: MADE }, randomWalk(seed));
  let at = 0;
  return () => values[at++ & (MADE - 1)] ?? 0;
}

/** What making so many samples costs where nobody takes them: [all of it, without the pauses]. */
async function feedingNs(feed: Feed, hours: number, rateHz: number): Promise<[all: number, giving: number]> {
  const count = (STEP_MS * rateHz) / 1000;
  const nobody = { sample: () => undefined };
  const before = process.cpuUsage();
  let giving = 0;
  for (let ms = 0; ms < hours * HOUR_MS; ms += STEP_MS) {
    const beforeGiving = process.cpuUsage();
    feed.give(nobody, { startMs: ms, count });
    giving += cpuSinceNs(beforeGiving);
    await rest(PAUSE_MS);
  }
  return [cpuSinceNs(before), giving];
}

interface Loading {
  readonly hours: number;
  readonly flushMs: number;
  readonly rateHz: number;
}

async function load(dataDir: string, { hours, flushMs, rateHz }: Loading): Promise<Load> {
  const series = Array.from({ length: CHANNELS }, (_, i) => madeSeries(i + 1));
  for (const next of series) next();
  globalThis.gc?.();
  const [beforeBytes, ownBeforeBytes] = [residentBytes('VmRSS'), residentBytes('RssAnon')];
  const feed = await Feed.open({ dataDir, rateHz, series, limits: { ...DEFAULT_LIMITS, flushMs } });
  let [growthBytes, ownGrowthBytes] = [0, 0];
  const pass = async (passedHours: number) => {
    for (let ms = 0; ms < passedHours * HOUR_MS; ms += STEP_MS) {
      await feed.pass(STEP_MS, PAUSE_MS);
      if (ms % LOOK_EVERY_MS !== 0) continue;
      growthBytes = Math.max(growthBytes, residentBytes('VmRSS') - beforeBytes);
      ownGrowthBytes = Math.max(ownGrowthBytes, residentBytes('RssAnon') - ownBeforeBytes);
    }
  };
  await pass(WARM_UP_HOURS);
  const { samples: samplesBefore, givingNs: givingBefore } = feed;
  const before = { wchar: ioCounter('wchar'), writeBytes: ioCounter('write_bytes'), cpu: process.cpuUsage() };
  await pass(hours);
  const cpuNs = cpuSinceNs(before.cpu);
  const [wchar, writeBytes] = [ioCounter('wchar') - before.wchar, ioCounter('write_bytes') - before.writeBytes];
  const samples = feed.samples - samplesBefore;
  const appendNs = feed.givingNs - givingBefore;
  const [feeding, giving] = await feedingNs(feed, FEEDING_HOURS, rateHz);
  const part = hours / FEEDING_HOURS;
  globalThis.gc?.();
  const keptBytes = residentBytes('RssAnon') - ownBeforeBytes;
  await feed.stop();
  return {
    samples,
    hours,
    cpuNs: cpuNs - part * feeding,
    appendNs: appendNs - part * giving,
    growthBytes,
    ownGrowthBytes,
    keptBytes,
    wchar,
    writeBytes,
  };
}

const [dataDir = '', ...numbers] = process.argv.slice(2);
const [hours = 0, flushSeconds = 0, rateHz = 0] = numbers.map(Number);
const cost = await load(dataDir, { hours, flushMs: flushSeconds * 1000, rateHz });
process.stdout.write(`${JSON.stringify(cost)}\n`);
