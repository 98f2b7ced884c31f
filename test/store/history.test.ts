import t from 'tap';
import type { HistorySeries } from '../../src/core/ports.js';
import { MAX_PAGE_BYTES } from '../../src/store/history-page.js';
import { Random } from '../fixtures/random.js';
import {
  DAY_MS,
  HOUR_MS,
  MINUTE_MS,
  qualitiesOf,
  SECOND_MS,
  StoredPast,
  wrongPoints,
} from '../fixtures/stored-past.js';

const A = 'hwmon/chip/temp1';
const B = 'nvme/disk/temp1';
const LIMITS = { rawMs: HOUR_MS, secondMs: 5 * HOUR_MS, minuteMs: 400 * DAY_MS };

/** One and a half days of two channels, with gaps, what is no value, a spike now and then. */
async function days(past: StoredPast, hours = 34, seed = 1): Promise<void> {
  const random = new Random(seed);
  let value = 40_000;
  await past.pass(hours * HOUR_MS, 5_003, (nth) => {
    if (nth % 4_000 > 3_700) return;
    value += random.between(-200, 201);
    const spike = random.chance(0.001) ? 30_000 : 0;
    past.sample(A, value + spike, 'ok', 0.2);
    if (nth % 2 === 0) past.sample(B, random.chance(0.05) ? null : value * 2, undefined, 10);
  });
}

function extremes(values: readonly (number | null | undefined)[]): unknown {
  const present = values.flatMap((value) => value ?? []);
  return [Math.min(...present), Math.max(...present)];
}

function of(all: readonly HistorySeries[], channel: string, stepMs: number): HistorySeries {
  const found = all.filter((series) => series.channel === channel && series.stepMs === stepMs);
  if (found.length !== 1 || found[0] === undefined)
    throw new Error(`${found.length} series of ${channel} at ${stepMs}`);
  return found[0];
}

t.test('a past in all tiers', async (t) => {
  const past = await new StoredPast(t, LIMITS).open();
  await days(past);
  const now = past.clock.wall;
  const from = now - 34 * HOUR_MS;

  await t.test(
    'without points: samples, before them seconds, before them minutes, without hole or overlap',
    async (t) => {
      const all = await past.all({ glob: '**', fromAtMs: from, toAtMs: now });
      for (const id of [A, B]) {
        const [minutes, seconds, samples] = [of(all, id, MINUTE_MS), of(all, id, SECOND_MS), of(all, id, 0)];
        const rawFrom = samples.atMs[0] ?? 0;
        const secondsFrom = seconds.atMs[0] ?? 0;
        t.ok(now - rawFrom >= HOUR_MS && now - rawFrom < 4 * HOUR_MS, 'raw as long as it is kept');
        t.ok(now - secondsFrom >= 5 * HOUR_MS && now - secondsFrom < 9 * HOUR_MS, 'seconds as long as they are kept');
        const fed = past.fed.get(id) ?? [];
        t.strictSame(
          samples.atMs.map((at, i) => [at, samples.values[i]]),
          fed
            .filter(({ atMs }) => atMs >= rawFrom)
            .map(({ atMs, value }) => [atMs, value === null ? null : value / 1000]),
        );
        t.strictSame(
          qualitiesOf(samples),
          fed.filter(({ atMs }) => atMs >= rawFrom).map(({ quality }) => quality),
        );
        const oldest = Math.floor(secondsFrom / MINUTE_MS) * MINUTE_MS;
        t.strictSame(wrongPoints(seconds, past.expected(id, SECOND_MS, { fromMs: oldest, toMs: rawFrom })), []);
        t.strictSame(wrongPoints(minutes, past.expected(id, MINUTE_MS, { fromMs: 0, toMs: oldest })), []);
        t.notOk('minimums' in samples, 'a sample is its own least');
      }
    },
  );

  await t.test(
    'any time and number of points: each is what its samples come to, and an extreme never disappears',
    async (t) => {
      const random = new Random(7);
      for (let n = 0; n < 40; n++) {
        const fromAtMs = Math.floor(from + random.next() * 34 * HOUR_MS);
        const toAtMs = Math.ceil(fromAtMs + 1 + random.next() ** 3 * (now - fromAtMs));
        const points = random.one([1, 2, 7, 50, 333, 1_000]);
        const all = await past.all({ glob: A, fromAtMs, toAtMs, points });
        const total = all.reduce((sum, { atMs }) => sum + atMs.length, 0);
        if (!t.ok(total <= points, `${total} of ${points} points`)) return;
        const seconds = all.filter(({ stepMs }) => stepMs > 0);
        const single = all.find(({ stepMs }) => stepMs === 0);
        const cut = single?.atMs[0] ?? Number.POSITIVE_INFINITY;
        for (const [i, series] of seconds.entries()) {
          const { stepMs } = series;
          const next = seconds[i + 1]?.atMs[0];
          const fromMs = i === 0 ? Math.floor(fromAtMs / stepMs) * stepMs : (series.atMs[0] ?? 0);
          const widenedMs = Math.ceil(toAtMs / stepMs) * stepMs;
          const toMs = Math.min(
            next === undefined ? widenedMs : Math.floor(next / MINUTE_MS) * MINUTE_MS,
            widenedMs,
            cut,
          );
          const expected = past.expected(A, stepMs, { fromMs, toMs });
          if (!t.strictSame(wrongPoints(series, expected), [], `${fromAtMs} ${toAtMs} ${points} ${stepMs}`)) return;
          t.strictSame(
            extremes([...(series.minimums ?? []), ...(series.maximums ?? [])]),
            extremes(expected.flatMap((e) => (e.count === 0 ? [] : [e.least / 1000, e.greatest / 1000]))),
          );
        }
      }
    },
  );

  await t.test('the same from a store that was opened again', async (t) => {
    const queries = [{}, { points: 500 }, { points: 33 }].map((each) => ({
      ...each,
      glob: '**',
      fromAtMs: from,
      toAtMs: now,
    }));
    const before = await Promise.all(queries.map((query) => past.all(query)));
    await past.restart();
    const after = await Promise.all(queries.map((query) => past.all(query)));
    t.strictSame(after, before);
  });

  await t.test('an hour that is not rolled up yet, and one that goes on, are there as minutes', async (t) => {
    await past.pass(90 * MINUTE_MS, 10_000, () => past.sample(A, 55_000));
    const { wall } = past.clock;
    const query = { glob: A, fromAtMs: wall - 3 * HOUR_MS, toAtMs: wall, points: 180 };
    const [series] = await past.all(query);
    t.equal(series?.stepMs, MINUTE_MS * 2);
    const fromMs = Math.floor((wall - 3 * HOUR_MS) / 120_000) * 120_000;
    t.strictSame(series && wrongPoints(series, past.expected(A, 120_000, { fromMs, toMs: wall })), []);
  });
});

t.test('a store without anything answers with nothing', async (t) => {
  const past = await new StoredPast(t).open();
  t.strictSame(past.store.history.channels(), []);
  t.strictSame(await past.page({ glob: '**', fromAtMs: 0, toAtMs: 8.64e15 }), { series: [], after: null });
  t.strictSame(await past.page({ glob: '**', fromAtMs: 0, toAtMs: 8.64e15, points: 10 }), { series: [], after: null });
  t.strictSame(await past.store.history.latest('**'), []);
  t.strictSame(await past.store.history.byDevice({ glob: '**', fromAtMs: 0, toAtMs: 1e13 }), []);
});

t.test('what makes no sense is refused or has no answer', async (t) => {
  const past = await new StoredPast(t).open();
  await past.pass(MINUTE_MS, SECOND_MS, (nth) => past.sample(A, nth));
  const now = past.clock.wall;
  const good = { glob: '**', fromAtMs: now - MINUTE_MS, toAtMs: now };
  const nothing = { series: [], after: null };
  t.strictSame(await past.page({ ...good, glob: 'no/such/channel' }), nothing);
  t.strictSame(await past.page({ ...good, fromAtMs: now }), nothing);
  t.strictSame(await past.page({ ...good, fromAtMs: now + 1, points: 5 }), nothing);
  t.strictSame(await past.page({ ...good, fromAtMs: now - 2 * DAY_MS, toAtMs: now - DAY_MS }), nothing);
  const refused = { code: 'SKOS_PROTOCOL_INVALID' };
  for (const bad of [
    { fromAtMs: Number.NaN },
    { toAtMs: Number.NaN },
    { toAtMs: Number.POSITIVE_INFINITY },
    { points: 0 },
    { points: -1 },
    { points: 1.5 },
    { points: Number.NaN },
    { points: 1e9 },
    { after: '' },
    { after: 'x' },
    { after: 'pm12.3' },
    { after: 'pm-1.0@hwmon' },
    { after: 'zz1.0@hwmon' },
    { after: `am${'9'.repeat(40)}.0@x` },
  ]) {
    await t.rejects(past.page({ ...good, ...bad }), refused, JSON.stringify(bad));
  }
  // A cursor of a channel that is not there any more, or of another query, goes on behind it.
  t.strictSame(await past.page({ ...good, after: 'ar9999999999999999.0@zzz/gone/temp' }), nothing);
  t.strictSame(await past.page({ ...good, after: `ar9999999999999999.999999999@${A}` }), nothing);
  t.equal((await past.page({ ...good, after: '@a/gone/temp' })).series.length, 1);
  t.equal((await past.page({ ...good, fromAtMs: -1e300, toAtMs: 1e300 })).series.length, 1, 'all of time');
  await t.rejects(past.store.history.byDevice({ glob: '**', fromAtMs: Number.NaN, toAtMs: 1 }), refused);
});

t.test('where there are no more samples than points the samples themselves are given', async (t) => {
  const past = await new StoredPast(t).open();
  await past.pass(HOUR_MS, 10_000, (nth) => past.sample(A, nth));
  const now = past.clock.wall;
  const query = { glob: A, fromAtMs: now - HOUR_MS, toAtMs: now };
  const [single] = await past.all({ ...query, points: 360 });
  t.match(single, { stepMs: 0, values: [0, 0.001, 0.002] });
  t.equal(single?.atMs.length, 360);
  const [points] = await past.all({ ...query, points: 359 });
  t.ok((points?.stepMs ?? 0) > 0 && (points?.atMs.length ?? 0) <= 359);
  t.match(await past.all({ ...query, points: 1 }), [
    { values: [0.18], minimums: [0], maximums: [0.359], counts: [360] },
  ]);
});

t.test('what is of no value counts as samples too, and stays a gap in the values', async (t) => {
  const past = await new StoredPast(t).open();
  await past.pass(10 * MINUTE_MS, SECOND_MS, (nth) => past.sample(A, nth < 300 ? null : 5, nth < 300 ? 'hung' : 'ok'));
  const now = past.clock.wall;
  const [series, ...more] = await past.all({ glob: A, fromAtMs: now - 10 * MINUTE_MS, toAtMs: now, points: 100 });
  t.strictSame(more, []);
  t.equal(series?.stepMs, 10_000);
  t.match(series?.counts, [0, 0, 0]);
  t.match(series?.minimums, [null, null, null]);
  t.strictSame(series && wrongPoints(series, past.expected(A, 10_000, { fromMs: 0, toMs: now })), []);
});

t.test('pages are bounded, follow each other without loss, and do not move while the data grows', async (t) => {
  const past = await new StoredPast(t).open();
  const wide = 1_234_567_890_123;
  const ids = ['a/b/c', 'a/b/d', 'a/b/e'];
  await past.pass(3 * HOUR_MS, 700, (nth) => {
    for (const id of ids)
      past.sample(id, wide + ((nth * 7_919) % 1_000), nth % 3 === 0 ? 'ok' : nth % 3 === 1 ? 'stale' : 'fault');
  });
  const now = past.clock.wall;
  for (const points of [undefined, 10_000]) {
    const query = { glob: '**', fromAtMs: now - 3 * HOUR_MS, toAtMs: now, points };
    const once = await past.all(query);
    const list: HistorySeries[] = [];
    let after: string | undefined;
    let pages = 0;
    do {
      const page = await past.page({ ...query, after });
      t.ok(JSON.stringify(page).length <= MAX_PAGE_BYTES);
      list.push(...page.series);
      after = page.after ?? undefined;
      pages++;
      await past.pass(MINUTE_MS, 700, () => past.sample('a/b/d', 1));
    } while (after !== undefined);
    t.ok(pages > 1);
    for (const id of ids) {
      const times = (all: readonly HistorySeries[]) =>
        all.filter(({ channel }) => channel === id).flatMap(({ atMs }) => atMs);
      t.strictSame(times(list), times(once));
      t.equal(new Set(times(list)).size, times(list).length);
    }
  }
});

t.test('samples of one time are each given once, also where a page ends between them', async (t) => {
  const past = await new StoredPast(t).open();
  for (let i = 0; i < 30_000; i++) past.sample(A, i, 'ok', 10);
  past.clock.advance(1);
  past.sample(A, -1, 'ok', 10);
  const [series] = await past.all({ glob: A, fromAtMs: past.clock.wall - 10, toAtMs: past.clock.wall + 10 });
  t.equal(series?.values.length, 30_001);
  t.equal(new Set(series?.values).size, 30_001);
});

t.test('trimming while a reader reads takes nothing from the page, and repeats nothing', async (t) => {
  const past = await new StoredPast(t, LIMITS).open();
  await past.pass(12 * HOUR_MS, 1_000, (nth) => past.sample(A, nth % 1_000));
  const now = past.clock.wall;
  const query = { glob: A, fromAtMs: now - 12 * HOUR_MS, toAtMs: now };
  const times: [number, number][] = [];
  let after: string | undefined;
  do {
    const reading = past.page({ ...query, after });
    await Promise.all([past.pass(3 * HOUR_MS, 10_000, () => past.sample(B, 1)), reading]);
    const page = await reading;
    for (const { stepMs, atMs } of page.series) for (const at of atMs) times.push([at, at + Math.max(1, stepMs)]);
    after = page.after ?? undefined;
  } while (after !== undefined);
  let covered = 0;
  for (const [from, to] of times) {
    // Where a finer tier went meanwhile the coarser one takes over at the bucket that holds the moment.
    if (from < covered - MINUTE_MS || from > covered + MINUTE_MS) if (covered > 0) t.fail(`${covered} ${from}`);
    covered = to;
  }
  t.ok(covered >= now - 2_000, 'to the end');
});

t.test('the clock set back an hour: both hours are told, in the order of time', async (t) => {
  const past = await new StoredPast(t).open();
  await past.pass(2 * HOUR_MS, SECOND_MS, (nth) => past.sample(A, 1_000 + (nth % 10)));
  await past.setClock(-HOUR_MS);
  await past.pass(2 * HOUR_MS, SECOND_MS, (nth) => past.sample(A, 2_000 + (nth % 10)));
  await past.upkeepUntilDone();
  const now = past.clock.wall;
  const query = { glob: A, fromAtMs: now - 5 * HOUR_MS, toAtMs: now };
  const [samples, ...more] = await past.all(query);
  t.strictSame(more, []);
  t.equal(samples?.atMs.length, 4 * 3_600);
  t.ok(samples?.atMs.every((at, i) => i === 0 || at >= (samples.atMs[i - 1] ?? 0)));
  for (const points of [300, 3_000, 10]) {
    const [series] = await past.all({ ...query, points });
    const step = series?.stepMs ?? 1;
    const fromMs = Math.floor(query.fromAtMs / step) * step;
    t.strictSame(series && wrongPoints(series, past.expected(A, step, { fromMs, toMs: now + step })), []);
  }
});

t.test('the clock years ahead and back: nothing is lost, and the latest is what was measured last', async (t) => {
  const past = await new StoredPast(t, LIMITS).open();
  await past.pass(2 * HOUR_MS, SECOND_MS, () => past.sample(A, 1_000));
  await past.setClock(3_650 * DAY_MS);
  await past.pass(20 * MINUTE_MS, SECOND_MS, () => past.sample(A, 9_000));
  await past.setClock(-3_650 * DAY_MS);
  await past.pass(HOUR_MS, SECOND_MS, () => past.sample(A, 3_000));
  await past.restart();
  await past.upkeepUntilDone();
  const now = past.clock.wall;
  const all = await past.all({ glob: A, fromAtMs: 0, toAtMs: 8e15, points: 10_000 });
  const counts = all.flatMap((series) => series.counts ?? []).reduce((sum, count) => sum + count, 0);
  t.equal(counts, 3 * 3_600 + 20 * 60);
  const [series] = await past.all({ glob: A, fromAtMs: now - 5 * HOUR_MS, toAtMs: now, points: 301 });
  t.equal(series?.stepMs, MINUTE_MS);
  t.strictSame(series && wrongPoints(series, past.expected(A, MINUTE_MS, { fromMs: 0, toMs: now })), []);
  t.match(await past.store.history.latest('**'), [{ channel: A, value: 3, quality: 'ok' }]);
});

t.test('the latest of each channel: live, stored, or only in a coarser tier', async (t) => {
  const past = await new StoredPast(t, LIMITS).open();
  past.sample(A, 41_000);
  t.match(await past.store.history.latest('**'), [{ channel: A, unit: 'celsius', value: 41, atMs: past.clock.wall }]);
  past.clock.advance(1_500);
  past.sample(A, null, 'stale');
  t.match(await past.store.history.latest('**'), [{ value: null, quality: 'stale', atMs: past.clock.wall }]);
  past.sample(B, 1_000);
  const lastAtMs = past.clock.wall;
  await past.restart();
  t.match(await past.store.history.latest('nvme/**'), [{ channel: B, value: 1, atMs: lastAtMs }]);
  await past.pass(12 * HOUR_MS, MINUTE_MS, () => past.sample(A, 1));
  t.match(await past.store.history.latest('nvme/**'), [
    { channel: B, value: 1, atMs: Math.floor(lastAtMs / MINUTE_MS) * MINUTE_MS },
  ]);
  t.strictSame(await past.store.history.latest('x/**'), []);
});

t.test('devices: all channels of one quantity together, to the second', async (t) => {
  const past = await new StoredPast(t).open();
  const [one, two] = ['hwmon/chip/temp1', 'hwmon/chip/temp2'];
  await past.pass(3 * HOUR_MS, SECOND_MS, (nth) => {
    past.sample(one, 40_000 + (nth === 5_000 ? 50_000 : 0));
    if (nth % 2 === 0) past.sample(two, 20_000);
    past.sample('nvme/disk/temp1', null, 'hung');
  });
  await past.upkeepUntilDone();
  const from = (past.fed.get(one) ?? [])[0]?.atMs ?? 0;
  const [chip, disk, ...more] = await past.store.history.byDevice({
    glob: '**',
    fromAtMs: from + 1_000,
    toAtMs: from + 3 * HOUR_MS - 1_000,
  });
  t.strictSame(more, []);
  const spikeAtMs = Math.floor((from + 5_000_000) / MINUTE_MS) * MINUTE_MS;
  const expected = { device: 'chip', quantity: 'temperature', unit: 'celsius', channels: 2, minimum: 20, maximum: 90 };
  t.match(chip, { ...expected, maximumOf: one, maximumAtMs: spikeAtMs });
  const samples = [one, two]
    .flatMap((id) => past.fed.get(id) ?? [])
    .filter(({ atMs }) => atMs >= from + 1_000 && atMs < from + 3 * HOUR_MS - 1_000);
  const mean = samples.reduce((sum, { value }) => sum + (value ?? 0), 0) / samples.length / 1_000;
  t.ok(Math.abs((chip?.mean ?? 0) - mean) < 0.002);
  t.match(disk, {
    device: 'disk',
    channels: 1,
    minimum: null,
    mean: null,
    maximum: null,
    maximumOf: '',
    maximumAtMs: null,
  });
});

t.test('restarts in the middle of a second, a minute, an hour and a window lose and double nothing', async (t) => {
  const past = await new StoredPast(t).open();
  const random = new Random(11);
  let value = 30_000;
  for (let restart = 0; restart < 8; restart++) {
    await past.pass(random.between(1, 70 * 60_000), 437, () => {
      value += random.between(-30, 31);
      past.sample(A, value, 'ok', 10);
    });
    await past.restart();
  }
  await past.upkeepUntilDone();
  const now = past.clock.wall;
  const query = { glob: A, fromAtMs: now - 20 * HOUR_MS, toAtMs: now };
  for (const points of [10_000, 1_300, 7]) {
    const [series, ...more] = await past.all({ ...query, points });
    t.strictSame(more, []);
    const step = series?.stepMs ?? 1;
    const fromMs = Math.floor(query.fromAtMs / step) * step;
    t.strictSame(series && wrongPoints(series, past.expected(A, step, { fromMs, toMs: now })), [], `${step}`);
  }
});

t.test(
  'a channel that was not seen for long costs a page nothing, and very many channels make several pages',
  async (t) => {
    const past = await new StoredPast(t).open();
    const ids = Array.from({ length: 600 }, (_, i) => `many/chip/temp${i}`);
    for (const id of ids) past.sample(id, 1_000);
    const now = past.clock.wall;
    const query = { glob: 'many/**', fromAtMs: now - HOUR_MS, toAtMs: now + 1 };
    const first = await past.page(query);
    const second = await past.page({ ...query, after: first.after ?? '' });
    t.strictSame(
      [...first.series, ...second.series].map(({ channel }) => channel),
      ids.sort(),
    );
    t.equal(second.after, null);
    past.clock.advance(30 * DAY_MS);
    t.strictSame(await past.page({ glob: 'many/**', fromAtMs: past.clock.wall - HOUR_MS, toAtMs: past.clock.wall }), {
      series: [],
      after: null,
    });
  },
);
