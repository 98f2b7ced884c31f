import fc from 'fast-check';
import t from 'tap';
import { QUALITIES } from '../../src/core/channel.js';
import { type Buckets, bucketsOf, MINUTE_MS, SECOND_MS } from '../../src/store/buckets.js';
import type { Samples } from '../../src/store/chunk.js';

const OK = QUALITIES.indexOf('ok');
const START = 1_700_000_000_250;

type Sample = readonly [stepMs: number, quality: number, value: number];

function samplesOf(list: readonly Sample[], startAtMs = START): Samples {
  let atMs = startAtMs;
  return {
    length: list.length,
    atMs: Float64Array.from(list, ([stepMs]) => (atMs += stepMs)),
    values: Float64Array.from(list, ([, quality, value]) => (quality === OK ? value : Number.NaN)),
    qualities: Uint8Array.from(list, ([, quality]) => quality),
  };
}

const quality = fc.oneof({ weight: 6, arbitrary: fc.constant(OK) }, fc.nat(QUALITIES.length - 1));
const value = fc.oneof(fc.integer({ min: -50, max: 50 }), fc.integer(), fc.integer({ min: -(2 ** 50), max: 2 ** 50 }));
const sample = fc.tuple(fc.oneof(fc.constant(100), fc.nat(5_000)), quality, value);
const samples = fc.array(sample, { minLength: 1, maxLength: 200, size: 'max' });

/** The buckets of a list as plain objects. */
const rows = (buckets: Buckets) =>
  Array.from({ length: buckets.length }, (_, i) => ({
    atMs: buckets.atMs[i],
    count: buckets.counts[i],
    minimum: buckets.minimums[i],
    mean: buckets.means[i],
    maximum: buckets.maximums[i],
    quality: buckets.qualities[i],
  }));

/** What a bucket is, said in another way than the source does. */
function expected({ length, atMs, values, qualities }: Samples, widthMs: number) {
  const groups = new Map<number, number[]>();
  for (let i = 0; i < length; i++) {
    const from = Math.floor((atMs[i] ?? 0) / widthMs) * widthMs;
    groups.set(from, [...(groups.get(from) ?? []), i]);
  }
  return [...groups].map(([from, indexes]) => {
    const present = indexes.filter((i) => qualities[i] === OK).map((i) => values[i] ?? 0);
    const sum = present.reduce((total, each) => total + BigInt(each), 0n);
    return {
      atMs: from,
      count: present.length,
      minimum: present.length === 0 ? Number.NaN : Math.min(...present),
      exactMean: present.length === 0 ? Number.NaN : Number((sum * 1_000n) / BigInt(present.length)) / 1_000,
      maximum: present.length === 0 ? Number.NaN : Math.max(...present),
      quality: indexes.map((i) => qualities[i] ?? OK).findLast((each) => each !== OK) ?? OK,
    };
  });
}

t.test(
  'a bucket has count, least, greatest and rounded mean of its samples, and the latest quality that was not ok',
  async () => {
    const property = fc.property(samples, fc.constantFrom(SECOND_MS, MINUTE_MS, 7_000), (list, widthMs) => {
      const given = samplesOf(list);
      const buckets = rows(bucketsOf(given, widthMs));
      const wanted = expected(given, widthMs);
      return (
        buckets.length === wanted.length &&
        wanted.every(({ exactMean, ...exact }, i) => {
          const { mean = 0, ...rest } = buckets[i] ?? {};
          const alike = Object.entries(rest).every(([key, each]) => Object.is(each, exact[key as keyof typeof exact]));
          if (exact.count === 0) return alike && Number.isNaN(mean);
          // What doubles of this size are rounded to, in the source and here.
          const doubt = Math.max(Math.abs(exact.minimum), Math.abs(exact.maximum)) * 2 ** -49;
          return alike && Number.isInteger(mean) && Math.abs(mean - exactMean) <= 0.5 + 2 ** -9 + doubt;
        })
      );
    });
    fc.assert(property, { numRuns: 500 });
  },
);

t.test('means of fractions stay fractions, also where their sum is whole', async (t) => {
  const of = (...values: number[]) =>
    bucketsOf(samplesOf(values.map((each) => [0, OK, each] as const)), SECOND_MS).means;
  t.same([...of(0.5, 0.25)], [0.375]);
  t.same([...of(0, 0.5, 1.5, 3)], [1.25]);
  t.same([...of(1, 2)], [2], 'a half goes up');
  t.same([...of(-1, 0)], [0], 'and is never a negative zero');
  t.ok(Object.is(of(-1, 0)[0], 0));
});

t.test('a value that is no number has no part in a bucket', async (t) => {
  const buckets = bucketsOf(
    samplesOf([
      [0, OK, Number.NaN],
      [0, OK, 3],
      [0, OK, Infinity],
    ]),
    SECOND_MS,
  );
  t.match(rows(buckets), [{ count: 2, minimum: 3, maximum: Infinity }]);
  t.match(rows(bucketsOf(samplesOf([]), SECOND_MS)), []);
});

t.test('samples whose times run backwards are sorted into their buckets', async (t) => {
  const backwards = samplesOf([
    [0, OK, 1],
    [2_000, OK, 2],
    [-2_000, OK, 3],
    [2_000, 3, 0],
  ]);
  t.match(rows(bucketsOf(backwards, SECOND_MS)), [
    { count: 2, minimum: 1, mean: 2, maximum: 3, quality: OK },
    { count: 1, minimum: 2, mean: 2, maximum: 2, quality: 3 },
  ]);
});
