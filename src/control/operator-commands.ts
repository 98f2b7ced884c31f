/**
 * Commands of operators over MQTT (skos/command/<node>, token role `operator`): what the CLI does at low or medium risk. Nothing that
 * asks for a challenge there: no approving, arming, resetting, revoking, no release of caps by a hold.
 *
 * Each is followed once: it names the boot that it is for, a nonce that was not used in it, and how long it may take on its way.
 * The time on the way is counted from its receipt, because clocks of air-gapped machines drift; the sender's clock is held against
 * ours only to find a command that was kept for later.
 */
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import { OPERATOR_PARAMETERS, type OperatorCommand, type OperatorCommandWord } from '../core/guests.js';
import type { Store } from '../core/ports.js';
import type { CommandAnswer } from '../core/protocol.js';
import { type Infer, parse } from '../core/shape.js';
import { TokenBucket } from '../core/token-bucket.js';
import { inTime, RECALL_MS } from './in-time.js';
import type { Outlet } from './outlet.js';
import type { Record } from './record.js';

/** Nonces of one boot that are remembered. A guest sends at most one command a second, so that older ones are stale by their time. */
const MAX_NONCES = 4_096;
/**
 * Of one token; skos-net holds guests to the same. A skos-net that is broken has the token of who is connected, and must not fill the record
 * with it, nor push a nonce out of memory before it is stale.
 */
const COMMANDS_PER_SECOND = 1;
const BURST_COMMANDS = 20;
/** As many as there may be tokens. */
const MAX_RATES = 256;
/** Drift of an air-gapped machine's clock, and then some. */
const MAX_CLOCK_APART_MS = 10 * 60_000;
const STATE_KEY = 'command-nonces';

type Parameters = { readonly [W in OperatorCommandWord]: Infer<(typeof OPERATOR_PARAMETERS)[W]> };

/** How each is done; the same that the CLI's verbs do. */
export type CommandDeeds = {
  readonly [W in OperatorCommandWord]: (parameters: Parameters[W], who: string) => Promise<void> | void;
};

export interface OperatorCommandsOptions {
  readonly bootId: string;
  readonly deeds: CommandDeeds;
  readonly store: Pick<Store, 'state' | 'putState'>;
  readonly record: Pick<Record, 'add'>;
  readonly outlet: Outlet;
  readonly clock: Clock;
}

export class OperatorCommands {
  readonly #options: OperatorCommandsOptions;
  readonly #rates = new Map<string, TokenBucket>();
  #nonces = new Set<string>();
  #loading: Promise<void> | undefined;

  constructor(options: OperatorCommandsOptions) {
    this.#options = options;
  }

  /** An agent that was started again in the same boot must know what was followed already. Never rejects. */
  async #load(): Promise<void> {
    const { store, bootId } = this.#options;
    const { boot, list } = ((await inTime(store.state(STATE_KEY), RECALL_MS)) ?? {}) as {
      boot?: unknown;
      list?: unknown;
    };
    if (boot !== bootId || !Array.isArray(list)) return;
    this.#nonces = new Set([...list.filter((each) => typeof each === 'string').slice(-MAX_NONCES), ...this.#nonces]);
  }

  /** Does it, or says on skos/result why not. Never rejects. */
  async follow(command: OperatorCommand, { name, receivedMs }: { name: string; receivedMs: number }): Promise<void> {
    this.#loading ??= this.#load();
    await this.#loading;
    // Also of a command that lay in a socket while this agent was stopped.
    const ignored =
      this.#whyIgnored(command, this.#options.clock.monotonicMs() - receivedMs) ??
      (this.#rateOf(name).take(1) ? undefined : `${name} sends more than ${COMMANDS_PER_SECOND} command a second`);
    if (ignored !== undefined) {
      this.#answer(command, { outcome: 'ignored', why: `SKOS_COMMAND_REFUSED: ${ignored}` });
      return;
    }
    this.#remember(command.nonce);
    const who = `token ${name}`;
    try {
      await this.#do(command, who);
      this.#tell(command, { who, outcome: 'done', why: '' });
    } catch (error) {
      const code = error instanceof SkosError ? `${error.code}: ` : '';
      this.#tell(command, { who, outcome: 'refused', why: `${code}${reason(error)}` });
    }
  }

  #rateOf(name: string): TokenBucket {
    const { clock } = this.#options;
    const rate =
      this.#rates.get(name) ?? new TokenBucket({ clock, perSecond: COMMANDS_PER_SECOND, burst: BURST_COMMANDS });
    this.#rates.delete(name);
    this.#rates.set(name, rate);
    const [oldest] = this.#rates.keys();
    if (this.#rates.size > MAX_RATES && oldest !== undefined) this.#rates.delete(oldest);
    return rate;
  }

  #whyIgnored({ boot_id, nonce, ttl_ms, timestamp }: OperatorCommand, ageMs: number): string | undefined {
    const { bootId, clock } = this.#options;
    if (boot_id !== bootId) return 'it is for another boot of this node';
    if (this.#nonces.has(nonce)) return 'its nonce was used already';
    if (ageMs > ttl_ms) return `it took ${Math.round(ageMs)} ms on its way, and was good for ${ttl_ms}`;
    const apartMs = Math.abs(clock.wallMs() - Date.parse(timestamp));
    // Written so that a time which is none is refused.
    if (!(apartMs <= ttl_ms + MAX_CLOCK_APART_MS)) return `its timestamp is ${Math.round(apartMs / 1000)} s from now`;
    return undefined;
  }

  async #do<W extends OperatorCommandWord>(command: OperatorCommand & { action_type: W }, who: string): Promise<void> {
    const { value, issues } = parse(OPERATOR_PARAMETERS[command.action_type], command.parameters);
    if (issues.length > 0) {
      const wrong = issues.map(({ path, message }) => `${['parameters', ...path].join('.')} ${message}`).join('; ');
      throw new SkosError('SKOS_COMMAND_REFUSED', wrong);
    }
    // The table of shapes has just checked the parameters of this very command.
    const deed = this.#options.deeds[command.action_type] as (parameters: unknown, who: string) => Promise<void> | void;
    await deed(value, who);
  }

  #remember(nonce: string): void {
    const { store, bootId } = this.#options;
    this.#nonces.add(nonce);
    const [oldest] = this.#nonces;
    if (this.#nonces.size > MAX_NONCES && oldest !== undefined) this.#nonces.delete(oldest);
    store.putState(STATE_KEY, { boot: bootId, list: [...this.#nonces] });
  }

  #tell(
    command: OperatorCommand,
    { who, outcome, why }: { who: string; outcome: CommandAnswer['outcome']; why: string },
  ): void {
    const { action_id: action, action_type: type, parameters } = command;
    this.#options.record.add({
      kind: 'command.operator',
      who,
      what: { action, type, parameters, outcome, why },
      level: 'warn',
      message: `${type} was asked for over MQTT by ${who}: ${outcome}${why === '' ? '' : `, ${why}`}`,
      fields: { event: 'command.operator', action, outcome },
    });
    this.#answer(command, { outcome, why });
  }

  #answer(
    { action_id: actionId, action_type: command }: OperatorCommand,
    { outcome, why }: { outcome: CommandAnswer['outcome']; why: string },
  ): void {
    const { outlet, clock } = this.#options;
    outlet.broadcast('answer', { actionId, command, outcome, reason: why, atMs: clock.wallMs() });
  }
}
