/**
 * Approving a proposed action in two steps: first what exactly would happen is shown, with a token; then the token is given back.
 * It holds for five minutes and for what was shown alone: when another thing would happen by then, it must be looked at again.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../core/clock.js';
import { SkosError } from '../core/errors.js';
import type { ProposalView } from '../core/protocol.js';
import { riskOf } from '../policy/consent.js';
import type { Executor, Proposal } from './executor.js';
import type { Record } from './record.js';

/** Long enough to read and to ask a colleague, short enough that the node is still as it was shown. */
export const APPROVAL_MS = 5 * 60_000;
/** Proposals that are being looked at; the oldest is forgotten first. */
const MAX_SHOWN = 64;
const TOKEN_BYTES = 8;

interface Shown {
  readonly token: string;
  readonly what: string;
  readonly untilMs: number;
}

export interface ApprovalsOptions {
  readonly executor: Pick<Executor, 'proposal' | 'approve'>;
  readonly record: Pick<Record, 'add'>;
  readonly clock: Clock;
}

export class Approvals {
  readonly #options: ApprovalsOptions;
  readonly #shown = new Map<string, Shown>();

  constructor(options: ApprovalsOptions) {
    this.#options = options;
  }

  /** SKOS_APPROVAL_UNKNOWN when there is no such proposal. */
  show(actionId: string): ProposalView {
    const proposal = this.#proposal(actionId);
    const { record, action, effects, jobs, listing, unavailable } = proposal;
    const token = randomBytes(TOKEN_BYTES).toString('hex');
    this.#shown.delete(actionId);
    const untilMs = this.#options.clock.monotonicMs() + APPROVAL_MS;
    this.#shown.set(actionId, { token, what: whatHappens(proposal), untilMs });
    const [oldest] = this.#shown.keys();
    if (this.#shown.size > MAX_SHOWN && oldest !== undefined) this.#shown.delete(oldest);
    return {
      action: record,
      risk: riskOf(action.verb),
      effects,
      jobs,
      listing:
        listing === undefined
          ? null
          : {
              atMs: listing.endedAtMs,
              summary: listing.summary,
              items: listing.items ?? [],
              total: listing.total ?? listing.items?.length ?? 0,
            },
      unavailable: unavailable ?? null,
      token,
      forSeconds: APPROVAL_MS / 1000,
    };
  }

  /** SKOS_APPROVAL_UNKNOWN, or SKOS_APPROVAL_STALE when it must be looked at again. */
  approve({ actionId, token, who }: { actionId: string; token: string; who: string }): void {
    const proposal = this.#proposal(actionId);
    const { record, effects, jobs, unavailable } = proposal;
    const shown = this.#shown.get(actionId);
    if (shown?.token !== token || shown.untilMs <= this.#options.clock.monotonicMs()) {
      throw new SkosError(
        'SKOS_APPROVAL_STALE',
        `the look at ${actionId} is older than ${APPROVAL_MS / 60_000} minutes`,
      );
    }
    if (shown.what !== whatHappens(proposal)) {
      throw new SkosError('SKOS_APPROVAL_STALE', 'by now something else would happen than what was shown');
    }
    if (unavailable !== undefined) throw new SkosError('SKOS_APPROVAL_UNKNOWN', `nothing can be done: ${unavailable}`);
    if (!this.#options.executor.approve(actionId)) {
      throw new SkosError('SKOS_APPROVAL_UNKNOWN', 'too many actions are approved already');
    }
    this.#shown.delete(actionId);
    this.#options.record.add({
      kind: 'approve.operator',
      who,
      what: { action: actionId, rule: record.rule, channel: record.channel, effects, jobs },
      level: 'warn',
      message: `${record.action} for ${record.channel} was approved by ${who}`,
      fields: { event: 'approve.operator', action: actionId, rule: record.rule, channel: record.channel },
    });
  }

  #proposal(actionId: string): Proposal {
    const proposal = this.#options.executor.proposal(actionId);
    if (proposal !== undefined) return proposal;
    throw new SkosError(
      'SKOS_APPROVAL_UNKNOWN',
      `nothing is proposed as "${actionId}"; \`skos approve\` lists what is`,
    );
  }
}

/** Without the present values: a clock that moves is no other action. */
function whatHappens({ effects, jobs, listing, unavailable }: Proposal): string {
  return JSON.stringify([
    effects.map(({ target, capPpm }) => [target, capPpm]),
    jobs,
    listing?.digest ?? null,
    unavailable ?? null,
  ]);
}
