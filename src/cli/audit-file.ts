/**
 * `skos audit export`: a part of the chain as a file that proves itself (store/audit-export.ts). The agent is asked page by page, so
 * that neither side holds the chain in memory; the file gets its name only when it is whole and on disk.
 */
import { createHash, randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { AgentClient } from '../core/agent-client.js';
import { isThere, syncDirectory } from '../core/atomic-file.js';
import { reason, SkosError } from '../core/errors.js';
import type { AuditEntry, AuditHead, AuditSealRequest } from '../core/ports.js';
import { entryLine, headerLine, trailerLine } from '../store/audit-export.js';
import { seqOption } from './audit-list.js';
import { type Context, type Invocation, type Io, textOption } from './command.js';
import { EXIT } from './exit-codes.js';
import { plural } from './format.js';

const PAGE = 500;
/** The record says who did what on this node. */
const FILE_MODE = 0o600;
/** Behind a busy disk the entry of the export itself takes its time. */
const SEAL_DEADLINE_MS = 60_000;

export async function exportChain(
  { values }: Invocation,
  { io, agent }: Context,
  path: string | undefined,
): Promise<number> {
  if (path === undefined) throw new SkosError('SKOS_CLI_USAGE', 'skos audit export: expected the name of a file');
  const from = seqOption(textOption(values, 'from'), 'from');
  const to = seqOption(textOption(values, 'to'), 'to');
  if (values.force !== true && (await isThere(path))) {
    throw new SkosError('SKOS_AUDIT_FILE', `${path} is there already; --force replaces it`);
  }
  const client = await agent();
  const range = await rangeOf(client, { from, to });
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  try {
    const request = await writeFile(temporary, { client, range, io });
    await rename(temporary, path);
    await syncDirectory(dirname(path));
    const count = request.head.seq - request.after.seq;
    io.out(`${plural(count, 'entry', 'entries')}, ${request.after.seq + 1} to ${request.head.seq}, in ${path}`);
    io.out(`Check it anywhere: skos audit verify ${path}${request.keyId === null ? '' : ` --key ${request.keyId}`}`);
    return EXIT.ok;
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    if (error instanceof SkosError) throw error;
    throw new SkosError('SKOS_AUDIT_FILE', `${path}: ${reason(error)}`, { cause: error });
  }
}

interface Range {
  readonly node: string;
  readonly first: AuditEntry;
  readonly toSeq: number;
}

async function rangeOf(
  client: AgentClient,
  { from, to }: { from: number | undefined; to: number | undefined },
): Promise<Range> {
  const { node, store } = await client.request('status', {});
  const [first] = await client.request('audit.list', { fromSeq: from ?? 1, limit: 1 });
  const toSeq = Math.min(to ?? store.head.seq, store.head.seq);
  if (first === undefined || first.seq > toSeq || (from !== undefined && from > 0 && first.seq !== from)) {
    const what = from === undefined ? 'no entry' : `no entry ${from}`;
    throw new SkosError('SKOS_AUDIT_UNKNOWN', `there is ${what} up to ${to ?? 'the last one'}, ${store.head.seq}`);
  }
  return { node, first, toSeq };
}

async function writeFile(
  path: string,
  { client, range, io }: { client: AgentClient; range: Range; io: Io },
): Promise<AuditSealRequest & { readonly keyId: string | null }> {
  const file = await open(path, 'wx', FILE_MODE);
  try {
    await file.chmod(FILE_MODE);
    const digest = createHash('sha256');
    const put = (text: string) => write(file, text, digest);
    const after = { seq: range.first.seq - 1, hash: range.first.previous };
    const introductions = await outside(client, range);
    await put(headerLine({ node: range.node, atMs: Math.round(io.wallMs()), after, introductions }));
    const head = await putEntries(put, { client, range, io });
    const request = { after, head, sha256: digest.digest('hex') };
    const seal = await client.request('audit.seal', request, { deadlineMs: SEAL_DEADLINE_MS });
    const keys = [...introductions.map(({ what }) => what.keyId), ...(await knownKeys(client))];
    if (seal.keyId !== null && !keys.includes(seal.keyId)) {
      throw new SkosError('SKOS_AUDIT_KEY', 'the key was exchanged while the export was made: make it again');
    }
    await file.appendFile(trailerLine(request, seal));
    await file.sync();
    return { ...request, keyId: seal.keyId };
  } finally {
    await file.close();
  }
}

async function write(file: FileHandle, text: string, digest: ReturnType<typeof createHash>): Promise<void> {
  digest.update(text);
  await file.appendFile(text);
}

/** Entries that introduced keys, outside the range: they say how the keys inside come from, or lead to, others. */
async function outside(client: AgentClient, { first, toSeq }: Range): Promise<AuditEntry[]> {
  const all = await client.request('audit.introductions', {});
  return all.filter(({ seq }) => seq < first.seq || seq > toSeq);
}

async function knownKeys(client: AgentClient): Promise<unknown[]> {
  return (await client.request('audit.introductions', {})).map(({ what }) => what.keyId);
}

/** Returns the head of the last one. */
async function putEntries(
  put: (text: string) => Promise<void>,
  { client, range, io }: { client: AgentClient; range: Range; io: Io },
): Promise<AuditHead> {
  let head: AuditHead = { seq: range.first.seq - 1, hash: range.first.previous };
  while (head.seq < range.toSeq) {
    if (io.signal.aborted) throw new SkosError('SKOS_AUDIT_FILE', 'the export was interrupted; nothing is left of it');
    const limit = Math.min(PAGE, range.toSeq - head.seq);
    const page = await client.request('audit.list', { fromSeq: head.seq + 1, limit });
    for (const entry of page) {
      // Damaged entries are passed over by the list, and retention may remove some meanwhile.
      if (entry.seq !== head.seq + 1 || entry.previous !== head.hash) throw missing(head.seq + 1);
      head = { seq: entry.seq, hash: entry.hash };
    }
    if (page.length === 0) throw missing(head.seq + 1);
    await put(page.map(entryLine).join(''));
  }
  return head;
}

function missing(seq: number): SkosError {
  return new SkosError('SKOS_AUDIT_BROKEN', `entry ${seq} is not there, or does not link: skos audit verify says more`);
}
