/**
 * The alphabet of a column: which integers get a symbol of their own, and which share one and are told apart by plain bits.
 *
 * Integers are counted by _leaves_: each small integer, below SMALL on either side of 0, is a leaf, and so is each eighth of an
 * octave of larger magnitudes. Leaves ascend with their integers. A symbol stands for one leaf or for an aligned group of 2 ** level
 * leaves of a tree (a side of the small integers, or an octave). Each symbol costs place in the chunk (SYMBOL_COST_BITS), each shared
 * one costs its plain bits at every use. Of all ways to halve a tree and its halves again the cheapest is found from the leaves up:
 * two halves become one symbol where that costs less than both apart. So frequent integers stand for themselves, and rare ones share,
 * whatever the distribution is. Large integers that come again and again, as of a counter of fixed strides or a share of few ticks,
 * are symbols beside their leaf.
 *
 * What is written is how many symbols there are of either kind, and for each how far its group is from the end of the one before (mostly 0), its level (mostly that
 * of the one before), or of an integer beside the leaves the difference from the one before; and its count, of which 3 bits behind the highest are enough: frequencies that are 6 % off cost 0.001 bits
 * a sample. All are relative to those of the symbol before, in the code of Elias (bits.ts), so that a symbol takes a byte or less.
 */
import { type BitReader, type BitWriter, exponentOf, power } from './bits.js';
import { type Alphabet, MAX_COLUMN_LENGTH, MAX_SYMBOLS, newAlphabet, TOTAL_FREQUENCY } from './rans.js';

const SMALL_LEVELS = 11;
const SMALL = 2 ** SMALL_LEVELS;
const OCTAVE_LEVELS = 3;
const OCTAVE_LEAVES = 2 ** OCTAVE_LEVELS;
/** Magnitudes stay below 2 ** 52: values do below 2 ** 50, their differences below twice that. */
const OCTAVES = 52 - SMALL_LEVELS;
const SMALL_AT = OCTAVES * OCTAVE_LEAVES;
const LARGE_AT = SMALL_AT + 2 * SMALL;
const LEAVES = LARGE_AT + OCTAVES * OCTAVE_LEAVES;
/** Large integers of which it is watched whether they come again: as many as there are slots of a hash table, half of them used. */
const WATCHED_SLOTS = 256;
const MAX_WATCHED = 128;
const PROBES = 8;

const SYMBOL_COST_BITS = 7;
/** An integer beside its leaf: as a symbol, and to say which. */
const OWN_COST_BITS = 18;
/** Added to each use of plain bits: a decoder is slower where some symbols have them and some have not. */
const DETOUR_COST_BITS = 1 / 32;
/** Of a count these are written behind its highest bit. */
const COUNT_BITS = 3;
const MAX_COUNT_EXPONENT = 13;

/** A count times its binary logarithm, by the count: what the symbol saves beside one that is never used. */
const SAVINGS = Float64Array.from({ length: MAX_COLUMN_LENGTH + 1 }, (_, count) =>
  count === 0 ? 0 : count * Math.log2(count),
);

/** The leaf of an integer. */
export function leafOf(integer: number): number {
  if (integer < SMALL && integer >= -SMALL) return SMALL_AT + SMALL + integer;
  // Mirrored at -1/2, so that groups are aligned on both sides.
  const magnitude = integer < 0 ? -integer - 1 : integer;
  const exponent = exponentOf(magnitude);
  const eighths =
    Math.floor(magnitude / power(exponent - OCTAVE_LEVELS)) + (exponent - SMALL_LEVELS - 1) * OCTAVE_LEAVES;
  return integer < 0 ? SMALL_AT - 1 - eighths : LARGE_AT + eighths;
}

/** Of a leaf of large integers: how many octaves it is from the small ones. */
function octaveOf(leaf: number): number {
  return leaf < SMALL_AT ? (SMALL_AT - 1 - leaf) >> OCTAVE_LEVELS : (leaf - LARGE_AT) >> OCTAVE_LEVELS;
}

function isSmall(leaf: number): boolean {
  return leaf >= SMALL_AT && leaf < LARGE_AT;
}

/** Plain bits within a leaf. */
function bitsOf(leaf: number): number {
  return isSmall(leaf) ? 0 : octaveOf(leaf) + SMALL_LEVELS - OCTAVE_LEVELS;
}

/** The least integer of a leaf. */
function baseOf(leaf: number): number {
  if (isSmall(leaf)) return leaf - SMALL_AT - SMALL;
  const width = power(bitsOf(leaf));
  if (leaf >= LARGE_AT) return (OCTAVE_LEAVES + ((leaf - LARGE_AT) % OCTAVE_LEAVES)) * width;
  return -(OCTAVE_LEAVES + 1 + ((SMALL_AT - 1 - leaf) % OCTAVE_LEAVES)) * width;
}

/** Nodes of the tree in work: the root is 1, the halves of n are 2n and 2n + 1, the leaves stand last. */
const nodeCounts = new Int32Array(2 * SMALL);
const nodeCosts = new Float64Array(2 * SMALL);
const nodeIsSymbol = new Uint8Array(2 * SMALL);

/** The integers of one column, counted, and the alphabet that codes them best. */
export class Census {
  readonly alphabet: Alphabet = newAlphabet();
  /** The leaf of each integer; from LEAVES on the slots of those that are watched. */
  readonly leaves = new Uint16Array(MAX_COLUMN_LENGTH);
  /** By leaf. */
  readonly symbols = new Uint8Array(LEAVES + WATCHED_SLOTS);
  readonly #counts = new Int32Array(LEAVES);
  /** By symbol. */
  readonly #firstLeaves = new Uint16Array(MAX_SYMBOLS);
  readonly #levels = new Uint8Array(MAX_SYMBOLS);
  readonly #weights = new Int32Array(MAX_SYMBOLS);
  readonly #watched = new Float64Array(WATCHED_SLOTS);
  readonly #watchedCounts = new Int32Array(WATCHED_SLOTS);
  #watching = 0;
  /** Slots of those that become symbols beside their leaf, in the order of their integers. */
  #own: number[] = [];
  /** Symbols that stand for leaves. */
  #grouped = 0;
  #costBits = 0;
  #plainBits = 0;
  #symbolCostBits = SYMBOL_COST_BITS;

  /** What the column takes in the chunk, about. */
  get costBits(): number {
    return this.#costBits;
  }

  /** Of all integers together, after write(). */
  get plainBits(): number {
    return this.#plainBits;
  }

  take(integers: Float64Array, count: number): void {
    const [counts, leaves] = [this.#counts, this.leaves];
    counts.fill(0);
    this.#watchedCounts.fill(0);
    this.#watching = 0;
    let least = SMALL;
    let greatest = -SMALL;
    for (let i = 0; i < count; i++) {
      const integer = integers[i] ?? 0;
      if (integer < SMALL && integer >= -SMALL) {
        const leaf = (integer + (SMALL_AT + SMALL)) | 0;
        leaves[i] = leaf;
        counts[leaf] = (counts[leaf] ?? 0) + 1;
      } else {
        leaves[i] = this.#takeLarge(integer);
      }
      if (integer < least) least = integer;
      if (integer > greatest) greatest = integer;
    }
    this.#costBits = SAVINGS[count] ?? 0;
    this.#chooseOwn();
    this.#symbolCostBits = SYMBOL_COST_BITS;
    // At a high enough cost each tree has one symbol left, 84 in all.
    while (!this.#group(leafOf(least), leafOf(greatest))) this.#symbolCostBits *= 4;
    this.#addOwn();
  }

  /** The slot where it is watched; its leaf when there are too many others. */
  #takeLarge(integer: number): number {
    const [watched, counts] = [this.#watched, this.#watchedCounts];
    let slot = Math.imul(integer | 0, 0x9e37_79b1) >>> 24;
    for (let probe = 0; probe < PROBES; probe++) {
      const before = counts[slot] ?? 0;
      if (before === 0) {
        if (this.#watching === MAX_WATCHED) break;
        this.#watching++;
        watched[slot] = integer;
      } else if (watched[slot] !== integer) {
        slot = (slot + 1) % WATCHED_SLOTS;
        continue;
      }
      counts[slot] = before + 1;
      return LEAVES + slot;
    }
    const leaf = leafOf(integer);
    this.#counts[leaf] = (this.#counts[leaf] ?? 0) + 1;
    return leaf;
  }

  /** Those of the watched integers that are cheaper as symbols of their own; the others are counted by their leaf. */
  #chooseOwn(): void {
    this.#own = [];
    if (this.#watching === 0) return;
    const [watched, watchedCounts, counts] = [this.#watched, this.#watchedCounts, this.#counts];
    watchedCounts.forEach((count, slot) => {
      const leaf = leafOf(watched[slot] ?? 0);
      if (count > 0) counts[leaf] = (counts[leaf] ?? 0) + count;
    });
    watchedCounts.forEach((count, slot) => {
      if (count === 0) return;
      const leaf = leafOf(watched[slot] ?? 0);
      const all = counts[leaf] ?? 0;
      if (count * (bitsOf(leaf) - Math.log2(all / count)) < OWN_COST_BITS + bitsOf(leaf)) return;
      this.#own.push(slot);
      counts[leaf] = all - count;
    });
    this.#own.sort((a, b) => (watched[a] ?? 0) - (watched[b] ?? 0));
  }

  #addOwn(): void {
    if (this.#watching === 0) return;
    this.#watchedCounts.forEach((count, slot) => {
      if (count > 0) this.symbols[LEAVES + slot] = this.symbols[leafOf(this.#watched[slot] ?? 0)] ?? 0;
    });
    for (const slot of this.#own) {
      const count = this.#watchedCounts[slot] ?? 0;
      const symbol = this.alphabet.size++;
      this.symbols[LEAVES + slot] = symbol;
      this.#weights[symbol] = count;
      this.#costBits += OWN_COST_BITS + bitsOf(leafOf(this.#watched[slot] ?? 0)) - (SAVINGS[count] ?? 0);
    }
  }

  /** False when there are too many symbols. */
  #group(least: number, greatest: number): boolean {
    this.alphabet.size = 0;
    let costBits = 0;
    for (let leaf = least; leaf <= greatest; ) {
      const levels = isSmall(leaf) ? SMALL_LEVELS : OCTAVE_LEVELS;
      // Both kinds of trees begin at a multiple of their size, counted from where the small ones begin.
      const from = leaf - ((leaf - SMALL_AT) & ((1 << levels) - 1));
      const until = from + (1 << levels);
      let [first, last] = [leaf, Math.min(greatest, until - 1)];
      while (first <= last && this.#counts[first] === 0) first++;
      while (last > first && this.#counts[last] === 0) last--;
      leaf = until;
      if (first > last) continue;
      costBits += this.#grow(levels, { from, first, last });
      if (!this.#collect(1, from, levels)) return false;
    }
    this.#grouped = this.alphabet.size;
    this.#costBits += costBits;
    return true;
  }

  /** The least cost of a tree, whose leaves outside `first` and `last` are all empty. */
  #grow(levels: number, { from, first, last }: { from: number; first: number; last: number }): number {
    const counts = this.#counts;
    const symbolCost = this.#symbolCostBits;
    const leafBits = bitsOf(from);
    let low = (1 << levels) + first - from;
    let high = (1 << levels) + last - from;
    for (let node = low, leaf = first; node <= high; node++, leaf++) {
      const count = counts[leaf] ?? 0;
      nodeCounts[node] = count;
      nodeCosts[node] =
        count === 0
          ? 0
          : symbolCost + count * (leafBits === 0 ? 0 : leafBits + DETOUR_COST_BITS) - (SAVINGS[count] ?? 0);
      nodeIsSymbol[node] = 1;
    }
    for (let level = 1; level <= levels; level++) {
      // Halves beside the occupied ones are empty.
      if ((low & 1) === 1) nodeCounts[low - 1] = nodeCosts[low - 1] = 0;
      if ((high & 1) === 0) nodeCounts[high + 1] = nodeCosts[high + 1] = 0;
      low >>= 1;
      high >>= 1;
      for (let node = low; node <= high; node++) {
        const count = (nodeCounts[2 * node] ?? 0) + (nodeCounts[2 * node + 1] ?? 0);
        const apart = (nodeCosts[2 * node] ?? 0) + (nodeCosts[2 * node + 1] ?? 0);
        const together =
          count === 0 ? 0 : symbolCost + count * (leafBits + level + DETOUR_COST_BITS) - (SAVINGS[count] ?? 0);
        nodeCounts[node] = count;
        nodeIsSymbol[node] = together < apart ? 1 : 0;
        nodeCosts[node] = Math.min(together, apart);
      }
    }
    return nodeCosts[1] ?? 0;
  }

  /** Makes symbols of the tree that was grown, from the least to the greatest. */
  #collect(node: number, leaf: number, level: number): boolean {
    const count = nodeCounts[node] ?? 0;
    if (count === 0) return true;
    if (nodeIsSymbol[node] === 0) {
      const half = 1 << (level - 1);
      return this.#collect(2 * node, leaf, level - 1) && this.#collect(2 * node + 1, leaf + half, level - 1);
    }
    const symbol = this.alphabet.size;
    if (symbol === MAX_SYMBOLS - this.#own.length) return false;
    this.alphabet.size = symbol + 1;
    this.#firstLeaves[symbol] = leaf;
    this.#levels[symbol] = level;
    this.#weights[symbol] = count;
    this.symbols.fill(symbol, leaf, leaf + (1 << level));
    return true;
  }

  /** Writes the alphabet; after that it is complete. */
  write(out: BitWriter): void {
    const { alphabet } = this;
    out.small(this.#grouped);
    out.small(this.#own.length);
    let end = SMALL_AT + SMALL;
    let formerLevel = 0;
    let former = 0;
    this.#plainBits = 0;
    for (let symbol = 0; symbol < this.#grouped; symbol++) {
      const leaf = this.#firstLeaves[symbol] ?? 0;
      const level = this.#levels[symbol] ?? 0;
      out.small(symbol === 0 ? zigzag(leaf - end) : leaf - end);
      out.small(zigzag(level - formerLevel));
      end = leaf + (1 << level);
      formerLevel = level;
      setSymbol(alphabet, symbol, { base: baseOf(leaf), plainBits: bitsOf(leaf) + level });
      this.#plainBits += (this.#weights[symbol] ?? 0) * (bitsOf(leaf) + level);
      former = this.#writeCount(out, symbol, former);
    }
    let base = 0;
    this.#own.forEach((slot, i) => {
      const symbol = this.#grouped + i;
      const integer = this.#watched[slot] ?? 0;
      out.signed(integer - base);
      base = integer;
      setSymbol(alphabet, symbol, { base, plainBits: 0 });
      former = this.#writeCount(out, symbol, former);
    });
    if (hasPlain(alphabet)) out.number(this.#plainBits);
    setFrequencies(alphabet, this.#weights);
  }

  /** As exactly as it is written it also remains. Returns its exponent. */
  #writeCount(out: BitWriter, symbol: number, former: number): number {
    const count = this.#weights[symbol] ?? 0;
    const exponent = 31 - Math.clz32(count);
    const dropped = Math.max(0, exponent - COUNT_BITS);
    const written = exponent - dropped;
    out.small(zigzag(exponent - former));
    out.bits((count >> dropped) - (1 << written), written);
    this.#weights[symbol] = (count >> dropped) << dropped;
    return exponent;
  }
}

function hasPlain({ size, plainBits }: Alphabet): boolean {
  for (let symbol = 0; symbol < size; symbol++) if (plainBits[symbol] !== 0) return true;
  return false;
}

const weights = new Int32Array(MAX_SYMBOLS);

/** Reads what Census.write() wrote; returns how many plain bits all integers together have. */
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
