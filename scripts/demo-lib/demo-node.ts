/**
 * A node of a demonstration's own: `scripts/skos run` with a directory and a port that nobody else uses. It is seen only as
 * every operator sees it, through `skos` and mosquitto_sub.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Status } from '../../src/core/protocol.js';
import { pause, type Stage, until } from './stage.js';

const START_DEADLINE_S = 30;
/** An agent stops its children in order, each with a deadline of its own. */
const STOP_DEADLINE_S = 15;
const LOG_TAIL_LINES = 15;
const POLL_MS = 100;

export interface Message {
  readonly topic: string;
  /** As it came, one line. */
  readonly text: string;
  /** Its JSON; undefined for a retained topic that was emptied. */
  readonly json: unknown;
}

export interface Answer {
  readonly status: number;
  readonly text: string;
}

export interface DemoNodeOptions {
  readonly stage: Stage;
  readonly directory: string;
  /** YAML; data_dir and mqtt are added. */
  readonly config: string;
  /** Roots of a simulated machine; empty for the real one. */
  readonly roots: Readonly<Record<string, string>>;
  readonly onMessage: (message: Message) => void;
}

export class DemoNode {
  readonly #options: DemoNodeOptions;
  readonly #env: NodeJS.ProcessEnv;
  readonly #configFile: string;
  readonly #logFile: string;
  #port = 0;
  #agent: ChildProcess | undefined;

  constructor(options: DemoNodeOptions) {
    this.#options = options;
    this.#configFile = join(options.directory, 'skos.yaml');
    this.#logFile = join(options.directory, 'agent.log');
    this.#env = {
      ...withoutOurs(process.env),
      ...options.roots,
      // Whose processes they are, for whoever looks at /proc.
      SKOS_DEMO: String(process.pid),
      SKOS_NODE: process.execPath,
      SKOS_RUN_DIR: join(options.directory, 'run'),
      SKOS_CONFIG: this.#configFile,
    };
  }

  get port(): number {
    return this.#port;
  }

  /** Resolves when the agent ticks and its broker has said something to mosquitto_sub. */
  async start(): Promise<Status> {
    const { directory, config, stage } = this.#options;
    mkdirSync(join(directory, 'run'));
    this.#port = await freePort();
    const own = `data_dir: ${directory}/data\nmqtt: { listen: "127.0.0.1:${this.#port}" }\n`;
    writeFileSync(this.#configFile, own + config);
    stage.onEnd(() => this.#stop());
    stage.onFailure(() => `The agent's last words:\n${this.#logTail()}`);
    this.#startAgent();
    const status = await this.#ready();
    await this.#subscribe();
    return status;
  }

  /** Runs `skos` and returns what it printed. Not synchronously: a simulated machine must go on meanwhile. */
  skos(...args: string[]): Promise<Answer> {
    return new Promise((resolve) => {
      execFile(skosProgram(), args, { env: this.#env }, (error, stdout, stderr) => {
        const status = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
        resolve({ status, text: `${stdout}${stderr}`.trimEnd() });
      });
    });
  }

  async status(): Promise<Status> {
    const { status, text } = await this.skos('status', '--json');
    if (status !== 0) throw new Error(text);
    return JSON.parse(text) as Status;
  }

  /** In a session of its own, so that Ctrl-C reaches the demonstration alone, which then stops it in order. */
  #startAgent(): void {
    const log = openSync(this.#logFile, 'a');
    const args = ['run', '--config', this.#configFile];
    this.#agent = spawn(skosProgram(), args, { env: this.#env, detached: true, stdio: ['ignore', log, log] });
    closeSync(log);
  }

  async #ready(): Promise<Status> {
    const endMs = performance.now() + START_DEADLINE_S * 1000;
    let why = 'it does not answer';
    while (performance.now() < endMs) {
      if (hasEnded(this.#agent)) break;
      const { status, text } = await this.skos('status', '--json');
      const answer = status === 0 ? (JSON.parse(text) as Status) : undefined;
      if (answer?.net.connected === true) return answer;
      why = answer?.net.why ?? text;
      await pause(POLL_MS);
    }
    throw new Error(`the agent did not start: ${why}`);
  }

  async #subscribe(): Promise<void> {
    const { stage, onMessage } = this.#options;
    const args = ['-h', '127.0.0.1', '-p', String(this.#port), '-t', 'skos/#', '-v'];
    const child = spawn('mosquitto_sub', args, { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
    stage.onEnd(() => void child.kill());
    let failure: Error | undefined;
    let heard = false;
    child.on('error', (error) => {
      failure = new Error(`mosquitto_sub cannot be run (Debian: mosquitto-clients): ${error.message}`);
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      heard = true;
      onMessage(messageOf(line));
    });
    await until(
      'a message for mosquitto_sub',
      () => heard || failure !== undefined || hasEnded(child),
      START_DEADLINE_S,
    );
    if (failure !== undefined) throw failure;
    if (!heard) throw new Error('mosquitto_sub ended without a message');
  }

  /** The agent, then what it leaves running: an actuator with leases, which gives everything back on SIGTERM. */
  async #stop(): Promise<void> {
    const agent = this.#agent;
    if (agent?.pid !== undefined && !hasEnded(agent)) await end(agent.pid, () => hasEnded(agent));
    for (const pid of this.#leftBehind()) await end(pid, () => !existsSync(`/proc/${pid}`));
  }

  /** Processes whose command line names our directory, which no other has. */
  #leftBehind(): number[] {
    const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
    return pids.filter((pid) => commandLine(pid).includes(`${this.#options.directory}/`)).map(Number);
  }

  #logTail(): string {
    const lines = readFileSync(this.#logFile, 'utf8').trimEnd().split('\n');
    return lines.slice(-LOG_TAIL_LINES).join('\n');
  }
}

async function end(pid: number, hasGone: () => boolean): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    try {
      process.kill(pid, signal);
    } catch {
      return; // It has ended by itself.
    }
    try {
      await until(`the end of process ${pid}`, hasGone, STOP_DEADLINE_S);
      return;
    } catch (error) {
      if (signal === 'SIGKILL') throw error;
    }
  }
}

function hasEnded(child: ChildProcess | undefined): boolean {
  return child === undefined || child.exitCode !== null || child.signalCode !== null || child.pid === undefined;
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return ''; // It has ended between the two looks.
  }
}

/** "topic payload" as `mosquitto_sub -v` writes it; "(null)" is an emptied retained topic. */
function messageOf(line: string): Message {
  const blank = line.indexOf(' ');
  const text = line.slice(blank + 1);
  return { topic: line.slice(0, blank), text, json: text === '(null)' ? undefined : JSON.parse(text) };
}

/** The user's own settings would change what is shown. */
function withoutOurs(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const ours = /^(SKOS_.*|NODE_NAME|MQTT_URL|NATS_URL|HEARTBEAT_TIMEOUT|MONITOR_INTERVAL|.*_TEMP|LOG_LEVEL)$/;
  return Object.fromEntries(Object.entries(env).filter(([name]) => !ours.test(name)));
}

/** This file runs compiled, somewhere below the checkout. */
function skosProgram(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'scripts/skos'))) directory = dirname(directory);
  return join(directory, 'scripts/skos');
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
