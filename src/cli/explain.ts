/** `skos explain CODE`: what an error code means and what to do about it, from the ledger of core/errors.ts. */
import { ERRORS, type ErrorCode, SkosError } from '../core/errors.js';
import { suggest } from '../core/suggest.js';
import type { Command } from './command.js';
import { EXIT } from './exit-codes.js';
import { paint } from './format.js';
import { wrapped } from './table.js';

const WIDTH = 80;

export const explain: Command = {
  name: 'explain',
  summary: 'what an error code means and what to do; all codes without one',
  usage: ['explain [CODE]'],
  options: {},
  optionHelp: {},
  examples: [
    ['skos explain SKOS_ACTUATOR_ALLOW', 'One code, as it stands in a message or in the journal (SKOS_CODE).'],
    ['skos explain', 'Every code.'],
  ],

  async run({ positionals: [code] }, { io }) {
    const codes = code === undefined ? (Object.keys(ERRORS) as ErrorCode[]) : [known(code)];
    io.out(codes.map((each) => entry(each, io.color)).join('\n\n'));
    return EXIT.ok;
  },
};

function known(text: string): ErrorCode {
  const upper = text.toUpperCase();
  for (const candidate of [upper, `SKOS_${upper}`]) {
    if (Object.hasOwn(ERRORS, candidate)) return candidate as ErrorCode;
  }
  const close = suggest(upper, Object.keys(ERRORS));
  const hint = close === undefined ? '`skos explain` lists them all' : `did you mean ${close}?`;
  throw new SkosError('SKOS_CLI_USAGE', `there is no code "${text}"; ${hint}`);
}

function entry(code: ErrorCode, color: boolean): string {
  const { meaning, next } = ERRORS[code];
  const body = [
    ...wrapped(meaning, { width: WIDTH, indent: '  ' }),
    ...wrapped(`Next: ${next}`, { width: WIDTH, indent: '  ' }),
  ];
  return [paint(color).bold(code), ...body].join('\n');
}
