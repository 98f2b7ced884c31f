/**
 * Keeps the connection to skos-actuator: connects, hands it to the executor, connects again when it is lost, and drains the
 * actuator's event log into the audit chain, so that what it did while no agent was there is on record too.
 */
import { ActuatorClient } from '../actuators/actuator-client.js';
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import type { Actuator, ActuatorEvent, ConnectPacketSocket, Log, Store } from '../core/ports.js';
import type { Status } from '../core/protocol.js';
import type { Executor } from './executor.js';
import { inTime, RECALL_MS } from './in-time.js';
import { type OperatorWord, WORD_KEY } from './operator-word.js';
import type { Record } from './record.js';

/** A restarted actuator is there within a second; one that is not installed is asked for seldom. */
const RECONNECT_FIRST_MS = 200;
const RECONNECT_MAX_MS = 5_000;
/** A started actuator listens after some 20 ms; the first tick does not wait for it longer than this. */
const OWN_START_MS = 1_000;
const OWN_POLL_MS = 10;
/** Whoever else started the one that is lost (systemd, an earlier agent's child restarting) gets this long to bring it back. */
const OWN_AFTER_DELAY_MS = 1_000;
/** Events while connected are mostly echoes of our own requests; standing orders are told within this. */
const DRAIN_EVERY_MS = 2_000;
/** Actions of an earlier agent that may still stand: far more than any node has at once. */
const RECENT_ACTIONS = 500;
const DRAINED_KEY = 'actuator.drained';

export interface ActuatorLinkOptions {
  /** null: the config or the machine leaves no way to one; `why` says it. */
  readonly path: string | null;
  readonly why: string;
  /** Starts an actuator of our own when none answers; absent where somebody else (systemd) does that. */
  readonly startOwn?: () => Promise<void>;
  readonly connect: ConnectPacketSocket;
  readonly executor: Executor;
  readonly word: OperatorWord;
  readonly store: Store;
  readonly record: Record;
  readonly log: Log;
  readonly clock: Clock;
}

export class ActuatorLink {
  readonly name = 'actuator';
  readonly #options: ActuatorLinkOptions;
  #client: ActuatorClient | undefined;
  /** Says hello. */
  #candidate: ActuatorClient | undefined;
  #why: string;
  #bootId = '';
  #connectedAtMs = 0;
  #drainedSeq = 0;
  #drainedBoot = '';
  #draining = false;
  #retry: NodeJS.Timeout | undefined;
  #drainTimer: NodeJS.Timeout | undefined;
  #delayMs = RECONNECT_FIRST_MS;
  #stopped = true;
  #ownStarted = false;
  #connecting: Promise<void> | undefined;

  constructor(options: ActuatorLinkOptions) {
    this.#options = options;
    this.#why = options.why;
  }

  get actuator(): Actuator | undefined {
    return this.#client?.connected === true ? this.#client : undefined;
  }

  /** Waits for the first attempt alone: an absent actuator must not keep the node from being watched. */
  async start(): Promise<void> {
    this.#stopped = false;
    const { executor, store, word } = this.#options;
    // Without its records the leases alone tell what stands.
    const [records, words] = await Promise.all([
      inTime(store.actions({ limit: RECENT_ACTIONS }), RECALL_MS),
      inTime(store.state(WORD_KEY), RECALL_MS),
    ]);
    word.recall(words);
    executor.recall(records ?? []);
    if (this.#options.path === null) {
      this.#options.log.warn(`nothing can be throttled: ${this.#options.why}`, {
        event: 'actuator.lost',
        code: 'SKOS_ACTUATOR_ABSENT',
      });
      return;
    }
    await this.#connect();
    if (this.actuator === undefined && this.#options.startOwn !== undefined)
      await this.#startOwn(this.#options.startOwn);
  }

  async #startOwn(startOwn: () => Promise<void>): Promise<void> {
    try {
      await startOwn();
      this.#ownStarted = true;
    } catch (error) {
      this.#why = reason(error);
      this.#options.log.error(`the actuator cannot be started: ${this.#why}`, { event: 'actuator.lost', error });
      return;
    }
    const { clock } = this.#options;
    const untilMs = clock.monotonicMs() + OWN_START_MS;
    while (this.actuator === undefined && clock.monotonicMs() < untilMs && !this.#stopped) {
      await new Promise((resolve) => setTimeout(resolve, OWN_POLL_MS));
      clearTimeout(this.#retry);
      await this.#connect();
    }
    this.#delayMs = RECONNECT_FIRST_MS;
    if (this.actuator !== undefined || this.#stopped) return;
    this.#options.log.error(`the actuator was started and does not answer: ${this.#why}`, {
      event: 'actuator.lost',
      code: 'SKOS_ACTUATOR_ABSENT',
    });
  }

  /** Leases stay with the actuator: they end when the danger is past. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retry);
    clearTimeout(this.#drainTimer);
    this.#candidate?.stop();
    this.#client?.stop();
    this.#client = undefined;
  }

  async status(): Promise<Status['actuator']> {
    const actuator = this.actuator;
    if (actuator === undefined) return { connected: false, why: this.#why, targets: [], leases: [], orders: [] };
    try {
      const [targets, leases, orders] = await Promise.all([actuator.targets(), actuator.leases(), actuator.orders()]);
      return { connected: true, why: '', targets, leases, orders };
    } catch (error) {
      return { connected: false, why: reason(error), targets: [], leases: [], orders: [] };
    }
  }

  /** After the allow-list was compiled anew. */
  async reload(): Promise<void> {
    const actuator = this.actuator;
    if (actuator === undefined) return;
    await actuator.reload();
    await this.#options.executor.refreshTargets();
  }

  #connect(): Promise<void> {
    this.#connecting ??= this.#tryConnect().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #tryConnect(): Promise<void> {
    const { path, connect, clock, executor, record } = this.#options;
    if (path === null || this.#stopped || this.actuator !== undefined) return;
    const client = new ActuatorClient({ path, connect, clock, onLost: (why) => this.#lost(client, why) });
    try {
      this.#candidate = client;
      this.#bootId = await client.start();
      // From here on a loss is told by #lost.
      this.#client = client;
      await executor.attach(client);
    } catch (error) {
      if (this.#client === client) this.#client = undefined;
      client.stop();
      executor.detach();
      this.#scheduleRetry(reason(error), error instanceof SkosError ? error : undefined);
      return;
    }
    if (this.#client !== client) return;
    this.#delayMs = RECONNECT_FIRST_MS;
    this.#connectedAtMs = clock.wallMs();
    this.#why = '';
    record.add({
      kind: 'actuator.connected',
      who: 'agent',
      what: { boot: this.#bootId },
      level: 'info',
      message: 'the actuator is connected',
      fields: { event: 'actuator.connected' },
    });
    void this.#recallDrained().then(() => this.#drain());
  }

  #lost(client: ActuatorClient, why: string): void {
    if (client !== this.#client) return;
    this.#client = undefined;
    clearTimeout(this.#drainTimer);
    this.#options.executor.detach();
    this.#options.record.add({
      kind: 'actuator.lost',
      who: 'agent',
      what: { why },
      level: 'error',
      message: `the actuator is lost: ${why}; caps that stand are its own affair until it is back`,
      fields: { event: 'actuator.lost', code: 'SKOS_ACTUATOR_ABSENT' },
    });
    this.#scheduleRetry(why);
  }

  #scheduleRetry(why: string, error?: SkosError): void {
    if (this.#stopped) return;
    if (this.#why !== why && !this.#isStarting()) {
      this.#options.log.warn(`no actuator: ${why}`, {
        event: 'actuator.lost',
        code: error?.code ?? 'SKOS_ACTUATOR_ABSENT',
      });
    }
    this.#why = why;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#tryAgain(), this.#delayMs);
    this.#delayMs = Math.min(this.#delayMs * 2, RECONNECT_MAX_MS);
  }

  /** One of our own keeps running once started; one that was there before us has nobody else who starts it again. */
  async #tryAgain(): Promise<void> {
    await this.#connect();
    const { startOwn } = this.#options;
    const isLeftToUs = startOwn !== undefined && !this.#ownStarted && this.#delayMs > OWN_AFTER_DELAY_MS;
    if (isLeftToUs && this.actuator === undefined && !this.#stopped) await this.#startOwn(startOwn);
  }

  /** While our own actuator starts, its absence is no news. */
  #isStarting(): boolean {
    return this.#options.startOwn !== undefined && this.#bootId === '';
  }

  /** Once: from then on this agent knows best. Event numbers begin again with each boot. */
  async #recallDrained(): Promise<void> {
    if (this.#drainedBoot === this.#bootId) return;
    const known = await this.#options.store.state(DRAINED_KEY).catch(() => undefined);
    if (this.#drainedBoot === this.#bootId) return; // A second look was quicker.
    const { boot, seq } = (known ?? {}) as { boot?: unknown; seq?: unknown };
    this.#drainedSeq = boot === this.#bootId && typeof seq === 'number' ? seq : 0;
    this.#drainedBoot = this.#bootId;
  }

  async #drain(): Promise<void> {
    const client = this.#client;
    if (client === undefined || this.#draining) return;
    this.#draining = true;
    try {
      for (let events = await client.events(this.#drainedSeq); events.length > 0; ) {
        for (const event of events) this.#tell(event);
        // Also after `systemctl reload skos-actuator`, of which nobody else tells us.
        if (events.some(({ kind }) => kind === 'loaded')) await this.#options.executor.refreshTargets();
        this.#options.store.putState(DRAINED_KEY, { boot: this.#bootId, seq: this.#drainedSeq });
        events = await client.events(this.#drainedSeq);
      }
    } catch (error) {
      this.#options.log.debug(`the actuator's events could not be read: ${reason(error)}`);
    }
    this.#draining = false;
    if (this.#stopped || this.#client === undefined) return;
    clearTimeout(this.#drainTimer);
    this.#drainTimer = setTimeout(() => void this.#drain(), DRAIN_EVERY_MS);
  }

  #tell({ seq, atMs, kind, subject, detail }: ActuatorEvent): void {
    this.#drainedSeq = Math.max(this.#drainedSeq, seq);
    this.#options.record.add({
      kind: 'actuator.event',
      who: 'actuator',
      what: { seq, at: new Date(Math.round(atMs)).toISOString(), event: kind, subject, detail },
      // While we are connected most events echo what the executor has said already.
      level: TROUBLE.has(kind) ? 'warn' : kind === 'order_clear' || atMs < this.#connectedAtMs ? 'info' : 'debug',
      message: `actuator: ${kind} ${subject} ${detail}`,
      fields: { event: 'actuator.event', subject },
    });
  }
}

const TROUBLE: ReadonlySet<string> = new Set(['order_raised', 'failed', 'hung', 'foreign_change']);
