/**
 * Decompresses a Snappy block: literals and copies of what came before.
 * Source: google/snappy, format_description.txt.
 */

/** Throws for what is no Snappy block, or one of more than `maxBytes`. */
export function unsnap(compressed: Buffer, maxBytes: number): Buffer {
  let at = 0;
  const byte = (): number => {
    const value = compressed[at++];
    if (value === undefined) throw new Error('compressed data end early');
    return value;
  };
  const little = (bytes: number): number => {
    let value = 0;
    for (let i = 0; i < bytes; i++) value += byte() * 2 ** (8 * i);
    return value;
  };
  let length = 0;
  for (let scale = 1; ; scale *= 128) {
    const part = byte();
    length += (part & 0x7f) * scale;
    if (part < 0x80) break;
    if (scale > maxBytes) throw new Error('compressed data have no length');
  }
  if (length > maxBytes) throw new Error(`compressed data of ${length} bytes`);
  const out = Buffer.alloc(length);
  let filled = 0;

  const literal = (size: number): void => {
    if (at + size > compressed.length || filled + size > length) throw new Error('a literal is longer than the data');
    compressed.copy(out, filled, at, at + size);
    at += size;
    filled += size;
  };
  const copy = (size: number, back: number): void => {
    if (back === 0 || back > filled || filled + size > length) throw new Error('a copy of what is not there');
    // Byte by byte: a copy may overlap what it makes.
    for (let i = 0; i < size; i++, filled++) out[filled] = out[filled - back] ?? 0;
  };

  while (at < compressed.length) {
    const tag = byte();
    const upper = tag >>> 2;
    if ((tag & 3) === 0) literal(upper < 60 ? upper + 1 : little(upper - 59) + 1);
    else if ((tag & 3) === 1) copy((upper & 7) + 4, (tag >>> 5) * 256 + byte());
    else copy(upper + 1, little((tag & 3) === 2 ? 2 : 4));
  }
  if (filled !== length) throw new Error('compressed data give less than they say');
  return out;
}
