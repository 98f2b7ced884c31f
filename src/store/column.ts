/**
 * A column: as many numbers as a chunk has samples, or buckets. Values, times, counts and qualities are all coded as columns.
 *
 *   form      2 bits: 0 all are equal; 1 differences, from one to the next; 2 levels, which are differences from the first;
 *             3 floats. Noise around one level takes less as levels, all that wanders takes less as differences.
 *   first     signed number (bits.ts)
 *   divisor   number: the greatest common divisor of the differences
 *   alphabet  of what the differences are over the divisor (alphabet.ts); then up to a full byte
 *   stream    of all but the first (rans.ts), unless they are all the same
 *
 * A column of equal integers ends with the first, at a full byte. Floats, which are all numbers that are no integers within 2 ** 50 of
 * 0, are two columns of integers instead: the upper 32 bits of each, and the lower.
 */
import { readAlphabet } from './alphabet.js';
import type { BitReader, BitWriter } from './bits.js';
import { Census } from './census.js';
import { decodeIntegers, MAX_COLUMN_LENGTH, newAlphabet, RansEncoder, writePlain } from './rans.js';

const EQUAL = 0;
const DIFFERENCES = 1;
const LEVELS = 2;
const FLOATS = 3;
const FORM_BITS = 2;
/** Differences of such integers are still exact in a double. */
const MAX_INTEGER = 2 ** 50;

/** Levels on the mean so many times as large as differences are not tried: what wanders so is better coded by differences ... */
const MAX_REACH = 4;
/** ... unless they are few: at most FEW_LEVELS different ones among LEVELS_ASKED from everywhere in the column. */
const LEVELS_ASKED = 64;
const FEW_LEVELS = 40;
/** Worst case: 12 bits for a symbol, and the state. */
const MAX_STREAM_BYTES = MAX_COLUMN_LENGTH * 2;

/** Encoding and decoding are synchronous: one of each serves all columns. */
const differences = new Float64Array(MAX_COLUMN_LENGTH);
const levels = new Float64Array(MAX_COLUMN_LENGTH);
const ofDifferences = new Census();
const ofLevels = new Census();
const encoder = new RansEncoder(MAX_STREAM_BYTES);
const alphabet = newAlphabet();
const levelsAsked = new Float64Array(LEVELS_ASKED);
const halves = new Float64Array(MAX_COLUMN_LENGTH);
const double = new DataView(new ArrayBuffer(8));
/** Where the upper half of a double is in its little-endian bytes, and the lower one. */
const UPPER_AT = 4;
const LOWER_AT = 0;

/** The first `count` numbers, from 1 to MAX_COLUMN_LENGTH of them. */
export function writeColumn(out: BitWriter, values: Float64Array, count: number): void {
  if (!areIntegers(values, count)) writeFloats(out, values, count);
  else writeIntegers(out, values, count);
}

export function areIntegers(values: Float64Array, count: number): boolean {
  for (let i = 0; i < count; i++) {
    const value = values[i] ?? 0;
    if (!(value <= MAX_INTEGER && value >= -MAX_INTEGER) || Math.floor(value) !== value) return false;
    // The sign of a negative zero would be lost.
    if (value === 0 && 1 / value < 0) return false;
  }
  return true;
}

function writeFloats(out: BitWriter, values: Float64Array, count: number): void {
  out.bits(FLOATS, FORM_BITS);
  out.align();
  for (const at of [UPPER_AT, LOWER_AT]) {
    for (let i = 0; i < count; i++) {
      double.setFloat64(0, values[i] ?? 0, true);
      halves[i] = double.getUint32(at, true);
    }
    writeIntegers(out, halves, count);
  }
}

function writeIntegers(out: BitWriter, values: Float64Array, count: number): void {
  const first = values[0] ?? 0;
  if (areEqual(values, count)) {
    out.bits(EQUAL, FORM_BITS);
    out.signed(first);
    out.align();
    return;
  }
  const { divisor, reach } = takeDifferences(values, count);
  const steps = count - 1;
  if (divisor !== 1) for (let i = 0; i < steps; i++) differences[i] = (differences[i] ?? 0) / divisor;
  ofDifferences.take(differences, steps);
  const asLevels = (reach <= MAX_REACH || areFew(values, count)) && levelsAreBetter(steps);
  out.bits(asLevels ? LEVELS : DIFFERENCES, FORM_BITS);
  out.signed(first);
  out.number(divisor);
  const census = asLevels ? ofLevels : ofDifferences;
  const plain = census.write(out);
  out.align();
  if (plain > 0) writePlain(out, census, asLevels ? levels : differences, steps);
  if (census.alphabet.size > 1) out.append(encoder.encode(census, steps));
}

function areEqual(values: Float64Array, count: number): boolean {
  for (let i = 1; i < count; i++) if (values[i] !== values[0]) return false;
  return true;
}

/**
 * Of values that are not all equal. The divisor is the greatest that all differences have; `reach` is how large levels are beside
 * differences.
 */
function takeDifferences(values: Float64Array, count: number): { divisor: number; reach: number } {
  const first = values[0] ?? 0;
  let previous = first;
  let divisor = 0;
  let sum = 0;
  let sumOfLevels = 0;
  for (let i = 1; i < count; i++) {
    const value = values[i] ?? 0;
    const difference = value - previous;
    previous = value;
    differences[i - 1] = difference;
    sum += Math.abs(difference);
    sumOfLevels += Math.abs(value - first);
    if (divisor !== 1 && difference !== 0 && (divisor === 0 || !divides(divisor, difference))) {
      divisor = greatestCommonDivisor(Math.abs(difference), divisor);
    }
  }
  return { divisor, reach: sumOfLevels / sum };
}

/** Exact below 2 ** 53, and some times faster than the remainder of two doubles. */
function divides(divisor: number, difference: number): boolean {
  const quotient = difference / divisor;
  return Math.floor(quotient) === quotient;
}

function greatestCommonDivisor(a: number, b: number): number {
  let [larger, smaller] = [a, b];
  while (smaller !== 0) [larger, smaller] = [smaller, larger % smaller];
  return larger;
}

function areFew(values: Float64Array, count: number): boolean {
  for (let i = 0; i < LEVELS_ASKED; i++) levelsAsked[i] = values[Math.floor((i * count) / LEVELS_ASKED)] ?? 0;
  levelsAsked.sort();
  let different = 1;
  for (let i = 1; i < LEVELS_ASKED; i++) if (levelsAsked[i] !== levelsAsked[i - 1]) different++;
  return different <= FEW_LEVELS;
}

function levelsAreBetter(steps: number): boolean {
  let level = 0;
  for (let i = 0; i < steps; i++) {
    level += differences[i] ?? 0;
    levels[i] = level;
  }
  ofLevels.take(levels, steps);
  return ofLevels.costBits < ofDifferences.costBits;
}

/** Reads `count` numbers. Throws RangeError for what writeColumn() cannot have written. */
export function readColumn(bits: BitReader, into: Float64Array, count: number): void {
  const form = bits.bits(FORM_BITS);
  if (form === FLOATS) readFloats(bits, into, count);
  else readIntegers(bits, { form, into, count });
}

function readFloats(bits: BitReader, into: Float64Array, count: number): void {
  bits.align();
  readHalf(bits, into, count);
  readHalf(bits, halves, count);
  for (let i = 0; i < count; i++) {
    double.setUint32(UPPER_AT, into[i] ?? 0, true);
    double.setUint32(LOWER_AT, halves[i] ?? 0, true);
    into[i] = double.getFloat64(0, true);
  }
}

function readHalf(bits: BitReader, into: Float64Array, count: number): void {
  const form = bits.bits(FORM_BITS);
  if (form === FLOATS) throw new RangeError('the halves of floats are floats');
  readIntegers(bits, { form, into, count });
}

function readIntegers(
  bits: BitReader,
  { form, into, count }: { form: number; into: Float64Array; count: number },
): void {
  const first = bits.signed();
  if (form === EQUAL) {
    into.fill(first, 0, count);
    bits.align();
    return;
  }
  const divisor = bits.number();
  const plain = readAlphabet(bits, alphabet);
  bits.align();
  const steps = into.subarray(1, count);
  const plainAt = bits.at;
  bits.at = decodeIntegers(bits.bytes, { alphabet, plainAt, streamAt: plainAt + Math.ceil(plain / 8), into: steps });
  into[0] = first;
  let value = first;
  if (form === LEVELS) for (let i = 1; i < count; i++) into[i] = first + (into[i] ?? 0) * divisor;
  else for (let i = 1; i < count; i++) into[i] = value += (into[i] ?? 0) * divisor;
}
