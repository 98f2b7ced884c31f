import fc from 'fast-check';
import t from 'tap';
import { MAX_DIRECT_BITS, RangeDecoder, RangeEncoder } from '../../src/store/range-coder.js';

const MODELS = 5;

/** A bit under a model, or plain bits where `model` is MODELS. */
interface Step {
  readonly model: number;
  readonly value: number;
  readonly bits: number;
}

const modelled = (most: number) =>
  fc.record({ model: fc.nat(MODELS - 1), value: fc.integer({ min: 0, max: most }), bits: fc.constant(1) });
const plain = fc
  .integer({ min: 1, max: MAX_DIRECT_BITS })
  .chain((bits) => fc.record({ model: fc.constant(MODELS), value: fc.nat(2 ** bits - 1), bits: fc.constant(bits) }));
// Runs of one bit drive a model to its end, where an interval is narrowest; runs of ones make carries run far.
const steps = fc.oneof(
  fc.array(modelled(1), { maxLength: 3_000, size: 'max' }),
  fc.array(modelled(0), { maxLength: 3_000, size: 'max' }),
  fc.array(fc.oneof({ weight: 30, arbitrary: modelled(0) }, modelled(1), plain), { maxLength: 3_000, size: 'max' }),
  fc.array(plain, { maxLength: 500 }),
);

const encoder = new RangeEncoder(MODELS);
const decoder = new RangeDecoder(MODELS);
const bytes = new Uint8Array(16_384);

function encoded(list: readonly Step[], at = 0): Uint8Array {
  encoder.begin(bytes, at);
  for (const { model, value, bits } of list) {
    if (model < MODELS) encoder.bit(model, value);
    else encoder.direct(value, bits);
  }
  return bytes.slice(at, encoder.finish(at));
}

t.test('bits come back as they were, from any place of a buffer, without a byte before it changed', async () => {
  const property = fc.property(steps, fc.nat(9), (list, at) => {
    bytes.fill(255, 0, at);
    const stream = encoded(list, at);
    decoder.begin(stream);
    const alike = list.every(({ model, value, bits }) =>
      model < MODELS ? decoder.bit(model) === value : decoder.direct(bits) === value,
    );
    return alike && bytes.subarray(0, at).every((byte) => byte === 255);
  });
  fc.assert(property, { numRuns: 500 });
});

t.test('bits that never change cost next to nothing, and bits without order cost one bit', async (t) => {
  const of = (value: (i: number) => number) =>
    encoded(Array.from({ length: 8_000 }, (_, i) => ({ model: 0, value: value(i), bits: 1 }))).length;
  t.ok(of(() => 0) <= 12);
  t.ok(of(() => 1) <= 14);
  const noise = of((i) => (Math.imul(i ^ (i >>> 3), 2_654_435_761) >>> 15) & 1);
  t.ok(noise <= 1_010, `${noise} B`);
});

t.test('garbage and the end of the stream yield bits, in bounds', async () => {
  const property = fc.property(fc.uint8Array({ maxLength: 60 }), steps, (stream, list) => {
    decoder.begin(stream);
    try {
      return list.every(({ model, bits }) => {
        const value = model < MODELS ? decoder.bit(model) : decoder.direct(bits);
        return Number.isInteger(value) && value >= 0 && value < 2 ** bits;
      });
    } catch (error) {
      return error instanceof RangeError;
    }
  });
  fc.assert(property, { numRuns: 500 });
});
