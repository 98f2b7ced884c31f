import { deepStrictEqual } from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { QUALITIES } from '../../src/core/channel.js';
import { MAX_CHUNK_SAMPLES, MAX_CHUNK_SPAN_MS } from '../../src/store/chunk.js';
import { decodeStream, MAX_STREAM_BYTES, RawHead, type Stream, StreamMemory } from '../../src/store/raw-head.js';

const OK = QUALITIES.indexOf('ok');
const HUNG = QUALITIES.indexOf('hung');

interface Sample {
  readonly offsetMs: number;
  readonly value: number;
  readonly quality: number;
}

const ok = (offsetMs: number, value: number): Sample => ({ offsetMs, value, quality: OK });
const hung = (offsetMs: number): Sample => ({ offsetMs, value: Number.NaN, quality: HUNG });

function filled(samples: readonly Sample[]): RawHead {
  const head = new RawHead();
  for (const { offsetMs, value, quality } of samples) head.append(offsetMs, value, quality);
  return head;
}

function decoded(stream: Stream): Sample[] {
  const { length, atMs, values, qualities } = decodeStream(stream);
  return Array.from({ length }, (_, i) => ({
    offsetMs: atMs[i] ?? -1,
    value: values[i] ?? 0,
    quality: qualities[i] ?? -1,
  }));
}

/** Even times from 0. */
const even = (values: readonly number[], stepMs = 100) => values.map((value, i) => ok(i * stepMs, value));

const series: Record<string, readonly Sample[]> = {
  'a value that stands': even(Array(50).fill(45_000)),
  'every difference around the bounds of each length': even(
    [57, 58, 59, 313, 314, 315, 65_535, 65_536, 2 ** 24 - 1, 2 ** 24, 2 ** 31 - 1, 2 ** 31, 2 ** 32].flatMap(
      (zigzag) => [0, zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2],
    ),
  ),
  'differences of just over and under 32 bits': even([0, 2 ** 31 - 1, 0, 2 ** 31, 0, -(2 ** 31), 0, -(2 ** 31) - 1, 0]),
  'counters near the end of what is exact': even([2 ** 53 - 1, 2 ** 53 - 3, -(2 ** 53) + 1, 2 ** 52, 2 ** 52 + 1]),
  fractions: even([0.1, 0.2, 0.30000000000000004, 1 / 3, 1e-300, 5e-324]),
  'values that are none': even([Number.POSITIVE_INFINITY, 1, Number.NEGATIVE_INFINITY, Number.NaN, 2, Number.NaN]),
  'a large value beside a fraction that it swallows': even([1e300, 0.5, 1e16, 0.5, 1e16 + 2]),
  'a quality that changes': [ok(0, 1), hung(100), hung(200), ok(300, 1), hung(401), ok(500, 2)],
  'no value at all': [hung(0), hung(100), hung(200), hung(300)],
  'a step that wavers by a millisecond': even(Array(99).fill(3)).map((each, i) => ({
    ...each,
    offsetMs: i * 100 + ((i * 7) % 3),
  })),
  'times that stand still, go back and leap': [0, 0, 0, 50, 49, 0, MAX_CHUNK_SPAN_MS, 0, 1, 3].map((at, i) =>
    ok(at, i),
  ),
};

for (const [name, samples] of Object.entries(series)) {
  t.test(`keeps exactly: ${name}`, async (t) => {
    t.strictSame(decoded(filled(samples).stream()), samples);
  });
}

const anySample = fc.record({
  stepMs: fc.oneof(
    { weight: 6, arbitrary: fc.constant(100) },
    fc.integer({ min: 98, max: 102 }),
    fc.integer({ min: -5_000, max: 30_000 }),
  ),
  value: fc.oneof(
    { weight: 4, arbitrary: fc.integer({ min: -300, max: 300 }) },
    fc.integer(),
    fc.maxSafeInteger(),
    fc.double(),
  ),
  quality: fc.oneof({ weight: 4, arbitrary: fc.constant(OK) }, fc.integer({ min: 0, max: QUALITIES.length - 1 })),
});

const anySeries = fc.array(anySample, { maxLength: 60 }).map((steps) => {
  let offsetMs = 0;
  return steps.map(({ stepMs, value, quality }, i): Sample => {
    offsetMs = i === 0 ? 0 : Math.min(MAX_CHUNK_SPAN_MS, Math.max(0, offsetMs + stepMs));
    return { offsetMs, value: quality === OK ? value + 0 : Number.NaN, quality };
  });
});

t.test('whatever is appended can be decoded after each sample, and what was read before stays as it was', async () => {
  fc.assert(
    fc.property(anySeries, (samples) => {
      const head = new RawHead();
      const seen: { stream: Stream; copy: Buffer }[] = [];
      for (const { offsetMs, value, quality } of samples) {
        head.append(offsetMs, value, quality);
        const stream = head.stream();
        seen.push({ stream, copy: Buffer.from(stream.bytes) });
      }
      for (const [i, { stream, copy }] of seen.entries()) {
        if (!copy.equals(stream.bytes)) throw new Error(`the first ${i + 1} samples changed`);
        deepStrictEqual(decoded(stream), samples.slice(0, i + 1));
      }
      // What a head grew by, piece after piece, is its stream.
      const pieces = seen.map(({ copy }, i) => copy.subarray(seen[i - 1]?.copy.length ?? 0));
      return Buffer.concat(pieces).equals(Buffer.from(head.stream().bytes));
    }),
    { numRuns: 300 },
  );
});

t.test('a stream that ends within a sample, or has bytes too many, is refused', async (t) => {
  const whole = filled(series['every difference around the bounds of each length'] ?? []).stream();
  const { count } = whole;
  for (let end = 0; end < whole.bytes.length; end++) {
    t.throws(() => decodeStream({ bytes: whole.bytes.subarray(0, end), count }), RangeError);
  }
  t.throws(() => decodeStream({ bytes: Buffer.concat([whole.bytes, Buffer.of(0)]), count }), RangeError);
  t.throws(() => decodeStream({ bytes: whole.bytes, count: count - 1 }), RangeError);
  t.throws(() => decodeStream({ bytes: whole.bytes, count: MAX_CHUNK_SAMPLES + 1 }), RangeError);
});

t.test('garbage is decoded to something that a head may hold, or refused with RangeError', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.integer({ min: 0, max: 80 }), (bytes, count) => {
      try {
        const { atMs, qualities } = decodeStream({ bytes, count });
        const times = atMs.every((at) => Number.isInteger(at) && at >= 0 && at <= MAX_CHUNK_SPAN_MS);
        return times && qualities.every((quality) => quality < QUALITIES.length);
      } catch (error) {
        return error instanceof RangeError;
      }
    }),
    { numRuns: 3_000 },
  );
});

t.test('the greatest head is as large as it says, and an even one costs a byte a sample', async (t) => {
  const worst = new RawHead();
  for (let i = 0; !worst.full; i++) worst.append(i % 2 === 0 ? MAX_CHUNK_SPAN_MS : 0, i + 0.1, OK);
  t.equal(worst.count, MAX_CHUNK_SAMPLES);
  t.ok(worst.end <= MAX_STREAM_BYTES);
  t.ok(worst.capacity < 2 * MAX_STREAM_BYTES);
  const usual = filled(even(Array.from({ length: 6_000 }, (_, i) => 45_000 + ((i * 7919) % 13))));
  t.ok(usual.end < 6_000 * 1.01, `${usual.end} bytes`);
});

t.test('memory of streams that ended serves those that grow, and none is used twice at a time', async (t) => {
  const memory = new StreamMemory();
  const samples = (n: number) => even(Array.from({ length: 5_000 }, (_, i) => (i * 7_919 * (n + 1)) % 100_000));
  let former: RawHead[] = [];
  for (let round = 0; round < 4; round++) {
    const heads = [0, 1, 2].map(() => new RawHead(memory, 15_000));
    const given = heads.map((_, n) => samples(round * 3 + n));
    for (let i = 0; i < 5_000; i++) {
      // Those of the round before end when these have begun.
      if (i === 100) for (const head of former) head.release();
      heads.forEach((head, n) => {
        const { offsetMs, value, quality } = given[n]?.[i] ?? ok(0, 0);
        head.append(offsetMs, value, quality);
      });
    }
    heads.forEach((head, n) => {
      deepStrictEqual(decoded(head.stream()), given[n]);
    });
    former = heads;
  }
  for (const head of former) head.release();
  for (const head of former) head.release();
  t.equal(former[0]?.stream().bytes.length, 0);
  const taken = [0, 1, 2, 3].map(() => memory.take(16_000));
  t.equal(new Set(taken).size, 4, 'also when a head is released twice');
});
