import fc from 'fast-check';
import t from 'tap';
import {
  BlockBuilder,
  type BlockRecord,
  blockHeader,
  blockRecords,
  HEADER_BYTES,
  isIntact,
  MAX_BODY_BYTES,
} from '../../src/store/raw-log-block.js';

const record = {
  id: 'hwmon/a/temp1',
  source: 'hwmon',
  device: 'a',
  name: 'temp1',
  label: 'Größe "+12V"',
  quantity: 'temperatureMilliCelsius',
  class: 'cpu',
  firstAtMs: 1,
  lastAtMs: 2,
} as const;

const address = (channel: number) => ({ channel, startAtMs: 1_700_000_000_000, run: 7, ordinal: 2 ** 32 - 1 });

function block(): { bytes: Buffer; records: BlockRecord[] } {
  const builder = new BlockBuilder(7);
  const pieces = [
    { address: address(3), offset: 0, count: 2, bytes: Buffer.from([1, 2]) },
    { address: address(2 ** 32 - 1), offset: 70_000, count: 8_000, bytes: Buffer.alloc(5_000, 9) },
  ];
  builder.channel(3, record);
  for (const piece of pieces) builder.piece(piece);
  return { bytes: builder.take(), records: [{ number: 3, record }, ...pieces] };
}

t.test('what was put in comes out, in the same order', async (t) => {
  const { bytes, records } = block();
  t.strictSame(blockHeader(bytes), { version: 1, run: 7, length: bytes.length - HEADER_BYTES });
  t.ok(isIntact(bytes));
  t.strictSame([...blockRecords(bytes)], records);
});

t.test('a builder is empty after its block was taken, and the block is not touched any more', async (t) => {
  const builder = new BlockBuilder(1);
  builder.channel(1, record);
  const first = builder.take();
  const copy = Buffer.from(first);
  t.ok(builder.empty);
  builder.piece({ address: address(1), offset: 0, count: 1, bytes: Buffer.alloc(10_000, 1) });
  t.ok(first.equals(copy));
  t.equal([...blockRecords(builder.take())].length, 1);
});

t.test('a description that is too long is refused, and nothing of it is in the block', async (t) => {
  const builder = new BlockBuilder(1);
  t.notOk(builder.channel(1, { ...record, label: 'x'.repeat(100_000) }));
  t.ok(builder.empty);
});

t.test('no changed byte goes unnoticed', async (t) => {
  const { bytes } = block();
  const unnoticed: number[] = [];
  for (let at = 0; at < bytes.length; at++) {
    for (const bit of [1, 0x80]) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ bit;
      const header = blockHeader(changed);
      const sameLength = header?.length === bytes.length - HEADER_BYTES;
      if (header !== undefined && sameLength && isIntact(changed)) unnoticed.push(at);
    }
  }
  t.strictSame(unnoticed, []);
});

t.test('no header says a length that would have to be believed', async (t) => {
  const { bytes } = block();
  bytes.writeUInt32BE(MAX_BODY_BYTES + 1, 12);
  t.equal(blockHeader(bytes), undefined);
  t.equal(blockHeader(Buffer.alloc(HEADER_BYTES - 1)), undefined);
  t.equal(blockHeader(Buffer.alloc(HEADER_BYTES)), undefined);
});

t.test('records of garbage end with an error, in time proportional to the block', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (body) => {
      try {
        return [...blockRecords(Buffer.concat([Buffer.alloc(HEADER_BYTES), body]))].length <= body.length;
      } catch (error) {
        return error instanceof RangeError || error instanceof SyntaxError;
      }
    }),
    { numRuns: 3_000 },
  );
});
