/** Reads bytes one behind the other. With bounds: what is damaged throws RangeError, and nothing beyond the end is read. */
export class ByteReader {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer, at = 0) {
    this.#bytes = bytes;
    this.#at = at;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new RangeError('the bytes end early');
    return byte;
  }

  /** LEB128, in floating point because numbers exceed 32 bits; up to `most`, which is at least 1. */
  varint(most = Number.MAX_SAFE_INTEGER): number {
    let value = 0;
    for (let scale = 1; scale <= most; scale *= 128) {
      const byte = this.byte();
      value += (byte & 127) * scale;
      if (byte < 128 && value <= most) return value;
    }
    throw new RangeError(`a number is more than ${most}`);
  }

  /** Shares the memory. */
  bytes(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new RangeError('there are fewer bytes than are said');
    const bytes = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return bytes;
  }

  rest(): Buffer {
    return this.bytes(this.#bytes.length - this.#at);
  }
}
