/** The verbs of what gates repairs and of what the node has learnt: breakers, silences, memory. Each change says who made it and why. */
import { SkosError } from '../core/errors.js';
import { globMatches } from '../core/glob.js';
import type { MemoryView, Verb } from '../core/protocol.js';
import { suggest } from '../core/suggest.js';
import { QUANTITIES } from '../core/units.js';
import { isCovered } from '../policy/silence.js';
import type { AlertBook } from './alert-book.js';
import { nameOf } from './caller-name.js';
import { mustConfirm } from './confirmed.js';
import type { ImmuneMemory } from './immune-memory.js';
import type { Record } from './record.js';
import type { RepairGates } from './repair-gates.js';
import type { Rulebook } from './rulebook.js';
import type { Sensing } from './sensing.js';
import type { Silences } from './silences.js';
import type { Handlers } from './socket-server.js';

type GateVerb = Extract<Verb, 'breakers' | 'breaker.reset' | 'memory' | 'memory.forget' | `silence${string}`>;

export interface GateVerbOptions {
  readonly node: string;
  readonly gates: RepairGates;
  readonly silences: Silences;
  readonly memory: ImmuneMemory;
  readonly alerts: Pick<AlertBook, 'standing'>;
  readonly rulebook: Pick<Rulebook, 'bound'>;
  readonly sensing: Pick<Sensing, 'channels'>;
  readonly record: Pick<Record, 'add'>;
}

export function gateHandlers(options: GateVerbOptions): Pick<Handlers, GateVerb> {
  const { gates, silences } = options;
  return {
    breakers: () => gates.view(),
    'breaker.reset': ({ name, confirm, why = '' }, caller) => {
      mustConfirm(options.node, confirm);
      return { reset: reset(options, { name, why, who: nameOf(caller) }) };
    },
    silences: () => silences.list(),
    'silence.add': ({ pattern, forSeconds, why = '' }, caller) => {
      const silence = silences.add({ pattern, forMs: forSeconds * 1000, who: nameOf(caller), why });
      return { silence, ...coverage(options, pattern) };
    },
    'silence.end': ({ id }, caller) => silences.end(id, nameOf(caller)),
    memory: () => memoryView(options),
    'memory.forget': ({ pattern, confirm, why = '' }, caller) => {
      mustConfirm(options.node, confirm);
      return { forgotten: forget(options, { pattern, why, who: nameOf(caller) }) };
    },
  };
}

function reset(
  { gates, record }: GateVerbOptions,
  { name, why, who }: { name: string | undefined; why: string; who: string },
): string[] {
  const before = gates.view().breakers;
  if (name !== undefined && !before.some((each) => each.name === name)) {
    const close = suggest(
      name,
      before.map((each) => each.name),
    );
    const hint = close === undefined ? '`skos breaker list` shows those there are' : `did you mean "${close}"?`;
    throw new SkosError('SKOS_BREAKER_UNKNOWN', `there is no breaker "${name}"; ${hint}`);
  }
  const done = gates.reset(name);
  if (done.length === 0) return done;
  const phases = Object.fromEntries(done.map((each) => [each, before.find((one) => one.name === each)?.phase]));
  record.add({
    kind: 'breaker.reset',
    who,
    what: { breakers: phases, why },
    level: 'warn',
    message: `circuit breakers reset by ${who}: ${done.join(', ')}${because(why)}`,
    fields: { event: 'breaker.reset' },
  });
  return done;
}

function forget(
  { memory, record }: GateVerbOptions,
  { pattern, why, who }: { pattern: string | undefined; why: string; who: string },
): number {
  const forgotten = memory.forget(pattern);
  if (forgotten === 0) return 0;
  record.add({
    kind: 'memory.forget',
    who,
    what: { pattern: pattern ?? null, forgotten, why },
    level: 'warn',
    message: `${who} had ${forgotten} lessons forgotten: ${pattern ?? 'all'}${because(why)}`,
    fields: { event: 'memory.forget' },
  });
  return forgotten;
}

function because(why: string): string {
  return why === '' ? '' : ` (${why})`;
}

/** What a silence covers now: a pattern that covers nothing is a mistake, most often. */
function coverage({ alerts, rulebook, sensing }: GateVerbOptions, pattern: string) {
  const rules = new Set(rulebook.bound.map(({ rule }) => rule.name));
  return {
    alerts: alerts.standing.filter((alert) => isCovered(pattern, alert)).length,
    rules: [...rules].filter((rule) => globMatches(pattern, rule)).length,
    channels: sensing.channels.filter(({ id }) => globMatches(pattern, id)).length,
  };
}

function memoryView({ memory, rulebook, sensing }: GateVerbOptions): MemoryView {
  const quantities = new Map(sensing.channels.map(({ id, quantity }) => [id, QUANTITIES[quantity]]));
  return {
    lessons: memory.list().map((lesson) => {
      const quantity = quantities.get(lesson.channel);
      const { medianFell } = lesson.recent;
      const fell = quantity === undefined || medianFell === null ? null : medianFell / quantity.perBase;
      return { ...lesson, fell, unit: quantity?.unit ?? '' };
    }),
    raised: rulebook.bound.flatMap(({ rule }) => {
      const severity = rule.rungs[memory.remembered(rule)]?.severity;
      return severity === undefined ? [] : [{ rule: rule.name, channel: rule.channelId, severity }];
    }),
  };
}
