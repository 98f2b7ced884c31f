/**
 * skos-net, the program: everything of SKOS Edge that touches a network, in a process of its own.
 *
 *   node net.js [--socket PATH]        PATH of the agent's socket; otherwise where agentSocketPath() says
 *
 * It runs until SIGTERM or SIGINT, with or without an agent. Exit status: 0 stopped as asked, 1 failed (logged before),
 * 64 wrong command line. Whoever starts it starts it again, with back-off; it keeps nothing that is not asked for anew.
 * Start it with --max-semi-space-size=2 and MALLOC_ARENA_MAX=1: together they save 15 MB.
 */
import { hostname } from 'node:os';
import { agentSocketPath } from '../core/agent-client.js';
import { systemClock } from '../core/clock.js';
import { reason } from '../core/errors.js';
import { type Addon, loadAddon } from '../sensors/addon.js';
import { createLog } from './log.js';
import { NetService } from './net-service.js';
import { watchParent } from './parent.js';

const EXIT_FAILED = 1;
const EXIT_USAGE = 64;
/** To say goodbye on all connections; what does not end by then is left to the kernel. */
const STOP_DEADLINE_MS = 2_000;
/** Where the installed agent keeps its data: the socket's place of last resort. */
const DATA_DIRECTORY = '/var/lib/skos';

function run(): void {
  const socketPath = socketOf(process.argv.slice(2));
  if (socketPath === undefined) {
    process.stderr.write('usage: net.js [--socket PATH]\n');
    process.exitCode = EXIT_USAGE;
    return;
  }
  const addon = datagrams();
  const journal = addon === undefined ? {} : { journalSend: addon.journalSend };
  let log = createLog({ identifier: 'skos-net', node: process.env.NODE_NAME ?? hostname(), level: 'info', ...journal });
  let node: string | undefined;
  const service = new NetService({
    socketPath,
    clock: systemClock,
    random: Math.random,
    log,
    logFor: (name, level) => {
      // One log for one name: the bounds on its rate are the log's own state.
      if (name !== node) log = createLog({ identifier: 'skos-net', node: name, level, ...journal });
      node = name;
      log.setLevel(level);
      return log;
    },
  });

  let stopping = false;
  const stop = () => {
    if (stopping) return;
    stopping = true;
    setTimeout(() => {
      log.error('skos-net did not stop in time', { event: 'net.stop', code: 'SKOS_SHUTDOWN_DEADLINE' });
      process.exit(EXIT_FAILED);
    }, STOP_DEADLINE_MS);
    service.stop().then(
      () => process.exit(0),
      (error) => fail(error),
    );
  };
  const fail = (error: unknown) => {
    log.fatal(`skos-net failed: ${reason(error)}`, { event: 'net.failed', error });
    process.exit(EXIT_FAILED);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  process.on('uncaughtException', fail);
  process.on('unhandledRejection', fail);
  service.start();
  // Under `skos run` it ends with the agent that started it, however that one ends.
  watchParent(stop);
  addon?.notify('READY=1');
}

/** Of the addon skos-net uses the datagrams to systemd alone; without it the log goes to standard error. */
function datagrams(): Addon | undefined {
  try {
    return loadAddon();
  } catch {
    return undefined;
  }
}

function socketOf(args: readonly string[]): string | undefined {
  if (args.length === 0) return agentSocketPath({ env: process.env, dataDir: DATA_DIRECTORY });
  return args.length === 2 && args[0] === '--socket' ? args[1] : undefined;
}

run();
