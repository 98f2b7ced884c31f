import fc from 'fast-check';
import t from 'tap';
import type { AuditEntry, AuditHead } from '../../src/core/ports.js';
import { draft, GENESIS, MAX_WHAT_BYTES, seal, verifyEntries } from '../../src/store/audit-entry.js';
import { canonicalJson } from '../../src/store/canonical.js';

function chain(length: number, after: AuditHead = GENESIS): string[] {
  const texts: string[] = [];
  let head = after;
  for (let i = 0; i < length; i++) {
    const what = { i, celsius: 87.5, text: 'Zone "é" \u2028', nested: { b: [1, null, true], a: {} } };
    const sealed = seal(draft({ kind: 'action.start', who: 'agent', what }, 1_700_000_000_000 + i), head);
    head = sealed.head;
    texts.push(sealed.text);
  }
  return texts;
}

const parsed = (texts: readonly string[]) => texts.map((text) => JSON.parse(text) as AuditEntry);

t.test('the canonical form is that of RFC 8785', async (t) => {
  t.equal(canonicalJson({ b: 2, a: [1, 'x', null], c: undefined, A: -0 }), '{"A":0,"a":[1,"x",null],"b":2}');
  // The example of RFC 8785, section 3.2.3: sorted by UTF-16 code units.
  const names = { '\u20ac': 1, '\r': 2, '\ufb33': 3, '1': 4, '\u{1f600}': 5, '\u0080': 6, '\u00f6': 7 };
  const sorted = '{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\u{1f600}":5,"\ufb33":3}';
  t.equal(canonicalJson(names), sorted);
  t.equal(canonicalJson([1e21, 1e-7, 4.5, 333333333.3333333]), '[1e+21,1e-7,4.5,333333333.3333333]');
  for (const bad of [Number.NaN, Infinity, 1n, () => 1, Symbol('x'), new Date(), new Map(), [undefined]]) {
    t.throws(() => canonicalJson(bad), TypeError);
  }
  const cyclic: Record<string, unknown> = {};
  cyclic.self = cyclic;
  t.throws(() => canonicalJson(cyclic), TypeError);
});

t.test('what seal() writes is the canonical form of the entry', async (t) => {
  for (const text of chain(3)) t.equal(canonicalJson(JSON.parse(text)), text);
});

t.test('an entry that has no canonical form is kept as the statement of that', async (t) => {
  for (const what of [{ value: Number.NaN }, { big: 'x'.repeat(MAX_WHAT_BYTES) }, { at: 1n }]) {
    const { text } = seal(draft({ kind: 'alert.fire', who: 'agent', what }, 1), GENESIS);
    t.match(JSON.parse(text), { kind: 'alert.fire', what: { notRecorded: String } });
    t.match(await verifyEntries([text]), { ok: true });
  }
});

t.test('an honest chain verifies, as texts and as objects, from its beginning and from a known head', async (t) => {
  const texts = chain(10);
  const entries = parsed(texts);
  const head = { seq: 10, hash: entries.at(-1)?.hash ?? '' };
  t.match(await verifyEntries(texts), {
    ok: true,
    entries: 10,
    head,
    signatures: { keys: [], signedSeq: 0, unsigned: 10 },
  });
  t.match(await verifyEntries(entries, { known: [head] }), { ok: true, entries: 10, head, knownHeads: 1 });
  const after = { seq: 4, hash: entries[3]?.hash ?? '' };
  t.match(await verifyEntries(entries.slice(4), { after }), { ok: true, entries: 6, head });
  t.strictSame(
    entries.map((entry) => canonicalJson(entry)),
    texts,
  );
  t.match(await verifyEntries([]), { ok: true, entries: 0, head: GENESIS });
});

t.test('removal, insertion, reordering, replacement and truncation are named with the first bad entry', async (t) => {
  const texts = chain(10);
  const at = (i: number) => texts[i] ?? '';
  const known = { seq: 10, hash: parsed(texts).at(-1)?.hash ?? '' };
  const bad = async (tampered: string[], firstBadSeq: number, why: RegExp, options = {}) =>
    t.match(await verifyEntries(tampered, options), { ok: false, firstBadSeq, why });
  await bad(texts.toSpliced(4, 1), 5, /removed/);
  await bad(texts.slice(3), 1, /removed/);
  await bad(texts.toSpliced(6, 0, at(2)), 7, /inserted/);
  await bad(texts.with(4, at(5)).with(5, at(4)), 5, /reordered/);
  await bad(texts.slice(0, 8), 9, /cut off/, { known: [known] });
  await bad([], 1, /cut off/, { known: [known] });
  const other = chain(5).at(-1) ?? '';
  const forged = seal(draft({ kind: 'action.start', who: 'mallory', what: {} }, 5), { seq: 4, hash: 'f'.repeat(64) });
  await bad(texts.with(4, forged.text), 5, /link/);
  t.equal(other, at(4));
  await bad(
    [...texts.slice(0, 9), seal(draft({ kind: 'a', who: 'b', what: {} }, 1), headOf(at(8))).text],
    10,
    /rewritten/,
    { known: [known] },
  );
});

function headOf(text: string): AuditHead {
  const { seq, hash } = JSON.parse(text) as AuditEntry;
  return { seq, hash };
}

t.test(
  'a chain may begin with a restart note that links to the known head, or hold one where nothing is missing',
  async (t) => {
    const known = headOf(chain(5).at(-1) ?? '');
    const note = seal(draft({ kind: 'audit.restart', who: 'agent', what: { known } }, 1), known);
    const rest = chain(3, note.head);
    t.match(await verifyEntries([note.text, ...rest]), { ok: true, entries: 4, head: { seq: 9 } });
    t.match(await verifyEntries([...chain(5), ...chain(1, headOf(chain(5).at(-1) ?? '')), note.text]), {
      ok: false,
      why: /lost or replaced/,
    });
    const mended = await verifyEntries([...chain(5), note.text, ...rest]);
    t.match(mended, { ok: true, entries: 9, remarks: [/damaged before/] });
    t.match(await verifyEntries([...chain(3), note.text]), { ok: false, firstBadSeq: 4 });
    const unlinked = seal(
      draft({ kind: 'audit.restart', who: 'agent', what: { known: { ...known, seq: 3 } } }, 1),
      known,
    );
    t.match(await verifyEntries([unlinked.text]), { ok: false, firstBadSeq: 1 });
  },
);

t.test('every change of a single byte is detected and named', async () => {
  const texts = chain(4);
  const positions = texts.flatMap((text, entry) => [...Buffer.from(text).keys()].map((byte) => ({ entry, byte })));
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...positions), fc.integer({ min: 1, max: 255 }), async ({ entry, byte }, flip) => {
      const bytes = Buffer.from(texts[entry] ?? '');
      bytes[byte] = (bytes[byte] ?? 0) ^ flip;
      const verdict = await verifyEntries(texts.with(entry, bytes.toString('utf8')));
      return !verdict.ok && verdict.firstBadSeq === entry + 1;
    }),
    { numRuns: 3_000 },
  );
});
