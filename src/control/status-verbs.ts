/** The verbs that say how the node stands: what runs and what is missing, and which standing orders guard it. */
import { gpuTarget } from '../config/allow-targets.js';
import { DEFAULT_ORDER_RULE, orderNameOf } from '../config/standing-orders.js';
import { type Channel, isTemperature } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { Gpus, Log, Store } from '../core/ports.js';
import type { BreakersView, Status, Verbs } from '../core/protocol.js';
import { QUANTITIES } from '../core/units.js';
import type { LogLevel } from '../core/vocabulary.js';
import type { ActuatorLink } from './actuator-link.js';
import type { AlertBook } from './alert-book.js';
import type { CurrentConfig } from './current-config.js';
import type { NetState } from './net-state.js';
import type { OperatorWord } from './operator-word.js';
import type { RepairGates } from './repair-gates.js';
import type { Sensing } from './sensing.js';
import type { Silences } from './silences.js';
import type { Handlers } from './socket-server.js';
import type { Tick } from './tick.js';

/** What a default standing order caps. */
const CPU_TARGET = /^(cpufreq|intel_pstate|rapl)\//;

export interface StatusVerbOptions {
  readonly node: string;
  readonly version: string;
  readonly bootId: string;
  readonly startedAtMs: number;
  readonly config: CurrentConfig;
  readonly sensing: Sensing;
  readonly tick: Tick;
  readonly alerts: AlertBook;
  readonly word: OperatorWord;
  readonly gates: RepairGates;
  readonly silences: Silences;
  readonly link: ActuatorLink;
  readonly net: NetState;
  readonly gpus: Gpus;
  /** Why the kernel's log is not read, when it is not. */
  readonly kernelLog?: { readonly notFound: readonly string[] };
  readonly store: Store & { health(): { ok: boolean; why: string } };
  readonly log: Log & { readonly level: LogLevel };
  readonly clock: Clock;
}

export function statusHandlers(options: StatusVerbOptions): Pick<Handlers, 'status' | 'orders'> {
  const { clock, startedAtMs } = options;
  const startedMs = clock.monotonicMs() - (clock.wallMs() - startedAtMs);
  return { status: () => status(options, startedMs), orders: () => standingOrders(options) };
}

async function status(options: StatusVerbOptions, startedMs: number): Promise<Status> {
  const { sensing, tick, alerts, word, store, config, clock, net } = options;
  const actuator = await options.link.status();
  const { mode } = config.get();
  sensing.refresh();
  const channelsByQuality: { [quality: string]: number } = {};
  sensing.channels.forEach((_, index) => {
    const { quality } = sensing.latest(index);
    channelsByQuality[quality] = (channelsByQuality[quality] ?? 0) + 1;
  });
  const monotonicToWallMs = clock.wallMs() - clock.monotonicMs();
  return {
    node: options.node,
    version: options.version,
    pid: process.pid,
    bootId: options.bootId,
    // By the clock of now: one that was set must not make it look older or younger.
    startedAtMs: Math.round(monotonicToWallMs + startedMs),
    mode,
    armed: mode === 'auto' && actuator.connected,
    ticks: tick.count,
    tickP99Ms: tick.p99Ms,
    channels: sensing.channels.length,
    channelsByQuality,
    gpus: options.gpus.status().gpus.map(({ address, info, state }) => ({ address, name: info.name ?? '', state })),
    notFound: [
      ...sensing.notFound,
      ...options.gpus.notFound,
      ...(options.kernelLog?.notFound ?? []),
      ...(mode === 'auto' ? unguarded(sensing.channels, actuator) : []),
    ],
    actuator,
    store: { ...store.health(), head: store.audit.head() },
    outbox: store.outbox.states(),
    net: net.view(),
    alerts: alerts.standing.length,
    hold:
      word.hold === undefined
        ? null
        : { untilAtMs: Math.round(word.hold.untilMs + monotonicToWallMs), who: word.hold.who },
    bars: word.bars.map(({ rule, untilMs }) => ({ rule, untilAtMs: Math.round(untilMs + monotonicToWallMs) })),
    silences: options.silences.list().length,
    repairs: repairsOf(options.gates.view()),
    logLevel: options.log.level,
  };
}

function repairsOf({ breakers, window }: BreakersView): Status['repairs'] {
  return { latched: breakers.filter(({ phase }) => phase === 'latched').map(({ name }) => name), window };
}

/**
 * Temperatures of CPUs and GPUs that no standing order guards, though there is something to cap: their driver came after the
 * allow-list was made. One line each; policy guards them as long as the agent lives.
 */
export function unguarded(
  channels: readonly Channel[],
  { targets, orders }: Pick<Status['actuator'], 'targets' | 'orders'>,
): string[] {
  const hasCpu = targets.some(({ target }) => CPU_TARGET.test(target));
  const isCapped = ({ class: hot, probe }: Channel) =>
    probe.kind === 'gpu'
      ? targets.some(({ target }) => target === gpuTarget(probe.address))
      : hasCpu && hot === 'cpu' && probe.kind === 'integer';
  const names = new Set(orders.map(({ order }) => order));
  return channels
    .filter((channel) => channel.thermalDefault === true && isTemperature(channel) && isCapped(channel))
    .filter((channel) => !names.has(orderNameOf(DEFAULT_ORDER_RULE, channel)))
    .map(({ id }) => `standing order: none for ${id}: run \`skos config compile\`, then reload skos-actuator`);
}

/** An order has the name of the rule and channel that it was compiled from. */
async function standingOrders({ link, sensing, config }: StatusVerbOptions): Promise<Verbs['orders']['result']> {
  const { connected, why, orders } = await link.status();
  const rules = [DEFAULT_ORDER_RULE, ...config.get().rules.map(({ name }) => name)];
  const known = new Map<string, { rule: string; channel: Channel }>();
  for (const channel of sensing.channels) {
    for (const rule of rules) known.set(orderNameOf(rule, channel), { rule, channel });
  }
  const views = orders.map(({ order, raised, value, quality }) => {
    const { rule = defaultRuleOf(order), channel } = known.get(order) ?? {};
    const { unit = '', perBase = 1 } = channel === undefined ? {} : QUANTITIES[channel.quantity];
    return {
      order,
      rule: rule === DEFAULT_ORDER_RULE ? (channel?.class === 'gpu' ? 'thermal-gpu' : 'thermal-cpu') : rule,
      channel: channel?.id ?? '',
      raised,
      value: value === null ? null : value / perBase,
      unit,
      quality,
    };
  });
  return { connected, why, orders: views };
}

/** Of a GPU that was not served yet: its channels are not known. */
function defaultRuleOf(order: string): string {
  return order.startsWith(`${DEFAULT_ORDER_RULE}:gpu/`) ? 'thermal-gpu' : '';
}
