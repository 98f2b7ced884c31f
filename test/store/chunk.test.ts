import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { QUALITIES } from '../../src/core/channel.js';
import { chunkHeader, decodeChunk, encodeChunk, MAX_CHUNK_SAMPLES, type Samples } from '../../src/store/chunk.js';

const OK = QUALITIES.indexOf('ok');
const START = 1_700_000_000_000;

interface Sample {
  readonly atMs: number;
  readonly quality: number;
  readonly value: number;
}

function samplesOf(list: readonly Sample[]): Samples {
  return {
    length: list.length,
    atMs: Float64Array.from(list, ({ atMs }) => atMs),
    values: Float64Array.from(list, ({ quality, value }) => (quality === OK ? value : Number.NaN)),
    qualities: Uint8Array.from(list, ({ quality }) => quality),
  };
}

function same(list: readonly Sample[]): boolean {
  const decoded = decodeChunk(encodeChunk(samplesOf(list)), START);
  return (
    decoded.length === list.length &&
    list.every(
      ({ atMs, quality, value }, i) =>
        decoded.atMs[i] === START + atMs &&
        decoded.qualities[i] === quality &&
        Object.is(decoded.values[i], quality === OK ? value : Number.NaN),
    )
  );
}

/** Times in order with gaps, quality changes in runs. */
function series(number: fc.Arbitrary<number>): fc.Arbitrary<Sample[]> {
  const step = fc.oneof({ weight: 6, arbitrary: fc.constant(100) }, fc.integer({ min: 0, max: 900 }));
  const quality = fc.oneof({ weight: 8, arbitrary: fc.constant(OK) }, fc.nat(QUALITIES.length - 1));
  const tuple = fc.tuple(step, quality, number);
  return fc.array(tuple, { minLength: 1, maxLength: MAX_CHUNK_SAMPLES, size: 'max' }).map((list) => {
    let atMs = 0;
    return list.map(([stepMs, quality, value], i) => {
      if (i > 0) atMs += stepMs;
      return { atMs, quality, value };
    });
  });
}

t.test('any series of integers comes back as it was, with gaps and quality changes', async () => {
  const value = fc.oneof(
    fc.integer(),
    fc.maxSafeInteger(),
    fc.integer({ min: -44, max: 120 }).map((celsius) => celsius * 1000),
    fc.constantFrom(2 ** 50, -(2 ** 50), 2 ** 50 + 1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 0),
  );
  fc.assert(fc.property(series(value), same), { numRuns: 300 });
});

t.test('numbers that are no integers come back as they were', async () => {
  fc.assert(fc.property(series(fc.double()), same), { numRuns: 100 });
});

t.test('times that run backwards come back as they were', async (t) => {
  const list = [0, 500, 300, 300, 900].map((atMs) => ({ atMs, quality: OK, value: 1 }));
  t.ok(same(list));
  t.match(chunkHeader(encodeChunk(samplesOf(list))), { length: 5, spanMs: 900 });
});

t.test('regular times, constant values and unbroken quality cost next to nothing', async (t) => {
  const list = Array.from({ length: 600 }, (_, i) => ({ atMs: i * 100, quality: OK, value: 45_000 }));
  t.ok(encodeChunk(samplesOf(list)).length <= 28);
  // A sensor in whole degrees that moves by one now and then: the step of 1,000 is divided away.
  const noisy = list.map((sample, i) => ({ ...sample, value: 45_000 + 1_000 * (Math.imul(i, 2_654_435_761) >>> 31) }));
  t.ok(encodeChunk(samplesOf(noisy)).length <= 600 * 0.42);
});

const mixed = Array.from({ length: 300 }, (_, i) => ({ atMs: i * 97, quality: i % 50 === 0 ? 1 : OK, value: i * i }));

t.test('every cut and every wrong byte of a stored chunk is noticed', async (t) => {
  const good = encodeChunk(samplesOf(mixed));
  const noticed = (bytes: Buffer) => {
    try {
      decodeChunk(bytes, START);
      return false;
    } catch (error) {
      return error instanceof RangeError;
    }
  };
  for (let length = 0; length < good.length; length++)
    if (!noticed(good.subarray(0, length))) t.fail(`cut at ${length}`);
  for (let at = 0; at < good.length; at++) {
    const wrong = Buffer.from(good);
    wrong[at] = (wrong[at] ?? 0) ^ (1 + (at % 255));
    if (!noticed(wrong)) t.fail(`wrong byte ${at}`);
  }
});

t.test('what was forged with a right check sum throws or decodes to bounded data, and never runs away', async () => {
  const forged = (content: Uint8Array) => {
    const chunk = Buffer.concat([content, Buffer.alloc(4)]);
    chunk.writeUInt32BE(crc32(content), content.length);
    return chunk;
  };
  const start = fc.constantFrom([], [0], [1], [2], [0, 10, 5], [2, 3, 5], [0, 0xd8, 4, 0]);
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 400 }), (first, rest) => {
      try {
        return decodeChunk(forged(Uint8Array.from([...first, ...rest])), START).length <= MAX_CHUNK_SAMPLES;
      } catch (error) {
        return error instanceof Error;
      }
    }),
    { numRuns: 3_000 },
  );
});
