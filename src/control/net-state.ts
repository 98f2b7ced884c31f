/** What skos-net said last, while that is recent. */
import type { Clock } from '../core/clock.js';
import type { NetReport, PeerView, Status } from '../core/protocol.js';

/** skos-net reports every four seconds; silent for longer than two reports, it is not connected. */
const REPORT_VALID_MS = 10_000;

export class NetState {
  readonly #clock: Clock;
  #last: NetReport | undefined;
  #atMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  report(report: NetReport): void {
    this.#last = report;
    this.#atMs = this.#clock.monotonicMs();
  }

  view(): Status['net'] {
    const ageMs = this.#clock.monotonicMs() - this.#atMs;
    if (this.#last === undefined) return { connected: false, why: 'skos-net has not connected yet' };
    if (ageMs > REPORT_VALID_MS)
      return { connected: false, why: `skos-net is silent for ${Math.round(ageMs / 1000)} s` };
    return { connected: true, ...this.#last };
  }

  /** undefined while nobody knows: that skos-net is silent says nothing of the peers. */
  peers(): readonly PeerView[] | undefined {
    const view = this.view();
    return view.connected ? view.peers : undefined;
  }
}
