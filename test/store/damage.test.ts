/** Damaged files: what LevelDB recovers is used, what it cannot is set aside and never deleted. */
import { mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Level } from 'level';
import t, { type Test } from 'tap';
import { Database } from '../../src/store/database.js';
import { openStore } from '../../src/store/store.js';
import { recordingLog } from '../fixtures/logs.js';
import { actionNamed, alertNamed, channelNamed, HandClock } from '../fixtures/store-records.js';
import { storedSamples } from '../fixtures/stored-samples.js';

const ENTRIES = 200;

/** A store that was stopped with ENTRIES audit entries; they are in its write-ahead log, not in a table yet. */
async function filled(t: Test): Promise<string> {
  const dataDir = t.testdir({});
  const store = await openStore({ dataDir, log: recordingLog(), clock: new HandClock() });
  for (let i = 1; i <= ENTRIES; i++) await store.audit.append({ kind: 'test.append', who: 'agent', what: { i } });
  await store.stop();
  return dataDir;
}

async function reopened(t: Test, dataDir: string) {
  const log = recordingLog();
  const store = await openStore({ dataDir, log, clock: new HandClock() });
  t.teardown(() => store.stop());
  return { store, log };
}

async function fileOf(dataDir: string, pattern: RegExp): Promise<string> {
  const name = (await readdir(join(dataDir, 'db')))
    .filter((each) => pattern.test(each))
    .sort()
    .at(-1);
  if (name === undefined) throw new Error(`no file ${pattern}`);
  return join(dataDir, 'db', name);
}

const setAsideOf = async (dataDir: string) => (await readdir(dataDir)).filter((name) => name.startsWith('db.damaged-'));

t.test('a log that was cut short keeps what is before the cut; the loss is noted and never hidden', async (t) => {
  for (const share of [0.9, 0.5, 0]) {
    const dataDir = await filled(t);
    const path = await fileOf(dataDir, /\.log$/);
    await truncate(path, Math.floor((await readFile(path)).length * share));
    const { store, log } = await reopened(t, dataDir);
    t.match(log.lines, [{ fields: { code: 'SKOS_AUDIT_BROKEN' } }], `share ${share}`);
    const { seq } = await store.audit.append({ kind: 'test.after', who: 'agent', what: {} });
    t.equal(seq, ENTRIES + 2, 'no number is used twice');
    const [note] = await store.audit.list({ fromSeq: ENTRIES + 1, limit: 1 });
    t.match(note, { kind: 'audit.restart', what: { known: { seq: ENTRIES } } });
    // With nothing left before it, the note is the beginning of the chain; the note itself says what is missing.
    t.equal((await store.audit.verify()).ok, share === 0);
    await store.stop();
  }
});

t.test('a log with a wrong byte in the middle loses entries, and that shows', async (t) => {
  const dataDir = await filled(t);
  const path = await fileOf(dataDir, /\.log$/);
  const bytes = await readFile(path);
  const middle = Math.floor(bytes.length / 2);
  bytes[middle] = (bytes[middle] ?? 0) ^ 0xff;
  await writeFile(path, bytes);
  const { store } = await reopened(t, dataDir);
  await store.audit.append({ kind: 'test.after', who: 'agent', what: {} });
  t.match(await store.audit.verify(), { ok: false, why: String });
});

async function asDirectory(path: string): Promise<void> {
  await rm(path);
  await mkdir(path);
}

const damages: Record<string, (dataDir: string) => Promise<void>> = {
  'MANIFEST is garbage': async (dataDir) => writeFile(await fileOf(dataDir, /^MANIFEST-/), 'rubbish rubbish rubbish'),
  'MANIFEST is gone': async (dataDir) => rm(await fileOf(dataDir, /^MANIFEST-/)),
  'CURRENT is gone': async (dataDir) => rm(await fileOf(dataDir, /^CURRENT$/)),
  'CURRENT is empty': async (dataDir) => truncate(await fileOf(dataDir, /^CURRENT$/), 0),
  'MANIFEST is a directory': async (dataDir) => asDirectory(await fileOf(dataDir, /^MANIFEST-/)),
  'CURRENT is a directory': async (dataDir) => asDirectory(await fileOf(dataDir, /^CURRENT$/)),
  'CURRENT names nothing': async (dataDir) => writeFile(await fileOf(dataDir, /^CURRENT$/), 'MANIFEST-999999\n'),
  'a table is empty': async (dataDir) => truncate(await fileOf(dataDir, /\.ldb$/), 0),
  'a table ends in zeros': async (dataDir) => {
    const path = await fileOf(dataDir, /\.ldb$/);
    const bytes = await readFile(path);
    await writeFile(path, bytes.fill(0, bytes.length - 48));
  },
  'a table is a directory': async (dataDir) => asDirectory(await fileOf(dataDir, /\.ldb$/)),
  'a table is gone': async (dataDir) => rm(await fileOf(dataDir, /\.ldb$/)),
};
for (const [name, damage] of Object.entries(damages)) {
  t.test(`${name}: the database is set aside whole, and a new chain links to the last known head`, async (t) => {
    const dataDir = await filled(t);
    // The second opening turns the log into a table.
    await (await reopened(t, dataDir)).store.stop();
    await damage(dataDir);
    // LevelDB itself opens a database whose tables are damaged, and writes its log and its manifest anew.
    const lasting = name.startsWith('a table') ? /\.ldb$/ : /\d/;
    const before = (await readdir(join(dataDir, 'db'))).filter((each) => lasting.test(each));
    const { store, log } = await reopened(t, dataDir);
    t.match(
      log.lines.map(({ fields }) => fields.event),
      ['store.set_aside', 'audit.broken'],
    );
    const { seq } = await store.audit.append({ kind: 'test.after', who: 'agent', what: {} });
    t.equal(seq, ENTRIES + 2);
    const aside = await setAsideOf(dataDir);
    t.equal(aside.length, 1);
    const kept = await readdir(join(dataDir, aside[0] ?? ''));
    t.strictSame(
      before.filter((each) => !kept.includes(each)),
      [],
      'nothing was deleted',
    );
    const [note] = await store.audit.list({ fromSeq: 1, limit: 1 });
    t.match(note, { kind: 'audit.restart', seq: ENTRIES + 1, what: { known: { seq: ENTRIES }, setAside: String } });
    t.match(await store.audit.verify(), { ok: true, entries: 2 });
    await store.stop();
    const again = await reopened(t, dataDir);
    t.strictSame(again.log.lines, [], 'from then on it is an ordinary database');
  });
}

t.test('a database that was set aside before is not overwritten by the next', async (t) => {
  const dataDir = await filled(t);
  for (let n = 1; n <= 3; n++) {
    await writeFile(join(dataDir, 'db', 'CURRENT'), 'rubbish');
    const { store } = await reopened(t, dataDir);
    await store.audit.append({ kind: 'test.after', who: 'agent', what: {} });
    await store.stop();
    t.equal((await setAsideOf(dataDir)).length, n);
  }
});

t.test('a damaged record is passed over and said, the others are shown', async (t) => {
  const dataDir = await filled(t);
  const { Level } = await import('level');
  const level = new Level<Buffer, Buffer>(join(dataDir, 'db'), { keyEncoding: 'buffer', valueEncoding: 'buffer' });
  await level.put(Buffer.from('x\0\0\0\0\0\0\0\x05bad'), Buffer.from('{"actionId":'));
  await level.put(Buffer.from('Xbad'), Buffer.from('{'));
  await level.close();
  const { store, log } = await reopened(t, dataDir);
  store.putAction(actionNamed('good'));
  t.match(await store.actions({ limit: 10 }), [{ actionId: 'good' }]);
  t.match(log.lines, [{ fields: { code: 'SKOS_STORE_READ' } }, { fields: { code: 'SKOS_STORE_READ' } }]);
});

t.test('a file in the place of the database is set aside, and one that is locked is left alone', async (t) => {
  const dataDir = t.testdir({ db: 'not a directory' });
  const { store } = await reopened(t, dataDir);
  await store.audit.append({ kind: 'test.after', who: 'agent', what: {} });
  t.equal((await setAsideOf(dataDir)).length, 1);
  await t.rejects(openStore({ dataDir, log: recordingLog(), clock: new HandClock() }), { code: 'SKOS_STORE_LOCKED' });
  t.equal((await setAsideOf(dataDir)).length, 1);
  t.match(await store.audit.verify(), { ok: true });
});

t.test('a database that was set aside is told when the one in its place opens at last', async (t) => {
  const dataDir = await filled(t);
  // Whoever has it open keeps the next from opening the fresh one, too: LevelDB knows its locks by name.
  const other = new Level<Buffer, Buffer>(join(dataDir, 'db'));
  await other.open();
  await rm(join(dataDir, 'db', 'CURRENT'));
  const database = new Database(dataDir);
  await t.rejects(database.open(), { code: 'SKOS_STORE_LOCKED' });
  await other.close();
  const { setAside } = await database.open();
  t.teardown(() => database.close());
  t.match(setAside, { why: /CURRENT/ });
  t.strictSame(await setAsideOf(dataDir), [basename(setAside?.path ?? '')]);
  t.notOk((await database.reopen()).setAside, 'once');
});

t.test('a clock that is set years ahead and back again deletes nothing and breaks nothing', async (t) => {
  const dataDir = t.testdir({});
  const clock = new HandClock();
  const log = recordingLog();
  const channel = channelNamed('hwmon/chip/temp1', 10);
  const YEAR_MS = 365 * 24 * 3_600_000;
  const store = await openStore({ dataDir, log, clock });
  const times: number[] = [];
  for (const years of [0, 10, -10]) {
    clock.wall += years * YEAR_MS;
    for (let i = 0; i < 50; i++) {
      store.sample(channel, clock.wall % 100_000, 'ok', clock.monotonic);
      times.push(clock.wall);
      clock.advance(100);
    }
    await store.audit.append({ kind: 'test.clock', who: 'agent', what: { years } });
    store.putAlert(alertNamed(`at-${years}`, { sinceAtMs: clock.wall }));
    await store.maintain();
    // What the clock was set by is noticed when samples are written, at the latest: here, now.
    await (await store.snapshot()).close();
  }
  // Samples of a clock that is set back are as old as they say, once it is right again; everything else stays.
  for (const years of [-30, 30]) {
    clock.wall += years * YEAR_MS;
    await store.audit.append({ kind: 'test.clock', who: 'agent', what: { years } });
    store.putAlert(alertNamed(`at-${years}`, { sinceAtMs: clock.wall }));
    await store.maintain();
  }
  await store.stop();
  const again = (await reopened(t, dataDir)).store;
  const found: number[] = [];
  const everything = { channel: channel.id, fromAtMs: 0, toAtMs: Number.MAX_SAFE_INTEGER };
  for await (const { atMs, value } of storedSamples(again, everything)) {
    t.equal(value, atMs % 100_000);
    found.push(atMs);
  }
  t.strictSame(
    found,
    times.toSorted((a, b) => a - b),
  );
  t.equal((await again.alerts({ limit: 10 })).length, 5);
  t.match(await again.audit.verify(), { ok: true });
  t.strictSame(
    log.lines.filter(({ level }) => level === 'error'),
    [],
  );
});
