import t from 'tap';
import type { Samples } from '../../src/store/chunk.js';
import { inOrder } from '../../src/store/in-order.js';

function chunk(times: readonly number[], value = 0): Samples {
  return {
    length: times.length,
    atMs: Float64Array.from(times),
    values: new Float64Array(times.length).fill(value),
    qualities: new Uint8Array(times.length).fill(value),
  };
}

async function sorted(...chunks: Samples[]): Promise<[number, number, number][]> {
  async function* given() {
    yield* chunks;
  }
  const list: [number, number, number][] = [];
  for await (const { length, atMs, values, qualities } of inOrder(given())) {
    for (let i = 0; i < length; i++) list.push([atMs[i] ?? 0, values[i] ?? 0, qualities[i] ?? 0]);
  }
  return list;
}

t.test('chunks that follow each other stay as they are', async (t) => {
  t.strictSame(await sorted(), []);
  t.strictSame(await sorted(chunk([]), chunk([1, 2]), chunk([]), chunk([2, 3], 1)), [
    [1, 0, 0],
    [2, 0, 0],
    [2, 1, 1],
    [3, 1, 1],
  ]);
});

t.test('chunks over the same time are merged, however many and however long', async (t) => {
  const long = chunk(Array.from({ length: 50 }, (_, i) => 100 + i * 10));
  const list = await sorted(
    long,
    chunk([105, 115, 600], 1),
    chunk([110, 111], 2),
    chunk([300], 3),
    chunk([601, 602], 4),
  );
  t.strictSame(
    list.map(([at]) => at),
    [...list.map(([at]) => at)].sort((a, b) => a - b),
  );
  t.equal(list.length, 50 + 3 + 2 + 1 + 2);
  t.strictSame(
    list.filter(([, value]) => value > 0).map(([at, value, quality]) => [at, value, quality]),
    [
      [105, 1, 1],
      [110, 2, 2],
      [111, 2, 2],
      [115, 1, 1],
      [300, 3, 3],
      [600, 1, 1],
      [601, 4, 4],
      [602, 4, 4],
    ],
  );
  t.strictSame(
    list.filter(([at]) => at === 110).map(([, value]) => value),
    [0, 2],
    'of one time the chunk that began first comes first',
  );
});
