/**
 * Which key signs the audit chain now, and how it came to be: found at the start, made where there is none, exchanged on request.
 *
 * Which key is in force, the chain says: the database holds beside it where the last introduction is (a hint for a quick start;
 * verification never reads it). A key in force whose file is lost is followed by another one without a hand-over, and the
 * entry says why. Without any key the chain goes on unsigned, that is said once, and tried again by and by.
 */
import { reason } from '../core/errors.js';
import type { AuditEntry, Log } from '../core/ports.js';
import { parseEntry } from './audit-entry.js';
import { formerKey, KEY_KIND, type PublicKey, RESTART_KIND, type Signer, signerOf } from './checkpoint.js';
import type { Database, Operation } from './database.js';
import type { Exposure, Keyring } from './keyring.js';
import { auditKey, PREFIX, textKey } from './keys.js';

const POINTER = textKey(PREFIX.meta, 'audit-key');
/** A rotation a day for three years; the way back is one read each. */
const MAX_INTRODUCTIONS = 1_000;

export interface KeyInForce extends PublicKey {
  /** The entry that introduced it. */
  readonly seq: number;
}

export class ChainKeys {
  readonly #keyring: Keyring;
  readonly #database: Database;
  readonly #log: Log;
  /** As the chain on disk says. */
  #inForce: KeyInForce | undefined;
  #signer: Signer | undefined;
  #said = '';

  constructor({ keyring, database, log }: { keyring: Keyring; database: Database; log: Log }) {
    this.#keyring = keyring;
    this.#database = database;
    this.#log = log;
  }

  get signer(): Signer | undefined {
    return this.#signer;
  }

  get inForce(): KeyInForce | undefined {
    return this.#inForce;
  }

  /** The database is a new one: its chain knows no key yet. */
  forget(): void {
    this.#inForce = undefined;
  }

  /** Whether the chain does not know the key that signs. */
  get isNew(): boolean {
    return this.#signer !== undefined && this.#signer.publicKey !== this.#inForce?.publicKey;
  }

  /** Finds the key, or makes one. Never rejects. Returns what the chain should say of keys that others could read. */
  async start(): Promise<readonly Exposure[]> {
    try {
      this.#inForce = await this.#readInForce();
      return await this.find();
    } catch (error) {
      this.#trouble(reason(error));
      return [];
    }
  }

  /** Looks for a usable key file; without one, makes a key. */
  async find(): Promise<readonly Exposure[]> {
    const { key, exposed, faults } = await this.#keyring.load(this.#inForce?.keyId);
    for (const fault of faults) this.#say(`A key of the audit chain cannot be used: ${fault}`);
    for (const { path, how } of exposed) {
      this.#say(`The key ${path} was open to others (${how}): what it signs proves less; its mode is mended`);
    }
    try {
      this.#signer = key ?? (await this.#keyring.create());
    } catch (error) {
      this.#trouble(reason(error));
      return [];
    }
    this.#said = '';
    await this.#retireFormer();
    return exposed;
  }

  /** A key on disk that signs nothing yet. Rejects with SKOS_AUDIT_KEY. */
  create(): Promise<Signer> {
    return this.#keyring.create();
  }

  /** From now on this one signs. */
  use(signer: Signer): void {
    this.#signer = signer;
  }

  /** The former key is not needed any more. What goes wrong is said: the file should not stay. */
  async retire(keyId: string): Promise<void> {
    try {
      await this.#keyring.retire(keyId);
    } catch (error) {
      this.#say(`The key ${keyId}, which has handed over, could not be removed: ${reason(error)}`);
    }
  }

  /** To be written together with an entry of a kind that introduces a key. */
  pointer(seq: number): Operation {
    return { type: 'put', key: POINTER, value: Buffer.from(String(seq)) };
  }

  /** The entry is on disk. */
  introduced(entry: AuditEntry): void {
    const key = signerOf(entry);
    if (typeof key !== 'object' || key.publicKey === this.#inForce?.publicKey) return;
    this.#inForce = { ...key, seq: entry.seq };
  }

  /** The entries that introduced keys, oldest first, as far as they are still there. */
  async introductions(): Promise<AuditEntry[]> {
    const found: AuditEntry[] = [];
    let seq = this.#inForce?.seq;
    while (seq !== undefined && found.length < MAX_INTRODUCTIONS) {
      const entry = await this.#introduction(seq);
      if (entry === undefined) break;
      found.push(entry);
      const before = formerKey(entry)?.seq;
      seq = before !== undefined && before < seq ? before : undefined;
    }
    return found.reverse();
  }

  async #readInForce(): Promise<KeyInForce | undefined> {
    const seq = Number((await this.#database.get(POINTER))?.toString());
    const entry = Number.isSafeInteger(seq) ? await this.#introduction(seq) : undefined;
    const key = entry === undefined ? undefined : signerOf(entry);
    return typeof key === 'object' ? { ...key, seq } : undefined;
  }

  async #introduction(seq: number): Promise<AuditEntry | undefined> {
    const value = await this.#database.get(auditKey(seq));
    const entry = value === undefined ? undefined : parseEntry(value);
    if (typeof entry !== 'object') return undefined;
    return entry.kind === KEY_KIND || entry.kind === RESTART_KIND ? entry : undefined;
  }

  /** A rotation that was cut off right after its entry leaves the former key behind. */
  async #retireFormer(): Promise<void> {
    if (this.#inForce === undefined || this.#signer?.keyId !== this.#inForce.keyId) return;
    const entry = await this.#introduction(this.#inForce.seq).catch(() => undefined);
    const former = entry?.what.handover === undefined ? undefined : formerKey(entry);
    if (former !== undefined && former.keyId !== this.#signer.keyId) await this.retire(former.keyId);
  }

  /** Once for each reason. */
  #trouble(why: string): void {
    if (this.#said === why) return;
    this.#said = why;
    this.#say(`The audit chain goes on unsigned: ${why}`);
  }

  #say(message: string): void {
    this.#log.warn(message, { event: 'audit.key', code: 'SKOS_AUDIT_KEY' });
  }
}
