/** Taking a backup of an open database into a file. */
import {
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/core/clock.js';
import { BackupTarget, RecordStream, saveBackup, writeBackup } from '../../src/store/backup.js';
import { BackupReader, type BackupTotals, type Entry, entryBytes } from '../../src/store/backup-file.js';
import { Database, FORMAT_VERSION, type Operation } from '../../src/store/database.js';
import { textKey } from '../../src/store/keys.js';
import { BackupSource, verifyBackup } from '../../src/store/restore.js';
import { openStore } from '../../src/store/store.js';
import { recordingLog } from '../fixtures/logs.js';
import { alertNamed, channelNamed, HandClock } from '../fixtures/store-records.js';

const AT_MS = 1_767_322_800_000;
const ALL = { gte: Buffer.of(0), lt: Buffer.of(0xff) };

/** Beside the database, which has the test's own directory. */
function freshDirectory(t: Test): string {
  const directory = `${t.testdirName}-backup`;
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function databaseWith(t: Test, records: number, valueBytes = 100): Promise<Database> {
  const database = new Database(t.testdir());
  await database.open();
  t.teardown(() => database.close());
  const operations = Array.from({ length: records }, (_, i): Operation => {
    const value = Buffer.from(`${i} `.repeat(valueBytes).slice(0, valueBytes));
    return { type: 'put', key: textKey('s', `key-${String(i).padStart(6, '0')}`), value };
  });
  await database.write(operations, { sync: false });
  return database;
}

async function entriesOf(database: Database): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of database.scan(ALL)) entries.push(entry);
  return entries;
}

async function readFile(path: string) {
  const reader = await BackupReader.open(createReadStream(path));
  const entries: Entry[] = [];
  const batches = reader.batches();
  for (;;) {
    const { done, value } = await batches.next();
    if (done === true) return { header: reader.header, entries, totals: value as BackupTotals };
    entries.push(...value.entries);
  }
}

t.test('a file holds every key and value of the database, and says what it is', async (t) => {
  const database = await databaseWith(t, 5_000);
  const path = join(freshDirectory(t), 'b.skos');
  const totals = await writeBackup({ database, path, node: 'nova', atMs: AT_MS });
  const found = await readFile(path);
  t.strictSame(found.entries, await entriesOf(database));
  t.strictSame(found.totals, totals);
  t.match(found.header, { node: 'nova', format: FORMAT_VERSION, atMs: AT_MS, withKeys: false, auditHead: { seq: 0 } });
  t.match(found.header.notIncluded.join(), /keys of the audit chain.*configuration/);
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.strictSame(readdirSync(join(path, '..')), ['b.skos'], 'and nothing else is left');
});

t.test('is of one moment: what is written or deleted meanwhile changes nothing', async (t) => {
  const database = await databaseWith(t, 3_000);
  const before = await entriesOf(database);
  const stream = await RecordStream.open(database);
  const first = await stream.next(10_000);
  const changes = before.flatMap(([key]): Operation[] => [
    { type: 'del', key },
    { type: 'put', key: Buffer.concat([key, Buffer.from('x')]), value: Buffer.from('new') },
  ]);
  await database.write(changes, { sync: false });
  const pieces = [first?.bytes ?? Buffer.alloc(0)];
  for (;;) {
    const piece = await stream.next(10_000);
    if (piece === undefined) break;
    t.ok(piece.bytes.length <= 10_000);
    pieces.push(piece.bytes);
  }
  await stream.close();
  await stream.close();
  t.strictSame(Buffer.concat(pieces), Buffer.concat(before.map((entry) => entryBytes(...entry))));
});

t.test('its audit head is that of the chain in it', async (t) => {
  const dataDir = t.testdir();
  const store = await openStore({ dataDir, log: recordingLog(), clock: new HandClock() });
  for (let i = 0; i < 5; i++) await store.audit.append({ kind: 'action.start', who: 'agent', what: { i } });
  const head = store.audit.head();
  await store.stop();
  const database = new Database(dataDir);
  await database.open();
  t.teardown(() => database.close());
  const stream = await RecordStream.open(database);
  t.strictSame(stream.facts.auditHead, head);
  await stream.close();
});

t.test(
  'of a store that is written to, it holds all that was acknowledged before, and its chain is whole',
  async (t) => {
    const store = await openStore({ dataDir: t.testdir(), log: recordingLog(), clock: systemClock });
    t.teardown(() => store.stop());
    const channel = channelNamed('hwmon/chip/temp1');
    let isWriting = true;
    let acknowledged = 0;
    const writing = (async () => {
      for (let i = 0; isWriting; i++) {
        store.putAlert(alertNamed(`a${i % 50}`, { updatedAtMs: i }));
        store.sample(channel, 40_000 + (i % 7), 'ok', systemClock.monotonicMs());
        const entries = [1, 2, 3].map((n) => store.audit.append({ kind: 'test', who: 'agent', what: { i, n } }));
        acknowledged = Math.max(...(await Promise.all(entries)).map(({ seq }) => seq));
      }
    })();
    for (let round = 0; round < 5; round++) {
      await new Promise((resolve) => setTimeout(resolve, 30));
      const before = acknowledged;
      const snapshot = await store.snapshot();
      t.strictSame(snapshot.missing, []);
      const path = join(freshDirectory(t), 'b.skos');
      const target = new BackupTarget(path);
      await target.open();
      const facts = { node: 'nova', program: '0', atMs: 1, withKeys: false, notIncluded: [], ...snapshot.facts };
      async function* pieces() {
        for (let piece = await snapshot.next(4_096); piece !== undefined; piece = await snapshot.next(4_096))
          yield piece;
      }
      await saveBackup({ facts, pieces: pieces(), keys: [], write: (bytes) => target.write(bytes) });
      await target.commit();
      await snapshot.close();
      const source = await BackupSource.open(path);
      const { chain } = await verifyBackup(source);
      await source.close();
      t.equal(chain.fault, undefined);
      t.ok(chain.head.seq >= before && before > 0, `${before} acknowledged, ${chain.head.seq} in the backup`);
      const { entries } = await readFile(path);
      t.ok(
        entries.some(([key]) => key[0] === 't'.charCodeAt(0)),
        'samples of a head that was open are in it',
      );
    }
    isWriting = false;
    await writing;
  },
);

t.test('replaces no file, unless it is told to', async (t) => {
  const database = await databaseWith(t, 10);
  const directory = freshDirectory(t);
  const path = join(directory, 'b.skos');
  writeFileSync(path, 'precious');
  const options = { database, path, node: null, atMs: AT_MS };
  await t.rejects(writeBackup(options), { code: 'SKOS_BACKUP_EXISTS' });
  t.equal(readFileSync(path, 'utf8'), 'precious');
  await writeBackup({ ...options, force: true });
  t.equal((await readFile(path)).header.node, null);
  t.strictSame(readdirSync(directory), ['b.skos']);
});

t.test('leaves nothing behind when the database cannot be read to the end', async (t) => {
  const database = await databaseWith(t, 20_000);
  const directory = freshDirectory(t);
  const writing = writeBackup({ database, path: join(directory, 'b.skos'), node: 'nova', atMs: AT_MS });
  await new Promise((resolve) => setTimeout(resolve, 5));
  await database.close();
  await t.rejects(writing, { code: 'SKOS_STORE_READ' });
  t.strictSame(readdirSync(directory), []);
});

t.test('says so when the directory is not there', async (t) => {
  const database = await databaseWith(t, 10);
  const path = join(freshDirectory(t), 'nowhere', 'b.skos');
  await t.rejects(writeBackup({ database, path, node: 'nova', atMs: AT_MS }), { code: 'SKOS_BACKUP_WRITE' });
  t.notOk(existsSync(path));
});

t.test('a snapshot that was closed keeps nobody from closing the database', async (t) => {
  const database = await databaseWith(t, 10);
  const stream = await RecordStream.open(database);
  await stream.next(10);
  await database.close();
  await t.rejects(stream.next(1_000_000), { code: 'SKOS_STORE_READ' });
  await stream.close();
});
