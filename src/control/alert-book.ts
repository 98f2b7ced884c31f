/** Alerts that stand, made of the ladder's transitions; each change is stored, announced and written to the journal. */
import type { Finding } from '../antibodies/antibody.js';
import type { Clock } from '../core/clock.js';
import type { Alert, Store } from '../core/ports.js';
import { QUANTITIES, type Quantity, toBase } from '../core/units.js';
import type { LogLevel, Severity } from '../core/vocabulary.js';
import { NO_RUNG, type TransitionKind } from '../policy/ladder.js';
import type { Outlet } from './outlet.js';
import type { Record } from './record.js';
import type { BoundRule, Rulebook } from './rulebook.js';

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

const LEVELS: Readonly<globalThis.Record<Severity, LogLevel>> = { warning: 'warn', critical: 'error', emergency: 'fatal' };

export class AlertBook {
  readonly #standing = new Map<string, Alert>();
  readonly #adopted = new Map<string, { bound: BoundRule; untilMs: number }>();
  readonly #store: Store;
  readonly #outlet: Outlet;
  readonly #record: Record;
  readonly #clock: Clock;

  constructor(options: { store: Store; outlet: Outlet; record: Record; clock: Clock }) {
    this.#store = options.store;
    this.#outlet = options.outlet;
    this.#record = options.record;
    this.#clock = options.clock;
  }

  get standing(): readonly Alert[] {
    return [...this.#standing.values()];
  }

  /**
   * Takes over the alerts that an earlier agent left standing. They say nothing new until their rule speaks again: a rule
   * that finds no danger within its `keep` closes them. They move no ladder, so that nothing is done again because of them.
   */
  adopt(alerts: readonly Alert[], rulebook: Rulebook): void {
    const now = this.#clock.monotonicMs();
    const bound = new Map(rulebook.bound.map((each) => [each.alertId, each]));
    for (const alert of alerts) {
      const of = bound.get(alert.id);
      if (of === undefined) {
        this.#close(alert, 'its rule or its sensor is no more');
        continue;
      }
      this.#standing.set(alert.id, alert);
      this.#adopted.set(alert.id, { bound: of, untilMs: now + of.rule.keepMs + of.rule.gapMs });
    }
  }

  /** Each tick. */
  checkAdopted(nowMs: number): void {
    for (const [id, { bound, untilMs }] of this.#adopted) {
      const alert = this.#standing.get(id);
      if (alert === undefined || bound.ladder.rung !== NO_RUNG) this.#adopted.delete(id);
      else if (nowMs >= untilMs && bound.ladder.verdict === 'ok') {
        this.#adopted.delete(id);
        this.#close(alert, 'no danger since the agent was started again');
      }
    }
  }

  #close(alert: Alert, why: string): void {
    const over: Alert = { ...alert, state: 'ok', severity: null, message: why, updatedAtMs: this.#clock.wallMs() };
    this.#publish(over, 'alert.clear', 'info');
  }

  apply(bound: BoundRule, finding: Finding): void {
    const { transition } = finding;
    const former = this.#standing.get(bound.alertId);
    // A sensor without a standing alert that comes or goes is the sensing part's news, not an alert.
    if (transition.kind === 'verdict' && transition.after === null && former === undefined) return;
    const alert = this.#alert(bound, finding, former);
    const { before, after } = transition;
    const calm = transition.kind === 'recovering' || transition.kind === 'step_down' || transition.kind === 'clear';
    this.#publish(alert, EVENTS[transition.kind], calm ? 'info' : LEVELS[after ?? before ?? 'warning']);
  }

  #alert(bound: BoundRule, finding: Finding, former: Alert | undefined): Alert {
    const { rule, channel, antibody, alertId } = bound;
    const { transition } = finding;
    const now = this.#clock.wallMs();
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
      message: antibody.describe(finding),
      ...shownValue(rule.quantity, transition),
      sinceAtMs: former?.sinceAtMs ?? now,
      updatedAtMs: now,
    };
  }

  #publish(alert: Alert, event: string, level: LogLevel): void {
    if (alert.severity === null) this.#standing.delete(alert.id);
    else this.#standing.set(alert.id, alert);
    this.#store.putAlert(alert);
    this.#outlet.broadcast('alert', alert);
    this.#outlet.broadcast('active', alert);
    const { id, rule, channel, state, severity, verdict, value, threshold } = alert;
    this.#record.add({
      kind: event,
      who: 'agent',
      what: { alert: id, rule, channel, state, severity, verdict, value, threshold },
      level,
      message: alert.message,
      fields: { event, alert: id, rule, channel, severity, state },
    });
  }
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
