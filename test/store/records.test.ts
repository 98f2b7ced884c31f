import t, { type Test } from 'tap';
import type { RecordKind } from '../../src/core/ports.js';
import { number, object, string } from '../../src/core/shape.js';
import { Database } from '../../src/store/database.js';
import { historyKey, namedKey, PREFIX, textKey } from '../../src/store/keys.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { openStore } from '../../src/store/store.js';
import { recordingLog } from '../fixtures/logs.js';
import { alertNamed, HandClock } from '../fixtures/store-records.js';

interface Lesson {
  readonly what: string;
  readonly tries: number;
}

const LESSON: RecordKind<Lesson> = {
  name: 'lesson',
  version: 1,
  shape: object({ what: string({ max: 1_000 }), tries: number({ min: 0, integer: true }) }),
  upgrades: [],
  maxCount: 5,
  maxBytes: 600,
};
/** Version 1 had a word and a count under other names; version 2 renamed one. */
const LESSON_3: RecordKind<Lesson> = {
  ...LESSON,
  version: 3,
  upgrades: [
    (older) => ({ what: (older as { word: string }).word, count: (older as { count: number }).count }),
    (older) => ({ what: (older as { what: string }).what, tries: (older as { count: number }).count }),
  ],
};

async function opened(t: Test, dataDir = t.testdir()) {
  const log = recordingLog();
  const store = await openStore({ dataDir, log, clock: new HandClock() });
  t.teardown(() => store.stop());
  return { store, dataDir, log };
}

async function put(dataDir: string, entries: readonly (readonly [Buffer, string])[]): Promise<void> {
  const database = new Database(dataDir);
  await database.open();
  const operations = entries.map(([key, text]) => ({ type: 'put', key, value: Buffer.from(text) }) as const);
  await database.write(operations, { sync: true });
  await database.close();
}

async function stored(dataDir: string, key: Buffer): Promise<string | undefined> {
  const database = new Database(dataDir);
  await database.open();
  const value = await database.get(key);
  await database.close();
  return value?.toString('utf8');
}

const lesson = (tries: number): Lesson => ({ what: 'throttle', tries });

t.test('keeps records over a restart, the latest version of each', async (t) => {
  const { store, dataDir } = await opened(t);
  const records = store.records(LESSON);
  await records.load();
  records.put('a', lesson(1));
  records.put('a', lesson(2));
  records.put('b/c d', lesson(3));
  records.put('gone', lesson(4));
  records.remove('gone');
  t.strictSame(records.get('a'), lesson(2));
  await store.stop();
  const again = (await opened(t, dataDir)).store.records(LESSON);
  t.equal(again.get('a'), undefined, 'not before it is read');
  await again.load();
  t.strictSame(
    [...again.all()],
    [
      ['a', lesson(2)],
      ['b/c d', lesson(3)],
    ],
  );
});

t.test('writes {"v":…,"record":…} and does not mix kinds', async (t) => {
  const { store, dataDir } = await opened(t);
  const [short, long] = [store.records({ ...LESSON, name: 'les' }), store.records(LESSON)];
  long.put('a', lesson(1));
  await short.load();
  t.equal(short.all().size, 0);
  await store.stop();
  t.equal(await stored(dataDir, namedKey('lesson', 'a')), '{"v":1,"record":{"what":"throttle","tries":1}}');
});

t.test('reads older versions by their upgrades, and rewrites only what is put', async (t) => {
  const dataDir = t.testdir();
  const first = '{"v":1,"record":{"word":"a","count":1}}';
  await put(dataDir, [
    [namedKey('lesson', 'a'), first],
    [namedKey('lesson', 'b'), '{"v":2,"record":{"what":"b","count":2}}'],
    [namedKey('lesson', 'c'), '{"v":3,"record":{"what":"c","tries":3}}'],
    [namedKey('lesson', 'd'), '{"v":1,"record":{"nothing":true}}'],
  ]);
  const { store, log } = await opened(t, dataDir);
  const records = store.records(LESSON_3);
  await records.load();
  t.strictSame(
    [...records.all().values()],
    [1, 2, 3].map((n) => ({ what: 'abc'[n - 1], tries: n })),
  );
  t.equal(log.lines.filter(({ fields }) => fields.event === 'store.damaged').length, 1, 'what no upgrade makes whole');
  await store.stop();
  t.equal(await stored(dataDir, namedKey('lesson', 'a')), first);
});

t.test('passes over what is damaged or of a later version, says it once, and never overwrites the later', async (t) => {
  const dataDir = t.testdir();
  const later = '{"v":7,"record":{"wisdom":"of another program"}}';
  await put(dataDir, [
    [namedKey('lesson', 'later'), later],
    [namedKey('lesson', 'torn'), '{"v":1,"record":{"what":'],
    [namedKey('lesson', 'odd'), '{"v":"x","record":{}}'],
    [namedKey('lesson', 'null'), 'null'],
    [namedKey('lesson', 'whole'), '{"v":1,"record":{"what":"w","tries":1}}'],
  ]);
  const { store, log } = await opened(t, dataDir);
  const records = store.records(LESSON);
  await Promise.all([records.load(), records.load()]);
  t.strictSame([...records.all().keys()], ['whole']);
  const said = log.lines.filter(({ fields }) => fields.event === 'store.damaged');
  t.equal(said.length, 4);
  t.ok(said.every(({ message, fields }) => fields.found !== undefined && message.includes('nlesson~00')));
  records.put('later', lesson(1));
  records.put('torn', lesson(2));
  t.strictSame(records.get('later'), lesson(1), 'in memory it counts');
  records.remove('later');
  await store.stop();
  t.equal(await stored(dataDir, namedKey('lesson', 'later')), later);
  t.match(await stored(dataDir, namedKey('lesson', 'torn')), /"tries":2/);
});

t.test('what is put before it is read is not undone by reading', async (t) => {
  const { store, dataDir } = await opened(t);
  const before = store.records(LESSON);
  for (const id of ['a', 'b', 'c']) before.put(id, lesson(1));
  await store.stop();
  const records = (await opened(t, dataDir)).store.records(LESSON);
  const loading = records.load();
  records.put('a', lesson(2));
  records.remove('b');
  await loading;
  t.strictSame(Object.fromEntries(records.all()), { a: lesson(2), c: lesson(1) });
});

t.test('is bounded by count and bytes', async (t) => {
  const { store, dataDir } = await opened(t);
  const records = store.records(LESSON);
  for (let i = 0; i < 8; i++) records.put(`n${i}`, lesson(i));
  t.strictSame([...records.all().keys()], ['n3', 'n4', 'n5', 'n6', 'n7'], 'the oldest went');
  t.throws(() => records.put('x', { what: 'y'.repeat(700), tries: 1 }), RangeError);
  t.throws(() => records.put('x', { what: 'y', tries: -1 }), RangeError);
  t.throws(() => records.put('', lesson(1)), RangeError);
  t.throws(() => records.put('i'.repeat(600), lesson(1)), RangeError);
  t.throws(() => store.records(LESSON), RangeError, 'two of one kind would not know of each other');
  await store.stop();
  const again = (await opened(t, dataDir)).store.records(LESSON);
  await again.load();
  t.equal(again.all().size, 5);
});

t.test('a store in memory has the same port', async (t) => {
  const store = new MemoryStore({ clock: new HandClock(), why: 'a test', log: recordingLog() });
  const records = store.records(LESSON);
  await records.load();
  records.put('a', lesson(1));
  t.strictSame(records.get('a'), lesson(1));
  records.remove('a');
  t.equal(records.all().size, 0);
  store.outbox.put('mqtt', { kind: 'alert', data: 1 });
  t.match(await store.outbox.read('mqtt', 10), [{ seq: 1, data: 1 }]);
});

t.test(
  'alerts: stored with their version, read without one as format 1 has them, passed over when later',
  async (t) => {
    const { store, dataDir } = await opened(t);
    store.putAlert(alertNamed('new', { sinceAtMs: 5 }));
    await store.stop();
    t.match(
      await stored(dataDir, textKey(PREFIX.alertStanding, 'new')),
      /^\{"v":1,"record":\{"startedAtMs":5,"record":/,
    );
    const key = (id: string) => historyKey(PREFIX.alertHistory, { startedAtMs: 1, id });
    const bare = JSON.stringify(alertNamed('bare', { sinceAtMs: 1 }));
    await put(dataDir, [
      [key('bare'), bare],
      [textKey(PREFIX.alertStanding, 'bare'), `{"startedAtMs":1,"record":${bare}}`],
      [key('later'), '{"v":2,"record":{"id":"later"}}'],
      [key('not-whole'), '{"v":1,"record":{}}'],
      [textKey(PREFIX.alertStanding, 'not-whole'), '{}'],
    ]);
    const again = await opened(t, dataDir);
    t.strictSame(
      (await again.store.alerts({ limit: 10 })).map(({ id }) => id),
      ['new', 'bare'],
    );
    t.strictSame(
      (await again.store.alerts({ standing: true, limit: 10 })).map(({ id }) => id),
      ['new', 'bare'],
    );
    await again.store.alerts({ limit: 10 });
    t.equal(again.log.lines.filter(({ fields }) => fields.event === 'store.damaged').length, 3, 'each is said once');
  },
);
