/** What the agent itself wants to find again after a restart: small JSON values by name, the latest one only. */
import { SkosError } from '../core/errors.js';
import { PREFIX, textKey } from './keys.js';
import type { Writer } from './writer.js';

/** State is counters, bars and cursors; whoever wants to put more wants a table of its own. */
export const MAX_STATE_BYTES = 256 * 1024;

export class StateRecords {
  readonly #writer: Writer;

  constructor(writer: Writer) {
    this.#writer = writer;
  }

  /** Null and undefined remove the key. Throws RangeError for a value that is no JSON or too large: a programming error. */
  put(key: string, value: unknown): void {
    const text = stateText(key, value);
    const storedKey = textKey(PREFIX.state, key);
    if (text === undefined) this.#writer.putRecord({ type: 'del', key: storedKey });
    else this.#writer.putRecord({ type: 'put', key: storedKey, value: Buffer.from(text, 'utf8') });
  }

  /** Undefined when there is none. Rejects with SKOS_STORE_READ rather than pretend that. */
  async get(key: string): Promise<unknown> {
    const value = await this.#writer.get(textKey(PREFIX.state, key));
    if (value === undefined) return undefined;
    try {
      return JSON.parse(value.toString('utf8')) as unknown;
    } catch (error) {
      throw new SkosError('SKOS_STORE_READ', `the state ${key} is damaged`, { cause: error });
    }
  }
}

/** The value as it is stored; undefined when it is to be removed. */
export function stateText(key: string, value: unknown): string | undefined {
  if (value === null || value === undefined) return undefined;
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new RangeError(`the state ${key} has no JSON form`);
  if (text.length > MAX_STATE_BYTES) throw new RangeError(`the state ${key} has ${text.length} characters`);
  return text;
}
