import fc from 'fast-check';
import t from 'tap';
import { BitReader, BitWriter } from '../../src/store/bits.js';
import { readColumn, writeColumn } from '../../src/store/column.js';
import { MAX_COLUMN_LENGTH } from '../../src/store/rans.js';

const MAX = 2 ** 50;
const out = new BitWriter(MAX_COLUMN_LENGTH * 18 + 16_384);
const bits = new BitReader();
const into = new Float64Array(MAX_COLUMN_LENGTH);

function written(numbers: readonly number[]): Uint8Array {
  out.begin();
  writeColumn(out, Float64Array.from(numbers), numbers.length);
  return out.copied(0);
}

function comesBack(numbers: readonly number[]): boolean {
  const bytes = written(numbers);
  bits.begin(bytes, 0);
  readColumn(bits, into, numbers.length);
  return bits.at === bytes.length && numbers.every((number, i) => Object.is(into[i], number));
}

const column = (number: fc.Arbitrary<number>, maxLength: number) =>
  fc.array(number, { minLength: 1, maxLength, size: 'max' });
const anyInteger = fc.oneof(
  fc.integer({ min: -3, max: 3 }),
  fc.integer({ min: 0, max: 50 }).chain((power) => fc.integer({ min: -(2 ** power), max: 2 ** power })),
  fc.constantFrom(MAX, -MAX, MAX - 1, 2_047, 2_048, -2_048, -2_049, 4_095, 2 ** 31, 2 ** 32, -(2 ** 32) - 1),
);

t.test('integers of any size come back, one after the other and mixed', async () => {
  fc.assert(fc.property(column(anyInteger, 600), comesBack), { numRuns: 300 });
});

t.test('numbers that are no integers come back, and so do a negative zero and what is infinite', async () => {
  const number = fc.oneof(fc.double(), fc.constantFrom(-0, 0, Number.NaN, Infinity, -Infinity, MAX + 1, 2 ** 53));
  fc.assert(fc.property(column(number, 300), comesBack), { numRuns: 200 });
});

t.test('columns of the greatest length come back, of few integers, of many, and of all sizes', async (t) => {
  const hash = (i: number) => Math.imul(i, 2_654_435_761) >>> 0;
  const of = (number: (i: number) => number) => Array.from({ length: MAX_COLUMN_LENGTH }, (_, i) => number(i));
  t.ok(comesBack(of((i) => i % 2)));
  t.ok(comesBack(of((i) => (i === 4_000 ? 1 : 0))));
  t.ok(comesBack(of((i) => hash(i) % 3)));
  t.ok(comesBack(of(hash)));
  // More integers that come again than an alphabet has symbols: 700 small ones, each alone, and 300 large ones.
  t.ok(comesBack(of((i) => (hash(i) % 700) * 5)));
  t.ok(comesBack(of((i) => ((hash(i) % 300) + 1) ** 4)));
  t.ok(comesBack(of((i) => (hash(i) % 2 === 0 ? 1 : -1) * Math.floor(2 ** ((hash(i + 1) % 501) / 10)))));
  t.ok(comesBack(of((i) => (i % 2 === 0 ? MAX : -MAX))));
  t.ok(comesBack(of((i) => MAX - i)));
});

t.test('integers without order cost their bits and next to nothing more', async (t) => {
  for (const power of [1, 4, 8, 12, 20]) {
    const list = Array.from({ length: 8_000 }, (_, i) => (Math.imul(i ^ (i >>> 5), 2_654_435_761) >>> 0) % 2 ** power);
    // Differences of such take half a bit more than they do as levels.
    t.ok(written(list).length <= (8_000 * (power + 0.6)) / 8 + 40, `${power} bits: ${written(list).length} B`);
  }
});

t.test('garbage throws RangeError or yields numbers, no more than were asked for', async () => {
  const good = [
    written([1, 5, 2, 9, 2, 2, 2, 40_000, 1]),
    written(Array.from({ length: 500 }, (_, i) => i ** 3)),
    written(Array.from({ length: 500 }, (_, i) => i / 3)),
  ];
  const wrong = fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 4 });
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.tuple(fc.constantFrom(...good), wrong).map(([from, changes]) => {
      const changed = Uint8Array.from(from);
      for (const [at, byte] of changes) if (at < changed.length) changed[at] = byte;
      return changed;
    }),
  );
  const property = fc.property(bytes, fc.integer({ min: 1, max: 600 }), (stream, count) => {
    const target = new Float64Array(601).fill(7);
    bits.begin(stream, 0);
    try {
      readColumn(bits, target, count);
      return bits.at <= stream.length && target.subarray(count).every((number) => number === 7);
    } catch (error) {
      return error instanceof RangeError && target.subarray(count).every((number) => number === 7);
    }
  });
  fc.assert(property, { numRuns: 5_000 });
});
