/**
 * What is retained on the local broker of one node, so that it can be taken back: topics that no longer hold are
 * emptied, because a retained value that nobody renews looks like a live one.
 */
import type { Bus } from './bus.js';
import { type Message, message, type TopicName } from './topics.js';

/** Far more than one node has channels and alerts; beyond it something makes up topics. */
const MAX_RETAINED_TOPICS = 8_192;

interface Retained {
  readonly name: TopicName;
  generation: number;
}

export class RetainedTopics {
  readonly #bus: Pick<Bus, 'publish'>;
  readonly #topics = new Map<string, Retained>();
  #generation = 0;

  constructor(bus: Pick<Bus, 'publish'>) {
    this.#bus = bus;
  }

  /** Publishes, and remembers what is retained. False: refused, because there are too many topics. */
  publish(name: TopicName, sent: Message): boolean {
    if (sent.retain) {
      const empty = sent.payload.length === 0;
      const known = this.#topics.get(sent.topic);
      if (known !== undefined) known.generation = this.#generation;
      else if (this.#topics.size >= MAX_RETAINED_TOPICS) return false;
      else if (!empty) this.#topics.set(sent.topic, { name, generation: this.#generation });
      if (empty) this.#topics.delete(sent.topic);
    }
    this.#bus.publish(sent);
    return true;
  }

  /** From now on the truth is told anew; what is not told again until forgetOld() no longer holds. */
  startGeneration(): void {
    this.#generation++;
  }

  /** Empties what was not told since startGeneration(). The peer topic stays: it is the word on the node itself. */
  forgetOld(): void {
    this.#empty(({ name, generation }) => name !== 'peer' && generation < this.#generation);
  }

  /** Empties all topics of one name. */
  forget(name: TopicName): void {
    this.#empty((retained) => retained.name === name);
  }

  #empty(selects: (retained: Retained) => boolean): void {
    for (const [topic, retained] of this.#topics) {
      if (!selects(retained)) continue;
      this.#topics.delete(topic);
      this.#bus.publish(message(retained.name, topic, ''));
    }
  }
}
