/** Signatures along a chain: what they prove, and what no rewriting can imitate. */
import t from 'tap';
import { seal, signedDraft, verifyEntries } from '../../src/store/audit-entry.js';
import { isSignedBy, keyIdOf } from '../../src/store/checkpoint.js';
import { ChainMaker, rewritten, signerFor } from '../fixtures/signers.js';

const first = signerFor();
const second = signerFor();
const stranger = signerFor();
const honest = () => new ChainMaker().key(first).plain(3).checkpoint(first).plain(2);

t.test('says which keys signed, up to where, and how many entries follow', async (t) => {
  const verdict = await verifyEntries(honest().texts);
  t.match(verdict, {
    ok: true,
    entries: 7,
    signatures: { keys: [{ keyId: first.keyId, sinceSeq: 1, handedOver: null }], signedSeq: 5, unsigned: 2 },
    remarks: [],
  });
  const stopped = await verifyEntries(honest().checkpoint(first).texts);
  t.match(stopped, { ok: true, signatures: { signedSeq: 8, unsigned: 0 } }, 'a checkpoint covers itself');
});

t.test('a rewritten entry passes behind the last checkpoint and nowhere else', async (t) => {
  const { texts } = honest();
  const forge = (seq: number) => rewritten(texts, seq, () => ({ who: 'mallory' }));
  t.match(await verifyEntries(forge(6)), { ok: true, signatures: { signedSeq: 5, unsigned: 2 } });
  for (const seq of [2, 3, 4]) {
    t.match(await verifyEntries(forge(seq)), { ok: false, firstBadSeq: 5, why: /signature is not right/ }, `${seq}`);
  }
  t.match(await verifyEntries(forge(1)), { ok: false, firstBadSeq: 1 });
  t.match(await verifyEntries(forge(5)), { ok: false, firstBadSeq: 5 });
});

t.test('every member of a signed entry is signed', async (t) => {
  const { texts } = honest();
  for (const change of [{ atMs: 1 }, { who: 'root' }, { kind: 'audit.key' }]) {
    t.match(
      await verifyEntries(rewritten(texts, 5, () => change)),
      { ok: false, firstBadSeq: 5 },
      JSON.stringify(change),
    );
  }
  for (const what of [
    { node: 'lyra' },
    { of: { seq: 3, hash: 'a'.repeat(64) } },
    { keyId: second.keyId },
    { publicKey: second.publicKey },
    { signature: 'ab'.repeat(64) },
    { signature: undefined },
    { signature: null },
    { node: undefined },
    { extra: 1 },
  ]) {
    const forged = rewritten(texts, 5, (entry) => ({ what: { ...entry.what, ...what } }));
    t.match(await verifyEntries(forged), { ok: false, firstBadSeq: 5 }, JSON.stringify(what));
  }
  const upper = rewritten(texts, 5, ({ what }) => ({
    what: { ...what, signature: String(what.signature).toUpperCase() },
  }));
  t.match(await verifyEntries(upper), { ok: false, firstBadSeq: 5 }, 'one form only');
});

t.test('a checkpoint that was taken from elsewhere is refused', async (t) => {
  const other = new ChainMaker().key(first).plain(2).checkpoint(first);
  const what = other.entries.at(-1)?.what ?? {};
  const { texts } = new ChainMaker().key(first).plain(4);
  const forged = rewritten(texts, 5, () => ({ kind: 'audit.checkpoint', what }));
  t.match(await verifyEntries(forged), { ok: false, firstBadSeq: 5 });
});

t.test('keys that hand over to each other are followed', async (t) => {
  const third = signerFor();
  const chain = honest().key(second, { former: first }).plain().checkpoint(second).key(third, { former: second });
  const verdict = await verifyEntries(chain.texts);
  t.match(verdict, {
    ok: true,
    signatures: {
      keys: [
        { keyId: first.keyId, handedOver: null },
        { keyId: second.keyId, sinceSeq: 8, handedOver: true },
        { keyId: third.keyId, sinceSeq: 11, handedOver: true },
      ],
      unsigned: 0,
    },
    remarks: [],
  });
  for (const pinned of [first.keyId, first.publicKey, third.keyId]) {
    t.match(await verifyEntries(chain.texts, { pinned }), { ok: true }, 'from any of them on');
  }
});

t.test('a former key signs nothing any more, nor a key that was never introduced', async (t) => {
  const old = honest().key(second, { former: first }).checkpoint(first);
  t.match(await verifyEntries(old.texts), { ok: false, firstBadSeq: 9, why: /is the key in force/ });
  const none = new ChainMaker().plain().checkpoint(first);
  t.match(await verifyEntries(none.texts), { ok: false, firstBadSeq: 2, why: /not introduced/ });
});

t.test('a key without a hand-over is named; who pinned the former one is told that it is broken', async (t) => {
  const chain = honest().key(second, { after: first }).checkpoint(second);
  t.match(await verifyEntries(chain.texts), {
    ok: true,
    signatures: { keys: [{}, { keyId: second.keyId, handedOver: false }] },
    remarks: [/key changed without hand-over at entry 8/],
  });
  t.match(await verifyEntries(chain.texts, { pinned: first.keyId }), { ok: false, firstBadSeq: 8, why: /hand-over/ });
  t.match(await verifyEntries(chain.texts, { pinned: second.keyId }), { ok: true });
  const forged = honest().key(second, { after: first, former: stranger });
  t.match(await verifyEntries(forged.texts), { ok: false, firstBadSeq: 8, why: /hand-over.*not right/ });
});

t.test('a chain written anew with another key is told by the pinned key and by a known head', async (t) => {
  const known = honest().head;
  const { texts } = new ChainMaker().key(stranger).plain(3).checkpoint(stranger).plain(2);
  t.match(await verifyEntries(texts), { ok: true }, 'by itself it is whole');
  t.match(await verifyEntries(texts, { pinned: first.keyId }), { ok: false, firstBadSeq: 1, why: /pinned/ });
  t.match(await verifyEntries(texts, { known: [known] }), { ok: false, firstBadSeq: 7, why: /rewritten/ });
  const unsigned = new ChainMaker().plain(7).texts;
  t.match(await verifyEntries(unsigned, { pinned: first.keyId }), { ok: false, why: /no key/ });
});

t.test('a pinned key does not vouch for thousands of entries that nobody signed', async (t) => {
  t.match(await verifyEntries(honest().plain(2_046).texts, { pinned: first.keyId }), { ok: true });
  t.match(await verifyEntries(honest().plain(2_047).texts, { pinned: first.keyId }), { ok: false, firstBadSeq: 6 });
});

t.test(
  'a signature does not vouch for thousands of entries at once, which a forger may have left to the node',
  async (t) => {
    const chain = (unsigned: number) => honest().plain(unsigned).checkpoint(first).plain(2);
    const pinned = first.keyId;
    t.match(await verifyEntries(chain(2_000).texts, { pinned }), { ok: true, remarks: [] });
    t.match(await verifyEntries(chain(2_100).texts, { pinned }), {
      ok: false,
      firstBadSeq: 2_108,
      why: /2102 entries before 2108 were signed only there/,
    });
    t.match(await verifyEntries(chain(2_100).texts), { ok: true, remarks: [/2102 entries before 2108/] });
    const former = new ChainMaker().plain(3_000).key(first).plain(3).checkpoint(first);
    t.match(await verifyEntries(former.texts, { pinned }), { ok: true, remarks: [] }, 'before there was a key');
  },
);

t.test('a record that went on under the name of another node says so', async (t) => {
  const chain = honest()
    .checkpoint({ ...first, node: 'lyra' })
    .plain()
    .checkpoint({ ...first, node: 'lyra' });
  t.match(await verifyEntries(chain.texts), { ok: true, remarks: [/for the node nova before entry 8, and for lyra/] });
});

t.test('many known heads: each must be met, contradicting ones cannot be', async (t) => {
  const chain = honest();
  const heads = chain.entries.map(({ seq, hash }) => ({ seq, hash }));
  t.match(await verifyEntries(chain.texts, { known: heads }), { ok: true, knownHeads: 7, remarks: [] });
  const wrong = { seq: 3, hash: 'f'.repeat(64) };
  t.match(await verifyEntries(chain.texts, { known: [...heads, wrong] }), { ok: false, firstBadSeq: 3 });
  const later = { seq: 9, hash: 'f'.repeat(64) };
  t.match(await verifyEntries(chain.texts, { known: [later] }), { ok: false, firstBadSeq: 8, why: /cut off/ });
  t.match(await verifyEntries(chain.texts, { known: [later], partial: true }), {
    ok: true,
    remarks: [/not compared: 1/],
  });
});

const prune = (chain: ChainMaker, to: { seq: number; hash: string }) => ({
  what: { removed: { from: { seq: 1 }, to, entries: to.seq }, why: `of ${chain.texts.length}` },
});

t.test('a beginning that retention removed is whole when the key in force says so', async (t) => {
  const chain = honest();
  const to = { seq: 5, hash: chain.entries[4]?.hash ?? '' };
  chain.signed('audit.prune', first, prune(chain, to)).plain();
  t.match(await verifyEntries(chain.texts.slice(5)), {
    ok: true,
    entries: 4,
    remarks: [/introduced before/, /entries 1 to 5 were removed by retention, signed at 8/],
  });
  t.match(await verifyEntries(chain.texts.slice(3)), { ok: true }, 'removed as far as it got');
  t.match(await verifyEntries(chain.texts), { ok: true, remarks: [] }, 'or not yet');
  t.match(await verifyEntries(chain.texts.slice(6)), { ok: false, firstBadSeq: 1 }, 'one more than it says');
  t.match(await verifyEntries(chain.texts.slice(5), { pinned: first.keyId }), { ok: true });
  t.match(await verifyEntries(chain.texts.slice(5), { pinned: second.keyId }), { ok: false });
});

t.test('a removal that is not signed counts only where there is no key', async (t) => {
  const chain = honest();
  const to = { seq: 4, hash: chain.entries[3]?.hash ?? '' };
  const what = { removed: { from: { seq: 1 }, to, entries: 4 }, why: 'mallory' };
  const { texts } = chain.plain();
  const forged = rewritten(texts, 8, () => ({ kind: 'audit.prune', what }));
  t.match(await verifyEntries(forged.slice(4)), { ok: false, firstBadSeq: 8, why: /not signed/ });
  const bare = new ChainMaker().plain(9);
  const at = { seq: 4, hash: bare.entries[3]?.hash ?? '' };
  const unsigned = rewritten(bare.texts, 9, () => ({ kind: 'audit.prune', what: { removed: { to: at } } }));
  t.match(await verifyEntries(unsigned.slice(4)), { ok: true, remarks: [/removed by retention, as entry 9/] });
});

t.test('a signed restart note is a beginning that brings its key', async (t) => {
  const known = honest().head;
  const restart = (signer: typeof first) => new ChainMaker(known).signed('audit.restart', signer, { what: { known } });
  const chain = restart(first).plain(2).checkpoint(first);
  t.match(await verifyEntries(chain.texts), {
    ok: true,
    signatures: { keys: [{ keyId: first.keyId, sinceSeq: 8 }], unsigned: 0 },
    remarks: [/begins at 8 with a restart note/],
  });
  t.match(await verifyEntries(chain.texts, { pinned: first.keyId }), { ok: true });
  t.match(await verifyEntries(restart(stranger).texts, { pinned: first.keyId }), { ok: false });
});

t.test('a key id is the beginning of the SHA-256 of the raw key, and the signature is plain Ed25519', async (t) => {
  // RFC 8032, section 7.1, test 2.
  const publicKey = '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c';
  const signature =
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00';
  t.ok(isSignedBy(publicKey, { text: '\x72', signature }));
  t.notOk(isSignedBy(publicKey, { text: '\x73', signature }));
  t.notOk(isSignedBy('0'.repeat(63), { text: '\x72', signature }));
  t.notOk(isSignedBy('f'.repeat(64), { text: '\x72', signature }));
  t.match(keyIdOf(publicKey), /^[0-9a-f]{16}$/);
});

t.test('sealing again on the same head gives the same bytes', async (t) => {
  const each = signedDraft({ kind: 'audit.checkpoint', who: 'agent', what: {} }, { atMs: 5, signer: first });
  const { head } = honest();
  t.equal(seal(each, head).text, seal(each, head).text);
});
