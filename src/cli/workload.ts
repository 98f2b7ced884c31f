/** `skos workload`: what runs on this node by the configuration's word, and how to start, stop and restart it. */
import type { AgentClient } from '../core/agent-client.js';
import { SkosError } from '../core/errors.js';
import type { WorkloadView } from '../core/protocol.js';
import { UNIT_VERBS, type UnitVerb } from '../core/vocabulary.js';
import type { Command, Context, Invocation, Io } from './command.js';
import { CONFIRM_HELP, CONFIRM_OPTION, confirm } from './confirm.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, spanText } from './format.js';
import { tableLines } from './table.js';

/** A unit that takes longer goes on; `skos workload list` says what came of it. */
const WAIT_MS = 30_000;
const LOOK_EVERY_MS = 300;

const DONE: Readonly<Record<UnitVerb, string>> = { start: 'started', stop: 'stopped', restart: 'restarted' };

export const workload: Command = {
  name: 'workload',
  summary: 'what runs on this node, and how to start and stop it',
  usage: ['workload list [--json]', 'workload start|stop|restart NAME [--confirm NODE]'],
  details:
    'Workloads are those of the configuration. To stop or restart one that is essential asks for the node’s name. What ' +
    'shutdown_non_essential has stopped stays stopped until you start it here.',
  options: { json: { type: 'boolean' }, confirm: CONFIRM_OPTION },
  optionHelp: { json: 'list: a JSON array', confirm: CONFIRM_HELP },
  examples: [
    ['skos workload list', 'Each with its unit, and whether it runs.'],
    ['skos workload start train', 'Waits until its unit is up.'],
  ],

  async run(invocation, context) {
    const [verb = 'list', name, ...rest] = invocation.positionals;
    if (verb === 'list' && name === undefined) return list(invocation, context);
    if (!isVerb(verb) || name === undefined || rest.length > 0)
      throw new SkosError('SKOS_CLI_USAGE', 'expected list, or start, stop or restart and the name of a workload');
    return change({ verb, name }, invocation, context);
  },
};

function isVerb(word: string): word is UnitVerb {
  return (UNIT_VERBS as readonly string[]).includes(word);
}

async function list({ values }: Invocation, { io, agent }: Context): Promise<number> {
  const answer = await (await agent()).request('workloads', {});
  io.out(values.json === true ? JSON.stringify(answer, null, 2) : workloadsText(answer, io));
  return EXIT.ok;
}

function workloadsText(answer: readonly WorkloadView[], { color, columns }: Pick<Io, 'color' | 'columns'>): string {
  if (answer.length === 0) return 'The configuration names no workloads.';
  const { bold, dim, good, warn } = paint(color);
  const rows = answer.map((each) => [
    { text: clean(each.name), paint: bold },
    { text: clean(each.unit) },
    each.isFrozen
      ? { text: 'frozen', paint: warn }
      : each.isRunning
        ? { text: 'runs', paint: good }
        : { text: 'not seen', paint: dim },
    { text: [each.essential ? 'essential' : 'not essential', ...(each.movable ? ['movable'] : [])].join(', ') },
    { text: lastText(each), paint: dim },
  ]);
  return tableLines({ columns: [{ shrinkTo: 8 }, { shrinkTo: 16 }, {}, {}, {}], rows, width: columns }).join('\n');
}

function lastText({ last }: WorkloadView): string {
  return last === null ? '' : `${last.verb} ${last.state}, ${spanText(last.ageMs)} ago`;
}

async function change(
  { verb, name }: { verb: UnitVerb; name: string },
  invocation: Invocation,
  { io, agent }: Context,
): Promise<number> {
  const client = await agent();
  const before = (await client.request('workloads', {})).find((each) => each.name === name);
  if (before?.essential === true && verb !== 'start') {
    io.out(`Risk: high. ${clean(name)} is essential.`);
    await confirm({ node: (await client.request('status', {})).node, deed: `to ${verb} it` }, invocation, io);
  }
  await client.request('workload.run', { name, verb });
  const last = await ended(client, name);
  if (last === null || last.state === 'running') {
    io.out(`${verb} of ${clean(name)} is under way; \`skos workload list\` says what comes of it.`);
    return EXIT.ok;
  }
  const isGood = last.state === 'done';
  const words = isGood
    ? `${clean(name)} is ${DONE[verb]}.`
    : `${verb} of ${clean(name)}: ${last.state}, exit status ${last.exit ?? 'unknown'}.`;
  io.out(isGood ? words : paint(io.color).bad(words));
  return isGood ? EXIT.ok : EXIT.failed;
}

/** As it stands when the run is over, or the wait. */
async function ended(client: AgentClient, name: string): Promise<WorkloadView['last']> {
  let last: WorkloadView['last'] = null;
  for (let waitedMs = 0; waitedMs < WAIT_MS; waitedMs += LOOK_EVERY_MS) {
    last = (await client.request('workloads', {})).find((each) => each.name === name)?.last ?? null;
    if (last === null || last.state !== 'running') return last;
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
  return last;
}
