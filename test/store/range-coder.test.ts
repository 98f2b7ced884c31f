import fc from 'fast-check';
import t from 'tap';
import { SERIES_MODELS, SeriesDecoder } from '../../src/store/integer-coder.js';
import { MAX_DIRECT_BITS, RangeDecoder } from '../../src/store/range-coder.js';

const decoder = new RangeDecoder(SERIES_MODELS);

t.test('garbage and the end of the stream yield bits, in bounds', async () => {
  const step = fc.record({ model: fc.nat(SERIES_MODELS), bits: fc.integer({ min: 1, max: MAX_DIRECT_BITS }) });
  const property = fc.property(
    fc.uint8Array({ maxLength: 60 }),
    fc.array(step, { maxLength: 3_000 }),
    (stream, list) => {
      decoder.begin(stream);
      try {
        return list.every(({ model, bits }) => {
          const value = model < SERIES_MODELS ? decoder.bit(model) : decoder.direct(bits);
          return Number.isInteger(value) && value >= 0 && value < 2 ** (model < SERIES_MODELS ? 1 : bits);
        });
      } catch (error) {
        return error instanceof RangeError;
      }
    },
  );
  fc.assert(property, { numRuns: 500 });
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
