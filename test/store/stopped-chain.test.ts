/** The record of a store that does not run: read from a copy, whatever state it was left in. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { lockHolder } from '../../src/store/lock-holder.js';
import { StoppedChain } from '../../src/store/stopped-chain.js';
import { openStore } from '../../src/store/store.js';
import { recordingLog } from '../fixtures/logs.js';
import { HandClock } from '../fixtures/store-records.js';

function place(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'skos-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function filled(t: Test, node?: string) {
  const dataDir = join(place(t), 'data');
  const given = node === undefined ? {} : { node };
  const store = await openStore({ dataDir, log: recordingLog(), clock: new HandClock(), ...given });
  t.teardown(() => store.stop());
  for (let i = 1; i <= 5; i++) await store.audit.append({ kind: 'action.start', who: 'agent', what: { i } });
  return { store, dataDir };
}

async function verified(path: string, temporaryRoot: string) {
  const chain = new StoppedChain(path, { temporaryRoot });
  await chain.start();
  try {
    return { verdict: await chain.verify({}), node: await chain.node() };
  } finally {
    await chain.stop();
  }
}

t.test('a store that was killed is verified as it lies there', async (t) => {
  const { dataDir } = await filled(t, 'nova');
  const copies = place(t);
  const evidence = join(place(t), 'evidence');
  // What a disk holds of a running store at one moment: nothing was closed or flushed.
  cpSync(dataDir, evidence, { recursive: true, filter: (path) => !path.endsWith('/LOCK') });
  const { verdict, node } = await verified(evidence, copies);
  t.match(verdict, { ok: true, entries: 6, signatures: { unsigned: 5 } });
  t.equal(node, 'nova');
  t.strictSame(readdirSync(copies), []);
});

t.test('a database that was set aside is verified without the mark of its successor', async (t) => {
  const { store, dataDir } = await filled(t);
  await store.stop();
  const aside = join(dataDir, 'db.damaged-20260102T030405');
  cpSync(join(dataDir, 'db'), aside, { recursive: true });
  writeFileSync(join(dataDir, 'audit-head'), `99 ${'a'.repeat(64)}\n`);
  const copies = place(t);
  t.match(await verified(aside, copies), { verdict: { ok: true, entries: 5 }, node: undefined });
  t.match(await verified(dataDir, copies), { verdict: { ok: false, firstBadSeq: 6, why: /cut off/ } });
  writeFileSync(join(dataDir, 'audit-head'), 'rubbish');
  await t.rejects(verified(dataDir, copies), { code: 'SKOS_AUDIT_BROKEN' });
  t.strictSame(readdirSync(copies), []);
});

t.test('a disk without room for the copy is said, and nothing is left on it', async (t) => {
  const { store, dataDir } = await filled(t);
  await store.stop();
  const small = place(t);
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'skos-test', small]).status !== 0) {
    t.comment('skipped: mounting a tmpfs needs root and CAP_SYS_ADMIN');
    return;
  }
  try {
    await t.rejects(verified(dataDir, small), { code: 'SKOS_STORE_OPEN', message: /no room for its \d+ MiB/ });
    t.strictSame(readdirSync(small), []);
  } finally {
    spawnSync('umount', ['-l', small]);
  }
});

t.test('a database that is in use is seen in the list of the kernel', async (t) => {
  const { store, dataDir } = await filled(t);
  const db = join(dataDir, 'db');
  t.equal(await lockHolder(db), process.pid);
  await store.stop();
  t.equal(await lockHolder(db), undefined);
  t.equal(await lockHolder(join(dataDir, 'nowhere')), undefined);
});

t.test('locks of other files, and garbage, are no locks of this one', async (t) => {
  const { store, dataDir } = await filled(t);
  await store.stop();
  const db = join(dataDir, 'db');
  const { ino } = await stat(join(db, 'LOCK'));
  const proc = place(t);
  mkdirSync(join(proc, '4711', 'fd'), { recursive: true });
  const holder = (text: string) => {
    writeFileSync(join(proc, 'locks'), text);
    return lockHolder(db, proc);
  };
  t.equal(await holder(`1: POSIX  ADVISORY  WRITE 4711 ff:ff:${ino} 0 EOF\n`), undefined, 'of another file system');
  t.equal(await holder('1: POSIX  ADVISORY  WRITE\n\0\0\nx x x\n'), undefined);
  t.equal(await holder(''), undefined);
});
