/**
 * Chunks of samples in the order of time. They come in the order in which they begin, and follow each other; where the clock was set
 * back two of them cover the same time, and are merged. Of one time the chunk that began first comes first.
 */
import type { Samples } from './chunk.js';

export async function* inOrder(chunks: AsyncIterable<Samples>): AsyncGenerator<Samples, void, undefined> {
  let held: Samples | undefined;
  for await (const chunk of chunks) {
    if (chunk.length === 0) continue;
    if (held === undefined) {
      held = chunk;
      continue;
    }
    const beginsAtMs = chunk.atMs[0] ?? 0;
    if ((held.atMs[held.length - 1] ?? 0) <= beginsAtMs) {
      yield held;
      held = chunk;
      continue;
    }
    const both = merged(held, chunk);
    // Whatever comes begins no earlier than this chunk.
    let certain = 0;
    while (certain < both.length && (both.atMs[certain] ?? 0) < beginsAtMs) certain++;
    if (certain > 0) yield part(both, 0, certain);
    held = part(both, certain, both.length);
  }
  if (held !== undefined) yield held;
}

function merged(a: Samples, b: Samples): Samples {
  const length = a.length + b.length;
  const both = {
    length,
    atMs: new Float64Array(length),
    values: new Float64Array(length),
    qualities: new Uint8Array(length),
  };
  let [i, j] = [0, 0];
  for (let at = 0; at < length; at++) {
    const first = i < a.length && (j >= b.length || (a.atMs[i] ?? 0) <= (b.atMs[j] ?? 0));
    const from = first ? a : b;
    const index = first ? i++ : j++;
    both.atMs[at] = from.atMs[index] ?? 0;
    both.values[at] = from.values[index] ?? Number.NaN;
    both.qualities[at] = from.qualities[index] ?? 0;
  }
  return both;
}

/** Shares the memory. */
export function part({ atMs, values, qualities }: Samples, from: number, to: number): Samples {
  return {
    length: to - from,
    atMs: atMs.subarray(from, to),
    values: values.subarray(from, to),
    qualities: qualities.subarray(from, to),
  };
}
