/** The second word of a command such as `skos audit verify`. */
import { SkosError } from '../core/errors.js';
import { suggest } from '../core/suggest.js';

/** The subcommand and what follows it. SKOS_CLI_USAGE with "did you mean" when it is none of the known. */
export function subcommand<const T extends string>(
  positionals: readonly string[],
  { command, known }: { command: string; known: readonly T[] },
): readonly [T, ...string[]] {
  const [word, ...rest] = positionals;
  const found = known.find((each) => each === word);
  if (found !== undefined) return [found, ...rest];
  const close = word === undefined ? undefined : suggest(word, known);
  const hint = close === undefined ? `expected one of ${known.join(', ')}` : `did you mean ${close}?`;
  const said = word === undefined ? 'needs a subcommand' : `has no subcommand "${word}"`;
  throw new SkosError('SKOS_CLI_USAGE', `skos ${command} ${said}; ${hint}`);
}
