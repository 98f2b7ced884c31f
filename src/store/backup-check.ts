/**
 * What a backup holds, checked while it goes by: the format it states, and the audit chain, which must be whole up to exactly
 * the head it states.
 *
 * A chain that goes on with a restart note (audit-entry.ts) states a loss that was known when it was written down: that is told,
 * and no reason to refuse the rest. Every part between two such notes must be whole. The format and what the blocks hold, the
 * reader has checked already.
 */
import type { AuditEntry, AuditHead } from '../core/ports.js';
import { ChainVerifier, GENESIS, parseEntry } from './audit-entry.js';
import { type BackupHeader, damaged, type Entry } from './backup-file.js';
import { KEY_KIND, RESTART_KIND } from './checkpoint.js';
import { auditSeq, FIRST_FORMAT, FORMAT_KEY, PREFIX } from './keys.js';

const AUDIT = PREFIX.audit.charCodeAt(0);
const AUDIT_KEY_BYTES = 9;

export interface ChainFinding {
  readonly entries: number;
  readonly head: AuditHead;
  /** Numbers of the notes that say that entries before them were lost. */
  readonly restarts: readonly number[];
  /** Undefined: it is whole. */
  readonly fault: { readonly firstBadSeq: number; readonly why: string } | undefined;
}

export class ContentCheck {
  readonly #facts: Pick<BackupHeader, 'format' | 'auditHead'>;
  readonly #restarts: number[] = [];
  /** Those that introduced keys, which are in force beyond a restart note. */
  readonly #introductions: AuditEntry[] = [];
  #verifier = new ChainVerifier();
  #entries = 0;
  #head: AuditHead | undefined;
  #format = FIRST_FORMAT;
  #fault: ChainFinding['fault'];

  constructor(facts: Pick<BackupHeader, 'format' | 'auditHead'>) {
    this.#facts = facts;
  }

  /** In the order of the file. */
  entry([key, value]: Entry): void {
    if (key[0] === AUDIT) this.#auditEntry(key, value);
    else if (key.equals(FORMAT_KEY)) this.#format = Number(value.toString('utf8'));
  }

  /** After the last entry. Throws SKOS_BACKUP_DAMAGED when the header states another format than the records. */
  finish(): ChainFinding {
    const { format, auditHead } = this.#facts;
    if (this.#format !== format) throw damaged(`it states format ${format}, and its records have ${this.#format}`);
    this.#closePart();
    const head = this.#head ?? GENESIS;
    if (this.#fault === undefined && (head.seq !== auditHead.seq || head.hash !== auditHead.hash)) {
      const why = `the backup states that the chain ends with ${auditHead.seq}, and it ends with ${head.seq}`;
      this.#fault = { firstBadSeq: Math.min(head.seq, auditHead.seq) + 1, why };
    }
    return { entries: this.#entries, head, restarts: this.#restarts, fault: this.#fault };
  }

  #auditEntry(key: Buffer, value: Buffer): void {
    this.#entries++;
    if (this.#fault !== undefined) return;
    if (key.length !== AUDIT_KEY_BYTES) {
      this.#fault = {
        firstBadSeq: (this.#head?.seq ?? 0) + 1,
        why: 'an entry is filed under a key that none can have',
      };
      return;
    }
    const entry = parseEntry(value);
    if (typeof entry !== 'string') {
      if (entry.kind === RESTART_KIND && this.#verifier.entries > 0) this.#restart(entry);
      if (entry.kind === KEY_KIND) this.#introductions.push(entry);
      this.#head = { seq: entry.seq, hash: entry.hash };
    }
    if (!this.#verifier.next(entry, auditSeq(key))) this.#closePart();
  }

  #restart({ seq }: AuditEntry): void {
    this.#closePart();
    this.#restarts.push(seq);
    this.#verifier = new ChainVerifier({ introductions: this.#introductions, partial: true });
  }

  #closePart(): void {
    if (this.#fault !== undefined) return;
    const verdict = this.#verifier.verdict();
    if (!verdict.ok) this.#fault = { firstBadSeq: verdict.firstBadSeq, why: verdict.why };
  }
}
