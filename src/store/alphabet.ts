/**
 * The alphabet of a column: what its symbols stand for, and how that is written in a chunk.
 *
 * Integers lie in _leaves_: each small integer, below SMALL on either side of 0, is a leaf, and so is each eighth of an octave of
 * larger magnitudes. Leaves ascend with their integers. A symbol stands for an aligned group of 2 ** level leaves of a side of the
 * small integers, or of an octave, whose integers are told apart by plain bits; or for one large integer beside its leaf.
 *
 *   grouped   small number (bits.ts): symbols that stand for groups, ascending
 *   own       small number: symbols that stand for one large integer each, ascending
 *   for each  of groups how far it begins behind the end of the one before, of the first behind 0 (small, mostly 0), and level; of
 *             others the signed difference from the one before; then the count of its integers, of which COUNT_BITS behind the highest
 *             are enough: frequencies that are 6 % off cost 0.001 bits a sample
 *   plain     number: plain bits of all integers together, if any symbol has some
 *
 * Levels and lengths of counts are small numbers, zigzag differences from those of the symbol before: a symbol takes about a byte.
 */
import { type BitReader, type BitWriter, exponentOf, power } from './bits.js';
import { type Alphabet, MAX_SYMBOLS, TOTAL_FREQUENCY } from './rans.js';

export const SMALL_LEVELS = 11;
export const SMALL = 2 ** SMALL_LEVELS;
export const OCTAVE_LEVELS = 3;
const OCTAVE_LEAVES = 2 ** OCTAVE_LEVELS;
/** Magnitudes stay below 2 ** 52: values do below 2 ** 50, their differences below twice that. */
const OCTAVES = 52 - SMALL_LEVELS;
export const SMALL_AT = OCTAVES * OCTAVE_LEAVES;
const LARGE_AT = SMALL_AT + 2 * SMALL;
export const LEAVES = LARGE_AT + OCTAVES * OCTAVE_LEAVES;
/** Of a count these are written behind its highest bit. */
const COUNT_BITS = 3;
const MAX_COUNT_EXPONENT = 13;

/** The leaf of an integer. */
export function leafOf(integer: number): number {
  if (integer < SMALL && integer >= -SMALL) return SMALL_AT + SMALL + integer;
  // Mirrored at -1/2, so that groups are aligned on both sides.
  const magnitude = integer < 0 ? -integer - 1 : integer;
  const exponent = exponentOf(magnitude);
  const shift = exponent - OCTAVE_LEVELS;
  // Shifted as an integer where it is one of 32 bits: this runs for each large integer.
  const top = magnitude < 2 ** 31 ? magnitude >> shift : Math.floor(magnitude / power(shift));
  const eighths = top + (exponent - SMALL_LEVELS - 1) * OCTAVE_LEAVES;
  return integer < 0 ? SMALL_AT - 1 - eighths : LARGE_AT + eighths;
}

/** Of a leaf of large integers: how many octaves it is from the small ones. */
function octaveOf(leaf: number): number {
  return leaf < SMALL_AT ? (SMALL_AT - 1 - leaf) >> OCTAVE_LEVELS : (leaf - LARGE_AT) >> OCTAVE_LEVELS;
}

export function isSmall(leaf: number): boolean {
  return leaf >= SMALL_AT && leaf < LARGE_AT;
}

/** Plain bits within a leaf. */
export function bitsOf(leaf: number): number {
  return isSmall(leaf) ? 0 : octaveOf(leaf) + SMALL_LEVELS - OCTAVE_LEVELS;
}

/** The least integer of a leaf. */
function baseOf(leaf: number): number {
  if (isSmall(leaf)) return leaf - SMALL_AT - SMALL;
  const width = power(bitsOf(leaf));
  if (leaf >= LARGE_AT) return (OCTAVE_LEAVES + ((leaf - LARGE_AT) % OCTAVE_LEAVES)) * width;
  return -(OCTAVE_LEAVES + 1 + ((SMALL_AT - 1 - leaf) % OCTAVE_LEAVES)) * width;
}

/** What an encoder chose: groups, then integers of their own. */
export interface Choice {
  readonly grouped: number;
  readonly firstLeaves: Uint16Array;
  readonly levels: Uint8Array;
  readonly own: readonly number[];
  /** Of all symbols; after writeAlphabet() as exact as they were written. */
  readonly counts: Int32Array;
}

/** Fills the alphabet and returns how many plain bits all integers together have. */
export function writeAlphabet(out: BitWriter, alphabet: Alphabet, choice: Choice): number {
  const { grouped, firstLeaves, levels, own, counts } = choice;
  alphabet.size = grouped + own.length;
  out.small(grouped);
  out.small(own.length);
  let end = SMALL_AT + SMALL;
  let formerLevel = 0;
  let former = 0;
  let plain = 0;
  for (let symbol = 0; symbol < grouped; symbol++) {
    const leaf = firstLeaves[symbol] ?? 0;
    const level = levels[symbol] ?? 0;
    out.small(symbol === 0 ? zigzag(leaf - end) : leaf - end);
    out.small(zigzag(level - formerLevel));
    end = leaf + (1 << level);
    formerLevel = level;
    setSymbol(alphabet, symbol, { base: baseOf(leaf), plainBits: bitsOf(leaf) + level });
    plain += (counts[symbol] ?? 0) * (bitsOf(leaf) + level);
    former = writeCount(out, { counts, symbol, former });
  }
  let before = 0;
  own.forEach((integer, i) => {
    out.signed(integer - before);
    before = integer;
    setSymbol(alphabet, grouped + i, { base: integer, plainBits: 0 });
    former = writeCount(out, { counts, symbol: grouped + i, former });
  });
  if (hasPlain(alphabet)) out.number(plain);
  setFrequencies(alphabet, counts);
  return plain;
}

/** As exactly as it is written it also remains. Returns its exponent. */
function writeCount(
  out: BitWriter,
  { counts, symbol, former }: { counts: Int32Array; symbol: number; former: number },
): number {
  const count = counts[symbol] ?? 0;
  const exponent = 31 - Math.clz32(count);
  const dropped = Math.max(0, exponent - COUNT_BITS);
  const written = exponent - dropped;
  out.small(zigzag(exponent - former));
  out.bits((count >> dropped) - (1 << written), written);
  counts[symbol] = (count >> dropped) << dropped;
  return exponent;
}

function hasPlain({ size, plainBits }: Alphabet): boolean {
  for (let symbol = 0; symbol < size; symbol++) if (plainBits[symbol] !== 0) return true;
  return false;
}

const weights = new Int32Array(MAX_SYMBOLS);

/** Reads what writeAlphabet() wrote; returns how many plain bits all integers together have. */
export function readAlphabet(bits: BitReader, alphabet: Alphabet): number {
  const grouped = bits.small();
  alphabet.size = grouped + bits.small();
  if (alphabet.size === 0 || alphabet.size > MAX_SYMBOLS)
    throw new RangeError('the chunk has a wrong number of symbols');
  let end = SMALL_AT + SMALL;
  let level = 0;
  let exponent = 0;
  for (let symbol = 0; symbol < grouped; symbol++) {
    const gap = bits.small();
    const leaf = end + (symbol === 0 ? unzigzag(gap) : gap);
    level += unzigzag(bits.small());
    const most = isSmall(leaf) ? SMALL_LEVELS : OCTAVE_LEVELS;
    if (level < 0 || level > most || leaf < 0) throw new RangeError('a symbol of the chunk is too large');
    end = leaf + (1 << level);
    if (end > LEAVES) throw new RangeError('a symbol of the chunk is too large');
    setSymbol(alphabet, symbol, { base: baseOf(leaf), plainBits: bitsOf(leaf) + level });
    exponent = readCount(bits, symbol, exponent);
  }
  let base = 0;
  for (let symbol = grouped; symbol < alphabet.size; symbol++) {
    base += bits.signed();
    setSymbol(alphabet, symbol, { base, plainBits: 0 });
    exponent = readCount(bits, symbol, exponent);
  }
  const plainBits = hasPlain(alphabet) ? bits.number() : 0;
  setFrequencies(alphabet, weights);
  return plainBits;
}

function readCount(bits: BitReader, symbol: number, former: number): number {
  const exponent = former + unzigzag(bits.small());
  if (exponent < 0 || exponent > MAX_COUNT_EXPONENT) throw new RangeError('a count of the chunk is too large');
  const written = Math.min(exponent, COUNT_BITS);
  weights[symbol] = ((1 << written) + bits.bits(written)) << (exponent - written);
  return exponent;
}

function setSymbol(alphabet: Alphabet, symbol: number, { base, plainBits }: { base: number; plainBits: number }): void {
  alphabet.bases[symbol] = base;
  alphabet.plainBits[symbol] = plainBits;
}

/** In proportion to the weights, none 0. What rounding leaves or takes is the most frequent symbol's. */
function setFrequencies({ size, frequencies }: Alphabet, by: Int32Array): void {
  let sum = 0;
  let most = 0;
  for (let symbol = 0; symbol < size; symbol++) {
    sum += by[symbol] ?? 0;
    if ((by[symbol] ?? 0) > (by[most] ?? 0)) most = symbol;
  }
  // Where there are so many rare symbols that rounding them up would take all, each gets its 1 beforehand.
  for (const beforehand of [0, 1]) {
    let rest = TOTAL_FREQUENCY;
    for (let symbol = 0; symbol < size; symbol++) {
      const share = Math.floor(((by[symbol] ?? 0) * (TOTAL_FREQUENCY - beforehand * size)) / sum) + beforehand;
      frequencies[symbol] = Math.max(1, share);
      if (symbol !== most) rest -= Math.max(1, share);
    }
    frequencies[most] = rest;
    if (rest > 0) return;
  }
}

function zigzag(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value;
}

function unzigzag(value: number): number {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}
