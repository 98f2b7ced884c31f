import t, { type Test } from 'tap';
import { QUALITIES } from '../../src/core/channel.js';
import { decodeBuckets } from '../../src/store/bucket-chunk.js';
import { type Buckets, bucketsOf, MINUTE_MS, SECOND_MS } from '../../src/store/buckets.js';
import { DamageReport } from '../../src/store/channel-view.js';
import type { Samples } from '../../src/store/chunk.js';
import { Database, type Operation } from '../../src/store/database.js';
import { chunkRange, minutesKey, PREFIX, prefixRange } from '../../src/store/keys.js';
import { Tiers } from '../../src/store/tiers.js';
import { Writer } from '../../src/store/writer.js';
import { recordingLog } from '../fixtures/logs.js';
import { HandClock } from '../fixtures/store-records.js';

const HOUR_MS = 60 * MINUTE_MS;
const WINDOW_MS = 10 * HOUR_MS;
const NO_SEALER = { waiting: false, seal: () => [], sealed: () => {}, attach: () => Promise.resolve() };
/** The beginning of a window, some hours before the clock's. */
const WINDOW = Math.floor(1_700_000_000_000 / WINDOW_MS) * WINDOW_MS;

function samplesFrom(startAtMs: number, count: number, of: (i: number) => number, everyMs = 1_000): Samples {
  return {
    length: count,
    atMs: Float64Array.from({ length: count }, (_, i) => startAtMs + i * everyMs),
    values: Float64Array.from({ length: count }, (_, i) => of(i)),
    qualities: new Uint8Array(count).fill(QUALITIES.indexOf('ok')),
  };
}

class Process {
  readonly clock: HandClock;
  readonly log = recordingLog();
  readonly database: Database;
  readonly writer: Writer;
  readonly tiers: Tiers;
  ordinal = 0;

  constructor(dataDir: string, clock: HandClock) {
    const { log } = this;
    this.clock = clock;
    this.database = new Database(dataDir);
    this.writer = new Writer({ database: this.database, log, clock, onFresh: () => {} });
    const { writer } = this;
    this.tiers = new Tiers({ writer, log, clock, damage: new DamageReport(log), channelCount: () => 2 });
  }

  async start(): Promise<this> {
    await this.database.open();
    this.writer.start(NO_SEALER);
    return this;
  }

  async end(): Promise<void> {
    await this.tiers.stop();
    await this.writer.stop();
    await this.database.close();
  }

  /** A raw chunk ends. */
  async close(samples: Samples, channel = 0): Promise<void> {
    const address = { channel, startAtMs: samples.atMs[0] ?? 0, run: 1, ordinal: this.ordinal++ };
    await this.put(this.tiers.onClosed({ address, samples }));
  }

  async put(operations: readonly Operation[]): Promise<void> {
    await this.writer.putSynced(operations);
  }

  async steps(count = 12): Promise<void> {
    for (let n = 0; n < count; n++) {
      this.clock.advance(MINUTE_MS);
      await this.tiers.step();
    }
    await this.put([]);
  }

  async windows(channel = 0): Promise<[number, Buckets][]> {
    const list: [number, Buckets][] = [];
    for await (const [key, bytes] of this.database.scan(prefixRange(PREFIX.minuteSeries))) {
      if (key.readUInt32BE(1) === channel)
        list.push([key.readUInt32BE(5) * 2 ** 32 + key.readUInt32BE(9), decodeBuckets(bytes, MINUTE_MS)]);
    }
    return list;
  }

  async bytes(): Promise<string[]> {
    const list: string[] = [];
    for await (const [key, bytes] of this.database.scan(prefixRange(PREFIX.minuteSeries))) {
      list.push(`${key.toString('hex')} ${bytes.toString('hex')}`);
    }
    return list;
  }
}

interface Given {
  readonly process: Process;
  /** Ends this one, however it stands, and begins another over the same files. */
  again(): Promise<Process>;
}

async function given(t: Test): Promise<Given> {
  const dataDir = t.testdir();
  const clock = new HandClock();
  let process = await new Process(dataDir, clock).start();
  t.teardown(() => process.end());
  return {
    process,
    again: async () => {
      await process.end();
      process = await new Process(dataDir, clock).start();
      return process;
    },
  };
}

function rows({ length, atMs, counts, minimums, maximums }: Buckets): number[][] {
  return Array.from({ length }, (_, i) => [atMs[i] ?? 0, counts[i] ?? 0, minimums[i] ?? 0, maximums[i] ?? 0]);
}

t.test('seconds have the address of the raw chunk', async (t) => {
  const { process } = await given(t);
  const samples = samplesFrom(WINDOW + 250, 100, (i) => i, 100);
  const address = { channel: 1, startAtMs: WINDOW + 250, run: 3, ordinal: 4 };
  const [operation, ...more] = process.tiers.onClosed({ address, samples });
  t.strictSame(more, []);
  const key = Buffer.from('750000000100000000000000000000000300000004', 'hex');
  key.writeUInt32BE(Math.floor((WINDOW + 250) / 2 ** 32), 5);
  key.writeUInt32BE((WINDOW + 250) % 2 ** 32, 9);
  t.strictSame(operation?.key, key);
  const value = operation?.type === 'put' ? operation.value : Buffer.alloc(0);
  t.strictSame(rows(decodeBuckets(value, SECOND_MS)), rows(bucketsOf(samples, SECOND_MS)));
  t.strictSame(process.tiers.onClosed({ address, samples: samplesFrom(0, 0, () => 0) }), []);
});

t.test('an hour becomes minutes once it is over and quiet, and not before', async (t) => {
  const { process } = await given(t);
  const { clock } = process;
  clock.wall = WINDOW + 50 * MINUTE_MS;
  const samples = samplesFrom(WINDOW, 3_000, (i) => i);
  await process.close(samples);
  await process.steps(5);
  t.strictSame(await process.windows(), [], 'the hour goes on');
  t.strictSame([...process.tiers.pendingHours(0)], [WINDOW]);
  clock.advance(20 * MINUTE_MS);
  const late = samplesFrom(WINDOW + 3_000_000, 600, (i) => -i);
  await process.close(late);
  await process.tiers.step();
  t.strictSame([...process.tiers.pendingHours(0)], [WINDOW], 'it is not quiet');
  await process.steps(2);
  t.strictSame([...process.tiers.pendingHours(0)], []);
  const [[at, buckets] = [], ...more] = await process.windows();
  t.strictSame(more, []);
  t.equal(at, WINDOW);
  t.strictSame(buckets && rows(buckets), [...rows(bucketsOf(samples, MINUTE_MS)), ...rows(bucketsOf(late, MINUTE_MS))]);
});

t.test('hours of one window are in one chunk, and those of other windows and channels in others', async (t) => {
  const { process } = await given(t);
  process.clock.wall = WINDOW + 30 * HOUR_MS;
  for (const hour of [0, 3, 9, 10, 19]) await process.close(samplesFrom(WINDOW + hour * HOUR_MS, 3_600, () => hour));
  await process.close(
    samplesFrom(WINDOW, 60, () => 99),
    1,
  );
  await process.steps();
  const windows = await process.windows();
  t.strictSame(
    windows.map(([at, { length }]) => [at, length]),
    [
      [WINDOW, 180],
      [WINDOW + WINDOW_MS, 120],
    ],
  );
  t.match(await process.windows(1), [[WINDOW, { length: 1 }]]);
});

t.test('what an earlier process left undone is found and done, and doing it twice changes nothing', async (t) => {
  const { process, again } = await given(t);
  process.clock.wall = WINDOW + 30 * HOUR_MS;
  for (let hour = 0; hour < 12; hour++)
    await process.close(samplesFrom(WINDOW + hour * HOUR_MS, 3_600, (i) => i * hour));
  const second = await again();
  await second.tiers.look(0);
  t.equal(second.tiers.pendingHours(0).size, 12);
  await second.steps(1);
  const third = await again();
  await third.steps();
  t.strictSame([...third.tiers.pendingHours(0)], []);
  const before = await third.bytes();
  t.match(await third.windows(), [
    [WINDOW, { length: 600 }],
    [WINDOW + WINDOW_MS, { length: 120 }],
  ]);
  const fourth = await again();
  await fourth.tiers.look(0);
  t.strictSame([...fourth.tiers.pendingHours(0)], [WINDOW + 11 * HOUR_MS], 'the hour that it may have been cut off in');
  await fourth.steps();
  t.strictSame(await fourth.bytes(), before);
});

t.test('after the clock was years ahead, hours of now that were left undone are found too', async (t) => {
  const { process, again } = await given(t);
  const { clock } = process;
  clock.wall = WINDOW + 30 * HOUR_MS;
  const years = 1_000 * WINDOW_MS;
  await process.close(samplesFrom(WINDOW, 3_600, () => 1));
  await process.close(samplesFrom(WINDOW + years, 3_600, () => 1));
  await process.steps();
  await process.close(samplesFrom(WINDOW + 2 * HOUR_MS, 3_600, () => 1));
  const later = await again();
  await later.steps();
  t.match(await later.windows(), [
    [WINDOW, { length: 120 }],
    [WINDOW + years, { length: 60 }],
  ]);
});

t.test('seconds that are gone take no minutes with them', async (t) => {
  const { process } = await given(t);
  process.clock.wall = WINDOW + 30 * HOUR_MS;
  await process.close(samplesFrom(WINDOW, 3_600, () => 7));
  await process.steps();
  const trimmed: Operation[] = [];
  for await (const [key] of process.database.scan(chunkRange(PREFIX.secondSeries, 0, { fromMs: 0, toMs: 1e14 }))) {
    trimmed.push({ type: 'del', key });
  }
  await process.put(trimmed);
  // From the raw log of an earlier run: half a minute of the same hour, and one in the hour after.
  await process.close(samplesFrom(WINDOW + 600_000, 30, () => 9));
  await process.close(samplesFrom(WINDOW + HOUR_MS, 30, () => 9));
  await process.steps();
  const [[, buckets] = []] = await process.windows();
  t.equal(buckets?.length, 61);
  t.ok(buckets?.maximums.slice(0, 60).every((value) => value === 7));
  t.match([...(buckets?.counts.slice(59) ?? [])], [60, 30]);
});

t.test('a second that two chunks share is counted once for each', async (t) => {
  const { process } = await given(t);
  process.clock.wall = WINDOW + 30 * HOUR_MS;
  await process.close(samplesFrom(WINDOW, 105, () => 1, 100));
  await process.close(samplesFrom(WINDOW + 10_500, 95, () => 2, 100));
  await process.steps();
  t.match(await process.windows(), [[WINDOW, { length: 1, counts: [200], means: [1] }]]);
});

t.test('a chunk that closes while its hour is rolled up is not forgotten', async (t) => {
  const { process } = await given(t);
  process.clock.wall = WINDOW + 30 * HOUR_MS;
  await process.steps(1);
  await process.close(samplesFrom(WINDOW, 60, () => 1));
  process.clock.advance(MINUTE_MS);
  const view = process.writer.view.bind(process.writer);
  let closing: Promise<void> | undefined;
  // When the roll-up has taken its view, which has not this chunk.
  process.writer.view = (ranges) => {
    const taken = view(ranges);
    closing ??= process.close(samplesFrom(WINDOW + MINUTE_MS, 60, () => 2));
    return taken;
  };
  await process.tiers.step();
  await closing;
  await process.put([]);
  t.match(await process.windows(), [[WINDOW, { length: 1 }]], 'made of what was there');
  t.strictSame([...process.tiers.pendingHours(0)], [WINDOW], 'and not taken for done');
  await process.steps();
  t.match(await process.windows(), [[WINDOW, { length: 2 }]]);
});

t.test('a damaged window is reported once and made anew of the seconds that are there', async (t) => {
  const { process } = await given(t);
  process.clock.wall = WINDOW + 30 * HOUR_MS;
  for (const hour of [0, 1, 5]) await process.close(samplesFrom(WINDOW + hour * HOUR_MS, 3_600, () => hour));
  await process.steps();
  const good = await process.bytes();
  await process.put([{ type: 'put', key: minutesKey(0, WINDOW), value: Buffer.from('rubbish that is long enough') }]);
  process.tiers.onDamagedWindow(0, WINDOW);
  process.tiers.onDamagedWindow(0, WINDOW);
  await process.steps();
  t.strictSame(await process.bytes(), good);
  t.match(process.log.lines, [{ level: 'error', fields: { event: 'store.damaged' } }]);
  t.equal(process.log.lines.length, 1);
});

t.test('a damaged window of which nothing else is left goes', async (t) => {
  const { process } = await given(t);
  process.clock.wall = WINDOW + 30 * HOUR_MS;
  await process.put([{ type: 'put', key: minutesKey(0, WINDOW), value: Buffer.alloc(50, 1) }]);
  process.tiers.onDamagedWindow(0, WINDOW);
  await process.steps();
  t.strictSame(await process.bytes(), []);
});

t.test('damaged seconds are passed over, the rest of the hour is made', async (t) => {
  const { process } = await given(t);
  process.clock.wall = WINDOW + 30 * HOUR_MS;
  await process.close(samplesFrom(WINDOW, 600, () => 1));
  await process.close(samplesFrom(WINDOW + 600_000, 600, () => 2));
  for await (const [key, value] of process.database.scan(prefixRange(PREFIX.secondSeries))) {
    value[20] = (value[20] ?? 0) ^ 255;
    await process.put([{ type: 'put', key, value }]);
    break;
  }
  await process.steps();
  t.match(await process.windows(), [[WINDOW, { length: 10 }]]);
  t.equal(process.log.lines.length, 1);
});

t.test('waits while the disk takes no writes', async (t) => {
  const { process } = await given(t);
  process.clock.wall = WINDOW + 30 * HOUR_MS;
  await process.close(samplesFrom(WINDOW, 60, () => 1));
  process.writer.trouble = () => 'injected';
  await process.steps();
  t.strictSame([...process.tiers.pendingHours(0)], [WINDOW]);
});
