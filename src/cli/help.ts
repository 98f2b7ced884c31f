/** Help texts, made from the commands themselves. All lines fit 80 columns. */
import type { Command, Io } from './command.js';
import { EXIT, EXIT_MEANINGS } from './exit-codes.js';
import { paint } from './format.js';
import { tableLines, wrapped } from './table.js';

/** Options that every command takes. */
export const COMMON_OPTIONS = {
  config: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const;

const COMMON_HELP: Readonly<Record<string, string>> = {
  config: 'configuration (default: $SKOS_CONFIG or /etc/skos/skos.yaml)',
  help: 'this help',
};

const HELP_WIDTH = 80;

export function overview(commands: readonly Command[], io: Pick<Io, 'color'>): string {
  const { bold } = paint(io.color);
  const rows = [
    ['run', 'start the agent with its parts as children (see: skos run --help)'],
    ...commands.map(({ name, summary }) => [name, summary]),
  ];
  const lines = [
    'skos: immune system of a bare-metal GPU node',
    '',
    `${bold('Usage:')} skos COMMAND [OPTIONS]      skos COMMAND --help for examples`,
    '',
    bold('Commands:'),
    ...definitions(rows),
    '',
    bold('Common options:'),
    ...definitions([
      ['--config FILE', COMMON_HELP.config ?? ''],
      ['-h, --help', COMMON_HELP.help ?? ''],
    ]),
    '',
    bold('Environment:'),
    ...definitions([
      ['SKOS_RUN_DIR', 'where the sockets are (default: /run/skos, else data_dir)'],
      ['NO_COLOR', 'any value: no colours'],
    ]),
    '',
    ...exitCodes(io),
  ];
  return lines.join('\n');
}

export function commandHelp(command: Command, io: Pick<Io, 'color'>): string {
  const { bold } = paint(io.color);
  const lines = [
    `skos ${command.name}: ${command.summary}`,
    '',
    bold('Usage:'),
    ...command.usage.map((each) => `  skos ${each}`),
    '',
    ...(command.details === undefined ? [] : [...wrapped(command.details, { width: HELP_WIDTH }), '']),
    bold('Options:'),
    ...definitions(optionRows(command)),
    '',
    bold('Examples:'),
    ...command.examples.flatMap(([example, what]) => [
      `  ${example}`,
      ...wrapped(what, { width: HELP_WIDTH, indent: '      ' }),
    ]),
    '',
    bold('Exit codes:'),
    ...wrapped(exitCodeWords(), { width: HELP_WIDTH, indent: '  ' }),
  ];
  return lines.join('\n');
}

/** "0 ok, 1 failed, …": the whole table stands in the overview. */
function exitCodeWords(): string {
  const words = (name: string) => name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return Object.entries(EXIT)
    .map(([name, code]) => `${code} ${words(name)}`)
    .join(', ');
}

function optionRows({ options, optionHelp }: Command): string[][] {
  const all = Object.entries({ ...options, ...COMMON_OPTIONS });
  return all.map(([name, option]) => {
    const short = 'short' in option ? `-${option.short}, ` : '';
    const [value = '', text = ''] = splitHelp(optionHelp[name] ?? COMMON_HELP[name] ?? '', option.type, name);
    return [`${short}--${name}${value}`, text];
  });
}

/** "FILE: text" of a string option names its value. */
function splitHelp(help: string, type: string, name: string): string[] {
  if (type !== 'string') return ['', help];
  if (name === 'config') return [' FILE', help];
  const [, value = 'VALUE', text = help] = /^([A-Z]+): (.*)$/s.exec(help) ?? [];
  return [` ${value}`, text];
}

function definitions(rows: readonly (readonly string[])[]): string[] {
  const width = Math.max(...rows.map(([term = '']) => term.length));
  return rows.flatMap(([term = '', text = '']) => {
    const [first = '', ...more] = wrapped(text, { width: HELP_WIDTH - width - 4 });
    return [`  ${term.padEnd(width)}  ${first}`, ...more.map((line) => ' '.repeat(width + 4) + line)];
  });
}

function exitCodes({ color }: Pick<Io, 'color'>): string[] {
  const rows = Object.entries(EXIT_MEANINGS).map(([code, meaning]) => [{ text: code }, { text: meaning }]);
  return [paint(color).bold('Exit codes:'), ...tableLines({ columns: [{}, {}], rows, width: HELP_WIDTH, indent: 2 })];
}
