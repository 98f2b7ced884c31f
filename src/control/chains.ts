/**
 * Synthesis chains at the agent: what may be done about a runaway one, which are held, and the record of it. skos-net judges the steps
 * (mesh/chain-desk.ts), with the limits and permissions that are said here, and reports what it told a workload.
 *
 * circuit_break is reversible: the chain is held until somebody resets it. reset_chain is restartable, so that it is `auto` only with
 * auto_allow; what may not act is told as what would be, and an operator may hold the chain (`skos chain break`). A hold is ended by a
 * reset and by nothing else: neither by a restart of either program nor by one of them not knowing of it.
 */
import { randomBytes } from 'node:crypto';
import type { Config } from '../config/schema.js';
import { parseAction } from '../core/action-names.js';
import { type Every, ownTimer } from '../core/beat.js';
import {
  CHAIN_CONDITIONS,
  type ChainCondition,
  type ChainReport,
  type ChainResponse,
  type ChainResponses,
  type ChainTruth,
  type ChainVerdict,
  MAX_HELD_CHAINS,
  MAX_RESETS,
} from '../core/chains.js';
import type { Clock } from '../core/clock.js';
import { SkosError } from '../core/errors.js';
import type { Log, RecordKind, Records, Store } from '../core/ports.js';
import type { ChainView } from '../core/protocol.js';
import { type Infer, number, object, string } from '../core/shape.js';
import type { BuiltInRule } from '../core/vocabulary.js';
import { type Permission, permitted } from '../policy/action.js';
import { consent } from '../policy/consent.js';
import type { AlertBook } from './alert-book.js';
import type { CurrentConfig } from './current-config.js';
import { inTime, RECALL_MS } from './in-time.js';
import type { OperatorWord } from './operator-word.js';
import type { Outlet } from './outlet.js';
import { PerMinute } from './per-minute.js';
import type { Record as AuditRecord } from './record.js';
import { alertIdOf } from './rulebook.js';

export const CHAIN_RULE: BuiltInRule = 'chain';
const TEND_EVERY_MS = 500;
/** What was beyond a limit and is not held is over when it has not been so for this long. */
const EXCESS_ENDS_MS = 10 * 60_000;
/** skos-net tells of a chain again each minute while it goes on. More than these are one trouble, and told by one alert. */
const MAX_EXCESSES = 256;
/** Entries of the record about chains that are not held; of those beyond it their number is recorded. */
const MAX_RECORDED_PER_MINUTE = 60;
/** Alerts of chains that stand at once; beyond it one alert says how many more there are. */
const MAX_ALERTS = 64;
const RESETS_KEY = 'chain-resets';
const HOLD_BYTES = 8;
const CHAIN_ID = /^[a-z0-9_~-]{1,64}$/;

const heldShape = object({
  hold: string({ max: 16 }),
  reason: string({ max: 256 }),
  sinceAtMs: number(),
  who: string({ max: 128 }),
});
type Held = Infer<typeof heldShape>;

const CHAIN_RECORDS: RecordKind<Held> = {
  name: 'chain',
  version: 1,
  shape: heldShape,
  upgrades: [],
  maxCount: MAX_HELD_CHAINS,
  maxBytes: 1_024,
};

/** Beyond a limit, and not held. */
interface OverLimit {
  readonly reason: string;
  readonly verdict: ChainVerdict;
  readonly sinceAtMs: number;
  readonly lastMs: number;
  readonly who: string;
}

/** What is to be done about a chain of this condition. */
interface Listed {
  readonly condition: ChainCondition;
  readonly verdict: ChainResponse['verdict'];
  readonly permission: Permission;
}

export interface ChainsOptions {
  readonly config: CurrentConfig;
  readonly word: OperatorWord;
  readonly alerts: AlertBook;
  readonly store: Pick<Store, 'records' | 'state' | 'putState'>;
  readonly record: Pick<AuditRecord, 'add'>;
  readonly outlet: Outlet;
  readonly clock: Clock;
  readonly every?: Every;
  readonly log: Log;
}

export class Chains {
  readonly name = 'chains';
  readonly #options: ChainsOptions;
  readonly #held: Records<Held>;
  readonly #over = new Map<string, OverLimit>();
  #resets: string[] = [];
  #said = '';
  /** What the configuration lists, which is another list only with another configuration. */
  #listing: { readonly of: Config; readonly list: readonly Listed[] } | undefined;
  #mark: { readonly config: Config; readonly acts: string; readonly held: number } | undefined;
  /** Findings that are recorded. */
  readonly #perMinute = new PerMinute((more) =>
    this.#options.record.add({
      kind: 'chain.excess',
      who: 'agent',
      what: { more },
      level: 'warn',
      message: `${more} more findings about chains within a minute`,
      fields: { event: 'chain.excess', rule: CHAIN_RULE },
    }),
  );
  #unbeat: () => void = () => undefined;

  constructor(options: ChainsOptions) {
    this.#options = options;
    this.#held = options.store.records(CHAIN_RECORDS);
  }

  /** What an earlier agent held. Never rejects; what a slow disk says later counts from then on. */
  async start(): Promise<void> {
    await inTime(this.#held.load(), RECALL_MS);
    const known = await inTime(this.#options.store.state(RESETS_KEY), RECALL_MS);
    if (Array.isArray(known)) this.#resets = known.filter((each) => typeof each === 'string').slice(-MAX_RESETS);
    this.#unbeat = (this.#options.every ?? ownTimer)(TEND_EVERY_MS, () => this.tend());
  }

  stop(): void {
    this.#unbeat();
  }

  /** Tells skos-net when what may be done has changed (mode, hold, bar, a slow disk), and ends what is over. */
  tend(nowMs = this.#options.clock.monotonicMs()): void {
    if (this.#isOther()) this.#say();
    this.#perMinute.tend(nowMs);
    for (const [chain, { lastMs }] of this.#over) {
      if (nowMs - lastMs < EXCESS_ENDS_MS) continue;
      this.#over.delete(chain);
      this.#options.alerts.end(chainAlert(chain), `chain ${chain} was within its limits, or silent, for 10 minutes`);
      this.#endMore();
    }
  }

  #endMore(): void {
    if (this.#held.all().size + this.#over.size > 0) return;
    this.#options.alerts.end(chainAlert('~more'), 'no chain is held or beyond a limit any more');
  }

  /** For a new subscriber. */
  truth(): ChainTruth {
    const { loop } = this.#options.config.get();
    return {
      limits: {
        maxDepth: loop.max_depth,
        maxIterations: loop.max_iterations,
        maxStepsPerSecond: loop.max_steps_per_second,
        repeats: loop.repeats,
        windowMs: loop.window * 1000,
      },
      responses: this.#responses(),
      held: [...this.#held.all()].map(([chain, { hold, reason }]) => ({ chain, hold, reason })),
      reset: this.#resets,
    };
  }

  #responses(): ChainResponses {
    const acts = this.#acts();
    const all = this.#listed().map(({ condition, verdict }, i) => ({ condition, verdict, acts: acts[i] === true }));
    const of = (wanted: ChainCondition) =>
      all.filter(({ condition }) => condition === wanted).map(({ verdict, acts }) => ({ verdict, acts }));
    const responses = CHAIN_CONDITIONS.map((condition) => [condition, of(condition)]);
    // Built of the very conditions, each once.
    return Object.fromEntries(responses) as ChainResponses;
  }

  /** Of each that is listed, whether it may be done now. */
  #acts(): boolean[] {
    const { word, clock } = this.#options;
    const words = word.about({ rule: CHAIN_RULE, key: '', isActing: false }, clock.monotonicMs());
    return this.#listed().map(
      ({ permission, verdict }) => consent(permission, verdict, { ...words, isApproved: false }) === 'act',
    );
  }

  #listed(): readonly Listed[] {
    const config = this.#options.config.get();
    if (this.#listing?.of !== config) {
      const list = CHAIN_CONDITIONS.flatMap((condition) =>
        config.loop.actions[condition].flatMap((text) => listedAs(condition, text, config)),
      );
      this.#listing = { of: config, list };
    }
    return this.#listing.list;
  }

  /** What may change by itself, told apart without making all that would be said: this is asked twice a second. */
  #isOther(): boolean {
    const { config } = this.#options;
    const mark = { config: config.get(), acts: this.#acts().join(), held: this.#held.all().size };
    const { config: of, acts, held } = this.#mark ?? {};
    this.#mark = mark;
    return mark.config !== of || mark.acts !== acts || mark.held !== held;
  }

  #say(): void {
    const truth = this.truth();
    const text = JSON.stringify(truth);
    if (text === this.#said) return;
    this.#said = text;
    this.#options.outlet.broadcast('chains', truth);
  }

  // ---- What skos-net reports -------------------------------------------------------------------------------------------

  report(reports: readonly ChainReport[], user: string): void {
    for (const each of reports) this.#take(each, `token ${user}`);
    this.#say();
  }

  #take(report: ChainReport, who: string): void {
    const { chain, verdict, acts, hold } = report;
    // Told again after a reconnection, or by a skos-net that was not there when it was reset.
    if (hold !== null && (this.#resets.includes(hold) || this.#held.get(chain) !== undefined)) return;
    const reason = reasonOf(report);
    const isHeld = verdict === 'circuit_break' && acts && hold !== null;
    if (isHeld && this.#hold(chain, { hold, reason, sinceAtMs: this.#options.clock.wallMs(), who })) return;
    if (this.#held.get(chain) !== undefined) return;
    this.#exceeded(report, { reason, who });
  }

  /** False: too many are held. */
  #hold(chain: string, held: Held): boolean {
    if (this.#held.all().size >= MAX_HELD_CHAINS) {
      this.#options.log.error(`${MAX_HELD_CHAINS} chains are held: ${chain} is not`, { event: 'chain.held' });
      return false;
    }
    this.#held.put(chain, held);
    this.#over.delete(chain);
    this.#options.record.add({
      kind: 'chain.held',
      who: held.who,
      what: { chain, reason: held.reason, hold: held.hold },
      level: 'error',
      message: `chain ${chain} is held: ${held.reason}`,
      fields: { event: 'chain.held', rule: CHAIN_RULE },
    });
    this.#raise(chain, { severity: 'critical', message: `Chain ${chain} is held: ${held.reason}` });
    return true;
  }

  #exceeded({ chain, verdict, acts }: ChainReport, { reason, who }: { reason: string; who: string }): void {
    const { clock } = this.#options;
    const former = this.#over.get(chain);
    const isNew = former === undefined || former.verdict !== verdict;
    const told = verdict === 'continue' ? 'is beyond a limit' : `${acts ? 'was' : 'would be'} told ${verdict}`;
    if (isNew || acts) this.#recordExcess({ chain, verdict, acts }, { reason, who, told });
    if (former === undefined && this.#over.size >= MAX_EXCESSES) {
      this.#raiseMore();
      return;
    }
    this.#over.delete(chain);
    this.#over.set(chain, {
      reason,
      verdict,
      sinceAtMs: former?.sinceAtMs ?? clock.wallMs(),
      lastMs: clock.monotonicMs(),
      who,
    });
    this.#raise(chain, { severity: 'warning', message: `Chain ${chain} ${told}: ${reason}` });
  }

  #recordExcess(
    { chain, verdict, acts }: { chain: string; verdict: ChainVerdict; acts: boolean },
    { reason, who, told }: { reason: string; who: string; told: string },
  ): void {
    if (!this.#perMinute.mayTell(MAX_RECORDED_PER_MINUTE, this.#options.clock.monotonicMs())) return;
    this.#options.record.add({
      kind: 'chain.excess',
      who,
      what: { chain, verdict, acts, reason },
      level: 'warn',
      message: `chain ${chain} ${told}: ${reason}`,
      fields: { event: 'chain.excess', rule: CHAIN_RULE },
    });
  }

  #raise(chain: string, { severity, message }: { severity: 'warning' | 'critical'; message: string }): void {
    const { alerts } = this.#options;
    const id = chainAlert(chain);
    const standing = alerts.raised.filter(({ rule }) => rule === CHAIN_RULE);
    if (standing.length >= MAX_ALERTS && !standing.some((alert) => alert.id === id)) this.#raiseMore();
    else alerts.raise({ ...PLAIN, id, channel: `chain/workload/${chain}`, severity, message });
  }

  #raiseMore(): void {
    this.#options.alerts.raise({
      ...PLAIN,
      id: chainAlert('~more'),
      channel: 'chain/all/more',
      severity: 'critical',
      message: 'More chains are held or beyond a limit than are told one by one: see skos chain list',
    });
  }

  // ---- The operator ----------------------------------------------------------------------------------------------------

  list(): ChainView[] {
    const held = [...this.#held.all()].map(([chain, { reason, sinceAtMs, who }]) => {
      return { chain, kind: 'workload', isHeld: true, reason, sinceAtMs, who } as const;
    });
    const over = [...this.#over].map(([chain, { reason, verdict, sinceAtMs, who }]) => {
      return { chain, kind: 'workload', isHeld: false, reason: `${verdict}: ${reason}`, sinceAtMs, who } as const;
    });
    return [...held, ...over];
  }

  /** SKOS_CHAIN_UNKNOWN for what can be no chain, or when too many are held. */
  break(chain: string, who: string): void {
    if (!CHAIN_ID.test(chain))
      throw new SkosError('SKOS_CHAIN_UNKNOWN', `"${chain}" can be no chain: an id is one topic level`);
    if (this.#held.get(chain) !== undefined) return;
    const hold = randomBytes(HOLD_BYTES).toString('hex');
    const held = { hold, reason: `asked for by ${who}`, sinceAtMs: this.#options.clock.wallMs(), who };
    if (!this.#hold(chain, held))
      throw new SkosError('SKOS_CHAIN_UNKNOWN', `${MAX_HELD_CHAINS} chains are held already`);
    this.#say();
  }

  /** False: it is not held. */
  reset(chain: string, who: string): boolean {
    const held = this.#held.get(chain);
    if (held === undefined) return false;
    this.#held.remove(chain);
    this.#resets = [...this.#resets, held.hold].slice(-MAX_RESETS);
    const { store, record, alerts } = this.#options;
    store.putState(RESETS_KEY, this.#resets);
    record.add({
      kind: 'chain.reset',
      who,
      what: { chain, reason: held.reason, hold: held.hold },
      level: 'info',
      message: `chain ${chain} was reset by ${who}: it may begin anew`,
      fields: { event: 'chain.reset', rule: CHAIN_RULE },
    });
    alerts.end(chainAlert(chain), `chain ${chain} was reset by ${who}`);
    this.#endMore();
    this.#say();
    return true;
  }

  /** `skos release chain`: all of them. Returns their ids. */
  resetAll(who: string): string[] {
    return [...this.#held.all().keys()].filter((chain) => this.reset(chain, who));
  }
}

function listedAs(condition: ChainCondition, text: string, { mode, auto_allow: autoAllow }: Config): Listed[] {
  const action = parseAction(text);
  if (typeof action === 'string') return [];
  const { verb } = action;
  // alert_human: the alert stands in any case.
  if (verb !== 'circuit_break' && verb !== 'reset_chain') return [];
  return [{ condition, verdict: verb, permission: permitted(action, mode, autoAllow) }];
}

const PLAIN = {
  rule: CHAIN_RULE,
  agentType: 'loop_breaker',
  type: 'loop',
  sensor: 'chain',
  value: null,
  threshold: null,
  unit: '',
} as const;

function chainAlert(chain: string): string {
  return alertIdOf({ name: CHAIN_RULE, channelId: `workload/${chain}` });
}

const UNITS: Readonly<globalThis.Record<ChainReport['condition'], string>> = {
  depth: 'deep',
  repeats: 'times in the same state',
  rate: 'steps a second',
  iterations: 'iterations',
};

function reasonOf({ condition, value, limit }: ChainReport): string {
  return `${value} ${UNITS[condition]}, the limit is ${limit}`;
}
