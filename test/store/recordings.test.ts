import fc from 'fast-check';
import t from 'tap';
import { QUALITIES } from '../../src/core/channel.js';
import { systemClock } from '../../src/core/clock.js';
import type { RecordedSamples, RecordingSeries, RecordingState } from '../../src/core/ports.js';
import { Database } from '../../src/store/database.js';
import { PREFIX, prefixRange } from '../../src/store/keys.js';
import { blockEntries, blockEntry } from '../../src/store/recording-block.js';
import { thinned } from '../../src/store/recording-series.js';
import { DatabaseShelf, MemoryShelf } from '../../src/store/recording-shelf.js';
import { MAX_PAGE_SAMPLES, Recordings } from '../../src/store/recordings.js';
import { openStore } from '../../src/store/store.js';
import { Writer } from '../../src/store/writer.js';
import { recordingLog } from '../fixtures/logs.js';
import { channelNamed } from '../fixtures/store-records.js';

const OK = QUALITIES.indexOf('ok');
const START = 1_700_000_000_000;

function state(alert: string, given: Partial<RecordingState> = {}): RecordingState {
  const alerts = [{ alert, atMs: START + 60_000 }];
  return { alerts, fromAtMs: START, toAtMs: START + 120_000, channels: 1, samples: 0, open: true, ...given };
}

function samples(values: readonly number[], startAtMs = START, stepMs = 100): RecordedSamples {
  return {
    startAtMs,
    length: values.length,
    atMs: Float64Array.from(values, (_, i) => i * stepMs),
    values: Float64Array.from(values),
    qualities: new Uint8Array(values.length).fill(OK),
  };
}

const ramp = (length: number, from = 0) => Array.from({ length }, (_, i) => (from + i) * 1000);

function inMemory(limits = { recordings: 10, bytes: 1_000_000 }): Recordings {
  return new Recordings({ shelf: new MemoryShelf(), limits });
}

async function pages(recordings: Recordings, query: { alert: string; glob?: string; points?: number }) {
  const found: RecordingSeries[] = [];
  let count = 0;
  for (let after: string | undefined; ; ) {
    const page = await recordings.page({ ...query, after });
    if (page === undefined) return { found, count };
    count++;
    found.push(...page.series);
    if (page.after === null) return { found, count };
    after = page.after;
  }
}

t.test('what was put comes back, piece behind piece, also while the recording is open', async (t) => {
  const recordings = inMemory();
  const channel = channelNamed('hwmon/chip/temp1');
  const number = recordings.begin(state('a'));
  recordings.putSamples(number, channel, samples(ramp(50)));
  recordings.put(number, state('a'));
  recordings.putSamples(number, channel, samples(ramp(50, 50), START + 5_000));
  recordings.putSamples(number, channelNamed('gpu/x/power'), samples([7_000]));
  recordings.put(number, state('a', { samples: 101 }));
  const { found } = await pages(recordings, { alert: 'a' });
  t.equal(found.length, 2);
  t.same(
    found[0]?.values,
    ramp(100).map((each) => each / 1000),
  );
  t.same(
    found[0]?.atMs,
    Array.from({ length: 100 }, (_, i) => START + i * 100),
  );
  t.match(await recordings.list(), [{ alert: 'a', alertAtMs: START + 60_000, open: true, samples: 101 }]);
  t.same(
    (await pages(recordings, { alert: 'a', glob: 'gpu/**' })).found.map((each) => each.channel),
    ['gpu/x/power'],
  );
  t.equal(await recordings.page({ alert: 'b' }), undefined);
  t.equal(await recordings.page({ alert: 'a', nth: 2 }), undefined);
});

t.test('a long recording comes in bounded pages, each sample once', async (t) => {
  const recordings = inMemory({ recordings: 1, bytes: 10_000_000 });
  const number = recordings.begin(state('a'));
  const channels = ['a/a/a', 'b/b/b', 'c/c/c'].map((id) => channelNamed(id));
  const each = MAX_PAGE_SAMPLES * 1.25;
  for (const channel of channels)
    for (let at = 0; at < each; at += 500)
      recordings.putSamples(number, channel, samples(ramp(500, at), START + at, 1));
  recordings.put(number, state('a'));
  let after: string | undefined;
  const sizes: number[] = [];
  const seen = new Map<string, number[]>();
  do {
    const page = await recordings.page({ alert: 'a', after });
    sizes.push((page?.series ?? []).reduce((sum, { atMs }) => sum + atMs.length, 0));
    for (const { channel, values } of page?.series ?? [])
      seen.set(channel, [...(seen.get(channel) ?? []), ...values.map((value) => value ?? -1)]);
    after = page?.after ?? undefined;
  } while (after !== undefined);
  t.ok(
    sizes.every((size) => size <= MAX_PAGE_SAMPLES),
    sizes.join(' '),
  );
  for (const { id } of channels)
    t.same(
      seen.get(id),
      ramp(each).map((value) => value / 1000),
      id,
    );
  t.same(await recordings.page({ alert: 'a', after: 'nonsense' }), await recordings.page({ alert: 'a' }));
  t.match(await recordings.page({ alert: 'a', after: '99999:999999999' }), { series: [], after: null });
});

t.test('thinning keeps the least, the greatest, what is missing and what stood at the alert', async (t) => {
  const sample = fc.tuple(fc.integer({ min: -1_000, max: 1_000 }), fc.nat(QUALITIES.length - 1));
  fc.assert(
    fc.property(
      fc.array(sample, { minLength: 1, maxLength: 500, size: 'max' }),
      fc.integer({ min: 2, max: 60 }),
      (list, points) => {
        const length = list.length;
        const qualities = Uint8Array.from(list, ([, quality]) => quality);
        const values = Float64Array.from(list, ([value, quality]) => (quality === OK ? value : Number.NaN));
        const whole = { length, values, qualities, atMs: Float64Array.from(list, (_, i) => i * 100) };
        const keepAtMs = length * 37;
        const kept = thinned(whole, { points, fromAtMs: 0, toAtMs: length * 100, keepAtMs });
        if (kept === undefined) return length <= points;
        const finite = (indexes: Iterable<number>) => [...indexes].map((i) => values[i] ?? 0).filter(Number.isFinite);
        const all = finite(whole.values.keys());
        const some = finite(kept);
        const standing = Math.floor(keepAtMs / 100);
        return (
          kept.every((each, i) => i === 0 || each > (kept[i - 1] ?? 0)) &&
          kept.length <= 3 * Math.max(1, points / 2) + 4 &&
          Math.min(...all) === Math.min(...some) &&
          Math.max(...all) === Math.max(...some) &&
          kept.includes(Math.min(standing, length - 1)) &&
          qualities.some((each) => each !== OK) === kept.some((i) => qualities[i] !== OK)
        );
      },
    ),
  );
  t.pass();
});

t.test('the oldest closed recording gives way, by count and by bytes; an open one never', async (t) => {
  const few = inMemory({ recordings: 3, bytes: 1_000_000 });
  const opened = few.begin(state('open'));
  for (let i = 0; i < 6; i++)
    few.put(few.begin(state(`a${i}`, { fromAtMs: START + i })), state(`a${i}`, { open: false }));
  t.same((await few.list()).map(({ alert }) => alert).sort(), ['a4', 'a5', 'open']);
  t.ok(few.putSamples(opened, channelNamed('a/b/c'), samples(ramp(5))) > 0);
  const small = inMemory({ recordings: 100, bytes: 20_000 });
  const noise = Array.from({ length: 600 }, (_, i) => Math.round(Math.sin(i * i) * 2 ** 40));
  let refused = 0;
  for (let i = 0; i < 10; i++) {
    const number = small.begin(state(`b${i}`));
    for (let n = 0; n < 3; n++) if (small.putSamples(number, channelNamed('a/b/c'), samples(noise)) === 0) refused++;
    small.put(number, state(`b${i}`, { open: false }));
  }
  const left = await small.list();
  t.ok(left.length >= 1 && left.length < 10, `${left.length}`);
  t.equal(refused, 0, 'closed ones made room');
  const number = small.begin(state('huge'));
  for (let n = 0; n < 30; n++) if (small.putSamples(number, channelNamed('a/b/c'), samples(noise)) === 0) refused++;
  t.ok(refused > 0, 'an open one alone may not exceed it either');
});

t.test('any bytes are read as a block without harm', async (t) => {
  const entry = blockEntry(3, samples(ramp(20)), START);
  t.equal([...blockEntries(Buffer.concat([entry, entry]))].length, 2);
  t.equal([...blockEntries(Buffer.concat([entry, entry.subarray(0, -1)]))].length, 1);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => [...blockEntries(Buffer.from(bytes))].length <= 40),
  );
});

t.test('a database keeps them over restarts; what was open is closed, and numbers go on', async (t) => {
  const dataDir = t.testdir();
  const log = recordingLog();
  const channel = channelNamed('hwmon/chip/temp1');
  let store = await openStore({ dataDir, log, clock: systemClock });
  const number = store.recordings.begin(state('a'));
  store.recordings.putSamples(number, channel, samples(ramp(50)));
  store.recordings.put(number, state('a', { samples: 50 }));
  store.recordings.putSamples(number, channel, samples(ramp(50, 50), START + 5_000)); // Not said to be written yet.
  await store.stop();
  store = await openStore({ dataDir, log, clock: systemClock });
  t.match(await store.recordings.list(), [{ alert: 'a', open: false, samples: 50 }]);
  t.equal((await pages(store.recordings, { alert: 'a' })).found[0]?.values.length, 50);
  t.equal(
    store.recordings.putSamples(number, channel, samples([1])),
    0,
    'a recording of an earlier process is not gone on with',
  );
  const next = store.recordings.begin(state('a', { fromAtMs: START + 9 }));
  t.equal(next, number + 1);
  store.recordings.putSamples(next, channel, samples([3_000], START + 9));
  store.recordings.put(next, state('a', { fromAtMs: START + 9, open: false }));
  await store.stop();
  store = await openStore({ dataDir, log, clock: systemClock });
  t.equal((await store.recordings.list()).length, 2);
  t.same((await store.recordings.page({ alert: 'a' }))?.series[0]?.values, [3], 'the newest one');
  t.equal((await store.recordings.page({ alert: 'a', nth: 2 }))?.series[0]?.values.length, 50);
  await store.stop();
  t.same(log.lines, []);
});

/** A shelf over a database of its own. */
async function shelved(dataDir: string) {
  const database = new Database(dataDir);
  await database.open();
  const writer = new Writer({ database, log: recordingLog(), clock: systemClock, onFresh: () => undefined });
  const sealer = { waiting: false, seal: () => [], sealed: () => undefined, attach: async () => undefined };
  writer.start(sealer);
  const shelf = new DatabaseShelf({ database, writer });
  const parts = async () => {
    await writer.stop();
    writer.start(sealer);
    const keys: string[] = [];
    for (const prefix of [PREFIX.recording, PREFIX.recordingChannels, PREFIX.recordingBlock])
      for await (const [key] of database.scan(prefixRange(prefix))) keys.push(key.toString('latin1'));
    return keys.length;
  };
  return { shelf, parts, close: () => writer.stop().then(() => database.close()) };
}

t.test('what gave way leaves the disk, step by step, also when another process erased it', async (t) => {
  const dataDir = t.testdir();
  const { shelf, parts, close } = await shelved(dataDir);
  for (let number = 1; number <= 4; number++) {
    shelf.putState(number, Buffer.from('{}'));
    shelf.putChannels(number, 0, Buffer.from('[]'));
    for (let block = 0; block < 150; block++) shelf.putBlock(number, block, Buffer.from('x'));
  }
  t.equal(await parts(), 4 * 152);
  shelf.erase(1);
  shelf.erase(3);
  t.equal(await parts(), 4 * 152 - 2, 'the record goes at once');
  for (let i = 0; i < 4; i++) {
    await shelf.trim(2);
    await parts();
  }
  t.equal(await parts(), 2 * 152, 'those that are kept are whole, an older one among them');
  await close();
  const later = await shelved(dataDir);
  for (let i = 0; i < 3; i++) {
    await later.shelf.trim(5);
    await later.parts();
  }
  t.equal(await later.parts(), 2, 'their records are erased by who knows them');
  await later.close();
});

t.test('a wrong byte in a stored piece costs that piece, and is told', async (t) => {
  const log = recordingLog();
  const shelf = new MemoryShelf();
  const recordings = new Recordings({ shelf, limits: { recordings: 5, bytes: 1_000_000 }, log });
  const number = recordings.begin(state('a'));
  for (let i = 0; i < 3; i++) {
    recordings.putSamples(number, channelNamed('a/b/c'), samples(ramp(20, i * 20), START + i * 2_000));
    recordings.put(number, state('a'));
  }
  let block = 0;
  for await (const bytes of shelf.blocks(number)) if (block++ === 1) bytes[10] = (bytes[10] ?? 0) ^ 0x55;
  t.equal((await recordings.page({ alert: 'a' }))?.series[0]?.values.length, 40);
  t.match(log.lines, [{ fields: { code: 'SKOS_STORE_READ' } }]);
  const next = new Recordings({ shelf, limits: { recordings: 5, bytes: 1_000_000 }, log });
  next.adopt([[7, Buffer.from('{"alerts":')]]);
  t.same(await next.list(), []);
  t.equal(next.begin(state('b')), 8, 'its number is not used again');
});
