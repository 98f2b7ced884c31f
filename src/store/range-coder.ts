/**
 * Decoder of an adaptive binary range coder, which chunks of the first format were coded with (chunk-v1.ts): each bit cost its
 * surprise under a model that learnt as it went.
 *
 * As in the Lempel-Ziv-Markov coder (public domain, LZMA SDK, lzma-specification.txt) a model is the probability of a 0,
 * and the coder narrows an interval of 32 bits by it. Two things differ. A model learns at the rate 1 / (observations + 2), the
 * estimator of Krichevsky and Trofimov, and not at a fixed one. And the end was cut to the fewest bytes that still lie in the
 * interval: what is read beyond the end is 0.
 *
 * A decoder is used for one stream at a time and reset by begin(). Given garbage it yields garbage bits, never reads out of bounds,
 * and does the same work for each bit.
 */

/** A model is PROBABILITY_BITS of the probability of a 0, above COUNT_BITS of how many bits it has seen. */
const COUNT_BITS = 8;
const COUNT_MASK = 2 ** COUNT_BITS - 1;
const PROBABILITY_BITS = 16;
const FRESH = 2 ** (PROBABILITY_BITS - 1 + COUNT_BITS);
/** Of the probability these bits narrow the interval; with 24 bits of range and more, rounding costs below 0.1 %. */
const USED_BITS = 14;
const UNUSED_BITS = PROBABILITY_BITS - USED_BITS;
/** Neither bit may become impossible. */
const LEAST = 2 ** UNUSED_BITS;
const MOST = 2 ** PROBABILITY_BITS - LEAST;
/** Beyond so many observations a model forgets the oldest: the load changes within a chunk. */
const MAX_COUNT = 126;
const RATE_BITS = 14;
const RATES = Int32Array.from({ length: MAX_COUNT + 1 }, (_, count) => Math.round(2 ** RATE_BITS / (count + 2)));
/** Bits that direct() takes at most. */
export const MAX_DIRECT_BITS = 16;
const FULL_RANGE = -1;

/** The model after a bit. */
function learned(model: number, bit: number): number {
  const count = model & COUNT_MASK;
  const probability = model >> COUNT_BITS;
  const rate = RATES[count] ?? 0;
  const target = MOST + ((LEAST - MOST) & -bit);
  const next = probability + (((target - probability) * rate) >> RATE_BITS);
  return (next << COUNT_BITS) | (count < MAX_COUNT ? count + 1 : count);
}

export class RangeDecoder {
  readonly #models: Int32Array;
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  #code = 0;
  #range = FULL_RANGE;

  constructor(models: number) {
    this.#models = new Int32Array(models);
  }

  begin(bytes: Uint8Array): void {
    this.#models.fill(FRESH);
    this.#bytes = bytes;
    this.#at = 0;
    this.#code = 0;
    this.#range = FULL_RANGE;
    for (let i = 0; i < 4; i++) this.#code = (this.#code << 8) | this.#next();
  }

  bit(index: number): number {
    const models = this.#models;
    const model = models[index] ?? FRESH;
    let range = this.#range;
    let code = this.#code;
    const bound = Math.imul(range >>> USED_BITS, model >> (COUNT_BITS + UNUSED_BITS));
    let bit = 0;
    if (code >>> 0 < bound >>> 0) {
      range = bound;
    } else {
      code = (code - bound) | 0;
      range = (range - bound) | 0;
      bit = 1;
    }
    models[index] = learned(model, bit);
    while (range >>> 24 === 0) {
      code = (code << 8) | this.#next();
      range <<= 8;
    }
    this.#code = code;
    this.#range = range;
    return bit;
  }

  direct(bits: number): number {
    let range = this.#range >>> bits;
    let code = this.#code;
    const value = Math.floor((code >>> 0) / range);
    if (value >= 1 << bits) throw new RangeError('a number of the chunk is outside its range');
    code = (code - Math.imul(range, value)) | 0;
    while (range >>> 24 === 0) {
      code = (code << 8) | this.#next();
      range <<= 8;
    }
    this.#code = code;
    this.#range = range;
    return value;
  }

  /** Beyond the end all is 0; a chunk holds a bounded number of bits, so that this ends. */
  #next(): number {
    return this.#at < this.#bytes.length ? (this.#bytes[this.#at++] ?? 0) : 0;
  }
}
