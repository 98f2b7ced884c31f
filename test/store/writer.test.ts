import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Clock } from '../../src/core/clock.js';
import type { ActionRecord } from '../../src/core/ports.js';
import { AuditChain } from '../../src/store/audit.js';
import {
  Database,
  type DatabaseState,
  type Opened,
  type Operation,
  type ScanOptions,
} from '../../src/store/database.js';
import { Episodes } from '../../src/store/episodes.js';
import { HeadMark } from '../../src/store/head-mark.js';
import { PREFIX, textKey } from '../../src/store/keys.js';
import { MAX_RECORD_BYTES, Writer } from '../../src/store/writer.js';
import { recordingLog } from '../fixtures/logs.js';
import { actionNamed, HandClock } from '../fixtures/store-records.js';
import { until } from '../fixtures/until.js';

/** A database whose writes can be made to fail, before or after they are on disk, or to hang. */
class FaultyDatabase extends Database {
  fault: 'none' | 'before' | 'after' | 'hang' = 'none';
  reopened = 0;
  /** Recovery will find the database damaged. */
  damage = false;
  /** So many scans are refused. */
  unreadable = 0;
  batches: { operations: number; sync: boolean }[] = [];
  letGo: () => void = () => undefined;
  #tainted = false;

  override get state(): DatabaseState {
    return this.#tainted ? 'tainted' : super.state;
  }

  override async write(operations: readonly Operation[], options: { sync: boolean }): Promise<void> {
    if (this.fault === 'hang') await new Promise<void>((resolve) => (this.letGo = resolve));
    if (this.fault !== 'before') await super.write(operations, options);
    this.batches.push({ operations: operations.length, ...options });
    if (this.fault === 'none' || this.fault === 'hang') return;
    this.fault = 'none';
    this.#tainted = true;
    throw new Error('injected');
  }

  override async *scan(options: ScanOptions): AsyncGenerator<[Buffer, Buffer], void, undefined> {
    if (this.unreadable > 0) {
      this.unreadable--;
      throw new Error('injected');
    }
    yield* super.scan(options);
  }

  override async reopen(): Promise<Opened> {
    this.#tainted = false;
    this.reopened++;
    await this.close();
    if (this.damage) await writeFile(join(this.directory, 'CURRENT'), 'rubbish');
    return this.open();
  }
}

async function parts(t: Test, clock: Clock = new HandClock(), fresh: () => void = () => t.fail('not damaged')) {
  const dataDir = t.testdir({});
  const log = recordingLog();
  const database = new FaultyDatabase(dataDir);
  const mark = new HeadMark({ dataDir, onError: (error) => log.error(String(error)) });
  const writer: Writer = new Writer({ database, log, clock, onFresh: () => fresh() });
  const audit = new AuditChain({ database, mark, log, clock, wake: () => writer.wake() });
  const opened = await database.open();
  await audit.attach(opened);
  writer.start(audit);
  t.teardown(async () => {
    database.fault = 'none';
    database.letGo();
    await writer.stop();
    await mark.flush();
    await database.close();
  });
  return { database, writer, audit, log, opened, clock };
}

const entry = (i: number) => ({ kind: 'test.append', who: 'agent', what: { i } });

t.test('entries that come while a sync runs go together in the next batch', async (t) => {
  const { database, audit } = await parts(t);
  database.batches = [];
  await Promise.all(Array.from({ length: 100 }, (_, i) => audit.append(entry(i))));
  t.strictSame(database.batches, [
    { operations: 1, sync: true },
    { operations: 99, sync: true },
  ]);
});

t.test('large entries go in batches of bounded size, in their order, also over a write that fails', async (t) => {
  const { database, audit } = await parts(t);
  const text = 'x'.repeat(40_000);
  const large = (i: number) => ({ kind: 'test.append', who: 'agent', what: { i, text } });
  await audit.append(entry(0));
  database.fault = 'after';
  database.batches = [];
  const entries = await Promise.all(Array.from({ length: 50 }, (_, i) => audit.append(large(i + 1))));
  t.ok(
    database.batches.every(({ operations }) => operations <= 7),
    JSON.stringify(database.batches),
  );
  t.strictSame(
    entries.map(({ what }) => what.i),
    entries.map((_, i) => i + 1),
  );
  t.match(await audit.verify(), { ok: true, entries: 51 });
});

for (const fault of ['before', 'after'] as const) {
  t.test(`a write that fails ${fault} it is on disk loses and doubles nothing`, async (t) => {
    const { database, audit, log, writer } = await parts(t);
    await audit.append(entry(0));
    database.fault = fault;
    const first = audit.append(entry(1));
    await until(() => writer.trouble() !== '');
    t.equal(audit.head().seq, 1, 'what was not acknowledged is not the head');
    const later = Array.from({ length: 20 }, (_, i) => audit.append(entry(i + 2)));
    const entries = await Promise.all([first, ...later]);
    t.strictSame(
      entries.map(({ seq }) => seq),
      entries.map((_, i) => i + 2),
    );
    t.match(await audit.verify(), { ok: true, entries: 22 });
    t.strictSame(
      (await audit.list({ fromSeq: 2, limit: 99 })).map(({ hash }) => hash),
      entries.map(({ hash }) => hash),
    );
    t.equal(database.reopened, 1, 'the database is recovered before it is written again');
    t.match(
      log.lines.map(({ fields }) => fields.event),
      ['store.failed', 'store.recovered'],
    );
  });
}

t.test(
  'damage found while running: set aside, the chain goes on from the head in memory, memory is written again',
  async (t) => {
    let freshened = 0;
    const { database, audit, writer } = await parts(t, new HandClock(), () => freshened++);
    for (let i = 1; i <= 5; i++) await audit.append(entry(i));
    database.damage = true;
    database.fault = 'before';
    const { seq } = await audit.append(entry(6));
    database.damage = false;
    t.equal(seq, 7, '6 is the note');
    t.equal(freshened, 1);
    t.match(await audit.list({ fromSeq: 1, limit: 9 }), [
      { seq: 6, kind: 'audit.restart', what: { known: { seq: 5 } } },
      { seq: 7 },
    ]);
    t.match(await audit.verify(), { ok: true, entries: 2, head: { seq: 7 } });
    t.equal(writer.trouble(), '');
  },
);

t.test('a database set aside is told although the new one could not be read at once', async (t) => {
  let freshened = 0;
  const { database, audit } = await parts(t, new HandClock(), () => freshened++);
  for (let i = 1; i <= 5; i++) await audit.append(entry(i));
  database.damage = true;
  database.fault = 'before';
  database.unreadable = 1;
  const { seq } = await audit.append(entry(6));
  database.damage = false;
  t.equal(seq, 7, '6 is the note');
  t.equal(freshened, 1);
  t.match(await audit.verify(), { ok: true, entries: 2, head: { seq: 7 } });
});

t.test('what a dead disk has left waiting is written in bounded batches, before the entry behind it', async (t) => {
  const { database, writer, audit } = await parts(t);
  database.fault = 'before';
  void audit.append(entry(1));
  await until(() => writer.trouble() !== '');
  const put = (name: string): Operation => ({ type: 'put', key: textKey(PREFIX.state, name), value: Buffer.from('1') });
  for (let i = 0; i < 3_000; i++) writer.putRecord(put(`r${i}`));
  for (let i = 0; i < 1_000; i++) writer.putSamples(put(`s${i}`));
  const behind = audit.append(entry(2));
  database.batches = [];
  await behind;
  t.ok(
    database.batches.every(({ operations, sync }) => operations <= 600 && sync),
    JSON.stringify(database.batches),
  );
  t.equal(writer.waitingRecords, 0, 'nothing that was put before it is missing behind it');
  for (const name of ['r0', 'r2999', 's0', 's999']) t.ok(await database.get(textKey(PREFIX.state, name)), name);
});

t.test(
  'a disk that dies again in the middle of what waits loses nothing, and newer versions stay the newer',
  async (t) => {
    const { database, writer, audit } = await parts(t);
    database.fault = 'before';
    void audit.append(entry(1));
    await until(() => writer.trouble() !== '');
    const put = (name: string, text: string): Operation => {
      return { type: 'put', key: textKey(PREFIX.state, name), value: Buffer.from(text) };
    };
    for (let i = 0; i < 2_000; i++) writer.putRecord(put(`k${i}`, 'old'));
    database.batches = [];
    await until(() => database.batches.length >= 2);
    database.fault = 'before';
    writer.putRecord(put('k0', 'new'));
    writer.putRecord(put('k1999', 'new'));
    await audit.append(entry(2));
    for (let i = 0; i < 2_000; i++) {
      const value = String(await database.get(textKey(PREFIX.state, `k${i}`)));
      if (value !== (i === 0 || i === 1_999 ? 'new' : 'old')) t.fail(`k${i} is ${value}`);
    }
    t.equal(writer.waitingRecords, 0);
  },
);

t.test('a write that hangs is told, and holds nobody up', async (t) => {
  const clock = new HandClock();
  const { database, audit, writer } = await parts(t, clock);
  database.fault = 'hang';
  const waiting = audit.append(entry(1));
  clock.advance(4_000);
  t.equal(writer.trouble(), '');
  clock.advance(2_000);
  t.match(writer.trouble(), /waiting for 6 s/);
  writer.putRecord({ type: 'put', key: textKey(PREFIX.state, 'k'), value: Buffer.from('1') });
  t.equal(String(await writer.get(textKey(PREFIX.state, 'k'))), '1');
  database.letGo();
  await waiting;
  t.equal(writer.trouble(), '');
});

t.test('what waits for a dead disk is bounded: the latest version of a key, the newest keys', async (t) => {
  const { database, writer, log, audit } = await parts(t);
  database.fault = 'before';
  void audit.append(entry(1));
  await until(() => writer.trouble() !== '');
  database.fault = 'before';
  for (let i = 0; i < 1_000; i++)
    writer.putRecord({ type: 'put', key: textKey(PREFIX.state, 'same'), value: Buffer.from(`${i}`) });
  t.equal(writer.waitingRecords, 1);
  const value = Buffer.alloc(100_000);
  for (let i = 0; i < 100; i++) writer.putRecord({ type: 'put', key: textKey(PREFIX.state, `k${i}`), value });
  t.ok(writer.waitingRecords * value.length <= MAX_RECORD_BYTES);
  await until(() => writer.trouble() === '');
  t.ok(Number(log.lines.at(-1)?.fields.lost) > 50, 'and what was lost is counted');
  t.ok(await writer.get(textKey(PREFIX.state, 'k99')));
});

t.test('a burst that a healthy disk takes is not dropped for want of room', async (t) => {
  const { database, writer } = await parts(t);
  const value = Buffer.alloc(64 * 1024);
  for (let i = 0; i < 60; i++) {
    writer.putQueued({ type: 'put', key: textKey(PREFIX.state, `k${i}`), value });
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await until(() => writer.waitingRecords === 0);
  t.equal(writer.droppedRecords, 0);
  for (let i = 0; i < 60; i++) if ((await database.get(textKey(PREFIX.state, `k${i}`))) === undefined) t.fail(`k${i}`);
});

t.test('history beyond its bound is deleted, the oldest first, and what is open stays known', async (t) => {
  const { database, writer, log } = await parts(t);
  const actions = new Episodes<ActionRecord>({
    database,
    writer,
    log,
    history: PREFIX.actionHistory,
    open: PREFIX.actionOpen,
    keep: 300,
    id: (action) => action.actionId,
    startedAtMs: (action) => action.startedAtMs,
    isOpen: (action) => action.state === 'active',
  });
  for (let i = 0; i < 900; i++) {
    actions.put(actionNamed(`n:${i}`, { startedAtMs: i, state: i === 0 ? 'active' : 'released' }));
  }
  await until(() => writer.waitingRecords === 0);
  await actions.trim();
  await actions.trim();
  await until(() => writer.waitingRecords === 0);
  let stored = 0;
  for await (const _ of database.scan({ gte: Buffer.from('x'), lt: Buffer.from('y') })) stored++;
  t.equal(stored, 400, 'at most 500 in one step');
  const newest = await actions.newest(1_000);
  t.equal(newest.length, 300);
  t.equal(newest[0]?.actionId, 'n:899');
  t.match(actions.openOnes(9), [{ actionId: 'n:0' }]);
});

t.test('what somebody waits for is synced in one batch, survives a failed write, and is read meanwhile', async (t) => {
  const { database, writer } = await parts(t);
  const operations = ['a', 'b'].map((name): Operation => {
    return { type: 'put', key: textKey(PREFIX.state, name), value: Buffer.from(name) };
  });
  database.fault = 'before';
  let written = false;
  const promise = writer.putSynced(operations).then(() => {
    written = true;
  });
  t.equal(writer.waitingRecords, 2);
  await until(() => writer.trouble() !== '');
  t.notOk(written);
  t.equal(String(await writer.get(textKey(PREFIX.state, 'b'))), 'b');
  database.batches = [];
  await promise;
  t.strictSame(database.batches, [{ operations: 2, sync: true }]);
  t.equal(writer.waitingRecords, 0);
  t.equal(String(await database.get(textKey(PREFIX.state, 'a'))), 'a');
});

t.test('older records are written only where nothing newer is, on disk or on its way there', async (t) => {
  const { database, writer } = await parts(t);
  const put = (name: string, text: string): Operation => ({
    type: 'put',
    key: textKey(PREFIX.state, name),
    value: Buffer.from(text),
  });
  await writer.putSynced([put('on disk', 'new')]);
  writer.putRecord(put('waits', 'new'));
  const restoring = writer.putAbsent([put('on disk', 'old'), put('waits', 'old'), put('absent', 'old')]);
  writer.putRecord(put('absent later', 'new'));
  t.equal(await restoring, 1);
  t.equal(await writer.putAbsent([put('absent later', 'old'), put('absent', 'older')]), 0);
  for (const [name, text] of [
    ['on disk', 'new'],
    ['waits', 'new'],
    ['absent', 'old'],
    ['absent later', 'new'],
  ] as const) {
    t.equal((await database.get(textKey(PREFIX.state, name)))?.toString(), text, name);
  }
});

t.test('older records that the disk does not take are written when it does, unless newer ones came', async (t) => {
  const { database, writer } = await parts(t);
  const key = textKey(PREFIX.state, 'a');
  database.fault = 'before';
  const restoring = writer.putAbsent([
    { type: 'put', key, value: Buffer.from('old') },
    { type: 'put', key: textKey(PREFIX.state, 'b'), value: Buffer.from('old') },
  ]);
  await until(() => writer.trouble() !== '', 5_000);
  writer.putRecord({ type: 'put', key, value: Buffer.from('new') });
  t.equal(await restoring, 1);
  t.equal((await database.get(key))?.toString(), 'new');
  t.equal((await database.get(textKey(PREFIX.state, 'b')))?.toString(), 'old');
});
