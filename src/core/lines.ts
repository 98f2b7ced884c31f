/**
 * JSON lines with a bound: cuts a byte stream into lines, and makes lines of values. Both ends of the agent's socket
 * use it, so that neither can be made to buffer without limit by the other.
 */
import { reason, SkosError } from './errors.js';

const NEWLINE = 0x0a;

export class LineReader {
  readonly #maxBytes: number;
  /** Pieces of the line that is not complete yet: joined once, so that a long line costs no quadratic copying. */
  #pieces: Buffer[] = [];
  #pendingBytes = 0;

  constructor({ maxBytes }: { maxBytes: number }) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes of a line whose end has not come yet. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /**
   * Takes bytes as they come and calls back for each complete line, without its newline; empty lines are passed over.
   * Throws SKOS_PROTOCOL_INVALID for a line that is too long; the stream is then out of step and must be closed.
   */
  push(chunk: Buffer, each: (line: string) => void): void {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      this.#take(chunk.subarray(start, end));
      const line = this.#join();
      start = end + 1;
      if (line !== '') each(line);
    }
    if (start < chunk.length) this.#take(chunk.subarray(start));
  }

  #take(piece: Buffer): void {
    this.#pendingBytes += piece.length;
    if (this.#pendingBytes > this.#maxBytes) {
      this.#join();
      throw new SkosError('SKOS_PROTOCOL_INVALID', `a line is longer than ${this.#maxBytes} bytes`);
    }
    this.#pieces.push(piece);
  }

  #join(): string {
    const only = this.#pieces.length === 1 ? this.#pieces[0] : undefined;
    const line = (only ?? Buffer.concat(this.#pieces)).toString('utf8').trim();
    this.#pieces = [];
    this.#pendingBytes = 0;
    return line;
  }
}

/** The value of a line that must hold a JSON object; throws SKOS_PROTOCOL_INVALID with what is wrong. */
export function parseLine(line: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new SkosError('SKOS_PROTOCOL_INVALID', `not JSON: ${reason(error)}`, { cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SkosError('SKOS_PROTOCOL_INVALID', 'a line must hold one JSON object');
  }
  return value as Record<string, unknown>;
}

/** One line, newline included. Serialised once, it can be sent to any number of clients. */
export function lineOf(value: object): Buffer {
  return Buffer.from(`${JSON.stringify(value)}\n`, 'utf8');
}
