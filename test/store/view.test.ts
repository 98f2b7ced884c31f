import t, { type Test } from 'tap';
import { Database, type Operation } from '../../src/store/database.js';
import { prefixRange } from '../../src/store/keys.js';
import { View } from '../../src/store/view.js';
import { Random } from '../fixtures/random.js';

const RANGE = prefixRange('t');

async function opened(t: Test): Promise<Database> {
  const database = new Database(t.testdir());
  await database.open();
  t.teardown(() => database.close());
  return database;
}

function put(name: string, value: string): Operation {
  return { type: 'put', key: Buffer.from(`t${name}`), value: Buffer.from(value) };
}

function del(name: string): Operation {
  return { type: 'del', key: Buffer.from(`t${name}`) };
}

function waiting(...operations: Operation[]): (readonly [string, Operation])[] {
  return operations.map((operation) => [operation.key.toString('latin1'), operation]);
}

async function entries(view: View, options = {}): Promise<string[]> {
  const list: string[] = [];
  for await (const [key, value] of view.scan({ ...RANGE, ...options })) list.push(`${key.subarray(1)}=${value}`);
  return list;
}

t.test('shows what is stored with what waits', async (t) => {
  const database = await opened(t);
  await database.write([put('b', '1'), put('d', '1'), put('e', '1')], { sync: false });
  const view = new View(database, waiting(put('f', '2'), put('a', '2'), del('d'), put('b', '2'), del('c')));
  t.strictSame(await entries(view), ['a=2', 'b=2', 'e=1', 'f=2']);
  t.strictSame(await entries(view, { reverse: true }), ['f=2', 'e=1', 'b=2', 'a=2']);
  t.strictSame(await entries(view, { limit: 2 }), ['a=2', 'b=2']);
  t.strictSame(await entries(view, { limit: 0 }), []);
  t.strictSame(await entries(view, { reverse: true, limit: 1 }), ['f=2']);
  t.strictSame(await entries(view, { gte: Buffer.from('tb'), lt: Buffer.from('te') }), ['b=2']);
  await view.close();
});

t.test('stays as it was, whatever is written meanwhile', async (t) => {
  const database = await opened(t);
  await database.write([put('a', '1'), put('b', '1')], { sync: false });
  const view = new View(database, []);
  await database.write([put('a', '2'), del('b'), put('c', '2')], { sync: false });
  await database.compact(RANGE);
  t.strictSame(await entries(view), ['a=1', 'b=1']);
  await view.close();
  const later = new View(database, []);
  t.strictSame(await entries(later), ['a=2', 'c=2']);
  await later.close();
});

t.test('any stored and waiting operations: as if they had been written', async (t) => {
  const random = new Random(3);
  const database = await opened(t);
  for (let round = 0; round < 40; round++) {
    const names = Array.from({ length: random.between(0, 300) }, () => String(random.between(0, 400)));
    const operations = new Map(names.map((name) => [name, random.chance(0.3) ? del(name) : put(name, `${round}`)]));
    const view = new View(database, waiting(...operations.values()));
    const reverse = random.chance(0.5);
    const limit = random.chance(0.5) ? { limit: random.between(1, 50) } : {};
    const before = await entries(view, { reverse, ...limit });
    await view.close();
    await database.write([...operations.values()], { sync: false });
    const written = new View(database, []);
    t.strictSame(before, await entries(written, { reverse, ...limit }));
    await written.close();
  }
});

t.test('a closed database cannot be viewed', async (t) => {
  const database = new Database(t.testdir());
  t.throws(() => new View(database, []), { code: 'SKOS_STORE_READ' });
});

t.test('a database that closes under a reader ends his scan with an error', async (t) => {
  const database = new Database(t.testdir());
  await database.open();
  await database.write([put('a', '1')], { sync: false });
  const view = new View(database, []);
  await database.close();
  await t.rejects(entries(view), { code: 'SKOS_STORE_READ' });
  await view.close();
});
