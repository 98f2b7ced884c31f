/** `skos log level`: more or less talk from a running agent, for a while, without touching its configuration. */
import { SkosError } from '../core/errors.js';
import { suggest } from '../core/suggest.js';
import { LOG_LEVELS, type LogLevel } from '../core/vocabulary.js';
import { type Command, textOption } from './command.js';
import { durationSeconds } from './duration.js';
import { EXIT } from './exit-codes.js';
import { clockText } from './format.js';
import { subcommand } from './subcommand.js';

export const log: Command = {
  name: 'log',
  summary: 'change the log level of the running agent for a while',
  usage: ['log level LEVEL [--for DURATION]'],
  details: `LEVEL is one of ${LOG_LEVELS.join(', ')}.`,
  options: { for: { type: 'string' } },
  optionHelp: { for: 'DURATION: then back to log.level (default: until the agent restarts)' },
  examples: [['skos log level debug --for 10m', 'Look closely for ten minutes.']],

  async run({ values, positionals }, { io, agent }) {
    const [, word] = subcommand(positionals, { command: 'log', known: ['level'] });
    const level = knownLevel(word);
    const duration = textOption(values, 'for');
    const params = { level, ...(duration === undefined ? {} : { forSeconds: durationSeconds(duration) }) };
    const answer = await (await agent()).request('log.level', params);
    const until = answer.untilAtMs === null ? '' : ` until ${clockText(answer.untilAtMs)}`;
    io.out(`Log level ${answer.level}${until}.`);
    return EXIT.ok;
  },
};

function knownLevel(word: string | undefined): LogLevel {
  const found = LOG_LEVELS.find((level) => level === word?.toLowerCase());
  if (found !== undefined) return found;
  const close = word === undefined ? undefined : suggest(word, LOG_LEVELS);
  const hint = close === undefined ? `expected one of ${LOG_LEVELS.join(', ')}` : `did you mean ${close}?`;
  throw new SkosError('SKOS_CLI_USAGE', `"${word ?? ''}" is not a log level; ${hint}`);
}
