/**
 * A whole node for benchmarks: the bundled programs as `skos run` starts them, over a fake machine on tmpfs, with a
 * configuration and directories of its own. Needs build/ts (for the fake machine), dist and build/native.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fakeMachineAt } from '../../../build/ts/test/fixtures/fake-sysfs.js';

export const sleep = (durationMs) => new Promise((resolve) => setTimeout(resolve, durationMs));

/** tmpfs, so that reading a sensor costs what it costs on sysfs and no disk is in the way. */
function directory() {
  return mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'skos-bench-'));
}

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** `config` is YAML that is appended; `populate` furnishes the machine. */
export async function startNode({ name, port, config = '', populate }) {
  const root = directory();
  const machine = fakeMachineAt(root);
  populate(machine);
  const run = join(root, 'run');
  mkdirSync(run);
  const file = join(root, 'skos.yaml');
  writeFileSync(file, `node: ${name}\ndata_dir: ${root}/data\nmqtt: { listen: "127.0.0.1:${port}" }\n${config}`);
  const environment = { ...process.env, ...machine.env, SKOS_RUN_DIR: run, SKOS_JOURNAL_SOCKET: '' };
  const startedMs = performance.now();
  const child = spawn('scripts/skos', ['run', '--config', file], {
    env: environment,
    detached: true, // A session of its own, as a service has: see setNiceness().
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  const ready = new Promise((resolve, reject) => {
    child.stderr.on('data', (data) => {
      log += data;
      if (log.includes('agent.ready')) resolve(performance.now() - startedMs);
    });
    child.once('exit', (code) => reject(new Error(`the agent of ${name} ended with ${code}:\n${log}`)));
  });
  const startMs = await ready;
  const programs = () => programsOf(child.pid, root);
  return {
    name,
    root,
    machine,
    child,
    startMs,
    log: () => log,
    programs,
    async stop() {
      child.removeAllListeners('exit');
      const all = programs();
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGCONT');
      child.kill('SIGTERM');
      await gone;
      for (const { pid } of all) {
        try {
          process.kill(pid, 'SIGTERM');
        } catch {
          // It has ended with its agent.
        }
      }
      await sleep(300);
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** The agent, its skos-net, skos-gpu, skos-units and actuator, by their command lines. */
function programsOf(agentPid, root) {
  const found = [{ name: 'skos-agent', pid: agentPid }];
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    const read = (leaf) => {
      try {
        return readFileSync(`/proc/${pid}/${leaf}`, 'utf8');
      } catch {
        return ''; // It ended while we looked.
      }
    };
    const command = read('cmdline');
    const native = ['skos-actuator', 'skos-gpu', 'skos-units'].find((name) => command.includes(name));
    if (native !== undefined && command.includes(root)) found.push({ name: native, pid: Number(pid) });
    else if (command.includes('net.js') && read('environ').includes(root))
      found.push({ name: 'skos-net', pid: Number(pid) });
  }
  return found;
}

/**
 * Niceness of a process, and of its session: where the kernel groups processes by sessions (CONFIG_SCHED_AUTOGROUP, on in most
 * distributions), niceness counts within a session alone. To lower it takes root; without, all stays as it is.
 */
export function setNiceness(pid, niceness) {
  try {
    for (const task of readdirSync(`/proc/${pid}/task`)) setPriority(Number(task), niceness);
    writeFileSync(`/proc/${pid}/autogroup`, String(niceness));
  } catch {
    // Not root, or no groups.
  }
}

/** Milliseconds that the main thread of a process was ready to run and had no processor, since it began. */
export function waitedMs(pid) {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6;
}

const TICKS_PER_SECOND = 100; // USER_HZ of every Linux that Node.js runs on.

/** CPU time of a process so far, milliseconds. */
export function cpuMs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_PER_SECOND;
}

/** Memory in MB as the kernel counts it: Pss shares what several processes map, Rss does not. */
export function memoryMb(pid, field) {
  const line = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8').match(new RegExp(`^${field}:\\s+(\\d+)`, 'm'));
  return Number(line[1]) / 1024;
}

export function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}
