/**
 * The encoding of Gorilla, written from its paper to be compared with: Pelkonen et al., "Gorilla: A Fast, Scalable, In-Memory
 * Time Series Database", Proc. VLDB Endowment 8(12), 2015, section 4.1. Times are differences of differences, values are doubles,
 * each XORed with the one before. Times are in milliseconds here, the paper's are in seconds.
 */

class Bits {
  #bytes = new Uint8Array(1024);
  #length = 0;

  get bytes(): number {
    return Math.ceil(this.#length / 8);
  }

  write(value: bigint | number, width: number): void {
    for (let bits = BigInt(value), at = width - 1; at >= 0; at--) this.#bit(Number((bits >> BigInt(at)) & 1n));
  }

  #bit(bit: number): void {
    const byte = this.#length >> 3;
    if (byte === this.#bytes.length) {
      const larger = new Uint8Array(2 * byte);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    if (bit === 1) this.#bytes[byte] = (this.#bytes[byte] ?? 0) | (0x80 >> (this.#length & 7));
    this.#length++;
  }

  /** Reads from the beginning on. */
  reader(): (width: number) => bigint {
    let at = 0;
    return (width) => {
      let value = 0n;
      for (const end = at + width; at < end; at++) {
        value = (value << 1n) | BigInt(((this.#bytes[at >> 3] ?? 0) >> (7 - (at & 7))) & 1);
      }
      return value;
    };
  }
}

export interface GorillaSeries {
  readonly atMs: Float64Array;
  readonly values: Float64Array;
}

const HEADER_BITS = 64;
/** Of the first difference: 14 bits of seconds hold a block of the paper; milliseconds take ten more. */
const FIRST_DELTA_BITS = 24;
/** Differences of differences: [least, greatest, bits of the tag, tag, bits of the value]. */
const DELTA_CLASSES = [
  [-63, 64, 2, 0b10, 7],
  [-255, 256, 3, 0b110, 9],
  [-2047, 2048, 4, 0b1110, 12],
] as const;
const MAX_LEADING = 31;

const double = new DataView(new ArrayBuffer(8));

function bitsOf(value: number): bigint {
  double.setFloat64(0, value);
  return double.getBigUint64(0);
}

/** Bytes of the series in one block. The encoding is decoded again, so that the figure is of one that can be read. */
export function gorillaBytes(series: GorillaSeries): number {
  const bits = new Bits();
  encode(series, bits);
  const decoded = decode(bits.reader(), series.values.length);
  const isSame = series.values.every((value, i) => value === decoded.values[i] && series.atMs[i] === decoded.atMs[i]);
  if (!isSame) throw new Error('the Gorilla encoding does not decode to what was encoded');
  return bits.bytes;
}

function encode({ atMs, values }: GorillaSeries, bits: Bits): void {
  let [delta, xorred, leading, length] = [0, 0n, 0, 0];
  bits.write(atMs[0] ?? 0, HEADER_BITS);
  values.forEach((value, i) => {
    if (i > 0) {
      const next = (atMs[i] ?? 0) - (atMs[i - 1] ?? 0);
      if (i === 1) bits.write(next, FIRST_DELTA_BITS);
      else writeDelta(bits, next - delta);
      delta = next;
    }
    const own = bitsOf(value);
    const difference = own ^ xorred;
    xorred = own;
    if (i === 0) bits.write(own, 64);
    else if (difference === 0n) bits.write(0, 1);
    else {
      const text = difference.toString(2);
      const ownLeading = Math.min(MAX_LEADING, 64 - text.length);
      const trailing = text.length - 1 - text.lastIndexOf('1');
      if (length > 0 && ownLeading >= leading && trailing >= 64 - leading - length) {
        bits.write(0b10, 2);
      } else {
        leading = ownLeading;
        length = 64 - leading - trailing;
        bits.write(0b11, 2);
        bits.write(leading, 5);
        // 64 does not fit into six bits; no length is 0.
        bits.write(length - 1, 6);
      }
      bits.write(difference >> BigInt(64 - leading - length), length);
    }
  });
}

function writeDelta(bits: Bits, value: number): void {
  const found = DELTA_CLASSES.find(([least, greatest]) => value >= least && value <= greatest);
  if (value === 0) bits.write(0, 1);
  else if (found === undefined) {
    bits.write(0b1111, 4);
    bits.write(value >>> 0, 32);
  } else {
    const [least, , tagBits, tag, valueBits] = found;
    bits.write(tag, tagBits);
    bits.write(value - least, valueBits);
  }
}

function decode(read: (width: number) => bigint, count: number): GorillaSeries {
  const [atMs, values] = [new Float64Array(count), new Float64Array(count)];
  let [at, delta, own, leading, length] = [Number(read(HEADER_BITS)), 0, 0n, 0, 0];
  for (let i = 0; i < count; i++) {
    if (i === 1) delta = Number(read(FIRST_DELTA_BITS));
    else if (i > 1) delta += readDelta(read);
    at += i === 0 ? 0 : delta;
    if (i === 0) own = read(64);
    else if (read(1) === 1n) {
      if (read(1) === 1n) [leading, length] = [Number(read(5)), Number(read(6)) + 1];
      own ^= read(length) << BigInt(64 - leading - length);
    }
    double.setBigUint64(0, own);
    [atMs[i], values[i]] = [at, double.getFloat64(0)];
  }
  return { atMs, values };
}

function readDelta(read: (width: number) => bigint): number {
  if (read(1) === 0n) return 0;
  for (const [least, , , , valueBits] of DELTA_CLASSES) {
    if (read(1) === 0n) return Number(read(valueBits)) + least;
  }
  return Number(BigInt.asIntN(32, read(32)));
}
