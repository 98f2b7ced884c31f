import fc from 'fast-check';
import t from 'tap';
import { ByteReader } from '../../src/store/byte-reader.js';

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
}

t.test('reads what stands there, one behind the other', async () => {
  const property = fc.property(fc.maxSafeNat(), fc.uint8Array(), fc.nat(255), (number, bytes, byte) => {
    const reader = new ByteReader(Buffer.from([9, ...varint(number), ...bytes, byte, 1, 2]), 1);
    const isSame = reader.varint() === number && reader.bytes(bytes.length).equals(Buffer.from(bytes));
    return (
      isSame && reader.byte() === byte && !reader.isAtEnd && reader.rest().equals(Buffer.of(1, 2)) && reader.isAtEnd
    );
  });
  fc.assert(property, { numRuns: 300 });
});

t.test('throws RangeError at the end, at a number that is too large, and at one that does not end', async (t) => {
  t.throws(() => new ByteReader(Buffer.of(1)).bytes(2), RangeError);
  t.throws(() => new ByteReader(Buffer.alloc(0)).byte(), RangeError);
  t.throws(() => new ByteReader(Buffer.of(0x80)).varint(), RangeError);
  t.equal(new ByteReader(Buffer.from(varint(300))).varint(300), 300);
  t.throws(() => new ByteReader(Buffer.from(varint(301))).varint(300), RangeError);
  t.throws(() => new ByteReader(Buffer.alloc(10_000, 0x80)).varint(), RangeError, 'zeros without an end');
});
