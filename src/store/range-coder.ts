/**
 * An adaptive binary range coder: each bit is coded at the cost of its surprise under a model that learns as it goes.
 *
 * As in the Lempel-Ziv-Markov coder (public domain, LZMA SDK, lzma-specification.txt) a model is the probability of a 0,
 * and the coder narrows an interval [low, low + range) of 32 bits by it. Two things differ, both because a chunk is short.
 * A model learns at the rate 1 / (observations + 2), the estimator of Krichevsky and Trofimov, and not at a fixed one, so
 * that it is right after a few bits. And the end is cut to the fewest bytes that still lie in the interval: what a decoder
 * reads beyond the end is 0.
 *
 * All state is 32-bit integers, which V8 keeps without allocating. A coder is used for one stream at a time and reset by
 * begin(). A decoder given garbage yields garbage bits, never reads out of bounds, and does the same work for each bit.
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
/** Bits that direct() takes at most: more would leave less than a byte of range. */
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

export class RangeEncoder {
  readonly #models: Int32Array;
  #bytes: Uint8Array = new Uint8Array(0);
  #end = 0;
  #low = 0;
  #range = FULL_RANGE;

  constructor(models: number) {
    this.#models = new Int32Array(models);
  }

  /** Writes into `bytes` from `at` on. */
  begin(bytes: Uint8Array, at: number): void {
    this.#models.fill(FRESH);
    this.#bytes = bytes;
    this.#end = at;
    this.#low = 0;
    this.#range = FULL_RANGE;
  }

  // Fields are read once and written once: this runs for each bit, and V8 keeps locals in registers.
  bit(index: number, bit: number): void {
    const models = this.#models;
    const model = models[index] ?? FRESH;
    models[index] = learned(model, bit);
    let range = this.#range;
    const bound = Math.imul(range >>> USED_BITS, model >> (COUNT_BITS + UNUSED_BITS));
    if (bit === 0) {
      range = bound;
    } else {
      range = (range - bound) | 0;
      this.#add(bound);
    }
    while (range >>> 24 === 0) {
      this.#shift();
      range <<= 8;
    }
    this.#range = range;
  }

  /** The lowest `bits` of the value, without a model. */
  direct(value: number, bits: number): void {
    let range = this.#range >>> bits;
    this.#add(Math.imul(range, value));
    while (range >>> 24 === 0) {
      this.#shift();
      range <<= 8;
    }
    this.#range = range;
  }

  /** The end of what was written. The coder must be begun again before it is used again. */
  finish(from: number): number {
    // The value in the interval that has the most zeros at its end.
    for (let zeros = 32; zeros > 0; zeros -= 8) {
      const step = 2 ** zeros;
      const value = Math.ceil((this.#low >>> 0) / step) * step;
      if (value - (this.#low >>> 0) >= this.#range >>> 0) continue;
      this.#add((value - (this.#low >>> 0)) | 0);
      break;
    }
    for (let i = 0; i < 4; i++) this.#shift();
    while (this.#end > from && this.#bytes[this.#end - 1] === 0) this.#end--;
    return this.#end;
  }

  #add(value: number): void {
    const former = this.#low;
    const low = (former + value) | 0;
    this.#low = low;
    if (low >>> 0 < former >>> 0) this.#carry();
  }

  /** Runs back through what was written, never beyond its beginning, as all of it is a fraction below 1. */
  #carry(): void {
    let at = this.#end - 1;
    while (this.#bytes[at] === 255) this.#bytes[at--] = 0;
    this.#bytes[at] = (this.#bytes[at] ?? 0) + 1;
  }

  #shift(): void {
    const low = this.#low;
    this.#bytes[this.#end++] = low >>> 24;
    this.#low = low << 8;
  }
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
