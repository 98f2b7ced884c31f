/** `skos config`: check, explain, compile, suggest. None of them changes the running agent. */
import { type ExplainedKey, explainConfig } from '../config/explain.js';
import type { LoadedConfig } from '../config/load.js';
import { readIfThere, writeAtomically } from '../core/atomic-file.js';
import { SkosError } from '../core/errors.js';
import { actFileChanges, missingPlans, writeActFiles } from './act-files.js';
import { allowListFile, compileForMachine, requireOrders } from './allow-list.js';
import { type Command, type Context, type Invocation, type Io, textOption } from './command.js';
import { EXIT } from './exit-codes.js';
import { paint, plural } from './format.js';
import { lineDiff } from './line-diff.js';
import { subcommand } from './subcommand.js';
import { suggest } from './suggest.js';
import { wrapped } from './table.js';

export const config: Command = {
  name: 'config',
  summary: 'check, explain, compile the configuration, or suggest thresholds',
  usage: [
    'config check',
    'config explain [KEY] [--json]',
    'config compile [--output FILE] [--controller USER] [--dry-run]',
    'config suggest [--since 1w]',
  ],
  details:
    "The file, then conf.d/*.yaml beside it, then the environment. `compile` makes skos-actuator's " +
    'allow-list of it, for this machine; the actuator accepts no other word about what it may move. It ' +
    'takes effect when the actuator reads it again (`systemctl reload skos-actuator`, or SIGHUP to the ' +
    'agent). Installed, it also makes the plans of what storage.cleanup names, and lets the units write there and nowhere ' +
    'else. `suggest` prints rules made of what this node ordinarily does, as YAML with the reasons.',
  options: {
    json: { type: 'boolean' },
    output: { type: 'string', short: 'o' },
    controller: { type: 'string' },
    'dry-run': { type: 'boolean', short: 'n' },
    since: { type: 'string' },
  },
  optionHelp: {
    json: 'explain: a JSON array',
    output: 'FILE: compile: where to (default: as `skos arm` finds it; - for standard output)',
    controller: "USER: compile: who may control the actuator (default: the owner of the agent's socket, else skos)",
    'dry-run': 'compile: show what would change, write nothing',
    since: 'DURATION: suggest: how far back to look (default 1w)',
  },
  examples: [
    ['skos config check --config /tmp/new.yaml', 'Every fault with file, line and what was expected; exit code 4.'],
    ['skos config explain thermal', 'Each key below it: default, value in force, where that was written.'],
    ['sudo skos config compile --dry-run', 'What the allow-list would become.'],
    ['skos config suggest > /tmp/suggested.yaml', 'To be read, and put into conf.d if you agree.'],
  ],

  async run(invocation, context) {
    const known = ['check', 'explain', 'compile', 'suggest'] as const;
    const [verb, ...rest] = subcommand(invocation.positionals, { command: 'config', known });
    if (verb === 'check') return check(context);
    if (verb === 'suggest') return suggest(invocation, context);
    if (verb === 'explain') return explain({ ...invocation, positionals: rest }, context);
    return compile(invocation, context);
  },
};

async function check({ io, config: load }: Context): Promise<number> {
  const { files, notices, config: inForce } = await load();
  for (const notice of notices) io.out(`${paint(io.color).warn('notice')}: ${notice}`);
  const read = files.length === 0 ? 'no file, defaults' : `${plural(files.length, 'file')}`;
  io.out(`The configuration is valid (${read}): node ${inForce.node}, mode ${inForce.mode}.`);
  for (const file of files) io.out(`  ${file}`);
  return EXIT.ok;
}

// ---- explain -------------------------------------------------------------------------------------------------------

async function explain({ values, positionals: [key] }: Invocation, { io, config: load }: Context): Promise<number> {
  const keys = explainConfig(await load(), key);
  if (values.json === true) io.out(JSON.stringify(keys, null, 2));
  else io.out(keys.map((each) => explainedText(each, io)).join('\n'));
  return EXIT.ok;
}

function explainedText(key: ExplainedKey, { color, columns }: Pick<Io, 'color' | 'columns'>): string {
  const colors = paint(color);
  const lines = (text: string) => wrapped(text, { width: columns, indent: '    ' });
  if (key.section) return [colors.bold(key.key), ...lines(key.doc)].join('\n');
  const changed = key.origin !== undefined && key.origin !== 'default';
  const value = key.value === undefined ? '' : ` = ${key.value}`;
  return [
    `${colors.bold(key.key)}${changed ? colors.good(value) : value}`,
    ...lines(key.doc),
    ...lines(`takes ${key.expected}`),
    ...(changed ? lines(`from ${key.origin}; default ${key.default ?? 'absent'}`) : []),
    ...(key.value === undefined ? lines(key.default === undefined ? 'no default' : `default ${key.default}`) : []),
  ].join('\n');
}

// ---- compile -------------------------------------------------------------------------------------------------------

async function compile({ values }: Invocation, context: Context): Promise<number> {
  const { io, config: load, socketPath } = context;
  const loaded = await load();
  const controller = textOption(values, 'controller');
  const list = await compileForMachine({ config: loaded.config, io, socketPath: await socketPath(), controller });
  const { text } = list;
  const output = textOption(values, 'output');
  if (output === '-') {
    io.out(text.trimEnd());
    return EXIT.ok;
  }
  const file = await allowListFile(context, output);
  const former = await readIfThere(file);
  printDiff({ former, text, file }, io);
  const changes = await actFileChanges({ config: loaded.config, allowList: file }, io);
  for (const change of changes) {
    io.out(`${change.file}:`);
    printDiff({ ...change, text: change.text ?? '' }, io);
  }
  for (const missing of await missingPlans(loaded.config)) io.err(`skos: ${missing}`);
  if (values['dry-run'] === true || (former === text && changes.length === 0)) return EXIT.ok;
  requireOrders(list, { former, file });
  warnOfForeignFiles(loaded, io);
  if (output === undefined && io.euid !== 0) throw new SkosError('SKOS_CLI_ROOT', `only root may write ${file}`);
  await writeActFiles(changes, io);
  await writeAtomically(file, text);
  for (const written of changes) io.out(`${written.text === undefined ? 'Removed' : 'Written'}: ${written.file}`);
  io.out(`Written: ${file}`);
  return EXIT.ok;
}

function printDiff({ former, text, file }: { former: string | undefined; text: string; file: string }, io: Io): void {
  if (former === text) {
    io.out(`${file} is up to date.`);
    return;
  }
  const colors = paint(io.color);
  const lines = (whole: string) => whole.split('\n').slice(0, -1);
  for (const line of lineDiff(former === undefined ? [] : lines(former), lines(text))) {
    io.out(line.startsWith('+') ? colors.good(line) : line.startsWith('-') ? colors.bad(line) : colors.dim(line));
  }
}

/** The list lends root's power to whoever writes the configuration. */
function warnOfForeignFiles({ notices }: LoadedConfig, io: Io): void {
  for (const notice of notices) io.err(`skos: ${notice}`);
}
