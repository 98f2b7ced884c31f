import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { SHAPES } from '../../scripts/bench/store-shapes.js';
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
  return fc.array(tuple, { minLength: 1, maxLength: 600, size: 'max' }).map((list) => {
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
    fc.integer({ min: -(2 ** 50), max: 2 ** 50 }),
    fc.integer({ min: -3, max: 3 }),
    fc.constantFrom(2 ** 50, -(2 ** 50), 2 ** 50 + 1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 0),
  );
  fc.assert(fc.property(series(value), same), { numRuns: 300 });
});

t.test('any series of integers within one magnitude comes back as it was', async () => {
  const ofMagnitude = fc
    .tuple(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 1, max: 100_000 }))
    .chain(([bits, unit]) => {
      const most = Math.floor(2 ** bits / unit);
      return series(fc.integer({ min: -most, max: most }).map((n) => n * unit + 0));
    });
  fc.assert(fc.property(ofMagnitude, same), { numRuns: 300 });
});

t.test('numbers that are no integers come back as they were', async () => {
  fc.assert(fc.property(series(fc.double()), same), { numRuns: 100 });
});

t.test('times that run backwards come back as they were', async (t) => {
  const list = [0, 500, 300, 300, 900].map((atMs) => ({ atMs, quality: OK, value: 1 }));
  t.ok(same(list));
  t.match(chunkHeader(encodeChunk(samplesOf(list))), { length: 5, spanMs: 900 });
});

const mixed = Array.from({ length: 300 }, (_, i) => ({ atMs: i * 97, quality: i % 50 === 0 ? 1 : OK, value: i * i }));

const everyTenth = (value: (i: number) => number, length = 600) =>
  Array.from({ length }, (_, i) => ({ atMs: i * 100, quality: OK, value: value(i) }));
const bytesOf = (list: readonly Sample[]) => encodeChunk(samplesOf(list)).length;

t.test('regular times, constant values and unbroken quality cost next to nothing', async (t) => {
  const list = everyTenth(() => 45_000);
  t.ok(bytesOf(list) <= 13);
  t.ok(bytesOf(everyTenth((i) => 1_000_000 + i * 15_250)) <= 20);
  // A sensor in whole degrees that moves by one now and then: the step of 1,000 is divided away.
  const noisy = everyTenth((i) => 45_000 + 1_000 * (Math.imul(i, 2_654_435_761) >>> 31));
  t.ok(bytesOf(noisy) <= 600 * 0.2);
});

/** Bytes that the differences of the values take at least, coded one by one. */
function entropyBytes(list: readonly Sample[]): number {
  const counts = new Map<number, number>();
  for (const [i, { value }] of list.entries()) {
    const difference = value - (list[i - 1]?.value ?? value);
    if (i > 0) counts.set(difference, (counts.get(difference) ?? 0) + 1);
  }
  let bits = 0;
  for (const count of counts.values()) bits -= count * Math.log2(count / (list.length - 1));
  return bits / 8;
}

/** Of a record besides its value: a key of 21 bytes, of which most are those of the one before, 8 of LevelDB, its share of the index. */
const KEY_BYTES = 25;

t.test('series of sensors stay within 1.35 times the entropy of their differences, the index included', async (t) => {
  for (const { name, series } of SHAPES) {
    let bytes = 0;
    let entropy = 0;
    for (let seed = 1; seed <= 4; seed++) {
      const next = series(seed);
      const list = everyTenth(() => next(), 6_000);
      t.ok(same(list), name);
      bytes += bytesOf(list) + KEY_BYTES;
      entropy += entropyBytes(list);
    }
    // Without entropy there remain the header, the first value, the divisor, the check sum and the key.
    t.ok(bytes / 4 <= Math.max(60, (entropy / 4) * 1.35), `${name}: ${bytes / 4} B of ${entropy / 4}`);
  }
});

t.test('few large strides that come again are not coded bit by bit', async (t) => {
  const list = everyTenth((i) => Math.floor(i / 3) * 1_234_567_891 + (i % 3) * 987_654_321);
  t.ok(same(list));
  // Two differences, one of them twice as frequent: 0.918 bits each.
  t.ok(bytesOf(list) <= 600 * 0.115 + 40);
});

t.test('a share of few ticks costs what its few values do, however large they are and however they jump', async (t) => {
  const list = everyTenth((i) => Math.round((1e6 * ((Math.imul(i, 2_654_435_761) >>> 12) % 20)) / 19), 6_000);
  t.ok(same(list));
  t.ok(bytesOf(list) <= (6_000 * Math.log2(20)) / 8 + 150);
});

t.test('jitter of the times costs bits, not bytes, and a gap costs no more than itself', async (t) => {
  const list = everyTenth(() => 45_000).map((sample, i) => ({
    ...sample,
    atMs: i === 0 ? 0 : sample.atMs + (Math.imul(i, 2_654_435_761) >>> 31) + (i > 300 ? 7_777 : 0),
  }));
  t.ok(same(list));
  t.ok(bytesOf(list) <= 600 * 0.25);
});

t.test('chunks of few samples, of none that is ok and of none at all come back', async (t) => {
  t.ok(same([]));
  t.ok(same([{ atMs: 0, quality: OK, value: -7 }]));
  t.ok(same([{ atMs: 0, quality: 3, value: 0 }]));
  t.ok(same(everyTenth(() => 0).map((sample) => ({ ...sample, quality: 1 }))));
  t.ok(same([0, 600_000, 600_000].map((atMs, i) => ({ atMs, quality: OK, value: (i - 1) * 2 ** 50 }))));
});

t.test('the header tells length and span of even and uneven times without the body', async (t) => {
  t.match(chunkHeader(encodeChunk(samplesOf(everyTenth((i) => i)))), { length: 600, spanMs: 59_900 });
  t.match(chunkHeader(encodeChunk(samplesOf(mixed))), { length: 300, spanMs: 299 * 97 });
  t.match(chunkHeader(encodeChunk(samplesOf([{ atMs: 0, quality: OK, value: 1 }]))), { length: 1, spanMs: 0 });
});

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

const forged = (content: Uint8Array) => {
  const chunk = Buffer.concat([content, Buffer.alloc(4)]);
  chunk.writeUInt32BE(crc32(content), content.length);
  return chunk;
};

t.test('flags that this format does not have are refused, also by chunkHeader()', async (t) => {
  for (let flags = 0; flags < 256; flags++) {
    const known = flags <= 3 || [4, 12, 20, 28].includes(flags) || (flags >= 32 && flags < 36);
    if (known) continue;
    const chunk = forged(Uint8Array.of(flags, 1, 0, 1, 0, 1, 2, 0));
    t.throws(() => decodeChunk(chunk, START), RangeError, `decodes ${flags}`);
    t.throws(() => chunkHeader(chunk), RangeError, `reads the header of ${flags}`);
  }
});

t.test('what was forged with a right check sum throws or decodes to bounded data, and never runs away', async () => {
  // The columns of true chunks, with some bytes exchanged: garbage alone seldom gets past an alphabet.
  const good = [mixed, everyTenth((i) => (i * i) % 1_009), everyTenth((i) => i / 7)].map((list) =>
    encodeChunk(samplesOf(list)),
  );
  const wrong = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(fc.constantFrom(...good), wrong, fc.boolean(), (chunk, changes, early) => {
      const content = Uint8Array.from(chunk.subarray(0, -4));
      for (const [at, byte] of changes) content[at % (early ? 40 : content.length)] = byte;
      try {
        const { length, atMs, values, qualities } = decodeChunk(forged(content), START);
        const sizes = [atMs.length, values.length, qualities.length];
        return length <= MAX_CHUNK_SAMPLES && sizes.every((size) => size === length);
      } catch (error) {
        return error instanceof RangeError;
      }
    }),
    { numRuns: 5_000 },
  );
});

t.test('a chunk is decoded alike whatever was decoded or encoded or failed before it', async (t) => {
  const chunk = encodeChunk(samplesOf(mixed));
  const before = decodeChunk(chunk, START);
  t.throws(() => decodeChunk(forged(Uint8Array.of(35, 0xd8, 4, 100, 255, 255, 255, 255)), START), RangeError);
  encodeChunk(samplesOf(everyTenth((i) => i * i * i)));
  t.same(decodeChunk(chunk, START), before);
  t.same(encodeChunk(samplesOf(mixed)), chunk);
});
