/**
 * What skos-net may ask of the agent: everybody on the network can make it ask, and broken or taken over it asks whatever it likes, but
 * the agent's time belongs to protection. One budget for all its connections, in units of a plain request, which takes some
 * 50 to 100 µs: at most a tenth of a core.
 *
 * Who has spent it is not read until it has grown again, so that an honest burst is only slowed down: skos-net has some sixty requests on
 * their way at most and waits for the answers. Who goes on to send is refused and disconnected.
 */
import type { Clock } from '../core/clock.js';
import type { Verb } from '../core/protocol.js';

/** All that guests at their rates, reports and a backlog of the outbox need, several times over. */
const UNITS_PER_SECOND = 1_000;
/** A restart with all its guests: a connection, a subscription, a hundred credentials. */
const BURST_UNITS = 2_000;
/** More than all that skos-net has on its way at once, at the largest payload that it carries. */
const MAX_DEBT_UNITS = 2_000;
/** JSON of so many bytes is parsed in the time of a plain request. */
const BYTES_PER_UNIT = 4_096;
/** Asking the kernel who it is, and the objects of a connection. */
const CONNECTION_UNITS = 10;
/** Beside the one that each costs: a subscription tells all channels, a page of the outbox is decoded, a status is gathered. */
const FURTHER_UNITS: Partial<Record<Verb, number>> = { subscribe: 250, 'outbox.read': 8, status: 4 };

export class NetBudget {
  readonly #clock: Clock;
  #units = BURST_UNITS;
  #atMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#atMs = clock.monotonicMs();
  }

  /** False: more than can be waited for. */
  takeRequest(): boolean {
    return this.#spend(1);
  }

  /** False: it is spent, and no time for another connection. */
  takeConnection(): boolean {
    this.#spend(0);
    if (this.#units < CONNECTION_UNITS) return false;
    return this.#spend(CONNECTION_UNITS);
  }

  takeBytes(count: number): void {
    this.#spend(count / BYTES_PER_UNIT);
  }

  /** What the verb costs more than others. */
  takeVerb(verb: Verb): void {
    this.#spend(FURTHER_UNITS[verb] ?? 0);
  }

  /** Until something may be asked again; 0: now. */
  get waitMs(): number {
    this.#spend(0);
    return this.#units >= 0 ? 0 : (-this.#units / UNITS_PER_SECOND) * 1_000;
  }

  /** Returns whether what is owed can be waited for. */
  #spend(units: number): boolean {
    const nowMs = this.#clock.monotonicMs();
    const grown = this.#units + ((nowMs - this.#atMs) / 1_000) * UNITS_PER_SECOND;
    this.#atMs = nowMs;
    this.#units = Math.min(BURST_UNITS, grown) - units;
    return this.#units >= -MAX_DEBT_UNITS;
  }
}
