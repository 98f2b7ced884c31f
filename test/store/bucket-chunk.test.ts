import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { SHAPES } from '../../scripts/bench/store-shapes.js';
import { QUALITIES } from '../../src/core/channel.js';
import { decodeBuckets, encodeBuckets, lastBucketAtMs, MAX_CHUNK_BUCKETS } from '../../src/store/bucket-chunk.js';
import { type Buckets, bucketsOf, emptyBuckets, MINUTE_MS, SECOND_MS } from '../../src/store/buckets.js';

const OK = QUALITIES.indexOf('ok');
const START = 1_700_000_000_000;

interface Bucket {
  readonly skipped: number;
  readonly count: number;
  readonly values: readonly number[];
  readonly quality: number;
}

function bucketsFrom(list: readonly Bucket[], widthMs: number): Buckets {
  let at = Math.floor(START / widthMs);
  const times = list.map(({ skipped }) => {
    at += skipped;
    return at * widthMs;
  });
  const column = (of: (values: number[]) => number | undefined) =>
    Float64Array.from(list, ({ count, values }) =>
      count === 0 ? Number.NaN : (of([...values].sort((a, b) => a - b)) ?? 0),
    );
  return {
    length: list.length,
    atMs: Float64Array.from(times),
    counts: Float64Array.from(list, ({ count }) => count),
    minimums: column((sorted) => sorted[0]),
    means: column((sorted) => sorted[1]),
    maximums: column((sorted) => sorted[2]),
    qualities: Uint8Array.from(list, ({ quality }) => quality),
  };
}

/** Keeps what was decoded there before. */
const room = emptyBuckets(MAX_CHUNK_BUCKETS);

function comesBack(buckets: Buckets, widthMs: number): boolean {
  const bytes = encodeBuckets(buckets, widthMs);
  const columns = ['atMs', 'counts', 'minimums', 'means', 'maximums', 'qualities'] as const;
  const isSame = (decoded: Buckets) =>
    decoded.length === buckets.length &&
    columns.every((column) => {
      const given = buckets[column];
      return Array.from(decoded[column].subarray(0, decoded.length)).every((number, i) => Object.is(number, given[i]));
    });
  const last = buckets.length === 0 ? Number.NEGATIVE_INFINITY : (buckets.atMs[buckets.length - 1] ?? 0);
  return (
    isSame(decodeBuckets(bytes, widthMs)) &&
    isSame(decodeBuckets(bytes, widthMs, room)) &&
    lastBucketAtMs(bytes, widthMs) === last
  );
}

const bucketOf = (number: fc.Arbitrary<number>) =>
  fc.record({
    skipped: fc.oneof({ weight: 5, arbitrary: fc.constant(1) }, fc.nat(5_000)),
    count: fc.oneof(fc.constant(10), fc.nat(600)),
    values: fc.tuple(number, number, number),
    quality: fc.oneof({ weight: 5, arbitrary: fc.constant(OK) }, fc.nat(QUALITIES.length - 1)),
  });
const listOf = (number: fc.Arbitrary<number>) => fc.array(bucketOf(number), { maxLength: 300, size: 'max' });
const width = fc.constantFrom(SECOND_MS, MINUTE_MS, 1);

t.test('any buckets of integers come back, with gaps, two of one time, empty ones and lost ones', async () => {
  const integer = fc.oneof(
    fc.integer({ min: -3, max: 3 }),
    fc.integer(),
    fc.integer({ min: -(2 ** 50), max: 2 ** 50 }),
    fc.maxSafeInteger(),
  );
  const property = fc.property(listOf(integer), width, (list, ms) => comesBack(bucketsFrom(list, ms), ms));
  fc.assert(property, { numRuns: 300 });
});

t.test('any buckets of fractions come back', async () => {
  const property = fc.property(listOf(fc.double({ noNaN: true })), width, (list, ms) =>
    comesBack(bucketsFrom(list, ms), ms),
  );
  fc.assert(property, { numRuns: 100 });
});

t.test('no bucket at all and the greatest number of buckets come back; more are refused', async (t) => {
  t.ok(comesBack(bucketsFrom([], SECOND_MS), SECOND_MS));
  const bucket = (i: number) => ({ skipped: 1, count: i % 11, values: [i, i * 2, i * i], quality: OK });
  const list = Array.from({ length: MAX_CHUNK_BUCKETS + 1 }, (_, i) => bucket(i));
  t.ok(comesBack(bucketsFrom(list.slice(1), SECOND_MS), SECOND_MS));
  t.throws(() => encodeBuckets(bucketsFrom(list, SECOND_MS), SECOND_MS), RangeError);
});

/** An hour of a shape at so many samples a second. */
function hourOf(series: (seed: number) => () => number, rateHz: number): Buckets {
  const values = Float64Array.from({ length: 3_600 * rateHz }, series(1));
  const atMs = values.map((_, i) => START + (i * 1_000) / rateHz);
  return bucketsOf({ length: values.length, atMs, values, qualities: new Uint8Array(values.length) }, SECOND_MS);
}

t.test('the seconds of a slow channel cost no more than its values, and a constant one next to nothing', async (t) => {
  const constant = encodeBuckets(
    hourOf(() => () => 45_000, 1),
    SECOND_MS,
  ).length;
  t.ok(constant <= 40, `${constant} B`);
  for (const { name, series } of SHAPES) {
    const slow = hourOf(series, 1);
    t.ok(comesBack(slow, SECOND_MS), name);
    t.ok(comesBack(hourOf(series, 10), SECOND_MS), name);
    const alone = encodeBuckets({ ...slow, means: slow.minimums, maximums: slow.minimums }, SECOND_MS).length;
    t.equal(encodeBuckets(slow, SECOND_MS).length, alone, name);
  }
});

t.test('every cut and every wrong byte is noticed', async (t) => {
  const bucket = (i: number) => ({
    skipped: 1 + (i % 50 === 0 ? 7 : 0),
    count: i % 9,
    values: [i, i * 3, i * i],
    quality: i % 40 === 0 ? 2 : OK,
  });
  const good = encodeBuckets(
    bucketsFrom(
      Array.from({ length: 300 }, (_, i) => bucket(i)),
      SECOND_MS,
    ),
    SECOND_MS,
  );
  for (let at = 0; at < good.length; at++) {
    const wrong = Buffer.from(good);
    wrong[at] = (wrong[at] ?? 0) ^ (1 + (at % 255));
    t.throws(() => decodeBuckets(wrong, SECOND_MS), RangeError);
    t.throws(() => decodeBuckets(good.subarray(0, at), SECOND_MS), RangeError);
  }
});

t.test('what was forged with a right check sum throws RangeError or decodes to bounded data', async () => {
  const good = encodeBuckets(
    hourOf((seed) => () => (seed * 7_919) % 31, 1),
    SECOND_MS,
  );
  const noisy = encodeBuckets(hourOf(SHAPES[2]?.series ?? (() => () => 0), 10), SECOND_MS);
  const wrong = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
  const property = fc.property(fc.constantFrom(good, noisy), wrong, fc.boolean(), (from, changes, early) => {
    const bytes = Buffer.from(from);
    const end = bytes.length - 4;
    for (const [at, byte] of changes) bytes[at % (early ? Math.min(end, 60) : end)] = byte;
    bytes.writeUInt32BE(crc32(bytes.subarray(0, end)), end);
    try {
      const { length, atMs, counts, minimums } = decodeBuckets(bytes, SECOND_MS);
      return length <= MAX_CHUNK_BUCKETS && [atMs, counts, minimums].every((column) => column.length === length);
    } catch (error) {
      return error instanceof RangeError;
    }
  });
  fc.assert(property, { numRuns: 2_000 });
});
