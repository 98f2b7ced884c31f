import { readFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { QUALITIES } from '../../src/core/channel.js';
import { Database, type Operation } from '../../src/store/database.js';
import { chunkAddress, chunkKey, PREFIX, prefixRange } from '../../src/store/keys.js';
import { DEFAULT_LIMITS } from '../../src/store/limits.js';
import { type AddressedSamples, TimeSeries } from '../../src/store/time-series.js';
import { Writer } from '../../src/store/writer.js';
import { recordingLog } from '../fixtures/logs.js';
import { channelNamed, HandClock } from '../fixtures/store-records.js';
import { until } from '../fixtures/until.js';

const HOUR_MS = 3_600_000;
const TEN_MINUTES_MS = 600_000;
const NO_AUDIT = { waiting: false, seal: () => [], sealed: () => undefined, attach: () => Promise.resolve() };
/** The clock stands, so that only flushes that a test asks for come. */
const LIMITS = { ...DEFAULT_LIMITS, flushMs: 3_600_000 };

class DeadDatabase extends Database {
  dead = false;

  override async write(operations: readonly Operation[], options: { sync: boolean }): Promise<void> {
    if (this.dead) throw new Error('injected');
    await super.write(operations, options);
  }
}

interface Parts {
  readonly dataDir: string;
  readonly database: DeadDatabase;
  readonly writer: Writer;
  readonly series: TimeSeries;
  readonly clock: HandClock;
  readonly log: ReturnType<typeof recordingLog>;
  /** Ends it as kill -9 does: nothing more is written. */
  readonly kill: () => Promise<void>;
  readonly stop: () => Promise<void>;
}

async function started(
  t: Test,
  {
    dataDir = t.testdir({}),
    clock = new HandClock(),
    onClosed = (_: AddressedSamples): readonly Operation[] => [],
  } = {},
): Promise<Parts> {
  const log = recordingLog();
  const database = new DeadDatabase(dataDir);
  const { run } = await database.open();
  const holder: { series?: TimeSeries } = {};
  const writer = new Writer({ database, log, clock, onFresh: () => holder.series?.republish() });
  const series = new TimeSeries({ dataDir, database, writer, log, clock, limits: LIMITS, onClosed });
  holder.series = series;
  await series.start(run);
  writer.start(NO_AUDIT);
  const killed = { yet: false };
  const kill = async () => {
    killed.yet = true;
    t.intercept(series, 'flush', { value: () => Promise.resolve() });
    await writer.stop();
    await database.close();
  };
  const stop = async () => {
    if (killed.yet) return;
    database.dead = false;
    await series.stop();
    await writer.stop();
    await database.close();
  };
  t.teardown(stop);
  return { dataDir, database, writer, series, clock, log, kill, stop };
}

interface Point {
  readonly atMs: number;
  readonly value: number;
  readonly quality: string;
}

async function points({ series }: Parts, id: string, { fromMs = 0, toMs = 1e14 } = {}): Promise<Point[]> {
  const list: Point[] = [];
  for await (const { length, atMs, values, qualities } of series.range(id, { fromMs, toMs })) {
    for (let i = 0; i < length; i++) {
      list.push({ atMs: atMs[i] ?? 0, value: values[i] ?? 0, quality: QUALITIES[qualities[i] ?? 0] ?? '' });
    }
  }
  return list;
}

const values = async (parts: Parts, id: string) => (await points(parts, id)).map(({ value }) => value);
const counting = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i);

/** Samples that count up, one each `stepMs`. */
function feed({ series, clock }: Parts, id: string, { from = 0, count = 100, stepMs = 100 }): void {
  const channel = channelNamed(id, 1_000 / stepMs);
  for (let i = 0; i < count; i++) {
    series.sample(channel, from + i, 'ok', clock.monotonic);
    clock.advance(stepMs);
  }
}

async function keys(
  { database }: Parts,
  prefix: typeof PREFIX.rawSeries | typeof PREFIX.secondSeries,
): Promise<Buffer[]> {
  const found: Buffer[] = [];
  for await (const [key] of database.scan(prefixRange(prefix))) found.push(key);
  return found;
}

const logFiles = async (dataDir: string) => readdir(join(dataDir, 'raw-log')).catch(() => []);

const A = 'hwmon/chip/a';
const B = 'hwmon/chip/b';

t.test(
  'heads end where their window of wall time ends: ten minutes of fast channels, an hour of slow ones',
  async (t) => {
    const parts = await started(t);
    const { clock, writer } = parts;
    // Ten seconds to the full hour.
    clock.wall = Math.ceil(clock.wall / HOUR_MS) * HOUR_MS - 10_000;
    feed(parts, A, { count: 20_000, stepMs: 100 });
    await until(() => writer.waitingRecords === 0);
    clock.wall -= 2_000_000;
    clock.monotonic -= 2_000_000;
    feed(parts, B, { count: 9_000, stepMs: 1_000 });
    await parts.series.flush();
    await parts.stop();
    const again = await started(t, { dataDir: parts.dataDir, clock });
    for (const [id, windowMs] of [
      [A, TEN_MINUTES_MS],
      [B, HOUR_MS],
    ] as const) {
      const number = again.series.dictionary.numberOf(id) ?? -1;
      const starts = (await keys(again, PREFIX.rawSeries))
        .map(chunkAddress)
        .filter(({ channel }) => channel === number);
      t.strictSame(
        starts.slice(1).map(({ startAtMs }) => startAtMs % windowMs),
        starts.slice(1).map(() => 0),
        id,
      );
      t.equal(starts.length, id === A ? 5 : 4);
    }
    t.strictSame(await values(again, A), counting(20_000));
    t.strictSame(await values(again, B), counting(9_000));
  },
);

t.test('a channel that is not sampled any more gets its chunk all the same', async (t) => {
  const parts = await started(t);
  feed(parts, A, { count: 100 });
  parts.clock.advance(HOUR_MS);
  await parts.series.flush();
  await until(() => parts.writer.waitingRecords === 0);
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.equal((await keys(parts, PREFIX.rawSeries)).length, 1);
  t.strictSame(await values(parts, A), counting(100));
});

t.test(
  'the chunk and what is made of its samples are in one batch, with the same address and wall times',
  async (t) => {
    const closed: AddressedSamples[] = [];
    const batches: (readonly Operation[])[] = [];
    const parts = await started(t, {
      onClosed: (each) => {
        closed.push({ ...each, samples: { ...each.samples, atMs: each.samples.atMs.slice() } });
        return [{ type: 'put', key: chunkKey(PREFIX.secondSeries, each.address), value: Buffer.from('seconds') }];
      },
    });
    const write = parts.database.write.bind(parts.database);
    t.intercept(parts.database, 'write', {
      value: (operations: readonly Operation[], options: { sync: boolean }) => {
        if (operations.some(({ key }) => key[0] === 0x74)) {
          t.ok(options.sync, 'and it is synced, because the raw log lets go of it afterwards');
          batches.push(operations);
        }
        return write(operations, options);
      },
    });
    const startAtMs = parts.clock.wall;
    feed(parts, A, { count: 50 });
    feed(parts, B, { count: 50 });
    await parts.stop();
    t.equal(batches.length, 1);
    t.strictSame(
      batches[0]?.filter(({ key }) => key[0] !== 0x64).map(({ key }) => String.fromCharCode(key[0] ?? 0)),
      [...'tutu'],
    );
    t.strictSame(
      closed.map(({ samples }) => samples.atMs[0]),
      [startAtMs, startAtMs + 5_000],
    );
    t.strictSame(
      closed.map(({ samples }) => samples.atMs[49]),
      [startAtMs + 4_900, startAtMs + 9_900],
    );
  },
);

for (const [name, byMs] of [
  ['forward', 5e11],
  ['back', -1.2e12],
] as const) {
  t.test(`a clock that is set ${name} by years ends the head, and no sample is lost`, async (t) => {
    const parts = await started(t);
    const { clock, series } = parts;
    feed(parts, A, { count: 100 });
    clock.wall += byMs;
    await series.flush();
    const setAtMs = clock.wall;
    feed(parts, A, { from: 100, count: 100 });
    t.equal(series.live(0, { fromMs: 0, toMs: 1e14 }).at(byMs > 0 ? -1 : 0)?.samples.atMs[0], setAtMs);
    clock.wall -= byMs;
    await series.flush();
    feed(parts, A, { from: 200, count: 100 });
    const sorted = async (from: Parts) => (await values(from, A)).sort((a, b) => a - b);
    t.strictSame(await sorted(parts), counting(300));
    await parts.stop();
    const again = await started(t, { dataDir: parts.dataDir, clock });
    t.strictSame(await sorted(again), counting(300));
    t.equal((await points(again, A, { fromMs: setAtMs, toMs: setAtMs + 10_000 })).length, 100);
    t.strictSame(again.log.lines, []);
  });
}

t.test('a reader gets every sample once, while heads end and become chunks under him', async (t) => {
  const parts = await started(t);
  for (let window = 0; window < 5; window++) feed(parts, A, { from: window * 6_000, count: 6_000 });
  const expected = 30_000;
  let count = 0;
  let last = -1;
  for await (const { length, values: chunk } of parts.series.samples(0, { fromMs: 0, toMs: 1e14 })) {
    for (let i = 0; i < length; i++) {
      if (chunk[i] === last + 1) last++;
    }
    count += length;
    feed(parts, A, { from: expected + count, count: 6_000 });
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  t.ok(count >= expected);
  t.equal(last, count - 1, 'each in its turn');
  await until(() => parts.writer.waitingRecords === 0);
});

t.test('live() has only what no chunk has, with the address that the chunk will have', async (t) => {
  const parts = await started(t);
  feed(parts, A, { count: 100 });
  const [live, ...more] = parts.series.live(0, { fromMs: 0, toMs: 1e14 });
  t.equal(more.length, 0);
  t.equal(live?.samples.length, 100);
  t.strictSame(parts.series.live(0, { fromMs: 0, toMs: parts.clock.wall - 10_000 }), [], 'the window is half-open');
  t.equal(parts.series.live(0, { fromMs: parts.clock.wall - 100, toMs: 1e14 })[0]?.samples.length, 1);
  t.strictSame(parts.series.live(1, { fromMs: 0, toMs: 1e14 }), []);
  parts.clock.advance(HOUR_MS);
  await parts.series.flush();
  await until(() => parts.writer.waitingRecords === 0);
  await until(() => parts.series.live(0, { fromMs: 0, toMs: 1e14 }).length === 0);
  const [key] = await keys(parts, PREFIX.rawSeries);
  t.strictSame(key === undefined ? undefined : chunkAddress(key), live?.address);
});

// ---- Kill and replay ----

t.test('a kill takes what came after the last flush, and nothing else; twice as well', async (t) => {
  const clock = new HandClock();
  const dataDir = t.testdir({});
  for (let run = 0; run < 3; run++) {
    const parts = await started(t, { dataDir, clock });
    feed(parts, A, { from: run * 200, count: 200 });
    feed(parts, B, { from: run * 50, count: 50, stepMs: 1_000 });
    await parts.series.flush();
    feed(parts, A, { from: -1_000, count: 30 });
    await parts.kill();
    clock.advance(60_000);
  }
  const again = await started(t, { dataDir, clock });
  await until(() => again.log.lines.some(({ level }) => level === 'debug'));
  t.strictSame(await values(again, A), counting(600));
  t.strictSame(await values(again, B), counting(150));
  t.strictSame(await logFiles(dataDir), [], 'and the files are gone');
});

t.test('killed during the replay: the next start comes to the same', async (t) => {
  const clock = new HandClock();
  const first = await started(t, { clock });
  const { dataDir } = first;
  const ids = counting(30).map((i) => `hwmon/chip/c${i}`);
  for (const id of ids) feed(first, id, { count: 300, stepMs: 10 });
  await first.series.flush();
  await first.kill();
  const files = await logFiles(dataDir);
  const saved = await Promise.all(files.map((name) => readFile(join(dataDir, 'raw-log', name))));
  for (let attempt = 0; attempt < 8; attempt++) {
    const parts = await started(t, { dataDir, clock });
    for (let turn = 0; turn < attempt * 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    await parts.kill();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const whole = await started(t, { dataDir, clock });
  await until(() => whole.log.lines.some(({ level }) => level === 'debug'));
  await whole.stop();
  // As if it had been killed before it removed the files.
  await mkdir(join(dataDir, 'raw-log'), { recursive: true });
  for (const [i, name] of files.entries()) await writeFile(join(dataDir, 'raw-log', name), saved[i] ?? '');
  const closed: AddressedSamples[] = [];
  const last = await started(t, {
    dataDir,
    clock,
    onClosed: (each) => {
      closed.push(each);
      return [];
    },
  });
  await until(() => last.log.lines.some(({ level }) => level === 'debug'));
  for (const id of ids) t.strictSame(await values(last, id), counting(300));
  t.equal((await keys(last, PREFIX.rawSeries)).length, 30);
  t.strictSame(closed, [], 'what is in the database is not made again');
});

t.test('a reader that began before a head ended reads it when its memory has become that of another', async (t) => {
  const parts = await started(t);
  const { series } = parts;
  feed(parts, A, { count: 2_000 });
  await series.settle();
  feed(parts, A, { from: 2_000, count: 2_000 });
  const reader = series.samples(0, { fromMs: 0, toMs: 1e14 });
  const read: number[] = [];
  const next = async () => {
    const { value } = await reader.next();
    if (value !== undefined) read.push(...value.values);
    return value !== undefined;
  };
  await next();
  await series.settle();
  feed(parts, A, { from: 9_000, count: 3_000 });
  while (await next());
  t.strictSame(read, counting(4_000));
});

t.test('what a replay finds goes through the same hands as what ends now', async (t) => {
  const clock = new HandClock();
  const first = await started(t, { clock });
  feed(first, A, { count: 100 });
  await first.series.flush();
  const [address] = first.series.live(0, { fromMs: 0, toMs: 1e14 }).map((each) => each.address);
  await first.kill();
  const closed: AddressedSamples[] = [];
  const again = await started(t, {
    dataDir: first.dataDir,
    clock,
    onClosed: (each) => {
      closed.push(each);
      return [{ type: 'put', key: chunkKey(PREFIX.secondSeries, each.address), value: Buffer.from('s') }];
    },
  });
  await until(() => again.log.lines.some(({ level }) => level === 'debug'));
  t.equal(closed.length, 1);
  t.strictSame(closed[0]?.address, address);
  t.equal((await keys(again, PREFIX.secondSeries)).length, 1);
});

t.test('a stop leaves no log behind, and a start without one is no trouble', async (t) => {
  const parts = await started(t);
  feed(parts, A, { count: 100 });
  await parts.series.flush();
  t.equal((await logFiles(parts.dataDir)).length, 1);
  await parts.stop();
  t.strictSame(await logFiles(parts.dataDir), []);
  await rm(join(parts.dataDir, 'raw-log'), { recursive: true });
  const again = await started(t, { dataDir: parts.dataDir, clock: parts.clock });
  t.strictSame(await values(again, A), counting(100));
  t.match(
    again.log.lines.filter(({ level }) => level !== 'debug'),
    [],
  );
});

t.test('a start does not wait for the raw log', async (t) => {
  const clock = new HandClock();
  const first = await started(t, { clock });
  for (let i = 0; i < 100; i++) feed(first, `hwmon/chip/c${i}`, { count: 300, stepMs: 10 });
  await first.series.flush();
  await first.kill();
  const before = performance.now();
  const again = await started(t, { dataDir: first.dataDir, clock });
  t.ok(performance.now() - before < 400);
  t.equal((await keys(again, PREFIX.rawSeries)).length, 0, 'nothing was waited for');
  await until(() => again.log.lines.some(({ level }) => level === 'debug'));
  for (let i = 0; i < 100; i += 33) t.strictSame(await values(again, `hwmon/chip/c${i}`), counting(300));
});

// ---- A database that fails ----

t.test('while the database takes no writes, what ended can be read, is in the log, and survives a kill', async (t) => {
  const parts = await started(t);
  const { database, clock, writer, series } = parts;
  feed(parts, A, { count: 100 });
  database.dead = true;
  clock.advance(HOUR_MS);
  await series.flush();
  await until(() => writer.trouble() !== '');
  feed(parts, A, { from: 100, count: 6_000 });
  await series.flush();
  t.strictSame(await values(parts, A), counting(6_100));
  await parts.kill();
  const again = await started(t, { dataDir: parts.dataDir, clock });
  await until(() => again.log.lines.some(({ level }) => level === 'debug'));
  t.strictSame(await values(again, A), counting(6_100));
});

t.test('memory for heads that wait is bounded; the log has the rest, and gives it back when writes work', async (t) => {
  const parts = await started(t);
  const { database, clock, series, log } = parts;
  database.dead = true;
  const channel = channelNamed(A, 10);
  let count = 0;
  // Thirds take nine bytes each: 20 MiB in all.
  for (let head = 0; head < 300; head++) {
    for (let i = 0; i < 6_000; i++) {
      series.sample(channel, count++ / 3, 'ok', clock.monotonic);
      clock.advance(100);
    }
    if (head % 20 === 0) await series.flush();
  }
  const held = series.live(0, { fromMs: 0, toMs: 1e14 }).reduce((sum, { samples }) => sum + samples.length, 0);
  t.ok(held * 9 > 4 * 1024 * 1024 && held * 9 < 12 * 1024 * 1024, `${held} samples in memory`);
  await series.flush();
  database.dead = false;
  await until(() => log.lines.some(({ message }) => /database takes raw samples again/.test(message)), 30_000);
  await series.flush();
  await until(() => log.lines.some(({ message }) => /files of the raw log were read/.test(message)), 20_000);
  t.match(
    log.lines.find(({ fields }) => fields.event === 'store.raw_log_recovered'),
    { fields: { lost: 0 } },
  );
  let found = 0;
  for await (const { length, values: chunk } of series.samples(0, { fromMs: 0, toMs: 1e14 })) {
    for (let i = 0; i < length; i++) if (chunk[i] === found / 3) found++;
  }
  t.equal(found, count);
});

t.test('heads that neither memory nor the log could keep are counted', async (t) => {
  const parts = await started(t);
  const { database, clock, series, log, dataDir } = parts;
  database.dead = true;
  await writeFile(join(dataDir, 'raw-log'), 'not a directory');
  const channel = channelNamed(A, 10);
  let count = 0;
  for (let head = 0; head < 150; head++) {
    for (let i = 0; i < 6_000; i++) {
      series.sample(channel, count++ / 3, 'ok', clock.monotonic);
      clock.advance(100);
    }
    if (head % 20 === 0) await series.flush();
  }
  database.dead = false;
  await until(() => log.lines.some(({ message }) => /database takes raw samples again/.test(message)), 30_000);
  const { lost } = log.lines.find(({ fields }) => fields.event === 'store.raw_log_recovered')?.fields ?? {};
  await series.settle();
  t.strictSame(series.live(0, { fromMs: 0, toMs: 1e14 }), []);
  const missing = count - (await points(parts, A)).length;
  t.ok(Number(lost) > 0);
  // The first head, which is among them, began within a window.
  t.ok(missing <= Number(lost) * 6_000 && missing > (Number(lost) - 1) * 6_000, `${missing} of ${lost} heads`);
});

t.test('a new database gets again what memory and the raw log hold', async (t) => {
  const parts = await started(t);
  const { database, clock, writer, series, dataDir, log } = parts;
  feed(parts, A, { count: 100 });
  await series.flush();
  // The head ends, and the log goes on: with a new hour it would begin anew, without what is in the database.
  clock.advance(TEN_MINUTES_MS);
  await series.flush();
  await until(() => series.live(0, { fromMs: 0, toMs: 1e14 }).length === 0 && writer.waitingRecords === 0);
  feed(parts, A, { from: 100, count: 100 });
  await series.flush();
  await database.close();
  await rm(join(dataDir, 'db'), { recursive: true });
  await database.open();
  series.republish();
  await series.flush();
  await until(() => log.lines.some(({ message }) => /files of the raw log were read/.test(message)));
  t.strictSame(await values(parts, A), counting(200));
  await parts.stop();
  const again = await started(t, { dataDir, clock });
  t.strictSame(await values(again, A), counting(200));
});

// ---- Cost ----

/** What the longest turn of the event loop takes of the processor: what else the machine does is not meant. */
function watchTurns(): () => number {
  // The main thread's; the first number is the nanoseconds that it ran.
  const path = `/proc/self/task/${process.pid}/schedstat`;
  const ranNs = () => Number(readFileSync(path, 'utf8').split(' ')[0]);
  let last = ranNs();
  let longestNs = 0;
  let watching = true;
  const turn = () => {
    const now = ranNs();
    longestNs = Math.max(longestNs, now - last);
    last = now;
    if (watching) setImmediate(turn);
  };
  setImmediate(turn);
  return () => {
    watching = false;
    return longestNs / 1e6;
  };
}

t.test('2,000 channels that end at the same time do not hold up the event loop', async (t) => {
  const parts = await started(t);
  const { series, clock, writer } = parts;
  const channels = counting(2_000).map((i) => channelNamed(`hwmon/chip/c${i}`, 10));
  const longestMs: number[] = [];
  for (let attempt = 0; attempt < 3; attempt++) {
    for (let i = 0; i < 100; i++) {
      for (const [n, channel] of channels.entries())
        series.sample(channel, n + ((i * 7919) % 13), 'ok', clock.monotonic);
      clock.advance(1_000);
    }
    await series.flush();
    clock.advance(TEN_MINUTES_MS);
    await new Promise((resolve) => setImmediate(resolve));
    const stopWatching = watchTurns();
    await series.flush();
    await until(() => writer.waitingRecords === 0 && series.live(1_999, { fromMs: 0, toMs: 1e14 }).length === 0);
    longestMs.push(stopWatching());
  }
  t.comment(`${longestMs.map((ms) => ms.toFixed(1)).join(', ')} ms at the longest`);
  // The first time much is compiled that the second finds done.
  t.ok(Math.min(...longestMs) < 10, `${longestMs.join(', ')} ms`);
});
