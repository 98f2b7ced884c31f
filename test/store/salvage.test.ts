/** What can be read of a damaged database comes back beside the running store; what cannot is said, and nothing is invented. */
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Level } from 'level';
import t, { type Test } from 'tap';
import type { AuditEntry, AuditHead } from '../../src/core/ports.js';
import { verifyEntries } from '../../src/store/audit-entry.js';
import { writeBackup } from '../../src/store/backup.js';
import { Database } from '../../src/store/database.js';
import { BackupSource, verifyBackup } from '../../src/store/restore.js';
import { type LevelStore, openStore } from '../../src/store/store.js';
import { recordingLog } from '../fixtures/logs.js';
import { actionNamed, alertNamed, channelNamed, HandClock } from '../fixtures/store-records.js';
import { storedSamples } from '../fixtures/stored-samples.js';
import { until } from '../fixtures/until.js';

const LOAD = fileURLToPath(new URL('../fixtures/store-load.js', import.meta.url));
const ENTRIES = 300;
const HOUR_MS = 3_600_000;
const CHANNELS = ['hwmon/chip/temp1', 'hwmon/chip/temp2', 'nvme/disk/temp1'];
const SAMPLES_PER_HOUR = 120;
const HOURS = 3;
const RECORDING = { alerts: [{ alert: 'load-1', atMs: 5 }], fromAtMs: 1, toAtMs: 2, channels: 1, samples: 2 };

const sampleOf = (channel: number, i: number) => 40_000 + channel * 1_000 + ((i * 7) % 500);

/** A life of the store that leaves some of everything; stopped in order. */
async function filled(t: Test): Promise<{ dataDir: string; clock: HandClock; startAtMs: number }> {
  const dataDir = t.testdir({});
  const clock = new HandClock();
  const store = await openStore({ dataDir, log: recordingLog(), clock, node: 'nova' });
  const append = (i: number) => store.audit.append({ kind: 'test.append', who: 'agent', what: { i } });
  await Promise.all(Array.from({ length: ENTRIES }, (_, i) => append(i + 1)));
  for (let i = 0; i < 50; i++) {
    store.putAlert(alertNamed(`load-${i}`, { sinceAtMs: i, severity: i < 3 ? 'warning' : null }));
    store.putAction(actionNamed(`n:${i}`, { startedAtMs: i, state: 'released', endedAtMs: i + 1 }));
  }
  store.putState('kept', { n: 1 });
  store.putState('newer', { n: 1 });
  for (let i = 1; i <= 5; i++) store.outbox.put('net', { kind: 'alert', data: { i } });
  const [first] = await store.outbox.read('net', 1);
  if (first !== undefined) store.outbox.take('net', { epoch: first.epoch, seq: first.seq });
  const recording = store.recordings.begin({ ...RECORDING, open: true });
  const samples = { startAtMs: 1, length: 2, atMs: [0, 1], values: [5, 6], qualities: [0, 0] };
  store.recordings.putSamples(recording, channelNamed('hwmon/chip/temp1'), {
    ...samples,
    atMs: Float64Array.from(samples.atMs),
    values: Float64Array.from(samples.values),
    qualities: Uint8Array.from(samples.qualities),
  });
  store.recordings.put(recording, { ...RECORDING, open: false });
  const startAtMs = clock.wall;
  for (let i = 0; i < HOURS * SAMPLES_PER_HOUR; i++) {
    CHANNELS.forEach((id, c) => {
      store.sample(channelNamed(id, 1), sampleOf(c, i), 'ok', clock.monotonic);
    });
    clock.advance(HOUR_MS / SAMPLES_PER_HOUR);
  }
  await store.stop();
  // The second opening turns the log into a table.
  await (await openStore({ dataDir, log: recordingLog(), clock, node: 'nova' })).stop();
  return { dataDir, clock, startAtMs };
}

async function filesOf(dataDir: string, pattern: RegExp): Promise<string[]> {
  const names = (await readdir(join(dataDir, 'db'))).filter((each) => pattern.test(each));
  return names.sort().map((name) => join(dataDir, 'db', name));
}

async function damageManifest(dataDir: string): Promise<void> {
  for (const path of await filesOf(dataDir, /^MANIFEST/)) await writeFile(path, 'rubbish rubbish rubbish');
}

async function reopened(t: Test, dataDir: string, clock: HandClock) {
  const log = recordingLog();
  const store = await openStore({ dataDir, log, clock, node: 'nova' });
  t.teardown(() => store.stop());
  const state = () => store.health().setAside?.state;
  return { store, log, state, over: () => until(() => state() !== undefined && state() !== 'under way', 20_000) };
}

async function entriesOf(store: LevelStore): Promise<AuditEntry[]> {
  return store.audit.list({ fromSeq: 1, limit: 5_000 });
}

async function lastEntry(dataDir: string, clock: HandClock): Promise<{ entries: AuditEntry[]; head: AuditHead }> {
  const store = await openStore({ dataDir, log: recordingLog(), clock, node: 'nova' });
  await store.stop();
  const level = new Level<Buffer, Buffer>(join(dataDir, 'db'), { keyEncoding: 'buffer', valueEncoding: 'buffer' });
  const entries: AuditEntry[] = [];
  for await (const value of level.values({ gte: Buffer.from('a'), lt: Buffer.from('b') })) {
    entries.push(JSON.parse(value.toString()) as AuditEntry);
  }
  await level.close();
  const last = entries.at(-1);
  return { entries, head: { seq: last?.seq ?? 0, hash: last?.hash ?? '' } };
}

async function copyOf(t: Test, store: LevelStore, dataDir: string): Promise<Database> {
  await store.stop();
  const database = new Database(dataDir);
  await database.open();
  t.teardown(() => database.close());
  return database;
}

async function samplesOf(store: LevelStore, channel: string, toAtMs = Infinity): Promise<number[]> {
  const found: number[] = [];
  for await (const { value } of storedSamples(store, { channel, fromAtMs: 0, toAtMs })) found.push(value ?? -1);
  return found;
}

/** An agent's life that ends with SIGKILL, so long after its process began. */
async function killedAfter(dataDir: string, afterMs: number): Promise<void> {
  const options = JSON.stringify({ dataDir, flushMs: 1_000, inFlight: 1 });
  const child = spawn(process.execPath, [LOAD, options], { stdio: 'ignore' });
  setTimeout(() => child.kill('SIGKILL'), afterMs);
  await new Promise((resolve) => child.once('close', resolve));
}

const damages: Record<string, (dataDir: string) => Promise<void>> = {
  'the manifest is garbage': damageManifest,
  'the manifest is gone': async (dataDir) => {
    for (const path of await filesOf(dataDir, /^MANIFEST/)) await rm(path);
  },
  'CURRENT is gone': (dataDir) => rm(join(dataDir, 'db', 'CURRENT')),
  'CURRENT is empty': (dataDir) => truncate(join(dataDir, 'db', 'CURRENT')),
};
for (const [name, damage] of Object.entries(damages)) {
  t.test(`${name}: everything comes back, and the chain is whole from its first entry`, async (t) => {
    const { dataDir, clock, startAtMs } = await filled(t);
    await damage(dataDir);
    const before = await readdir(join(dataDir, 'db'));
    const { store, log, over, state } = await reopened(t, dataDir, clock);
    // New things come first, and other channels: numbers and versions differ.
    store.putState('newer', { n: 2 });
    store.sample(channelNamed('new/one/temp1', 1), 1, 'ok', clock.monotonic);
    store.sample(channelNamed('nvme/disk/temp1', 1), 1_234, 'ok', clock.monotonic);
    store.outbox.put('net', { kind: 'alert', data: { i: 'new' } });
    await over();
    t.equal(state(), 'whole', store.health().setAside?.salvage ?? '');
    const entries = await entriesOf(store);
    t.strictSame(
      entries.filter(({ kind }) => kind === 'test.append').map(({ what }) => what.i),
      Array.from({ length: ENTRIES }, (_, i) => i + 1),
    );
    t.match(await store.audit.verify(), { ok: true, entries: entries.length });
    t.match(entries.at(-1), { kind: 'store.salvage', what: { back: { 'audit entries': Number } } });
    t.equal((await store.alerts({ limit: 100 })).length, 50);
    t.equal((await store.actions({ limit: 100 })).length, 50);
    t.strictSame(await store.state('kept'), { n: 1 });
    t.strictSame(await store.state('newer'), { n: 2 }, 'what is newer stays');
    for (const [c, id] of CHANNELS.entries()) {
      const wanted = Array.from({ length: HOURS * SAMPLES_PER_HOUR }, (_, i) => sampleOf(c, i));
      t.strictSame(await samplesOf(store, id), id.startsWith('nvme') ? [...wanted, 1_234] : wanted, id);
    }
    const { series } = await store.history.page({
      glob: CHANNELS[0] ?? '',
      fromAtMs: startAtMs,
      toAtMs: startAtMs + HOUR_MS,
      points: 4,
    });
    t.ok((series[0]?.counts?.reduce((sum, n) => sum + n, 0) ?? 0) > 0, 'seconds are back as well');
    t.strictSame(
      (await store.outbox.read('net', 10)).map(({ data }) => (data as { i: unknown }).i),
      ['new', 2, 3, 4, 5],
    );
    t.match(await store.recordings.list(), [{ alert: 'load-1', samples: 2, open: false }]);
    t.strictSame((await store.recordings.page({ alert: 'load-1' }))?.series[0]?.values, [0.005, 0.006]);
    t.equal(log.lines.filter(({ fields }) => fields.event === 'store.salvaged').length, 1);
    const [aside = ''] = (await readdir(dataDir)).filter((each) => each.startsWith('db.damaged-'));
    t.strictSame((await readdir(join(dataDir, aside))).sort(), before.sort(), 'the old one is as it was');
    await store.stop();
    const again = await reopened(t, dataDir, clock);
    t.equal(again.state(), undefined, 'it is done once');
    t.equal((await again.store.alerts({ standing: true, limit: 100 })).length, 3, 'what stood is known again');
    t.match(await again.store.audit.verify(), { ok: true });
  });
}

t.test('a table that is damaged in the middle: the rest comes back, and what is missing is said', async (t) => {
  const { dataDir, clock } = await filled(t);
  const tables = await filesOf(dataDir, /\.ldb$/);
  for (const path of tables) {
    const bytes = await readFile(path);
    bytes.fill(0x55, Math.floor(bytes.length / 2), Math.floor(bytes.length / 2) + 64);
    await writeFile(path, bytes);
  }
  await damageManifest(dataDir);
  const { store, over, state } = await reopened(t, dataDir, clock);
  await over();
  t.equal(state(), 'missing');
  t.match(store.health().setAside?.salvage, /could not be read/);
  const back = (await entriesOf(store)).filter(({ kind }) => kind === 'test.append').map(({ what }) => Number(what.i));
  t.ok(back.length > 0, `${back.length} audit entries are back`);
  t.strictSame(
    back,
    back.map((_, n) => (back[0] ?? 0) + n),
    'one stretch, linked',
  );
  for (const [c, id] of CHANNELS.entries()) {
    const all = Array.from({ length: HOURS * SAMPLES_PER_HOUR }, (_, i) => sampleOf(c, i)).join();
    for (const value of await samplesOf(store, id)) t.ok(all.includes(String(value)), `${id}: ${value}`);
  }
});

t.test(
  'entries that were acknowledged behind a mark that lags come back, and none of their numbers is given again',
  async (t) => {
    const { dataDir, clock } = await filled(t);
    const { entries, head } = await lastEntry(dataDir, clock);
    await damageManifest(dataDir);
    // What a kill leaves in the second after a burst.
    await writeFile(join(dataDir, 'audit-head'), `${entries[9]?.seq} ${entries[9]?.hash}\n`);
    const { store, over, state } = await reopened(t, dataDir, clock);
    await over();
    t.equal(state(), 'whole', store.health().setAside?.salvage ?? '');
    const [note] = (await entriesOf(store)).filter(({ kind }) => kind === 'audit.restart');
    t.match(note, { seq: head.seq + 1, previous: head.hash, what: { known: head } });
    t.match(await store.audit.verify({ heads: [head] }), { ok: true });
    t.strictSame((await entriesOf(store)).slice(0, head.seq), entries);
  },
);

t.test('a chain behind the mark that does not link to it is not taken for what was acknowledged', async (t) => {
  const { dataDir, clock } = await filled(t);
  const { entries } = await lastEntry(dataDir, clock);
  await damageManifest(dataDir);
  const [marked, other] = [entries[9], entries[20]];
  await writeFile(join(dataDir, 'audit-head'), `${marked?.seq} ${other?.hash}\n`);
  const { store, over } = await reopened(t, dataDir, clock);
  await over();
  const [note] = (await entriesOf(store)).filter(({ kind }) => kind === 'audit.restart');
  t.match(note, { seq: (marked?.seq ?? 0) + 1, what: { known: { seq: marked?.seq } } });
});

t.test('a full outbox comes back whole, more than waits for the disk at once', async (t) => {
  const dataDir = t.testdir({});
  const clock = new HandClock();
  const former = await openStore({ dataDir, log: recordingLog(), clock });
  const text = 'x'.repeat(1_000);
  for (let i = 0; i < 1_600; i++) {
    former.outbox.put('net', { kind: 'alert', data: { i, text } });
    if (i % 200 === 199) await (await former.snapshot()).close();
  }
  await former.stop();
  await damageManifest(dataDir);
  const { store, log, over, state } = await reopened(t, dataDir, clock);
  await store.audit.append({ kind: 'test.append', who: 'agent', what: {} });
  await over();
  t.match(store.outbox.states(), [{ queue: 'net', waiting: 1_600, dropped: 0 }]);
  t.equal(state(), 'whole');
  t.notOk(log.lines.some(({ fields }) => fields.event === 'outbox.dropped'));
});

t.test('who removes what was put back is found out', async (t) => {
  const { dataDir, clock } = await filled(t);
  await damageManifest(dataDir);
  const { store, over } = await reopened(t, dataDir, clock);
  await over();
  // The state is told when the entry is on disk.
  const entries = await entriesOf(store);
  t.match(await verifyEntries(entries), { ok: true });
  const from = entries.findIndex(({ kind }) => kind === 'audit.restart');
  t.ok(from > 0);
  t.match(await verifyEntries(entries.slice(from)), { ok: false, firstBadSeq: 1, why: /were put back, as \d+ says/ });
  const told = entries.findIndex(({ kind }) => kind === 'store.salvage');
  t.match(await verifyEntries(entries.slice(from, told)), { ok: true }, 'before they were, that was the beginning');
  const after = { seq: entries[from - 1]?.seq ?? 0, hash: entries[from - 1]?.hash ?? '' };
  t.match(await verifyEntries(entries.slice(from), { after, partial: true }), { ok: true }, 'an export of that part');
  const path = join(dataDir, 'backup.skos');
  await writeBackup({ database: await copyOf(t, store, dataDir), path, node: 'nova', atMs: clock.wallMs() });
  const source = await BackupSource.open(path);
  t.match(await verifyBackup(source), { chain: { fault: undefined, entries: entries.length + 1 } }, 'and a checkpoint');
  await source.close();
});

t.test('killed in the middle and begun again, nothing is there twice', async (t) => {
  const { dataDir, clock } = await filled(t);
  await damageManifest(dataDir);
  for (const afterMs of [60, 90, 120, 150, 200, 300]) await killedAfter(dataDir, afterMs);
  const { store, over } = await reopened(t, dataDir, clock);
  await over();
  t.match(await store.audit.verify(), { ok: true });
  t.equal((await entriesOf(store)).filter(({ kind }) => kind === 'test.append').length, ENTRIES);
  const old = (await store.actions({ limit: 1_000 })).filter(({ actionId }) => actionId.startsWith('n:'));
  t.equal(old.length, 50);
  for (const id of CHANNELS) t.equal((await samplesOf(store, id, clock.wall + 1)).length, HOURS * SAMPLES_PER_HOUR);
  t.equal((await store.recordings.list()).length, 1);
});

t.test('what is no database of ours gives nothing and does no harm', async (t) => {
  const { dataDir, clock } = await filled(t);
  await rm(join(dataDir, 'db'), { recursive: true });
  const foreign = new Level<Buffer, Buffer>(join(dataDir, 'db'), { keyEncoding: 'buffer', valueEncoding: 'buffer' });
  await foreign.open();
  for (const prefix of 'adeEnoOrRbstuvxX') {
    for (const key of ['', '1', 'hello world, this is another database']) {
      await foreign.put(Buffer.from(prefix + key), Buffer.from(`value of ${key}`));
    }
  }
  await foreign.close();
  await damageManifest(dataDir);
  mkdirSync(join(dataDir, 'db', '000777.ldb'));
  await writeFile(join(dataDir, 'db', '000778.log'), '');
  const { store, over, state } = await reopened(t, dataDir, clock);
  await over();
  t.equal(state(), 'missing');
  t.strictSame(await store.alerts({ limit: 10 }), []);
  t.match(await store.audit.verify(), { ok: true });
});

t.test('a set-aside database that somebody took away is said to be missing', async (t) => {
  const { dataDir, clock } = await filled(t);
  await damageManifest(dataDir);
  // The first moments of an agent, which is killed before it has read anything.
  const database = new Database(dataDir);
  const { setAside } = await database.open();
  await database.close();
  await rm(setAside?.path ?? '', { recursive: true });
  const { store, over, state } = await reopened(t, dataDir, clock);
  await over();
  t.equal(state(), 'missing');
  t.match(store.health().setAside?.salvage, /no such file/);
});

t.test('an agent that was killed while it set the database aside leaves it to the next one', async (t) => {
  const { dataDir, clock } = await filled(t);
  await rename(join(dataDir, 'db'), join(dataDir, 'db.damaged-20260101T000000'));
  const { store, over, state } = await reopened(t, dataDir, clock);
  await over();
  t.equal(state(), 'whole', store.health().setAside?.salvage ?? '');
  t.equal((await entriesOf(store)).filter(({ kind }) => kind === 'test.append').length, ENTRIES);
  t.match(await store.audit.verify(), { ok: true });
});
