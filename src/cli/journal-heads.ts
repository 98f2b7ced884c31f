/**
 * Heads of the audit chain that the journal holds (control/publisher.ts writes them): what somebody who rewrites the database would
 * have to rewrite, too. Only the CLI starts journalctl, never the agent.
 *
 * Anybody on the machine may write into the journal, so that heads count only when journald itself says that the agent's user, root or
 * the caller wrote them. A journal that is absent, not readable or slow is no fault of the chain: it is said.
 */
import { spawn } from 'node:child_process';
import type { AuditHead } from '../core/ports.js';

/** A year of heads takes a second or two on a slow disk. */
const DEADLINE_MS = 20_000;
/** Some 300 bytes a head: years. The newest come first, so that it is the oldest that are left out. */
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
const MAX_LINE_BYTES = 16 * 1024;
const MAX_STDERR_BYTES = 2_048;
/** What the agent takes; beyond it, the newest half of that and an even choice of the rest. */
const MAX_HEADS = 5_000;
const LINE_FEED = 0x0a;

export interface JournalHeads {
  /** absent: there is no journalctl. failed: it did not answer, or not to the end. */
  readonly state: 'read' | 'absent' | 'failed';
  /** Of a failure, for people. */
  readonly why: string;
  readonly heads: readonly AuditHead[];
  /** Lines of other users, or without a head. */
  readonly passedOver: number;
}

interface JournalQuery {
  readonly node: string;
  /** Users whose lines count. */
  readonly uids: readonly number[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly deadlineMs?: number;
}

/** Never rejects, and comes back within the deadline whatever the program does. */
export async function journalHeads({ node, uids, env, deadlineMs = DEADLINE_MS }: JournalQuery): Promise<JournalHeads> {
  const lines = new HeadLines(uids);
  const failure = await run({ node, env, deadlineMs, onData: (piece) => lines.push(piece) });
  const { heads, passedOver } = lines;
  if (failure === 'absent') return { state: 'absent', why: 'there is no journalctl', heads: [], passedOver: 0 };
  return { state: failure === undefined ? 'read' : 'failed', why: failure ?? '', heads: chosen(heads), passedOver };
}

interface Run {
  readonly node: string;
  readonly env: JournalQuery['env'];
  readonly deadlineMs: number;
  readonly onData: (piece: Buffer) => void;
}

/** undefined: it ended well. */
function run({ node, env, deadlineMs, onData }: Run): Promise<string | undefined> {
  if (env.PATH === undefined) return Promise.resolve('absent');
  return new Promise((resolve) => {
    let length = 0;
    let said = '';
    const fields = '--output-fields=SKOS_AUDIT_SEQ,SKOS_AUDIT_HEAD,_UID';
    // Newest first. A process group of its own, so that whatever it starts ends with it.
    const child = spawn(
      'journalctl',
      ['--quiet', '--no-pager', '--reverse', '-o', 'json', fields, 'SKOS_EVENT=audit.head', `SKOS_NODE=${node}`],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: env.PATH, LC_ALL: 'C' }, detached: true },
    );
    const end = (failure?: string): void => {
      clearTimeout(deadline);
      resolve(failure);
    };
    const abandon = (failure: string): void => {
      kill(child.pid);
      // What hangs in the kernel does not die; nothing waits for it.
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      end(failure);
    };
    const deadline = setTimeout(() => abandon(`journalctl did not end within ${deadlineMs / 1000} s`), deadlineMs);
    child.stdout.on('data', (piece: Buffer) => {
      length += piece.length;
      if (length > MAX_OUTPUT_BYTES) abandon('the journal holds more heads than are read; the oldest are left out');
      else onData(piece);
    });
    child.stderr.on('data', (piece: Buffer) => {
      if (said.length < MAX_STDERR_BYTES) said += piece.toString('utf8');
    });
    child.on('error', (error: NodeJS.ErrnoException) => end(error.code === 'ENOENT' ? 'absent' : error.message));
    child.on('close', (status, signal) => {
      const [reason = ''] = said.trim().split('\n');
      if (status === 0) end();
      else
        end(`journalctl ended ${signal === null ? `with status ${status}` : `by ${signal}`}${reason && `: ${reason}`}`);
    });
  });
}

function kill(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended in between.
  }
}

/** Takes the output in pieces; garbage is passed over. */
class HeadLines {
  readonly #uids: ReadonlySet<string>;
  readonly #heads = new Map<string, AuditHead>();
  passedOver = 0;
  #rest: Buffer[] = [];
  #restBytes = 0;

  constructor(uids: readonly number[]) {
    this.#uids = new Set(uids.map(String));
  }

  get heads(): AuditHead[] {
    return [...this.#heads.values()];
  }

  push(piece: Buffer): void {
    let from = 0;
    for (let at = piece.indexOf(LINE_FEED); at >= 0; at = piece.indexOf(LINE_FEED, from)) {
      this.#keep(piece.subarray(from, at));
      this.#line(Buffer.concat(this.#rest));
      this.#rest = [];
      this.#restBytes = 0;
      from = at + 1;
    }
    this.#keep(piece.subarray(from));
  }

  /** Of a line that is too long only so much that it is no head. */
  #keep(piece: Buffer): void {
    if (this.#restBytes > MAX_LINE_BYTES) return;
    this.#rest.push(piece);
    this.#restBytes += piece.length;
  }

  #line(line: Buffer): void {
    const head = line.length > MAX_LINE_BYTES ? undefined : this.#head(line.toString('utf8'));
    if (head === undefined) this.passedOver++;
    else this.#heads.set(`${head.seq}:${head.hash}`, head);
  }

  #head(text: string): AuditHead | undefined {
    let fields: unknown;
    try {
      fields = JSON.parse(text);
    } catch {
      return undefined;
    }
    if (typeof fields !== 'object' || fields === null) return undefined;
    const { SKOS_AUDIT_SEQ: seq, SKOS_AUDIT_HEAD: hash, _UID: uid } = fields as Record<string, unknown>;
    if (typeof uid !== 'string' || !this.#uids.has(uid)) return undefined;
    if (typeof seq !== 'string' || !/^[1-9]\d{0,14}$/.test(seq)) return undefined;
    return typeof hash === 'string' && /^[0-9a-f]{64}$/.test(hash) ? { seq: Number(seq), hash } : undefined;
  }
}

/** Every head vouches for all before it, so that an even choice of the old ones loses little. */
function chosen(heads: readonly AuditHead[]): AuditHead[] {
  if (heads.length <= MAX_HEADS) return [...heads];
  const newest = heads.slice(0, MAX_HEADS / 2);
  const older = heads.slice(MAX_HEADS / 2);
  const step = older.length / (MAX_HEADS / 2);
  return [...newest, ...Array.from({ length: MAX_HEADS / 2 }, (_, i) => older[Math.floor(i * step)])].filter(
    (head) => head !== undefined,
  );
}
