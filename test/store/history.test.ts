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
      for (let n = 0; n < 60; n++) {
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
