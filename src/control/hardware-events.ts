/**
 * Hardware events, from the kernel's log and from NVML, to alerts: occurrences (policy), what they mean (the hardware watcher),
 * what stands and when it ends.
 *
 * An alert stands for each device and kind of event. It ends, by its severity:
 * - warning: after 10 minutes without a repeat;
 * - critical, of a GPU: when the GPU is served again after it was away and its driver, asked since, says that no recovery is
 *   needed (field 230). That it answers is no such word: `detach` and `attach` alone reset nothing. It only ends what says
 *   that the GPU does not answer, and only after the driver itself had lost it. Else after 24 hours without a repeat,
 *   provided that the GPU is served and its driver asks for nothing: silence says nothing of a GPU that does not answer;
 * - critical, of anything else: after 24 hours without a repeat, because nothing tells that a disk was mended;
 * - at once: when another event cancels it (XID 163 by 162), that of XID 154 when the driver's verdict becomes "none", in a
 *   new boot, or by `skos release RULE`.
 * One that comes back within a minute of its end flaps: from then on it ends only after a minute without a repeat.
 * No action follows from any of them.
 */
import { type Assessment, assess } from '../antibodies/hardware-watcher.js';
import { type Every, ownTimer } from '../core/beat.js';
import { type Reading, segment } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import { reason } from '../core/errors.js';
import type { GpuState, HardwareEvent, Log, Store } from '../core/ports.js';
import { QUANTITIES } from '../core/units.js';
import type { AntibodyType, Severity } from '../core/vocabulary.js';
import {
  cancelledBy,
  countOf,
  leaderOf,
  NO_OCCURRENCES,
  type Occurrence,
  type OccurrenceState,
  OWN_WINDOW_MS,
  type OwnAct,
  observe,
  withoutVerdict,
} from '../policy/occurrence.js';
import { type AlertBook, LEVELS } from './alert-book.js';
import type { CurrentConfig } from './current-config.js';
import { PerMinute } from './per-minute.js';
import type { Record } from './record.js';
import { alertIdOf } from './rulebook.js';
import { STORE_RULE } from './store-watch.js';

const TEND_EVERY_MS = 10_000;
export const WARNING_ENDS_MS = 10 * 60_000;
export const CRITICAL_ENDS_MS = 24 * 60 * 60_000;
/** What can be broken at once on one node and still be read by a person; beyond it the oldest warning makes room. */
export const MAX_STANDING = 128;
/**
 * Different events that are told in a minute: each is several records. More is no news any more but a flood, of which the critical
 * ones are told for twice as long.
 */
export const MAX_NEW_PER_MINUTE = 128;
/** What ends and comes back sooner is one trouble: each end and each beginning is a record, a message and a line. */
export const FLAP_MS = 60_000;
/** Detaching and setting all GPUs of a node, several times within the window. */
const MAX_OWN_ACTS = 64;
const STATE_KEY = 'hardware-events';
const SOURCE = 'kernel';
const OWN_TYPE: AntibodyType = 'hardware_watcher';

const CHANNEL = /^kernel\/([^/]+)\/([^/]+)$/;
/** Rules whose critical alerts wait for the GPU. */
const GPU_RULES: ReadonlySet<string> = new Set(['gpu-xid', 'gpu-driver']);
/** What says no more than that the GPU does not answer: over when it does. */
const UNANSWERED: ReadonlySet<string> = new Set(['gpu_lost', 'xid-79', 'driver_failed']);
/** States in which the driver itself has no access to the GPU; in the others we or a call that hangs keep us from it. */
const WITHOUT_ANSWER: ReadonlySet<GpuState> = new Set<GpuState>(['lost', 'failed', 'gone']);
/** NVML_GPU_RECOVERY_ACTION_NONE, nvml.h. */
const RECOVERY_NONE = 0;

export interface HardwareEventsOptions {
  readonly config: CurrentConfig;
  readonly alerts: AlertBook;
  readonly record: Record;
  readonly store: Pick<Store, 'state' | 'putState'>;
  readonly bootId: string;
  /** What the driver of the GPU at this address asks for (NVML field 230); undefined: it does not tell. */
  readonly recoveryAction: (address: string) => Reading | undefined;
  readonly clock: Clock;
  readonly every?: Every;
  readonly log: Log;
}

interface Standing {
  readonly id: string;
  readonly name: string;
  readonly subject: string;
  /** PCI address of the GPU that it waits for; '' when it waits for none. */
  readonly gpu: string;
  readonly severity: Severity;
  readonly lastMs: number;
  /** Of earlier occurrences of it, and with the latest one: what the alert shows. */
  readonly countBefore: number;
  readonly count: number;
  /** It had ended less than FLAP_MS before it came back. */
  readonly flaps: boolean;
  /** Of one that flaps: why it ends when it stays silent for so long; '' while nothing says that it is over. */
  readonly over: string;
}

export class HardwareEvents {
  readonly name = 'hardware-events';
  readonly #options: HardwareEventsOptions;
  #state: OccurrenceState = NO_OCCURRENCES;
  #ownActs: OwnAct[] = [];
  /** By alert. */
  readonly #standing = new Map<string, Standing>();
  readonly #gpuStates = new Map<string, GpuState>();
  /** When alerts ended, of the last FLAP_MS. */
  readonly #endedMs = new Map<string, number>();
  /** GPUs that are not served, or were not since an alert: whether their driver had lost them. */
  readonly #wereAway = new Map<string, boolean>();
  /** GPUs that are served again, and since when: their drivers have not said yet that no recovery is needed. */
  readonly #returnedMs = new Map<string, number>();
  /** New occurrences. */
  readonly #perMinute = new PerMinute((untold) => {
    const message = `${untold} different hardware events within a minute were too many to tell one by one`;
    this.#options.log.warn(message, { event: 'hardware.missed' });
  });
  #unbeat: () => void = () => undefined;

  constructor(options: HardwareEventsOptions) {
    this.#options = options;
  }

  /** After the book has adopted what an earlier agent left standing. */
  async start(): Promise<void> {
    const isSameBoot = await this.#isSameBoot();
    for (const alert of this.#options.alerts.raised) {
      // Raised by us already, or not ours.
      if (this.#standing.has(alert.id) || alert.rule === STORE_RULE || alert.agentType !== OWN_TYPE) continue;
      const [, subject, name] = CHANNEL.exec(alert.channel) ?? [];
      if (subject === undefined || name === undefined || alert.severity === null || !isSameBoot) {
        this.#options.alerts.end(alert.id, 'the node was started again since');
        continue;
      }
      const silentMs = Math.max(0, this.#options.clock.wallMs() - alert.updatedAtMs);
      this.#standing.set(alert.id, {
        id: alert.id,
        name: unescaped(name),
        subject: unescaped(subject),
        gpu: GPU_RULES.has(alert.rule) && isPciAddress(unescaped(subject)) ? unescaped(subject) : '',
        severity: alert.severity,
        lastMs: this.#options.clock.monotonicMs() - silentMs,
        countBefore: alert.value ?? 1,
        count: alert.value ?? 1,
        flaps: false,
        over: '',
      });
    }
    this.#unbeat = (this.#options.every ?? ownTimer)(TEND_EVERY_MS, () => this.tend());
  }

  stop(): void {
    this.#unbeat();
  }

  /** The listener of the kernel's log and of NVML. Never throws for what an event says. */
  readonly event = (event: HardwareEvent): void => {
    this.#forgetOwnActs();
    const { state, occurrence, isNew } = observe(this.#state, event, this.#ownActs);
    this.#state = state;
    const assessment = this.#assess(occurrence);
    if (isNew && !this.#mayTell(assessment?.severity ?? null)) return;
    if (isNew) this.#tell(occurrence, assessment);
    this.#cancel(occurrence);
    if (assessment !== undefined) this.#apply(occurrence, assessment, isNew ? 'new' : 'repeated');
    // What came before may be explained by this one, and the driver's verdict is about all of them.
    if (occurrence.address !== '') this.#reassess(occurrence);
  };

  /** As skos-gpu tells it; calling again with the same state says nothing. One that is lost is an event of its own. */
  gpuState(address: string, state: GpuState, why = ''): void {
    const former = this.#gpuStates.get(address);
    if (former === state) return;
    this.#gpuStates.set(address, state);
    if (state === 'lost') this.event(lost(address, why, this.#options.clock.monotonicMs()));
    if (state === 'serving') this.#served(address);
    // One that is being opened for the first time was not away.
    else if (state !== 'opening') this.#left(address, WITHOUT_ANSWER.has(state));
  }

  /** Something that we do to a device ourselves: what it says then is marked so. */
  ownAct(kind: OwnAct['kind'], address: string): void {
    this.#forgetOwnActs();
    this.#ownActs.push({ kind, address, atMs: this.#options.clock.monotonicMs() });
    if (this.#ownActs.length > MAX_OWN_ACTS) this.#ownActs.shift();
  }

  /** Ends what has been silent for long enough. */
  tend(nowMs = this.#options.clock.monotonicMs()): void {
    this.#forgetDismissed();
    this.#perMinute.tend(nowMs);
    for (const [id, endedMs] of this.#endedMs) if (nowMs - endedMs >= FLAP_MS) this.#endedMs.delete(id);
    for (const [address, sinceMs] of this.#returnedMs) this.#askDriver(address, sinceMs);
    for (const standing of [...this.#standing.values()]) {
      const silentMs = nowMs - standing.lastMs;
      if (standing.over !== '' && silentMs >= FLAP_MS) this.#end(standing, standing.over);
      else if (standing.severity === 'warning') {
        if (silentMs >= WARNING_ENDS_MS) this.#end(standing, 'no repeat for 10 minutes');
      } else if (silentMs >= CRITICAL_ENDS_MS && this.#mayEndSilently(standing)) {
        this.#end(standing, 'no repeat for 24 hours');
      }
    }
  }

  #mayEndSilently({ gpu }: Standing): boolean {
    if (gpu === '') return true;
    const asked = this.#options.recoveryAction(gpu);
    const asksForSomething = asked?.quality === 'ok' && asked.value !== RECOVERY_NONE;
    return this.#gpuStates.get(gpu) === 'serving' && !asksForSomething;
  }

  #left(address: string, isLost: boolean): void {
    this.#returnedMs.delete(address);
    this.#wereAway.set(address, isLost || this.#wereAway.get(address) === true);
  }

  #served(address: string): void {
    const wasLost = this.#wereAway.get(address);
    if (wasLost === undefined) return;
    this.#wereAway.delete(address);
    this.#returnedMs.set(address, this.#options.clock.monotonicMs());
    if (wasLost) this.#endCritical(address, 'the GPU is served again', ({ name }) => UNANSWERED.has(name));
    if (![...this.#standing.values()].some(({ gpu, severity }) => gpu === address && severity !== 'warning')) return;
    this.#options.log.info(
      `GPU ${address} is served again; its critical alerts stand until its driver says that no recovery is needed, ` +
        'or skos release gpu-xid (gpu-driver)',
      { channel: address },
    );
  }

  /** Only what it says since the GPU came back counts. A reset that is still due keeps it waiting. */
  #askDriver(address: string, sinceMs: number): void {
    const asked = this.#options.recoveryAction(address);
    if (asked?.quality !== 'ok' || asked.atMs < sinceMs || asked.value !== RECOVERY_NONE) return;
    this.#returnedMs.delete(address);
    this.#state = withoutVerdict(this.#state, address);
    const why = 'the GPU is served again, and its driver says that no recovery is needed';
    this.#endCritical(address, why, ({ lastMs }) => lastMs <= sinceMs);
  }

  #endCritical(address: string, why: string, which: (standing: Standing) => boolean): void {
    for (const standing of [...this.#standing.values()]) {
      if (standing.gpu === address && standing.severity !== 'warning' && which(standing)) this.#end(standing, why);
    }
  }

  // ---- One occurrence --------------------------------------------------------------------------------------------------

  #mayTell(severity: Severity | null): boolean {
    const most = severity === null || severity === 'warning' ? MAX_NEW_PER_MINUTE : 2 * MAX_NEW_PER_MINUTE;
    return this.#perMinute.mayTell(most, this.#options.clock.monotonicMs());
  }

  #assess(occurrence: Occurrence): Assessment | undefined {
    return assess(occurrence, {
      leader: leaderOf(occurrence, this.#state),
      verdict: this.#state.verdicts.get(occurrence.address),
      xid: this.#options.config.get().xid,
    });
  }

  #apply(occurrence: Occurrence, assessment: Assessment, what: 'new' | 'repeated' | 'reassessed'): void {
    const channel = channelOf(occurrence);
    const id = alertIdOf({ name: assessment.rule, channelId: channel });
    this.#forgetDismissed();
    const former = this.#standing.get(id);
    if (assessment.severity === null) {
      if (former !== undefined) this.#end(former, assessment.message);
      return;
    }
    if (former === undefined) this.#makeRoom();
    const countBefore = (what === 'new' ? former?.count : former?.countBefore) ?? 0;
    const count = countBefore + countOf(occurrence);
    this.#standing.set(id, {
      id,
      name: occurrence.name,
      subject: occurrence.subject,
      gpu: GPU_RULES.has(assessment.rule) && occurrence.kind !== 'sxid' ? occurrence.address : '',
      severity: assessment.severity,
      lastMs: occurrence.lastAtMs,
      countBefore,
      count,
      flaps: former?.flaps ?? this.#endedMs.has(id),
      over: what === 'reassessed' ? (former?.over ?? '') : '',
    });
    this.#options.alerts.raise({
      id,
      rule: assessment.rule,
      type: assessment.type,
      channel,
      sensor: assessment.sensor,
      severity: assessment.severity,
      message: assessment.message,
      value: count,
      threshold: null,
      unit: QUANTITIES.countTotal.unit,
    });
  }

  /** The others of its device that are recent: what stands of them may mean something else now. */
  #reassess(cause: Occurrence): void {
    for (const other of this.#state.occurrences.values()) {
      if (other.key === cause.key || other.address !== cause.address) continue;
      const assessment = this.#assess(other);
      if (assessment === undefined) continue;
      const id = alertIdOf({ name: assessment.rule, channelId: channelOf(other) });
      const standing = this.#standing.get(id);
      if (standing !== undefined) this.#apply(other, assessment, 'reassessed');
    }
  }

  #cancel(occurrence: Occurrence): void {
    for (const name of cancelledBy(occurrence)) {
      for (const standing of [...this.#standing.values()]) {
        if (standing.name === name && standing.subject === occurrence.subject) {
          this.#end(standing, `cancelled by ${occurrence.name}`);
        }
      }
    }
  }

  #tell(occurrence: Occurrence, assessment: Assessment | undefined): void {
    const { kind, name, subject, address, code, detail, text, afterOwn } = occurrence;
    const channel = channelOf(occurrence);
    const severity = assessment?.severity ?? null;
    const leader = leaderOf(occurrence, this.#state) ?? null;
    const origin = occurrence.told.kmsg > 0 ? 'kmsg' : 'nvml';
    this.#options.record.add({
      kind: 'hardware.event',
      who: 'agent',
      what: {
        kind,
        name,
        subject,
        address,
        code,
        severity,
        origin,
        count: countOf(occurrence),
        detail,
        text,
        leader,
        afterOwn,
      },
      level: severity === null ? 'info' : LEVELS[severity],
      message: assessment?.message ?? `${subject}: ${text === '' ? name : text}`,
      fields: {
        event: 'hardware.event',
        channel,
        ...(assessment === undefined ? {} : { rule: assessment.rule }),
        text,
      },
    });
  }

  // ---- What stands -----------------------------------------------------------------------------------------------------

  #end(standing: Standing, why: string): void {
    const { id, flaps, lastMs } = standing;
    const nowMs = this.#options.clock.monotonicMs();
    if (flaps && nowMs - lastMs < FLAP_MS) this.#standing.set(id, { ...standing, over: why });
    else this.#endNow(id, why);
  }

  #endNow(id: string, why: string): void {
    this.#standing.delete(id);
    this.#endedMs.set(id, this.#options.clock.monotonicMs());
    this.#options.alerts.end(id, why);
  }

  /** Of what an operator has dismissed nothing is left to end. */
  #forgetDismissed(): void {
    const raised = new Set(this.#options.alerts.raised.map(({ id }) => id));
    for (const id of this.#standing.keys()) if (!raised.has(id)) this.#standing.delete(id);
  }

  #makeRoom(): void {
    if (this.#standing.size < MAX_STANDING) return;
    const all = [...this.#standing.values()].sort((a, b) => a.lastMs - b.lastMs);
    const oldest = all.find(({ severity }) => severity === 'warning') ?? all[0];
    if (oldest !== undefined)
      this.#endNow(oldest.id, `more than ${MAX_STANDING} hardware alerts stand: the oldest makes room`);
  }

  #forgetOwnActs(): void {
    const sinceMs = this.#options.clock.monotonicMs() - OWN_WINDOW_MS;
    // An event may be told a while after it happened.
    this.#ownActs = this.#ownActs.filter(({ atMs }) => atMs >= sinceMs - OWN_WINDOW_MS);
  }

  /** Without a store nothing was adopted either. */
  async #isSameBoot(): Promise<boolean> {
    const { store, bootId, log } = this.#options;
    try {
      const known = await store.state(STATE_KEY);
      store.putState(STATE_KEY, bootId);
      return known === bootId;
    } catch (error) {
      log.warn(`whether the node was started again is not known: ${reason(error)}`, { error });
      return true; // Rather an alert that stands too long.
    }
  }
}

function lost(address: string, why: string, atMs: number): HardwareEvent {
  return { kind: 'gpu_lost', origin: 'nvml', address, code: null, detail: {}, text: why, atMs, count: 1 };
}

function channelOf({ subject, name }: Pick<Occurrence, 'subject' | 'name'>): string {
  return `${SOURCE}/${segment(subject)}/${segment(name)}`;
}

function unescaped(text: string): string {
  return Buffer.from(
    text.replaceAll(/~([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  ).toString('utf8');
}

function isPciAddress(text: string): boolean {
  return /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/.test(text);
}
