/**
 * What a node says over MQTT, as the demonstrations use it: the last value of each sensor, the alerts, what became of each
 * action; and how a person is told of them.
 */
import type { Message } from './demo-node.js';
import { say } from './stage.js';

interface SensorPayload {
  readonly id: string;
  readonly value: number | null;
}

interface AlertPayload {
  readonly severity: string | null;
  readonly state: string;
  readonly message: string;
  readonly details: { readonly rule: string };
}

interface EffectPayload {
  readonly target: string;
  readonly former?: string;
  readonly written?: string;
  readonly read_back?: string;
  readonly read_after?: string;
}

export interface ResultPayload {
  readonly action_id: string;
  readonly action_type: string;
  readonly outcome: string;
  readonly reason: string;
  readonly effects: readonly EffectPayload[];
}

export class Watcher {
  readonly alerts: AlertPayload[] = [];
  readonly results: ResultPayload[] = [];
  readonly #values = new Map<string, number>();
  readonly #rule: string;
  readonly #onSensor: (id: string, value: number) => void;

  /** Alerts of one rule only; others may have reasons of their own on a real machine. */
  constructor({ rule, onSensor }: { rule: string; onSensor: (id: string, value: number) => void }) {
    this.#rule = rule;
    this.#onSensor = onSensor;
  }

  take({ topic, json }: Message): void {
    if (json === undefined) return;
    const kind = topic.split('/')[1];
    if (kind === 'sensor') this.#sensor(json as SensorPayload);
    if (kind === 'alert') this.#alert(json as AlertPayload);
    if (kind === 'result') this.#result(json as ResultPayload);
  }

  value(id: string): number | undefined {
    return this.#values.get(id);
  }

  /** The newest result of an action with this outcome. */
  result(action: string, outcome: string): ResultPayload | undefined {
    return this.results.findLast((each) => each.action_type === action && each.outcome === outcome);
  }

  get cleared(): boolean {
    return this.alerts.at(-1)?.state === 'ok';
  }

  #sensor({ id, value }: SensorPayload): void {
    if (value === null) return;
    this.#values.set(id, value);
    this.#onSensor(id, value);
  }

  #alert(alert: AlertPayload): void {
    if (alert.details.rule !== this.#rule) return;
    const isSmall = this.alerts.at(-1)?.severity === alert.severity;
    this.alerts.push(alert);
    // Changes within a severity are held back for up to 5 s; told among newer values they would confuse.
    if (isSmall) return;
    say(`     ${alert.state === 'firing' ? '!' : '-'} ${alert.severity ?? 'clear'}: ${alert.message}`);
  }

  #result(result: ResultPayload): void {
    const isKnown = this.results.some((each) => each.action_id === result.action_id && each.outcome === result.outcome);
    this.results.push(result);
    if (result.outcome === 'pending' || isKnown) return;
    say(`     > ${result.action_type} ${result.outcome}: ${effectText(result)}`);
  }
}

function effectText({ effects, outcome, reason }: ResultPayload): string {
  const [first] = effects;
  if (first === undefined) return reason;
  const others = effects.length === 1 ? '' : ` and ${effects.length - 1} more`;
  const { target, former = '–', written = '–', read_back: readBack = '–', read_after: readAfter = '–' } = first;
  const values = outcome === 'released' ? `now ${readAfter}` : `${former} → ${written}, read back ${readBack}`;
  return `${target}${others} ${values}; ${reason}`;
}
