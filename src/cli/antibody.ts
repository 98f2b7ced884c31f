/** `skos antibody`: external antibodies, and the test that one keeps the contract of src/antibodies/EXTERNAL.md. */
import type { AgentClient } from '../core/agent-client.js';
import { SkosError } from '../core/errors.js';
import type { GuestAntibodyView } from '../core/protocol.js';
import type { Command, Context, Invocation, Io } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, plural, spanText } from './format.js';
import { subcommand } from './subcommand.js';
import { tableLines } from './table.js';

/** A heartbeat is due every 5 s; each step of the test may take two of them. */
const STEP_MS = 10_000;
const LOOK_EVERY_MS = 200;
/** Enough that the alert of the test is among them, on a node where others come at the same time. */
const ALERTS_LOOKED_AT = 200;

export const antibody: Command = {
  name: 'antibody',
  summary: 'external antibodies, and whether one keeps the contract',
  usage: ['antibody list [--json]', 'antibody check NAME', 'antibody tell NAME COMMAND'],
  details:
    'An external antibody is a program with a token of the role antibody (skos token add). It registers with its first heartbeat. ' +
    'check watches it beat, tells it "check", and waits for its answer and for an alert "check" that it raises and clears.',
  options: { json: { type: 'boolean' } },
  optionHelp: { json: 'list: a JSON array (times are milliseconds since the Unix epoch)' },
  examples: [
    ['skos antibody list', 'Each with its last sign of life.'],
    ['skos antibody check fan-watch', 'While it runs; takes some seconds.'],
  ],

  async run(invocation, context) {
    const [verb, name, word] = subcommand(invocation.positionals, {
      command: 'antibody',
      known: ['list', 'check', 'tell'],
    });
    if (verb === 'list') return list(invocation, context);
    if (name === undefined) throw new SkosError('SKOS_CLI_USAGE', 'the name of the antibody is missing');
    if (verb === 'check') return check(name, context);
    if (word === undefined) throw new SkosError('SKOS_CLI_USAGE', 'the command for it is missing');
    const { actionId } = await (await context.agent()).request('antibody.tell', { name, command: word });
    context.io.out(`Told as ${actionId}; skos antibody list shows whether it answered.`);
    return EXIT.ok;
  },
};

async function list({ values }: Invocation, { io, agent }: Context): Promise<number> {
  const answer = await (await agent()).request('antibody.list', {});
  io.out(values.json === true ? JSON.stringify(answer, null, 2) : antibodiesText(answer, io));
  return EXIT.ok;
}

function antibodiesText(
  antibodies: readonly GuestAntibodyView[],
  { color, columns, wallMs }: Pick<Io, 'color' | 'columns' | 'wallMs'>,
): string {
  if (antibodies.length === 0) return 'No external antibody has registered.';
  const { bold, dim, good, bad } = paint(color);
  const rows = antibodies.map(({ name, isOnline, lastBeatAtMs, alerts, answered }) => [
    { text: clean(name), paint: bold },
    isOnline ? { text: 'online', paint: good } : { text: 'offline', paint: bad },
    { text: lastBeatAtMs === null ? 'never heard' : `heard ${spanText(wallMs() - lastBeatAtMs)} ago`, paint: dim },
    { text: plural(alerts, 'alert') },
    { text: answered === '' ? '' : `answered ${clean(answered)}`, paint: dim },
  ]);
  return tableLines({ columns: [{ shrinkTo: 12 }, {}, {}, {}, { shrinkTo: 12 }], rows, width: columns }).join('\n');
}

async function check(name: string, { io, agent }: Context): Promise<number> {
  const client = await agent();
  const { good } = paint(io.color);
  const passed = (what: string) => io.out(`${good('ok')}  ${what}`);
  const startedAtMs = io.wallMs();

  const beat = async () => ((await viewOf(client, name))?.lastBeatAtMs ?? 0) >= startedAtMs;
  await came(io, beat, `${name} does not beat: skos/heartbeat/<node> every 5 s, with its own token and agent_id`);
  passed('beats');

  const { actionId } = await client.request('antibody.tell', { name, command: 'check' });
  const answered = async () => (await viewOf(client, name))?.answered === actionId;
  await came(io, answered, `${name} does not answer a command: a heartbeat with "answers": "${actionId}"`);
  passed('answers a command');

  const episode = async () => {
    const alerts = await client.request('alerts', { all: true, limit: ALERTS_LOOKED_AT });
    return alerts.find(({ channel, sinceAtMs }) => channel === `antibody/${name}/check` && sinceAtMs >= startedAtMs);
  };
  const raised = async () => (await episode()) !== undefined;
  await came(io, raised, `${name} raises no alert with the id "check" when it is told to check`);
  passed('raises an alert');
  const cleared = async () => (await episode())?.severity === null;
  await came(io, cleared, `${name} does not clear its alert "check": the same id with "severity": null`);
  passed('clears it');
  return EXIT.ok;
}

async function viewOf(client: AgentClient, name: string): Promise<GuestAntibodyView | undefined> {
  return (await client.request('antibody.list', {})).find((each) => each.name === name);
}

async function came(io: Pick<Io, 'signal'>, condition: () => Promise<boolean>, otherwise: string): Promise<void> {
  for (let waitedMs = 0; waitedMs < STEP_MS; waitedMs += LOOK_EVERY_MS) {
    if (await condition()) return;
    if (io.signal.aborted) throw new SkosError('SKOS_CLI_INTERRUPTED', 'the check was not finished');
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
  throw new SkosError('SKOS_ANTIBODY_CONTRACT', otherwise);
}
