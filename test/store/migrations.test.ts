import { spawn } from 'node:child_process';
import { chmod, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { Breakers } from '../../src/control/breakers.js';
import { parseAction } from '../../src/core/action-names.js';
import { SkosError } from '../../src/core/errors.js';
import { decodeBuckets } from '../../src/store/bucket-chunk.js';
import { bucketsOf, SECOND_MS } from '../../src/store/buckets.js';
import { decodeChunk } from '../../src/store/chunk.js';
import { Database, FORMAT_VERSION } from '../../src/store/database.js';
import { chunkStartAtMs } from '../../src/store/keys.js';
import { KEPT_BACKUPS, migrate } from '../../src/store/migrations.js';
import { openStore } from '../../src/store/store.js';
import { dump, FORMAT_1_RUN, LATCHED, makeFormat1, openRaw } from '../fixtures/format-1.js';
import { recordingLog } from '../fixtures/logs.js';
import { HandClock } from '../fixtures/store-records.js';
import { until } from '../fixtures/until.js';

async function opened(t: Test, dataDir: string, clock = new HandClock()) {
  const log = recordingLog();
  const store = await openStore({ dataDir, log, clock });
  t.teardown(() => store.stop());
  return { store, log };
}

const backups = async (dataDir: string) =>
  (await readdir(join(dataDir, 'backup')).catch(() => [])).filter((name) => name.endsWith('.skos'));

/** What a migration may change; everything else must be what it was, byte for byte. */
const isChanged = (key: string) => key.startsWith('m') || key === 'sbreakers';

function unchanged(t: Test, { before, after }: { before: Map<string, string>; after: Map<string, string> }): void {
  const kept = [...before].filter(([key]) => !isChanged(key));
  t.ok(kept.length > 10);
  t.strictSame(
    kept.filter(([key, value]) => after.get(key) !== value).map(([key]) => key),
    [],
    'what was there is there',
  );
}

/** Each chunk of samples has its seconds, and they are those of its samples. */
function hasSeconds(t: Test, after: Map<string, string>): void {
  let chunks = 0;
  for (const [key, value] of after) {
    if (!key.startsWith('t')) continue;
    chunks++;
    const samples = decodeChunk(Buffer.from(value, 'latin1'), chunkStartAtMs(Buffer.from(key, 'latin1')));
    const seconds = after.get(`u${key.slice(1)}`) ?? '';
    t.strictSame(decodeBuckets(Buffer.from(seconds, 'latin1'), SECOND_MS), bucketsOf(samples, SECOND_MS));
  }
  t.equal([...after.keys()].filter((key) => key.startsWith('u')).length, chunks);
}

t.test('a database of format 1 is whole after the migration: alerts, actions, audit, state, breakers', async (t) => {
  const dataDir = t.testdir();
  await makeFormat1(dataDir);
  const before = await dump(dataDir);
  const { store, log } = await opened(t, dataDir);
  t.strictSame(
    (await store.alerts({ limit: 10 })).map(({ id }) => id),
    ['thermal-cpu', 'storage-root'],
  );
  t.strictSame(
    (await store.alerts({ standing: true, limit: 10 })).map(({ id }) => id),
    ['thermal-cpu'],
  );
  t.match(await store.actions({ limit: 10 }), [{ actionId: 'nova:thermal:throttle_50:1', state: 'active' }]);
  t.match(await store.audit.verify(), { ok: true });
  t.equal((await store.audit.list({ fromSeq: 1, limit: 3 })).length, 3);
  t.strictSame(await store.state('kernel-log'), { boot: 'boot-1', sequence: 10 });
  t.equal(await store.state('breakers'), undefined);
  const breakers = new Breakers(store);
  await breakers.recall();
  const action = parseAction('redistribute');
  if (typeof action === 'string' || action === undefined) throw new Error('no action');
  t.equal(breakers.refusal({ action }, 10), undefined, 'one failure opens nothing');
  const said = log.lines.filter(({ fields }) => String(fields.event).startsWith('store.migrat'));
  t.strictSame(
    said.map(({ fields }) => fields.event),
    ['store.migrating', 'store.migrated'],
  );
  t.equal(log.lines.filter(({ level }) => level === 'error').length, 0);
  await store.stop();
  const after = await dump(dataDir);
  unchanged(t, { before, after });
  t.equal(after.get('mformat'), '2');
  t.equal(after.get('mrun'), String(FORMAT_1_RUN + 1));
  t.equal(after.get('nbreaker\0restart ollama'), JSON.stringify({ v: 1, record: LATCHED }));
  t.notOk(after.has('mmigration'));
});

t.test('the samples of format 1 get their seconds beside the running agent, once', async (t) => {
  const dataDir = t.testdir();
  const damaged = [
    Buffer.from('t\0\0\0\0\0\0\x01\x8b\0\0\0\0\0\0\0\x07\0\0\0\0', 'latin1'),
    Buffer.from('no chunk'),
  ] as const;
  await makeFormat1(dataDir, { chunks: 100, more: [damaged] });
  const { store, log } = await opened(t, dataDir);
  const isDone = () => log.lines.some(({ message }) => message.startsWith('Seconds of all'));
  t.notOk(isDone(), 'opening does not wait for it');
  await until(isDone);
  await store.stop();
  const after = await dump(dataDir);
  t.equal(after.get(damaged[0].toString('latin1')), 'no chunk', 'what cannot be read stays as evidence');
  after.delete(damaged[0].toString('latin1'));
  hasSeconds(t, after);
  t.notOk(after.has('mformer-seconds'));
  const again = await opened(t, dataDir);
  await again.store.stop();
  t.notOk(again.log.lines.some(({ message }) => message.startsWith('Seconds of')));
});

t.test('what it was is saved first, for its owner only, and can be checked', async (t) => {
  const dataDir = t.testdir();
  await makeFormat1(dataDir);
  const { store } = await opened(t, dataDir);
  await store.stop();
  const [name = ''] = await backups(dataDir);
  t.match(name, /^before-format-2-20231114T221320Z\.skos$/);
  const path = join(dataDir, 'backup', name);
  t.equal((await stat(path)).mode & 0o777, 0o600);
  t.equal((await stat(join(dataDir, 'backup'))).mode & 0o777, 0o700);
  const [header = ''] = (await readFile(path, 'latin1')).split('\n');
  t.match(JSON.parse(header), { what: 'skos-backup', format: 1, auditHead: { seq: 3 } });
});

t.test('a second start migrates nothing and makes no backup', async (t) => {
  const dataDir = t.testdir();
  await makeFormat1(dataDir);
  await (await opened(t, dataDir)).store.stop();
  const { store, log } = await opened(t, dataDir);
  t.notOk(log.lines.some(({ fields }) => String(fields.event).startsWith('store.migrat')));
  t.equal((await backups(dataDir)).length, 1);
  await store.stop();
});

t.test('a new database has the present format at once', async (t) => {
  const dataDir = t.testdir();
  const { store, log } = await opened(t, dataDir);
  await store.stop();
  t.equal((await dump(dataDir)).get('mformat'), String(FORMAT_VERSION));
  t.notOk(log.lines.some(({ fields }) => String(fields.event).startsWith('store.migrat')));
});

t.test('a later format, or none that there is, is refused and left as it is', async (t) => {
  for (const format of ['3', '0', '-1', '1.5', 'garbage', '']) {
    const dataDir = t.testdir({});
    await rm(join(dataDir, 'db'), { recursive: true, force: true });
    await makeFormat1(dataDir);
    const level = await openRaw(dataDir);
    await level.put(Buffer.from('mformat'), Buffer.from(format));
    await level.close();
    const before = await dump(dataDir);
    await t.rejects(openStore({ dataDir, log: recordingLog(), clock: new HandClock() }), {
      code: 'SKOS_STORE_VERSION',
    });
    t.strictSame([...(await dump(dataDir))], [...before], `format "${format}": not even the run was counted`);
    t.strictSame(await backups(dataDir), []);
  }
});

t.test('a tool that does not migrate refuses an earlier format', async (t) => {
  const dataDir = t.testdir();
  await makeFormat1(dataDir);
  const before = await dump(dataDir);
  await t.rejects(new Database(dataDir).open(), { code: 'SKOS_STORE_VERSION' });
  t.strictSame([...(await dump(dataDir))], [...before]);
});

t.test('without a backup nothing is changed, and it is done when the backup can be made', async (t) => {
  const dataDir = t.testdir();
  await makeFormat1(dataDir);
  const before = await dump(dataDir);
  await writeFile(join(dataDir, 'backup'), 'a file where the directory should be');
  const attempt = () => openStore({ dataDir, log: recordingLog(), clock: new HandClock() });
  await t.rejects(attempt(), { code: 'SKOS_STORE_MIGRATION' });
  await t.rejects(attempt(), { code: 'SKOS_STORE_MIGRATION' }, 'the lock was given back');
  t.strictSame([...(await dump(dataDir))], [...before]);
  await rm(join(dataDir, 'backup'));
  const { store } = await opened(t, dataDir);
  t.equal((await store.alerts({ limit: 10 })).length, 2);
});

t.test('keeps two backups of migrations, whatever the clock says, and what is not its own', async (t) => {
  const dataDir = t.testdir();
  await makeFormat1(dataDir);
  const directory = join(dataDir, 'backup');
  await mkdir(directory);
  const former = ['before-format-2-20200101T000000Z.skos', 'before-format-1-20210101T000000Z.skos'];
  const later = 'before-format-2-20990101T000000Z.skos';
  const own = ['mine.skos', 'before-format-2.skos', 'notes.txt'];
  for (const name of [...former, later, ...own, '.before-format-2-20200101T000000Z.skos.ab12.tmp']) {
    await writeFile(join(directory, name), name);
  }
  await chmod(directory, 0o700);
  await (await opened(t, dataDir)).store.stop();
  const left = await readdir(directory);
  t.strictSame(left.filter((name) => !own.includes(name)).sort(), ['before-format-2-20231114T221320Z.skos', later]);
  t.equal(left.length, KEPT_BACKUPS + own.length);
});

// ---- Interrupted -----------------------------------------------------------------------------------------------------

class Killed extends Error {}

/** The migration on a database of its own, that ends at its nth operation, before or after it came into force. */
async function interrupted(
  dataDir: string,
  { at = Number.POSITIVE_INFINITY, done = false, run = undefined as string | undefined } = {},
) {
  const level = await openRaw(dataDir);
  if (run !== undefined) await level.put(Buffer.from('mrun'), Buffer.from(run));
  let operations = 0;
  const log = recordingLog();
  const step = async (work: () => Promise<unknown>) => {
    operations++;
    if (operations === at && !done) throw new Killed();
    await work();
    if (operations === at && done) throw new Killed();
  };
  let outcome: unknown = 'whole';
  const format = Number((await level.get(Buffer.from('mformat')))?.toString());
  if (format < FORMAT_VERSION) {
    await migrate({
      dataDir,
      format,
      get: (key) => level.get(key),
      write: (batch, options) => step(() => level.batch([...batch], options)),
      backup: (path) => step(() => writeFile(path, 'all of it', { mode: 0o600 })),
      clock: new HandClock(),
      log,
    }).catch((error: unknown) => {
      outcome = error;
    });
  }
  await level.close();
  return { outcome, operations };
}

const records = (found: Map<string, string>) => [...found].filter(([key]) => key !== 'mrun');

t.test('interrupted at any operation it is of format 1 still, or done, and the next start finishes it', async (t) => {
  const straight = t.testdir({ db: {} });
  const more = Array.from(
    { length: 3 },
    (_, i) => [Buffer.from(`r\0\0\0${i}`), Buffer.from(`as it was ${i}`)] as const,
  );
  const make = () => makeFormat1(straight, { chunks: 60, more });
  await make();
  const before = await dump(straight);
  const whole = await interrupted(straight);
  t.equal(whole.outcome, 'whole');
  t.equal(whole.operations, 3, 'backup, note, and all changes at once');
  const after = await dump(straight);
  unchanged(t, { before, after });
  for (let at = 1; at <= whole.operations; at++) {
    for (const done of [false, true]) {
      await rm(join(straight, 'db'), { recursive: true });
      await rm(join(straight, 'backup'), { recursive: true });
      await make();
      const { outcome } = await interrupted(straight, { at, done });
      const what = `operation ${at}, ${done ? 'after' : 'before'} it came into force`;
      t.ok(outcome instanceof SkosError && outcome.code === 'SKOS_STORE_MIGRATION', what);
      const left = await dump(straight);
      if (left.get('mformat') === '1') t.equal(left.get('sbreakers'), before.get('sbreakers'), what);
      else t.strictSame(records(left), records(after), what);
      t.equal((await interrupted(straight)).outcome, 'whole', what);
      t.strictSame(records(await dump(straight)), records(after), `${what}: the same as without`);
    }
  }
});

t.test('an interrupted migration keeps its backup, unless an earlier version ran in between', async (t) => {
  const dataDir = t.testdir();
  await makeFormat1(dataDir, { chunks: 60 });
  const first = await interrupted(dataDir, { at: 3 });
  t.equal(first.operations, 3);
  const [name = ''] = await backups(dataDir);
  const path = join(dataDir, 'backup', name);
  await writeFile(path, 'the first');
  await interrupted(dataDir, { at: 1 });
  t.equal(await readFile(path, 'utf8'), 'the first');
  await interrupted(dataDir, { run: String(FORMAT_1_RUN + 1) });
  t.equal(await readFile(path, 'utf8'), 'all of it', 'made again');
});

t.test('killed at any moment by kill -9, the next start finishes it', { timeout: 60_000 }, async (t) => {
  const dataDir = t.testdir();
  await makeFormat1(dataDir, { chunks: 300 });
  const before = await dump(dataDir);
  const program = fileURLToPath(new URL('../fixtures/store-opener.js', import.meta.url));
  let kills = 0;
  for (let afterMs = 150; ; afterMs *= 1.5) {
    const child = spawn(process.execPath, [program, dataDir], { stdio: ['ignore', 'pipe', 'inherit'] });
    const timer = setTimeout(() => child.kill('SIGKILL'), afterMs);
    const [code, signal] = await new Promise<unknown[]>((resolve) => child.once('close', (...how) => resolve(how)));
    clearTimeout(timer);
    if (code === 0) break;
    t.equal(signal, 'SIGKILL', 'it does not fail by itself');
    kills++;
    const left = await dump(dataDir);
    unchanged(t, { before, after: left });
    if (left.get('mformat') === '2' && !left.has('mformer-seconds')) hasSeconds(t, left);
    if (left.get('mformat') === '1') t.equal(left.get('sbreakers'), before.get('sbreakers'));
    else t.ok(left.has('nbreaker\0restart ollama'));
  }
  t.ok(kills > 2, `${kills} kills`);
  const after = await dump(dataDir);
  unchanged(t, { before, after });
  hasSeconds(t, after);
  t.equal(after.get('mformat'), '2');
  t.ok((await backups(dataDir)).length <= KEPT_BACKUPS);
});
