/** An export proves itself: no byte of it can be another, and nothing can be taken out, put in or exchanged. */
import t from 'tap';
import type { AuditVerdict } from '../../src/core/ports.js';
import { verifyExport } from '../../src/store/audit-export.js';
import { exported } from '../fixtures/exports.js';
import { ChainMaker, signerFor } from '../fixtures/signers.js';

const signer = signerFor();
const chain = () => new ChainMaker().key(signer).plain(2).checkpoint(signer).plain(1);
const small = new ChainMaker().key(signer).plain().checkpoint(signer).entries;
const verify = (bytes: Buffer, options = {}): Promise<AuditVerdict> => verifyExport([bytes], options);

const honest: Record<string, Buffer> = {
  signed: exported(small, { signer }),
  unsigned: exported(new ChainMaker().plain(2).entries),
  'a later part': exported(small.slice(1, 2), { signer, introductions: small.slice(0, 1) }),
};

/** Each bit, the neighbours, and what splits or joins lines. */
function otherBytes(was: number): number[] {
  const others = new Set([0, 1, 2, 3, 4, 5, 6, 7].map((bit) => was ^ (1 << bit)));
  for (const other of [(was + 1) & 0xff, (was + 255) & 0xff, 0x0a, 0x20, 0x00, 0xff]) others.add(other);
  others.delete(was);
  return [...others];
}

t.test('an honest export is whole, in whatever pieces it is read', async (t) => {
  for (const [name, bytes] of Object.entries(honest)) {
    t.match(await verify(bytes), { ok: true, signatures: { unsigned: name === 'unsigned' ? 2 : 0 } }, name);
    const single = [...bytes].map((byte) => Buffer.from([byte]));
    t.match(await verifyExport(single), { ok: true }, `${name}, byte by byte`);
  }
  t.match(await verify(honest.unsigned ?? Buffer.alloc(0)), { remarks: [/not signed/] });
});

for (const [name, bytes] of Object.entries(honest)) {
  t.test(`${name}: every single byte that is changed is detected`, async (t) => {
    const missed: string[] = [];
    const lastLine = bytes.lastIndexOf('\n', -2);
    for (let at = 0; at < bytes.length; at++) {
      const was = bytes[at] ?? 0;
      const isFrame = at < bytes.indexOf('\n') || at > lastLine;
      // Signatures take their time: only the unsigned export is tried with all values, the others with some in turn.
      const all = otherBytes(was);
      const count = name === 'unsigned' ? all.length : isFrame ? 3 : 2;
      for (let i = 0; i < count; i++) {
        const other = all[(at * 5 + i) % all.length] ?? 0;
        bytes[at] = other;
        if ((await verify(bytes)).ok) missed.push(`byte ${at}: ${was} as ${other}`);
      }
      bytes[at] = was;
    }
    t.strictSame(missed, []);
    t.match(await verify(bytes), { ok: true }, 'it is as it was');
  });

  t.test(`${name}: cut off at any byte, it is broken; so it is with one more`, async (t) => {
    const passed: number[] = [];
    for (let length = 0; length < bytes.length; length++) {
      if ((await verify(bytes.subarray(0, length))).ok) passed.push(length);
    }
    t.strictSame(passed, []);
    for (const more of ['\n', ' ', '{}\n', '\0', bytes.toString()]) {
      t.match(await verify(Buffer.concat([bytes, Buffer.from(more)])), { ok: false }, JSON.stringify(more.slice(0, 9)));
    }
  });

  t.test(`${name}: a line that is twice there, gone or exchanged is detected`, async (t) => {
    const lines = bytes.toString().split('\n').slice(0, -1);
    const broken = async (changed: readonly string[], what: string) =>
      t.match(await verify(Buffer.from(`${changed.join('\n')}\n`)), { ok: false }, what);
    for (let i = 0; i < lines.length; i++) {
      const line = lines[i] ?? '';
      await broken(lines.toSpliced(i, 0, line), `line ${i} twice`);
      await broken(lines.toSpliced(i, 1), `line ${i} gone`);
      await broken([...lines, line], `line ${i} again at the end`);
      for (let k = i + 1; k < lines.length; k++) {
        await broken(lines.with(i, lines[k] ?? '').with(k, line), `lines ${i} and ${k} exchanged`);
      }
    }
  });
}

t.test('names the first bad entry where an entry is bad, and 0 where the frame is', async (t) => {
  const text = (honest.signed ?? '').toString();
  t.match(await verify(Buffer.from(text.replace('"i":0', '"i":2'))), { ok: false, firstBadSeq: 2, why: /changed/ });
  t.match(await verify(Buffer.from(text.replace('"atMs":1,', '"atMs":3,'))), {
    ok: false,
    firstBadSeq: 0,
    why: /bytes/,
  });
  t.match(await verify(Buffer.from('')), { ok: false, firstBadSeq: 0 });
  t.match(await verify(Buffer.from('rubbish\nrubbish\n')), { ok: false, firstBadSeq: 0, why: /first line/ });
});

t.test('who computes the frame anew still cannot change an entry that is signed, nor sign', async (t) => {
  const entries = chain().entries;
  const cut = exported(entries.slice(0, 3));
  t.match(await verify(cut), { ok: false, why: /last line is not signed/ });
  const stranger = signerFor();
  t.match(await verify(exported(entries, { signer: stranger })), { ok: false, why: /did not introduce/ });
  const foreign = new ChainMaker().key(stranger).plain(4);
  const bytes = exported(foreign.entries, { signer: stranger });
  t.match(await verify(bytes), { ok: true }, 'a whole chain of another key is whole by itself');
  t.match(await verify(bytes, { pinned: signer.keyId }), { ok: false, why: /pinned/ });
  t.match(await verify(bytes, { known: [chain().head] }), { ok: false, firstBadSeq: 5 });
});

t.test('the key that seals an old part may be a later one, when the keys in between handed over', async (t) => {
  const second = signerFor();
  const all = chain().key(second, { former: signer }).plain();
  const { entries } = all;
  const introductions = entries.filter(({ kind }) => kind === 'audit.key');
  const outside = introductions.slice(1);
  const old = exported(entries.slice(0, 4), { signer: second, introductions: outside });
  t.match(await verify(old), { ok: true, signatures: { unsigned: 0 } });
  t.match(await verify(old, { pinned: signer.keyId }), { ok: true });
  t.match(await verify(exported(entries.slice(0, 4), { signer: second })), { ok: false });
  const late = exported(entries.slice(6), { signer: second, introductions });
  t.match(await verify(late, { pinned: signer.keyId }), { ok: true }, 'from the first key to the last');
  const forged = JSON.parse(JSON.stringify(introductions)) as typeof introductions;
  const intro = forged[1];
  if (intro !== undefined) Object.assign(intro.what, { node: 'lyra' });
  t.match(await verify(exported(entries.slice(6), { signer: second, introductions: forged })), { ok: false });
});

t.test('garbage of every kind is refused, without an end of memory', async (t) => {
  const header = (honest.signed ?? '').toString().split('\n')[0] ?? '';
  for (const garbage of [
    'null\n',
    '[]\n',
    '{}\n{}\n',
    `${header}\n`,
    `${header}\n${header}\n`,
    `${header}\nnull\n`,
    header.replace('"introductions":[]', '"introductions":[null]').concat('\n{}\n{}\n'),
    header.replace('"introductions":[]', '"introductions":[{"seq":1}]').concat('\n{}\n{}\n'),
    header.replace('"v":1', '"v":2').concat('\n{}\n{}\n'),
  ]) {
    t.match(await verify(Buffer.from(garbage)), { ok: false }, garbage.slice(0, 40));
  }
  async function* endless() {
    for (;;) yield Buffer.alloc(65_536, 'x');
  }
  t.match(await verifyExport(endless()), { ok: false, why: /a line of more than/ });
});
