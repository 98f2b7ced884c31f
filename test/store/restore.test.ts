/** Restoring: what is refused, what is put in place, and what is there when it is killed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/core/clock.js';
import { BackupTarget, RecordStream, saveBackup, writeBackup } from '../../src/store/backup.js';
import { Database, FORMAT_VERSION, type Operation } from '../../src/store/database.js';
import { auditKey, textKey } from '../../src/store/keys.js';
import { BackupSource, requireStopped, restoreBackup, verifyBackup } from '../../src/store/restore.js';
import { finishRestore, readNotes } from '../../src/store/restore-commit.js';
import { openStore } from '../../src/store/store.js';
import { recordingLog } from '../fixtures/logs.js';
import { alertNamed } from '../fixtures/store-records.js';

const RESTORER = fileURLToPath(new URL('../fixtures/restorer.js', import.meta.url));
const ALL = { gte: Buffer.of(0), lt: Buffer.of(0xff) };
/** In their order; from 'committed' on, the new database stands. */
const STEPS_BEFORE = ['lock', 'build', 'read back', 'sync', 'commit'];
const STEPS_AFTER = [
  'committed',
  'keys aside',
  'keys in place',
  'raw log aside',
  'database aside',
  'database in place',
  'synced',
];

function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'skos-r-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function store(dataDir: string) {
  return openStore({ dataDir, log: recordingLog(), clock: systemClock });
}

/** A data_dir with `entries` audit entries and an alert `id`. */
async function filled(dataDir: string, { entries, id }: { entries: number; id: string }): Promise<void> {
  const open = await store(dataDir);
  open.putAlert(alertNamed(id));
  for (let i = 0; i < entries; i++) await open.audit.append({ kind: 'test', who: 'agent', what: { i, id } });
  await open.stop();
}

interface Facts {
  readonly node?: string;
  readonly format?: number;
  readonly keys?: boolean;
}

/** A backup of the database in data_dir, with whatever header. */
async function backupOf(dataDir: string, path: string, { node = 'nova', format, keys = false }: Facts = {}) {
  const database = new Database(dataDir);
  await database.open();
  const stream = await RecordStream.open(database);
  const target = new BackupTarget(path);
  await target.open();
  async function* pieces() {
    for (let piece = await stream.next(1e6); piece !== undefined; piece = await stream.next(1e6)) yield piece;
  }
  const facts = { node, program: '0', atMs: 1_767_322_800_000, withKeys: keys, notIncluded: [], ...stream.facts };
  await saveBackup({
    facts: { ...facts, format: format ?? facts.format },
    pieces: pieces(),
    keys: keys ? [{ name: '0123456789abcdef.pem', content: Buffer.from('restored key') }] : [],
    write: (bytes) => target.write(bytes),
  });
  await target.commit();
  await stream.close();
  await database.close();
}

/** Beside each other: a node with another past, and a backup of an earlier one. */
async function scene(t: Test, { keys = false }: { keys?: boolean } = {}) {
  const root = directory(t);
  const [dataDir, former, file] = [join(root, 'data'), join(root, 'former'), join(root, 'b.skos')];
  await filled(former, { entries: 5, id: 'backed-up' });
  await backupOf(former, file, { keys });
  await filled(dataDir, { entries: 9, id: 'present' });
  mkdirSync(join(dataDir, 'keys'), { recursive: true });
  writeFileSync(join(dataDir, 'keys', 'fedcba9876543210.pem'), 'present key');
  mkdirSync(join(dataDir, 'raw-log'), { recursive: true });
  writeFileSync(join(dataDir, 'raw-log', 'mark-of-present'), '');
  return { root, dataDir, file };
}

async function restore(file: string, dataDir: string, given: Partial<Parameters<typeof restoreBackup>[0]> = {}) {
  const source = await BackupSource.open(file);
  try {
    const verified = await verifyBackup(source);
    const common = { source, verified, dataDir, who: 'root', sudoUser: null, atMs: Date.now() };
    return await restoreBackup({ ...common, ...given });
  } finally {
    await source.close();
  }
}

/** In a process of its own: a lock does not hold against the process that has it. */
function restorer(file: string, dataDir: string, what = '') {
  return spawn(process.execPath, [RESTORER, file, dataDir, what], { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function said({ stdout }: ReturnType<typeof restorer>): Promise<string> {
  let text = '';
  for await (const chunk of stdout) text += String(chunk);
  return text;
}

async function verify(file: string) {
  const source = await BackupSource.open(file);
  try {
    return await verifyBackup(source);
  } finally {
    await source.close();
  }
}

/** Which past the agent finds when it starts; the raw log and the keys must be of the same. */
async function found(t: Test, dataDir: string): Promise<'present' | 'backed-up'> {
  const open = await store(dataDir);
  const [alert] = await open.alerts({ limit: 10 });
  const entries = await open.audit.list({ fromSeq: 1, limit: 1_000 });
  await open.stop();
  const id = alert?.id === 'present' ? 'present' : 'backed-up';
  t.equal(alert?.id, id);
  t.equal(entries.filter(({ kind }) => kind === 'test').length, id === 'present' ? 9 : 5);
  t.ok(
    entries.filter(({ kind }) => kind === 'test').every(({ what }) => what.id === id),
    'no mixture',
  );
  return id;
}

function keyText(dataDir: string): string {
  return readdirSync(join(dataDir, 'keys'))
    .filter((name) => /^(0123|fedc)/.test(name))
    .map((name) => readFileSync(join(dataDir, 'keys', name), 'utf8'))
    .join();
}

function leftovers(dataDir: string): string[] {
  return readdirSync(dataDir).filter((name) => /restoring|restore\.lock|tmp$/.test(name));
}

t.test('puts back every key and value, and keeps what it replaces', async (t) => {
  const { root, dataDir, file } = await scene(t);
  const { replaced } = await restore(file, dataDir);
  t.match(replaced, [/^db\.replaced-/, /^raw-log\.replaced-/]);
  const contentOf = async (path: string) => {
    const database = new Database(path);
    await database.open();
    const entries: [string, string][] = [];
    // The run is counted at each opening.
    for await (const [key, value] of database.scan(ALL)) {
      if (!key.equals(textKey('m', 'run'))) entries.push([key.toString('hex'), value.toString('hex')]);
    }
    await database.close();
    return entries;
  };
  t.same(await contentOf(dataDir), await contentOf(join(root, 'former')));
  t.ok(existsSync(join(dataDir, replaced[1] ?? '', 'mark-of-present')), 'the raw log goes with its database');
  t.equal(keyText(dataDir), 'present key', 'keys stay when the backup has none');
  t.strictSame(leftovers(dataDir), []);
});

t.test('replaces the keys when the backup has them', async (t) => {
  const { dataDir, file } = await scene(t, { keys: true });
  const { replaced, keys } = await restore(file, dataDir);
  t.equal(keys, 1);
  t.equal(keyText(dataDir), 'restored key');
  t.match(replaced, [/^db/, /^raw-log/, /^keys\.replaced-/]);
});

t.test('killed at any step, it leaves the old or the new past, and the next restore works', async (t) => {
  // Beside each other: they mostly wait for the disk.
  const killedAt = async (last: string) => {
    const { dataDir, file } = await scene(t, { keys: true });
    const [, signal] = await once(restorer(file, dataDir, `kill:${last}`), 'exit');
    t.equal(signal, 'SIGKILL', `it was killed at "${last}"`);
    const expected = STEPS_BEFORE.includes(last) ? 'present' : 'backed-up';
    t.equal(await found(t, dataDir), expected, `the past after "${last}"`);
    t.equal(keyText(dataDir), expected === 'present' ? 'present key' : 'restored key');
    t.equal(existsSync(join(dataDir, 'raw-log', 'mark-of-present')), expected === 'present');
    await restore(file, dataDir);
    t.equal(await found(t, dataDir), 'backed-up', `restored after "${last}"`);
    t.strictSame(leftovers(dataDir), []);
  };
  await Promise.all([...STEPS_BEFORE, ...STEPS_AFTER].map(killedAt));
});

t.test('finishes what was committed and killed also when the next to come is a restore', async (t) => {
  const { dataDir, file } = await scene(t);
  await once(restorer(file, dataDir, 'kill:database in place'), 'exit');
  t.notOk(existsSync(join(dataDir, 'db')), 'the moment in which no database has the name');
  await restore(file, dataDir);
  t.equal((await readNotes(dataDir)).length, 2, 'both will be told');
  t.equal(readdirSync(dataDir).filter((name) => name.startsWith('db.replaced-')).length, 2, 'both are kept');
  t.equal(await found(t, dataDir), 'backed-up');
});

t.test('the chain says that it was restored, after the note that it went back', async (t) => {
  const { dataDir, file } = await scene(t);
  const { stamp } = await restore(file, dataDir, { who: 'root', sudoUser: 'alice' });
  const log = recordingLog();
  const open = await openStore({ dataDir, log, clock: systemClock });
  await open.audit.append({ kind: 'test', who: 'agent', what: {} });
  const entries = (await open.audit.list({ fromSeq: 1, limit: 100 })).slice(5);
  t.match(entries, [
    { kind: 'audit.restart', what: { known: { seq: 9 }, found: { seq: 5 } } },
    { kind: 'audit.restore', who: 'root', what: { stamp, sudoUser: 'alice', replacedHead: { seq: 9 }, node: 'nova' } },
    { kind: 'test' },
  ]);
  t.equal(entries[0]?.seq, 10, 'no number is given twice');
  t.ok(log.lines.some(({ fields }) => fields.event === 'store.restored'));
  await open.stop();
  t.strictSame(await readNotes(dataDir), [], 'told once');
  await filled(dataDir, { entries: 1, id: 'later' });
});

t.test('is refused while a database is open, and holds off whoever would open it meanwhile', async (t) => {
  const { dataDir, file } = await scene(t);
  const agent = await store(dataDir);
  t.equal(await said(restorer(file, dataDir)), 'SKOS_RESTORE_RUNNING\n');
  await agent.audit.append({ kind: 'test', who: 'agent', what: { i: 9, id: 'present' } });
  await agent.stop();
  await requireStopped(dataDir);
  t.strictSame(leftovers(dataDir), []);
  const heldAt = async (step: string) => {
    const { dataDir, file, root } = await scene(t);
    const child = restorer(file, dataDir, `wait:${step}`);
    const rest = said(child);
    await once(child.stdout, 'data');
    await t.rejects(store(dataDir), { code: 'SKOS_STORE_LOCKED' }, `no agent at "${step}"`);
    await t.rejects(requireStopped(dataDir), { code: 'SKOS_RESTORE_RUNNING' });
    writeFileSync(join(root, 'go'), '');
    t.match(await rest, /restored\n$/);
    t.equal(await found(t, dataDir), 'backed-up');
  };
  await Promise.all(['build', 'read back', 'commit'].map(heldAt));
});

t.test('an agent that starts between the commit and its end finishes it, and both agree', async (t) => {
  const metAt = async (step: string) => {
    const { dataDir, file, root } = await scene(t, { keys: true });
    const child = restorer(file, dataDir, `wait:${step}`);
    const rest = said(child);
    await once(child.stdout, 'data');
    // Before the databases are exchanged, the lock keeps the agent out; behind that, it starts.
    const outcome = await found(t, dataDir).catch((error: unknown) => error);
    writeFileSync(join(root, 'go'), '');
    t.match(await rest, /restored\n$/, step);
    t.ok(outcome === 'backed-up' || (outcome as { code?: string }).code === 'SKOS_STORE_LOCKED', `${step}: ${outcome}`);
    t.equal(await found(t, dataDir), 'backed-up');
    t.equal(keyText(dataDir), 'restored key');
  };
  await Promise.all(STEPS_AFTER.map(metAt));
});

t.test('two at once: one restores, the other is refused', async (t) => {
  const { root, dataDir, file } = await scene(t);
  const first = restorer(file, dataDir, 'wait:read back');
  const rest = said(first);
  await once(first.stdout, 'data');
  t.equal(await said(restorer(file, dataDir)), 'SKOS_RESTORE_RUNNING\n');
  writeFileSync(join(root, 'go'), '');
  t.match(await rest, /restored\n$/);
  t.equal(await found(t, dataDir), 'backed-up');
  t.strictSame(leftovers(dataDir), []);
});

t.test('makes a database where there is none', async (t) => {
  const { root, file } = await scene(t);
  const dataDir = join(root, 'new');
  mkdirSync(dataDir);
  const { replaced } = await restore(file, dataDir);
  t.strictSame(replaced, []);
  t.equal(await found(t, dataDir), 'backed-up');
});

t.test('an interruption before the commit changes nothing and leaves nothing', async (t) => {
  const { dataDir, file } = await scene(t);
  const before = readdirSync(dataDir).sort();
  for (const at of ['build', 'read back', 'sync']) {
    const interrupt = new AbortController();
    const step = (name: string) => name === at && interrupt.abort();
    const interrupted = restore(file, dataDir, { step, watch: { signal: interrupt.signal } });
    await t.rejects(interrupted, { code: 'SKOS_CLI_INTERRUPTED' }, at);
    t.strictSame(readdirSync(dataDir).sort(), before);
  }
  t.equal(await found(t, dataDir), 'present');
});

t.test('a file that changes between its verification and its use is not restored', async (t) => {
  const { dataDir, file } = await scene(t);
  const changed = restore(file, dataDir, { step: (name) => name === 'build' && appendFileSync(file, 'x') });
  await t.rejects(changed, { code: 'SKOS_BACKUP_DAMAGED' });
  t.equal(await found(t, dataDir), 'present');
});

t.test('refuses a format that it does not know', async (t) => {
  const { root, file } = await scene(t);
  const newer = join(root, 'newer.skos');
  const database = new Database(join(root, 'former'));
  await database.open();
  await database.write([{ type: 'put', key: textKey('m', 'format'), value: Buffer.from(String(FORMAT_VERSION + 1)) }], {
    sync: true,
  });
  await writeBackup({ database, path: newer, node: 'nova', atMs: 1 });
  await database.close();
  await t.rejects(verify(newer), { code: 'SKOS_BACKUP_VERSION' });
  t.equal((await verify(file)).header.format, FORMAT_VERSION);
});

t.test('restores an earlier format, which the next start brings up', async (t) => {
  const { root, dataDir } = await scene(t);
  const earlier = join(root, 'earlier.skos');
  const database = new Database(join(root, 'former'));
  await database.open();
  await database.write([{ type: 'put', key: textKey('m', 'format'), value: Buffer.from('1') }], { sync: true });
  await writeBackup({ database, path: earlier, node: 'nova', atMs: 1 });
  await database.close();
  t.equal((await verify(earlier)).header.format, 1);
  await restore(earlier, dataDir);
  t.equal(await found(t, dataDir), 'backed-up');
  t.equal((await saved(dataDir)).header.format, FORMAT_VERSION);
});

/** What a backup of the database in data_dir says. */
async function saved(dataDir: string) {
  const file = `${dataDir}-saved.skos`;
  await backupOf(dataDir, file);
  return verify(file);
}

t.test('notices a header that does not fit what the file holds', async (t) => {
  const root = directory(t);
  await filled(join(root, 'a'), { entries: 3, id: 'a' });
  const file = join(root, 'b.skos');
  await backupOf(join(root, 'a'), file, { format: 0 });
  await t.rejects(verify(file), { code: 'SKOS_BACKUP_DAMAGED' });
});

t.test('names the first bad entry of a chain that is broken', async (t) => {
  const changes: Record<string, (seq3: Buffer) => Operation[]> = {
    changed: (seq3) => [
      { type: 'put', key: auditKey(3), value: Buffer.from(seq3.toString().replace('"kind":"test"', '"kind":"TEST"')) },
    ],
    removed: () => [{ type: 'del', key: auditKey(3) }],
    'no entry at all': () => [{ type: 'put', key: auditKey(3), value: Buffer.from('{') }],
  };
  for (const [what, change] of Object.entries(changes)) {
    const dataDir = join(directory(t), 'data');
    await filled(dataDir, { entries: 5, id: 'a' });
    const database = new Database(dataDir);
    await database.open();
    const entry = await database.get(auditKey(3));
    await database.write(change(entry ?? Buffer.alloc(0)), { sync: true });
    const file = `${dataDir}.skos`;
    await writeBackup({ database, path: file, node: 'nova', atMs: 1 });
    await database.close();
    t.match((await verify(file)).chain.fault, { firstBadSeq: 3 }, what);
  }
});

t.test('a damaged or foreign restore.json makes no path and stops no start', async (t) => {
  const { dataDir } = await scene(t);
  for (const text of [
    '',
    'x',
    '{}',
    '{"restores":[{"stamp":"../../etc","who":"a","takenAtMs":1}]}',
    '{"restores":[null]}',
  ]) {
    writeFileSync(join(dataDir, 'restore.json'), text);
    await finishRestore(dataDir);
    t.equal(await found(t, dataDir), 'present', text);
  }
});
