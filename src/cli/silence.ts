/** `skos silence`: for a while nobody is notified of alerts that match. What is done about them is not touched. */
import { SkosError } from '../core/errors.js';
import type { SilenceView } from '../core/protocol.js';
import { type Command, type Context, type Invocation, type Io, textOption } from './command.js';
import { durationSeconds } from './duration.js';
import { EXIT } from './exit-codes.js';
import { clean, clockText, paint, plural, spanText } from './format.js';
import { subcommand } from './subcommand.js';
import { tableLines, wrapped } from './table.js';

const DEFAULT_FOR = '1h';
const MAX_FOR_SECONDS = 30 * 86_400;

export const silence: Command = {
  name: 'silence',
  summary: 'notify nobody of some alerts for a while',
  usage: ['silence add PATTERN [--for DURATION] [--why TEXT]', 'silence list [--json]', 'silence end ID'],
  details:
    'PATTERN is a rule, or a glob over rules, channels and alert ids (* within a segment, ** across them). Alerts that match are recorded, ' +
    'shown and retained as ever, marked as silenced; no transition is published and the journal has them as info. When a silence is ' +
    'over, what still stands is told. Actions are not touched: `skos hold` begins nothing new, `skos release` takes back.',
  options: { for: { type: 'string' }, why: { type: 'string' }, json: { type: 'boolean' } },
  optionHelp: {
    for: 'DURATION: how long (default 1h, at most 30d)',
    why: 'TEXT: for the list and the audit log',
    json: 'a JSON array (times are milliseconds since the Unix epoch)',
  },
  examples: [
    ['skos silence add storage --for 2h --why "moving data"', 'One rule.'],
    ['skos silence add "hwmon/nct6798/**" --for 3d', 'Every sensor of a chip.'],
    ['skos silence end 3fa9c1', 'Done earlier.'],
  ],

  async run(invocation, context) {
    const [word, rest] = subcommand(invocation.positionals, { command: 'silence', known: ['add', 'list', 'end'] });
    if (word === 'list') return list(invocation, context);
    return word === 'add' ? add(rest, invocation, context) : end(rest, context);
  },
};

async function add(
  pattern: string | undefined,
  { values }: Invocation,
  { io, agent }: Pick<Context, 'io' | 'agent'>,
): Promise<number> {
  if (pattern === undefined) throw new SkosError('SKOS_CLI_USAGE', 'expected a rule, a channel or a glob to silence');
  const forSeconds = durationSeconds(textOption(values, 'for') ?? DEFAULT_FOR, MAX_FOR_SECONDS);
  if (forSeconds === 0) throw new SkosError('SKOS_CLI_USAGE', '--for 0 is no silence; `skos silence end ID` ends one');
  const why = textOption(values, 'why');
  const params = { pattern, forSeconds, ...(why === undefined ? {} : { why }) };
  const { silence: made, alerts, rules, channels } = await (await agent()).request('silence.add', params);
  io.out(`Silence ${made.id}: ${clean(pattern)}, until ${clockText(made.untilAtMs)}.`);
  if (rules + channels + alerts === 0) {
    io.out(paint(io.color).warn('It covers no rule, no channel and no alert of this node as it is now.'));
  } else {
    io.out(
      `It covers ${plural(rules, 'rule')}, ${plural(channels, 'channel')}, and ${plural(alerts, 'alert')} that stand now.`,
    );
  }
  return EXIT.ok;
}

async function end(id: string | undefined, { io, agent }: Context): Promise<number> {
  if (id === undefined) throw new SkosError('SKOS_CLI_USAGE', 'expected the id that `skos silence list` shows');
  const ended = await (await agent()).request('silence.end', { id });
  io.out(`Silence ${ended.id} (${clean(ended.pattern)}) is over; what still stands is told now.`);
  return EXIT.ok;
}

async function list({ values }: Invocation, { io, agent }: Context): Promise<number> {
  const silences = await (await agent()).request('silences', {});
  io.out(values.json === true ? JSON.stringify(silences, null, 2) : silencesText(silences, io));
  return EXIT.ok;
}

function silencesText(
  silences: readonly SilenceView[],
  { color, columns, wallMs }: Pick<Io, 'color' | 'columns' | 'wallMs'>,
): string {
  if (silences.length === 0) return 'Nothing is silenced.';
  const { dim } = paint(color);
  return silences
    .flatMap(({ id, pattern, untilAtMs, who, why }) => {
      const row = [
        { text: id },
        { text: clean(pattern) },
        { text: `for ${spanText(untilAtMs - wallMs())} more` },
        { text: `by ${clean(who)}`, paint: dim },
      ];
      const line = tableLines({ columns: [{}, { shrinkTo: 12 }, {}, {}], rows: [row], width: columns });
      return why === '' ? line : [...line, ...wrapped(clean(why), { width: columns, indent: '  ' })];
    })
    .join('\n');
}
