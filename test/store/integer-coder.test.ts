import fc from 'fast-check';
import t from 'tap';
import {
  putNumber,
  putSigned,
  SERIES_MODELS,
  SeriesDecoder,
  SeriesEncoder,
  takeNumber,
  takeSigned,
} from '../../src/store/integer-coder.js';
import { RangeDecoder, RangeEncoder } from '../../src/store/range-coder.js';

const MAX = 2 ** 52;
const encoder = new RangeEncoder(2 * SERIES_MODELS);
const decoder = new RangeDecoder(2 * SERIES_MODELS);
const bytes = new Uint8Array(65_536);

function within(put: () => void): Uint8Array {
  encoder.begin(bytes, 0);
  put();
  return bytes.slice(0, encoder.finish(0));
}

const anyInteger = fc.oneof(
  fc.integer({ min: -3, max: 3 }),
  fc.integer({ min: 0, max: 51 }).chain((bits) => fc.integer({ min: -(2 ** bits), max: 2 ** bits })),
  fc.constantFrom(MAX, -MAX, MAX - 1, 2 ** 31, 2 ** 31 - 1, 2 ** 32, -(2 ** 32) - 1, 16, 15),
);

t.test('numbers of any size come back', async () => {
  const property = fc.property(fc.array(anyInteger, { maxLength: 50 }), (list) => {
    decoder.begin(
      within(() => {
        for (const value of list) {
          putSigned(encoder, value);
          putNumber(encoder, Math.abs(value));
        }
      }),
    );
    return list.every((value) => takeSigned(decoder) === value && takeNumber(decoder) === Math.abs(value));
  });
  fc.assert(property, { numRuns: 300 });
});

t.test('two series in one stream come back, whatever their sizes', async () => {
  const integers = fc.oneof(
    fc.array(anyInteger, { maxLength: 300 }),
    fc.array(fc.integer({ min: -1, max: 1 }), { maxLength: 300 }),
    fc.tuple(anyInteger, fc.nat(300)).map(([value, count]) => Array<number>(count).fill(value)),
  );
  const property = fc.property(integers, integers, (first, second) => {
    const stream = within(() => {
      new SeriesEncoder(encoder, 0).put(Float64Array.from(first), first.length);
      new SeriesEncoder(encoder, SERIES_MODELS).put(Float64Array.from(second), second.length);
    });
    decoder.begin(stream);
    const into = new Float64Array(300);
    new SeriesDecoder(decoder, 0).take(into, first.length);
    if (!first.every((value, i) => into[i] === value)) return false;
    new SeriesDecoder(decoder, SERIES_MODELS).take(into, second.length);
    return second.every((value, i) => into[i] === value);
  });
  fc.assert(property, { numRuns: 300 });
});

t.test('garbage throws RangeError or yields integers, no more than were asked for', async () => {
  const property = fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(600), (stream, count) => {
    const into = new Float64Array(600).fill(Number.NaN);
    decoder.begin(stream);
    try {
      new SeriesDecoder(decoder, 0).take(into, count);
      return into.every((value, i) => (i < count ? Number.isInteger(value) : Number.isNaN(value)));
    } catch (error) {
      return error instanceof RangeError;
    }
  });
  fc.assert(property, { numRuns: 2_000 });
});
