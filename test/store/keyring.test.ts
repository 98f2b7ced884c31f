/** Keys of the audit chain on disk, and the chain that they sign, over a real database. */
import { chmod, copyFile, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Level } from 'level';
import t, { type Test } from 'tap';
import type { AuditEntry } from '../../src/core/ports.js';
import { AuditChain } from '../../src/store/audit.js';
import { draft, parseEntry, seal } from '../../src/store/audit-entry.js';
import { Database, type Operation } from '../../src/store/database.js';
import { HeadMark } from '../../src/store/head-mark.js';
import { Keyring } from '../../src/store/keyring.js';
import { auditKey } from '../../src/store/keys.js';
import { openStore } from '../../src/store/store.js';
import { Writer } from '../../src/store/writer.js';
import { recordingLog } from '../fixtures/logs.js';
import { HandClock } from '../fixtures/store-records.js';
import { until } from '../fixtures/until.js';

const entry = (i: number) => ({ kind: 'action.start', who: 'agent', what: { i } });

async function opened(t: Test, { dataDir = t.testdir({}), node = 'nova' } = {}) {
  const log = recordingLog();
  const store = await openStore({ dataDir, log, clock: new HandClock(), node });
  t.teardown(() => store.stop());
  const all = () => store.audit.list({ fromSeq: 1, limit: 5_000 });
  const kinds = async () => (await all()).map(({ kind }) => kind);
  return { store, dataDir, log, all, kinds, keys: join(dataDir, 'keys') };
}

const modeOf = async (path: string) => (await stat(path)).mode & 0o777;
const keyFiles = async (keys: string) => (await readdir(keys)).sort();

t.test('makes a key at the first start, for its owner alone, and introduces it', async (t) => {
  const { store, keys, all, log } = await opened(t);
  await store.audit.append(entry(1));
  const [name = ''] = await keyFiles(keys);
  t.equal(name, `${store.audit.keyId}.pem`);
  t.equal(await modeOf(keys), 0o700);
  t.equal(await modeOf(join(keys, name)), 0o600);
  t.match(await readFile(join(keys, name), 'utf8'), /^-----BEGIN PRIVATE KEY-----\n/);
  const [first] = await all();
  t.match(first, { seq: 1, kind: 'audit.key', what: { node: 'nova', keyId: store.audit.keyId, former: null } });
  t.match(log.lines, [{ level: 'info', fields: { event: 'audit.key', auditKey: store.audit.keyId } }]);
  t.notMatch(JSON.stringify(await all()), 'PRIVATE');
});

t.test('signs at a clean stop and after a kill, and not when there is nothing new', async (t) => {
  const first = await opened(t);
  const { dataDir } = first;
  await first.store.audit.append(entry(1));
  await first.store.stop();
  const second = await opened(t, { dataDir });
  t.strictSame(await second.kinds(), ['audit.key', 'action.start', 'audit.checkpoint']);
  t.match(await second.store.audit.verify(), { ok: true, signatures: { signedSeq: 3, unsigned: 0 } });
  t.strictSame(second.log.lines, []);
  await second.store.stop();
  // As after a kill: the last entry is not signed.
  await tamper(dataDir, async (level) => level.del(auditKey(3)));
  await rm(join(dataDir, 'audit-head'));
  const third = await opened(t, { dataDir });
  await third.store.audit.append(entry(2));
  t.strictSame(await third.kinds(), ['audit.key', 'action.start', 'audit.checkpoint', 'action.start']);
  t.match(await third.store.audit.verify(), { ok: true, signatures: { keys: [{ sinceSeq: 1 }], unsigned: 1 } });
});

t.test('signs each thousand entries', async (t) => {
  const { store } = await opened(t);
  // More than one batch holds: what waits behind does not put off the signature.
  await Promise.all(Array.from({ length: 4_500 }, (_, i) => store.audit.append(entry(i))));
  const signed = (await store.audit.list({ fromSeq: 1, limit: 5_000 }))
    .filter(({ kind }) => kind === 'audit.key' || kind === 'audit.checkpoint')
    .map(({ seq }) => seq);
  t.ok(signed.length >= 3, signed.join(', '));
  for (const [i, seq] of signed.entries()) t.ok(seq - (signed[i - 1] ?? 0) < 2_048, `${seq}`);
  t.match(await store.audit.verify({ key: store.audit.keyId }), { ok: true });
});

t.test('a rewritten entry with all hashes behind it computed anew is told by the next signature', async (t) => {
  const first = await opened(t);
  const { dataDir } = first;
  for (let i = 1; i <= 5; i++) await first.store.audit.append(entry(i));
  await first.store.stop();
  await rewrite(dataDir, 3);
  const { store } = await opened(t, { dataDir });
  t.match(await store.audit.verify(), { ok: false, firstBadSeq: 7, why: /signature/ });
});

t.test('behind the last signature only a known head tells it', async (t) => {
  const first = await opened(t);
  const { dataDir } = first;
  await first.store.audit.append(entry(1));
  await first.store.audit.append(entry(2));
  const head = first.store.audit.head();
  await first.store.stop();
  // The checkpoint of the stop goes with the rewritten entries: its forger cannot make another.
  await tamper(dataDir, async (level) => level.del(auditKey(4)));
  await rewrite(dataDir, 2);
  const { store } = await opened(t, { dataDir });
  t.match(await store.audit.verify(), { ok: true }, 'its forger has written the mark beside the database, too');
  t.match(await store.audit.verify({ heads: [head] }), { ok: false, firstBadSeq: 3, why: /rewritten/ });
});

async function tamper(dataDir: string, change: (level: Level<Buffer, Buffer>) => Promise<void>): Promise<void> {
  const level = new Level<Buffer, Buffer>(join(dataDir, 'db'), { keyEncoding: 'buffer', valueEncoding: 'buffer' });
  await change(level);
  await level.close();
}

/** Changes one entry and computes every hash from there on, as somebody can who has the disk and not the key. */
async function rewrite(dataDir: string, seq: number): Promise<void> {
  await tamper(dataDir, async (level) => {
    let head: { seq: number; hash: string } | undefined;
    for (let at = seq; ; at++) {
      const value = await level.get(auditKey(at)).catch(() => undefined);
      const was = value === undefined ? 'gone' : parseEntry(value);
      if (typeof was === 'string') break;
      head ??= { seq: seq - 1, hash: was.previous };
      const who = at === seq ? 'mallory' : was.who;
      const sealed = seal(draft({ ...was, who }, was.atMs), head);
      head = sealed.head;
      await level.put(auditKey(at), Buffer.from(sealed.text));
    }
    if (head !== undefined) await writeFile(join(dataDir, 'audit-head'), `${head.seq} ${head.hash}\n`);
  });
}

t.test('exchanges the key twice, on record and handed over, and keeps no former key', async (t) => {
  const first = await opened(t);
  const { store, keys, dataDir } = first;
  await store.audit.append(entry(1));
  const ids = [store.audit.keyId];
  for (const who of ['root', 'uid 1000']) {
    const rotation = await store.audit.rotateKey(who);
    t.match(rotation, { keyId: store.audit.keyId, former: ids.at(-1) });
    ids.push(rotation.keyId);
    await store.audit.append(entry(2));
  }
  t.strictSame(await keyFiles(keys), [`${ids[2]}.pem`]);
  const verdict = await store.audit.verify({ key: ids[0] });
  t.match(verdict, { ok: true, remarks: [] });
  t.strictSame(
    verdict.signatures.keys.map(({ keyId, handedOver }) => [keyId, handedOver]),
    [
      [ids[0], null],
      [ids[1], true],
      [ids[2], true],
    ],
  );
  t.match(await store.audit.introductions(), [{ who: 'agent' }, { who: 'root' }, { who: 'uid 1000' }]);
  await store.stop();
  const again = await opened(t, { dataDir });
  t.equal(again.store.audit.keyId, ids[2]);
  t.strictSame(again.log.lines, []);
  t.equal((await again.store.audit.introductions()).length, 3);
});

t.test('two exchanges at once: one of them is refused', async (t) => {
  const { store, keys } = await opened(t);
  const outcomes = await Promise.allSettled([store.audit.rotateKey('a'), store.audit.rotateKey('b')]);
  t.strictSame(outcomes.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  t.match(outcomes[1], { reason: { code: 'SKOS_AUDIT_KEY' } });
  t.equal((await keyFiles(keys)).length, 1);
});

t.test(
  'a rotation that was killed in the middle leaves the key in force, or its successor, and no other',
  async (t) => {
    const { store, keys, dataDir } = await opened(t);
    await store.audit.append(entry(1));
    const former = store.audit.keyId;
    const kept = join(dataDir, 'former.pem');
    await copyFile(join(keys, `${former}.pem`), kept);
    // Before its entry is on disk: a file that the chain does not know.
    const stray = await new Keyring({ dataDir, node: 'nova' }).create();
    await store.stop();
    const second = await opened(t, { dataDir });
    t.equal(second.store.audit.keyId, former, 'the chain says which is in force');
    t.not(second.store.audit.keyId, stray.keyId);
    const { keyId } = await second.store.audit.rotateKey('root');
    await second.store.stop();
    // After its entry is on disk, before the former file is removed.
    await copyFile(kept, join(keys, `${former}.pem`));
    const third = await opened(t, { dataDir });
    t.equal(third.store.audit.keyId, keyId);
    t.notOk((await keyFiles(keys)).includes(`${former}.pem`), 'it is removed now');
    t.match(await third.store.audit.verify({ key: former }), { ok: true });
  },
);

t.test('a lost key leads to a new one, without a hand-over, and that is said', async (t) => {
  const { store, keys, dataDir } = await opened(t);
  await store.audit.append(entry(1));
  const former = store.audit.keyId;
  await store.stop();
  await rm(keys, { recursive: true });
  const again = await opened(t, { dataDir });
  t.match(again.log.lines, [{ level: 'warn', fields: { code: 'SKOS_AUDIT_KEY' } }]);
  await again.store.audit.append(entry(2));
  t.match((await again.all())[3], { kind: 'audit.key', what: { former: { keyId: former }, why: /cannot be used/ } });
  t.notOk((await again.all())[3]?.what.handover);
  t.match(await again.store.audit.verify(), { ok: true, remarks: [/key changed without hand-over at entry 4/] });
  t.match(await again.store.audit.verify({ key: former }), { ok: false, firstBadSeq: 4 });
});

t.test('a damaged key file is named, kept as it is and followed by another key', async (t) => {
  const place = t.testdir({});
  for (const [name, damage] of Object.entries({
    empty: (path: string) => writeFile(path, ''),
    garbage: (path: string) => writeFile(path, Buffer.alloc(300, 0xff)),
    huge: (path: string) => writeFile(path, Buffer.alloc(100_000, 0x41)),
    'a directory': async (path: string) => {
      await rm(path);
      await mkdir(path);
    },
    'a link': async (path: string) => {
      await copyFile(path, `${path}.other`);
      await rm(path);
      await symlink(`${path}.other`, path);
    },
  })) {
    const { store, keys, dataDir } = await opened(t, { dataDir: join(place, name.replace(' ', '-')) });
    const former = store.audit.keyId;
    await store.stop();
    await damage(join(keys, `${former}.pem`));
    const again = await opened(t, { dataDir });
    t.match(again.log.lines[0], { level: 'warn', fields: { code: 'SKOS_AUDIT_KEY' } }, name);
    t.ok(again.log.lines[0]?.message.includes(`${former}.pem`), name);
    t.not(again.store.audit.keyId, former, name);
    t.ok((await keyFiles(keys)).includes(`${former}.pem`), `${name}: kept`);
    await again.store.audit.append(entry(1));
    t.match(await again.store.audit.verify(), { ok: true }, name);
    await again.store.stop();
  }
});

t.test('a key under the name of another is not used', async (t) => {
  const { store, keys, dataDir } = await opened(t);
  const { keyId = '' } = store.audit;
  await store.stop();
  const foreign = await new Keyring({ dataDir: join(dataDir, 'other'), node: 'x' }).create();
  await copyFile(join(keys, `${keyId}.pem`), join(keys, `${foreign.keyId}.pem`));
  const again = await opened(t, { dataDir });
  t.equal(again.store.audit.keyId, keyId);
  t.match(again.log.lines, [{ level: 'warn', fields: { code: 'SKOS_AUDIT_KEY' } }]);
});

t.test('a key file that others could read is used, closed, and on record', async (t) => {
  const { store, keys, dataDir } = await opened(t);
  const path = join(keys, `${store.audit.keyId}.pem`);
  await store.stop();
  await chmod(path, 0o644);
  await chmod(keys, 0o755);
  const again = await opened(t, { dataDir });
  await again.store.audit.append(entry(1));
  t.match(again.log.lines, [
    { level: 'warn', message: /open to others \(mode 644\)/, fields: { code: 'SKOS_AUDIT_KEY' } },
  ]);
  t.equal(await modeOf(path), 0o600);
  t.equal(await modeOf(keys), 0o700);
  t.match(
    (await again.all()).find(({ kind }) => kind === 'audit.key_exposed'),
    { what: { keyId: again.store.audit.keyId, how: 'mode 644' } },
  );
});

t.test('without a place for keys the chain goes on unsigned and says so', async (t) => {
  const dataDir = t.testdir({ keys: 'a file where the directory should be' });
  const { store, log } = await opened(t, { dataDir });
  await store.audit.append(entry(1));
  t.equal(store.audit.keyId, undefined);
  t.ok(log.lines.some(({ message, fields }) => /goes on unsigned/.test(message) && fields.code === 'SKOS_AUDIT_KEY'));
  t.match(await store.audit.verify(), { ok: true, signatures: { keys: [], signedSeq: 0, unsigned: 1 } });
  await t.rejects(store.audit.rotateKey('root'), { code: 'SKOS_AUDIT_KEY' });
  await store.stop();
  await rm(join(dataDir, 'keys'));
  const again = await opened(t, { dataDir });
  await again.store.audit.append(entry(2));
  t.strictSame(
    await again.kinds(),
    ['action.start', 'audit.key', 'action.start'],
    'from the next start on it is signed',
  );
  t.match(await again.store.audit.verify(), { ok: true, signatures: { signedSeq: 2, unsigned: 1 } });
});

t.test('a chain from before there were keys goes on, signed from its next start', async (t) => {
  const dataDir = t.testdir({});
  const old = await openStore({ dataDir, log: recordingLog(), clock: new HandClock() });
  for (let i = 1; i <= 3; i++) await old.audit.append(entry(i));
  await old.stop();
  const { store } = await opened(t, { dataDir });
  await store.audit.append(entry(4));
  t.match(await store.audit.verify(), {
    ok: true,
    entries: 5,
    signatures: { keys: [{ sinceSeq: 4, handedOver: null }], signedSeq: 4, unsigned: 1 },
  });
});

t.test('a chain that begins anew does so with a note that the same key signs', async (t) => {
  const { store, dataDir } = await opened(t);
  await store.audit.append(entry(1));
  const { keyId } = store.audit;
  await store.stop();
  await writeFile(join(dataDir, 'db', 'CURRENT'), 'rubbish');
  const again = await opened(t, { dataDir });
  await again.store.audit.append(entry(2));
  t.match(await again.all(), [
    { seq: 4, kind: 'audit.restart', what: { keyId, known: { seq: 3 }, signature: String } },
    { kind: 'action.start' },
  ]);
  t.match(await again.store.audit.verify({ key: keyId }), { ok: true, signatures: { signedSeq: 4 } });
  await again.store.stop();
  const third = await opened(t, { dataDir });
  t.strictSame(third.log.lines, [], 'the key is known');
  t.match(await third.store.audit.verify({ key: keyId }), { ok: true, signatures: { keys: [{ sinceSeq: 4 }] } });
});

t.test('signs now and then while entries come, and not while none do', async (t) => {
  const { audit } = await chainOf(t, { checkpointEveryMs: 25 });
  await audit.append(entry(1));
  await until(() => audit.head().seq === 3);
  const { seq } = audit.head();
  t.match(await audit.verify(), { ok: true, signatures: { signedSeq: 3, unsigned: 0 } });
  await new Promise((resolve) => setTimeout(resolve, 150));
  t.equal(audit.head().seq, seq, 'a signed chain is not signed again');
  t.equal((await audit.list({ fromSeq: seq, limit: 1 }))[0]?.kind, 'audit.checkpoint');
});

t.test('makes its key as soon as there is a place for it', async (t) => {
  const { audit, dataDir } = await chainOf(t, { checkpointEveryMs: 25, files: { keys: 'in the way' } });
  await audit.append(entry(1));
  t.equal(audit.keyId, undefined);
  await rm(join(dataDir, 'keys'));
  await until(() => audit.head().seq === 2);
  t.match(await audit.verify(), { ok: true, signatures: { signedSeq: 2 } });
  t.match(await audit.list({ fromSeq: 1, limit: 2 }), [{ kind: 'action.start' }, { kind: 'audit.key' }]);
});

// ---- Retention -----------------------------------------------------------------------------------------------------

interface ChainGiven {
  readonly maxBytes?: number;
  readonly checkpointEveryMs?: number;
  readonly files?: Record<string, string>;
}

/** The chain with its writer alone. */
async function chainOf(t: Test, { maxBytes, checkpointEveryMs, files = {} }: ChainGiven) {
  const dataDir = t.testdir(files);
  const log = recordingLog();
  const clock = new HandClock();
  const database = new Database(dataDir);
  const writer = new Writer({ database, log, clock, onFresh: () => undefined });
  const mark = new HeadMark({ dataDir, onError: () => undefined });
  const audit = new AuditChain({
    database,
    mark,
    log,
    clock,
    wake: () => writer.wake(),
    keyring: new Keyring({ dataDir, node: 'nova' }),
    checkpointEveryMs,
    ...(maxBytes === undefined
      ? {}
      : { bound: { maxBytes, remove: (operation: Operation) => writer.putRecord(operation) } }),
  });
  await audit.attach(await database.open());
  writer.start(audit);
  audit.begin();
  t.teardown(async () => {
    audit.close();
    await writer.stop();
    await mark.flush();
    await database.close();
  });
  const firstSeq = async () => (await audit.list({ fromSeq: 1, limit: 1 }))[0]?.seq ?? 0;
  return { audit, database, dataDir, firstSeq };
}

t.test('the record stays within its bound; what goes is signed before it goes, and the rest verifies', async (t) => {
  const maxBytes = 1_000_000;
  const { audit, firstSeq } = await chainOf(t, { maxBytes });
  const { keyId } = audit;
  let heads: { seq: number; hash: string }[] = [];
  for (let round = 0; round < 5; round++) {
    await Promise.all(Array.from({ length: 1_000 }, (_, i) => audit.append(entry(i))));
    heads = [...heads, audit.head()];
    // What is announced in one step goes in the next ones.
    for (let step = 0; step < 4; step++) {
      await audit.trim();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  const first = await firstSeq();
  t.ok(first > 500, `begins at ${first}`);
  const verdict = await audit.verify({ key: keyId, heads });
  t.match(verdict, { ok: true });
  t.ok(
    verdict.remarks.some((remark) => /removed by retention, signed at/.test(remark)),
    verdict.remarks.join('; '),
  );
  const rest = await audit.list({ fromSeq: first, limit: 5_000 });
  t.ok(rest.filter(({ kind }: AuditEntry) => kind === 'audit.prune').length <= 5, 'in stretches, not one by one');
});

t.test('a damaged entry does not keep the record from its bound, and is counted when it goes', async (t) => {
  const { audit, database } = await chainOf(t, { maxBytes: 100_000 });
  await Promise.all(Array.from({ length: 3_500 }, (_, i) => audit.append(entry(i))));
  await database.write([{ type: 'put', key: auditKey(7), value: Buffer.from('rubbish') }], { sync: true });
  await audit.trim();
  await audit.append(entry(1));
  const prune = (await audit.list({ fromSeq: 3_000, limit: 5_000 })).find(({ kind }) => kind === 'audit.prune');
  t.match(prune, { what: { removed: { from: { seq: 1 }, damaged: 1 }, keyId: audit.keyId } });
});

t.test('the latest entries stay, however small the bound is', async (t) => {
  const { audit, firstSeq } = await chainOf(t, { maxBytes: 1 });
  await Promise.all(Array.from({ length: 1_500 }, (_, i) => audit.append(entry(i))));
  await audit.trim();
  await audit.trim();
  t.equal(await firstSeq(), 1);
});
