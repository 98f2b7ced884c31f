/** Damaged files: what LevelDB recovers is used, what it cannot is set aside and never deleted. */
import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openStore } from '../../src/store/store.js';
import { recordingLog } from '../fixtures/logs.js';
import { actionNamed, HandClock } from '../fixtures/store-records.js';

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

const damages: Record<string, (dataDir: string) => Promise<void>> = {
  'MANIFEST is garbage': async (dataDir) => writeFile(await fileOf(dataDir, /^MANIFEST-/), 'rubbish rubbish rubbish'),
  'MANIFEST is gone': async (dataDir) => rm(await fileOf(dataDir, /^MANIFEST-/)),
  'CURRENT is gone': async (dataDir) => rm(await fileOf(dataDir, /^CURRENT$/)),
  'CURRENT is empty': async (dataDir) => truncate(await fileOf(dataDir, /^CURRENT$/), 0),
  'a table is gone': async (dataDir) => rm(await fileOf(dataDir, /\.ldb$/)),
};
for (const [name, damage] of Object.entries(damages)) {
  t.test(`${name}: the database is set aside whole, and a new chain links to the last known head`, async (t) => {
    const dataDir = await filled(t);
    // The second opening turns the log into a table.
    await (await reopened(t, dataDir)).store.stop();
    await damage(dataDir);
    const before = (await readdir(join(dataDir, 'db'))).filter((each) => /\d/.test(each));
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
