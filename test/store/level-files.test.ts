/** LevelDB's files read without LevelDB, held against what LevelDB itself gives back. */
import { mkdirSync } from 'node:fs';
import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Level } from 'level';
import t, { type Test } from 'tap';
import { crc32c, type LevelDamage, readLevelFiles } from '../../src/store/level-files.js';
import { unsnap } from '../../src/store/snappy.js';
import { Random } from '../fixtures/random.js';

const ALL = { gte: Buffer.from([]), lt: Buffer.from([0xff, 0xff]) };
const TABLE_MAGIC = Buffer.from('57fb808b247547db', 'hex');
type Content = Map<string, string>;

interface Filled {
  readonly directory: string;
  readonly content: Content;
  /** All values that a key ever had. */
  readonly written: ReadonlyMap<string, ReadonlySet<string>>;
}

/** A database with several tables at several levels, overwritten and deleted keys, and a log. */
async function filled(t: Test): Promise<Filled> {
  const directory = t.testdir({});
  const random = new Random(7);
  const content: Content = new Map();
  const written = new Map<string, Set<string>>();
  const level = new Level<Buffer, Buffer>(directory, {
    keyEncoding: 'buffer',
    valueEncoding: 'buffer',
    writeBufferSize: 65_536,
  });
  await level.open();
  for (let round = 0; round < 60; round++) {
    const operations = Array.from({ length: 40 }, () => {
      const key = Buffer.from(`k${String(random.between(0, 900)).padStart(4, '0')}`);
      if (random.chance(0.2)) return { type: 'del' as const, key };
      // Both what Snappy makes small and what it leaves.
      const value = random.chance(0.5) ? Buffer.from(`${round}-`.repeat(60)) : random.bytes(random.between(0, 400));
      return { type: 'put' as const, key, value };
    });
    await level.batch(operations);
    for (const each of operations) {
      const key = each.key.toString();
      content.delete(key);
      if (each.type === 'del') continue;
      const value = each.value.toString('hex');
      content.set(key, value);
      written.set(key, (written.get(key) ?? new Set()).add(value));
    }
  }
  await level.close();
  // Closing breaks off a merge of tables; what it had not finished belongs to nobody.
  for (const name of await namesOf(directory, /\.ldb$/)) {
    const bytes = await readFile(join(directory, name));
    if (!bytes.subarray(-8).equals(TABLE_MAGIC)) await rm(join(directory, name));
  }
  return { directory, content: new Map([...content].sort(([a], [b]) => (a < b ? -1 : 1))), written };
}

async function read(directory: string, range = ALL): Promise<{ found: Content; damages: LevelDamage[] }> {
  const found: Content = new Map();
  const damages: LevelDamage[] = [];
  for await (const [key, value] of readLevelFiles(directory, { range, onDamage: (each) => damages.push(each) })) {
    found.set(key.toString(), value.toString('hex'));
  }
  return { found, damages };
}

const namesOf = async (directory: string, pattern: RegExp) =>
  (await readdir(directory)).filter((name) => pattern.test(name)).sort();

t.test('the newest version of each key is read, in order, from tables and log', async (t) => {
  const { directory, content } = await filled(t);
  t.ok((await namesOf(directory, /\.ldb$/)).length >= 2, 'there are several tables');
  const { found, damages } = await read(directory);
  t.strictSame([...found], [...content]);
  t.strictSame(damages, []);
});

t.test('a range is read alone', async (t) => {
  const { directory, content } = await filled(t);
  const { found } = await read(directory, { gte: Buffer.from('k0200'), lt: Buffer.from('k0300') });
  t.strictSame(
    [...found],
    [...content].filter(([key]) => key >= 'k0200' && key < 'k0300'),
  );
});

t.test('neither manifest nor CURRENT is needed, and files of others do no harm', async (t) => {
  const { directory, content } = await filled(t);
  for (const name of await namesOf(directory, /^(MANIFEST|CURRENT|LOCK|LOG)/)) await rm(join(directory, name));
  mkdirSync(join(directory, '000900.ldb'));
  await writeFile(join(directory, '000901.ldb'), '');
  await writeFile(join(directory, '000902.log'), 'no log at all, whatever its name says');
  await writeFile(join(directory, '000903.sst'), Buffer.alloc(5_000, 7));
  await writeFile(join(directory, 'notes.txt'), 'hello');
  const { found, damages } = await read(directory);
  t.strictSame([...found], [...content]);
  t.strictSame([...new Set(damages.map(({ file }) => file))].sort(), [
    '000900.ldb',
    '000901.ldb',
    '000902.log',
    '000903.sst',
  ]);
});

t.test('a wrong byte anywhere never gives a value that was not written', async (t) => {
  const { directory, content, written } = await filled(t);
  const random = new Random(11);
  let smaller = 0;
  for (let n = 0; n < 60; n++) {
    const name = random.one(await namesOf(directory, /\.(ldb|log)$/));
    const path = join(directory, name);
    const before = await readFile(path);
    const bytes = Buffer.from(before);
    const at = random.between(0, bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.between(0, 8));
    await writeFile(path, bytes);
    const { found, damages } = await read(directory);
    for (const [key, value] of found) {
      // An older version may come up where the newest is lost, and then it is said that something is.
      if (content.get(key) === value || (damages.length > 0 && written.get(key)?.has(value) === true)) continue;
      t.fail(`${name} at ${at}: ${key} is ${value}`);
    }
    if (found.size < content.size) smaller++;
    await writeFile(path, before);
  }
  t.ok(smaller > 0, `${smaller} of 60 lost something`);
  t.strictSame([...(await read(directory)).found], [...content]);
});

t.test('a file that was cut anywhere gives what is before the cut', async (t) => {
  const { directory, content } = await filled(t);
  const [log = ''] = await namesOf(directory, /\.log$/);
  const bytes = await readFile(join(directory, log));
  let last = Number.POSITIVE_INFINITY;
  for (const share of [1, 0.7, 0.4, 0]) {
    await truncate(join(directory, log), Math.floor(bytes.length * share));
    const { found } = await read(directory);
    const right = [...found].filter(([key, value]) => content.get(key) === value).length;
    t.ok(right <= last, `${right} of ${content.size} are right`);
    last = right;
  }
});

t.test('checksums and compressed data are those of the specifications', (t) => {
  // RFC 3720, B.4.
  t.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa);
  t.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8ab43);
  t.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  // A literal of two bytes, and a copy that overlaps itself.
  t.equal(unsnap(Buffer.from([8, 0x04, 0x61, 0x62, 0x09, 0x02]), 100).toString(), 'abababab');
  for (const bad of [[], [0x80], [5, 0x10, 0x61], [4, 0x01, 0x05], [9, 0x04, 0x61, 0x62], [255, 255, 255, 255, 127]]) {
    t.throws(() => unsnap(Buffer.from(bad), 100));
  }
  t.end();
});
