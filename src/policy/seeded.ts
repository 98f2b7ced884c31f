/** Numbers that a seed repeats, for simulations. Pure. */

/** A stream: the n-th number depends on the seed and n. Mulberry32. */
export class Seeded {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    return mixed(this.#state) / 2 ** 32;
  }

  between(from: number, to: number): number {
    return from + this.next() * (to - from);
  }

  /** A waiting time whose mean is `mean`, as of what happens at any time alike; never more than eight means. */
  waiting(mean: number): number {
    return mean * Math.min(8, -Math.log(1 - this.next()));
  }

  /** `of` has at least one entry. */
  one<T>(of: readonly [T, ...T[]]): T {
    return of[Math.floor(this.next() * of.length)] ?? of[0];
  }
}

/** A number of 32 bits that depends on its arguments alone, and not on what was asked before. */
export function hashed(seed: number, a: number, b: number): number {
  return mixed((Math.imul(seed ^ Math.imul(a + 1, 0x9e3779b1), 0x85ebca6b) ^ Math.imul(b + 1, 0xc2b2ae35)) >>> 0);
}

function mixed(state: number): number {
  let t = state;
  t = Math.imul(t ^ (t >>> 15), t | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return (t ^ (t >>> 14)) >>> 0;
}
