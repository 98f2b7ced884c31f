import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { MINUTES_WINDOW_MS } from '../../src/store/channel-view.js';
import { Database, type Operation } from '../../src/store/database.js';
import { auditKey, chunkKey, chunkStartAtMs, minutesKey, PREFIX, prefixRange, textKey } from '../../src/store/keys.js';
import { Retention } from '../../src/store/retention.js';
import { Writer } from '../../src/store/writer.js';
import { recordingLog } from '../fixtures/logs.js';
import { HandClock } from '../fixtures/store-records.js';
import { until } from '../fixtures/until.js';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const LIMITS = { rawMs: 6 * HOUR_MS, secondMs: 7 * DAY_MS, minuteMs: 400 * DAY_MS, maxBytes: 2 ** 40 };
const NO_SEALER = { waiting: false, seal: () => [], sealed: () => {}, attach: () => Promise.resolve() };

class Kept {
  readonly clock = new HandClock();
  readonly log = recordingLog();
  readonly database: Database;
  readonly writer: Writer;
  readonly retention: Retention;
  readonly #dataDir: string;
  #ordinal = 0;

  constructor(dataDir: string, { channels, limits }: { channels: number; limits: Partial<typeof LIMITS> }) {
    this.#dataDir = dataDir;
    const { clock, log } = this;
    this.database = new Database(dataDir);
    this.writer = new Writer({ database: this.database, log, clock, onFresh: () => {} });
    this.retention = this.again({ channels, limits });
  }

  /** As another process would begin. */
  again({ channels, limits }: { channels: number; limits: Partial<typeof LIMITS> }): Retention {
    const { clock, log, database, writer } = this;
    const directories = [database.directory, join(this.#dataDir, 'raw-log')];
    return new Retention({
      database,
      writer,
      log,
      clock,
      limits: { ...LIMITS, ...limits },
      directories,
      channelCount: () => channels,
    });
  }

  async open(t: Test): Promise<this> {
    await this.database.open();
    this.writer.start(NO_SEALER);
    t.teardown(async () => {
      await this.retention.stop();
      await this.writer.stop();
      await this.database.close();
    });
    return this;
  }

  put(channel: number, startAtMs: number, bytes = 20): Operation[] {
    const address = { channel, startAtMs, run: 1, ordinal: this.#ordinal++ };
    return [PREFIX.rawSeries, PREFIX.secondSeries].map((prefix) => ({
      type: 'put',
      key: chunkKey(prefix, address),
      value: randomBytes(bytes),
    }));
  }

  putMinutes(channel: number, windowAtMs: number, bytes = 20): Operation {
    return { type: 'put', key: minutesKey(channel, windowAtMs), value: randomBytes(bytes) };
  }

  async write(operations: readonly Operation[]): Promise<void> {
    await this.database.write(operations, { sync: false });
  }

  async starts(prefix: 't' | 'u' | 'v', channel?: number): Promise<number[]> {
    const list: number[] = [];
    for await (const [key] of this.database.scan(prefixRange(prefix))) {
      if (channel === undefined || key.readUInt32BE(1) === channel) list.push(chunkStartAtMs(key));
    }
    return list;
  }

  /** Of so much time, a step a minute, or each ten minutes of some hours. */
  async steps(forMs: number, retention = this.retention): Promise<void> {
    const everyMs = forMs > 2 * HOUR_MS ? 10 * MINUTE_MS : MINUTE_MS;
    for (let passed = 0; passed < forMs; passed += everyMs) {
      this.clock.advance(everyMs);
      await retention.step();
    }
    await retention.settled();
    await this.writer.putSynced([]);
  }
}

async function kept(t: Test, options: { channels?: number; limits?: Partial<typeof LIMITS> } = {}): Promise<Kept> {
  return new Kept(t.testdir(), { channels: 3, limits: {}, ...options }).open(t);
}

/** An hour of chunks of ten minutes each, for so many hours up to now. */
function hours(past: Kept, count: number): Operation[] {
  const first = Math.floor(past.clock.wall / HOUR_MS) * HOUR_MS - (count - 1) * HOUR_MS;
  const channels = [0, 1, 2];
  return Array.from({ length: count * 6 }, (_, i) => i).flatMap((i) =>
    channels.flatMap((channel) => past.put(channel, first + i * 10 * MINUTE_MS)),
  );
}

t.test('each tier is deleted at its age, and nothing younger', async (t) => {
  const past = await kept(t, { limits: { rawMs: 6 * HOUR_MS, secondMs: 24 * HOUR_MS, minuteMs: 100 * HOUR_MS } });
  await past.write(hours(past, 72));
  const window = Math.floor(past.clock.wall / MINUTES_WINDOW_MS) * MINUTES_WINDOW_MS;
  for (let n = 0; n < 20; n++)
    await past.write([0, 1, 2].map((c) => past.putMinutes(c, window - n * MINUTES_WINDOW_MS)));
  await past.steps(20 * HOUR_MS);
  const now = past.clock.wall;
  const oldest = async (prefix: 't' | 'u' | 'v') => now - Math.min(...(await past.starts(prefix)));
  const raw = await past.starts('t');
  t.strictSame(raw, [], 'the last is 20 hours old');
  t.ok((await oldest('u')) > 24 * HOUR_MS && (await oldest('u')) < 26 * HOUR_MS);
  t.ok((await oldest('v')) > 100 * HOUR_MS && (await oldest('v')) < 121 * HOUR_MS);
});

t.test('a finer tier never outlives a coarser one', async (t) => {
  const past = await kept(t, { limits: { rawMs: 30 * HOUR_MS, secondMs: 2 * HOUR_MS, minuteMs: HOUR_MS } });
  await past.write(hours(past, 24));
  await past.write([past.putMinutes(0, past.clock.wall - 20 * HOUR_MS)]);
  await past.steps(HOUR_MS);
  t.equal((await past.starts('t')).length, 24 * 18);
  t.equal((await past.starts('u')).length, 24 * 18);
  t.equal((await past.starts('v')).length, 1);
});

t.test('a clock years ahead deletes ten hours an hour at most, and none once it is right again', async (t) => {
  const past = await kept(t);
  await past.write(hours(past, 6));
  await past.steps(20 * MINUTE_MS);
  const before = await past.starts('t');
  t.equal(before.length, 6 * 18, 'nothing is old');
  past.clock.wall += 3_650 * DAY_MS;
  await past.steps(6 * MINUTE_MS);
  const meanwhile = await past.starts('t');
  t.ok(meanwhile.length >= 5 * 18, 'an hour of it in six minutes');
  past.clock.wall -= 3_650 * DAY_MS;
  await past.steps(10 * MINUTE_MS);
  t.strictSame(await past.starts('t'), meanwhile);
});

t.test('a restart gives a wrong clock no more speed', async (t) => {
  const past = await kept(t);
  await past.write(hours(past, 6));
  past.clock.wall += 3_650 * DAY_MS;
  for (let restart = 0; restart < 20; restart++) {
    await past.steps(MINUTE_MS, past.again({ channels: 3, limits: {} }));
  }
  t.equal((await past.starts('t')).length, 6 * 18);
});

t.test('a clock years back deletes nothing, and costs no time when it is right again', async (t) => {
  const past = await kept(t);
  await past.write(hours(past, 12));
  await past.steps(30 * MINUTE_MS);
  past.clock.wall -= 20_000 * DAY_MS;
  const before = await past.starts('t');
  await past.steps(2 * HOUR_MS);
  t.strictSame(await past.starts('t'), before);
  past.clock.wall += 20_000 * DAY_MS;
  await past.steps(HOUR_MS);
  const oldest = past.clock.wall - Math.min(...(await past.starts('t')));
  t.ok(oldest > 6 * HOUR_MS && oldest < 7.5 * HOUR_MS);
});

t.test('what a clock that began in 1970 has dated does not hold up the rest', async (t) => {
  const past = await kept(t);
  await past.write([...past.put(0, 1_000), ...past.put(0, 7_200_000), ...hours(past, 12)]);
  await past.steps(HOUR_MS);
  const oldest = past.clock.wall - Math.min(...(await past.starts('t')));
  t.ok(oldest < 8 * HOUR_MS);
});

t.test('what is dated in the future stays', async (t) => {
  const past = await kept(t);
  await past.write(past.put(1, past.clock.wall + 100 * DAY_MS));
  await past.steps(3 * HOUR_MS);
  t.equal((await past.starts('t')).length, 1);
});

t.test('reads no keys of channels that nothing is due of', async (t) => {
  const past = await kept(t);
  await past.write(hours(past, 3));
  await past.steps(5 * MINUTE_MS);
  let reads = 0;
  const keys = past.database.keys.bind(past.database);
  past.database.keys = (options) => {
    reads++;
    return keys(options);
  };
  await past.steps(60 * MINUTE_MS);
  t.equal(reads, 0);
  await past.steps(5 * HOUR_MS);
  t.ok(reads > 0 && reads < 3 * 20, `${reads} reads for three channels`);
});

t.test('what is put behind the oldest chunk later is found within hours', async (t) => {
  const past = await kept(t);
  await past.write(hours(past, 3));
  await past.steps(10 * MINUTE_MS);
  const late = past.clock.wall - 20 * HOUR_MS;
  await past.write(past.put(1, late));
  t.ok((await past.starts('t')).includes(late));
  await past.steps(7 * HOUR_MS);
  t.notOk((await past.starts('t')).includes(late));
  t.ok((await past.starts('u')).includes(late), 'seconds are kept for longer');
});

t.test('above the bound the oldest samples of all channels go first, until a tenth is free', async (t) => {
  const maxBytes = 6 * 1024 * 1024;
  const past = await kept(t, { limits: { maxBytes, rawMs: 100 * DAY_MS } });
  const first = past.clock.wall - 100 * HOUR_MS;
  const others: Operation[] = [];
  for (let seq = 1; seq <= 300; seq++) others.push({ type: 'put', key: auditKey(seq), value: randomBytes(300) });
  others.push({ type: 'put', key: textKey(PREFIX.alertStanding, 'x'), value: randomBytes(300) });
  await past.write(others);
  for (let hour = 0; hour < 100; hour++) {
    const at = first + hour * HOUR_MS;
    // The second channel has four times as many chunks, the third one came late.
    await past.write([0, 1, 1, 1, 1, ...(hour < 90 ? [] : [2])].flatMap((c, i) => past.put(c, at + i, 7_000)));
    if (hour % 10 === 0) await past.write([0, 1, 2].map((c) => past.putMinutes(c, at, 2_000)));
  }
  t.ok((await past.retention.bytes()) > maxBytes);
  const seconds = (await past.starts('u')).length;
  await past.steps(2 * MINUTE_MS);
  const bytes = await past.retention.bytes();
  t.ok(bytes <= maxBytes, `${bytes}`);
  const oldest = await Promise.all([0, 1].map(async (c) => Math.min(...(await past.starts('t', c)))));
  t.ok((oldest[0] ?? 0) > first && Math.abs((oldest[0] ?? 0) - (oldest[1] ?? 0)) < HOUR_MS, 'fair to all channels');
  t.equal((await past.starts('t', 2)).length, 10, 'what is younger is all there');
  t.equal((await past.starts('u')).length, seconds, 'seconds are left alone while there is raw');
  t.equal((await past.starts('v')).length, 30);
  let entries = 0;
  for await (const _ of past.database.scan(prefixRange(PREFIX.audit))) entries++;
  t.equal(entries, 300);
  const after = await past.starts('t');
  await past.steps(30 * MINUTE_MS);
  t.strictSame(await past.starts('t'), after, 'and no more is done until it is full again');
  t.equal(past.log.lines.length, 0);
});

t.test(
  'a snapshot that keeps what is deleted costs no more than is to go, and room is there when it is closed',
  async (t) => {
    const maxBytes = 6 * 1024 * 1024;
    const past = await kept(t, { limits: { maxBytes, rawMs: 100 * DAY_MS } });
    const first = past.clock.wall - 100 * HOUR_MS;
    for (let hour = 0; hour < 100; hour++) {
      for (let n = 0; n < 5; n++) await past.write(past.put(n % 2, first + hour * HOUR_MS + n, 7_000));
    }
    // What LevelDB has twice until it merges is no excess.
    await past.database.compact({ gte: Buffer.of(0), lt: Buffer.of(0xff) });
    const excess = (await past.retention.bytes()) - 0.9 * maxBytes;
    const before = (await past.starts('t')).length;
    const snapshot = past.database.snapshot();
    await past.steps(10 * MINUTE_MS);
    const deleted = (before - (await past.starts('t')).length) * 7_000;
    t.ok(deleted > 0.5 * excess && deleted < 1.3 * excess, `${deleted} bytes of ${excess}`);
    await snapshot.close();
    await past.steps(2 * HOUR_MS);
    t.ok((await past.retention.bytes()) <= maxBytes, `${await past.retention.bytes()}`);
    const atLast = (before - (await past.starts('t')).length) * 7_000;
    t.equal(atLast, deleted, 'what was deleted is all that had to go');
    t.notOk(past.log.lines.some(({ fields }) => fields.event === 'store.over_bound'));
  },
);

t.test('when raw is gone seconds go, then minutes; then it is said once that nothing is left', async (t) => {
  const maxBytes = 400_000;
  const past = await kept(t, { limits: { maxBytes } });
  const at = past.clock.wall - HOUR_MS;
  for (let i = 0; i < 60; i++)
    await past.write([...past.put(i % 3, at, 10_000), past.putMinutes(i % 3, at - i, 10_000)]);
  const audit: Operation[] = Array.from({ length: 100 }, (_, i) => ({
    type: 'put',
    key: auditKey(i + 1),
    value: randomBytes(5_000),
  }));
  await past.write(audit);
  await past.steps(5 * HOUR_MS);
  for (const prefix of ['t', 'u', 'v'] as const) t.strictSame(await past.starts(prefix), []);
  t.match(past.log.lines, [{ level: 'warn', fields: { event: 'store.over_bound' } }]);
  t.equal(past.log.lines.length, 1, 'once');
});

t.test('what minutes are not made of yet is spared, and old minutes go instead', async (t) => {
  const maxBytes = 400_000;
  const past = await kept(t, { limits: { maxBytes } });
  const now = past.clock.wall;
  const young = Array.from({ length: 10 }, (_, i) => past.put(i % 3, now - HOUR_MS + i, 5_000)).flat();
  const old = Array.from({ length: 10 }, (_, i) => past.put(i % 3, now - 5 * HOUR_MS + i, 5_000)).flat();
  const window = (i: number) => now - i * MINUTES_WINDOW_MS;
  const minutes = Array.from({ length: 60 }, (_, i) => past.putMinutes(i % 3, window(i), 10_000));
  await past.write([...young, ...old, ...minutes]);
  await past.steps(2 * MINUTE_MS);
  t.ok((await past.retention.bytes()) <= maxBytes);
  for (const prefix of ['t', 'u'] as const) {
    const starts = await past.starts(prefix);
    t.equal(starts.length, 10, 'those of the last hours');
    t.ok(Math.min(...starts) >= now - HOUR_MS);
  }
  const left = await past.starts('v');
  t.ok(left.length > 0 && left.length < 60, `${left.length} windows`);
  t.ok(left.includes(window(0)) && !left.includes(window(59)), 'the oldest went');
});

t.test('the raw log counts, and directories that are not there do not', async (t) => {
  const past = await kept(t);
  const before = await past.retention.bytes();
  t.ok(before > 0);
  const dataDir = join(past.database.directory, '..');
  await mkdir(join(dataDir, 'raw-log', 'directory'), { recursive: true });
  await writeFile(join(dataDir, 'raw-log', '1'), randomBytes(12_345));
  t.equal(await past.retention.bytes(), before + 12_345);
});

t.test('stops at once while it makes room on a disk that takes no writes', async (t) => {
  const past = await kept(t, { limits: { maxBytes: 1 } });
  await past.write(hours(past, 6));
  let asked = false;
  past.writer.putSynced = () => {
    asked = true;
    return new Promise<void>(() => {});
  };
  await past.retention.step();
  await until(() => asked);
  await past.retention.stop();
  t.pass('it returned');
});
