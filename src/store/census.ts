/**
 * The integers of one column, counted, and the alphabet that codes them best.
 *
 * Each symbol costs place in the chunk (SYMBOL_COST_BITS), each that stands for many integers costs its plain bits at every use. Of
 * all ways to halve the leaves (alphabet.ts) of a side or an octave and to halve the halves again the cheapest is found from the leaves
 * up: two halves become one symbol where that costs less than both apart. So frequent integers stand for themselves, and rare ones
 * share, whatever the distribution is. Large integers that come again and again, as of a counter of fixed strides or a share of few
 * ticks, are symbols of their own.
 */
import {
  bitsOf,
  isSmall,
  LEAVES,
  leafOf,
  OCTAVE_LEVELS,
  SMALL,
  SMALL_AT,
  SMALL_LEVELS,
  writeAlphabet,
} from './alphabet.js';
import type { BitWriter } from './bits.js';
import { type Alphabet, MAX_COLUMN_LENGTH, MAX_SYMBOLS, newAlphabet } from './rans.js';

/** Large integers of which it is watched whether they come again: as many as there are slots of a hash table, half of them used. */
const WATCHED_SLOTS = 256;
const MAX_WATCHED = 128;
const PROBES = 4;

const SYMBOL_COST_BITS = 7;
/** An integer beside its leaf: as a symbol, and to say which. */
const OWN_COST_BITS = 18;
/** Added to each use of plain bits: a decoder is slower where some symbols have them and some have not. */
const DETOUR_COST_BITS = 1 / 32;
/** A count times its binary logarithm, by the count: what the symbol saves beside one that is never used. */
const SAVINGS = Float64Array.from({ length: MAX_COLUMN_LENGTH + 1 }, (_, count) =>
  count === 0 ? 0 : count * Math.log2(count),
);

/** Nodes of the tree in work: the root is 1, the halves of n are 2n and 2n + 1, the leaves stand last. */
const nodeCounts = new Int32Array(2 * SMALL);
const nodeCosts = new Float64Array(2 * SMALL);
const nodeIsSymbol = new Uint8Array(2 * SMALL);

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
  readonly #watchedLeaves = new Uint16Array(WATCHED_SLOTS);
  readonly #watchedCounts = new Int32Array(WATCHED_SLOTS);
  #watching = 0;
  /** Slots of those that become symbols beside their leaf, in the order of their integers. */
  #own: number[] = [];
  /** Symbols that stand for leaves. */
  #grouped = 0;
  #costBits = 0;
  #symbolCostBits = SYMBOL_COST_BITS;

  /** What the column takes in the chunk, about. */
  get costBits(): number {
    return this.#costBits;
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
        this.#watchedLeaves[slot] = leafOf(integer);
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
    const [watched, watchedCounts, watchedLeaves, counts] = [
      this.#watched,
      this.#watchedCounts,
      this.#watchedLeaves,
      this.#counts,
    ];
    for (let slot = 0; slot < WATCHED_SLOTS; slot++) {
      const count = watchedCounts[slot] ?? 0;
      const leaf = watchedLeaves[slot] ?? 0;
      if (count > 0) counts[leaf] = (counts[leaf] ?? 0) + count;
    }
    for (let slot = 0; slot < WATCHED_SLOTS; slot++) {
      const count = watchedCounts[slot] ?? 0;
      const leaf = watchedLeaves[slot] ?? 0;
      const all = counts[leaf] ?? 0;
      if (count === 0 || count * (bitsOf(leaf) - Math.log2(all / count)) < OWN_COST_BITS + bitsOf(leaf)) continue;
      this.#own.push(slot);
      counts[leaf] = all - count;
    }
    this.#own.sort((a, b) => (watched[a] ?? 0) - (watched[b] ?? 0));
  }

  #addOwn(): void {
    if (this.#watching === 0) return;
    for (let slot = 0; slot < WATCHED_SLOTS; slot++) {
      if ((this.#watchedCounts[slot] ?? 0) === 0) continue;
      this.symbols[LEAVES + slot] = this.symbols[this.#watchedLeaves[slot] ?? 0] ?? 0;
    }
    for (const slot of this.#own) {
      const count = this.#watchedCounts[slot] ?? 0;
      const symbol = this.alphabet.size++;
      this.symbols[LEAVES + slot] = symbol;
      this.#weights[symbol] = count;
      this.#costBits += OWN_COST_BITS + bitsOf(this.#watchedLeaves[slot] ?? 0) - (SAVINGS[count] ?? 0);
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

  /** Writes the alphabet, which is complete after that, and returns how many plain bits all integers together have. */
  write(out: BitWriter): number {
    return writeAlphabet(out, this.alphabet, {
      grouped: this.#grouped,
      firstLeaves: this.#firstLeaves,
      levels: this.#levels,
      own: this.#own.map((slot) => this.#watched[slot] ?? 0),
      counts: this.#weights,
    });
  }
}
