/**
 * The alert of a store that fails. It looks at the store's health once a second, so that it needs nothing of the disk: alerts
 * live in memory, and MQTT and the journal tell them while nothing can be written.
 *
 * - store/local/writes: writes fail or hang, or the database could not be opened at all. Ends when writes work again.
 * - store/local/database: a damaged database was set aside. Ends when everything in it is in the new one; else it stands,
 *   because records are missing, until `skos release store` or the next start of the agent.
 *
 * What an operator has dismissed comes back only when it was over in between.
 */
import { type Every, ownTimer } from '../core/beat.js';
import { QUANTITIES } from '../core/units.js';
import type { BuiltInRule } from '../core/vocabulary.js';
import type { SetAside, StoreHealth } from '../store/health.js';
import type { AlertBook } from './alert-book.js';
import { alertIdOf } from './rulebook.js';

/** An alert is promised within two seconds; a look costs next to nothing. */
const LOOK_EVERY_MS = 1_000;
export const STORE_RULE: BuiltInRule = 'store';
const WRITES = 'store/local/writes';
const DATABASE = 'store/local/database';

export interface StoreWatchOptions {
  readonly health: () => StoreHealth;
  readonly alerts: AlertBook;
  readonly every?: Every;
}

interface Trouble {
  readonly message: string;
  readonly count: number;
}

export class StoreWatch {
  readonly name = 'store-watch';
  readonly #options: StoreWatchOptions;
  /** Raised by us, by channel, and not over since; dismissed or not. */
  readonly #raised = new Set<string>();
  #unbeat: () => void = () => undefined;

  constructor(options: StoreWatchOptions) {
    this.#options = options;
  }

  /** After the book has adopted what an earlier agent left standing. */
  start(): void {
    for (const alert of this.#options.alerts.raised) {
      if (alert.rule === STORE_RULE) this.#raised.add(alert.channel);
    }
    this.look();
    this.#unbeat = (this.#options.every ?? ownTimer)(LOOK_EVERY_MS, () => this.look());
  }

  stop(): void {
    this.#unbeat();
  }

  look(): void {
    const health = this.#options.health();
    this.#judge(WRITES, writeTrouble(health), 'the store takes writes again');
    this.#judge(DATABASE, setAsideTrouble(health.setAside), health.setAside?.salvage ?? 'the agent was started again');
  }

  #judge(channel: string, trouble: Trouble | undefined, over: string): void {
    const { alerts } = this.#options;
    const id = alertIdOf({ name: STORE_RULE, channelId: channel });
    const isKnown = this.#raised.has(channel);
    if (trouble === undefined) {
      this.#raised.delete(channel);
      if (isKnown) alerts.end(id, over);
      return;
    }
    if (isKnown && !alerts.raised.some((alert) => alert.id === id)) return;
    this.#raised.add(channel);
    alerts.raise({
      id,
      rule: STORE_RULE,
      type: 'store',
      channel,
      sensor: 'disk',
      severity: 'critical',
      message: trouble.message,
      value: trouble.count,
      threshold: null,
      unit: QUANTITIES.countTotal.unit,
    });
  }
}

/** `count`: records that are in memory only. */
function writeTrouble({ ok, why, memoryOnly = false, waiting }: StoreHealth): Trouble | undefined {
  if (ok) return undefined;
  if (memoryOnly) {
    const message = `nothing is kept on disk: ${why}; all records end with this run`;
    return { message, count: 0 };
  }
  const { records, lost } = waiting ?? { records: 0, lost: 0 };
  const gone = lost === 0 ? 'nothing is lost yet' : `${lost} that did not fit are lost`;
  return { message: `the store takes no writes: ${why}; ${gone}`, count: records };
}

function setAsideTrouble(setAside: SetAside | undefined): Trouble | undefined {
  if (setAside === undefined || setAside.state === 'whole') return undefined;
  const { path, why, salvage } = setAside;
  return { message: `the database was damaged (${why}) and set aside as ${path}; ${salvage}`, count: 1 };
}
