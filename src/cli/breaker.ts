/** `skos breaker`: what holds repairs back (breakers, back-off, budgets, maintenance), and the operator's word that a cause is mended. */
import { SkosError } from '../core/errors.js';
import type { BreakersView, BudgetView } from '../core/protocol.js';
import { WALL_CLOCK } from '../core/vocabulary.js';
import { type Command, type Context, type Invocation, type Io, textOption } from './command.js';
import { CONFIRM_HELP, CONFIRM_OPTION, confirm } from './confirm.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, plural, shortClockText } from './format.js';
import { subcommand } from './subcommand.js';
import { tableLines, wrapped } from './table.js';

type BreakerView = BreakersView['breakers'][number];

export const breaker: Command = {
  name: 'breaker',
  summary: 'what holds repairs back; reset a circuit breaker',
  usage: ['breaker list [--json]', 'breaker reset NAME [--why TEXT] [--confirm NAME]', 'breaker reset --all'],
  details:
    'Repairs that fail, or run and do not help, open the breaker of their action; failures on one target after the other open that of ' +
    'the kind of action on the whole node (restart_unit beside restart_unit@a). One that opened again and again is latched until it ' +
    'is reset. A reset also ends the back-off; attempts that were made stay counted. Caps are gated by nothing of this. While the clock ' +
    'is further ahead than can be believed (14 days), nothing is deleted or archived by age: `skos breaker reset wall-clock` says that ' +
    'it is right.',
  options: {
    all: { type: 'boolean' },
    why: { type: 'string' },
    json: { type: 'boolean' },
    confirm: CONFIRM_OPTION,
  },
  optionHelp: {
    all: 'reset: every breaker of this node, but not wall-clock',
    why: 'TEXT: for the audit log',
    json: 'one JSON object (times are milliseconds since the Unix epoch)',
    confirm: CONFIRM_HELP,
  },
  examples: [
    ['skos breaker list', 'What is open, until when, and how much of the budgets is used.'],
    ['skos breaker reset restart_unit@web --why "disk replaced"', 'Let it be tried again.'],
  ],

  async run(invocation, context) {
    const [word, name] = subcommand(invocation.positionals, { command: 'breaker', known: ['list', 'reset'] });
    return word === 'list' ? show(invocation, context) : reset(name, invocation, context);
  },
};

async function show({ values }: Invocation, { io, agent }: Context): Promise<number> {
  const view = await (await agent()).request('breakers', {});
  io.out(values.json === true ? JSON.stringify(view, null, 2) : breakersText(view, io));
  return EXIT.ok;
}

async function reset(
  name: string | undefined,
  invocation: Invocation,
  { io, agent }: Pick<Context, 'io' | 'agent'>,
): Promise<number> {
  const { values } = invocation;
  const isAll = values.all === true;
  if (isAll === (name !== undefined)) {
    throw new SkosError('SKOS_CLI_USAGE', 'expected either the name of a breaker or --all');
  }
  const client = await agent();
  const { node } = await client.request('status', {});
  io.out(name === WALL_CLOCK ? clockRisk(io.wallMs()) : breakerRisk(name));
  await confirm({ node, deed: 'to reset it' }, invocation, io);
  const why = textOption(values, 'why');
  const params = { ...(name === undefined ? {} : { name }), ...(why === undefined ? {} : { why }), confirm: node };
  const { reset: done } = await client.request('breaker.reset', params);
  io.out(done.length === 0 ? 'There was nothing to reset.' : `Reset: ${done.map(clean).join(', ')}.`);
  return EXIT.ok;
}

function clockRisk(wallMs: number): string {
  const now = new Date(wallMs).toISOString().slice(0, 16);
  return `Risk: high. Here it is ${now}Z: what is old by the node’s clock is deleted or archived from then on, where its rule asks for it.`;
}

function breakerRisk(name: string | undefined): string {
  const what = name === undefined ? 'every breaker of this node' : clean(name);
  return `Risk: medium. ${what}: what failed before would be tried again at once where its rule asks for it.`;
}

function breakersText(
  { isKnown, window, node, breakers: all }: BreakersView,
  io: Pick<Io, 'color' | 'columns' | 'wallMs'>,
): string {
  const { dim, bad, warn } = paint(io.color);
  const nowMs = io.wallMs();
  const lines: string[] = [];
  if (!isKnown) lines.push(bad('What was tried before is not known yet: no repair begins until the store answers.'));
  if (window !== null) {
    const until = shortClockText(window.untilAtMs, nowMs);
    lines.push(warn(`Maintenance “${clean(window.name)}” until ${until}: no repair begins by itself.`));
  }
  lines.push(`Repairs of this node: ${usedText(node)}.`);
  const breakers = all.filter(({ name }) => name !== WALL_CLOCK);
  if (breakers.length < all.length) {
    const text =
      'The clock went further ahead than can be believed: nothing is deleted or archived by age until it is right again. If it is right: ' +
      `\`skos breaker reset ${WALL_CLOCK}\`.`;
    lines.push(...wrapped(text, { width: io.columns }).map(bad));
  }
  if (breakers.length === 0) return [...lines, 'No breaker has learnt anything.'].join('\n');
  const rows = breakers.map((each) => [
    { text: clean(each.name) },
    { text: phaseText(each), paint: phasePaint(each, io.color) },
    { text: each.untilAtMs === null ? '' : `until ${shortClockText(each.untilAtMs, nowMs)}` },
    { text: each.failures === 0 ? '' : `${each.failures} of ${plural(each.failuresToOpen, 'failure')}` },
    { text: each.budget === null ? 'all targets' : usedText(each.budget), paint: dim },
  ]);
  lines.push(...tableLines({ columns: [{ shrinkTo: 16 }, {}, {}, {}, {}], rows, width: io.columns }));
  const latched = breakers.filter(({ phase }) => phase === 'latched');
  if (latched.length > 0) {
    const text = 'Latched: it stays so until `skos breaker reset NAME`, or --all, once the cause is mended.';
    lines.push(...wrapped(text, { width: io.columns }));
  }
  return lines.join('\n');
}

function phaseText({ phase, isUnderWay, setbacks, untilAtMs }: BreakerView): string {
  if (phase === 'half_open') return 'half-open';
  if (phase !== 'closed') return phase;
  if (isUnderWay) return 'closed, under way';
  return setbacks > 0 && untilAtMs !== null ? 'closed, backs off' : 'closed';
}

function phasePaint({ phase }: BreakerView, color: boolean): (text: string) => string {
  const { good, bad, warn } = paint(color);
  return { closed: good, open: warn, half_open: warn, latched: bad }[phase];
}

function usedText({ usedHour, perHour, usedDay, perDay }: BudgetView): string {
  return `${usedHour}/${perHour} this hour, ${usedDay}/${perDay} this day`;
}
