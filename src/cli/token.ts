/** `skos token`: who may publish over MQTT, and as what. */
import { SkosError } from '../core/errors.js';
import { GUEST_ROLES, type GuestRole, guestName } from '../core/guests.js';
import type { TokenView } from '../core/protocol.js';
import { parse } from '../core/shape.js';
import { suggest } from '../core/suggest.js';
import { type Command, type Context, type Invocation, type Io, textOption } from './command.js';
import { CONFIRM_HELP, CONFIRM_OPTION, confirm } from './confirm.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, spanText } from './format.js';
import { subcommand } from './subcommand.js';
import { tableLines } from './table.js';

export const token: Command = {
  name: 'token',
  summary: 'who may publish over MQTT, and as what',
  usage: ['token list [--json]', 'token add NAME --role ROLE', 'token revoke NAME [--confirm NODE]'],
  details:
    'Without a token a program on this machine may only subscribe. A token is the password of the user NAME at the local broker. ' +
    'Its role says what it may publish: chain, the steps of synthesis chains; antibody, heartbeats and alerts of the external ' +
    'antibody NAME; operator, the commands release, hold, hold.end and reload. It is shown once; the agent keeps its hash. To ' +
    'revoke one asks for the node’s name, and disconnects who uses it.',
  options: { role: { type: 'string' }, json: { type: 'boolean' }, confirm: CONFIRM_OPTION },
  optionHelp: {
    role: `ROLE: add: ${GUEST_ROLES.join(', ')}`,
    json: 'list: a JSON array (times are milliseconds since the Unix epoch)',
    confirm: CONFIRM_HELP,
  },
  examples: [
    ['skos token add agent-loop --role chain', 'For a workload that reports the steps of its chains.'],
    ['skos token revoke agent-loop', 'It is disconnected at once.'],
  ],

  async run(invocation, context) {
    const [verb, ...rest] = subcommand(invocation.positionals, { command: 'token', known: ['list', 'add', 'revoke'] });
    if (verb === 'list') return list(invocation, context);
    const name = knownName(rest[0]);
    return verb === 'add' ? add(name, invocation, context) : revoke(name, invocation, context);
  },
};

function knownName(name: string | undefined): string {
  if (name === undefined) throw new SkosError('SKOS_CLI_USAGE', 'the name of the token is missing');
  const [issue] = parse(guestName, name).issues;
  if (issue !== undefined) throw new SkosError('SKOS_CLI_USAGE', issue.message);
  return name;
}

async function list({ values }: Invocation, { io, agent }: Context): Promise<number> {
  const answer = await (await agent()).request('token.list', {});
  io.out(values.json === true ? JSON.stringify(answer, null, 2) : tokensText(answer, io));
  return EXIT.ok;
}

function tokensText(
  tokens: readonly TokenView[],
  { color, columns, wallMs }: Pick<Io, 'color' | 'columns' | 'wallMs'>,
): string {
  if (tokens.length === 0) return 'There is no token: over MQTT programs may only subscribe.';
  const { bold, dim } = paint(color);
  const rows = tokens.map(({ name, role, createdAtMs, who }) => [
    { text: clean(name), paint: bold },
    { text: role },
    { text: `made ${spanText(wallMs() - createdAtMs)} ago by ${clean(who)}`, paint: dim },
  ]);
  return tableLines({ columns: [{ shrinkTo: 12 }, {}, {}], rows, width: columns }).join('\n');
}

async function add(name: string, { values }: Invocation, { io, agent }: Context): Promise<number> {
  const role = knownRole(textOption(values, 'role'));
  const { token: secret } = await (await agent()).request('token.add', { name, role });
  io.out(secret);
  io.err(`User ${name}, role ${role}. The token is shown this once.`);
  return EXIT.ok;
}

function knownRole(word: string | undefined): GuestRole {
  const found = GUEST_ROLES.find((role) => role === word);
  if (found !== undefined) return found;
  const close = word === undefined ? undefined : suggest(word, GUEST_ROLES);
  const hint = close === undefined ? `expected one of ${GUEST_ROLES.join(', ')}` : `did you mean ${close}?`;
  throw new SkosError(
    'SKOS_CLI_USAGE',
    word === undefined ? `--role is missing; ${hint}` : `no role "${word}"; ${hint}`,
  );
}

async function revoke(name: string, invocation: Invocation, { io, agent }: Context): Promise<number> {
  const client = await agent();
  const { node } = await client.request('status', {});
  const known = (await client.request('token.list', {})).find((each) => each.name === name);
  if (known !== undefined) {
    io.out(`Risk: high. ${name} (${known.role}) is disconnected, and its token is never good again.`);
    await confirm({ node, deed: 'to revoke it' }, invocation, io);
  }
  await client.request('token.revoke', { name, confirm: node });
  io.out(`Revoked: ${name}.`);
  return EXIT.ok;
}
