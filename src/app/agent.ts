/**
 * skos-agent: the composition root: what is made of what, in which order it starts, what signals do. Each subject's parts are made in
 * a file beside this one.
 *
 *   node agent.js [--config FILE] [--children]
 *
 * `--children` (what `skos run` adds) starts skos-net, and the actuator when this is root, as children. Exit status: 0 after
 * a stop by SIGTERM or SIGINT, 4 when the configuration is refused, 1 when a part cannot be started.
 */
import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { loadConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { createHandlers } from '../control/handlers.js';
import { MqttQueue } from '../control/mqtt-queue.js';
import { Publisher } from '../control/publisher.js';
import type { Record } from '../control/record.js';
import { Reloader } from '../control/reloader.js';
import { SocketServer } from '../control/socket-server.js';
import { StoreWatch } from '../control/store-watch.js';
import { Tick } from '../control/tick.js';
import { systemClock as clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import { Lifecycle, type Part } from '../core/lifecycle.js';
import { VERSION } from '../core/version.js';
import { loadAddon } from '../sensors/addon.js';
import { composeActing } from './acting.js';
import { composeActuator } from './actuator.js';
import { ChildProcess } from './children.js';
import { type Given, layGround } from './ground.js';
import { composeGuests } from './guests.js';
import { composeHardware } from './hardware.js';
import { provisionalName, roles } from './host.js';
import { createLog } from './log.js';
import { netSpec } from './programs.js';
import { type ComposedSensing, composeSensing } from './sensing.js';

const EXIT_FAILED = 1;
const EXIT_CONFIG = 4;
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
    initial: config,
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

async function compose(given: Given & { configFile: string | undefined; startedAtMs: number }): Promise<Composed> {
  const { addon, initial, log, configFile, startedAtMs } = given;
  const ground = await layGround(given);
  const { node, bootId, config, machine, store, outlet, record, runDirectory, every } = ground;

  const acting = composeActing(ground);
  const { rulebook, alerts, executor, recorder, word, gates, repairLoops, silences, memory } = acting;
  const guests = composeGuests(ground, acting);
  const onCrossing = () => tick.wake();
  const { hardware, kernelLog, gpus, ownGpu, gpuSocket } = composeHardware(ground, {
    alerts,
    onGpus: () => {
      sensing.lookSoon('GPUs');
      // Their limits are the bounds of standing orders.
      void reloader.renewAllowList();
    },
    onCrossing,
  });
  const { sensing, net, hotPlug }: ComposedSensing = composeSensing(ground, {
    rulebook,
    gpus,
    actuator: () => actuator.link.actuator,
    onCrossing,
  });
  const feed = () => void addon.notify('WATCHDOG=1');
  const tick = new Tick({ config, sensing, rulebook, alerts, executor, recorder, store, clock, every, log, feed });
  const publisher = new Publisher({ sensing, rulebook, alerts, store, outlet, clock, every, log });
  const actuator = composeActuator(ground, { executor, word, sensing, gpus, gpuSocket });
  const { link, compileAllowList } = actuator;
  const load = async () => (await loadConfig({ file: configFile, env: process.env })).config;
  const allowList = compileAllowList === undefined ? {} : { compileAllowList };
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

  const identity = { node, version: VERSION, bootId, startedAtMs };
  const parts = {
    ...acting,
    ...guests,
    config,
    sensing,
    tick,
    link,
    publisher,
    net,
    gpus,
    record,
    hardware,
    kernelLog,
  };
  const server = new SocketServer({
    path: ground.socketPath,
    credentialsOf: addon.peerCredentials,
    roleOf: roles(),
    handlers: createHandlers({ ...identity, ...parts, store, outlet, log, clock, reload }),
    onSubscribe: (send) => {
      send('chains', guests.chains.truth());
      publisher.retained(send);
      for (const beat of guests.antibodies.beats) send('heartbeat', beat);
    },
    clock,
    log,
  });
  const queue = new MqttQueue({ bootId, config, store, outlet: server, log });
  await queue.start();
  outlet.lead(queue);

  const netOwn = given.withChildren ? [new ChildProcess(netSpec({ runDirectory }), { log, every })] : [];
  return {
    parts: [
      { name: 'store', start: () => undefined, stop: () => store.stop() },
      recorder,
      gates,
      silences,
      memory,
      startRecord(record, identity, initial),
      ...(ownGpu === undefined ? [] : [ownGpu]),
      gpus,
      // Sensors come before the actuator: the ladders must be there when the leases of an earlier agent are adopted.
      sensing,
      {
        name: 'alerts',
        start: async () => alerts.adopt(await store.alerts({ standing: true, limit: ADOPTED_ALERTS })),
        stop: () => undefined,
      },
      new StoreWatch({ health: () => store.health(), alerts, every }),
      hardware,
      repairLoops,
      guests.chains,
      guests.antibodies,
      {
        name: 'tokens',
        // Not awaited: a dead disk lets nobody in, and keeps nothing else from starting.
        start: () => void guests.tokens.load().catch(() => undefined), // The store has said why.
        stop: () => undefined,
      },
      kernelLog,
      ...actuator.helpers,
      link,
      ...actuator.own,
      tick,
      { name: 'socket', start: () => server.start(), stop: () => server.stop() },
      publisher,
      hotPlug,
      ...netOwn,
    ],
    reload,
    channelCount: () => sensing.channels.length,
    isStuck: () => machine.isStuck,
  };
}

function startRecord(
  record: Record,
  { node, version, bootId }: { node: string; version: string; bootId: string },
  config: Config,
): Part {
  const say = (kind: string, message: string) =>
    record.add({
      kind,
      who: 'agent',
      what: { node, version, boot: bootId, mode: config.mode },
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
