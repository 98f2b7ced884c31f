/**
 * What happened, in all its places: the audit chain, the subscribers, the journal. The journal line carries the entry's
 * number, but waits for it no longer than a second: a dead disk must not make the journal silent as well.
 */
import { reason, SkosError } from '../core/errors.js';
import type { AuditEntry, AuditInput, Log, LogFields, Store } from '../core/ports.js';
import type { LogLevel } from '../core/vocabulary.js';
import type { Outlet } from './outlet.js';

/** The audit entry of a cap is promised within a second. */
const JOURNAL_WAITS_MS = 1_000;

export interface Occurrence extends AuditInput {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields;
}

export class Record {
  readonly #store: Store;
  readonly #log: Log;
  readonly #outlet: Outlet;

  constructor({ store, log, outlet }: { store: Store; log: Log; outlet: Outlet }) {
    this.#store = store;
    this.#log = log;
    this.#outlet = outlet;
  }

  /** Returns at once; nothing on the protection path waits for a record. */
  add(occurrence: Occurrence): void {
    this.#add(occurrence).catch((error: unknown) =>
      this.#log.error(`${occurrence.message}; not recorded: ${reason(error)}`, { ...occurrence.fields, error }),
    );
  }

  /**
   * What is to be done and cannot be undone: resolves when it is on disk, and only then may it be begun. Rejects where nothing is
   * ever on disk.
   */
  async intend({ kind, who, what, level, message, fields }: Occurrence): Promise<void> {
    const { audit } = this.#store;
    if (audit.durable !== true) throw new SkosError('SKOS_STORE_OPEN', 'no database is open');
    const entry = await audit.append({ kind, who, what });
    this.#outlet.broadcast('audit', entry);
    this.#log[level](message, { ...fields, auditSeq: entry.seq });
  }

  async #add({ kind, who, what, level, message, fields }: Occurrence): Promise<void> {
    const entry = this.#store.audit.append({ kind, who, what }).then(
      (appended) => {
        this.#outlet.broadcast('audit', appended);
        return appended;
      },
      (error: unknown) => reason(error),
    );
    const known = await Promise.race([entry, afterMs(JOURNAL_WAITS_MS)]);
    this.#log[level](message, { ...fields, ...auditField(known) });
  }
}

function auditField(known: AuditEntry | string | undefined): LogFields {
  if (known === undefined) return { audit: 'not on disk yet' };
  return typeof known === 'string' ? { audit: `not recorded: ${known}` } : { auditSeq: known.seq };
}

function afterMs(durationMs: number): Promise<undefined> {
  return new Promise((resolve) => {
    setTimeout(() => resolve(undefined), durationMs).unref();
  });
}
