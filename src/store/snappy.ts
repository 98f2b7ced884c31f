/**
 * Decompresses a Snappy block: literals and copies of what came before.
 * Source: google/snappy, format_description.txt.
 */
import { ByteReader } from './byte-reader.js';

/** Throws RangeError for what is no Snappy block, or one of more than `maxBytes`. */
export function unsnap(compressed: Buffer, maxBytes: number): Buffer {
  const reader = new ByteReader(compressed);
  const little = (bytes: number): number => {
    let value = 0;
    for (let i = 0; i < bytes; i++) value += reader.byte() * 2 ** (8 * i);
    return value;
  };
  const length = reader.varint(maxBytes);
  const out = Buffer.alloc(length);
  let filled = 0;

  const literal = (size: number): void => {
    if (filled + size > length) throw new RangeError('a literal is longer than the data');
    filled += reader.bytes(size).copy(out, filled);
  };
  const copy = (size: number, back: number): void => {
    if (back === 0 || back > filled || filled + size > length) throw new RangeError('a copy of what is not there');
    // Byte by byte: a copy may overlap what it makes.
    for (let i = 0; i < size; i++, filled++) out[filled] = out[filled - back] ?? 0;
  };

  while (!reader.isAtEnd) {
    const tag = reader.byte();
    const upper = tag >>> 2;
    if ((tag & 3) === 0) literal(upper < 60 ? upper + 1 : little(upper - 59) + 1);
    else if ((tag & 3) === 1) copy((upper & 7) + 4, (tag >>> 5) * 256 + reader.byte());
    else copy(upper + 1, little((tag & 3) === 2 ? 2 : 4));
  }
  if (filled !== length) throw new RangeError('compressed data give less than they say');
  return out;
}
