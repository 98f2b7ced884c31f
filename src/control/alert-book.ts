/**
 * Alerts that stand; each change is stored, announced and written to the journal. Most are made of a ladder's transitions.
 * Some are raised by an event that no ladder can take back: they stand until who raised them, or an operator, ends them.
 */
import type { Finding } from '../antibodies/antibody.js';
import type { Quality } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { Alert, Store } from '../core/ports.js';
import { QUANTITIES, type Quantity, toBase } from '../core/units.js';
import { type AntibodyType, type LogLevel, SEVERITIES, type Severity } from '../core/vocabulary.js';
import { NO_RUNG, type TransitionKind } from '../policy/ladder.js';
import type { Rule } from '../policy/rule.js';
import type { Outlet } from './outlet.js';
import type { Record } from './record.js';
import type { BoundRule, Rulebook } from './rulebook.js';
import type { Silences } from './silences.js';

const EVENTS: Readonly<globalThis.Record<TransitionKind, string>> = {
  fire: 'alert.fire',
  escalate: 'alert.escalate',
  step_down: 'alert.recover',
  clear: 'alert.clear',
  recovering: 'alert.recover',
  relapse: 'alert.recover',
  verdict: 'alert.no_data',
  flapping: 'alert.fire',
};

/** Drivers that load late are there by then; a sensor that is not has been taken out. */
const ABSENT_SENSOR_MS = 10 * 60_000;
/** Changes within a severity are told at most so often; a change of severity is told at once. */
const SMALL_CHANGE_EVERY_MS = 5_000;
/**
 * Of an event that repeats, its count changes each time, for weeks where a PCIe link corrects errors: told half as often after
 * each time, down to this. Each is a record that is kept.
 */
const SELDOM_EVERY_MS = 5 * 60_000;

/** How loud the journal is told of an alert. */
export const LEVELS: Readonly<globalThis.Record<Severity, LogLevel>> = {
  warning: 'warn',
  critical: 'error',
  emergency: 'fatal',
};

/** Whose alerts come of ladders. All others are raised: by the hardware watcher, the loop breaker, external antibodies. */
const LADDERED: ReadonlySet<string> = new Set<AntibodyType>([
  'thermal_sentinel',
  'storage_watcher',
  'mesh_healer',
  'operator_rules',
]);
const RAISED_BY: AntibodyType = 'hardware_watcher';

function isRaised({ agentType }: Pick<Alert, 'agentType'>): boolean {
  return !LADDERED.has(agentType);
}

/** An alert that is raised by an event; the rest is the book's. */
export type RaisedAlert = Omit<Alert, 'agentType' | 'state' | 'severity' | 'verdict' | 'sinceAtMs' | 'updatedAtMs'> & {
  readonly severity: Severity;
  /** Absent: the hardware watcher. */
  readonly agentType?: string;
  /** Absent: ok. Anything else: who raised it does not watch it now. */
  readonly verdict?: Quality;
};

export interface AlertBookOptions {
  readonly rulebook: Rulebook;
  readonly store: Store;
  readonly outlet: Outlet;
  readonly record: Record;
  readonly clock: Clock;
  /** Called with every change that is told, from the tick. */
  readonly onChange: (alert: Alert) => void;
  readonly silences: Pick<Silences, 'of' | 'revision'>;
}

export class AlertBook {
  readonly #options: AlertBookOptions;
  readonly #standing = new Map<string, Alert>();
  /** Alerts whose latest small change was not told yet; when each was told last, and how long the next such one waits. */
  readonly #untold = new Map<string, { alert: Alert; event: string; level: LogLevel }>();
  readonly #told = new Map<string, { atMs: number; waitMs: number }>();
  readonly #adopted = new Map<string, { untilMs: number; isAbsent: boolean }>();
  /** Of the silences, when the alerts that stand were compared with them. */
  #revision = 0;
  /** Of which severity of a standing alert somebody was notified; then its end is told, too. */
  readonly #notified = new Map<string, Severity>();

  constructor(options: AlertBookOptions) {
    this.#options = options;
  }

  get standing(): readonly Alert[] {
    return [...this.#standing.values()];
  }

  /**
   * Takes over the alerts that an earlier agent left standing. They say nothing new until their rule speaks again: a rule
   * that finds no danger within its `keep` closes them. They move no ladder, so that nothing is done again because of them.
   */
  adopt(alerts: readonly Alert[]): void {
    const now = this.#options.clock.monotonicMs();
    for (const alert of alerts) {
      if (alert.silenced !== true && alert.severity !== null) this.#notified.set(alert.id, alert.severity);
      if (isRaised(alert)) {
        // What has happened since this agent began is newer.
        if (!this.#standing.has(alert.id)) this.#standing.set(alert.id, alert);
        continue;
      }
      const bound = this.#options.rulebook.byAlert(alert.id);
      // Its sensor may come later: an alert is not over because nobody can look.
      this.#standing.set(alert.id, bound === undefined ? { ...alert, verdict: 'no_data' } : alert);
      const waitMs = bound === undefined ? ABSENT_SENSOR_MS : bound.rule.keepMs + bound.rule.gapMs;
      this.#adopted.set(alert.id, { untilMs: now + waitMs, isAbsent: bound === undefined });
    }
  }

  /** Each tick: tells what was held back, and closes what has no rule or, after a restart, no danger any more. */
  tend(nowMs: number): void {
    this.#followSilences();
    for (const [id, { alert, event, level }] of this.#untold) {
      const { atMs, waitMs } = this.#told.get(id) ?? { atMs: 0, waitMs: SMALL_CHANGE_EVERY_MS };
      if (nowMs - atMs < waitMs) continue;
      this.#publish(alert, event, level);
      if (!isRaised(alert)) continue;
      this.#told.set(id, { atMs: nowMs, waitMs: Math.min(2 * waitMs, SELDOM_EVERY_MS) });
    }
    for (const alert of this.#standing.values()) this.#review(alert, nowMs);
  }

  /**
   * Silences came or ended. An alert that is silenced now is only marked; one that stands and is not silenced any more is told,
   * unless somebody was notified of it as it is.
   */
  #followSilences(): void {
    const { revision } = this.#options.silences;
    if (revision === this.#revision) return;
    this.#revision = revision;
    for (const alert of this.standing) {
      const marked = this.#marked(alert);
      if (marked.silenced === alert.silenced) continue;
      const isNews = marked.silenced !== true && this.#notified.get(alert.id) !== alert.severity;
      this.#standing.set(alert.id, marked);
      this.#options.store.putAlert(marked);
      if (isNews) this.#tellUnsilenced(marked);
      this.#options.outlet.broadcast('active', marked);
    }
  }

  #tellUnsilenced(alert: Alert): void {
    const { id, rule, channel, state, severity, message } = alert;
    if (severity !== null) this.#notified.set(id, severity);
    this.#options.outlet.broadcast('alert', alert);
    this.#options.record.add({
      kind: 'alert.unsilenced',
      who: 'agent',
      what: { alert: id, rule, channel, state, severity },
      level: LEVELS[severity ?? 'warning'],
      message: `${message} (it stands still, and is silenced no longer)`,
      fields: { event: 'alert.unsilenced', alert: id, rule, channel, severity, state },
    });
  }

  #marked({ silenced: _, ...alert }: Alert): Alert {
    return this.#options.silences.of(alert) === undefined ? alert : { ...alert, silenced: true };
  }

  /** Stands from now on, or stands on with these words. */
  raise(raised: RaisedAlert): void {
    const former = this.#standing.get(raised.id);
    const now = this.#options.clock.wallMs();
    const sinceAtMs = former?.sinceAtMs ?? now;
    const alert: Alert = {
      agentType: RAISED_BY,
      verdict: 'ok',
      ...raised,
      state: 'firing',
      sinceAtMs,
      updatedAtMs: now,
    };
    const level = LEVELS[raised.severity];
    const rung = rungOf(raised.severity) - rungOf(former?.severity ?? null);
    const isSame =
      former?.message === alert.message && former.value === alert.value && former.verdict === alert.verdict;
    if (rung === 0 && isSame) return;
    if (former === undefined || rung > 0) {
      this.#publish(alert, former === undefined ? 'alert.fire' : 'alert.escalate', level);
    } else if (rung < 0) {
      this.#publish(alert, 'alert.recover', 'info');
    } else {
      this.#standing.set(alert.id, this.#marked(alert));
      this.#untold.set(alert.id, { alert, event: 'alert.fire', level });
    }
  }

  /** Ends a raised alert; `why` becomes its message. */
  end(id: string, why: string): void {
    const alert = this.#standing.get(id);
    if (alert !== undefined && isRaised(alert)) this.#close(alert, why);
  }

  /** An operator takes back what a rule raised. Returns how many alerts that ended. */
  dismiss(rule: string, who: string): number {
    const found = this.standing.filter((alert) => isRaised(alert) && alert.rule === rule);
    for (const alert of found) this.#close(alert, `dismissed by ${who}`);
    return found.length;
  }

  get raised(): readonly Alert[] {
    return this.standing.filter(isRaised);
  }

  #review(alert: Alert, nowMs: number): void {
    if (isRaised(alert)) return;
    const bound = this.#options.rulebook.byAlert(alert.id);
    const adopted = this.#adopted.get(alert.id);
    if (bound === undefined) {
      if (adopted === undefined || nowMs >= adopted.untilMs) this.#close(alert, 'its rule or its sensor is no more');
    } else if (adopted !== undefined) {
      const { rung, verdict, phase } = bound.ladder;
      // Its sensor has come: from here on it is waited for as for any other.
      if (adopted.isAbsent) {
        const { keepMs, gapMs } = bound.rule;
        adopted.isAbsent = false;
        adopted.untilMs = Math.min(adopted.untilMs, nowMs + keepMs + gapMs);
      }
      if (rung !== NO_RUNG) this.#adopted.delete(alert.id);
      else if (nowMs >= adopted.untilMs && verdict === 'ok' && phase === 'ok')
        this.#close(alert, 'no danger since the agent was started again');
    }
  }

  #close(alert: Alert, why: string): void {
    const over: Alert = {
      ...alert,
      state: 'ok',
      severity: null,
      message: why,
      updatedAtMs: this.#options.clock.wallMs(),
    };
    this.#publish(over, 'alert.clear', 'info');
  }

  apply(bound: BoundRule, finding: Finding): void {
    const { transition } = finding;
    const former = this.#standing.get(bound.alertId);
    // A sensor without a standing alert that comes or goes is the sensing part's news, not an alert.
    if (transition.kind === 'verdict' && transition.after === null) return;
    const alert = this.#alert(bound, finding, former);
    const { kind, before, after } = transition;
    const calm = kind === 'recovering' || kind === 'step_down' || kind === 'clear';
    const level = calm ? 'info' : alert.attention === true ? 'fatal' : LEVELS[after ?? before ?? 'warning'];
    if (before !== after || kind === 'flapping') {
      // What the memory began with is an input of the decision: it is kept with it.
      const { firstRung } = transition;
      this.#publish(alert, EVENTS[kind], level, firstRung === undefined ? {} : { firstRung });
      return;
    }
    // A value that jitters around a bound, or a sensor that flickers, changes this many times a second.
    this.#standing.set(alert.id, this.#marked(alert));
    this.#untold.set(alert.id, { alert, event: EVENTS[kind], level });
  }

  #alert(bound: BoundRule, finding: Finding, former: Alert | undefined): Alert {
    const { rule, channel, antibody, alertId } = bound;
    const { transition } = finding;
    const now = this.#options.clock.wallMs();
    return {
      id: alertId,
      rule: rule.name,
      agentType: rule.agentType,
      type: rule.type,
      state: transition.phase,
      severity: transition.after,
      verdict: transition.verdict,
      channel: channel.id,
      sensor: rule.sensor,
      message: `${antibody.describe(finding)}${raisedText(bound, finding)}`,
      ...shownValue(rule.quantity, transition),
      ...(needsPerson(rule, transition.after) ? { attention: true } : {}),
      sinceAtMs: former?.sinceAtMs ?? now,
      updatedAtMs: now,
    };
  }

  /** `more`: of the decision, for the audit entry. */
  #publish(unmarked: Alert, event: string, level: LogLevel, more: { readonly firstRung?: number } = {}): void {
    const alert = this.#marked(unmarked);
    this.#untold.delete(alert.id);
    this.#told.set(alert.id, { atMs: this.#options.clock.monotonicMs(), waitMs: SMALL_CHANGE_EVERY_MS });
    if (alert.severity === null) {
      this.#standing.delete(alert.id);
      this.#adopted.delete(alert.id);
      this.#told.delete(alert.id);
    } else {
      this.#standing.set(alert.id, alert);
    }
    this.#options.store.putAlert(alert);
    this.#options.onChange(alert);
    if (this.#isNotified(alert)) this.#options.outlet.broadcast('alert', alert);
    this.#options.outlet.broadcast('active', alert);
    const { id, rule, channel, state, severity, verdict, value, threshold, attention, silenced } = alert;
    const silence = silenced === true ? { silenced: true } : {};
    this.#options.record.add({
      kind: event,
      who: 'agent',
      what: { alert: id, rule, channel, state, severity, verdict, value, threshold, ...more, ...silence },
      level: silenced === true ? 'info' : level,
      message: silenced === true ? `${alert.message} (silenced)` : alert.message,
      fields: { event, alert: id, rule, channel, severity, state, ...(attention === true ? { attention } : {}) },
    });
  }

  /** Nobody is told of what is silenced, except of the end of what they were told of before. */
  #isNotified({ id, severity, silenced }: Alert): boolean {
    const wasNotified = severity === null && this.#notified.delete(id);
    if (silenced === true) return wasNotified;
    if (severity !== null) this.#notified.set(id, severity);
    return true;
  }
}

/** Why an alert begins higher than its value asks for. */
function raisedText({ rule }: BoundRule, { transition }: Finding): string {
  const { firstRung, after } = transition;
  if (firstRung === undefined) return '';
  const below = rule.rungs.slice(0, firstRung).map(({ severity }) => severity);
  return `; begun as ${after}, because what is done at ${below.join(' and ')} has not helped here before`;
}

/** Rungs are cumulative. */
function needsPerson({ rungs }: Rule, severity: Severity | null): boolean {
  return rungs.some((rung) => rungOf(rung.severity) <= rungOf(severity) && rung.actions.includes('alert_human'));
}

/** −1 for none. */
function rungOf(severity: Severity | null): number {
  return severity === null ? -1 : SEVERITIES.indexOf(severity);
}

/** Base units; a ratio as percent, which is how its bounds are written. */
function shownValue(
  quantity: Quantity,
  { value, threshold }: { value: number | null; threshold: number | null },
): Pick<Alert, 'value' | 'threshold' | 'unit'> {
  const isRatio = quantity === 'ratioPartsPerMillion';
  const shown = (canonical: number | null) =>
    canonical === null ? null : toBase(quantity, canonical) * (isRatio ? 100 : 1);
  return { value: shown(value), threshold: shown(threshold), unit: isRatio ? 'percent' : QUANTITIES[quantity].unit };
}
