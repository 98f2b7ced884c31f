/**
 * Models for the integers of a chunk of the first format (chunk-v1.ts), above its range coder: differences of values, jitter of times.
 *
 * An integer is a flag for 0, a sign, the exponent of its magnitude (position of the highest bit) as a path down a binary
 * tree, then the bits below the highest one: for small integers each with a model of its own, as a sensor's steps are not
 * equally likely, for large ones all but the first as they are. The tree is as deep as the greatest magnitude of the series
 * needs, so that steps of one unit have no exponent at all. What was before tells what is likely: the flag is modelled by
 * whether the two integers before were 0, 1 or more, the sign by that of the latest integer that was not 0.
 */
import { power } from './bits.js';
import { MAX_DIRECT_BITS, type RangeDecoder } from './range-coder.js';

/** 0, 1 or more, of each of the two integers before. */
const SIZES = 3;
const ZERO_MODELS = SIZES * SIZES;
const SIGN_MODELS = 3;
/** Exponents of integers up to 2 ** 52; a tree of this depth has its nodes at 1 .. 2 ** depth - 1. */
const MAX_TREE_DEPTH = 6;
const EXPONENTS = 2 ** MAX_TREE_DEPTH;
const MAX_EXPONENT = 52;
/** Depths from 0 to MAX_TREE_DEPTH, and one that says that all integers of the series are the same. */
const DEPTH_BITS = 3;
const ALL_THE_SAME = 2 ** DEPTH_BITS - 1;
const MAX_MODELLED_BITS = 3;
const NODES = 2 ** MAX_MODELLED_BITS;

const SIGN_AT = ZERO_MODELS;
const EXPONENT_AT = SIGN_AT + SIGN_MODELS;
const MANTISSA_AT = EXPONENT_AT + EXPONENTS;
/** Models that one series takes. */
export const SERIES_MODELS = MANTISSA_AT + (MAX_EXPONENT + 1) * NODES;

/** Lengths from 0 to MAX_EXPONENT + 1. */
const LENGTH_BITS = 6;

const DIRECT_VALUES = 2 ** MAX_DIRECT_BITS;

/** All bits of small integers; of large ones the highest only, as neighbours of those are about equally likely. */
function modelledBits(exponent: number): number {
  return exponent <= MAX_MODELLED_BITS ? exponent : 1;
}

function takeBits(coder: RangeDecoder, bits: number): number {
  let value = 0;
  let factor = 1;
  let left = bits;
  for (; left > MAX_DIRECT_BITS; left -= MAX_DIRECT_BITS) {
    value += coder.direct(MAX_DIRECT_BITS) * factor;
    factor *= DIRECT_VALUES;
  }
  return value + coder.direct(left) * factor;
}

/** One whole number from 0 to 2 ** 52. */
export function takeNumber(coder: RangeDecoder): number {
  const length = coder.direct(LENGTH_BITS);
  if (length > MAX_EXPONENT + 1) throw new RangeError('a number of the chunk is too long');
  return length < 2 ? length : power(length - 1) + takeBits(coder, length - 1);
}

export function takeSigned(coder: RangeDecoder): number {
  const negative = coder.direct(1) === 1;
  const magnitude = takeNumber(coder);
  return negative ? -magnitude : magnitude;
}

/** Takes series of integers within 2 ** 52 of 0. All series of a stream share the coder, each with models of its own. */
export class SeriesDecoder {
  readonly #coder: RangeDecoder;
  readonly #at: number;
  #depth = 0;

  /** With the SERIES_MODELS models from `at` on. */
  constructor(coder: RangeDecoder, at: number) {
    this.#coder = coder;
    this.#at = at;
  }

  take(into: Float64Array, count: number): void {
    if (count === 0) return;
    this.#depth = this.#coder.direct(DEPTH_BITS);
    if (this.#depth === ALL_THE_SAME) into.fill(takeSigned(this.#coder), 0, count);
    else this.#takeAll(into, count);
  }

  #takeAll(into: Float64Array, count: number): void {
    const coder = this.#coder;
    const zeroAt = this.#at;
    const signAt = this.#at + SIGN_AT;
    let context = 0;
    let sign = 0;
    for (let i = 0; i < count; i++) {
      if (coder.bit(zeroAt + context) === 0) {
        context = (context % SIZES) * SIZES;
        into[i] = 0;
        continue;
      }
      const negative = coder.bit(signAt + sign);
      sign = 1 + negative;
      const magnitude = this.#depth === 0 ? 1 : this.#takeMagnitude();
      context = (context % SIZES) * SIZES + (magnitude === 1 ? 1 : 2);
      into[i] = negative === 1 ? -magnitude : magnitude;
    }
  }

  #takeMagnitude(): number {
    const exponentAt = this.#at + EXPONENT_AT;
    let node = 1;
    for (let level = 0; level < this.#depth; level++) node = node * 2 + this.#coder.bit(exponentAt + node);
    const exponent = node - (1 << this.#depth);
    if (exponent > MAX_EXPONENT) throw new RangeError('the integers of the chunk are too long');
    const modelled = modelledBits(exponent);
    const plain = exponent - modelled;
    const mantissaAt = this.#at + MANTISSA_AT + exponent * NODES;
    node = 1;
    for (let bit = 0; bit < modelled; bit++) node = node * 2 + this.#coder.bit(mantissaAt + node);
    return plain > 0 ? node * power(plain) + takeBits(this.#coder, plain) : node;
  }
}
