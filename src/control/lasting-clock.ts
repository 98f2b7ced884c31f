/**
 * A clock for what must hold over restarts and reboots: budgets of attempts, back-offs, silences.
 *
 * The monotonic clock begins anew with each boot, and wall time jumps: a dead CMOS battery, NTP, an operator's hand. This one goes
 * on with the monotonic clock while the machine runs, whatever happens to wall time; only the time between two boots is taken from
 * wall time, and where that went backwards it counts as nothing. So it never goes back (nothing is forgiven), and it always goes on
 * (nothing is blocked for ever). A wall clock that is too far ahead at a boot is believed: it cannot be told from a long rest.
 *
 * Whoever deletes by age must not believe it so easily: to a clock of another year every file is old. `wallAheadMs` says how far it is
 * ahead of what was believed last, however often it is stored, until it is right again or a person says that it is.
 */
import type { Clock } from '../core/clock.js';
import type { RecordKind, Records, Store } from '../core/ports.js';
import { number, object, optional, string } from '../core/shape.js';

/** A moment in all the clocks there are. */
interface Anchor {
  readonly lastingMs: number;
  readonly monotonicMs: number;
  readonly wallMs: number;
  readonly bootId: string;
  /** The latest wall time that was believed, and what has passed since; absent: `wallMs`. */
  readonly believedWallMs?: number | undefined;
}

const ANCHORS: RecordKind<Anchor> = {
  name: 'lasting-clock',
  version: 1,
  shape: object({
    lastingMs: number({ min: 0 }),
    monotonicMs: number(),
    wallMs: number(),
    bootId: string({ max: 64 }),
    believedWallMs: optional(number()),
  }),
  upgrades: [],
  maxCount: 1,
  maxBytes: 320,
};
const ID = 'anchor';

/** More than this between wall time and the monotonic clock since the anchor: somebody has set the clock. */
const SET_MS = 1_000;
/** So often the anchor is written anew although nothing has happened: slow drift, and a boot without an orderly end. */
const ANCHOR_EVERY_MS = 3_600_000;
/** A node that is off over a long holiday; a clock whose battery is dead is years away. */
const BELIEVED_REST_MS = 14 * 24 * 3_600_000;

export class LastingClock {
  readonly #clock: Clock;
  readonly #bootId: string;
  readonly #records: Records<Anchor>;
  #anchor: Anchor;
  /** As of the anchor. */
  #believedWallMs: number;
  #isLoaded = false;

  constructor({ store, clock, bootId }: { store: Pick<Store, 'records'>; clock: Clock; bootId: string }) {
    this.#clock = clock;
    this.#bootId = bootId;
    this.#records = store.records(ANCHORS);
    this.#anchor = this.#at(0);
    this.#believedWallMs = this.#anchor.wallMs;
  }

  /** Goes on where the stored one was. Rejects with SKOS_STORE_READ, and can be tried again. */
  async load(): Promise<void> {
    await this.#records.load();
    this.#isLoaded = true;
    const stored = this.#records.get(ID);
    if (stored === undefined) return;
    const { monotonicMs, wallMs } = this.#at(0);
    const isSameBoot = stored.bootId === this.#bootId && stored.monotonicMs <= monotonicMs;
    const passedMs = isSameBoot ? monotonicMs - stored.monotonicMs : Math.max(0, wallMs - stored.wallMs);
    this.notBefore(stored.lastingMs + passedMs);
    const believedMs = stored.believedWallMs ?? stored.wallMs;
    this.#anchor = this.#at(this.nowMs());
    this.#believedWallMs = isSameBoot ? believedMs + passedMs : believedMs;
  }

  /** `monotonicMs`: a moment of this boot, usually now. */
  nowMs(monotonicMs = this.#clock.monotonicMs()): number {
    return this.#anchor.lastingMs + Math.max(0, monotonicMs - this.#anchor.monotonicMs);
  }

  /** How much later wall time is than it can be believed to be; 0: it can be. */
  get wallAheadMs(): number {
    const { monotonicMs, wallMs } = this.#at(0);
    const aheadMs = wallMs - this.#believedWallMs - (monotonicMs - this.#anchor.monotonicMs);
    return aheadMs > BELIEVED_REST_MS ? aheadMs : 0;
  }

  /** A person says that wall time is right. */
  believeWall(): void {
    this.#anchor = this.#at(this.nowMs());
    this.#believedWallMs = this.#anchor.wallMs;
    this.touch({ isWritten: true });
  }

  /** In wall time, for people. */
  wallAtMs(lastingMs: number): number {
    return Math.round(this.#clock.wallMs() + lastingMs - this.nowMs());
  }

  /** What is recorded with a later time proves that the stored anchor was lost. */
  notBefore(lastingMs: number): void {
    if (lastingMs > this.nowMs()) this.#goOn(lastingMs);
  }

  /** With what is written, so that it is written with it; and each minute. */
  touch({ isWritten = false } = {}): void {
    // What is stored is the older truth until it is known.
    if (!this.#isLoaded) return;
    this.#goOn(this.nowMs());
    const next = { ...this.#anchor, believedWallMs: this.#believedWallMs };
    const stored = this.#records.get(ID);
    const passedMs = next.monotonicMs - (stored?.monotonicMs ?? 0);
    const isSet = stored === undefined || Math.abs(next.wallMs - stored.wallMs - passedMs) > SET_MS;
    const isDue = stored?.bootId !== this.#bootId || passedMs >= ANCHOR_EVERY_MS;
    if (isWritten || isSet || isDue) this.#records.put(ID, next);
  }

  #goOn(lastingMs: number): void {
    const isBelieved = this.wallAheadMs === 0;
    const next = this.#at(lastingMs);
    const expectedMs = this.#believedWallMs + next.monotonicMs - this.#anchor.monotonicMs;
    this.#believedWallMs = isBelieved ? Math.max(expectedMs, next.wallMs) : expectedMs;
    this.#anchor = next;
  }

  #at(lastingMs: number): Anchor {
    return {
      lastingMs,
      monotonicMs: this.#clock.monotonicMs(),
      wallMs: this.#clock.wallMs(),
      bootId: this.#bootId,
    };
  }
}
