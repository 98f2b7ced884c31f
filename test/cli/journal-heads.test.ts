import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import t, { type Test } from 'tap';
import { journalHeads } from '../../src/cli/journal-heads.js';
import { fakeJournal } from '../fixtures/journalctl.js';
import { shortDirectory } from '../fixtures/socket.js';

const heads = [3, 2, 1].map((seq) => ({ seq, hash: String(seq).repeat(64) }));

async function asked(t: Test, given: Parameters<typeof fakeJournal>[1], query = {}) {
  const journal = fakeJournal(join(shortDirectory(t), 'bin'), { heads, ...given });
  const answer = await journalHeads({ node: 'nova', uids: [0, 998], env: { PATH: journal.directory }, ...query });
  return { answer, journal };
}

t.test('asks the journal for the heads of one node and reads them', async (t) => {
  const { answer, journal } = await asked(t, {});
  t.strictSame(answer, { state: 'read', why: '', heads, passedOver: 0 });
  t.ok(journal.asked()?.includes('SKOS_EVENT=audit.head'));
  t.ok(journal.asked()?.includes('SKOS_NODE=nova'));
});

t.test('heads that another user wrote into the journal do not count', async (t) => {
  t.match((await asked(t, { uid: 998 })).answer, { state: 'read', heads: { length: 3 } });
  t.match((await asked(t, { uid: 1000 })).answer, { state: 'read', heads: { length: 0 }, passedOver: 3 });
});

t.test('no journalctl is no error', async (t) => {
  const directory = shortDirectory(t);
  for (const env of [{ PATH: directory }, {}]) {
    t.match(await journalHeads({ node: 'nova', uids: [0], env }), { state: 'absent', heads: { length: 0 } });
  }
});

t.test('a refusal is told in its own words', async (t) => {
  t.match((await asked(t, { mode: 'denied' })).answer, { state: 'failed', why: /insufficient permissions/ });
});

t.test('one that hangs is ended, and what it said counts', async (t) => {
  const startMs = performance.now();
  const { answer } = await asked(t, { mode: 'hangs' }, { deadlineMs: 4_000 });
  t.ok(performance.now() - startMs < 15_000);
  t.match(answer, { state: 'failed', why: /did not end/, heads: { length: 3 } });
});

t.test('garbage is passed over', async (t) => {
  t.match((await asked(t, { mode: 'garbage' })).answer, { state: 'read', heads, passedOver: 5 });
});

t.test('one that prints without an end is ended', async (t) => {
  t.match((await asked(t, { mode: 'endless' })).answer, { state: 'failed', why: /more heads than are read/ });
});

t.test('of very many heads the newest are kept and the old ones thinned out', async (t) => {
  const many = Array.from({ length: 30_000 }, (_, i) => ({ seq: 30_000 - i, hash: 'a'.repeat(64) }));
  const { answer } = await asked(t, { heads: many });
  t.equal(answer.heads.length, 5_000);
  t.strictSame(answer.heads.slice(0, 2_500), many.slice(0, 2_500));
  const oldest = answer.heads.at(-1)?.seq ?? 0;
  t.ok(oldest < 50, `down to ${oldest}`);
});
