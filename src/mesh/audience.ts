/**
 * Who listens: the filters that clients of the broker are subscribed to, so that what nobody hears need not be delivered. It may say
 * that somebody listens where nobody does, never the other way round. MQTT 3.1.1, section 4.7.
 */

interface Level {
  /** Subscriptions that end here. */
  count: number;
  readonly next: Map<string, Level>;
}

export class Audience {
  readonly #root: Level = level();

  add(filter: string): void {
    let at = this.#root;
    for (const word of filter.split('/')) {
      const known = at.next.get(word);
      const next = known ?? level();
      if (known === undefined) at.next.set(word, next);
      at = next;
    }
    at.count += 1;
  }

  /** One that was added before. */
  remove(filter: string): void {
    removeFrom(this.#root, filter.split('/'));
  }

  /** Could a message on this topic reach anybody? */
  hears(topic: string): boolean {
    return hears(this.#root, topic.split('/'), 0);
  }
}

function level(): Level {
  return { count: 0, next: new Map() };
}

/** What nothing ends below is forgotten: filters that come and go leave nothing behind. */
function removeFrom(from: Level, [word, ...rest]: readonly string[]): void {
  if (word === undefined) {
    from.count -= 1;
    return;
  }
  const next = from.next.get(word);
  if (next === undefined) return;
  removeFrom(next, rest);
  if (next.count === 0 && next.next.size === 0) from.next.delete(word);
}

/** Topic and filters have at most MAX_TOPIC_LEVELS. */
function hears(from: Level, words: readonly string[], index: number): boolean {
  // `a/#` also matches `a` itself.
  if (from.next.has('#')) return true;
  const word = words[index];
  if (word === undefined) return from.count > 0;
  const named = from.next.get(word);
  if (named !== undefined && hears(named, words, index + 1)) return true;
  const wild = from.next.get('+');
  return wild !== undefined && hears(wild, words, index + 1);
}
