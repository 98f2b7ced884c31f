/** `skos status`: the node on one screen. Standing alerts do not change its exit code; a missing agent does. */
import type { Status } from '../core/protocol.js';
import type { Command, Io } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, clockText, type Paint, paint, plural, spanText } from './format.js';
import { wrapped } from './table.js';

/** Width of the left column. */
const TERM_WIDTH = 10;
/** On a narrower terminal lines are broken by the terminal. */
const MIN_WIDTH = 40;

export const status: Command = {
  name: 'status',
  summary: 'the node on one screen',
  usage: ['status [--json]'],
  options: { json: { type: 'boolean' } },
  optionHelp: { json: 'one JSON object (times are milliseconds since the Unix epoch)' },
  examples: [
    ['skos status', 'Mode, sensors, alerts, actuator, record, broker and peers.'],
    ['skos status --json | jq .armed', 'For scripts.'],
  ],

  async run({ values }, { io, agent }) {
    const answer = await (await agent()).request('status', {});
    io.out(values.json === true ? JSON.stringify(answer, null, 2) : statusText(answer, io));
    return EXIT.ok;
  },
};

export function statusText(answer: Status, io: Pick<Io, 'color' | 'columns' | 'wallMs'>): string {
  const colors = paint(io.color);
  const now = io.wallMs();
  const sections: readonly (readonly [string, readonly string[]])[] = [
    [
      'node',
      [
        `${colors.bold(answer.node)}, up ${spanText(now - answer.startedAtMs)}, skos ${answer.version}, pid ${answer.pid}`,
      ],
    ],
    ['mode', [modeText(answer, colors)]],
    ['sensors', [sensorsText(answer, colors)]],
    ['gpus', gpusText(answer, colors)],
    ['alerts', [alertsText(answer, colors)]],
    ['actuator', actuatorText(answer, colors)],
    ['record', [recordText(answer, colors)]],
    ['mqtt', netText(answer, colors, now)],
    ['outbox', outboxText(answer, colors)],
    ['tick', [`${answer.ticks} ticks, 99 of 100 within ${answer.tickP99Ms.toFixed(1)} ms`]],
    [
      'on hold',
      answer.hold === null
        ? []
        : [
            colors.warn(
              `until ${clockText(answer.hold.untilAtMs)}, by ${clean(answer.hold.who)}: nothing new is begun`,
            ),
          ],
    ],
    ['barred', answer.bars.map(({ rule, untilAtMs }) => `${rule} until ${clockText(untilAtMs)}`)],
    ['silenced', answer.silences === 0 ? [] : [`${plural(answer.silences, 'silence')}: see \`skos silence list\``]],
    ['repairs', repairsText(answer, colors)],
    ['log', answer.logLevel === 'info' ? [] : [`level ${answer.logLevel}`]],
    ['not found', answer.notFound.map(clean)],
  ];
  return sections.flatMap(([term, lines]) => sectionLines(term, lines, io.columns)).join('\n');
}

function sectionLines(term: string, texts: readonly string[], columns: number): string[] {
  const indent = ' '.repeat(TERM_WIDTH + 1);
  const lines = texts.flatMap((text) =>
    wrapped(text, { width: Math.max(MIN_WIDTH, columns), indent, hanging: `${indent}  ` }),
  );
  return lines.map((line, i) => (i === 0 ? term.padEnd(TERM_WIDTH + 1) + line.slice(TERM_WIDTH + 1) : line));
}

function modeText({ mode, armed }: Status, { good, dim }: Paint): string {
  if (armed) return `${mode}, ${good('armed')}`;
  if (mode === 'auto') return `${mode}, not armed: no actuator`;
  return `${mode} ${dim('(acts on nothing; `skos arm` shows what would be done)')}`;
}

function sensorsText({ channels, channelsByQuality }: Status, { warn }: Paint): string {
  const rest = Object.entries(channelsByQuality)
    .filter(([quality, count]) => quality !== 'ok' && count > 0)
    .map(([quality, count]) => `${count} ${quality}`);
  return `${plural(channels, 'channel')}${rest.length === 0 ? ', all ok' : `, ${warn(rest.join(', '))}`}`;
}

/** A node without GPUs has no such line. */
function gpusText({ gpus }: Status, { warn }: Paint): string[] {
  if (gpus.length === 0) return [];
  const serving = gpus.filter(({ state }) => state === 'serving').length;
  const others = gpus.filter(({ state }) => state !== 'serving');
  return [
    `${serving} of ${gpus.length} read`,
    ...others.map(({ address, name, state }) =>
      warn(`${clean(name)} ${address}: ${state.replaceAll('_', ' ')}`.trim()),
    ),
  ];
}

function alertsText({ alerts }: Status, { good, bad }: Paint): string {
  return alerts === 0 ? good('none') : bad(`${plural(alerts, 'alert')} standing`);
}

function actuatorText({ actuator }: Status, { warn }: Paint): string[] {
  if (!actuator.connected) return [warn(`not connected: ${clean(actuator.why)}`)];
  const { targets, leases, orders } = actuator;
  const raised = orders.filter((order) => order.raised).length;
  const troubled = targets.filter(({ state }) => state !== 'idle' && state !== 'held');
  return [
    `${plural(targets.length, 'target')}, ${plural(leases.length, 'lease')}, ` +
      `${plural(orders.length, 'standing order')}${raised > 0 ? `, ${raised} raised` : ''}`,
    ...troubled.map(({ target, state }) => warn(`${target}: ${state}`)),
  ];
}

function recordText({ store }: Status, { warn }: Paint): string {
  if (!store.ok) return warn(`in memory only: ${clean(store.why)}`);
  return `audit entry ${store.head.seq}, ${store.head.hash.slice(0, 16)}…`;
}

/** Only what keeps repairs from beginning and does not end by itself, or was planned. */
function repairsText({ repairs: { latched, window } }: Status, { bad, warn }: Paint): string[] {
  const stuck = latched.map((name) => bad(`${clean(name)}: its breaker is latched, see \`skos breaker list\``));
  if (window === null) return stuck;
  return [warn(`maintenance “${clean(window.name)}” until ${clockText(window.untilAtMs)}`), ...stuck];
}

/** Only what is lost is said here; `skos outbox` shows what waits. */
function outboxText({ outbox }: Status, { bad }: Paint): string[] {
  return outbox
    .filter(({ dropped }) => dropped > 0)
    .map(({ queue, dropped }) => bad(`${clean(queue)}: ${plural(dropped, 'message')} dropped, see \`skos outbox\``));
}

function netText({ net }: Status, { warn, good }: Paint, now: number): string[] {
  if (!net.connected) return [warn(`skos-net is not there: ${clean(net.why)}`)];
  const listen = net.listening ? net.mqttListen : warn(`${net.mqttListen} cannot be opened`);
  return [
    `${listen}, ${plural(net.clients, 'client')}`,
    ...net.peers.map(({ node, state, sinceAtMs, why }) => {
      const shown = state === 'online' ? good(state) : warn(state);
      return `peer ${node} ${shown} for ${spanText(now - sinceAtMs)} (${clean(why)})`;
    }),
  ];
}
