/** The median, of few numbers and in place: it is asked for again and again, so that it allocates nothing. */

/**
 * Median of the first `count` of `values`, which it sorts; the mean of the two in the middle when `count` is even, NaN for none.
 * Insertion sort: for some ten numbers, often nearly sorted, nothing is faster.
 */
export function sortedMedian(values: Float64Array, count: number): number {
  for (let i = 1; i < count; i++) {
    const value = values[i] as number;
    let at = i;
    while (at > 0 && (values[at - 1] as number) > value) {
      values[at] = values[at - 1] as number;
      at--;
    }
    values[at] = value;
  }
  if (count === 0) return Number.NaN;
  const upper = values[count >> 1] as number;
  return count % 2 === 1 ? upper : ((values[(count >> 1) - 1] as number) + upper) / 2;
}
