/** Waiting times between attempts: they double to a limit, with jitter, so that nodes do not knock in step. */
export interface BackOffOptions {
  readonly firstMs: number;
  readonly limitMs: number;
  /** 0 ≤ x < 1. */
  readonly random: () => number;
}

export class BackOff {
  readonly #options: BackOffOptions;
  #nextMs: number;

  constructor(options: BackOffOptions) {
    this.#options = options;
    this.#nextMs = options.firstMs;
  }

  /** How long to wait before the next attempt: between half of the step and all of it. */
  delayMs(): number {
    const step = this.#nextMs;
    this.#nextMs = Math.min(this.#options.limitMs, step * 2);
    return step * (0.5 + this.#options.random() / 2);
  }

  /** An attempt has succeeded. */
  reset(): void {
    this.#nextMs = this.#options.firstMs;
  }
}
