/**
 * An entropy coder for the symbols of one column: range asymmetric numeral systems, as Jarek Duda describes them in
 * arXiv:1311.2540 (public domain by his declaration), with the frequencies of the column as they are, and not learnt on the way.
 *
 * All that is coded is one whole number, the state. A symbol of frequency f of 4,096 multiplies it by 4096 / f; what gets beyond
 * 31 bits goes to the stream as a word of 16 bits. The last symbol is coded first, so that the decoder meets the first one first. A
 * symbol costs one multiplication each way, where a coder of binary decisions costs one for each. Plain bits, which tell the integers
 * of one symbol apart, lie before the stream: reading them has not to wait for the state.
 *
 *   plain    of each integer that has some, the lowest bit of a byte first; up to a full byte
 *   stream   state, u32; then words, u16; little-endian. None where all symbols are the same
 *
 * The state of a decoder that has taken all symbols is that with which the encoder began: else the stream is damaged. All is done
 * in 32-bit integers, which V8 keeps without allocating.
 */
import type { BitWriter } from './bits.js';

const FREQUENCY_BITS = 12;
export const TOTAL_FREQUENCY = 2 ** FREQUENCY_BITS;
const SLOT_MASK = TOTAL_FREQUENCY - 1;
/** The state is from LEAST to below 2 ** 31: positive as a 32-bit integer. */
const LEAST_BITS = 15;
const LEAST = 2 ** LEAST_BITS;
const WORD_BITS = 16;
const STATE_BITS = LEAST_BITS + WORD_BITS;
const STATE_BYTES = 4;
/** Plain bits at once: with those of a byte that are taken already they fit into 32. */
const PLAIN_BITS = 24;
const PLAIN_RANGE = 2 ** PLAIN_BITS;
export const MAX_SYMBOLS = 256;
/** Fifteen minutes at 10 Hz: beside so many integers what a key and an alphabet cost is little. */
export const MAX_COLUMN_LENGTH = 8_192;

/** What a symbol stands for: the integers from `bases` on, told apart by so many plain bits. */
export interface Alphabet {
  size: number;
  readonly bases: Float64Array;
  readonly plainBits: Uint8Array;
  /** From 1 to TOTAL_FREQUENCY; they sum up to that. */
  readonly frequencies: Int32Array;
}

export function newAlphabet(): Alphabet {
  return {
    size: 0,
    bases: new Float64Array(MAX_SYMBOLS),
    plainBits: new Uint8Array(MAX_SYMBOLS),
    frequencies: new Int32Array(MAX_SYMBOLS),
  };
}

export class RansEncoder {
  readonly #bytes: Uint8Array;
  readonly #starts = new Int32Array(MAX_SYMBOLS);
  readonly #mosts = new Int32Array(MAX_SYMBOLS);
  readonly #inverses = new Float64Array(MAX_SYMBOLS);

  constructor(capacityBytes: number) {
    this.#bytes = new Uint8Array(capacityBytes);
  }

  /** The stream of the first `count` integers. Valid until the next call. */
  encode({ alphabet, leaves, symbols }: Coding, count: number): Uint8Array {
    const { frequencies } = alphabet;
    this.#prepare(alphabet);
    const [starts, mosts, inverses, bytes] = [this.#starts, this.#mosts, this.#inverses, this.#bytes];
    let at = bytes.length;
    let state = LEAST;
    for (let i = count - 1; i >= 0; i--) {
      const symbol = symbols[leaves[i] ?? 0] ?? 0;
      if (state > (mosts[symbol] ?? 0)) {
        bytes[--at] = state >>> 8;
        bytes[--at] = state;
        state >>>= WORD_BITS;
      }
      // A product instead of a slow division: with the half it is never so close to a whole number that rounding matters.
      const quotient = ((state + 0.5) * (inverses[symbol] ?? 0)) | 0;
      state =
        (quotient << FREQUENCY_BITS) + state - Math.imul(quotient, frequencies[symbol] ?? 0) + (starts[symbol] ?? 0);
    }
    at -= STATE_BYTES;
    for (let i = 0; i < STATE_BYTES; i++) bytes[at + i] = state >>> (8 * i);
    return bytes.subarray(at);
  }

  #prepare({ size, frequencies }: Alphabet): void {
    let start = 0;
    for (let symbol = 0; symbol < size; symbol++) {
      const frequency = frequencies[symbol] ?? 0;
      this.#starts[symbol] = start;
      this.#mosts[symbol] = frequency * 2 ** (STATE_BITS - FREQUENCY_BITS) - 1;
      this.#inverses[symbol] = 1 / frequency;
      start += frequency;
    }
  }
}

export interface Coding {
  readonly alphabet: Alphabet;
  /** Of each integer. */
  readonly leaves: Uint16Array;
  /** Of each leaf. */
  readonly symbols: Uint8Array;
}

/** For each of the 4,096 slots: its symbol (8 bits), the slot's number within the symbol (12), the symbol's frequency - 1 (12). */
const slots = new Int32Array(TOTAL_FREQUENCY);

function fillSlots({ size, frequencies }: Alphabet): void {
  let at = 0;
  for (let symbol = 0; symbol < size; symbol++) {
    const frequency = frequencies[symbol] ?? 0;
    const entry = (symbol << (2 * FREQUENCY_BITS)) | (frequency - 1);
    for (let i = 0; i < frequency; i++) slots[at++] = entry | (i << FREQUENCY_BITS);
  }
}

/** The plain bits of the first `count` integers. */
export function writePlain(
  out: BitWriter,
  { alphabet, leaves, symbols }: Coding,
  integers: Float64Array,
  count: number,
) {
  const { bases, plainBits } = alphabet;
  for (let i = 0; i < count; i++) {
    const symbol = symbols[leaves[i] ?? 0] ?? 0;
    let left = plainBits[symbol] ?? 0;
    if (left === 0) continue;
    let rest = (integers[i] ?? 0) - (bases[symbol] ?? 0);
    for (; left > PLAIN_BITS; left -= PLAIN_BITS) {
      const above = Math.floor(rest / PLAIN_RANGE);
      out.bits(rest - above * PLAIN_RANGE, PLAIN_BITS);
      rest = above;
    }
    out.bits(rest, left);
  }
  out.align();
}

interface Decoding {
  readonly alphabet: Alphabet;
  /** Where the plain bits begin, and where the stream does. */
  readonly plainAt: number;
  readonly streamAt: number;
  readonly into: Float64Array;
}

/** Fills `into` with integers; returns the end of the stream. */
export function decodeIntegers(bytes: Uint8Array, { alphabet, plainAt, streamAt, into }: Decoding): number {
  const { size, bases, plainBits } = alphabet;
  const count = into.length;
  if (size === 1 && plainBits[0] === 0) {
    into.fill(bases[0] ?? 0);
    return streamAt;
  }
  fillSlots(alphabet);
  // Of a single symbol, which fills all slots, the state stays as it is.
  let state = size > 1 ? stateAt(bytes, streamAt) : LEAST;
  let at = size > 1 ? streamAt + STATE_BYTES : streamAt;
  let bit = 8 * plainAt;
  for (let i = 0; i < count; i++) {
    const entry = slots[state & SLOT_MASK] ?? 0;
    state = Math.imul((entry & SLOT_MASK) + 1, state >>> FREQUENCY_BITS) + ((entry >>> FREQUENCY_BITS) & SLOT_MASK);
    // All ones where a word is due. Without a branch, as nothing foretells it.
    const due = (state - LEAST) >> 31;
    state = (state << (due & WORD_BITS)) | (((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)) & due);
    at += 2 & due;
    const symbol = entry >>> (2 * FREQUENCY_BITS);
    let integer = bases[symbol] ?? 0;
    const plain = plainBits[symbol] ?? 0;
    if (plain > 0) {
      integer += plain > PLAIN_BITS ? longPlain(bytes, bit, plain) : plainFrom(bytes, bit, plain);
      bit += plain;
    }
    into[i] = integer;
  }
  if (state !== LEAST || at > bytes.length || bit > 8 * streamAt) {
    throw new RangeError('a stream of the chunk is damaged');
  }
  return at;
}

function stateAt(bytes: Uint8Array, at: number): number {
  if (at + STATE_BYTES > bytes.length) throw new RangeError('the chunk ends too early');
  let state = 0;
  for (let i = 0; i < STATE_BYTES; i++) state |= (bytes[at + i] ?? 0) << (8 * i);
  if (state < LEAST) throw new RangeError('a stream of the chunk is damaged');
  return state;
}

function plainFrom(bytes: Uint8Array, bit: number, count: number): number {
  const at = bit >>> 3;
  const word =
    (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);
  return (word >>> (bit & 7)) & ((1 << count) - 1);
}

function longPlain(bytes: Uint8Array, bit: number, count: number): number {
  let value = 0;
  let weight = 1;
  for (let taken = 0; taken < count; taken += PLAIN_BITS, weight *= PLAIN_RANGE) {
    value += plainFrom(bytes, bit + taken, Math.min(PLAIN_BITS, count - taken)) * weight;
  }
  return value;
}
