/**
 * A verifier by somebody who has only the comments of audit-entry.ts and audit-export.ts: nothing of src/store is used to check.
 * When this fails, either the format has changed or its description is wrong.
 */
import { createHash, createPublicKey, verify } from 'node:crypto';
import t from 'tap';
import { exported } from '../fixtures/exports.js';
import { ChainMaker, signerFor } from '../fixtures/signers.js';

type Json = Readonly<Record<string, unknown>>;

/** RFC 8785 for what JSON.parse() gives: sorted members, numbers and strings as JSON.stringify() writes them. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(',')}}`;
}

const sha256 = (bytes: string | Buffer) => createHash('sha256').update(bytes).digest('hex');
const without = (value: Json, ...names: string[]): Json =>
  Object.fromEntries(Object.entries(value).filter(([name]) => !names.includes(name)));

function isSigned({ text, publicKey, signature }: { text: string; publicKey: unknown; signature: unknown }): boolean {
  const x = Buffer.from(String(publicKey), 'hex').toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  return verify(null, Buffer.from(text), key, Buffer.from(String(signature), 'hex'));
}

/** What is wrong with the export; empty: nothing. */
function faults(bytes: Buffer): string[] {
  const found: string[] = [];
  const must = (holds: boolean, what: string) => holds || found.push(what);
  const lines = bytes.toString().split('\n');
  must(lines.pop() === '', 'the last line is ended');
  const objects = lines.map((line) => JSON.parse(line) as Json);
  for (const [i, line] of lines.entries()) must(canonical(objects[i]) === line, `line ${i} is canonical`);
  const [header = {}, ...rest] = objects;
  const trailer = rest.pop() ?? {};
  let { seq, hash } = header.after as { seq: number; hash: string };
  let inForce: unknown;
  for (const entry of rest) {
    const what = entry.what as Json;
    must(entry.seq === seq + 1 && entry.previous === hash, `entry ${seq + 1} follows`);
    seq = Number(entry.seq);
    hash = sha256(canonical(without(entry, 'hash')));
    must(entry.hash === hash, `hash of ${seq}`);
    if (entry.kind !== 'audit.key' && entry.kind !== 'audit.checkpoint') continue;
    const text = canonical({ ...without(entry, 'hash'), what: without(what, 'signature', 'handover') });
    const { publicKey, signature } = what;
    const domain = `skos-${String(entry.kind).replace('.', '-')}-v1`;
    must(isSigned({ text: `${domain}\n${text}`, publicKey, signature }), `signature of ${seq}`);
    must(what.keyId === sha256(Buffer.from(String(publicKey), 'hex')).slice(0, 16), `key id of ${seq}`);
    if (entry.kind === 'audit.key') {
      const handover = { text: `skos-audit-handover-v1\n${text}`, publicKey: inForce, signature: what.handover };
      must(inForce === undefined || isSigned(handover), `hand-over of ${seq}`);
      inForce = publicKey;
    } else {
      const of = what.of as Json;
      must(publicKey === inForce && of.seq === seq - 1 && of.hash === entry.previous, `checkpoint ${seq}`);
    }
  }
  const body = canonical(without(trailer, 'hash', 'signature'));
  const lastLine = `${lines.at(-1)}\n`;
  must(trailer.hash === sha256(body), 'hash of the last line');
  must(trailer.sha256 === sha256(bytes.subarray(0, bytes.length - Buffer.byteLength(lastLine))), 'bytes');
  must(canonical(trailer.head) === canonical({ seq, hash }), 'head');
  must(trailer.publicKey === inForce, 'the last line is signed by the key in force');
  const { publicKey, signature } = trailer;
  must(isSigned({ text: `skos-audit-export-v1\n${body}`, publicKey, signature }), 'signature of the last line');
  return found;
}

t.test('an export is what its description says', async (t) => {
  const [first, second] = [signerFor(), signerFor()];
  const chain = new ChainMaker().key(first).plain(3).checkpoint(first).key(second, { former: first }).plain(2);
  const bytes = exported(chain.checkpoint(second).entries, { signer: second });
  t.strictSame(faults(bytes), []);
  const changed = Buffer.from(bytes.toString().replace('"i":1', '"i":7'));
  t.strictSame(faults(changed), ['hash of 3', 'entry 4 follows', 'bytes'], 'and it can fail');
});
