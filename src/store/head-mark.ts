/**
 * The head mark: the last head of the audit chain, in a small file beside the database (`<data_dir>/audit-head`). It is
 * written after the entries are on disk, at most once a second, so it may lag behind the chain and never leads it: a
 * mark that is newer than the chain means that entries were lost or cut off.
 */
import { open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../core/errors.js';
import type { AuditHead } from '../core/ports.js';
import { isHash } from './audit-entry.js';

/** Entries come in bursts; a second of lag hides at most what a second recorded. */
const WRITE_AFTER_MS = 1_000;

export type ReadMark = { readonly head: AuditHead | undefined; readonly fault?: string };

export class HeadMark {
  readonly #path: string;
  readonly #onError: (error: unknown) => void;
  #wanted: AuditHead | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;

  constructor({ dataDir, onError }: { dataDir: string; onError: (error: unknown) => void }) {
    this.#path = join(dataDir, 'audit-head');
    this.#onError = onError;
  }

  /** `fault` says why a mark that exists could not be used. */
  async read(): Promise<ReadMark> {
    let text: string;
    try {
      text = await readFile(this.#path, 'utf8');
    } catch (error) {
      return systemCode(error) === 'ENOENT' ? { head: undefined } : { head: undefined, fault: String(error) };
    }
    const [, seq, hash] = /^(\d{1,15}) ([0-9a-f]{64})\n$/.exec(text) ?? [];
    if (seq === undefined || !isHash(hash)) return { head: undefined, fault: 'the file is damaged' };
    return { head: { seq: Number(seq), hash } };
  }

  /** Soon; only the latest is written. */
  set(head: AuditHead): void {
    this.#wanted = head;
    this.#timer ??= setTimeout(() => void this.flush(), WRITE_AFTER_MS);
  }

  /** Writes what set() left waiting. Never rejects: a failure is reported, and the next set() tries again. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#writing;
    const head = this.#wanted;
    if (head === undefined) return;
    this.#wanted = undefined;
    this.#writing = this.#write(head)
      .catch(this.#onError)
      .finally(() => {
        this.#writing = undefined;
      });
    await this.#writing;
  }

  async #write({ seq, hash }: AuditHead): Promise<void> {
    const temporary = `${this.#path}.tmp`;
    const file = await open(temporary, 'w', 0o600);
    try {
      await file.writeFile(`${seq} ${hash}\n`);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(temporary, this.#path);
  }
}
