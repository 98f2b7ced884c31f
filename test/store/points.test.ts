import t from 'tap';
import { QUALITIES, type Quality } from '../../src/core/channel.js';
import { type Buckets, bucketsOf, MINUTE_MS, SECOND_MS } from '../../src/store/buckets.js';
import type { Samples } from '../../src/store/chunk.js';
import { fuller, Points, stepFor, widened } from '../../src/store/points.js';

const DAY_MS = 86_400_000;
const NOON_MS = 1_700_049_600_000;

function samplesOf(list: readonly (readonly [atMs: number, value: number | Quality])[]): Samples {
  return {
    length: list.length,
    atMs: Float64Array.from(list, ([atMs]) => atMs),
    values: Float64Array.from(list, ([, value]) => (typeof value === 'number' ? value : Number.NaN)),
    qualities: Uint8Array.from(list, ([, value]) => QUALITIES.indexOf(typeof value === 'number' ? 'ok' : value)),
  };
}

function rows({ length, atMs, counts, minimums, means, maximums, qualities }: Buckets): unknown[] {
  return Array.from({ length }, (_, i) => [
    atMs[i],
    counts[i],
    minimums[i],
    means[i],
    maximums[i],
    QUALITIES[qualities[i] ?? 0],
  ]);
}

t.test('takes the smallest round step of which no more points cover the time', async (t) => {
  const step = (fromMs: number, toMs: number, points: number) => stepFor({ fromMs, toMs }, points) / 1000;
  t.equal(step(NOON_MS, NOON_MS + 10_000, 1_000), 1, 'never less than a second');
  t.equal(step(NOON_MS, NOON_MS + 10_000, 10), 1);
  t.equal(step(NOON_MS + 1, NOON_MS + 10_001, 10), 2, 'eleven seconds are touched');
  t.equal(step(NOON_MS, NOON_MS + DAY_MS, 1_000), 120);
  t.equal(step(NOON_MS, NOON_MS + DAY_MS, 1_440), 60);
  t.equal(step(NOON_MS, NOON_MS + DAY_MS, 1_439), 120);
  t.equal(step(NOON_MS, NOON_MS + 400 * DAY_MS, 401), 86_400);
  t.equal(step(NOON_MS, NOON_MS + 400 * DAY_MS, 10), 86_400 * 50);
});

t.test('finds a step for one point too, wherever the time begins', async (t) => {
  for (const fromMs of [0, 1, DAY_MS - 1, NOON_MS, 20_000 * DAY_MS - 1, 8.64e15 - 5_000]) {
    const stepMs = stepFor({ fromMs, toMs: fromMs + 5_000 }, 1);
    const wide = widened({ fromMs, toMs: fromMs + 5_000 }, stepMs);
    t.equal((wide.toMs - wide.fromMs) / stepMs, 1, `${fromMs}`);
  }
});

t.test('any time and number of points: round, aligned, and no more than asked', async (t) => {
  const wrong: unknown[] = [];
  for (let seed = 1; seed < 3_000; seed++) {
    const fromMs = (seed * 7_919_777_777) % 2e12;
    const toMs = fromMs + 1 + ((seed * 104_729 * seed) % 10 ** (1 + (seed % 11)));
    const points = 1 + (seed % 1_500);
    const stepMs = stepFor({ fromMs, toMs }, points);
    const wide = widened({ fromMs, toMs }, stepMs);
    if (wide.fromMs <= fromMs && wide.toMs >= toMs && (wide.toMs - wide.fromMs) / stepMs <= points) continue;
    wrong.push({ fromMs, toMs, points, stepMs });
  }
  t.strictSame(wrong, []);
});

t.test('sums up samples and buckets to the same points, in whatever order they come', async (t) => {
  const samples = samplesOf(
    Array.from({ length: 500 }, (_, i) => [NOON_MS + i * 437, i % 50 === 7 ? 'stale' : (i * 7_919) % 1_000] as const),
  );
  const stretch = widened({ fromMs: NOON_MS, toMs: NOON_MS + 500 * 437 }, MINUTE_MS);
  const one = new Points(stretch, MINUTE_MS);
  one.addSamples(samples);
  const other = new Points(stretch, MINUTE_MS);
  const half = (from: number, to: number) =>
    bucketsOf(
      {
        length: to - from,
        atMs: samples.atMs.subarray(from, to),
        values: samples.values.subarray(from, to),
        qualities: samples.qualities.subarray(from, to),
      },
      SECOND_MS,
    );
  other.addBuckets(half(250, 500));
  other.addBuckets(half(0, 250));
  const [a, b] = [one.buckets(), other.buckets()];
  t.strictSame(
    [a.atMs, a.counts, a.minimums, a.maximums, a.qualities],
    [b.atMs, b.counts, b.minimums, b.maximums, b.qualities],
  );
  for (let i = 0; i < a.length; i++) t.ok(Math.abs((a.means[i] ?? 0) - (b.means[i] ?? 0)) <= 1);
  t.strictSame(rows(a), rows(bucketsOf(samples, MINUTE_MS)), 'and those of buckets.ts');
});

t.test('a point without a sample is left out, one without a value has none', async (t) => {
  const points = new Points({ fromMs: 0, toMs: 5_000 }, SECOND_MS);
  points.addSamples(
    samplesOf([
      [1_200, 'hung'],
      [3_000, -5],
      [3_999, 5],
      [4_000, 'fault'],
      [4_100, 1],
      [4_200, 'no_data'],
    ]),
  );
  t.strictSame(rows(points.buckets()), [
    [1_000, 0, Number.NaN, Number.NaN, Number.NaN, 'hung'],
    [3_000, 2, -5, 0, 5, 'ok'],
    [4_000, 1, 1, 1, 1, 'no_data'],
  ]);
});

t.test('what lies outside is not counted', async (t) => {
  const points = new Points({ fromMs: 2_000, toMs: 4_000 }, SECOND_MS);
  points.addSamples(
    samplesOf([
      [1_999, 1],
      [2_000, 2],
      [3_999, 3],
      [4_000, 4],
    ]),
  );
  points.addSamples(samplesOf([[2_500, 9]]), { fromMs: 3_000, toMs: 9_000 });
  t.match(rows(points.buckets()), [
    [2_000, 1, 2],
    [3_000, 1, 3],
  ]);
});

t.test('sums large counters without losing their last digits', async (t) => {
  const large = 2 ** 52;
  const points = new Points({ fromMs: 0, toMs: 1_000 }, SECOND_MS);
  points.addSamples(samplesOf(Array.from({ length: 999 }, (_, i) => [i, large + 2 * i] as const)));
  t.match(rows(points.buckets()), [[0, 999, large, large + 998, large + 1_996]]);
});

t.test('of each minute the one of more samples stays', async (t) => {
  const minutes = (list: readonly (readonly [number, number, number])[]) => {
    const points = new Points({ fromMs: 0, toMs: 10 * MINUTE_MS }, MINUTE_MS);
    for (const [minute, count, value] of list) {
      for (let i = 0; i < count; i++) points.addSamples(samplesOf([[minute * MINUTE_MS + i, value]]));
    }
    return points.buckets();
  };
  const kept = minutes([
    [1, 5, 10],
    [2, 5, 10],
    [3, 5, 10],
    [7, 1, 10],
  ]);
  const fresh = minutes([
    [0, 1, 20],
    [2, 4, 20],
    [3, 5, 20],
    [4, 2, 20],
  ]);
  t.match(rows(fuller(kept, fresh)), [
    [0, 1, 20],
    [1 * MINUTE_MS, 5, 10],
    [2 * MINUTE_MS, 5, 10],
    [3 * MINUTE_MS, 5, 20],
    [4 * MINUTE_MS, 2, 20],
    [7 * MINUTE_MS, 1, 10],
  ]);
  t.strictSame(rows(fuller(kept, minutes([]))), rows(kept));
  t.strictSame(rows(fuller(minutes([]), fresh)), rows(fresh));
});
