/**
 * skos-agent: the composition root, on one screen each: what is made, in which order it starts, what signals do.
 *
 *   node agent.js [--config FILE] [--children]
 *
 * `--children` (what `skos run` adds) starts skos-net, and the actuator when this is root, as children. Exit status: 0 after
 * a stop by SIGTERM or SIGINT, 4 when the configuration is refused, 1 when a part cannot be started.
 */
import { mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { ANTIBODIES } from '../antibodies/antibodies.js';
import { loadConfig } from '../config/load.js';
import { type Config, DEFAULT_ACTUATOR_SOCKET } from '../config/schema.js';
import { ActuatorLink } from '../control/actuator-link.js';
import { AlertBook } from '../control/alert-book.js';
import { Breakers } from '../control/breakers.js';
import { Chains } from '../control/chains.js';
import { CurrentConfig } from '../control/current-config.js';
import { Executor } from '../control/executor.js';
import { FlightRecorder } from '../control/flight-recorder.js';
import { GuestAntibodies } from '../control/guest-antibodies.js';
import { createHandlers } from '../control/handlers.js';
import { HardwareEvents } from '../control/hardware-events.js';
import { ImmuneMemory } from '../control/immune-memory.js';
import { readReport, reportDirectory } from '../control/job-reports.js';
import { LastingClock } from '../control/lasting-clock.js';
import { Machine, workloadUnits } from '../control/machine.js';
import { MqttQueue } from '../control/mqtt-queue.js';
import { NetState } from '../control/net-state.js';
import { OperatorWord } from '../control/operator-word.js';
import { LaterOutlet } from '../control/outlet.js';
import { Publisher } from '../control/publisher.js';
import { Record } from '../control/record.js';
import { Reloader } from '../control/reloader.js';
import type { ActionOutcome } from '../control/repair-gate.js';
import { RepairGates } from '../control/repair-gates.js';
import { RepairLoops } from '../control/repair-loops.js';
import { Repairs } from '../control/repairs.js';
import { Rulebook } from '../control/rulebook.js';
import { Sensing } from '../control/sensing.js';
import { Silences } from '../control/silences.js';
import { SocketServer } from '../control/socket-server.js';
import { StoreWatch } from '../control/store-watch.js';
import { Tick } from '../control/tick.js';
import { Tokens } from '../control/tokens.js';
import { agentSocketPath } from '../core/agent-client.js';
import { readIfThere, writeAtomically } from '../core/atomic-file.js';
import { systemClock as clock } from '../core/clock.js';
import { within } from '../core/deadline.js';
import { reason, SkosError } from '../core/errors.js';
import { Lifecycle, type Part } from '../core/lifecycle.js';
import type { Alert, ConnectPacketSocket } from '../core/ports.js';
import { VERSION } from '../core/version.js';
import { ANTIBODY_TYPES } from '../core/vocabulary.js';
import { type Addon, loadAddon } from '../sensors/addon.js';
import { withDerived } from '../sensors/derived.js';
import { GpuLink } from '../sensors/gpu-link.js';
import { type HotPlug, watchHotPlug } from '../sensors/hot-plug.js';
import { KernelLog } from '../sensors/kernel-log.js';
import { meshChannels } from '../sensors/mesh.js';
import { WireguardWatch } from '../sensors/wireguard.js';
import { workloadGpuChannels } from '../sensors/workload-gpu.js';
import { storeLimits } from '../store/limits.js';
import { MemoryStore } from '../store/memory-store.js';
import { LevelStore } from '../store/store.js';
import { ChildProcess } from './children.js';
import { gpuChild, gpuConnector, placeOfGpu, setterChild } from './gpu.js';
import { bootId, provisionalName, roles } from './host.js';
import { type AdjustableLog, createLog } from './log.js';
import { actuatorSpec, netSpec } from './programs.js';
import { samplerMaker } from './sampling.js';
import { canMoveUnits, unitsChild } from './units.js';

const EXIT_FAILED = 1;
const EXIT_CONFIG = 4;
/** Replaying the log after a power loss takes a second or two; protection waits no longer than this for a disk. */
const OPEN_DEADLINE_MS = 10_000;
/** Alerts that an earlier agent may have left standing. */
const ADOPTED_ALERTS = 1_000;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { config: { type: 'string' }, children: { type: 'boolean', default: false } },
  });
  const startedAtMs = clock.wallMs();
  const addon = loadAddon();
  const loaded = await loadConfig({ file: values.config, env: process.env });
  const { config } = loaded;
  const log = createLog({
    identifier: 'skos-agent',
    node: config.node,
    level: config.log.level,
    journalSend: addon.journalSend,
  });
  for (const notice of loaded.notices) log.warn(notice);
  const agent = await compose({
    addon,
    config,
    log,
    configFile: values.config,
    withChildren: values.children,
    startedAtMs,
  });
  const lifecycle = new Lifecycle({ parts: agent.parts, log });
  const leave = () => {
    log.info('stopping', { event: 'agent.stop' });
    void lifecycle.stop().then(() => exit(agent.isStuck()));
  };
  process.on('SIGTERM', leave);
  process.on('SIGINT', leave);
  process.on('SIGHUP', () => void agent.reload().catch(() => undefined)); // reload() has told the journal why.
  if (!(await lifecycle.start())) return;
  addon.notify(`READY=1\nSTATUS=watching ${agent.channelCount()} channels`);
  const startMs = Math.round(process.uptime() * 1000);
  log.info(`ready: ${agent.channelCount()} channels, mode ${config.mode}, ${startMs} ms after the start`, {
    event: 'agent.ready',
    startMs,
  });
}

/**
 * exit() joins libuv's threads, and one that discovery left in a hung driver would keep the process for ever. Everything is
 * stopped and on disk by now, so such a process ends itself the hard way.
 */
function exit(isStuck: boolean): void {
  if (isStuck) process.kill(process.pid, 'SIGKILL');
  process.exit(0);
}

interface Composed {
  readonly parts: readonly Part[];
  readonly reload: () => Promise<string[]>;
  readonly channelCount: () => number;
  /** A read of discovery hangs in a driver. */
  readonly isStuck: () => boolean;
}

async function compose(given: {
  addon: Addon;
  config: Config;
  log: AdjustableLog;
  configFile: string | undefined;
  withChildren: boolean;
  startedAtMs: number;
}): Promise<Composed> {
  const { addon, log, startedAtMs } = given;
  const config = new CurrentConfig(given.config);
  const { node, data_dir: dataDir } = given.config;
  const boot = bootId();
  const socketPath = agentSocketPath({ env: process.env, dataDir });
  const runDirectory = dirname(socketPath);
  for (const directory of [dataDir, runDirectory]) mkdirSync(directory, { recursive: true, mode: 0o750 });

  const machine = new Machine(process.env);
  const store = await openStore(given.config, log);
  const outlet = new LaterOutlet();
  const record = new Record({ store, log, outlet });
  const lasting = new LastingClock({ store, clock, bootId: boot });
  const silences = new Silences({ store, lasting, record });
  const memory = new ImmuneMemory({ config, store });
  const rulebook = new Rulebook(ANTIBODIES, memory);
  const recorder = new FlightRecorder({ store, clock, log });
  const onChange = (alert: Alert) => {
    if (isRecorded(alert)) recorder.alert(alert);
  };
  const alerts = new AlertBook({ rulebook, store, outlet, record, clock, onChange, silences });
  const breakers = new Breakers(store);
  const gates = new RepairGates({ config, breakers, lasting, store, clock, bootId: boot });
  const word = new OperatorWord({ bootId: boot, store, clock });
  const reports = reportDirectory(process.env);
  const tokens = new Tokens({ node, store, record, outlet, clock });
  const antibodies = new GuestAntibodies({ node, config, alerts, store, record, outlet, clock });
  tokens.onRevoked((name) => antibodies.forget(name));
  const chains = new Chains({ config, word, alerts, store, record, outlet, clock, log });
  const repairLoops = new RepairLoops({ next: gates, config, alerts, store, record, clock });
  const repairs = new Repairs({
    bootId: boot,
    config,
    gate: repairLoops,
    record,
    report: (job, sinceAtMs) => readReport(reports, { job, sinceAtMs }),
    clock,
  });
  const learn = (outcome: ActionOutcome) => memory.note(outcome, clock.wallMs());
  const acting = { node, bootId: boot, config, rulebook, repairs, learn, word, store, record, outlet, log, clock };
  const executor = new Executor(acting);

  const hardware = new HardwareEvents({
    config,
    alerts,
    record,
    store,
    bootId: boot,
    recoveryAction: (address) => gpus.reading(address, 'recovery_action'),
    clock,
    log,
  });
  const kernelLog = new KernelLog({
    createKmsgReader: addon.createKmsgReader,
    devRoot: machine.roots.dev,
    env: process.env,
    bootId: boot,
    store,
    log,
    onEvent: hardware.event,
  });
  const gpuPlace = placeOfGpu(given.config, { runDirectory, withChildren: given.withChildren });
  const gpuOwn = gpuPlace.own
    ? gpuChild(given.config, { socket: gpuPlace.socket, sysfs: machine.roots.sysfs, log })
    : undefined;
  const gpus: GpuLink = new GpuLink({
    ...gpuPlace,
    connect: gpuConnector(addon),
    openRegion: addon.openRegion,
    rates: () => ({ rateHz: config.get().sampling.rate_hz, deadlineMs: config.get().sampling.deadline_ms }),
    onChange: () => {
      sensing.lookSoon('GPUs');
      // Their limits are the bounds of standing orders.
      void reloader.renewAllowList();
    },
    onCrossing: () => tick.wake(),
    onState: (address, state, why) => hardware.gpuState(address, state, why),
    onEvent: hardware.event,
    onSilent: () => gpuOwn?.replace('it does not answer'),
    log,
    clock,
  });
  const wireguard = new WireguardWatch({ env: process.env, proc: machine.proc, clock });
  const net = new NetState(clock);
  const sensing: Sensing = new Sensing({
    config,
    rulebook,
    discover: async () => {
      const discovery = await machine.discover(config.get());
      const ofWorkloads = workloadGpuChannels(workloadUnits(config.get()), gpus);
      const tunnels = await wireguard.discover(config.get());
      const ofMesh = [...tunnels.channels, ...meshChannels(config.get())];
      return {
        ...discovery,
        channels: withDerived([...discovery.channels, ...ofMesh, ...ofWorkloads, ...gpus.channels]),
        skipped: [...discovery.skipped, ...tunnels.skipped],
      };
    },
    createSampler: samplerMaker({
      addon,
      gpus,
      actuator: () => link.actuator,
      proc: machine.proc,
      wireguard,
      tunnelStaleMs: () => config.get().wireguard.stale * 1000,
      peers: () => net.peers(),
      deadlineMs: () => config.get().sampling.deadline_ms,
      onCrossing: () => tick.wake(),
      clock,
    }),
    log,
  });
  const feed = () => void addon.notify('WATCHDOG=1');
  const tick = new Tick({ config, sensing, rulebook, alerts, executor, recorder, store, clock, log, feed });
  const publisher = new Publisher({ sensing, rulebook, alerts, store, outlet, clock, log });

  const actuator = actuatorPlace(given.config, { runDirectory, withChildren: given.withChildren });
  const compileAllowList = async () => {
    const controllerUid = process.getuid?.() ?? 0;
    const channels = [...sensing.channels.filter(({ probe }) => probe.kind !== 'gpu'), ...gpus.channels];
    const text = await machine.allowList({ config: config.get(), channels, controllerUid });
    if (text === (await readIfThere(actuator.allow))) return false;
    await writeAtomically(actuator.allow, text);
    return true;
  };
  const setter = join(runDirectory, 'gpu-set.sock');
  const units = canMoveUnits() ? join(runDirectory, 'units.sock') : null;
  const own = actuator.own
    ? new ChildProcess(
        actuatorSpec({ ...actuator, ...machine.roots, state: runDirectory, setter, units, gpu: gpuPlace.socket }),
        { log },
      )
    : undefined;
  // Also beside an actuator that an earlier agent started: its setters went with that agent.
  const setters =
    actuator.own && given.config.gpu.mode !== 'off'
      ? [setterChild(given.config, { socket: setter, sysfs: machine.roots.sysfs, log })]
      : [];
  const movers = actuator.own && units !== null ? [unitsChild({ socket: units, log })] : [];
  const startOwn = async () => {
    await compileAllowList();
    await own?.start();
  };
  const connect = packetConnector(addon);
  const { path, why } = actuator;
  const link = new ActuatorLink({
    path,
    why,
    connect,
    executor,
    word,
    store,
    record,
    log,
    clock,
    ...(own ? { startOwn } : {}),
  });

  const load = async () => (await loadConfig({ file: given.configFile, env: process.env })).config;
  const allowList = own === undefined ? {} : { compileAllowList };
  const reloader: Reloader = new Reloader({
    config,
    load,
    sensing,
    tick,
    ...allowList,
    link,
    gpus,
    outlet,
    record,
    log,
  });
  const reload = () => reloader.reload();

  const identity = { node, version: VERSION, bootId: boot, startedAtMs };
  const parts = {
    config,
    sensing,
    tick,
    alerts,
    executor,
    gates,
    silences,
    memory,
    rulebook,
    word,
    recorder,
    link,
    publisher,
    net,
    gpus,
    record,
    hardware,
    kernelLog,
  };
  const guests = { tokens, antibodies, chains, repairLoops };
  const server = new SocketServer({
    path: socketPath,
    credentialsOf: addon.peerCredentials,
    roleOf: roles(),
    handlers: createHandlers({ ...identity, ...parts, ...guests, store, outlet, log, clock, reload }),
    onSubscribe: (send) => {
      send('chains', chains.truth());
      publisher.retained(send);
      for (const beat of antibodies.beats) send('heartbeat', beat);
    },
    log,
  });
  const queue = new MqttQueue({ bootId: boot, config, store, outlet: server, log });
  await queue.start();
  outlet.lead(queue);

  const netOwn = given.withChildren ? [new ChildProcess(netSpec({ runDirectory }), { log })] : [];
  return {
    parts: [
      { name: 'store', start: () => undefined, stop: () => store.stop() },
      recorder,
      gates,
      silences,
      memory,
      startRecord(record, identity, given.config),
      ...(gpuOwn === undefined ? [] : [gpuOwn]),
      gpus,
      // Sensors come before the actuator: the ladders must be there when the leases of an earlier agent are adopted.
      sensing,
      {
        name: 'alerts',
        start: async () => alerts.adopt(await store.alerts({ standing: true, limit: ADOPTED_ALERTS })),
        stop: () => undefined,
      },
      new StoreWatch({ health: () => store.health(), alerts }),
      hardware,
      repairLoops,
      chains,
      antibodies,
      {
        name: 'tokens',
        // Not awaited: a dead disk lets nobody in, and keeps nothing else from starting.
        start: () => void tokens.load().catch(() => undefined), // The store has said why.
        stop: () => undefined,
      },
      kernelLog,
      ...setters,
      ...movers,
      link,
      ...(own === undefined ? [] : [{ name: 'skos-actuator', start: () => undefined, stop: () => own.stop() }]),
      tick,
      { name: 'socket', start: () => server.start(), stop: () => server.stop() },
      publisher,
      hotPlugPart(addon, sensing, log),
      ...netOwn,
    ],
    reload,
    channelCount: () => sensing.channels.length,
    isStuck: () => machine.isStuck,
  };
}

/** A node whose database cannot be opened is protected all the same; `skos status` says that nothing is kept. */
async function openStore(config: Config, log: AdjustableLog): Promise<LevelStore | MemoryStore> {
  const store = new LevelStore({
    dataDir: config.data_dir,
    node: config.node,
    log,
    clock,
    limits: storeLimits(config.store),
  });
  const opening = store.start();
  try {
    await within(opening, OPEN_DEADLINE_MS, () => {
      throw new SkosError('SKOS_STORE_OPEN', 'the disk does not answer');
    });
    return store;
  } catch (error) {
    // Should it open after all, it must not hold its lock for nothing.
    opening.then(() => store.stop()).catch(() => undefined);
    // Two agents on one database would be two agents on one node: that is refused, not worked around.
    if (error instanceof SkosError && (error.code === 'SKOS_STORE_LOCKED' || error.code === 'SKOS_STORE_VERSION'))
      throw error;
    const code = error instanceof SkosError ? error.code : 'SKOS_STORE_OPEN';
    log.error(`the record is kept in memory only: ${reason(error)}`, { event: 'store.failed', code, error });
    return new MemoryStore({ clock, why: reason(error), log });
  }
}

/** A recording shows what the node's own sensors did: a guest's alerts, or a chain's, must not push older ones out. */
function isRecorded({ agentType }: Alert): boolean {
  return agentType !== 'loop_breaker' && ANTIBODY_TYPES.some((type) => type === agentType);
}

function startRecord(
  record: Record,
  { node, version, bootId: boot }: { node: string; version: string; bootId: string },
  config: Config,
): Part {
  const say = (kind: string, message: string) =>
    record.add({
      kind,
      who: 'agent',
      what: { node, version, boot, mode: config.mode },
      level: 'info',
      message,
      fields: { event: kind },
    });
  return {
    name: 'record',
    start: () => say('agent.start', `skos-agent ${version} on ${node}, mode ${config.mode}`),
    stop: () => say('agent.stop', 'the agent stops; caps that stand are left to the actuator'),
  };
}

interface ActuatorPlace {
  readonly path: string | null;
  readonly why: string;
  /** Start one of our own when none answers. */
  readonly own: boolean;
  readonly socket: string;
  readonly allow: string;
}

/** auto is the socket if present, else a child when root, else off, said aloud. */
function actuatorPlace(
  config: Config,
  { runDirectory, withChildren }: { runDirectory: string; withChildren: boolean },
): ActuatorPlace {
  const { mode, socket: configured } = config.actuator;
  const socket =
    process.env.SKOS_RUN_DIR === undefined && configured !== DEFAULT_ACTUATOR_SOCKET
      ? configured
      : join(runDirectory, 'actuator.sock');
  const place = { socket, allow: join(runDirectory, 'actuator.allow') };
  const isRoot = process.getuid?.() === 0;
  if (mode === 'off') return { ...place, path: null, why: 'actuator.mode is off', own: false };
  if (mode === 'child') return { ...place, path: socket, why: 'it is being started', own: true };
  return {
    ...place,
    path: socket,
    why: `nothing answers at ${socket}`,
    own: mode === 'auto' && isRoot && withChildren,
  };
}

function hotPlugPart(addon: Addon, sensing: Sensing, log: AdjustableLog): Part {
  let watch: HotPlug | undefined;
  return {
    name: 'hot-plug',
    start: () => {
      watch = watchHotPlug(addon, (subsystems) => sensing.lookSoon([...subsystems].join(' ')), log);
    },
    stop: () => watch?.close(),
  };
}

function packetConnector(addon: Addon): ConnectPacketSocket {
  return (path, onPacket) => {
    const socket = addon.createSeqPacket(onPacket);
    const error = socket.connect(path);
    if (error !== 0) throw new SkosError('SKOS_ACTUATOR_ABSENT', `errno ${error}`);
    return { send: (packet) => socket.send(packet), close: () => socket.close() };
  };
}

main().catch((error: unknown) => {
  const code = error instanceof SkosError ? error.code : undefined;
  const log = createLog({
    identifier: 'skos-agent',
    node: provisionalName(hostname()),
    level: 'info',
    journalSocket: null,
  });
  // What carries no code of ours is a mistake of ours: its stack is what there is to report.
  const stack = error instanceof Error ? error.stack : undefined;
  log.fatal(reason(error), error instanceof SkosError ? { code: error.code, next: error.next } : { error, stack });
  process.exit(code?.startsWith('SKOS_CONFIG') ? EXIT_CONFIG : EXIT_FAILED);
});
