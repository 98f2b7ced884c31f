import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { chunkHeader, decodeChunk } from '../../src/store/chunk.js';

const START = 1_700_000_000_000;
const bytes = (hex: string) => Buffer.from(hex, 'hex');
const stored = (hex: string) => decodeChunk(bytes(hex), START);
const times = (count: number, of: (i: number) => number) => Array.from({ length: count }, (_, i) => START + of(i));

t.test('plain chunks of integers and floats, and deflated ones, stay readable', async (t) => {
  const integers = stored('0004b60203000202010001c80100011490bf05e8070203616911c3');
  t.same(
    [...integers.atMs],
    [0, 100, 200, 310].map((ms) => START + ms),
  );
  t.same([...integers.qualities], [0, 0, 2, 0]);
  t.same([...integers.values], [45_000, 46_000, Number.NaN, 44_000]);
  t.same([...stored('020264010002c801000000000000e03f000000000000f4bf0b0709d5').values], [0.5, -1.25]);
  const deflated = stored('01d804fcd3036364b8c1728291e11acb84fdac2fd899c0807b941aa5a8490100fd20119f');
  t.same(
    [...deflated.values],
    [...Array(600).keys()].map((i) => 45_000 + 1_000 * (i % 7)),
  );
  t.equal(deflated.atMs[599], START + 59_900);
});

const MIXED =
  '043cdf2c200051306f943b2706a7b9aaf42bc287ec8cde3564d67edd4d520df1a17c0321dc156c4ffea1ed0e661aebd2b2698fb3a0fe93fb9cddcb733f' +
  '450a7285611325e8a898a279fe91dd89bcc3bd18be5fd89d406f00715f5a9bd8e4c52442444ee0acdfc21a837cc0869c290fdaa985cdaa0d287285aca662';

t.test('range-coded chunks stay readable', async (t) => {
  const even = stored(
    '1cd804642bd017b305f2fb5e2689b249f82caae7fcc7b2066c371cc6b4019be95be6b81aac49ffdaddf0936d1108eb65a249f509a767555974c30e61' +
      'd27662334f68b602ba0767aea96131b0fe3ac87d32fa2c6a41465b8299e953d3d0845a0fd9a02b554f5a7e1b',
  );
  t.same(
    [...even.values],
    [...Array(600).keys()].map((i) => 45_000 + 1_000 * (i % 7)),
  );
  t.same(
    [...even.atMs],
    times(600, (i) => i * 100),
  );
  const constant = stored('1cac02e807021ef7b18b82');
  t.same([...constant.values], Array(300).fill(-7));
  t.same(
    [...stored('1c0864b3ffffd301ff8075e280000000070c1cff239c0599312c569334').values],
    [...Array(8).keys()].map((i) => (i % 2 === 1 ? 1 : -1) * 2 ** (43 + i)),
  );
  t.same([...stored('0c05646ec6c240b3').qualities], Array(5).fill(3));
  const mixed = stored(MIXED);
  t.same(
    [...mixed.values],
    [...Array(60).keys()].map((i) => (i === 20 || i === 40 || i === 0 ? Number.NaN : i ** 3 - 1_000)),
  );
  t.same(
    [...mixed.atMs],
    times(60, (i) => i * 97 + (i % 5)),
  );
  t.match(chunkHeader(bytes(MIXED)), { length: 60, spanMs: 59 * 97 + 4 });
});

t.test('every cut and every wrong byte of a stored chunk is noticed', async (t) => {
  const good = bytes(MIXED);
  for (let at = 0; at < good.length; at++) {
    const wrong = Buffer.from(good);
    wrong[at] = (wrong[at] ?? 0) ^ (1 + (at % 255));
    t.throws(() => decodeChunk(wrong, START), RangeError);
    t.throws(() => decodeChunk(good.subarray(0, at), START), RangeError);
  }
});

t.test('what was forged with a right check sum throws or decodes to bounded data, and never runs away', async () => {
  const plain = [[], [0], [1], [2], [0, 10, 5], [2, 3, 5], [0, 0xd8, 4, 0]];
  const coded = [4, 12, 20, 28].flatMap((flags) => [[flags], [flags, 9, 100], [flags, 0xd8, 4, 100]]);
  const start = fc.constantFrom(...plain, ...coded);
  const property = fc.property(start, fc.uint8Array({ maxLength: 400 }), (first, rest) => {
    const content = Uint8Array.from([...first, ...rest]);
    const chunk = Buffer.concat([content, Buffer.alloc(4)]);
    chunk.writeUInt32BE(crc32(content), content.length);
    try {
      const { length, atMs, values, qualities } = decodeChunk(chunk, START);
      return length <= 600 && [atMs, values, qualities].every((column) => column.length === length);
    } catch (error) {
      return error instanceof Error;
    }
  });
  fc.assert(property, { numRuns: 5_000 });
});
