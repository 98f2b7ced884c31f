/** Says what became of an action, in all places: the store, the subscribers, the audit chain and the journal. */
import { type ErrorCode, reason } from '../core/errors.js';
import type { ActionRecord, Log, Store } from '../core/ports.js';
import type { ActionState, LogLevel, Severity } from '../core/vocabulary.js';
import type { Outlet } from './outlet.js';
import type { Record } from './record.js';

/** Targets that a sentence names; a node has a policy per CPU, and the record has them all. */
const NAMED_TARGETS = 4;

/** States that say themselves that it is over. */
const ENDS: readonly ActionState[] = ['released', 'helped', 'unhelpful', 'done', 'abandoned'];

export interface ActionTellerOptions {
  readonly store: Store;
  readonly record: Record;
  readonly outlet: Outlet;
  readonly log: Log;
}

export class ActionTeller {
  readonly #options: ActionTellerOptions;

  constructor(options: ActionTellerOptions) {
    this.#options = options;
  }

  /** Never throws: who cannot keep or carry it must not keep us from acting. */
  tell(told: ActionRecord, { ended }: { ended: boolean }): void {
    const { store, record, outlet, log } = this.#options;
    try {
      store.putAction(told);
      outlet.broadcast('result', told);
    } catch (error) {
      log.error(`${told.actionId} is not recorded: ${reason(error)}`, { error });
    }
    const { actionId, action, alert, rule, channel, severity, state, reason: why, effects, jobs } = told;
    record.add({
      kind: ended ? 'action.end' : `action.${state}`,
      who: 'agent',
      what: {
        action: actionId,
        rule,
        channel,
        severity,
        state,
        reason: why,
        effects,
        ...(jobs === undefined ? {} : { jobs }),
      },
      level: levelOf(state, severity),
      message: sentence(told, ended),
      fields: {
        ...codeOf(told),
        event: `action.${state}`,
        action: actionId,
        alert,
        rule,
        channel,
        outcome: state,
        verb: action,
      },
    });
  }
}

function codeOf({ state, jobs }: ActionRecord): { code?: ErrorCode } {
  if (state === 'failed') return { code: jobs === undefined ? 'SKOS_ACTUATOR_FAILED' : 'SKOS_REPAIR_FAILED' };
  return state === 'unhelpful' ? { code: 'SKOS_REPAIR_UNHELPFUL' } : {};
}

function levelOf(state: ActionState, severity: Severity): LogLevel {
  if (state === 'failed' || state === 'foreign_change') return 'error';
  if (['unavailable', 'undo_pending', 'running', 'unhelpful'].includes(state)) return 'warn';
  return state === 'active' && severity !== 'warning' ? 'warn' : 'info';
}

function sentence({ action, state, reason: why, effects, channel }: ActionRecord, ended: boolean): string {
  const moved = effects
    .filter(({ readBack }) => readBack !== undefined)
    .map(
      ({ target, former, readBack, readAfter }) =>
        `${target} ${[former, readBack, readAfter].filter(Boolean).join(' → ')}`,
    )
    .slice(0, NAMED_TARGETS)
    .join(', ');
  const more = effects.length > NAMED_TARGETS ? ` and ${effects.length - NAMED_TARGETS} more` : '';
  const what = `${action} for ${channel}: ${ended && !ENDS.includes(state) ? `${state}, over` : state}`;
  return [what, why, moved + more].filter((part) => part !== '').join('; ');
}
