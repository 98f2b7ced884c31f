/**
 * Carries a queue of the agent's outbox to a broker: reads a page, publishes it in order, and takes what the broker has acknowledged.
 *
 * Nothing is taken before it is acknowledged, and what was not is published again, by this program or the next, under the same
 * number. An item that cannot be a message is taken as it is: it must not hold up those behind it.
 */
import { within } from '../core/deadline.js';
import { reason } from '../core/errors.js';
import type { Log, OutboxItem, OutboxPosition } from '../core/ports.js';
import type { Message } from './topics.js';

/** Few enough to be no burden on a slow link, enough that a backlog of days is through in minutes. */
export const PAGE_ITEMS = 64;
/** The agent pokes when something is queued; this is for what was queued before, and for errors. */
const LOOK_EVERY_MS = 5_000;
/** A broker that is connected but acknowledges nothing for so long is asked again from the first that it has not. */
const ACKNOWLEDGE_MS = 30_000;

export interface CourierOptions {
  readonly read: (limit: number) => Promise<OutboxItem[]>;
  readonly take: (position: OutboxPosition) => Promise<unknown>;
  /** undefined: it can be no message, and that has been said. */
  readonly messageOf: (item: OutboxItem) => Message | undefined;
  readonly bus: {
    readonly listening: boolean;
    /** Resolves when the broker has it. */
    deliver(message: Message): Promise<void>;
  };
  readonly log: Log;
}

export class Courier {
  readonly #options: CourierOptions;
  #stopped = true;
  #poked = false;
  #wake: () => void = () => undefined;
  /** Ends the wait for acknowledgements. */
  #giveUp: () => void = () => undefined;

  constructor(options: CourierOptions) {
    this.#options = options;
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    void this.#run();
  }

  /** What is on its way is left to its fate: it is carried again. */
  stop(): void {
    this.#stopped = true;
    this.#giveUp();
    this.#wake();
  }

  /** Something was queued, or the broker is there again. */
  poke(): void {
    this.#poked = true;
    this.#wake();
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      this.#poked = false;
      const isMore = await this.#carry().catch((error: unknown) => {
        this.#options.log.debug(`the outbox is not carried on: ${reason(error)}`);
        return false;
      });
      if (!isMore && !this.#stopped && !this.#poked) await this.#pause();
    }
  }

  /** One page. True when there may be more. */
  async #carry(): Promise<boolean> {
    const { read, take, messageOf, bus } = this.#options;
    if (!bus.listening) return false;
    const items = await read(PAGE_ITEMS);
    // All are handed over before the first is awaited: a page costs one round trip.
    const sent = items.map((item) => {
      const message = messageOf(item);
      const arrival = message === undefined ? Promise.resolve() : bus.deliver(message);
      return { item, isThere: arrival.then(() => true).catch(() => false) };
    });
    const givenUp = new Promise<boolean>((resolve) => {
      this.#giveUp = () => resolve(false);
    });
    let arrived: OutboxItem | undefined;
    const deadlineMs = performance.now() + ACKNOWLEDGE_MS;
    for (const { item, isThere } of sent) {
      if (!(await within(Promise.race([isThere, givenUp]), Math.max(1, deadlineMs - performance.now()), () => false)))
        break;
      arrived = item;
    }
    if (arrived !== undefined) await take({ epoch: arrived.epoch, seq: arrived.seq });
    return arrived !== undefined && arrived === items.at(-1);
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, LOOK_EVERY_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
