/** `skos hold`: for a while nothing new is begun by itself, as for maintenance. */
import { SkosError } from '../core/errors.js';
import { type Command, type Context, type Invocation, textOption } from './command.js';
import { CONFIRM_HELP, CONFIRM_OPTION, confirm } from './confirm.js';
import { durationSeconds } from './duration.js';
import { EXIT } from './exit-codes.js';
import { clockText, plural } from './format.js';

const DEFAULT_FOR = '1h';

export const hold: Command = {
  name: 'hold',
  summary: 'begin nothing new for a while',
  usage: ['hold [--for DURATION] [--including-caps] [--confirm NAME]', 'hold --end'],
  details:
    'Rules go on to watch and to alert, but no action is begun by itself; what you approve is done. Caps that stand are kept and ' +
    'taken back as ever; with --including-caps they are released at once, which takes protection from a hot device and ' +
    'therefore asks for the node’s name. Standing orders of the actuator stay in every case. A hold ends by itself.',
  options: {
    for: { type: 'string' },
    'including-caps': { type: 'boolean' },
    end: { type: 'boolean' },
    confirm: CONFIRM_OPTION,
  },
  optionHelp: {
    for: 'DURATION: how long (default 1h, at most 24h)',
    'including-caps': 'release what stands, too',
    end: 'end the hold now',
    confirm: CONFIRM_HELP,
  },
  examples: [
    ['skos hold --for 2h', 'While a fan is replaced.'],
    ['skos hold --end', 'Done earlier.'],
  ],

  async run(invocation, context) {
    return invocation.values.end === true ? end(invocation, context) : begin(invocation, context);
  },
};

async function begin(invocation: Invocation, { io, agent }: Context): Promise<number> {
  const { values } = invocation;
  const forSeconds = durationSeconds(textOption(values, 'for') ?? DEFAULT_FOR);
  if (forSeconds === 0) throw new SkosError('SKOS_CLI_USAGE', '--for 0 is no hold; `skos hold --end` ends one');
  const client = await agent();
  const includingCaps = values['including-caps'] === true;
  if (includingCaps) {
    const { node, actuator } = await client.request('status', {});
    io.out(`Risk: high. ${plural(actuator.leases.length, 'lease')} would be released now, whatever is hot.`);
    await confirm({ node, deed: 'to release them' }, invocation, io);
  }
  const { untilAtMs, released } = await client.request('hold', { forSeconds, includingCaps });
  io.out(`On hold until ${clockText(untilAtMs)}: nothing new is begun. Standing orders stay.`);
  if (includingCaps) io.out(`Released ${plural(released.length, 'action')}.`);
  return EXIT.ok;
}

async function end({ values }: Invocation, { io, agent }: Context): Promise<number> {
  const others = ['for', 'including-caps', 'confirm'].filter((name) => values[name] !== undefined);
  if (others.length > 0) throw new SkosError('SKOS_CLI_USAGE', `--end goes without --${others[0]}`);
  const { ended } = await (await agent()).request('hold.end', {});
  io.out(ended ? 'The hold is over.' : 'There was no hold.');
  return EXIT.ok;
}
