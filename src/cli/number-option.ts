/** Whole numbers given as options. */
import { SkosError } from '../core/errors.js';

/** Rows of one answer; the agent refuses more. */
const MAX_COUNT = 10_000;

/** undefined when the option was not given. SKOS_CLI_USAGE when it is no whole number from `min` on. */
export function countOption(text: string | undefined, name: string, min = 1): number | undefined {
  if (text === undefined) return undefined;
  const count = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (count >= min && count <= MAX_COUNT) return count;
  throw new SkosError('SKOS_CLI_USAGE', `--${name} "${text}" is not a whole number from ${min} to ${MAX_COUNT}`);
}
