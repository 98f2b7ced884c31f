import fc from 'fast-check';
import t from 'tap';
import { BitReader, BitWriter } from '../../src/store/bits.js';

const out = new BitWriter(4_096);
const bits = new BitReader();

const plain = fc.integer({ min: 1, max: 24 }).chain((count) => fc.tuple(fc.constant(count), fc.nat(2 ** count - 1)));
const number = fc.oneof(
  fc.nat(9),
  fc.integer({ min: 0, max: 53 }).map((power) => 2 ** power - 1),
  fc.integer({ min: 0, max: 52 }).map((power) => 2 ** power),
  fc.maxSafeNat(),
);
const step = fc.record({ plain, number, signed: fc.maxSafeInteger(), small: fc.nat(2 ** 19), align: fc.boolean() });

t.test('numbers of all kinds come back in their order, across full bytes', async () => {
  const property = fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    out.begin();
    for (const each of steps) {
      out.bits(each.plain[1], each.plain[0]);
      out.number(each.number);
      if (each.align) out.align();
      out.signed(each.signed);
      out.small(each.small);
    }
    out.align();
    const bytes = out.copied(0);
    bits.begin(bytes, 0);
    const alike = steps.every((each) => {
      if (bits.bits(each.plain[0]) !== each.plain[1] || bits.number() !== each.number) return false;
      if (each.align) bits.align();
      return bits.signed() === each.signed && bits.small() === each.small;
    });
    return alike && bits.at === bytes.length;
  });
  fc.assert(property, { numRuns: 500 });
});

t.test('the end of the bytes and numbers that are too long are refused', async (t) => {
  bits.begin(new Uint8Array(2), 0);
  t.throws(() => bits.bits(17), RangeError);
  bits.begin(Uint8Array.of(63, 255, 255, 255, 255, 255, 255, 255, 255), 0);
  t.throws(() => bits.number(), RangeError, 'a length of 63 bits');
  bits.begin(new Uint8Array(9), 0);
  t.throws(() => bits.small(), RangeError, 'zeros without an end');
});
