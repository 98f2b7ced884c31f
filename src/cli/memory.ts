/** `skos memory`: what the node has learnt of its actions, and which ladders begin higher because of it. */
import { SkosError } from '../core/errors.js';
import type { MemoryView } from '../core/protocol.js';
import { type Command, type Context, type Invocation, type Io, textOption } from './command.js';
import { CONFIRM_HELP, CONFIRM_OPTION, confirm } from './confirm.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, plural, quantityText, spanText } from './format.js';
import { subcommand } from './subcommand.js';
import { tableLines, wrapped } from './table.js';

type Lesson = MemoryView['lessons'][number];

export const memory: Command = {
  name: 'memory',
  summary: 'what helped before, and what follows from it',
  usage: ['memory [--json]', 'memory forget PATTERN [--why TEXT] [--confirm NAME]', 'memory forget --all'],
  details:
    'For each rule, channel and action: how often it was tried, how often and how fast it helped, and by how much the value fell. Where what ' +
    'a rung does has, with 95 % confidence, not helped more often than not, and what a higher one does has, the ladder begins with ' +
    'the higher one; never with a lower one, and never with an irreversible action. memory.raise: false only remembers.',
  options: {
    all: { type: 'boolean' },
    why: { type: 'string' },
    json: { type: 'boolean' },
    confirm: CONFIRM_OPTION,
  },
  optionHelp: {
    all: 'forget: everything',
    why: 'TEXT: for the audit log',
    json: 'one JSON object (times are milliseconds since the Unix epoch)',
    confirm: CONFIRM_HELP,
  },
  examples: [
    ['skos memory', 'What has been learnt.'],
    ['skos memory forget "hwmon/coretemp/**" --why "new cooler"', 'Of a rule, a channel or an action.'],
  ],

  async run(invocation, context) {
    if (invocation.positionals.length === 0) return show(invocation, context);
    const [, pattern] = subcommand(invocation.positionals, { command: 'memory', known: ['forget'] });
    return forget(pattern, invocation, context);
  },
};

async function show({ values }: Invocation, { io, agent }: Context): Promise<number> {
  const view = await (await agent()).request('memory', {});
  io.out(values.json === true ? JSON.stringify(view, null, 2) : memoryText(view, io));
  return EXIT.ok;
}

async function forget(
  pattern: string | undefined,
  invocation: Invocation,
  { io, agent }: Pick<Context, 'io' | 'agent'>,
): Promise<number> {
  const { values } = invocation;
  if ((values.all === true) === (pattern !== undefined)) {
    throw new SkosError('SKOS_CLI_USAGE', 'expected either a rule, a channel or an action to forget, or --all');
  }
  const client = await agent();
  const { node } = await client.request('status', {});
  io.out(
    `Risk: low. What is forgotten of ${pattern === undefined ? 'everything' : clean(pattern)} must be learnt anew.`,
  );
  await confirm({ node, deed: 'to forget it' }, invocation, io);
  const why = textOption(values, 'why');
  const params = {
    ...(pattern === undefined ? {} : { pattern }),
    ...(why === undefined ? {} : { why }),
    confirm: node,
  };
  const { forgotten } = await client.request('memory.forget', params);
  io.out(forgotten === 0 ? 'Nothing is remembered of it.' : `Forgotten: ${plural(forgotten, 'lesson')}.`);
  return EXIT.ok;
}

function memoryText({ lessons, raised }: MemoryView, io: Pick<Io, 'color' | 'columns' | 'wallMs'>): string {
  if (lessons.length === 0) return 'Nothing has been learnt yet.';
  const { warn } = paint(io.color);
  const higher = raised.flatMap(({ rule, channel, severity }) =>
    wrapped(clean(`${rule} on ${channel} begins as ${severity}.`), { width: io.columns }).map(warn),
  );
  return [...lessons.flatMap((lesson) => lessonLines(lesson, io)), ...higher].join('\n');
}

function lessonLines(lesson: Lesson, { color, columns, wallMs }: Pick<Io, 'color' | 'columns' | 'wallMs'>): string[] {
  const { dim, good, bad } = paint(color);
  const { recent, rule, channel, action, attempts, lastAtMs } = lesson;
  const share = recent.isProven ? good : recent.isFutile ? bad : (text: string) => text;
  const row = [
    { text: clean(action) },
    { text: `helped ${recent.helped} of the last ${recent.observations}`, paint: share },
    { text: recent.medianTookMs === null ? '' : `in ${spanText(recent.medianTookMs)}` },
    { text: fellText(lesson) },
    { text: `${plural(attempts, 'time')} in all, ${spanText(wallMs() - lastAtMs)} ago`, paint: dim },
  ];
  return [
    ...tableLines({ columns: [{ shrinkTo: 12 }, {}, {}, {}, { shrinkTo: 12 }], rows: [row], width: columns }),
    dim(`  ${clean(rule)}, ${clean(channel)}`),
  ];
}

/** A difference of temperatures is a temperature's; of what has no unit, the number. */
function fellText({ fell, unit }: Lesson): string {
  if (fell === null) return '';
  return `${fell < 0 ? 'rose' : 'fell'} ${quantityText(Math.abs(fell), unit)}`;
}
