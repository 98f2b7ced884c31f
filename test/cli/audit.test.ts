/** `skos audit` against a real store behind the real socket, on stopped stores and on exported files. */

import { createPrivateKey, createPublicKey } from 'node:crypto';
import { cpSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Level } from 'level';
import t, { type Test } from 'tap';
import { EXIT } from '../../src/cli/exit-codes.js';
import type { AuditHead, AuditLog } from '../../src/core/ports.js';
import { draft, parseEntry, seal } from '../../src/store/audit-entry.js';
import { auditKey } from '../../src/store/keys.js';
import { type LevelStore, openStore } from '../../src/store/store.js';
import { NOW_MS, node, skos, status } from '../fixtures/cli.js';
import { fakeJournal } from '../fixtures/journalctl.js';
import { recordingLog } from '../fixtures/logs.js';
import { shortDirectory } from '../fixtures/socket.js';
import { HandClock } from '../fixtures/store-records.js';

const entry = (i: number) => ({ kind: i % 2 === 0 ? 'action.start' : 'alert.fire', who: 'agent', what: { i } });

async function filled(t: Test, entries = 6): Promise<{ store: LevelStore; dataDir: string; clock: HandClock }> {
  const dataDir = join(shortDirectory(t), 'data');
  const clock = new HandClock();
  clock.wall = NOW_MS - 3_600_000;
  const store = await openStore({ dataDir, log: recordingLog(), clock, node: 'nova' });
  t.teardown(() => store.stop());
  for (let i = 1; i <= entries; i++) {
    clock.advance(60_000);
    await store.audit.append(entry(i));
  }
  return { store, dataDir, clock };
}

/** A node whose agent answers from that chain. */
async function serving(t: Test, audit: AuditLog) {
  return node(t, {
    status: () => status({ store: { ok: true, why: '', head: audit.head() } }),
    'audit.verify': (params) => audit.verify(params),
    'audit.list': ({ fromSeq = 1, limit = 100 }) => audit.list({ fromSeq, limit }),
    'audit.introductions': () => audit.introductions(),
    'audit.rotate': () => audit.rotateKey('root'),
    'audit.seal': (params) => audit.sealExport(params, { who: 'root', node: 'nova' }),
  });
}

const wrong = (seq: number): AuditHead => ({ seq, hash: 'f'.repeat(64) });
const headText = ({ seq, hash }: AuditHead) => `${seq}:${hash}`;

t.test('a live chain: what is signed, by which key, and what the journal says of it', async (t) => {
  const { store } = await filled(t);
  const each = await serving(t, store.audit);
  const journal = fakeJournal(join(each.directory, 'bin'), { heads: [store.audit.head()] });
  const { code, out } = await each.skos(['audit', 'verify'], { env: { PATH: journal.directory } });
  t.equal(code, EXIT.ok);
  t.match(out, /The chain is whole: 7 entries\.\nHead: entry 7, /);
  t.match(out, `Key: ${store.audit.keyId} since entry 1`);
  t.match(out, 'Signed: up to entry 1, 6 entries behind it not yet');
  t.match(out, 'Journal: 1 head compared');
  for (const line of out.split('\n')) t.ok(line.length <= 80, line);
});

t.test('a head in the journal that the chain does not hold ends with 6', async (t) => {
  const { store } = await filled(t);
  const each = await serving(t, store.audit);
  const run = (heads: AuditHead[], ...more: string[]) => {
    const journal = fakeJournal(join(each.directory, 'bin'), { heads });
    return each.skos(['audit', 'verify', ...more], { env: { PATH: journal.directory } });
  };
  const rewritten = await run([wrong(3)]);
  t.match(rewritten, { code: EXIT.auditBroken, err: /SKOS_AUDIT_BROKEN: first bad entry 3.*rewritten/s });
  t.match(await run([wrong(9)]), { code: EXIT.auditBroken, err: /first bad entry 8.*cut off/s });
  t.match(await run([wrong(3)], '--no-journal'), { code: EXIT.ok });
  const json = await run([wrong(3)], '--json');
  t.match(json, { code: EXIT.auditBroken });
  t.match(JSON.parse(json.out), { ok: false, firstBadSeq: 3, journal: { state: 'read', heads: 1 } });
});

t.test('a journal that is absent or refused is said, and no error', async (t) => {
  const { store } = await filled(t);
  const each = await serving(t, store.audit);
  t.match(await each.skos(['audit', 'verify']), {
    code: EXIT.ok,
    out: /Journal: not compared, there is no journalctl/,
  });
  const { directory: PATH } = fakeJournal(join(each.directory, 'bin'), { mode: 'denied' });
  t.match(await each.skos(['audit', 'verify'], { env: { PATH } }), { code: EXIT.ok, out: /insufficient permissions/ });
});

t.test('heads and keys that are given by hand', async (t) => {
  const { store, dataDir } = await filled(t);
  const each = await serving(t, store.audit);
  const head = store.audit.head();
  const verify = (...more: string[]) => each.skos(['audit', 'verify', '--no-journal', ...more]);
  t.match(await verify('--head', headText(head), '--head', headText(head).toUpperCase()), { code: EXIT.ok });
  t.match(await verify('--head', headText(wrong(2))), { code: EXIT.auditBroken, err: /first bad entry 2/ });
  t.match(await verify('--head', '2:abc'), { code: EXIT.usage });
  const { keyId = '' } = store.audit;
  t.match(await verify('--key', keyId), { code: EXIT.ok });
  t.match(await verify('--key', 'a'.repeat(16)), { code: EXIT.auditBroken, err: /pinned/ });
  const pem = readFileSync(join(dataDir, 'keys', `${keyId}.pem`), 'utf8');
  const file = each.write(
    'nova.pub',
    String(createPublicKey(createPrivateKey(pem)).export({ format: 'pem', type: 'spki' })),
  );
  t.match(await verify('--key', file), { code: EXIT.ok });
  for (const bad of [each.write('rubbish', 'x'), join(each.directory, 'nowhere'), each.directory]) {
    t.match(await verify('--key', bad), { code: EXIT.usage, err: /neither a key id/ });
  }
});

t.test('a stopped store is verified from a copy, without an agent, and left as it is', async (t) => {
  const { store, dataDir } = await filled(t);
  const head = store.audit.head();
  const { keyId = '' } = store.audit;
  await store.stop();
  const before = fingerprint(dataDir);
  const temporary = shortDirectory(t);
  const env = { TMPDIR: temporary };
  for (const path of [dataDir, join(dataDir, 'db'), `${dataDir}/`]) {
    const { code, out } = await skos(['audit', 'verify', path, '--key', keyId], { env });
    t.equal(code, EXIT.ok, path);
    t.match(out, /whole: 8 entries.*Signed: up to entry 8, all of it/s, path);
  }
  t.strictSame(fingerprint(dataDir), before, 'not a byte is other than it was');
  t.strictSame(readdirSync(temporary), [], 'the copy is gone');
  const journal = fakeJournal(join(temporary, 'bin'), { heads: [head], uid: statSync(dataDir).uid });
  const compared = await skos(['audit', 'verify', dataDir], { env: { PATH: journal.directory } });
  t.match(compared, { code: EXIT.ok, out: /Journal: 1 head compared/ });
  t.ok(journal.asked()?.includes('SKOS_NODE=nova'), 'the node that the entries name');
});

function fingerprint(directory: string): [string, number, string][] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((each) => each.isFile())
    .map((each): [string, number, string] => {
      const path = join(each.parentPath, each.name);
      return [path, statSync(path).mtimeMs, readFileSync(path, 'base64')];
    })
    .sort();
}

t.test('a stopped store whose entries were rewritten or cut off ends with 6', async (t) => {
  const { store, dataDir } = await filled(t);
  await store.stop();
  const tampered = (name: string, change: (level: Level<Buffer, Buffer>) => Promise<void>) => {
    const copy = join(shortDirectory(t), name);
    cpSync(dataDir, copy, { recursive: true });
    return tamper(copy, change).then(() => skos(['audit', 'verify', copy, '--no-journal']));
  };
  t.match(await tampered('changed', (level) => rewrite(level, 3)), {
    code: EXIT.auditBroken,
    err: /first bad entry 8/,
  });
  const cut = await tampered('cut', (level) => level.del(auditKey(8)));
  t.match(cut, { code: EXIT.auditBroken, err: /first bad entry 8, .*cut off/s });
  t.match(await tampered('gone', (level) => level.del(auditKey(4))), { code: EXIT.auditBroken, err: /bad entry 4/ });
});

async function tamper(dataDir: string, change: (level: Level<Buffer, Buffer>) => Promise<void>): Promise<void> {
  const level = new Level<Buffer, Buffer>(join(dataDir, 'db'), { keyEncoding: 'buffer', valueEncoding: 'buffer' });
  await change(level);
  await level.close();
}

/** One entry changed, and every hash behind it computed anew. */
async function rewrite(level: Level<Buffer, Buffer>, seq: number): Promise<void> {
  let head: AuditHead | undefined;
  for (let at = seq; at <= 8; at++) {
    const was = parseEntry((await level.get(auditKey(at))) ?? '');
    if (typeof was === 'string') throw new Error(was);
    head ??= { seq: seq - 1, hash: was.previous };
    const sealed = seal(draft({ ...was, who: at === seq ? 'mallory' : was.who }, was.atMs), head);
    head = sealed.head;
    await level.put(auditKey(at), Buffer.from(sealed.text));
  }
}

t.test('a store that is in use, damaged or none is refused with what to do', async (t) => {
  const { store, dataDir } = await filled(t, 1);
  const live = await skos(['audit', 'verify', dataDir]);
  t.match(live, { code: EXIT.failed, err: new RegExp(`SKOS_STORE_LOCKED.*in use by process ${process.pid}`) });
  await store.stop();
  writeFileSync(join(dataDir, 'db', 'CURRENT'), 'rubbish');
  t.match(await skos(['audit', 'verify', dataDir]), { code: EXIT.failed, err: /SKOS_STORE_OPEN/ });
  const empty = shortDirectory(t);
  t.match(await skos(['audit', 'verify', empty]), { code: EXIT.usage, err: /neither a data_dir/ });
  t.match(await skos(['audit', 'verify', join(empty, 'x')]), { code: EXIT.failed, err: /SKOS_AUDIT_FILE/ });
  t.match(await skos(['audit', 'verify', empty], { env: { TMPDIR: '/nonexistent' } }), { code: EXIT.usage });
});

t.test('an export proves itself on a machine without an agent', async (t) => {
  const { store } = await filled(t);
  const each = await serving(t, store.audit);
  const file = join(each.directory, 'june.audit');
  const made = await each.skos(['audit', 'export', file]);
  t.match(made, { code: EXIT.ok, out: new RegExp(`7 entries, 1 to 7.*\n.*--key ${store.audit.keyId}`) });
  t.equal(statSync(file).mode & 0o777, 0o600);
  const { code, out } = await skos(['audit', 'verify', file, '--key', store.audit.keyId ?? '']);
  t.equal(code, EXIT.ok);
  t.match(out, /whole: 7 entries.*Signed: up to entry 7, all of it/s);
  t.match(await store.audit.list({ fromSeq: 8, limit: 1 }), [{ kind: 'audit.export', who: 'root' }], 'on record');
  const bytes = readFileSync(file);
  const lines = bytes.toString().trimEnd().split('\n');
  const stored = await store.audit.list({ fromSeq: 1, limit: 7 });
  t.strictSame(
    lines.slice(1, -1).map((line) => JSON.parse(line)),
    stored,
  );
  writeFileSync(file, bytes.toString().replace('"i":3', '"i":4'));
  t.match(await skos(['audit', 'verify', file]), { code: EXIT.auditBroken, err: /first bad entry 4/ });
  writeFileSync(file, bytes.subarray(0, -1));
  const cut = await skos(['audit', 'verify', file]);
  t.match(cut, {
    code: EXIT.auditBroken,
    err: /: 6 entries are whole, what is around them is not: the end: .*cut short/,
  });
  writeFileSync(file, 'root:x:0:0:root:/root:/bin/bash\n');
  t.match(await skos(['audit', 'verify', file]), {
    code: EXIT.auditBroken,
    err: /: nothing in it is whole: the last line/,
  });
  const journal = fakeJournal(join(each.directory, 'bin'), { heads: [wrong(2)] });
  writeFileSync(file, bytes);
  const compared = await skos(['audit', 'verify', file], { env: { PATH: journal.directory } });
  t.match(compared, { code: EXIT.auditBroken, err: /first bad entry 2/ });
});

t.test('a part of the chain, over two changes of the key, verifies with the first key and the last', async (t) => {
  const { store } = await filled(t, 3);
  const { keyId: first = '' } = store.audit;
  for (let i = 0; i < 2; i++) {
    await store.audit.rotateKey('root');
    await store.audit.append(entry(i));
  }
  const each = await serving(t, store.audit);
  const last = store.audit.keyId ?? '';
  for (const [from, to] of [
    ['1', '3'],
    ['2', '6'],
    ['6', '6'],
    ['8', '99'],
  ] as const) {
    const file = join(each.directory, `${from}-${to}`);
    t.match(await each.skos(['audit', 'export', file, '--from', from, '--to', to]), { code: EXIT.ok });
    for (const key of [first, last]) {
      t.match(await skos(['audit', 'verify', file, '--key', key]), { code: EXIT.ok }, `${from} to ${to}, ${key}`);
    }
    t.match(await skos(['audit', 'verify', file, '--key', 'b'.repeat(16)]), { code: EXIT.auditBroken });
  }
});

t.test('an export replaces nothing unasked and leaves nothing half', async (t) => {
  const { store } = await filled(t, 2);
  const each = await serving(t, store.audit);
  const place = join(each.directory, 'out');
  const file = each.write('out/x.audit', 'precious');
  t.match(await each.skos(['audit', 'export', file]), { code: EXIT.failed, err: /SKOS_AUDIT_FILE.*--force/ });
  t.equal(readFileSync(file, 'utf8'), 'precious');
  t.match(await each.skos(['audit', 'export', file, '--force']), { code: EXIT.ok });
  t.match(await skos(['audit', 'verify', file]), { code: EXIT.ok });
  t.match(await each.skos(['audit', 'export', join(place, 'none', 'y')]), {
    code: EXIT.failed,
    err: /SKOS_AUDIT_FILE/,
  });
  t.match(await each.skos(['audit', 'export', join(place, 'y'), '--from', '99']), { err: /SKOS_AUDIT_UNKNOWN/ });
  t.match(await each.skos(['audit', 'export']), { code: EXIT.usage });
  const aborted = new AbortController();
  aborted.abort();
  t.match(await each.skos(['audit', 'export', join(place, 'z')], { signal: aborted.signal }), { code: EXIT.failed });
  const honest = store.audit.sealExport.bind(store.audit);
  store.audit.sealExport = (request, by) => honest({ ...request, head: { ...request.head, hash: 'e'.repeat(64) } }, by);
  t.match(await each.skos(['audit', 'export', join(place, 'w')]), { code: EXIT.auditBroken });
  t.strictSame(readdirSync(place), ['x.audit']);
});

t.test('shows one entry in full, with its neighbours and the signature that covers it', async (t) => {
  const { store } = await filled(t, 2);
  await store.audit.append({ kind: 'config.changed', who: 'root', what: { note: `${'long '.repeat(200)}end \u202e` } });
  await store.audit.rotateKey('root');
  await store.audit.append(entry(9));
  const each = await serving(t, store.audit);
  const [, second, third, fourth] = await store.audit.list({ fromSeq: 1, limit: 9 });
  const { code, out } = await each.skos(['audit', 'show', '3']);
  t.equal(code, EXIT.ok);
  for (const text of ['Entry 3: action.start', '"i": 2', third?.hash, `2 ${second?.hash}`, `4 ${fourth?.hash}`]) {
    t.match(out, text);
  }
  t.match(out, `by the key ${store.audit.keyId} in entry 5 (audit.key)`);
  t.match((await each.skos(['audit', 'show', '4'])).out, /end \?"/, 'nothing is cut, and nothing moves the cursor');
  t.match((await each.skos(['audit', 'show', '6'])).out, /after +nothing yet.*Signed: not yet/s);
  t.match(
    (await each.skos(['audit', 'show', '1'])).out,
    `before  nothing: it is the first\n  after   2 ${second?.hash}`,
  );
  t.match((await each.skos(['audit', 'show', '5'])).out, /after +6 [0-9a-f]{64}\n/, 'though it is signed itself');
  t.match(JSON.parse((await each.skos(['audit', 'show', '3', '--json'])).out), { entry: third, signedBy: { seq: 5 } });
  t.match(await each.skos(['audit', 'show', '99']), { code: EXIT.failed, err: /SKOS_AUDIT_UNKNOWN.*last one is 6/ });
  for (const bad of [[], ['0'], ['x']]) t.match(await each.skos(['audit', 'show', ...bad]), { code: EXIT.usage });
});

t.test('lists by kind, by who and by age, the last ones, or from a number on', async (t) => {
  const { store } = await filled(t, 30);
  const each = await serving(t, store.audit);
  const seqs = async (...options: string[]) =>
    (JSON.parse((await each.skos(['audit', 'list', '--json', ...options])).out) as AuditHead[]).map(({ seq }) => seq);
  t.strictSame(await seqs('--kind', 'alert.*', '--limit', '3'), [26, 28, 30]);
  t.strictSame(await seqs('--kind', 'alert.*', '--limit', '2', '--from', '3'), [4, 6]);
  t.strictSame(await seqs('--kind', 'audit.*'), [1]);
  t.strictSame(await seqs('--who', 'root'), []);
  t.strictSame(await seqs('--since', '33m', '--limit', '50'), [28, 29, 30, 31]);
  t.strictSame(await seqs('--limit', '2'), [30, 31]);
  t.match(await each.skos(['audit', 'list', '--since', 'ever']), { code: EXIT.usage });
});

t.test('the key is exchanged only by name', async (t) => {
  const { store } = await filled(t, 1);
  const each = await serving(t, store.audit);
  const { keyId } = store.audit;
  t.match(await each.skos(['audit', 'rotate-key']), { code: EXIT.failed, err: /SKOS_CLI_NAME/ });
  t.match(await each.skos(['audit', 'rotate-key', '--confirm', 'lyra']), { err: /SKOS_CLI_NAME/ });
  t.match(await each.skos(['audit', 'rotate-key'], { ask: async () => 'n' }), { err: /SKOS_CLI_NAME/ });
  t.equal(store.audit.keyId, keyId);
  const { code, out } = await each.skos(['audit', 'rotate-key'], { ask: async () => 'nova' });
  t.equal(code, EXIT.ok);
  t.not(store.audit.keyId, keyId);
  t.match(out, `New key: ${store.audit.keyId}, in force since entry 3; ${keyId} handed over to it.`);
});

t.test('a chain without keys is exported unsigned, and that is said', async (t) => {
  const dataDir = join(shortDirectory(t), 'data');
  const store = await openStore({ dataDir, log: recordingLog(), clock: new HandClock() });
  t.teardown(() => store.stop());
  await store.audit.append(entry(1));
  const each = await serving(t, store.audit);
  const file = join(each.directory, 'x');
  t.match(await each.skos(['audit', 'export', file]), { code: EXIT.ok });
  t.match(await skos(['audit', 'verify', file]), {
    code: EXIT.ok,
    out: /Signed: nothing.*not signed: it shows accidents/s,
  });
});
