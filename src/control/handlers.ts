/** What the verbs of the agent's socket do. Each answers from what is there; the ones that change something say who asked. */
import type { Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import { SkosError } from '../core/errors.js';
import { globMatches } from '../core/glob.js';
import type { ActionRecord, AuditRotation, Log, RecordingQuery, Store } from '../core/ports.js';
import type { NetConfig } from '../core/protocol.js';
import { suggest } from '../core/suggest.js';
import type { LogLevel } from '../core/vocabulary.js';
import type { AlertBook } from './alert-book.js';
import { Approvals } from './approvals.js';
import { backupHandlers } from './backup-verbs.js';
import { nameOf } from './caller-name.js';
import { mustConfirm } from './confirmed.js';
import type { FlightRecorder } from './flight-recorder.js';
import { type GateVerbOptions, gateHandlers } from './gate-verbs.js';
import { guestHandlers } from './guest-verbs.js';
import { Guests } from './guests.js';
import type { HardwareEvents } from './hardware-events.js';
import { historyHandlers } from './history-verbs.js';
import { type OperatorVerbOptions, operatorCommands, operatorHandlers } from './operator-verbs.js';
import type { Publisher } from './publisher.js';
import type { Record } from './record.js';
import type { Sensing } from './sensing.js';
import type { Caller, Handlers } from './socket-server.js';
import { type StatusVerbOptions, statusHandlers } from './status-verbs.js';
import type { Tokens } from './tokens.js';
import { Workloads } from './workloads.js';

const LISTED_BY_DEFAULT = 50;
const AUDIT_LISTED_BY_DEFAULT = 100;

export interface HandlerOptions extends StatusVerbOptions, OperatorVerbOptions, GateVerbOptions {
  readonly sensing: Sensing;
  readonly alerts: AlertBook;
  readonly recorder: FlightRecorder;
  readonly publisher: Publisher;
  readonly record: Record;
  readonly hardware: Pick<HardwareEvents, 'ownAct'>;
  readonly store: StatusVerbOptions['store'] & OperatorVerbOptions['store'];
  readonly log: Log & { readonly level: LogLevel; setLevel(level: LogLevel): void };
  readonly tokens: Tokens;
}

export function createHandlers(options: HandlerOptions): Handlers {
  const { alerts, executor, store, log, clock, publisher, config, gpus, net } = options;
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
    ...statusHandlers(options),
    ...operatorHandlers(options),
    ...guestHandlers({ tokens, antibodies, chains, repairLoops, guests, net }),
    sensors: ({ glob }) => publisher.sensors().filter(({ id }) => glob === undefined || globMatches(glob, id)),
    alerts: ({ all = false, limit = LISTED_BY_DEFAULT }) =>
      all ? store.alerts({ limit }) : alerts.standing.slice(0, limit),
    actions: ({ limit = LISTED_BY_DEFAULT }) => listActions(options, limit),
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

/** What is signed from here on is signed by another key: asked for by name, so that a script for another node does not do it. */
async function rotateKey(
  { node, store }: HandlerOptions,
  { confirm, who }: { confirm: string; who: string },
): Promise<AuditRotation> {
  mustConfirm(node, confirm);
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
