/** `skos orders`: the standing orders, which cap without the agent, and what each saw last. */
import type { OrderView } from '../core/protocol.js';
import type { Command, Io } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, plural, quantityText } from './format.js';
import { tableLines } from './table.js';

export const orders: Command = {
  name: 'orders',
  summary: 'the standing orders and what each saw last',
  usage: ['orders [--json]'],
  details:
    'Standing orders are compiled into the actuator’s allow-list when the node is armed: it reads their sensors itself and caps ' +
    'whatever becomes of the agent. `skos config compile` shows the difference before it changes them, as root.',
  options: { json: { type: 'boolean' } },
  optionHelp: { json: 'one JSON object' },
  examples: [['skos orders', 'Sensor, last value, and whether it holds a cap.']],

  async run({ values }, { io, agent }) {
    const answer = await (await agent()).request('orders', {});
    if (values.json === true) io.out(JSON.stringify(answer, null, 2));
    else if (!answer.connected) io.out(`No actuator is connected (${clean(answer.why)}): no standing order is known.`);
    else io.out(ordersText(answer.orders, io));
    return EXIT.ok;
  },
};

function ordersText(list: readonly OrderView[], { color, columns }: Pick<Io, 'color' | 'columns'>): string {
  if (list.length === 0)
    return 'No standing orders: while the node is armed, they are for temperatures of processors and for rules with `standing: true`.';
  const { warn, bad, good, dim } = paint(color);
  const rows = list.map(({ order, rule, channel, raised, value, unit, quality }) => [
    { text: clean(channel === '' ? order : channel) },
    { text: clean(rule), paint: dim },
    value === null ? { text: quality, paint: bad } : { text: quantityText(value, unit) },
    raised ? { text: 'holds its cap', paint: warn } : { text: 'calm', paint: good },
  ]);
  const raised = list.filter((each) => each.raised).length;
  return [
    ...tableLines({ columns: [{ shrinkTo: 24 }, { shrinkTo: 8 }, { align: 'right' }, {}], rows, width: columns }),
    `${plural(list.length, 'standing order')}, ${raised} raised.`,
  ].join('\n');
}
