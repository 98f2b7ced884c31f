/** `skos chain`: chains that run away, of workloads and of SKOS's own repairs; to hold one, and to let it begin anew. */
import { SkosError } from '../core/errors.js';
import type { ChainView, Verbs } from '../core/protocol.js';
import type { Command, Context, Invocation, Io } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, plural, spanText } from './format.js';
import { subcommand } from './subcommand.js';
import { tableLines } from './table.js';

export const chain: Command = {
  name: 'chain',
  summary: 'loops that run away: workloads’ chains and SKOS’s own repairs',
  usage: ['chain list [--json]', 'chain break ID', 'chain reset ID'],
  details:
    'A chain that is held is told circuit_break at each step until it is reset. In observe and propose none is held by itself: ' +
    'list says what would be done, break does it. A repair that runs in a loop is not tried again until it is reset.',
  options: { json: { type: 'boolean' } },
  optionHelp: { json: 'list: JSON (times are milliseconds since the Unix epoch)' },
  examples: [
    ['skos chain list', 'Held chains, and those beyond a limit of late.'],
    ['skos chain reset planner-7', 'It may begin anew.'],
  ],

  async run(invocation, context) {
    const [verb, id] = subcommand(invocation.positionals, { command: 'chain', known: ['list', 'break', 'reset'] });
    if (verb === 'list') return list(invocation, context);
    if (id === undefined) throw new SkosError('SKOS_CLI_USAGE', 'the id of the chain is missing');
    const client = await context.agent();
    await client.request(`chain.${verb}`, { chain: id });
    const done = verb === 'break' ? 'Held' : 'Reset';
    context.io.out(`${paint(context.io.color).good(done)}: ${clean(id)}.`);
    return EXIT.ok;
  },
};

async function list({ values }: Invocation, { io, agent }: Context): Promise<number> {
  const answer = await (await agent()).request('chain.list', {});
  io.out(values.json === true ? JSON.stringify(answer, null, 2) : chainsText(answer, io));
  return EXIT.ok;
}

function chainsText(
  { watched, chains }: Verbs['chain.list']['result'],
  { color, columns, wallMs }: Pick<Io, 'color' | 'columns' | 'wallMs'>,
): string {
  const { bad, warn, bold, dim } = paint(color);
  const stateOf = ({ isHeld }: ChainView) => (isHeld ? { text: 'held', paint: bad } : { text: 'beyond', paint: warn });
  const rows = chains.map((each) => [
    { text: clean(each.chain), paint: bold },
    stateOf(each),
    { text: clean(each.reason) },
    { text: `${clean(each.who)}, ${spanText(wallMs() - each.sinceAtMs)} ago`, paint: dim },
  ]);
  const table = tableLines({ columns: [{ shrinkTo: 16 }, {}, { shrinkTo: 24 }, {}], rows, width: columns });
  const seen =
    watched === null ? 'skos-net is not there: no chain is watched.' : `${plural(watched, 'chain')} watched.`;
  return [...(rows.length === 0 ? ['No chain is held or beyond a limit.'] : table), seen].join('\n');
}
