/**
 * The audit chain of a stopped store: a data_dir, or a database directory alone, also one that was set aside as damaged.
 *
 * Opening a LevelDB database writes to it, and evidence is not written to. So a copy is opened, in a temporary directory that is
 * removed afterwards. The mark beside the database, which knows the last acknowledged head, is read too.
 */
import { constants } from 'node:fs';
import { copyFile, mkdtemp, readdir, realpath, rm, stat, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { reason, SkosError } from '../core/errors.js';
import type { AuditVerdict } from '../core/ports.js';
import { ChainVerifier, parseEntry, type VerifyOptions } from './audit-entry.js';
import { HeadMark } from './head-mark.js';
import { auditSeq, PREFIX, prefixRange } from './keys.js';
import { batchesOf, type LevelHandle, openLevel, rootCause } from './level.js';
import { lockHolder } from './lock-holder.js';

/** Opening replays the log into tables of its own and writes a manifest. */
const ROOM_TO_OPEN_BYTES = 16 * 1024 * 1024;
const SCAN_BATCH = 128;
/** How far back a node's name is looked for: agent.start and every signed entry have it. */
const MAX_NAME_LOOKED_AT = 5_000;

/** The directory of the database that `path` means. Rejects with SKOS_CLI_USAGE. */
async function databaseIn(path: string): Promise<string> {
  const names: string[] = await readdir(path);
  if (names.includes('db')) return realpath(join(path, 'db'));
  if (names.some((name) => /^(CURRENT|MANIFEST-\d+|\d+\.(log|ldb|sst))$/.test(name))) return realpath(path);
  throw new SkosError('SKOS_CLI_USAGE', `${path} is neither a data_dir (with db/ in it) nor a database`);
}

export class StoppedChain {
  readonly #path: string;
  readonly #temporaryRoot: string;
  #original = '';
  #copy: string | undefined;
  #level: LevelHandle | undefined;

  constructor(path: string, { temporaryRoot = tmpdir() }: { temporaryRoot?: string | undefined } = {}) {
    this.#path = path;
    this.#temporaryRoot = temporaryRoot;
  }

  /** Copies and opens. Rejects with SKOS_STORE_LOCKED, SKOS_STORE_OPEN or SKOS_CLI_USAGE, leaving nothing behind. */
  async start(): Promise<void> {
    this.#original = await databaseIn(this.#path);
    await this.#refuseLive();
    this.#copy = await mkdtemp(join(this.#temporaryRoot, 'skos-audit-'));
    try {
      await this.#copyAll(this.#copy);
      await this.#refuseLive();
      this.#level = await openLevel(this.#copy, { createIfMissing: false });
    } catch (error) {
      await this.stop();
      if (error instanceof SkosError) throw error;
      throw new SkosError('SKOS_STORE_OPEN', `a copy of ${this.#original}: ${reason(rootCause(error))}`, {
        cause: error,
      });
    }
  }

  /** Closes and removes the copy. Idempotent. */
  async stop(): Promise<void> {
    await this.#level?.close();
    this.#level = undefined;
    if (this.#copy !== undefined) await rm(this.#copy, { recursive: true, force: true });
    this.#copy = undefined;
  }

  /** The node that wrote it, as its latest entries say. */
  async node(): Promise<string | undefined> {
    const range = { ...prefixRange(PREFIX.audit), reverse: true, limit: MAX_NAME_LOOKED_AT };
    for await (const [, value] of this.#scan(range)) {
      const entry = parseEntry(value);
      if (typeof entry === 'object' && typeof entry.what.node === 'string') return entry.what.node;
    }
    return undefined;
  }

  async verify({ known = [], pinned }: Pick<VerifyOptions, 'known' | 'pinned'>): Promise<AuditVerdict> {
    const mark = await this.#mark();
    const verifier = new ChainVerifier({ known: [...mark, ...known], pinned });
    for await (const [key, value] of this.#scan(prefixRange(PREFIX.audit))) {
      if (!verifier.next(parseEntry(value), auditSeq(key))) break;
    }
    return verifier.verdict();
  }

  /** A database that was set aside has no mark any more: the one beside it is its successor's. */
  async #mark() {
    if (basename(this.#original) !== 'db') return [];
    const mark = new HeadMark({ dataDir: dirname(this.#original), onError: () => undefined });
    const { head, fault } = await mark.read();
    if (fault !== undefined) throw new SkosError('SKOS_AUDIT_BROKEN', `the mark of the last head: ${fault}`);
    return head === undefined ? [] : [head];
  }

  async #refuseLive(): Promise<void> {
    const pid = await lockHolder(this.#original);
    if (pid === undefined) return;
    throw new SkosError(
      'SKOS_STORE_LOCKED',
      `${this.#original} is in use by process ${pid}: verify it live (skos audit verify), or stop the agent first`,
    );
  }

  async #copyAll(to: string): Promise<void> {
    const entries = await readdir(this.#original, { withFileTypes: true });
    const names = entries.filter((entry) => entry.isFile() && entry.name !== 'LOCK').map(({ name }) => name);
    let bytes = ROOM_TO_OPEN_BYTES;
    for (const name of names) bytes += (await stat(join(this.#original, name))).size;
    const { bavail, bsize } = await statfs(to);
    if (bavail * bsize < bytes) {
      const needed = Math.ceil(bytes / 1024 / 1024);
      throw new SkosError(
        'SKOS_STORE_OPEN',
        `a copy is verified, and ${this.#temporaryRoot} has no room for its ${needed} MiB; set TMPDIR to a larger place`,
      );
    }
    // A file system that can shares the blocks instead of copying them.
    for (const name of names) {
      await copyFile(join(this.#original, name), join(to, name), constants.COPYFILE_FICLONE);
    }
  }

  async *#scan(options: object): AsyncGenerator<[Buffer, Buffer], void, undefined> {
    if (this.#level === undefined) throw new Error('the copy is not open');
    try {
      for await (const entries of batchesOf(this.#level, options, { entries: SCAN_BATCH })) yield* entries;
    } catch (error) {
      const text = `a copy of ${this.#original}: ${reason(rootCause(error))}`;
      throw new SkosError('SKOS_STORE_READ', text, { cause: error });
    }
  }
}
