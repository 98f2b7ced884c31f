/**
 * The verbs of the operator's words: release, hold and its end, over the socket and as commands over MQTT alike. Each is put on record
 * with who said it.
 */
import type { Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import { SkosError } from '../core/errors.js';
import type { Store } from '../core/ports.js';
import { suggest } from '../core/suggest.js';
import { BUILT_IN_RULES } from '../core/vocabulary.js';
import { DEFAULT_BAR_MS } from '../policy/bar.js';
import type { AlertBook } from './alert-book.js';
import { nameOf } from './caller-name.js';
import { CHAIN_RULE, type Chains } from './chains.js';
import type { CurrentConfig } from './current-config.js';
import type { Executor } from './executor.js';
import type { GuestAntibodies } from './guest-antibodies.js';
import { OperatorCommands } from './operator-commands.js';
import type { OperatorWord } from './operator-word.js';
import type { Outlet } from './outlet.js';
import type { Record } from './record.js';
import type { RepairLoops } from './repair-loops.js';
import type { Handlers } from './socket-server.js';

export interface OperatorVerbOptions {
  readonly bootId: string;
  readonly config: CurrentConfig;
  readonly alerts: AlertBook;
  readonly executor: Executor;
  readonly word: OperatorWord;
  readonly antibodies: GuestAntibodies;
  readonly chains: Chains;
  readonly repairLoops: RepairLoops;
  readonly store: Store;
  readonly record: Record;
  readonly outlet: Outlet;
  readonly clock: Clock;
  /** Loads the configuration again and puts it in force; rejects and changes nothing when it is bad. */
  readonly reload: () => Promise<string[]>;
}

export function operatorHandlers(options: OperatorVerbOptions): Pick<Handlers, 'release' | 'hold' | 'hold.end'> {
  return {
    release: ({ rule, forSeconds }, caller) => releaseRule(options, { rule, forSeconds, who: nameOf(caller) }),
    hold: ({ forSeconds, includingCaps = false }, caller) =>
      holdNode(options, { forMs: forSeconds * 1000, includingCaps, who: nameOf(caller) }),
    'hold.end': (_params, caller) => ({ ended: endHold(options, nameOf(caller)) }),
  };
}

/** What the operator's commands over MQTT do: the same as these verbs. */
export function operatorCommands(options: OperatorVerbOptions): OperatorCommands {
  const { bootId, store, record, outlet, clock } = options;
  return new OperatorCommands({
    bootId,
    store,
    record,
    outlet,
    clock,
    deeds: {
      release: ({ rule, for_seconds: forSeconds }, who) => {
        releaseRule(options, { rule, forSeconds, who });
      },
      hold: ({ for_seconds: forSeconds }, who) => {
        holdNode(options, { forMs: forSeconds * 1000, includingCaps: false, who });
      },
      'hold.end': (_parameters, who) => {
        endHold(options, who);
      },
      reload: async () => {
        await options.reload();
      },
    },
  });
}

/** Ends the actions of one rule, or of all, and bars it. What an external antibody raised goes by the antibody's name. */
function releaseRule(
  { config, antibodies, alerts, executor, chains, repairLoops }: OperatorVerbOptions,
  { rule, forSeconds, who }: { rule: string | undefined; forSeconds: number | undefined; who: string },
): { released: string[]; barred: string[] } {
  if (rule !== undefined) {
    knownRule(rule, config.get(), antibodies.names);
    alerts.dismiss(rule, who);
  }
  const done = executor.release({
    ...(rule === undefined ? {} : { rule }),
    forMs: forSeconds === undefined ? DEFAULT_BAR_MS : forSeconds * 1000,
    who,
  });
  if (rule !== undefined && rule !== CHAIN_RULE) return done;
  const loops = rule === CHAIN_RULE ? repairLoops.resetAll(who) : [];
  return { ...done, released: [...done.released, ...chains.resetAll(who), ...loops] };
}

/** A rule may be barred while its sensor is not there; a name that no rule has would bar nothing and say that it did. */
function knownRule(rule: string, { rules }: Config, antibodies: readonly string[]): void {
  const known = [...BUILT_IN_RULES, ...rules.map(({ name }) => name), ...antibodies];
  if (known.includes(rule)) return;
  const close = suggest(rule, known);
  const hint = close === undefined ? `known: ${known.join(', ')}` : `did you mean "${close}"?`;
  throw new SkosError('SKOS_RULE_UNKNOWN', `there is no rule "${rule}"; ${hint}`);
}

function holdNode(
  { word, executor, record, clock }: OperatorVerbOptions,
  { forMs, includingCaps, who }: { forMs: number; includingCaps: boolean; who: string },
): { untilAtMs: number; released: string[] } {
  const { untilMs } = word.holdFor(forMs, who);
  const untilAtMs = Math.round(untilMs - clock.monotonicMs() + clock.wallMs());
  const released = includingCaps ? executor.release({ forMs, who }).released : [];
  const until = new Date(untilAtMs).toISOString();
  record.add({
    kind: 'hold.operator',
    who,
    what: { until, includingCaps, released },
    level: 'warn',
    message: `on hold until ${until}, by ${who}: nothing new is begun${includingCaps ? ', and what stood is released' : ''}`,
    fields: { event: 'hold.operator' },
  });
  return { untilAtMs, released };
}

function endHold({ word, record }: OperatorVerbOptions, who: string): boolean {
  const ended = word.endHold();
  if (ended) {
    record.add({
      kind: 'hold.operator',
      who,
      what: { until: null },
      level: 'info',
      message: `the hold was ended by ${who}`,
      fields: { event: 'hold.operator' },
    });
  }
  return ended;
}
