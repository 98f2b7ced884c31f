/** `skos approve`: does what a rule proposed, after showing what exactly that is. */
import type { AgentClient } from '../core/agent-client.js';
import type { ProposalView } from '../core/protocol.js';
import { actionText } from './actions.js';
import type { Command, Context, Invocation, Io } from './command.js';
import { CONFIRM_HELP, CONFIRM_OPTION, confirm } from './confirm.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, percentText, spanText } from './format.js';
import { tableLines, wrapped } from './table.js';

export const approve: Command = {
  name: 'approve',
  summary: 'do what a rule proposes',
  usage: ['approve [ID] [--confirm NAME]'],
  details:
    'Without ID: what is proposed now. With one: shows its risk and what exactly would happen, and asks for the node’s name; ' +
    'after five minutes, or when something else would happen by then, it must be looked at again. A cap that is approved ' +
    'stands as long as its danger lasts, and is then taken back; what cannot be taken back is done once. The next time it is proposed anew.',
  options: { confirm: CONFIRM_OPTION },
  optionHelp: { confirm: CONFIRM_HELP },
  examples: [
    ['skos approve', 'What waits for a decision.'],
    ['skos approve nova:thermal:throttle_50:1704067200', 'Look at it, and agree.'],
  ],

  async run(invocation, context) {
    const [id] = invocation.positionals;
    return id === undefined ? list(context) : decide(id, invocation, context);
  },
};

async function list({ io, agent }: Context): Promise<number> {
  const { actions } = await (await agent()).request('preview', {});
  const proposed = actions.filter(({ state, endedAtMs }) => state === 'proposed' && endedAtMs === null);
  io.out(proposed.length === 0 ? 'Nothing is proposed.' : proposed.map((each) => actionText(each, io)).join('\n'));
  return EXIT.ok;
}

async function decide(actionId: string, invocation: Invocation, { io, agent }: Context): Promise<number> {
  const client = await agent();
  const view = await client.request('approve.show', { actionId });
  io.out(proposalText(view, io));
  if (view.unavailable !== null) return EXIT.failed;
  await confirm({ node: await nodeName(client), deed: 'to approve this' }, invocation, io);
  await client.request('approve', { actionId, token: view.token });
  io.out(
    `${paint(io.color).good('Approved')}: \`skos actions\` shows what comes of it, \`skos release ${view.action.rule}\` takes it back.`,
  );
  return EXIT.ok;
}

/** Items that are shown; the record has a hundred of them. */
const SHOWN_ITEMS = 20;

function listingLines(listing: ProposalView['listing'], { columns, wallMs }: Pick<Io, 'columns' | 'wallMs'>): string[] {
  if (listing === null) return [];
  const { atMs, summary, items, total } = listing;
  const shown = items.slice(0, SHOWN_ITEMS).map((item) => `    ${clean(item)}`);
  return [
    ...wrapped(`As of ${spanText(wallMs() - atMs)} ago: ${clean(summary)}`, { width: columns, indent: '  ' }),
    ...shown,
    ...(total > shown.length ? [`    and ${total - shown.length} more`] : []),
  ];
}

async function nodeName(client: AgentClient): Promise<string> {
  return (await client.request('status', {})).node;
}

function proposalText(
  { action, risk, effects, jobs, listing, unavailable, forSeconds }: ProposalView,
  { color, columns, wallMs }: Pick<Io, 'color' | 'columns' | 'wallMs'>,
): string {
  const { bold, bad, warn, good, dim } = paint(color);
  const shade = { low: good, medium: warn, high: bad }[risk];
  const lines = [
    `${bold(action.action)}   risk: ${shade(risk)}`,
    ...wrapped(clean(`rule ${action.rule}, ${action.channel}, ${action.severity}`), { width: columns, indent: '  ' }),
  ];
  if (unavailable !== null)
    return [...lines, ...wrapped(`Cannot be done: ${clean(unavailable)}`, { width: columns })].join('\n');
  const rows = effects.map(({ target, capPpm, current }) => [
    { text: clean(target) },
    { text: current === '' ? '' : `now ${clean(current)}`, paint: dim },
    { text: `to ${percentText(capPpm)} of what stood there before the first cap` },
  ]);
  return [
    ...lines,
    ...(rows.length === 0 ? [] : ['What would happen, until the danger is past:']),
    ...tableLines({ columns: [{ shrinkTo: 16 }, {}, {}], rows, width: columns, indent: 2 }),
    ...(jobs.length === 0 ? [] : ['What would be run once, and cannot be taken back:']),
    ...jobs.map((job) => `  ${clean(job)}`),
    ...listingLines(listing, { columns, wallMs }),
    `To be decided within ${spanText(forSeconds * 1000)}.`,
  ].join('\n');
}
