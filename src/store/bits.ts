/**
 * Numbers as bits, one behind the other, the lowest bit of a byte first: what stands before the samples in a chunk.
 *
 * A reader has bounds: beyond the end it throws RangeError.
 */

/** Lengths from 0 to MAX_LENGTH. */
const LENGTH_BITS = 6;
/** Whole numbers below 2 ** 53 are exact. */
const MAX_LENGTH = 53;
/** More at once would not fit into a 32-bit integer beside a byte that is not full. */
const MAX_BITS = 24;
const PIECE = 2 ** MAX_BITS;
/** No small number of a chunk is longer; more leading zeros are garbage. */
const MAX_SMALL_BITS = 20;

/** Position of the highest bit of a whole number from 1 to 2 ** 53 - 1. */
export function exponentOf(magnitude: number): number {
  if (magnitude < 2 ** 32) return 31 - Math.clz32(magnitude);
  return 63 - Math.clz32(magnitude / 2 ** 32);
}

/** From a table, since `2 ** exponent` is a call of pow() each time. */
const POWERS = Float64Array.from({ length: MAX_LENGTH + 1 }, (_, exponent) => 2 ** exponent);

export function power(exponent: number): number {
  return POWERS[exponent] ?? 0;
}

export class BitWriter {
  readonly bytes: Uint8Array;
  /** Bytes that are full. */
  #end = 0;
  #pending = 0;
  #pendingBits = 0;

  constructor(capacityBytes: number) {
    this.bytes = new Uint8Array(capacityBytes);
  }

  begin(): void {
    this.#end = 0;
    this.#pending = 0;
    this.#pendingBits = 0;
  }

  /** Up to MAX_BITS at once. */
  bits(value: number, count: number): void {
    this.#pending |= value << this.#pendingBits;
    this.#pendingBits += count;
    while (this.#pendingBits >= 8) {
      this.bytes[this.#end++] = this.#pending;
      this.#pending >>>= 8;
      this.#pendingBits -= 8;
    }
  }

  /** A whole number from 0 to 2 ** 53 - 1, at the cost of its length in bits and LENGTH_BITS more. */
  number(value: number): void {
    const length = value === 0 ? 0 : exponentOf(value) + 1;
    this.bits(length, LENGTH_BITS);
    // The highest bit is known to be 1.
    let rest = length === 0 ? 0 : value - power(length - 1);
    let left = length - 1;
    for (; left > MAX_BITS; left -= MAX_BITS) {
      const above = Math.floor(rest / PIECE);
      this.bits(rest - above * PIECE, MAX_BITS);
      rest = above;
    }
    if (left > 0) this.bits(rest, left);
  }

  signed(value: number): void {
    this.bits(value < 0 ? 1 : 0, 1);
    this.number(Math.abs(value));
  }

  /** A number that is mostly 0, by the code of Elias: 1 bit for 0, 3 for 1 and 2, 5 for 3 to 6. */
  small(value: number): void {
    const length = exponentOf(value + 1);
    this.bits(1 << length, length + 1);
    this.bits(value + 1 - (1 << length), length);
  }

  /** To the next full byte. */
  align(): void {
    if (this.#pendingBits > 0) this.bits(0, 8 - this.#pendingBits);
  }

  /** After align() only. */
  append(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** After align() only: what was written, with room behind it. */
  copied(roomBytes: number): Buffer {
    const copy = Buffer.allocUnsafe(this.#end + roomBytes);
    copy.set(this.bytes.subarray(0, this.#end));
    return copy;
  }
}

export class BitReader {
  bytes: Uint8Array = new Uint8Array(0);
  /** The next byte; after align() that of the next column. */
  at = 0;
  #pending = 0;
  #pendingBits = 0;

  begin(bytes: Uint8Array, at: number): void {
    this.bytes = bytes;
    this.at = at;
    this.#pending = 0;
    this.#pendingBits = 0;
  }

  bits(count: number): number {
    while (this.#pendingBits < count) {
      const byte = this.bytes[this.at++];
      if (byte === undefined) throw new RangeError('the chunk ends too early');
      this.#pending |= byte << this.#pendingBits;
      this.#pendingBits += 8;
    }
    const value = this.#pending & ((1 << count) - 1);
    this.#pending >>>= count;
    this.#pendingBits -= count;
    return value;
  }

  number(): number {
    const length = this.bits(LENGTH_BITS);
    if (length > MAX_LENGTH) throw new RangeError('a number of the chunk is too long');
    if (length === 0) return 0;
    let value = 0;
    let factor = 1;
    let left = length - 1;
    for (; left > MAX_BITS; left -= MAX_BITS) {
      value += this.bits(MAX_BITS) * factor;
      factor *= PIECE;
    }
    if (left > 0) value += this.bits(left) * factor;
    return power(length - 1) + value;
  }

  signed(): number {
    const negative = this.bits(1) === 1;
    const magnitude = this.number();
    // Adding zero turns a negative zero into the plain one.
    return negative ? 0 - magnitude : magnitude;
  }

  small(): number {
    let length = 0;
    while (this.bits(1) === 0) if (++length > MAX_SMALL_BITS) throw new RangeError('a number of the chunk is too long');
    return (1 << length) - 1 + (length === 0 ? 0 : this.bits(length));
  }

  align(): void {
    this.#pending = 0;
    this.#pendingBits = 0;
  }
}
