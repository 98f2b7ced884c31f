import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Level } from 'level';
import t, { type Test } from 'tap';
import { QUALITIES } from '../../src/core/channel.js';
import { systemClock } from '../../src/core/clock.js';
import type { AuditEntry, Store } from '../../src/core/ports.js';
import { MAX_WAITING } from '../../src/store/audit.js';
import { Database } from '../../src/store/database.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { LevelStore, openStore } from '../../src/store/store.js';
import { recordingLog } from '../fixtures/logs.js';
import { actionNamed, alertNamed, channelNamed, HandClock } from '../fixtures/store-records.js';
import { until } from '../fixtures/until.js';

const entry = (i: number) => ({ kind: 'action.start', who: 'agent', what: { i } });

async function opened(t: Test, { dataDir = t.testdir(), clock = new HandClock() } = {}) {
  const log = recordingLog();
  const store = await openStore({ dataDir, log, clock });
  t.teardown(() => store.stop());
  return { store, dataDir, clock, log };
}

interface Point {
  readonly atMs: number;
  readonly value: number;
  readonly quality: string;
}

async function points(store: LevelStore, id: string, { fromMs = 0, toMs = 1e14 } = {}): Promise<Point[]> {
  const list: Point[] = [];
  for await (const { length, atMs, values, qualities } of store.range(id, { fromMs, toMs })) {
    for (let i = 0; i < length; i++) {
      list.push({ atMs: atMs[i] ?? 0, value: values[i] ?? 0, quality: QUALITIES[qualities[i] ?? 0] ?? '' });
    }
  }
  return list;
}

// ---- The contract of the port, for both implementations ----

const implementations: Record<string, (t: Test) => Promise<Store>> = {
  LevelStore: async (t) => (await opened(t)).store,
  MemoryStore: async () => new MemoryStore({ clock: new HandClock(), why: 'a test', log: recordingLog() }),
};
for (const [name, make] of Object.entries(implementations)) {
  t.test(`${name} chains audit entries in the order of the calls`, async (t) => {
    const { audit } = await make(t);
    t.strictSame(audit.head(), { seq: 0, hash: '0'.repeat(64) });
    const entries = await Promise.all(Array.from({ length: 700 }, (_, i) => audit.append(entry(i))));
    t.strictSame(
      entries.map(({ seq, what }) => [seq, what]),
      entries.map((_, i) => [i + 1, { i }]),
    );
    t.strictSame(audit.head(), { seq: 700, hash: entries.at(-1)?.hash });
    t.match(await audit.verify(), { ok: true, entries: 700, head: audit.head() });
    t.strictSame(await audit.list({ fromSeq: 699, limit: 10 }), entries.slice(698));
    t.strictSame(await audit.list({ fromSeq: 1, limit: 2 }), entries.slice(0, 2));
    t.strictSame(await audit.list({ fromSeq: 1, limit: -1 }), []);
  });

  t.test(`${name} lists no more entries at once than a line of the socket has room for`, async (t) => {
    const { audit } = await make(t);
    const text = 'x'.repeat(40_000);
    const large = (i: number) => ({ kind: 'a.b', who: 'agent', what: { i, text } });
    await Promise.all(Array.from({ length: 120 }, (_, i) => audit.append(large(i))));
    const listed = await audit.list({ fromSeq: 1, limit: 120 });
    t.ok(listed.length > 50 && JSON.stringify(listed).length < 3.2 * 1024 * 1024, `${listed.length}`);
    t.equal(listed.at(-1)?.seq, listed.length);
  });

  t.test(`${name} keeps the entry as it was, whatever the caller does with his object`, async (t) => {
    const { audit } = await make(t);
    const what = { list: [1] };
    const appended = audit.append({ kind: 'a.b', who: 'agent', what });
    what.list.push(2);
    t.strictSame((await appended).what, { list: [1] });
    t.match(await audit.verify(), { ok: true });
  });

  t.test(`${name} answers with the latest version of each record, newest first`, async (t) => {
    const store = await make(t);
    for (let i = 1; i <= 5; i++) store.putAction(actionNamed(`nova:thermal:throttle_50:${i}`, { startedAtMs: i }));
    store.putAction(actionNamed('nova:thermal:throttle_50:2', { startedAtMs: 2, state: 'released', endedAtMs: 9 }));
    const actions = await store.actions({ limit: 4 });
    t.strictSame(
      actions.map(({ startedAtMs, state }) => [startedAtMs, state]),
      [
        [5, 'active'],
        [4, 'active'],
        [3, 'active'],
        [2, 'released'],
      ],
    );
    t.strictSame(await store.actions({ limit: 0 }), []);
  });

  t.test(`${name} knows which alerts stand`, async (t) => {
    const store = await make(t);
    store.putAlert(alertNamed('a', { sinceAtMs: 1 }));
    store.putAlert(alertNamed('b', { sinceAtMs: 2 }));
    store.putAlert(alertNamed('a', { sinceAtMs: 3, severity: 'critical' }));
    store.putAlert(alertNamed('b', { sinceAtMs: 2, severity: null, state: 'ok' }));
    t.match(await store.alerts({ standing: true, limit: 9 }), [{ id: 'a', severity: 'critical' }]);
    const all = await store.alerts({ limit: 9 });
    t.strictSame(
      all.map(({ id, severity }) => `${id} ${severity}`).sort(),
      ['a critical', 'b null'],
      'one episode each, in its latest version',
    );
  });

  t.test(`${name} finds state again, and its absence`, async (t) => {
    const store = await make(t);
    store.putState('bars', { thermal: 5 });
    store.putState('bars', { thermal: 6 });
    t.strictSame(await store.state('bars'), { thermal: 6 });
    store.putState('bars', undefined);
    t.equal(await store.state('bars'), undefined);
    t.equal(await store.state('never'), undefined);
    t.throws(() => store.putState('huge', 'x'.repeat(300_000)), RangeError);
  });
}

// ---- The database ----

t.test('everything is there again after a restart, and the chain goes on', async (t) => {
  const { store, dataDir } = await opened(t);
  await store.audit.append(entry(1));
  store.putAction(actionNamed('n:1', { startedAtMs: 1 }));
  store.putAlert(alertNamed('a'));
  store.putAlert(alertNamed('over', { severity: null }));
  store.putState('k', [1]);
  await store.stop();
  const again = (await opened(t, { dataDir })).store;
  t.match(await again.alerts({ standing: true, limit: 9 }), [{ id: 'a' }]);
  t.equal((await again.alerts({ limit: 9 })).length, 2);
  t.match(await again.actions({ limit: 9 }), [{ actionId: 'n:1' }]);
  t.strictSame(await again.state('k'), [1]);
  t.equal((await again.audit.append(entry(2))).seq, 2);
  t.match(await again.audit.verify(), { ok: true, entries: 2 });
  again.putAction(actionNamed('n:1', { startedAtMs: 77, state: 'released' }));
  t.equal((await again.actions({ limit: 9 })).length, 1, 'an open action stays filed under its first beginning');
});

t.test('a second opener is refused with SKOS_STORE_LOCKED and disturbs nothing', async (t) => {
  const { store, dataDir } = await opened(t);
  await t.rejects(openStore({ dataDir, log: recordingLog(), clock: systemClock }), { code: 'SKOS_STORE_LOCKED' });
  t.equal((await store.audit.append(entry(1))).seq, 1);
  await store.stop();
  await (await opened(t, { dataDir })).store.stop();
});

t.test('a database of a newer format is refused with SKOS_STORE_VERSION and left as it is', async (t) => {
  const dataDir = t.testdir();
  const level = new Level<string, string>(join(dataDir, 'db'));
  await level.put('mformat', '3');
  await level.put('zfuture', 'x');
  await level.close();
  await t.rejects(openStore({ dataDir, log: recordingLog(), clock: systemClock }), { code: 'SKOS_STORE_VERSION' });
  t.equal(await level.open().then(() => level.get('zfuture')), 'x');
  await level.close();
});

t.test('a data_dir that cannot be used is refused with SKOS_STORE_OPEN', async (t) => {
  const dataDir = join(t.testdir({ file: 'not a directory' }), 'file');
  await t.rejects(openStore({ dataDir, log: recordingLog(), clock: systemClock }), { code: 'SKOS_STORE_OPEN' });
});

t.test('stopping while busy writes all that was taken, and refuses what comes later', async (t) => {
  const { store, dataDir } = await opened(t);
  const before = Array.from({ length: 2_000 }, (_, i) => store.audit.append(entry(i)));
  store.putState('last', 1);
  const stopped = store.stop();
  await t.rejects(store.audit.append(entry(-1)), { code: 'SKOS_STORE_WRITE' });
  t.equal(store.stop(), stopped, 'stopping twice is stopping once');
  await stopped;
  t.equal((await Promise.all(before)).length, 2_000);
  const again = (await opened(t, { dataDir })).store;
  t.match(await again.audit.verify(), { ok: true, entries: 2_000 });
  t.equal(await again.state('last'), 1);
});

t.test('a store that never started can be stopped, and nobody has to listen to a refused entry', async (t) => {
  const store = new LevelStore({ dataDir: t.testdir(), log: recordingLog(), clock: systemClock });
  await store.stop();
  void store.audit.append(entry(1));
  await new Promise((resolve) => setImmediate(resolve));
});

t.test('stopping with a disk that hangs ends at the deadline, says so and rejects what waits', async (t) => {
  const log = recordingLog();
  const store = await openStore({ dataDir: t.testdir(), log, clock: systemClock, stopDeadlineMs: 200 });
  let letGo: () => void = () => undefined;
  t.intercept(Database.prototype, 'write', { value: () => new Promise<void>((resolve) => (letGo = resolve)) });
  const waiting = store.audit.append(entry(1));
  store.putState('k', 1);
  const startMs = performance.now();
  await store.stop();
  t.ok(performance.now() - startMs < 1_000);
  await t.rejects(waiting, { code: 'SKOS_STORE_WRITE' });
  t.match(log.lines, [{ fields: { code: 'SKOS_SHUTDOWN_DEADLINE', lost: 1 } }]);
  letGo();
});

t.test('reads while the store is being closed fail with a code or answer truly', async (t) => {
  const { store } = await opened(t);
  for (let i = 0; i < 3_000; i++) store.putAction(actionNamed(`n:${i}`, { startedAtMs: i }));
  await store.audit.append(entry(1));
  const reads = [store.actions({ limit: 3_000 }), store.audit.verify(), store.state('x')];
  const outcomes = await Promise.allSettled([...reads, store.stop()]);
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') t.match(outcome.reason, { code: 'SKOS_STORE_READ' });
  }
  await t.rejects(store.actions({ limit: 1 }), { code: 'SKOS_STORE_READ' });
});

t.test('the memory for waiting entries is bounded, and what did not fit is noted in the chain', async (t) => {
  const { store } = await opened(t);
  // In one turn of the event loop no round can finish, as with a disk that hangs.
  const promises = Array.from({ length: MAX_WAITING + 25 }, (_, i) => store.audit.append(entry(i)));
  const outcomes = await Promise.allSettled(promises);
  t.strictSame(
    outcomes.map(({ status }) => status),
    outcomes.map((_, i) => (i < MAX_WAITING ? 'fulfilled' : 'rejected')),
    'the oldest stay',
  );
  await store.audit.append(entry(-1));
  const [note] = (await store.audit.list({ fromSeq: 1, limit: 5_000 }))
    .concat(
      await store.audit.list({ fromSeq: 5_001, limit: 5_000 }),
      await store.audit.list({ fromSeq: 10_001, limit: 5_000 }),
    )
    .filter(({ kind }) => kind === 'audit.gap');
  t.match(note, { what: { refused: 25 } });
  t.match(await store.audit.verify(), { ok: true });
});

// ---- Tampering ----

async function tamper(dataDir: string, change: (level: Level<Buffer, Buffer>) => Promise<void>): Promise<void> {
  const level = new Level<Buffer, Buffer>(join(dataDir, 'db'), { keyEncoding: 'buffer', valueEncoding: 'buffer' });
  await change(level);
  await level.close();
}

const auditKeyOf = (seq: number) => Buffer.from([0x61, 0, 0, 0, 0, 0, 0, 0, seq]);

async function chainOf20(t: Test): Promise<string> {
  const { store, dataDir } = await opened(t);
  for (let i = 1; i <= 20; i++) void store.audit.append(entry(i));
  await store.stop();
  return dataDir;
}

t.test('verify names an entry that was changed, removed or exchanged in the database', async (t) => {
  const cases: [string, number, (level: Level<Buffer, Buffer>) => Promise<void>][] = [
    [
      'changed',
      7,
      async (level) =>
        level.put(
          auditKeyOf(7),
          Buffer.from((await level.get(auditKeyOf(7)))?.toString().replace('"i":7', '"i":8') ?? ''),
        ),
    ],
    ['reformatted', 7, async (level) => level.put(auditKeyOf(7), Buffer.from(`${await level.get(auditKeyOf(7))} `))],
    ['removed', 9, async (level) => level.del(auditKeyOf(9))],
    [
      'duplicated',
      11,
      async (level) => level.put(auditKeyOf(11), (await level.get(auditKeyOf(10))) ?? Buffer.alloc(0)),
    ],
    ['garbage', 3, async (level) => level.put(auditKeyOf(3), Buffer.from([0xff, 0xfe]))],
  ];
  for (const [name, firstBadSeq, change] of cases) {
    const dataDir = await chainOf20(t);
    await tamper(dataDir, change);
    const { store } = await opened(t, { dataDir });
    t.match(await store.audit.verify(), { ok: false, firstBadSeq, why: String }, name);
    await store.stop();
  }
});

t.test('entries that were cut off are told by the head mark; the chain goes on behind them and says so', async (t) => {
  const dataDir = await chainOf20(t);
  await tamper(dataDir, async (level) => {
    for (let seq = 15; seq <= 20; seq++) await level.del(auditKeyOf(seq));
  });
  const { store, log } = await opened(t, { dataDir });
  t.match(log.lines, [{ level: 'error', fields: { code: 'SKOS_AUDIT_BROKEN' } }]);
  const next = await store.audit.append(entry(21));
  t.equal(next.seq, 22, 'no number is used twice; 21 is the note');
  t.match(await store.audit.list({ fromSeq: 21, limit: 1 }), [
    { kind: 'audit.restart', what: { known: { seq: 20 }, found: { seq: 14 } } },
  ]);
  t.match(await store.audit.verify(), { ok: false, firstBadSeq: 15 });
  await store.stop();
  const again = await opened(t, { dataDir });
  t.strictSame(again.log.lines, [], 'it is said once');
  t.match(await again.store.audit.verify(), { ok: false, firstBadSeq: 15 });
});

t.test('a chain that was written anew is told by the head mark', async (t) => {
  const dataDir = await chainOf20(t);
  const other = await chainOf20(t);
  const mark = (await readFile(join(dataDir, 'audit-head'), 'utf8')).replace(/[0-9a-f]{64}/, 'e'.repeat(64));
  await writeFile(join(other, 'audit-head'), mark);
  const { store } = await opened(t, { dataDir: other });
  t.match(await store.audit.verify(), { ok: false });
  await store.audit.append(entry(21));
  t.match(await store.audit.verify(), { ok: false, firstBadSeq: 20 });
});

t.test('a lost or damaged mark is no reason not to start', async (t) => {
  const dataDir = await chainOf20(t);
  await writeFile(join(dataDir, 'audit-head'), 'rubbish');
  const { store, log } = await opened(t, { dataDir });
  t.match(log.lines, [{ fields: { code: 'SKOS_AUDIT_BROKEN' } }]);
  t.equal((await store.audit.append(entry(21))).seq, 21);
  t.match(await store.audit.verify(), { ok: true, entries: 21 });
});

// ---- The time series ----

t.test('samples come back exactly, across heads, chunks and restarts', async (t) => {
  const { store, dataDir, clock } = await opened(t);
  const channel = channelNamed('hwmon/chip/temp1');
  const expected: Point[] = [];
  const feed = (target: LevelStore, count: number) => {
    for (let i = 0; i < count; i++) {
      const quality = QUALITIES[i % 97 === 5 ? 1 + (i % 4) : 0] ?? 'ok';
      const value = -44_000 + ((i * 7919) % 13) * 500;
      target.sample(channel, quality === 'ok' ? value : null, quality, clock.monotonic);
      expected.push({ atMs: clock.wall, value: quality === 'ok' ? value : Number.NaN, quality });
      clock.advance(i % 500 === 499 ? 60_000 : 100);
    }
  };
  feed(store, 1_700);
  t.strictSame(await points(store, channel.id), expected, 'before anything is on disk');
  await store.stop();
  const again = (await opened(t, { dataDir, clock })).store;
  feed(again, 300);
  t.strictSame(await points(again, channel.id), expected, 'from disk and memory');
  const [fromMs, toMs] = [expected[650]?.atMs ?? 0, expected[1_950]?.atMs ?? 0];
  t.strictSame(await points(again, channel.id, { fromMs, toMs }), expected.slice(650, 1_950), 'a window is half-open');
  t.strictSame(await points(again, 'hwmon/never/seen'), []);
});

t.test('a value without ok is not kept, an ok without a value is no_data, and no reading is invented', async (t) => {
  const { store, clock } = await opened(t);
  const channel = channelNamed('hwmon/chip/temp1');
  store.sample(channel, 45_000, 'hung', clock.monotonic);
  store.sample(channel, null, 'ok', clock.monotonic + 1);
  store.sample(channel, -0, 'ok', clock.monotonic + 2);
  store.sample(channel, 1, 'ok', Number.NaN);
  const got = await points(store, channel.id);
  t.match(
    got.map(({ quality }) => quality),
    ['hung', 'no_data', 'ok'],
  );
  t.ok(Number.isNaN(got[0]?.value) && Number.isNaN(got[1]?.value) && Object.is(got[2]?.value, 0));
});

t.test('a clock that is set back loses no sample', async (t) => {
  const { store, clock } = await opened(t);
  const channel = channelNamed('hwmon/chip/temp1', 1_000);
  for (let i = 0; i < 1_300; i++) {
    if (i === 650) clock.wall -= 650;
    store.sample(channel, i, 'ok', clock.monotonic);
    clock.advance(1);
  }
  const values = (await points(store, channel.id)).map(({ value }) => value);
  t.strictSame(
    values.sort((a, b) => a - b),
    Array.from({ length: 1_300 }, (_, i) => i),
  );
});

t.test('many channels do not mix', async (t) => {
  const { store, clock } = await opened(t);
  const channels = Array.from({ length: 50 }, (_, i) => channelNamed(`hwmon/chip${i}/temp1`, 0.1 + i));
  for (let n = 0; n < 700; n++) {
    for (const [i, channel] of channels.entries()) store.sample(channel, n * 100 + i, 'ok', clock.monotonic);
    clock.advance(100);
  }
  for (const [i, channel] of channels.entries()) {
    const values = (await points(store, channel.id)).map(({ value }) => value);
    t.strictSame(
      values,
      Array.from({ length: 700 }, (_, n) => n * 100 + i),
    );
  }
});

t.test('the memory-only store says that it is one', async (t) => {
  const store = new MemoryStore({ clock: new HandClock(), why: 'no space', log: recordingLog() });
  t.match(store.health(), { ok: false, why: /memory only.*no space/ });
  t.equal(store.audit.durable, false);
  const entries: AuditEntry[] = [];
  for (let i = 0; i < 2_500; i++) entries.push(await store.audit.append(entry(i)));
  t.match(await store.audit.verify(), { ok: true, entries: 2_000, head: { seq: 2_500 } });
});

t.test('a raw log that cannot be written is told by health(), and is no failure of the store', async (t) => {
  const dataDir = t.testdir({ 'raw-log': 'not a directory' });
  const { store, clock } = await opened(t, { dataDir });
  t.strictSame(store.health(), { ok: true, why: 'open' });
  store.sample(channelNamed('hwmon/chip/temp1'), 1, 'ok', clock.monotonic);
  await until(() => /open; raw samples are in memory only/.test(store.health().why));
  t.equal(store.health().ok, true);
});
