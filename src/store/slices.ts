/** Work in slices: a long job that lets the event loop run in between. */

/** Resolves at once, or after a turn of the event loop when the slice has become long. */
export type Pause = () => Promise<void>;

export function slicesOf(longestMs: number): Pause {
  let sinceMs = performance.now();
  return async () => {
    if (performance.now() - sinceMs < longestMs) return;
    await new Promise((resolve) => setImmediate(resolve));
    sinceMs = performance.now();
  };
}
