/** `skos audit verify`: of a live agent, of a stopped store, or of an exported file; with the heads that the journal holds. */
import { createPublicKey } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { reason, SkosError } from '../core/errors.js';
import type { AuditHead, AuditVerdict } from '../core/ports.js';
import { parseHeader, verifyExport } from '../store/audit-export.js';
import { rawPublicKey } from '../store/keyring.js';
import { type Context, type Invocation, type Io, textOption } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, plural } from './format.js';
import { type JournalHeads, journalHeads } from './journal-heads.js';
import { wrapped } from './table.js';

/** A chain of a year is some hundred thousand entries; reading and hashing them takes seconds on a slow disk. */
const VERIFY_DEADLINE_MS = 300_000;
/** A key in PEM has some hundred bytes. */
const MAX_KEY_FILE_BYTES = 4_096;
/** The first line of an export names its node. */
const HEADER_BYTES = 2 * 1024 * 1024;

interface Demand {
  readonly given: readonly AuditHead[];
  readonly pinned: string | undefined;
  readonly useJournal: boolean;
}

interface Verified {
  readonly verdict: AuditVerdict;
  readonly journal: JournalHeads;
}

const NO_JOURNAL: JournalHeads = { state: 'read', why: '', heads: [], passedOver: 0 };

export async function verifyChain(invocation: Invocation, context: Context, path: string | undefined): Promise<number> {
  const { values } = invocation;
  const demand: Demand = {
    given: headOptions(values.head),
    pinned: await pinnedKey(textOption(values, 'key')),
    useJournal: values['no-journal'] !== true,
  };
  const { verdict, journal } =
    path === undefined
      ? await verifyLive(demand, context)
      : (await isDirectory(path))
        ? await verifyStopped(path, demand, context)
        : await verifyFile(path, demand, context);
  report({ verdict, journal }, { io: context.io, json: values.json === true, demand });
  return verdict.ok ? EXIT.ok : EXIT.auditBroken;
}

async function verifyLive(demand: Demand, context: Context): Promise<Verified> {
  const client = await context.agent();
  const { node } = await client.request('status', {});
  const owners = [await ownerOf(await context.socketPath())];
  const journal = await headsOf({ node, owners }, demand, context.io);
  const heads = [...demand.given, ...journal.heads];
  const asked = { heads, ...(demand.pinned === undefined ? {} : { key: demand.pinned }) };
  return { verdict: await client.request('audit.verify', asked, { deadlineMs: VERIFY_DEADLINE_MS }), journal };
}

async function verifyStopped(path: string, demand: Demand, context: Context): Promise<Verified> {
  // LevelDB is loaded only here: no other command of the CLI needs it.
  const { StoppedChain } = await import('../store/stopped-chain.js');
  const chain = new StoppedChain(path, { temporaryRoot: context.io.env.TMPDIR });
  await readable(path, () => chain.start());
  try {
    const node = await chain.node();
    const owners = [await ownerOf(path)];
    const journal = node === undefined ? NO_JOURNAL : await headsOf({ node, owners }, demand, context.io);
    const known = [...demand.given, ...journal.heads];
    return { verdict: await chain.verify({ known, pinned: demand.pinned }), journal };
  } finally {
    await chain.stop();
  }
}

async function verifyFile(path: string, demand: Demand, context: Context): Promise<Verified> {
  return readable(path, async () => {
    const node = await exportedNode(path);
    const owners = [await ownerOf(path), await ownerOf(await context.socketPath().catch(() => ''))];
    const journal = node === undefined ? NO_JOURNAL : await headsOf({ node, owners }, demand, context.io);
    const known = [...demand.given, ...journal.heads];
    return { verdict: await verifyExport(createReadStream(path), { known, pinned: demand.pinned }), journal };
  });
}

async function headsOf(
  { node, owners }: { node: string; owners: readonly (number | undefined)[] },
  { useJournal }: Demand,
  io: Io,
): Promise<JournalHeads> {
  if (!useJournal) return NO_JOURNAL;
  const uids = [0, io.euid, ...owners.filter((uid) => uid !== undefined)];
  return journalHeads({ node, uids, env: io.env });
}

async function exportedNode(path: string): Promise<string | undefined> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0);
    const end = buffer.subarray(0, bytesRead).indexOf('\n');
    const header = end < 0 ? 'no line' : parseHeader(buffer.subarray(0, end));
    return typeof header === 'string' ? undefined : header.node;
  } finally {
    await file.close();
  }
}

// ---- Options -------------------------------------------------------------------------------------------------------

function headOptions(given: Invocation['values'][string]): AuditHead[] {
  const texts = Array.isArray(given) ? given.map(String) : [];
  return texts.map((text) => {
    const [, seq, hash] = /^(\d{1,15}):([0-9a-f]{64})$/i.exec(text) ?? [];
    if (seq === undefined || hash === undefined) {
      throw new SkosError('SKOS_CLI_USAGE', `--head "${clean(text)}" is not SEQ:HASH with 64 hex digits`);
    }
    return { seq: Number(seq), hash: hash.toLowerCase() };
  });
}

/** A key id, a public key in hex, or a file with a key in PEM. */
async function pinnedKey(given: string | undefined): Promise<string | undefined> {
  if (given === undefined || /^([0-9a-f]{16}|[0-9a-f]{64})$/.test(given)) return given;
  try {
    const { size } = await stat(given);
    if (size > MAX_KEY_FILE_BYTES) throw new Error(`it has ${size} bytes`);
    return rawPublicKey(createPublicKey(await readFile(given, 'utf8')));
  } catch (error) {
    const what = `--key "${clean(given)}" is neither a key id (16 hex digits) nor a file with an Ed25519 key in PEM`;
    throw new SkosError('SKOS_CLI_USAGE', `${what}: ${reason(error)}`, { cause: error });
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return readable(path, async () => (await stat(path)).isDirectory());
}

/** What the operating system says of the path becomes a coded error. */
async function readable<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof SkosError) throw error;
    throw new SkosError('SKOS_AUDIT_FILE', `${clean(path)}: ${reason(error)}`, { cause: error });
  }
}

async function ownerOf(path: string): Promise<number | undefined> {
  return stat(path)
    .then(({ uid }) => uid)
    .catch(() => stat(dirname(path)).then(({ uid }) => uid))
    .catch(() => undefined);
}

// ---- What it says --------------------------------------------------------------------------------------------------

function report({ verdict, journal }: Verified, { io, json, demand }: { io: Io; json: boolean; demand: Demand }): void {
  if (json) {
    const { state, why, heads, passedOver } = journal;
    const asked = demand.useJournal ? { state, why, heads: heads.length, passedOver } : null;
    io.out(JSON.stringify({ ...verdict, journal: asked }, null, 2));
    return;
  }
  const journalLine = demand.useJournal ? [journalText(journal)] : [];
  if (!verdict.ok) {
    const notes =
      journal.heads.length === 0
        ? []
        : ['Heads of a former data_dir contradict too: --no-journal leaves the journal out.'];
    for (const line of [...journalLine, ...notes]) io.err(clean(line));
    throw new SkosError('SKOS_AUDIT_BROKEN', brokenText(verdict));
  }
  io.out(`${paint(io.color).good('The chain is whole')}: ${plural(verdict.entries, 'entry', 'entries')}.`);
  io.out(`Head: entry ${verdict.head.seq}, ${verdict.head.hash}`);
  for (const line of [signedText(verdict), ...keyLines(verdict), ...journalLine, ...verdict.remarks.map(noteText)]) {
    io.out(wrapped(clean(line), { width: io.columns }).join('\n'));
  }
}

function brokenText({ firstBadSeq, entries, why }: AuditVerdict & { ok: false }): string {
  const whole = `${plural(entries, 'entry', 'entries')} ${entries === 1 ? 'is' : 'are'} whole`;
  if (firstBadSeq === 0) {
    const part = entries === 0 ? 'nothing in it is whole' : `${whole}, what is around them is not`;
    return `${part}: ${clean(why)}`;
  }
  // A chain of another key than the pinned one is whole, and bad from its first entry on.
  const before = entries < firstBadSeq ? `, before it ${whole}` : '';
  return `first bad entry ${firstBadSeq}${before}: ${clean(why)}`;
}

function signedText({ signatures: { signedSeq, unsigned }, head }: AuditVerdict & { ok: true }): string {
  if (signedSeq === 0) return `Signed: nothing; unsigned up to entry ${head.seq}`;
  const behind = unsigned === 0 ? 'all of it' : `${plural(unsigned, 'entry', 'entries')} behind it not yet`;
  return `Signed: up to entry ${signedSeq}, ${behind}`;
}

function keyLines({ signatures: { keys } }: AuditVerdict): string[] {
  const how = (handedOver: boolean | null) =>
    handedOver === null ? '' : handedOver ? ', handed over to by the key before' : ', WITHOUT a hand-over';
  return keys.map(({ keyId, sinceSeq, handedOver }) => `Key: ${keyId} since entry ${sinceSeq}${how(handedOver)}`);
}

function noteText(remark: string): string {
  return `Note: ${remark}`;
}

function journalText({ state, why, heads, passedOver }: JournalHeads): string {
  if (state === 'absent') return `Journal: not compared, ${why}`;
  const others = passedOver === 0 ? '' : `, ${passedOver} lines of others passed over`;
  const compared = `${plural(heads.length, 'head')} compared${others}`;
  return state === 'read' ? `Journal: ${compared}` : `Journal: ${compared}; ${why}`;
}
