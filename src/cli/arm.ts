/**
 * `skos arm` and `skos disarm`: from watching to acting, and back. Root only.
 *
 * Arming is three files in step: conf.d/90-armed.yaml (mode: auto), the allow-list with its standing orders, and the running
 * agent and actuator that read both. When the last step fails, the first two are put back, so that what is written is
 * always what runs.
 */
import { dirname, join } from 'node:path';
import { DROP_IN_DIRECTORY, type LoadedConfig } from '../config/load.js';
import type { AgentClient } from '../core/agent-client.js';
import { readIfThere, restore, writeAtomically } from '../core/atomic-file.js';
import { SkosError } from '../core/errors.js';
import type { ActionRecord } from '../core/ports.js';
import type { Verbs } from '../core/protocol.js';
import { actFileChanges, missingPlans, writeActFiles } from './act-files.js';
import { allowListFile, compileForMachine } from './allow-list.js';
import { type Command, type Context, type Invocation, type Io, textOption, uninterrupted } from './command.js';
import { CONFIRM_HELP, CONFIRM_OPTION, confirm } from './confirm.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, plural } from './format.js';
import { pastSummary } from './past-summary.js';
import { tableLines, wrapped } from './table.js';

const ARMED_FILE = '90-armed.yaml';
/** Sensors are looked for anew, which takes some seconds where a driver or the machine is slow. */
const RELOAD_DEADLINE_MS = 20_000;
const ARMED_TEXT =
  "# Written by `skos arm`; `skos disarm` removes it. Later files and a rule's own mode win.\nmode: auto\n";

const options = { allow: { type: 'string' }, controller: { type: 'string' } } as const;
const optionHelp = {
  allow: "FILE: the allow-list (default: in $SKOS_RUN_DIR, else beside the agent's socket, else in /etc/skos)",
  controller: "USER: who may control the actuator (default: the owner of the agent's socket)",
};

export const arm: Command = {
  name: 'arm',
  summary: 'let the node act: shows what it would do, asks, then does it',
  usage: ['arm [--confirm NODE]'],
  details:
    'Writes conf.d/90-armed.yaml (mode: auto) beside the configuration, compiles the allow-list with its ' +
    'standing orders, and has agent and actuator read both. When that fails, everything is put back. Only ' +
    'reversible actions become automatic; others stay proposals unless auto_allow names them.',
  options: { ...options, confirm: CONFIRM_OPTION },
  optionHelp: { ...optionHelp, confirm: CONFIRM_HELP },
  examples: [
    ['sudo skos arm', "Shows what it would have done so far and would do now, asks for the node's name."],
    ['sudo skos arm --confirm nova', 'Without a question.'],
  ],

  async run(invocation, context) {
    requireRoot(context.io);
    const loaded = await context.config();
    const client = await context.agent();
    const preview = await client.request('preview', {});
    const movable = await movableTargets(loaded, invocation, context);
    context.io.out(await pastSummary(client, loaded.config, context.io));
    context.io.out(previewText({ ...preview, movable }, context.io));
    await confirm({ node: preview.node, deed: 'to arm it' }, invocation, context.io);
    const files = {
      armed: armedFile(loaded),
      allow: await allowListFile(context, textOption(invocation.values, 'allow')),
    };
    const reload = () => client.request('reload', {}, { deadlineMs: RELOAD_DEADLINE_MS });
    await transact({ files, reload, io: context.io }, async () => {
      await writeAtomically(files.armed, ARMED_TEXT);
      await compileFiles({ files, invocation, context, expected: 'auto' });
    });
    await compileActs(files.allow, context);
    context.io.out(`${paint(context.io.color).good('Armed')}: ${preview.node} acts by itself from now on.`);
    context.io.out('Take back what is held: skos release     Stop acting: sudo skos disarm');
    return EXIT.ok;
  },
};

export const disarm: Command = {
  name: 'disarm',
  summary: 'back to watching; ends what rules and standing orders hold',
  usage: ['disarm'],
  details:
    'Removes conf.d/90-armed.yaml, compiles the allow-list without standing orders and has agent and actuator read ' +
    'both: what the rules hold is released. Works without a running agent too.',
  options,
  optionHelp,
  examples: [['sudo skos disarm', 'The node watches and alerts, and acts on nothing.']],

  async run(invocation, context) {
    requireRoot(context.io);
    const loaded = await context.config();
    const files = {
      armed: armedFile(loaded),
      allow: await allowListFile(context, textOption(invocation.values, 'allow')),
    };
    const client = await runningAgent(context);
    await transact({ files, io: context.io }, async () => {
      await restore(files.armed, undefined);
      await compileFiles({ files, invocation, context, expected: 'not auto' });
    });
    await tellDisarmed(client);
    context.io.out(client === undefined ? 'Disarmed. No agent runs; it will start disarmed.' : 'Disarmed.');
    return EXIT.ok;
  },
};

function requireRoot({ euid }: Io): void {
  if (euid !== 0) throw new SkosError('SKOS_CLI_ROOT', 'only root may let a node act, or stop it');
}

function armedFile({ mainFile }: LoadedConfig): string {
  return join(dirname(mainFile), DROP_IN_DIRECTORY, ARMED_FILE);
}

async function runningAgent({ agent, io }: Context): Promise<AgentClient | undefined> {
  try {
    return await agent();
  } catch (error) {
    // Disarming must not need an agent: it may be what is broken. An agent that refuses us is another matter.
    if (!(error instanceof SkosError) || error.code !== 'SKOS_SOCKET_UNAVAILABLE') throw error;
    io.err('skos: no agent answers; a running actuator keeps its orders until it reads the list again');
    return undefined;
  }
}

// ---- Asking --------------------------------------------------------------------------------------------------------

/** What the allow-list would name: an actuator that was never armed knows none yet, and this must be shown before the question. */
async function movableTargets({ config }: LoadedConfig, { values }: Invocation, context: Context): Promise<string[]> {
  const { text } = await compileForMachine({
    config,
    io: context.io,
    socketPath: await context.socketPath(),
    controller: textOption(values, 'controller'),
  });
  return [...text.matchAll(/^target (\S+)/gm)].map(([, id = '']) => id);
}

interface Preview extends Pick<Verbs['preview']['result'], 'node' | 'actions' | 'targets'> {
  readonly movable: readonly string[];
}

function previewText({ node, actions, targets, movable }: Preview, io: Io): string {
  const { bold } = paint(io.color);
  const current = new Map(targets.map((each) => [each.target, each.current]));
  const names = movable.map((target) => {
    const value = current.get(target) ?? '';
    return [{ text: target }, { text: /\d/.test(value) ? `now ${value}` : '' }];
  });
  return [
    bold(`What ${node} would do if it were armed now:`),
    ...(actions.length === 0 ? ['  nothing: no rule fires'] : actions.flatMap((action) => previewLines(action, io))),
    bold(`What it could move: ${movable.length === 0 ? 'nothing on this machine' : plural(movable.length, 'target')}`),
    ...tableLines({ columns: [{ shrinkTo: 24 }, { shrinkTo: 12 }], rows: names, width: io.columns, indent: 2 }),
  ].join('\n');
}

function previewLines({ action, rule, severity, effects, reason }: ActionRecord, { columns }: Io): string[] {
  const on = effects.length === 0 ? '' : ` on ${effects.map(({ target }) => target).join(', ')}`;
  return wrapped(clean(`${action}${on} (rule ${rule}, ${severity}): ${reason}`), { width: columns, indent: '  ' });
}

// ---- Files ---------------------------------------------------------------------------------------------------------

interface Files {
  readonly armed: string;
  readonly allow: string;
}

interface Transaction {
  readonly files: Files;
  readonly io: Io;
  /** Asked when the files are written; when it fails, it is asked once more about the former files. */
  readonly reload?: () => Promise<unknown>;
}

/** Writes files, which Ctrl-C does not cut in two; when that or the reload fails, both are as they were. */
async function transact({ files, io, reload }: Transaction, write: () => Promise<void>): Promise<void> {
  await uninterrupted(io, async () => {
    const armed = await readIfThere(files.armed);
    const allow = await readIfThere(files.allow);
    let reloading = false;
    try {
      await write();
      reloading = true;
      await reload?.();
    } catch (error) {
      await restore(files.armed, armed);
      await restore(files.allow, allow);
      // A reload that failed late, or whose answer was lost, may have armed the agent. The first error is the one to show.
      if (reloading) await reload?.().catch(() => undefined);
      if (!(error instanceof SkosError)) throw error;
      throw new SkosError(error.code, `${error.message}\nThe files were put back as they were.`, { cause: error });
    }
  });
}

/** The files stay disarmed whatever the agent says: it may be what is broken, and must not start armed again. */
async function tellDisarmed(client: AgentClient | undefined): Promise<void> {
  try {
    await client?.request('reload', {}, { deadlineMs: RELOAD_DEADLINE_MS });
  } catch (error) {
    if (!(error instanceof SkosError)) throw error;
    const text = `${error.message}\nThe files are disarmed, but the running agent did not take them: restart it.`;
    throw new SkosError(error.code, text, { cause: error });
  }
}

interface Application {
  readonly files: Files;
  readonly invocation: Invocation;
  readonly context: Context;
  readonly expected: 'auto' | 'not auto';
}

async function compileFiles({ files, invocation, context, expected }: Application): Promise<void> {
  const loaded = await context.config();
  requireMode(loaded, expected);
  const { text, unanswered } = await compileForMachine({
    config: loaded.config,
    io: context.io,
    socketPath: await context.socketPath(),
    controller: textOption(invocation.values, 'controller'),
  });
  if (unanswered.length > 0) {
    context.io.err(`skos: ${unanswered.join(', ')} did not answer: no standing order watches their sensors`);
  }
  await writeAtomically(files.allow, text);
}

/** Last, because nothing starts a unit that deletes before the list names it, and a unit without its plan refuses to start. */
async function compileActs(allowList: string, { config: load, io }: Context): Promise<void> {
  const { config } = await load();
  for (const missing of await missingPlans(config)) io.err(`skos: ${missing}`);
  await writeActFiles(await actFileChanges({ config, allowList }, io), io);
}

/** A later drop-in or the file itself may say otherwise; then our file would do nothing, and must not look as if it did. */
function requireMode({ config, originOf }: LoadedConfig, expected: Application['expected']): void {
  if ((config.mode === 'auto') === (expected === 'auto')) return;
  throw new SkosError(
    'SKOS_CONFIG_INVALID',
    `${originOf(['mode'])}: mode is ${config.mode}, and this file has the last word`,
  );
}
