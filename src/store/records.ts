/**
 * Typed records by id, for what the agent learns: `n` kind 0 id → {"v":1,"record":{…}}. All of a kind are in memory, so that reading
 * never waits and a database that was lost is written again; every put is written behind, by the writer.
 *
 * What is stored is checked by the kind's shape after its upgrades have run; nothing is rewritten before it is put again. A record of
 * a later version is kept as it stands: this program's word of that id stays in memory only, because an operator who goes back to
 * the later version would miss what it knew. A damaged one has nothing to miss; the next put replaces it.
 */
import { reason } from '../core/errors.js';
import type { Log, RecordKind, Records } from '../core/ports.js';
import { parse } from '../core/shape.js';
import { namedKey, namedPart, namedRange } from './keys.js';
import { FaultReport, isTooNew, parseRecord, recordText } from './record-form.js';
import type { Writer } from './writer.js';

/** Ids are an action's text, a rule's name: longer ones are a mistake. */
const MAX_ID_BYTES = 512;
const KIND_NAME = /^[a-z][a-z0-9-]{0,31}$/;

export interface RecordsBacking {
  readonly writer: Pick<Writer, 'putRecord' | 'range'>;
  readonly log: Log;
}

/** What came of one stored record. */
type Checked<T> = { readonly record: T } | { readonly fault: string; readonly isLater: boolean };

export class TypedRecords<T> implements Records<T> {
  readonly #kind: RecordKind<T>;
  readonly #writer: RecordsBacking['writer'] | undefined;
  readonly #faults: FaultReport | undefined;
  readonly #records = new Map<string, T>();
  /** Ids that hold a record of a later version. */
  readonly #later = new Set<string>();
  /** Put or removed before load() was done: what is stored of these is out of date. */
  readonly #touched = new Set<string>();
  #loading: Promise<void> | undefined;
  #isLoaded = false;

  /** Without a backing they are in memory only. */
  constructor(kind: RecordKind<T>, backing?: RecordsBacking) {
    if (!KIND_NAME.test(kind.name)) throw new RangeError(`"${kind.name}" is no name of a kind of record`);
    if (kind.upgrades.length !== kind.version - 1) throw new RangeError(`${kind.name} lacks an upgrade`);
    this.#kind = kind;
    this.#writer = backing?.writer;
    this.#faults = backing === undefined ? undefined : new FaultReport(backing.log);
  }

  load(): Promise<void> {
    this.#loading ??= this.#read().catch((error: unknown) => {
      this.#loading = undefined;
      throw error;
    });
    return this.#loading;
  }

  get(id: string): T | undefined {
    return this.#records.get(id);
  }

  all(): ReadonlyMap<string, T> {
    return this.#records;
  }

  put(id: string, record: T): void {
    const { name, shape, version, maxCount, maxBytes } = this.#kind;
    const { issues } = parse(shape, record);
    const [issue] = issues;
    if (issue !== undefined) throw new RangeError(`${name} ${id}: ${issue.path.join('.')} ${issue.message}`);
    const bytes = Buffer.from(recordText(version, record), 'utf8');
    if (bytes.length > maxBytes) throw new RangeError(`${name} ${id} has ${bytes.length} bytes`);
    if (id === '' || Buffer.byteLength(id) > MAX_ID_BYTES) throw new RangeError(`"${id}" is no id of a ${name}`);
    if (!this.#isLoaded) this.#touched.add(id);
    this.#records.delete(id);
    this.#records.set(id, structuredClone(record));
    if (!this.#later.has(id)) this.#writer?.putRecord({ type: 'put', key: namedKey(name, id), value: bytes });
    const [oldest] = this.#records.keys();
    if (this.#records.size > maxCount && oldest !== undefined) this.remove(oldest);
  }

  remove(id: string): void {
    if (!this.#isLoaded) this.#touched.add(id);
    this.#records.delete(id);
    if (!this.#later.has(id)) this.#writer?.putRecord({ type: 'del', key: namedKey(this.#kind.name, id) });
  }

  /** The database is a new one: what memory knows is written again. */
  republish(): void {
    this.#later.clear();
    for (const [id, record] of [...this.#records]) this.put(id, record);
  }

  async #read(): Promise<void> {
    const { name, maxCount } = this.#kind;
    // Those of a later version are no part of the count; as many again are looked at.
    const found = (await this.#writer?.range({ ...namedRange(name), limit: 2 * maxCount })) ?? [];
    const stored = new Map<string, T>();
    for (const [key, value] of found) {
      const id = namedPart(key);
      const checked = this.#check(value);
      if ('record' in checked) {
        if (!this.#touched.has(id)) stored.set(id, checked.record);
        continue;
      }
      if (checked.isLater) this.#later.add(id);
      this.#faults?.say({ key, value, fault: checked.fault });
    }
    // What is newer stands behind what is stored, so that it goes last.
    for (const [id, record] of this.#records) stored.set(id, record);
    this.#records.clear();
    for (const [id, record] of stored) this.#records.set(id, record);
    this.#touched.clear();
    this.#isLoaded = true;
  }

  #check(value: Buffer): Checked<T> {
    const { version, upgrades, shape } = this.#kind;
    const found = parseRecord(value);
    if ('fault' in found) return { fault: found.fault, isLater: false };
    const tooNew = isTooNew(found.version, version);
    if (tooNew !== undefined) return { fault: tooNew, isLater: true };
    try {
      const upgraded = upgrades
        .slice(found.version - 1)
        .reduce<unknown>((older, upgrade) => upgrade(older), found.record);
      const { value: record, issues } = parse(shape, upgraded);
      const [issue] = issues;
      if (issue === undefined) return { record: record as T };
      return { fault: `${issue.path.join('.')} ${issue.message}`, isLater: false };
    } catch (error) {
      // An upgrade is given what is stored, and that may be anything.
      return { fault: reason(error), isLater: false };
    }
  }
}
