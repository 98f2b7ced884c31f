/**
 * External antibodies: programs in any language that watch something of their own, beat, and raise alerts over MQTT with a token of the
 * role `antibody` (src/antibodies/EXTERNAL.md). The token's name is the antibody's name: it speaks for itself and for no other.
 *
 * It registers with its first heartbeat, and is known from then on, until its token is revoked. When its heartbeat stays away an alert
 * says that it is offline, and what it raised stands on as no longer watched: nobody knows that it is over. It cannot act, and no
 * action follows from its alerts.
 */
import { createHash } from 'node:crypto';
import { type Every, ownTimer } from '../core/beat.js';
import type { Clock } from '../core/clock.js';
import { SkosError } from '../core/errors.js';
import { type GuestAlert, type GuestBeat, typeOf } from '../core/guests.js';
import type { Alert, RecordKind, Records, Store } from '../core/ports.js';
import type { GuestAntibodyView, Heartbeat } from '../core/protocol.js';
import { number, object } from '../core/shape.js';
import { suggest } from '../core/suggest.js';
import { TokenBucket } from '../core/token-bucket.js';
import { SEVERITIES, type Severity } from '../core/vocabulary.js';
import type { AlertBook } from './alert-book.js';
import type { CurrentConfig } from './current-config.js';
import type { Outlet } from './outlet.js';
import type { Record as AuditRecord } from './record.js';

const TEND_EVERY_MS = 500;
/** As many as there may be tokens. */
const MAX_ANTIBODIES = 256;
/** What one antibody may have to say at once, and still be read. */
const MAX_ALERTS_EACH = 32;
/**
 * Alerts of one antibody that may end or become less severe: all of them at once, then one in this time. Each change is a record that is
 * kept and, where somebody wants to know, a notification; a threshold without hysteresis would make several a second, for weeks.
 */
const BETTER_PER_SECOND = 0.1;
/** Ids of alerts are one topic level. */
const MAX_ID_LENGTH = 64;
const ID_DIGEST_LENGTH = 32;

const registrationShape = object({ registeredAtMs: number() });
type Registration = { readonly registeredAtMs: number };

const ANTIBODY_RECORDS: RecordKind<Registration> = {
  name: 'antibody',
  version: 1,
  shape: registrationShape,
  upgrades: [],
  maxCount: MAX_ANTIBODIES,
  maxBytes: 256,
};

interface Guest {
  readonly name: string;
  /** Monotonic; the agent's start counts as a sign of life: nobody could beat before. */
  heardMs: number;
  lastBeat: Heartbeat | undefined;
  isOnline: boolean;
  answered: string;
  /** Changes of its alerts to the better. */
  readonly better: TokenBucket;
  /** What it said last of alerts that were to become better too soon; they stand as they were until then. */
  readonly later: Map<string, GuestAlert>;
}

export interface GuestAntibodiesOptions {
  readonly node: string;
  readonly config: CurrentConfig;
  readonly alerts: AlertBook;
  readonly store: Pick<Store, 'records'>;
  readonly record: Pick<AuditRecord, 'add'>;
  readonly outlet: Outlet;
  readonly clock: Clock;
  readonly every?: Every;
}

export class GuestAntibodies {
  readonly name = 'external-antibodies';
  readonly #options: GuestAntibodiesOptions;
  readonly #records: Records<Registration>;
  readonly #guests = new Map<string, Guest>();
  readonly #nextCommand = { second: 0, count: 0 };
  #unbeat: () => void = () => undefined;

  constructor(options: GuestAntibodiesOptions) {
    this.#options = options;
    this.#records = options.store.records(ANTIBODY_RECORDS);
  }

  /** After the book has adopted what an earlier agent left standing. Waits for no disk. */
  start(): void {
    this.#records.load().then(
      () => this.#recall(),
      () => undefined, // The store has said so; who beats registers anew.
    );
    this.#unbeat = (this.#options.every ?? ownTimer)(TEND_EVERY_MS, () => this.tend());
  }

  stop(): void {
    this.#unbeat();
  }

  #recall(): void {
    for (const name of this.#records.all().keys()) if (!this.#guests.has(name)) this.#admit(name);
  }

  #admit(name: string): Guest {
    const { clock } = this.#options;
    const guest: Guest = {
      name,
      heardMs: clock.monotonicMs(),
      lastBeat: undefined,
      isOnline: true,
      answered: '',
      better: new TokenBucket({ clock, perSecond: BETTER_PER_SECOND, burst: MAX_ALERTS_EACH }),
      later: new Map(),
    };
    this.#guests.set(name, guest);
    return guest;
  }

  get names(): readonly string[] {
    return [...this.#guests.keys()];
  }

  list(): GuestAntibodyView[] {
    return [...this.#guests.values()].map(({ name, lastBeat, isOnline, answered }) => ({
      name,
      agentType: typeOf(name),
      registeredAtMs: this.#records.get(name)?.registeredAtMs ?? 0,
      lastBeatAtMs: lastBeat?.atMs ?? null,
      isOnline: isOnline && lastBeat !== undefined,
      alerts: this.#alertsOf(name).length,
      answered,
    }));
  }

  /** The last of each that has beaten, for a new subscriber. */
  get beats(): Heartbeat[] {
    return [...this.#guests.values()].flatMap(({ lastBeat }) => (lastBeat === undefined ? [] : [lastBeat]));
  }

  // ---- What they say -------------------------------------------------------------------------------------------------

  beat(name: string, { agent_id, agent_type, metadata, answers }: GuestBeat): void {
    this.#isItself(name, { agent_id, agent_type });
    const { clock, outlet, alerts } = this.#options;
    const guest = this.#guests.get(name) ?? this.#register(name);
    guest.heardMs = clock.monotonicMs();
    guest.lastBeat = {
      agentType: typeOf(name),
      atMs: clock.wallMs(),
      cpuTemp: null,
      gpuTemp: null,
      metadata,
    };
    if (answers !== undefined) guest.answered = answers;
    // Also what an earlier agent said.
    alerts.end(offlineId(name), `${name} gives signs of life again`);
    guest.isOnline = true;
    outlet.broadcast('heartbeat', guest.lastBeat);
  }

  alert(name: string, said: GuestAlert): void {
    this.#isItself(name, said);
    const guest = this.#guests.get(name);
    if (guest === undefined) {
      throw new SkosError('SKOS_ANTIBODY_UNKNOWN', `${name} has not beaten yet: the first heartbeat registers it`);
    }
    const standing = this.#alertsOf(name);
    const alertId = alertIdOf(name, said.id);
    const former = standing.find((each) => each.id === alertId);
    if (said.severity !== null && former === undefined && standing.length >= MAX_ALERTS_EACH) {
      throw new SkosError(
        'SKOS_TOKEN_DENIED',
        `${name} has ${MAX_ALERTS_EACH} alerts that stand, as many as are taken`,
      );
    }
    guest.later.delete(alertId);
    const isBetter = former !== undefined && rungOf(said.severity) < rungOf(former.severity);
    if (isBetter && !guest.better.take(1)) guest.later.set(alertId, said);
    else this.#take(name, said);
  }

  #take(name: string, { id, type, severity, message, details }: GuestAlert): void {
    const { alerts } = this.#options;
    const alertId = alertIdOf(name, id);
    if (severity === null) {
      alerts.end(alertId, message);
      return;
    }
    alerts.raise({
      id: alertId,
      rule: name,
      agentType: typeOf(name),
      type,
      channel: `${channelsOf(name)}${id}`,
      sensor: details.sensor === '' ? type : details.sensor,
      severity,
      message,
      value: details.value,
      threshold: details.threshold,
      unit: details.unit,
    });
  }

  /** The token is gone, and with it who could ever say that it is over: an operator's word ends what it raised. */
  forget(name: string): void {
    if (!this.#guests.delete(name)) return;
    this.#records.remove(name);
    const { alerts } = this.#options;
    for (const { id } of this.#alertsOf(name)) alerts.end(id, `no longer watched: the token of ${name} was revoked`);
    alerts.end(offlineId(name), `the token of ${name} was revoked`);
  }

  #register(name: string): Guest {
    const { record, clock } = this.#options;
    this.#records.put(name, { registeredAtMs: clock.wallMs() });
    record.add({
      kind: 'antibody.registered',
      who: `token ${name}`,
      what: { name },
      level: 'info',
      message: `the external antibody ${name} has registered`,
      fields: { event: 'antibody.registered' },
    });
    return this.#admit(name);
  }

  #isItself(name: string, { agent_id, agent_type }: { agent_id: string; agent_type?: string }): void {
    const expected = `${name}-${this.#options.node}`;
    if (agent_id !== expected) throw new SkosError('SKOS_TOKEN_DENIED', `agent_id is "${agent_id}", not ${expected}`);
    if (agent_type !== undefined && agent_type !== typeOf(name)) {
      throw new SkosError('SKOS_TOKEN_DENIED', `agent_type is "${agent_type}", not ${typeOf(name)}`);
    }
  }

  // ---- Silence -------------------------------------------------------------------------------------------------------

  tend(nowMs = this.#options.clock.monotonicMs()): void {
    const timeoutSeconds = this.#options.config.get().heartbeat.timeout;
    for (const guest of this.#guests.values()) {
      for (const [alertId, said] of guest.later) {
        if (!guest.better.take(1)) break;
        guest.later.delete(alertId);
        this.#take(guest.name, said);
      }
      if (!guest.isOnline || nowMs - guest.heardMs <= timeoutSeconds * 1000) continue;
      guest.isOnline = false;
      this.#sayOffline(guest, timeoutSeconds);
    }
  }

  #sayOffline({ name }: Guest, timeoutSeconds: number): void {
    const { alerts } = this.#options;
    for (const alert of this.#alertsOf(name)) {
      // What already says so was silent before this agent began.
      if (alert.severity === null || alert.verdict === 'stale') continue;
      const { id, rule, agentType, type, channel, sensor, severity, value, threshold, unit } = alert;
      const words = { message: `${alert.message} (no longer watched)`, verdict: 'stale' } as const;
      alerts.raise({ id, rule, agentType, type, channel, sensor, severity, value, threshold, unit, ...words });
    }
    alerts.raise({
      id: offlineId(name),
      rule: name,
      agentType: typeOf(name),
      type: 'antibody',
      channel: `${channelsOf(name)}heartbeat`,
      sensor: 'antibody',
      severity: 'warning',
      message: `${name} has given no sign of life for ${timeoutSeconds} s: what it watches is not watched`,
      value: null,
      threshold: timeoutSeconds,
      unit: 'seconds',
    });
  }

  #alertsOf(name: string): Alert[] {
    const mine = channelsOf(name);
    // A rule may have the same name.
    return this.#options.alerts.raised.filter(
      (alert) => alert.channel.startsWith(mine) && alert.id !== offlineId(name),
    );
  }

  // ---- What they are told --------------------------------------------------------------------------------------------

  /** Returns the id that its next heartbeat answers with. SKOS_ANTIBODY_UNKNOWN when there is no such antibody. */
  tell(
    { name, command, parameters }: { name: string; command: string; parameters: Readonly<Record<string, unknown>> },
    who: string,
  ): string {
    if (!this.#guests.has(name)) throw new SkosError('SKOS_ANTIBODY_UNKNOWN', unknownAntibody(name, this.names));
    const { node, clock, outlet, record } = this.#options;
    const atMs = clock.wallMs();
    const actionId = this.#commandId(`${node}:${name}:${command}`, atMs);
    record.add({
      kind: 'antibody.told',
      who,
      what: { name, command, action: actionId },
      level: 'info',
      message: `${name} was told "${command}" by ${who}`,
      fields: { event: 'antibody.told', action: actionId },
    });
    outlet.broadcast('antibody.command', { agentType: typeOf(name), actionId, command, parameters, atMs });
    return actionId;
  }

  /** As of actions: unix seconds, and a count where one second holds several. */
  #commandId(about: string, atMs: number): string {
    const second = Math.floor(atMs / 1000);
    this.#nextCommand.count = this.#nextCommand.second === second ? this.#nextCommand.count + 1 : 1;
    this.#nextCommand.second = second;
    const { count } = this.#nextCommand;
    return `${about}:${second}${count === 1 ? '' : `:${count}`}`;
  }
}

/** No sensor's channel begins so. */
function channelsOf(name: string): string {
  return `antibody/${name}/`;
}

/** −1 for none. */
function rungOf(severity: Severity | null): number {
  return severity === null ? -1 : SEVERITIES.indexOf(severity);
}

/** "~" is in no rule's name, so that no alert of a rule has such an id. */
function alertIdOf(name: string, id: string): string {
  const whole = `guest~${name}~${id}`;
  if (whole.length <= MAX_ID_LENGTH) return whole;
  return `guest~${createHash('sha256').update(whole).digest('hex').slice(0, ID_DIGEST_LENGTH)}`;
}

/** An antibody's own ids never begin with "~~". */
function offlineId(name: string): string {
  return alertIdOf(name, '~~offline');
}

function unknownAntibody(name: string, known: readonly string[]): string {
  const close = suggest(name, known);
  const hint = close === undefined ? '`skos antibody list` shows those there are' : `did you mean "${close}"?`;
  return `no external antibody "${name}" has registered; ${hint}`;
}
