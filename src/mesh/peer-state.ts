/**
 * What is known of one peer, and only that: a pure machine over what was heard, and when.
 *
 * Online: its own live words say so. Offline: its own words, its last will, or nothing heard for the heartbeat timeout,
 * counted from the last live word (or from the start). In between, when the connection is lost: unknown, because a
 * lost link is not a lost node. Retained words are old words: they prove an ending, never life.
 */
import type { PeerView, PeerState as State } from '../core/protocol.js';
import { shown } from './shown.js';

/** Part of each report to the agent, which takes no longer one. */
const MAX_WHY_LENGTH = 256;

export interface PeerStateOptions {
  readonly node: string;
  readonly timeoutMs: number;
  readonly nowMs: number;
  readonly wallMs: number;
}

/** Both clocks of one moment. */
export interface Moment {
  /** Monotonic: decides. */
  readonly nowMs: number;
  /** For people. */
  readonly wallMs: number;
}

export class PeerState {
  readonly #node: string;
  readonly #timeoutMs: number;
  #state: State = 'unknown';
  #why = 'not heard yet';
  #sinceAtMs: number;
  #heardMs: number;
  #hasSpoken = false;
  /** Since when its live words say that it does not hear this node; null while they say that it does, undefined: neither. */
  #deafSinceMs: number | null | undefined;
  /** Why the link does not work, while it does not. */
  #trouble: string | undefined;

  constructor({ node, timeoutMs, nowMs, wallMs }: PeerStateOptions) {
    this.#node = node;
    this.#timeoutMs = timeoutMs;
    this.#heardMs = nowMs;
    this.#sinceAtMs = wallMs;
  }

  /** `nowMs`, as all times here: monotonic. */
  view({ nowMs }: Pick<Moment, 'nowMs'>): PeerView {
    return {
      node: this.#node,
      state: this.#state,
      sinceAtMs: this.#sinceAtMs,
      why: this.#why,
      silentMs: this.#silentMs(nowMs),
      deafMs: this.#deafMs(nowMs),
    };
  }

  /** Who has not spoken yet may be about to: only when the time for it is over is it known to be silent. */
  #silentMs(nowMs: number): number | null {
    const silentMs = Math.max(0, nowMs - this.#heardMs);
    return this.#hasSpoken || silentMs > this.#timeoutMs ? silentMs : null;
  }

  /** What it said before it fell silent is no news of now. */
  #deafMs(nowMs: number): number | null {
    if (this.#state !== 'online' || this.#deafSinceMs === undefined) return null;
    return this.#deafSinceMs === null ? 0 : Math.max(0, nowMs - this.#deafSinceMs);
  }

  get online(): boolean {
    return this.#state === 'online';
  }

  /** Live words of the peer that say nothing of its state. */
  heard({ nowMs }: Moment): void {
    if (this.#state === 'offline') return;
    this.#heardMs = nowMs;
    this.#hasSpoken = true;
  }

  /** What its live status says of this node; undefined: nothing. */
  hears(us: State | undefined, { nowMs }: Moment): void {
    if (us === undefined) this.#deafSinceMs = undefined;
    else if (us === 'online') this.#deafSinceMs = null;
    else this.#deafSinceMs ??= nowMs;
  }

  /** Its own status. Returns whether the state changed, as do all below. */
  status(state: 'online' | 'offline', options: { why: string; retained: boolean }, moment: Moment): boolean {
    if (state === 'offline') return this.#become('offline', options.why, moment);
    if (options.retained) return false;
    this.#heardMs = moment.nowMs;
    this.#hasSpoken = true;
    return this.#become('online', 'its status arrives', moment);
  }

  lastWill(moment: Moment): boolean {
    return this.#become('offline', 'last will: its connection to this node broke', moment);
  }

  linkUp(): void {
    this.#trouble = undefined;
  }

  /** The link was lost, or could not be made. */
  linkDown(why: string, moment: Moment): boolean {
    this.#trouble = why;
    return this.#state === 'online' && this.#become('unknown', `link lost: ${why}`, moment);
  }

  /** Time passes. */
  tick(moment: Moment): boolean {
    if (this.#state === 'offline' || moment.nowMs - this.#heardMs <= this.#timeoutMs) return false;
    const trouble = this.#trouble === undefined ? '' : ` (${this.#trouble})`;
    return this.#become('offline', `no heartbeat for ${this.#timeoutMs / 1000} s${trouble}`, moment);
  }

  #become(state: State, why: string, { wallMs }: Moment): boolean {
    if (this.#state === state) return false;
    this.#state = state;
    // What was said on the former link does not make the new one deaf.
    if (state !== 'online') this.#deafSinceMs = undefined;
    this.#why = shown(why, MAX_WHY_LENGTH);
    this.#sinceAtMs = wallMs;
    return true;
  }
}
