/** The challenge before what cannot simply be taken back: the operator types the node's name, or a script gives it with --confirm. */
import { SkosError } from '../core/errors.js';
import { type Invocation, type Io, textOption } from './command.js';
import { clean } from './format.js';

export const CONFIRM_OPTION = { type: 'string' } as const;
export const CONFIRM_HELP = 'NAME: the node’s name, instead of a question';

/** SKOS_CLI_NAME unless the name is given. `deed` ends the question: "to arm it". */
export async function confirm(
  { node, deed }: { node: string; deed: string },
  { values }: Pick<Invocation, 'values'>,
  io: Pick<Io, 'ask'>,
): Promise<void> {
  const given = textOption(values, 'confirm') ?? (await io.ask?.(`Type the name of this node (${node}) ${deed}: `));
  if (given === undefined) {
    throw new SkosError('SKOS_CLI_NAME', `there is no terminal to ask on; expected --confirm ${node}`);
  }
  if (given.trim() !== node) throw new SkosError('SKOS_CLI_NAME', `"${clean(given.trim())}" is not "${node}"`);
}
