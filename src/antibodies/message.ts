/**
 * The sentences of alerts, one per kind of transition. The first form, "CPU temperature 87.5°C exceeds critical
 * threshold", is public: other programs read it.
 */
import type { Transition } from '../policy/ladder.js';

/** How one antibody speaks of a channel. */
export interface Wording {
  /** "CPU temperature". */
  readonly subject: string;
  /** With a value, canonical unit: "CPU temperature 87.5°C", "Disk usage 91.0% of /". */
  measured(value: number): string;
}

export function message(transition: Transition, wording: Wording): string {
  const { kind, before, after, value } = transition;
  const what = value === null ? wording.subject : wording.measured(value);
  switch (kind) {
    case 'fire':
    case 'escalate':
      return `${what} exceeds ${after} threshold`;
    case 'flapping':
      return `${what} keeps crossing the threshold: ${after} alert is held longer`;
    case 'recovering':
      return `${what} is below the clear bound of ${before}`;
    case 'relapse':
      return `${what} is no longer below the clear bound of ${before}`;
    case 'step_down':
      return `${what} stayed below the clear bound of ${before}: down to ${after}`;
    case 'clear':
      return `${what} is back to normal`;
    case 'verdict':
      return verdictMessage(transition, wording);
  }
}

const VERDICTS = {
  no_data: 'gives no data',
  stale: 'is stale: no sample came in time',
  fault: 'cannot be read: the sensor is faulty',
  hung: 'cannot be read: its driver hangs',
} as const;

function verdictMessage({ verdict, after, value }: Transition, { subject, measured }: Wording): string {
  if (verdict === 'ok') return `${value === null ? subject : measured(value)} is read again`;
  return `${subject} ${VERDICTS[verdict]}${after === null ? '' : `; ${after} alert stands`}`;
}
