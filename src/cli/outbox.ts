/** `skos outbox`: what waits for a receiver that is away, and what could not wait any longer. */
import type { OutboxState } from '../core/ports.js';
import type { Command, Io } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, plural, spanText } from './format.js';
import { tableLines } from './table.js';

const KIB = 1024;

export const outbox: Command = {
  name: 'outbox',
  summary: 'what waits for a receiver that is away',
  usage: ['outbox [--json]'],
  details:
    'With mqtt.url, alerts, actions and audit entries wait in the queue “mqtt” until that broker has acknowledged them. A queue ' +
    'is bounded: beyond that the oldest are dropped, and counted. The record of this node is not touched by it.',
  options: { json: { type: 'boolean' } },
  optionHelp: { json: 'a JSON array (times are milliseconds since the Unix epoch)' },
  examples: [['skos outbox', 'Each queue: what waits, since when, and what was dropped.']],

  async run({ values }, { io, agent }) {
    const answer = await (await agent()).request('outbox', {});
    io.out(values.json === true ? JSON.stringify(answer, null, 2) : outboxText(answer, io));
    return EXIT.ok;
  },
};

export function outboxText(
  queues: readonly OutboxState[],
  { color, columns, wallMs }: Pick<Io, 'color' | 'columns' | 'wallMs'>,
): string {
  if (queues.length === 0) return 'Nothing is queued: every receiver is told at once.';
  const { bad, dim } = paint(color);
  const rows = queues.map(({ queue, waiting, bytes, oldestAtMs, takenSeq, dropped }) => [
    { text: clean(queue) },
    { text: waiting === 0 ? 'nothing waits' : `${waiting} waiting, ${Math.ceil(bytes / KIB)} KiB` },
    { text: oldestAtMs === null ? '' : `for ${spanText(wallMs() - oldestAtMs)}`, paint: dim },
    { text: `taken up to ${takenSeq}`, paint: dim },
    dropped === 0 ? { text: 'none dropped', paint: dim } : { text: `${dropped} dropped`, paint: bad },
  ]);
  const waiting = queues.reduce((sum, queue) => sum + queue.waiting, 0);
  return [
    ...tableLines({
      columns: [{ shrinkTo: 8 }, {}, {}, {}, {}],
      rows,
      width: columns,
    }),
    `${plural(waiting, 'message')} in ${plural(queues.length, 'queue')}.`,
  ].join('\n');
}
