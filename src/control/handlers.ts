/** What the verbs of the agent's socket do. Each answers from what is there; the ones that change something say who asked. */
import { gpuTarget } from '../config/allow-targets.js';
import type { Config } from '../config/schema.js';
import { DEFAULT_ORDER_RULE, orderNameOf } from '../config/standing-orders.js';
import { type Channel, isTemperature } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import { SkosError } from '../core/errors.js';
import { globMatches } from '../core/glob.js';
import type { ActionRecord, AuditRotation, Gpus, Log, RecordingQuery, Store } from '../core/ports.js';
import type { BreakersView, NetConfig, Status, Verbs } from '../core/protocol.js';
import { suggest } from '../core/suggest.js';
import { QUANTITIES } from '../core/units.js';
import { BUILT_IN_RULES, type LogLevel } from '../core/vocabulary.js';
import { DEFAULT_BAR_MS } from '../policy/bar.js';
import type { ActuatorLink } from './actuator-link.js';
import type { AlertBook } from './alert-book.js';
import { Approvals } from './approvals.js';
import { backupHandlers } from './backup-verbs.js';
import { nameOf } from './caller-name.js';
import { CHAIN_RULE, type Chains } from './chains.js';
import type { CurrentConfig } from './current-config.js';
import type { Executor } from './executor.js';
import type { FlightRecorder } from './flight-recorder.js';
import { gateHandlers } from './gate-verbs.js';
import type { GuestAntibodies } from './guest-antibodies.js';
import { guestHandlers } from './guest-verbs.js';
import { Guests } from './guests.js';
import type { HardwareEvents } from './hardware-events.js';
import { historyHandlers } from './history-verbs.js';
import type { ImmuneMemory } from './immune-memory.js';
import type { NetState } from './net-state.js';
import { OperatorCommands } from './operator-commands.js';
import type { OperatorWord } from './operator-word.js';
import type { Outlet } from './outlet.js';
import type { Publisher } from './publisher.js';
import type { Record } from './record.js';
import type { RepairGates } from './repair-gates.js';
import type { RepairLoops } from './repair-loops.js';
import type { Rulebook } from './rulebook.js';
import type { Sensing } from './sensing.js';
import type { Silences } from './silences.js';
import type { Caller, Handlers } from './socket-server.js';
import type { Tick } from './tick.js';
import type { Tokens } from './tokens.js';
import { Workloads } from './workloads.js';

const LISTED_BY_DEFAULT = 50;
const AUDIT_LISTED_BY_DEFAULT = 100;
/** What a default standing order caps. */
const CPU_TARGET = /^(cpufreq|intel_pstate|rapl)\//;

export interface HandlerOptions {
  readonly node: string;
  readonly version: string;
  readonly bootId: string;
  readonly startedAtMs: number;
  readonly config: CurrentConfig;
  readonly sensing: Sensing;
  readonly tick: Tick;
  readonly alerts: AlertBook;
  readonly executor: Executor;
  readonly word: OperatorWord;
  readonly recorder: FlightRecorder;
  readonly gates: RepairGates;
  readonly silences: Silences;
  readonly memory: ImmuneMemory;
  readonly rulebook: Rulebook;
  readonly link: ActuatorLink;
  readonly publisher: Publisher;
  readonly net: NetState;
  readonly gpus: Gpus;
  /** Why the kernel's log is not read, when it is not. */
  readonly kernelLog?: { readonly notFound: readonly string[] };
  readonly record: Record;
  readonly hardware: Pick<HardwareEvents, 'ownAct'>;
  readonly store: Store & { health(): { ok: boolean; why: string } };
  readonly log: Log & { readonly level: LogLevel; setLevel(level: LogLevel): void };
  readonly clock: Clock;
  readonly outlet: Outlet;
  readonly tokens: Tokens;
  readonly antibodies: GuestAntibodies;
  readonly chains: Chains;
  readonly repairLoops: RepairLoops;
  /** Loads the configuration again and puts it in force; rejects and changes nothing when it is bad. */
  readonly reload: () => Promise<string[]>;
}

export function createHandlers(options: HandlerOptions): Handlers {
  const { alerts, executor, store, log, clock, publisher, config, gpus, net } = options;
  const startedMs = clock.monotonicMs() - (clock.wallMs() - options.startedAtMs);
  const logLevel = new LogLevelLease(log, clock);
  const approvals = new Approvals({ executor, record: options.record, clock });
  const workloads = new Workloads({
    config,
    actuator: () => options.link.actuator,
    sensors: () => publisher.sensors(),
    record: options.record,
    clock,
  });
  const commands = operatorCommands(options);
  const { tokens, antibodies, chains, repairLoops } = options;
  const guests = new Guests({ tokens, antibodies, commands });
  return {
    ...guestHandlers({
      tokens,
      antibodies,
      chains,
      repairLoops,
      guests,
      nameOf,
      watchedChains: () => {
        const view = options.net.view();
        return view.connected ? (view.chains ?? 0) : null;
      },
    }),
    status: () => status(options, startedMs),
    sensors: ({ glob }) => publisher.sensors().filter(({ id }) => glob === undefined || globMatches(glob, id)),
    alerts: ({ all = false, limit = LISTED_BY_DEFAULT }) =>
      all ? store.alerts({ limit }) : alerts.standing.slice(0, limit),
    actions: ({ limit = LISTED_BY_DEFAULT }) => listActions(options, limit),
    release: ({ rule, forSeconds }, caller) => releaseRule(options, { rule, forSeconds, who: nameOf(caller) }),
    hold: ({ forSeconds, includingCaps = false }, caller) =>
      holdNode(options, { forMs: forSeconds * 1000, includingCaps, who: nameOf(caller) }),
    'hold.end': (_params, caller) => ({ ended: endHold(options, nameOf(caller)) }),
    'approve.show': ({ actionId }) => approvals.show(actionId),
    approve: ({ actionId, token }, caller) => {
      approvals.approve({ actionId, token, who: nameOf(caller) });
      return {};
    },
    workloads: () => workloads.list(),
    'workload.run': async ({ name, verb }, caller) => {
      await workloads.run({ name, verb, who: nameOf(caller) });
      return {};
    },
    orders: () => standingOrders(options),
    reload: async () => ({ changed: await options.reload(), mode: config.get().mode }),
    preview: async () => ({
      node: options.node,
      actions: [...executor.actions],
      targets: [...(await options.link.status()).targets],
    }),
    ...gateHandlers(options),
    'audit.verify': (params) => store.audit.verify(params),
    'audit.list': ({ fromSeq = 1, limit = AUDIT_LISTED_BY_DEFAULT }) => store.audit.list({ fromSeq, limit }),
    'audit.introductions': () => store.audit.introductions(),
    'audit.rotate': ({ confirm }, caller) => rotateKey(options, { confirm, who: nameOf(caller) }),
    'audit.seal': (params, caller) => store.audit.sealExport(params, { who: nameOf(caller), node: options.node }),
    'recorder.list': async () => ({ memory: options.recorder.memory, recordings: await store.recordings.list() }),
    'recorder.show': async (query) => (await store.recordings.page(query)) ?? unknownRecording(query, store),
    ...historyHandlers({ history: store.history, channels: () => options.sensing.channels }),
    'log.level': ({ level, forSeconds }) => ({ level, untilAtMs: logLevel.set(level, forSeconds) }),
    ...backupHandlers({
      store,
      node: options.node,
      program: options.version,
      dataDir: config.get().data_dir,
      record: options.record,
      clock,
    }),
    outbox: () => store.outbox.states(),
    'outbox.read': ({ queue, limit }) => store.outbox.read(queue, limit),
    'outbox.take': ({ queue, epoch, seq }) => {
      store.outbox.take(queue, { epoch, seq });
      return {};
    },
    gpu: () => gpus.status(),
    'gpu.detach': async ({ id }, caller) => ({ address: await asked(options, 'gpu.detach', { id, caller }) }),
    'gpu.attach': async ({ id }, caller) => ({ address: await asked(options, 'gpu.attach', { id, caller }) }),
    'net.config': () => netConfig(config.get(), options),
    'net.report': (report) => {
      net.report(report);
      publisher.demand = report.sensorDemand;
      return {};
    },
  };
}

/** Ends the actions of one rule, or of all, and bars it. What an external antibody raised goes by the antibody's name. */
function releaseRule(
  { config, antibodies, alerts, executor, chains, repairLoops }: HandlerOptions,
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

/** What the operator's commands over MQTT do: the same as these verbs. */
function operatorCommands(options: HandlerOptions): OperatorCommands {
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

/** What is signed from here on is signed by another key: asked for by name, so that a script for another node does not do it. */
async function rotateKey(
  { node, store }: HandlerOptions,
  { confirm, who }: { confirm: string; who: string },
): Promise<AuditRotation> {
  if (confirm !== node) throw new SkosError('SKOS_CLI_NAME', `this node is ${node}, not "${confirm}"`);
  return store.audit.rotateKey(who);
}

/** Lets go of a GPU or takes it again, and puts on record who asked. */
async function asked(
  { gpus, record, hardware }: HandlerOptions,
  kind: 'gpu.detach' | 'gpu.attach',
  { id, caller }: { id: string; caller: Caller },
): Promise<string> {
  const who = nameOf(caller);
  const detaches = kind === 'gpu.detach';
  const address = gpus.addressOf(id);
  // What the driver says of it from here on, for some seconds, is of our own doing.
  hardware.ownAct(detaches ? 'detach' : 'attach', address);
  await (detaches ? gpus.detach(address) : gpus.attach(address));
  const done = detaches ? 'let go of' : 'taken again';
  record.add({
    kind,
    who,
    what: { address },
    level: 'info',
    message: `GPU ${address} was ${done}, asked for by ${who}`,
    fields: { event: kind, channel: address },
  });
  return address;
}

function holdNode(
  { word, executor, record, clock }: HandlerOptions,
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

function endHold({ word, record }: HandlerOptions, who: string): boolean {
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

/** An order has the name of the rule and channel that it was compiled from. */
async function standingOrders({ link, sensing, config }: HandlerOptions): Promise<Verbs['orders']['result']> {
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

/** A rule may be barred while its sensor is not there; a name that no rule has would bar nothing and say that it did. */
function knownRule(rule: string, { rules }: Config, antibodies: readonly string[]): void {
  const known = [...BUILT_IN_RULES, ...rules.map(({ name }) => name), ...antibodies];
  if (known.includes(rule)) return;
  const close = suggest(rule, known);
  const hint = close === undefined ? `known: ${known.join(', ')}` : `did you mean "${close}"?`;
  throw new SkosError('SKOS_RULE_UNKNOWN', `there is no rule "${rule}"; ${hint}`);
}

async function unknownRecording({ alert, nth = 1 }: RecordingQuery, { recordings }: Store): Promise<never> {
  const known = [...new Set((await recordings.list()).map((info) => info.alert))];
  const close = suggest(alert, known);
  const hint = close === undefined ? '`skos recorder list` shows those there are' : `did you mean "${close}"?`;
  const what = known.includes(alert)
    ? `no ${nth} recordings of "${alert}"`
    : `no recording of an alert "${alert}"; ${hint}`;
  throw new SkosError('SKOS_RECORDING_UNKNOWN', `there is ${what}`);
}

/** The store knows the past, the executor what runs now: a write that waits for the disk must not hide an action. */
async function listActions({ store, executor }: HandlerOptions, limit: number): Promise<ActionRecord[]> {
  const byId = new Map((await store.actions({ limit })).map((record) => [record.actionId, record]));
  for (const record of executor.actions) byId.set(record.actionId, record);
  return [...byId.values()].sort((a, b) => b.startedAtMs - a.startedAtMs).slice(0, limit);
}

async function status(options: HandlerOptions, startedMs: number): Promise<Status> {
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

function netConfig(config: Config, { node, bootId, log }: HandlerOptions): NetConfig {
  const { mqtt, mesh, heartbeat } = config;
  return {
    node,
    bootId,
    prefix: mqtt.prefix,
    mqttListen: mqtt.listen,
    mqttUrl: mqtt.url,
    heartbeatTimeoutSeconds: heartbeat.timeout,
    logLevel: log.level,
    mesh: { listen: mesh.listen, tls: mesh.tls, peers: mesh.peers },
  };
}

/** `skos log level debug --for 10m`: goes back by itself, so that a forgotten debug level does not fill the journal. */
class LogLevelLease {
  readonly #log: HandlerOptions['log'];
  readonly #clock: Clock;
  #usual: LogLevel | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(log: HandlerOptions['log'], clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  /** Returns until when it holds; null: for good. */
  set(level: LogLevel, forSeconds: number | undefined): number | null {
    clearTimeout(this.#timer);
    const usual = this.#usual ?? this.#log.level;
    this.#log.setLevel(level);
    this.#usual = forSeconds === undefined ? undefined : usual;
    if (forSeconds === undefined) return null;
    this.#timer = setTimeout(() => this.set(usual, undefined), forSeconds * 1000);
    this.#timer.unref();
    return this.#clock.wallMs() + forSeconds * 1000;
  }
}
