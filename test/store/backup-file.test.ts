/** The file of a backup: what goes in comes out, and nothing of it can be changed unnoticed. */
import { createHash } from 'node:crypto';
import { brotliCompressSync, constants, crc32 } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import {
  BACKUP_VERSION,
  BackupEncoder,
  type BackupFacts,
  BackupReader,
  type BackupTotals,
  BLOCK_BYTES,
  type Entry,
  entryBytes,
  type KeyFile,
} from '../../src/store/backup-file.js';

const FACTS: BackupFacts = {
  node: 'nova',
  program: '0.1.0',
  format: 1,
  atMs: 1_767_322_800_000,
  auditHead: { seq: 7, hash: 'ab'.repeat(32) },
  withKeys: false,
  approximateBytes: 12_345,
  notIncluded: ['configuration files'],
};

interface Content {
  readonly entries: readonly Entry[];
  readonly keys?: readonly KeyFile[];
  readonly facts?: Partial<BackupFacts>;
  /** How the stream of records is cut. */
  readonly pieceBytes?: number;
}

async function fileOf({ entries, keys = [], facts = {}, pieceBytes = 1_000 }: Content) {
  const parts: Buffer[] = [];
  const encoder = new BackupEncoder(async (bytes) => void parts.push(bytes));
  await encoder.header({ ...FACTS, withKeys: keys.length > 0, ...facts });
  const stream = Buffer.concat(entries.map((entry) => entryBytes(...entry)));
  for (let at = 0; at < stream.length; at += pieceBytes) await encoder.records(stream.subarray(at, at + pieceBytes));
  await encoder.keys(keys);
  const totals = await encoder.end();
  return { file: Buffer.concat(parts), totals };
}

async function* cut(file: Buffer, chunkBytes: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < file.length; at += chunkBytes) yield file.subarray(at, at + chunkBytes);
}

async function read(file: Buffer, chunkBytes = 64 * 1024) {
  const reader = await BackupReader.open(cut(file, chunkBytes));
  const found = { records: [] as Entry[], keys: [] as Entry[] };
  const batches = reader.batches();
  for (;;) {
    const { done, value } = await batches.next();
    if (done === true) return { header: reader.header, ...found, totals: value as BackupTotals };
    found[value.kind].push(...value.entries);
  }
}

function entriesOf(count: number, valueBytes = 40): Entry[] {
  return Array.from({ length: count }, (_, i) => [
    Buffer.from(`k${String(i).padStart(8, '0')}`),
    Buffer.alloc(valueBytes, i),
  ]);
}

t.test('gives back every record and key, however the streams are cut', async (t) => {
  const uniqueEntries = fc
    .uniqueArray(fc.tuple(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ maxLength: 300 })), {
      maxLength: 60,
      selector: ([key]) => Buffer.from(key).toString('hex'),
    })
    .map((pairs) => pairs.map(([key, value]): Entry => [Buffer.from(key), Buffer.from(value)]))
    .map((entries) => entries.sort(([a], [b]) => Buffer.compare(a, b)));
  const size = fc.integer({ min: 1, max: 4_000 });
  await fc.assert(
    fc.asyncProperty(uniqueEntries, size, size, fc.boolean(), async (entries, pieceBytes, chunkBytes, withKeys) => {
      const keys = withKeys ? [{ name: 'audit-1.pem', content: Buffer.from('secret') }] : [];
      const { file, totals } = await fileOf({ entries, keys, pieceBytes });
      const found = await read(file, chunkBytes);
      t.strictSame(found.records, entries);
      t.strictSame(
        found.keys,
        keys.map(({ name, content }) => [Buffer.from(name), content]),
      );
      t.strictSame(found.totals, totals);
      t.match(found.header, { ...FACTS, withKeys, what: 'skos-backup', version: BACKUP_VERSION });
    }),
    { numRuns: 60 },
  );
});

t.test('keeps records that are larger than a block, and many blocks', async (t) => {
  const entries: Entry[] = [...entriesOf(3_000, 400), [Buffer.from('z'), Buffer.alloc(3 * BLOCK_BYTES + 17, 0x5a)]];
  const { file, totals } = await fileOf({ entries, pieceBytes: 100_000 });
  const found = await read(file, 7_777);
  t.strictSame(found.records, entries);
  t.equal(totals.records, 3_001);
});

t.test('states its SHA-256 as any other tool computes it', async (t) => {
  const { file, totals } = await fileOf({ entries: entriesOf(5) });
  t.equal(totals.sha256, createHash('sha256').update(file).digest('hex'));
  t.equal(totals.fileBytes, file.length);
});

t.test('notices every byte that is changed, to whatever value, in header, blocks and end alike', async (t) => {
  const keys = [{ name: 'audit-1.pem', content: Buffer.from('secret') }];
  const { file } = await fileOf({ entries: entriesOf(20, 12), keys });
  for (let at = 0; at < file.length; at++) {
    for (const difference of [0x01, 0x80, 1 + ((at * 31) % 255)]) {
      const changed = Buffer.from(file);
      changed[at] = (changed[at] ?? 0) ^ difference;
      await t.rejects(read(changed), { code: /^SKOS_BACKUP_(DAMAGED|VERSION)$/ }, `byte ${at} ^ ${difference}`);
    }
  }
});

t.test('notices every truncation and whatever is appended', async (t) => {
  const { file } = await fileOf({ entries: entriesOf(20, 12) });
  for (let bytes = 0; bytes < file.length; bytes++) {
    await t.rejects(read(file.subarray(0, bytes)), { code: 'SKOS_BACKUP_DAMAGED' }, `${bytes} bytes`);
  }
  for (const more of ['\0', '\n', 'x'.repeat(10_000), file.toString('latin1')]) {
    await t.rejects(read(Buffer.concat([file, Buffer.from(more, 'latin1')])), { code: 'SKOS_BACKUP_DAMAGED' });
  }
});

t.test('notices a block that is left out, doubled or exchanged, each with its good checksum', async (t) => {
  const entries = entriesOf(4 * 700, 400);
  const { file } = await fileOf({ entries, pieceBytes: BLOCK_BYTES });
  const bounds = blockBounds(file);
  t.ok(bounds.length > 4, `${bounds.length} blocks`);
  const part = (i: number) => file.subarray(bounds[i]?.[0], bounds[i]?.[1]);
  const header = file.subarray(0, bounds[0]?.[0]);
  const all = bounds.map((_, i) => part(i));
  const without = [header, ...all.slice(0, 1), ...all.slice(2)];
  const doubled = [header, ...all.slice(0, 2), ...all.slice(1)];
  const exchanged = [header, part(1), part(0), ...all.slice(2)];
  for (const parts of [without, doubled, exchanged]) {
    await t.rejects(read(Buffer.concat(parts)), { code: 'SKOS_BACKUP_DAMAGED' });
  }
});

function blockBounds(file: Buffer): [number, number][] {
  const bounds: [number, number][] = [];
  for (let at = file.indexOf('\n') + 1; at < file.length; ) {
    const end = at + 13 + file.readUInt32BE(at + 5);
    bounds.push([at, end]);
    at = end;
  }
  return bounds;
}

t.test('refuses what is no backup, and what a newer version made', async (t) => {
  for (const text of ['', '\n', '{}\n', 'null\n', '[1]\n', '{"what":"skos-backup"}\n', 'x'.repeat(200_000)]) {
    await t.rejects(read(Buffer.from(text)), { code: 'SKOS_BACKUP_DAMAGED' }, text.slice(0, 30));
  }
  const { file } = await fileOf({ entries: [] });
  const newer = Buffer.from(file.toString('latin1').replace('"version":1', '"version":2'), 'latin1');
  await t.rejects(read(newer), { code: 'SKOS_BACKUP_VERSION' });
});

t.test('is not made to allocate by a length that somebody made up', async (t) => {
  const { file } = await fileOf({ entries: entriesOf(2) });
  const headerEnd = file.indexOf('\n') + 1;
  for (const [unpacked, packed] of [
    [0xffffffff, 10],
    [10, 0xffffffff],
  ] as const) {
    const block = Buffer.alloc(13 + 10);
    block.writeUInt8(0x52, 0);
    block.writeUInt32BE(unpacked, 1);
    block.writeUInt32BE(packed, 5);
    await t.rejects(read(Buffer.concat([file.subarray(0, headerEnd), block])), { code: 'SKOS_BACKUP_DAMAGED' });
  }
  // Packed a thousandfold: what it says and what comes out must agree before anything is kept.
  const params = { [constants.BROTLI_PARAM_QUALITY]: 1 };
  const bomb = brotliCompressSync(Buffer.alloc(64 * 1024 * 1024), { params });
  t.ok(bomb.length < BLOCK_BYTES);
  const head = Buffer.alloc(13);
  head.writeUInt8(0x52, 0);
  head.writeUInt32BE(1_000, 1);
  head.writeUInt32BE(bomb.length, 5);
  head.writeUInt32BE(crc32(bomb, crc32(head.subarray(0, 9))), 9);
  const before = process.memoryUsage.rss();
  await t.rejects(read(Buffer.concat([file.subarray(0, headerEnd), head, bomb])), { code: 'SKOS_BACKUP_DAMAGED' });
  t.ok(process.memoryUsage.rss() - before < 32 * 1024 * 1024);
});

t.test('refuses keys whose name leads out of their directory', async (t) => {
  for (const name of ['../agent', '/etc/passwd', '.hidden', '', 'a/b', 'a'.repeat(200), 'a\0b']) {
    const { file } = await fileOf({ entries: [], keys: [{ name, content: Buffer.from('x') }] });
    await t.rejects(read(file), { code: 'SKOS_BACKUP_DAMAGED' }, JSON.stringify(name));
  }
});

t.test('writes no stream of records that no reader would take', async (t) => {
  const [first, second] = entriesOf(2);
  const stream = (...entries: (Entry | undefined)[]) =>
    fileOf({ entries: entries.filter((entry): entry is Entry => entry !== undefined) });
  await t.rejects(stream(second, first), { code: 'SKOS_BACKUP_DAMAGED' }, 'out of order');
  await t.rejects(stream(first, first), { code: 'SKOS_BACKUP_DAMAGED' }, 'twice');
  const encoder = new BackupEncoder(async () => undefined);
  await encoder.header(FACTS);
  await encoder.records(Buffer.from([0, 3, 0, 0]));
  await t.rejects(encoder.end(), { code: 'SKOS_BACKUP_DAMAGED' }, 'cut off');
});
