/** `skos alerts`: what stands now; with --all also what is over. Newest first. */
import type { Alert } from '../core/ports.js';
import { type Command, type Io, textOption } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, severityPaint, spanText } from './format.js';
import { countOption } from './number-option.js';
import { tableLines, wrapped } from './table.js';

const DEFAULT_LIMIT = 50;

export const alerts: Command = {
  name: 'alerts',
  summary: 'alerts that stand; --all: those that are over too',
  usage: ['alerts [--all] [--limit N] [--json]'],
  options: { all: { type: 'boolean' }, limit: { type: 'string' }, json: { type: 'boolean' } },
  optionHelp: { all: 'also those that are over', limit: 'N: at most so many (default 50)', json: 'a JSON array' },
  examples: [
    ['skos alerts', 'What stands now.'],
    ['skos alerts --all --limit 10', 'The last ten, whether they stand or not.'],
  ],

  async run({ values }, { io, agent }) {
    const limit = countOption(textOption(values, 'limit'), 'limit') ?? DEFAULT_LIMIT;
    const answer = await (await agent()).request('alerts', { all: values.all === true, limit });
    if (values.json === true) io.out(JSON.stringify(answer, null, 2));
    else io.out(answer.length === 0 ? 'No alerts.' : answer.map((alert) => alertText(alert, io)).join('\n'));
    return EXIT.ok;
  },
};

export function alertText(alert: Alert, io: Pick<Io, 'color' | 'columns' | 'wallMs'>): string {
  const colors = paint(io.color);
  const verdict = alert.verdict === 'ok' ? '' : `, sensor ${alert.verdict}`;
  const over = alert.severity === null;
  const row = [
    { text: alert.severity ?? 'over', paint: severityPaint(alert.severity, colors) },
    { text: `${alert.state}${verdict}${alert.silenced === true ? ', silenced' : ''}` },
    { text: clean(alert.rule) },
    {
      text: `${over ? 'ended' : 'for'} ${spanText(io.wallMs() - (over ? alert.updatedAtMs : alert.sinceAtMs))}${over ? ' ago' : ''}`,
    },
  ];
  const columns = [{}, {}, { shrinkTo: 12 }, {}];
  return [
    ...tableLines({ columns, rows: [row], width: io.columns }),
    ...wrapped(clean(alert.message), { width: io.columns, indent: '  ' }),
    colors.dim(`  ${clean(alert.channel)}`),
  ].join('\n');
}
