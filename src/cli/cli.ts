/**
 * `skos`: the operator's tool, a client of the agent's socket. Arguments are understood here and nowhere else; each command
 * is a file. What goes wrong ends as one message with its code and the next step, and as an exit code that scripts can use.
 */
import { parseArgs } from 'node:util';
import { type LoadedConfig, loadConfig } from '../config/load.js';
import { configShape } from '../config/schema.js';
import { AgentClient, agentSocketPath } from '../core/agent-client.js';
import { reason, SkosError } from '../core/errors.js';
import { suggest } from '../core/suggest.js';
import { actions } from './actions.js';
import { alerts } from './alerts.js';
import { antibody } from './antibody.js';
import { approve } from './approve.js';
import { arm, disarm } from './arm.js';
import { audit } from './audit.js';
import { backup } from './backup.js';
import { breaker } from './breaker.js';
import { chain } from './chain.js';
import type { Command, Context, Invocation, Io } from './command.js';
import { config } from './config.js';
import { doctor } from './doctor.js';
import { EXIT, exitCodeOf } from './exit-codes.js';
import { explain } from './explain.js';
import { paint } from './format.js';
import { gpu } from './gpu.js';
import { COMMON_OPTIONS, commandHelp, overview } from './help.js';
import { history } from './history.js';
import { hold } from './hold.js';
import { inventory } from './inventory.js';
import { log } from './log.js';
import { memory } from './memory.js';
import { orders } from './orders.js';
import { outbox } from './outbox.js';
import { recorder } from './recorder.js';
import { release } from './release.js';
import { replay } from './replay.js';
import { restore } from './restore.js';
import { sensors } from './sensors.js';
import { silence } from './silence.js';
import { simulate } from './simulate.js';
import { status } from './status.js';
import { token } from './token.js';
import { workload } from './workload.js';

/** In the order of the overview: look, act, record, configure. */
export const COMMANDS: readonly Command[] = [
  status,
  sensors,
  gpu,
  doctor,
  alerts,
  actions,
  recorder,
  history,
  approve,
  release,
  hold,
  breaker,
  memory,
  silence,
  orders,
  workload,
  chain,
  antibody,
  token,
  outbox,
  arm,
  disarm,
  audit,
  backup,
  restore,
  config,
  replay,
  simulate,
  log,
  explain,
  inventory,
];

/** Runs one command line; never throws. */
export async function runCli(argv: readonly string[], io: Io): Promise<number> {
  try {
    return await dispatch(argv, io);
  } catch (error) {
    io.err(errorText(error, { io, word: argv[0] }));
    return exitCodeOf(error);
  }
}

async function dispatch([word, ...rest]: readonly string[], io: Io): Promise<number> {
  if (word === undefined) {
    io.err(overview(COMMANDS, io));
    return EXIT.usage;
  }
  if (word === '--help' || word === '-h' || word === 'help') {
    const topic = COMMANDS.find(({ name }) => name === rest[0]);
    io.out(topic === undefined ? overview(COMMANDS, io) : commandHelp(topic, io));
    return EXIT.ok;
  }
  const command = commandNamed(word);
  const invocation = understood(command, rest);
  if (invocation.values.help === true) {
    io.out(commandHelp(command, io));
    return EXIT.ok;
  }
  return withContext(invocation, io, (context) => command.run(invocation, context));
}

function commandNamed(word: string): Command {
  const found = COMMANDS.find(({ name }) => name === word);
  if (found !== undefined) return found;
  const close = suggest(
    word,
    COMMANDS.map(({ name }) => name),
  );
  const hint = close === undefined ? '`skos --help` lists them' : `did you mean skos ${close}?`;
  throw new SkosError('SKOS_CLI_USAGE', `there is no command "${word}"; ${hint}`);
}

function understood(command: Command, args: readonly string[]): Invocation {
  const options = { ...command.options, ...COMMON_OPTIONS };
  try {
    const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
    const most = Math.max(...command.usage.map(positionalCount));
    const extra = positionals[most];
    if (extra !== undefined) throw new SkosError('SKOS_CLI_USAGE', `"${extra}" is one word too many`);
    return { values, positionals };
  } catch (error) {
    if (error instanceof SkosError) throw error;
    throw new SkosError('SKOS_CLI_USAGE', usageText(error, Object.keys(options)), { cause: error });
  }
}

/** Words of a usage line that are no options: "config explain [KEY] [--json]" has two behind the command. */
function positionalCount(usage: string): number {
  const words = usage.replaceAll(/\[-[^\]]*\]/g, '').split(' ');
  return words.filter((word) => word !== '' && !word.startsWith('-')).length - 1;
}

function usageText(error: unknown, names: readonly string[]): string {
  const text = reason(error).split(/\. |\n/)[0] ?? '';
  const [, name] = /'(?:-\w, )?--?([^' ]+)/.exec(text) ?? [];
  if (name === undefined) return text;
  // Node.js has three lines for it.
  if (text.includes('ambiguous')) return `--${name} needs a value; one that begins with "-" is written --${name}=-1`;
  const close = names.includes(name) ? undefined : suggest(name, names);
  return `${text}${close === undefined ? '' : `; did you mean --${close}?`}`;
}

// ---- What a command is given ---------------------------------------------------------------------------------------

async function withContext(
  invocation: Invocation,
  io: Io,
  run: (context: Context) => Promise<number>,
): Promise<number> {
  const file = typeof invocation.values.config === 'string' ? invocation.values.config : undefined;
  const load = () => loadConfig({ file, env: io.env });
  let client: AgentClient | undefined;
  const socketPath = async () => agentSocketPath({ env: io.env, dataDir: await dataDir(load, io) });
  const connect = async () => {
    const path = await socketPath();
    client = new AgentClient();
    await client.connect(path);
    return client;
  };
  try {
    return await run({ io, config: load, socketPath, agent: connect });
  } finally {
    client?.close();
  }
}

/** A broken configuration must not keep an operator from a running agent, which still runs on the old one. */
async function dataDir(load: () => Promise<LoadedConfig>, io: Io): Promise<string> {
  try {
    return (await load()).config.data_dir;
  } catch (error) {
    io.err(
      `skos: the configuration cannot be used, so that the agent is looked for at its default place (${reason(error).split('\n')[0]})`,
    );
    return configShape.check({}, [], []).data_dir;
  }
}

function errorText(error: unknown, { io, word }: { io: Pick<Io, 'color'>; word: string | undefined }): string {
  const { bad } = paint(io.color);
  if (!(error instanceof SkosError)) return `${bad('skos')}: ${reason(error)}`;
  const lines = error.message.split('\n');
  const message = lines.length === 1 ? ` ${lines[0]}` : lines.map((line) => `\n  ${line}`).join('');
  return `${bad('skos')}: ${error.code}:${message}\nnext: ${nextStep(error, word)}`;
}

/** The overview is of no use to who has found the command. */
function nextStep({ code, next }: SkosError, word: string | undefined): string {
  const known = code === 'SKOS_CLI_USAGE' && COMMANDS.some(({ name }) => name === word);
  return known ? `See \`skos ${word} --help\`.` : next;
}
