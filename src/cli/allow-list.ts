/** Where the allow-list lies, for whom it is made, and how it is compiled for this machine: shared by three commands. */
import { existsSync, lstatSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Config } from '../config/schema.js';
import { Machine } from '../control/machine.js';
import type { Channel } from '../core/channel.js';
import { SkosError } from '../core/errors.js';
import { loadAddon } from '../sensors/addon.js';
import { type GpuLookOptions, lookAtGpus } from '../sensors/gpu-look.js';
import type { Context, Io } from './command.js';
import { plural } from './format.js';
import { userId } from './users.js';

export const INSTALLED_FILE = '/etc/skos/actuator.allow';
const RUN_FILE = 'actuator.allow';
/** The user that systemd's units run the agent as. */
const AGENT_USER = 'skos';
/** Nothing waits for the list but an actuator that has none yet; a node that has just booted may be busy. */
const SOURCE_DEADLINE_MS = 20_000;
/** Beside the agent's socket, as the agent starts it. */
const GPU_SOCKET = 'gpu.sock';
/** A GPU that is still being opened then gets the bounds of the table. */
const GPU_DEADLINE_MS = 5_000;

/**
 * As named; else in $SKOS_RUN_DIR; else beside the socket of an agent that has an actuator of its own as a child; else where
 * the installed actuator reads it.
 */
export async function allowListFile(
  { io, socketPath }: { io: Pick<Io, 'env' | 'euid'>; socketPath: Context['socketPath'] },
  given: string | undefined,
): Promise<string> {
  if (given !== undefined) return given;
  if (io.env.SKOS_RUN_DIR) return join(io.env.SKOS_RUN_DIR, RUN_FILE);
  return ownBeside(await socketPath(), { name: RUN_FILE, euid: io.euid }) ?? INSTALLED_FILE;
}

/**
 * What lies beside the agent's socket, if it is root's or of who asks: the installed agent may write there, and must neither lead
 * root's `skos disarm` away from the list that the actuator reads, nor tell it of GPUs that stand any heat.
 */
function ownBeside(socketPath: string, { name, euid }: { name: string; euid: number }): string | undefined {
  const path = join(dirname(socketPath), name);
  const owner = lstatSync(path, { throwIfNoEntry: false })?.uid;
  return owner === 0 || owner === euid ? path : undefined;
}

export interface CompileForMachine {
  readonly config: Config;
  readonly io: Pick<Io, 'env' | 'euid'>;
  readonly socketPath: string;
  /** User name or id that --controller names. */
  readonly controller?: string | undefined;
}

export interface CompiledList {
  readonly text: string;
  /** Sources of sensors that did not answer: what watches theirs is not in the list. */
  readonly unanswered: readonly string[];
}

/** The allow-list for this machine. */
export async function compileForMachine(options: CompileForMachine): Promise<CompiledList> {
  const { config, io, socketPath, controller } = options;
  const machine = new Machine(io.env);
  const { channels, unanswered = [] } = await machine.discover(config, { sourceDeadlineMs: SOURCE_DEADLINE_MS });
  const gpus = await describedGpus(config, { socketPath, euid: io.euid });
  const uid = await controllerUid({ controller, socketPath, euid: io.euid });
  const text = await machine.allowList({ config, channels: [...channels, ...gpus], controllerUid: uid });
  return { text, unanswered };
}

/** Of a skos-gpu that is a child of the agent at `socketPath`, else of the installed one. */
async function describedGpus(
  { gpu }: Config,
  { socketPath, euid }: { socketPath: string; euid: number },
): Promise<Channel[]> {
  if (gpu.mode === 'off') return [];
  const path = ownBeside(socketPath, { name: GPU_SOCKET, euid }) ?? gpu.socket;
  if (!existsSync(path)) return [];
  const addon = loadAddon();
  const connect: GpuLookOptions['connect'] = (at, onPacket) => {
    const socket = addon.createSeqPacket(onPacket);
    const error = socket.connect(at);
    if (error !== 0) throw new Error(`errno ${error}`);
    return { send: (packet) => socket.send(packet), close: () => socket.close() };
  };
  return lookAtGpus({ path, deadlineMs: GPU_DEADLINE_MS, connect, openRegion: addon.openRegion });
}

/**
 * SKOS_ACTUATOR_SENSORS where standing orders would be lost because their sensors were not found in time: a node that is too busy
 * for that, as at its boot, needs them more than any other.
 */
export function requireOrders(
  { text, unanswered }: CompiledList,
  { former, file }: { former: string | undefined; file: string },
): void {
  if (former === undefined || unanswered.length === 0) return;
  const orders = (list: string) => [...list.matchAll(/^order (\S+) /gm)].map(([, name = '']) => name);
  const kept = new Set(orders(text));
  const lost = orders(former).filter((name) => !kept.has(name));
  if (lost.length === 0) return;
  const would = `without ${unanswered.join(', ')}, which did not answer, it would lose ${plural(lost.length, 'standing order')}`;
  throw new SkosError('SKOS_ACTUATOR_SENSORS', `${file} stays as it is: ${would}`);
}

/** As named; else who owns the agent's socket; else the installed agent's user; else who asks. */
async function controllerUid(options: {
  controller: string | undefined;
  socketPath: string;
  euid: number;
}): Promise<number> {
  const { controller, socketPath, euid } = options;
  if (controller !== undefined) {
    const uid = /^\d{1,10}$/.test(controller) ? Number(controller) : await userId(controller);
    if (uid === undefined)
      throw new SkosError('SKOS_CLI_USAGE', `there is no user "${controller}"; expected a name or a user id`);
    return uid;
  }
  const socket = await stat(socketPath).catch(() => undefined); // Absent: no agent runs.
  return socket?.uid ?? (await userId(AGENT_USER)) ?? euid;
}
