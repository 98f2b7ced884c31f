/** `skos recorder`: what every sensor said around an alert, as a table of sparklines, as CSV or as JSON lines. */
import type { AgentClient } from '../core/agent-client.js';
import { SkosError } from '../core/errors.js';
import type { RecordingInfo, RecordingQuery, RecordingSeries } from '../core/ports.js';
import type { RecorderView } from '../core/protocol.js';
import { type Command, type Context, type Invocation, type Io, textOption } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, clockText, paint, plural, quantityText, shortClockText, spanText } from './format.js';
import { csvHeader, csvRows } from './history-csv.js';
import { countOption } from './number-option.js';
import { columnOf, SPARK_WIDTH, sparkColumns, sparkline } from './sparkline.js';
import { subcommand } from './subcommand.js';
import { type Column, elided, tableLines, wrapped } from './table.js';

/** Asked for per cell: the least and the greatest of its time. */
const POINTS_PER_CELL = 2;

export const recorder: Command = {
  name: 'recorder',
  summary: 'what every sensor said around an alert',
  usage: ['recorder list [--json]', 'recorder show ALERT [GLOB] [--nth N] [--csv | --json]'],
  details:
    'The last ten minutes of every channel are kept in memory; around an alert they are written down, from a minute before ' +
    'it until a minute after it is over, at most ten minutes in all. GLOB is over channel ids: * within a segment, ** across. ' +
    'A sparkline goes from the least to the greatest value of its row; ▼ is the moment of the alert.',
  options: {
    nth: { type: 'string' },
    csv: { type: 'boolean' },
    json: { type: 'boolean' },
  },
  optionHelp: {
    nth: 'N: of several recordings of this alert the N-th newest (default 1)',
    csv: 'every sample: time,channel,value,unit,quality',
    json: 'list: an object; show: JSON lines, the recording and then its series in parts',
  },
  examples: [
    ['skos recorder list', 'The recordings there are, newest first.'],
    ["skos recorder show ALERT 'nvml/**'", 'What the GPUs did around it.'],
    ['skos recorder show ALERT --csv > incident.csv', 'Every sample, for a spreadsheet.'],
  ],

  async run(invocation, context) {
    const [verb, ...rest] = subcommand(invocation.positionals, { command: 'recorder', known: ['list', 'show'] });
    return verb === 'list' ? list(invocation, context) : show({ ...invocation, positionals: rest }, context);
  },
};

async function list({ values, positionals }: Invocation, { io, agent }: Context): Promise<number> {
  if (positionals.length > 1) throw new SkosError('SKOS_CLI_USAGE', 'skos recorder list takes no further word');
  const view = await (await agent()).request('recorder.list', {});
  io.out(values.json === true ? JSON.stringify(view, null, 2) : listText(view, io));
  return EXIT.ok;
}

export function listText({ memory, recordings }: RecorderView, io: Pick<Io, 'color' | 'columns' | 'wallMs'>): string {
  const { bold, warn } = paint(io.color);
  const seen = new Map<string, number>();
  const rows = recordings.map((info) => [
    { text: shortClockText(info.alertAtMs, io.wallMs()) },
    { text: spanText(info.toAtMs - info.fromAtMs) },
    { text: plural(info.channels, 'channel') },
    { text: plural(info.samples, 'sample') },
    info.open ? { text: 'being written', paint: warn } : { text: '' },
  ]);
  const columns: Column[] = [{}, { align: 'right' }, { align: 'right' }, { align: 'right' }, {}];
  const lines = tableLines({ columns, rows, width: io.columns, indent: 2 });
  const missing = memory.notRecorded === 0 ? '' : ` (no room for ${memory.notRecorded})`;
  return [
    // An id is to be copied: it stands whole on a line of its own.
    ...recordings.flatMap(({ alert }, i) => {
      const nth = (seen.get(alert) ?? 0) + 1;
      seen.set(alert, nth);
      return [`${bold(clean(alert))}${nth === 1 ? '' : ` --nth ${nth}`}`, lines[i] ?? ''];
    }),
    ...(recordings.length === 0 ? ['No recordings.'] : []),
    `In memory: the last ${spanText(memory.reachMs)} of ${plural(memory.channels, 'channel')}${missing}.`,
  ].join('\n');
}

async function show({ values, positionals: [alert, glob] }: Invocation, context: Context): Promise<number> {
  if (alert === undefined) throw new SkosError('SKOS_CLI_USAGE', 'skos recorder show needs an alert; list shows them');
  if (values.csv === true && values.json === true) {
    throw new SkosError('SKOS_CLI_USAGE', '--csv and --json exclude each other');
  }
  const { io } = context;
  const query: RecordingQuery = { alert, glob, nth: countOption(textOption(values, 'nth'), 'nth') };
  const client = await context.agent();
  if (values.csv === true) return csv(client, query, io);
  if (values.json === true) return json(client, query, io);
  const series: RecordingSeries[] = [];
  const points = POINTS_PER_CELL * SPARK_WIDTH.max;
  const recording = await eachPage(client, { ...query, points }, (page) => series.push(...page));
  io.out(showText(recording, series, io));
  return EXIT.ok;
}

async function eachPage(
  client: AgentClient,
  query: RecordingQuery,
  each: (series: readonly RecordingSeries[], recording: RecordingInfo) => void,
): Promise<RecordingInfo> {
  // An option that was not given has no place in a message.
  const params = Object.fromEntries(Object.entries(query).filter(([, value]) => value !== undefined));
  let after: string | undefined;
  for (;;) {
    const page = await client.request('recorder.show', {
      ...params,
      alert: query.alert,
      ...(after === undefined ? {} : { after }),
    });
    each(page.series, page.recording);
    if (page.after === null) return page.recording;
    after = page.after;
  }
}

async function csv(client: AgentClient, query: RecordingQuery, io: Io): Promise<number> {
  let isFirst = true;
  await eachPage(client, query, (page) => {
    const rows = page.flatMap((series) => csvRows({ ...series, stepMs: 0 }, 'samples'));
    io.out([...(isFirst ? [csvHeader('samples')] : []), ...rows].join('\n'));
    isFirst = false;
  });
  return EXIT.ok;
}

async function json(client: AgentClient, query: RecordingQuery, io: Io): Promise<number> {
  let isFirst = true;
  await eachPage(client, query, (page, recording) => {
    if (isFirst) io.out(JSON.stringify({ recording }));
    isFirst = false;
    for (const series of page) io.out(JSON.stringify({ series }));
  });
  return EXIT.ok;
}

function showText(
  recording: RecordingInfo,
  series: readonly RecordingSeries[],
  io: Pick<Io, 'color' | 'columns'>,
): string {
  const { dim, bold } = paint(io.color);
  const { alert, alertAtMs, fromAtMs, channels, samples, open } = recording;
  // In the first second of a recording the latest sample written is the one before the alert.
  const toAtMs = Math.max(recording.toAtMs, alertAtMs);
  const head = [
    `${clean(alert)} at ${clockText(alertAtMs)}:`,
    `from ${secondsText(alertAtMs - fromAtMs, 'before')} to ${secondsText(toAtMs - alertAtMs, 'after')},`,
    `${plural(channels, 'channel')}, ${plural(samples, 'sample')}${open ? ', still being written' : ''}`,
  ].join(' ');
  if (series.length === 0) return [...wrapped(head, { width: io.columns }), 'No channel of it matches.'].join('\n');
  const others = series.map((each) => [rangeText(each), atText(each, alertAtMs)] as const);
  const used = [others.map(([range]) => range), others.map(([, at]) => at), ['at alert']].map((texts) =>
    Math.max(...texts.map((text) => text.length)),
  );
  const [range = 0, at = 0, title = 0] = used;
  const left = io.columns - range - Math.max(at, title) - 6;
  const ids = series.map(({ channel }) => channel);
  const { id, width, shrinkTo } = sparkColumns(ids, left);
  const span = { fromAtMs, toAtMs, width };
  const mark = columnOf(alertAtMs, span);
  const columns: Column[] = [{ shrinkTo }, {}, { align: 'right' }, { align: 'right' }];
  const rows = [
    ['', mark === undefined ? '' : `${' '.repeat(mark)}▼`, 'min … max', 'at alert'].map((text) => ({
      text,
      paint: dim,
    })),
    ...series.map((each, i) => [
      { text: elided(each.channel, id) },
      { text: sparkline(each, span).padEnd(width) },
      { text: others[i]?.[0] ?? '' },
      { text: others[i]?.[1] ?? '', paint: bold },
    ]),
  ];
  return [...wrapped(head, { width: io.columns }), ...tableLines({ columns, rows, width: io.columns })].join('\n');
}

/** An alert that an earlier agent raised lies before its recording. */
function secondsText(ms: number, side: 'before' | 'after'): string {
  const opposite = side === 'before' ? 'after' : 'before';
  return `${spanText(Math.abs(ms))} ${ms < 0 ? opposite : side}`;
}

function rangeText({ values, unit }: RecordingSeries): string {
  let [least, greatest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    if (value === null) continue;
    least = Math.min(least, value);
    greatest = Math.max(greatest, value);
  }
  if (least > greatest) return '–';
  const [from, to] = [quantityText(least, unit), quantityText(greatest, unit)];
  if (from === to) return to;
  const [number = '', symbol] = from.split(' ');
  return `${to.endsWith(` ${symbol}`) ? number : from} … ${to}`;
}

/** What the sensor said at that moment: its latest sample, or why it had none. */
function atText({ atMs, values, unit, qualities }: RecordingSeries, alertAtMs: number): string {
  const index = atMs.findLastIndex((each) => each <= alertAtMs);
  if (index < 0) return '–';
  const value = values[index] ?? null;
  if (value !== null) return quantityText(value, unit);
  return qualities.findLast(([from]) => from <= index)?.[1] ?? '–';
}
