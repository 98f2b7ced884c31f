/**
 * Ids of actions, as others already read them: node:type:action:unix seconds, with `:n` behind it where one second holds several,
 * also those of an earlier agent in the same second.
 */
export class ActionIds {
  readonly #node: string;
  readonly #used = new Map<string, number>();
  readonly #earlier = new Set<string>();
  #second = 0;

  constructor(node: string) {
    this.#node = node;
  }

  /** An id that an earlier agent has given. */
  recall(id: string): void {
    this.#earlier.add(id);
  }

  next({ type, action, wallMs }: { type: string; action: string; wallMs: number }): string {
    // A clock that is set back does not make the ids of a second be given again.
    const second = Math.max(this.#second, Math.floor(wallMs / 1000));
    if (second !== this.#second) this.#used.clear();
    this.#second = second;
    const base = `${this.#node}:${type}:${action}:${second}`;
    const nth = (used: number) => (used === 0 ? base : `${base}:${used}`);
    let used = this.#used.get(base) ?? 0;
    while (this.#earlier.has(nth(used))) used += 1;
    this.#used.set(base, used + 1);
    return nth(used);
  }
}
