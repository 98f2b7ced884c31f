/** Where the allow-list lies, for whom it is made, and how it is compiled for this machine: shared by three commands. */
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Config } from '../config/schema.js';
import { Machine } from '../control/machine.js';
import { readIfThere } from '../core/atomic-file.js';
import { SkosError } from '../core/errors.js';
import type { Context, Io } from './command.js';
import { userId } from './users.js';

const INSTALLED_FILE = '/etc/skos/actuator.allow';
const RUN_FILE = 'actuator.allow';
/** The user that systemd's units run the agent as. */
const AGENT_USER = 'skos';

/**
 * As named; else in $SKOS_RUN_DIR; else beside the socket of an agent that has an actuator of its own as a child; else where
 * the installed actuator reads it.
 */
export async function allowListFile({ io, socketPath }: Context, given: string | undefined): Promise<string> {
  if (given !== undefined) return given;
  if (io.env.SKOS_RUN_DIR) return join(io.env.SKOS_RUN_DIR, RUN_FILE);
  const beside = join(dirname(await socketPath()), RUN_FILE);
  return (await readIfThere(beside)) === undefined ? INSTALLED_FILE : beside;
}

export interface CompileForMachine {
  readonly config: Config;
  readonly io: Pick<Io, 'env' | 'euid'>;
  readonly socketPath: string;
  /** User name or id that --controller names. */
  readonly controller?: string | undefined;
}

/** The text of the allow-list for this machine. */
export async function compileForMachine({ config, io, socketPath, controller }: CompileForMachine): Promise<string> {
  const machine = new Machine(io.env);
  return machine.allowList({
    config,
    channels: (await machine.discover(config)).channels,
    controllerUid: await controllerUid({ controller, socketPath, euid: io.euid }),
  });
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
