/**
 * `skos history`: what is stored of the channels' past, as a chart, as a row of each, as CSV or as JSON lines.
 *
 * The agent gives it in pages; the next one is asked for when the reader has taken the former, so that a year into a slow pipe
 * costs neither program its memory.
 */
import type { AgentClient } from '../core/agent-client.js';
import { SkosError } from '../core/errors.js';
import type { DeviceAggregate, HistoryQuery, HistorySeries, LatestSample } from '../core/ports.js';
import type { StoredChannelView } from '../core/protocol.js';
import { suggest } from '../core/suggest.js';
import { QUANTITIES } from '../core/units.js';
import { allRows } from './all-rows.js';
import { type Command, type Invocation, type Io, textOption, type Values } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, plural, quantityText, spanText } from './format.js';
import { csvForm, csvHeader, csvRows } from './history-csv.js';
import { type Ask, historyPages, type Past, pastOf } from './history-series.js';
import { chartsText, rowsText } from './history-text.js';
import { localText, zoneText } from './local-time.js';
import { type Stretch, stretchOf } from './moment.js';
import { countOption } from './number-option.js';
import { type Cell, type Column, tableLines, wrapped } from './table.js';

/** A page is read from the disk of a busy node. */
const DEADLINE_MS = 30_000;
/** More channels are shown as a row each: charts of them fill no screen that anybody reads. */
const MAX_CHARTS = 6;
/** Of one chart, two to a character. */
const MAX_POINTS = 2_000;
const POINTS_PER_CELL = 2;
/** Named when nothing is close to what was typed. */
const NAMED = 5;
const GLOB = /[*?]/;

export const history: Command = {
  name: 'history',
  summary: 'what the channels said in the past: chart, CSV, JSON',
  usage: [
    'history [--json]',
    'history CHANNEL|GLOB [--since 2h] [--until T] [--points N] [--csv|--json]',
    'history CHANNEL|GLOB --from=T [--until T] [--points N] [--csv|--json]',
    'history [CHANNEL|GLOB] --latest [--json]',
    'history [CHANNEL|GLOB] --by=device [--since 2h] [--until T] [--json]',
  ],
  details:
    'Without a channel it lists those of which something is stored. GLOB is over channel ids: * within a segment, ** across. ' +
    'A chart goes from the least to the greatest value of each moment; what is older than single samples are kept is there as ' +
    'seconds, then as minutes. T is HH:MM, the latest that is past, or ISO 8601, both in local time where no zone is named. ' +
    'CSV is time,channel,value,unit,quality for single samples, and ' +
    'time,channel,minimum,mean,maximum,count,unit,quality with --points and where seconds or minutes are what there is.',
  options: {
    since: { type: 'string' },
    from: { type: 'string' },
    until: { type: 'string' },
    points: { type: 'string' },
    csv: { type: 'boolean' },
    json: { type: 'boolean' },
    latest: { type: 'boolean' },
    by: { type: 'string' },
  },
  optionHelp: {
    since: 'DURATION: so far back, such as 90s, 15m, 2h, 3d or 1w (default 1h)',
    from: 'T: begin at this time',
    until: 'T: end before this time (default: now)',
    points: 'N: of each channel at most so many points, with least, mean and greatest',
    csv: 'all there is, times in UTC',
    json: 'channels: a list; samples: JSON lines, the series in parts',
    latest: 'the last sample of each channel',
    by: 'device: one row for each quantity of a device',
  },
  examples: [
    ['skos history', 'What is stored.'],
    ['skos history hwmon/coretemp-isa-0000/temp1 --since 2h', 'A chart of the last two hours.'],
    ["skos history 'nvml/**' --from 02:00 --until 04:00", 'What the GPUs did in the night.'],
    ["skos history '**' --since 1w --points 1000 --csv > week.csv", 'A week, for a spreadsheet.'],
  ],

  async run(invocation, context) {
    const { values, positionals } = invocation;
    const [glob] = positionals;
    refuseContradictions(invocation);
    const { io } = context;
    const client = await context.agent();
    const found = glob === undefined ? [] : await known(client, glob);
    if (values.latest === true) return latest(client, invocation, io);
    if (values.by !== undefined) return byDevice(client, invocation, io);
    return glob === undefined ? list(client, invocation, io) : past(client, invocation, { io, found, glob });
  },
};

const isAboutAll = (values: Values) => values.latest === true || values.by !== undefined;

function refuseContradictions({ values, positionals }: Invocation): void {
  const given = (names: readonly string[]) => names.filter((name) => values[name] !== undefined);
  const exclude = (names: readonly string[]) => {
    const both = given(names);
    if (both.length < 2) return;
    throw new SkosError('SKOS_CLI_USAGE', `--${both[0]} and --${both[1]} exclude each other`);
  };
  exclude(['csv', 'json']);
  exclude(['latest', 'by']);
  for (const name of ['since', 'from', 'until']) exclude(['latest', name]);
  for (const name of ['points', 'csv']) for (const other of ['latest', 'by']) exclude([other, name]);
  if (values.by !== undefined && values.by !== 'device') {
    throw new SkosError('SKOS_CLI_USAGE', `--by "${String(values.by)}" is not known; expected device`);
  }
  const aboutTime = given(['since', 'from', 'until', 'points', 'csv'])[0];
  if (positionals[0] === undefined && aboutTime !== undefined && !isAboutAll(values)) {
    throw new SkosError('SKOS_CLI_USAGE', `--${aboutTime} needs a channel or a glob, such as '**'`);
  }
}

function askedStretch(values: Values, nowMs: number): Stretch {
  const [since, from, until] = ['since', 'from', 'until'].map((name) => textOption(values, name));
  return stretchOf({ since, from, until }, nowMs);
}

// ---- Which channels ----------------------------------------------------------------------------------------------------

function channels(client: AgentClient, glob?: string): Promise<StoredChannelView[]> {
  const params = glob === undefined ? {} : { glob };
  return allRows((after) => client.request('history.channels', { ...params, ...after }));
}

/** Of which there is anything at all. Rejects with SKOS_HISTORY_UNKNOWN, and what may have been meant. */
async function known(client: AgentClient, glob: string): Promise<StoredChannelView[]> {
  const found = await channels(client, glob);
  if (found.length > 0) return found;
  const what = GLOB.test(glob) ? 'no stored channel matches' : 'there is no stored channel';
  throw new SkosError('SKOS_HISTORY_UNKNOWN', `${what} "${clean(glob)}"; ${await hint(client, glob)}`);
}

async function hint(client: AgentClient, glob: string): Promise<string> {
  const ids = (await channels(client)).map(({ id }) => id);
  const close = suggest(glob, ids);
  if (close !== undefined) return `did you mean "${close}"?`;
  // A chip or a name alone is a part of an id.
  const holding = ids.filter((id) => id.includes(glob.toLowerCase()));
  if (holding.length === 0) return '`skos history` lists those there are';
  const named = holding.slice(0, NAMED).map((id) => `"${id}"`);
  const more = holding.length > NAMED ? ` or one of ${holding.length - NAMED} more, see \`skos history\`` : '';
  return `did you mean ${named.join(', ')}${more}?`;
}

async function list(client: AgentClient, { values }: Invocation, io: Io): Promise<number> {
  const found = await channels(client);
  io.out(values.json === true ? JSON.stringify(found.map(jsonOf), null, 2) : listText(found, io));
  return EXIT.ok;
}

function jsonOf({ quantity, ...channel }: StoredChannelView) {
  return { ...channel, quantity: QUANTITIES[quantity].quantity, unit: QUANTITIES[quantity].unit };
}

export function listText(found: readonly StoredChannelView[], io: Pick<Io, 'color' | 'columns' | 'wallMs'>): string {
  if (found.length === 0) return 'Nothing is stored yet.';
  const { dim, warn } = paint(io.color);
  const nowMs = io.wallMs();
  const rows = found.map(({ id, quantity, firstAtMs, lastAtMs, gone }) => ({
    id,
    cells: [
      { text: QUANTITIES[quantity].unit, paint: dim },
      { text: `since ${localText(firstAtMs, nowMs)}` },
      gone ? { text: `gone, last seen ${localText(lastAtMs, nowMs)}`, paint: warn } : { text: '' },
    ],
  }));
  const gone = found.filter((each) => each.gone).length;
  const here = gone === 0 ? '' : `, ${gone} of them gone from this machine`;
  return [
    ...linesByDevice(rows, { columns: [{}, {}, { shrinkTo: 8 }], io }),
    ...wrapped(`${plural(found.length, 'channel')}${here}; times to about an hour, ${zoneText(new Date(nowMs))}.`, {
      width: io.columns,
    }).map(dim),
  ].join('\n');
}

/** The ids of a GPU's channels fill a line by themselves: the device stands above the names of its own. */
function linesByDevice(
  rows: readonly { readonly id: string; readonly cells: readonly Cell[] }[],
  { columns, io }: { columns: readonly Column[]; io: Pick<Io, 'color' | 'columns'> },
): string[] {
  const parts = rows.map(({ id }) => deviceAndName(id));
  const lines = tableLines({
    columns: [{ shrinkTo: 16 }, ...columns],
    rows: rows.map(({ cells }, i) => [{ text: parts[i]?.name ?? '' }, ...cells]),
    width: io.columns,
    indent: 2,
  });
  const devices = parts.map(({ device }) => device);
  return belowDevices(lines, devices, paint(io.color).bold);
}

/** Each device once, above its lines. */
function belowDevices(lines: readonly string[], devices: readonly string[], bold: (text: string) => string): string[] {
  return lines.flatMap((line, i) => (devices[i] === devices[i - 1] ? [line] : [bold(devices[i] ?? ''), line]));
}

function deviceAndName(id: string): { readonly device: string; readonly name: string } {
  const [source, device, ...name] = id.split('/');
  return { device: `${source}/${device}`, name: name.join('/') };
}

// ---- The last sample, and devices --------------------------------------------------------------------------------------

async function latest(client: AgentClient, { values, positionals: [glob] }: Invocation, io: Io): Promise<number> {
  const params = glob === undefined ? {} : { glob };
  const rows = await allRows((after) =>
    client.request('history.latest', { ...params, ...after }, { deadlineMs: DEADLINE_MS }),
  );
  io.out(values.json === true ? JSON.stringify(rows, null, 2) : latestText(rows, io));
  return EXIT.ok;
}

function latestText(rows: readonly LatestSample[], io: Pick<Io, 'color' | 'columns' | 'wallMs'>): string {
  if (rows.length === 0) return 'Nothing is stored yet.';
  const { dim, bold, warn } = paint(io.color);
  const cells = rows.map(({ channel, unit, atMs, value, quality }) => ({
    id: channel,
    cells: [
      value === null ? { text: quality, paint: warn } : { text: quantityText(value, unit), paint: bold },
      { text: `${spanText(io.wallMs() - atMs)} ago`, paint: dim },
    ],
  }));
  return linesByDevice(cells, { columns: [{ align: 'right' }, { align: 'right' }], io }).join('\n');
}

async function byDevice(client: AgentClient, { values, positionals: [glob] }: Invocation, io: Io): Promise<number> {
  const stretch = askedStretch(values, io.wallMs());
  const params = { ...stretch, ...(glob === undefined ? {} : { glob }) };
  const rows = await allRows((after) =>
    client.request('history.devices', { ...params, ...after }, { deadlineMs: DEADLINE_MS }),
  );
  io.out(values.json === true ? JSON.stringify(rows, null, 2) : devicesText(rows, io));
  return EXIT.ok;
}

function devicesText(rows: readonly DeviceAggregate[], io: Pick<Io, 'color' | 'columns' | 'wallMs'>): string {
  if (rows.length === 0) return 'Nothing is stored of this time.';
  const { dim, bold } = paint(io.color);
  const text = (value: number | null, unit: string) => (value === null ? '–' : quantityText(value, unit));
  const cells = rows.map((row) => [
    { text: row.channels === 1 ? row.quantity : `${row.quantity} of ${row.channels}` },
    { text: text(row.minimum, row.unit) },
    { text: text(row.mean, row.unit) },
    { text: text(row.maximum, row.unit), paint: bold },
    { text: row.maximumAtMs === null ? '' : localText(row.maximumAtMs, io.wallMs()), paint: dim },
    // What it was stands behind the device.
    { text: row.maximumOf.split('/').slice(2).join('/'), paint: dim },
  ]);
  const header = ['', 'min', 'mean', 'max', 'max at', ''].map((each) => ({ text: each, paint: dim }));
  const right = { align: 'right' } as const;
  const columns: Column[] = [{ shrinkTo: 8 }, right, right, right, right, { shrinkTo: 6 }];
  const [head = '', ...lines] = tableLines({ columns, rows: [header, ...cells], width: io.columns, indent: 2 });
  const devices = rows.map(({ source, device }) => `${source}/${device}`);
  return [head, ...belowDevices(lines, devices, bold)].join('\n');
}

// ---- Samples -----------------------------------------------------------------------------------------------------------

async function past(
  client: AgentClient,
  { values }: Invocation,
  { io, found, glob }: { io: Io; found: readonly StoredChannelView[]; glob: string },
): Promise<number> {
  const points = countOption(textOption(values, 'points'), 'points');
  const stretch = askedStretch(values, io.wallMs());
  const query: HistoryQuery = { glob, ...stretch, ...(points === undefined ? {} : { points }) };
  const ask = (asked: HistoryQuery) => client.request('history', asked, { deadlineMs: DEADLINE_MS });
  if (values.csv === true) {
    const form = await csvForm(ask, query, io.wallMs());
    io.out(csvHeader(form));
    await print(ask, query, io, (series) => csvRows(series, form));
  } else if (values.json === true) await print(ask, query, io, (series) => [JSON.stringify({ series })]);
  else {
    const cells = Math.min(MAX_POINTS, POINTS_PER_CELL * io.columns);
    const pasts = await pastsOf(ask, { points: cells, ...query }, found);
    io.out((pasts.length > MAX_CHARTS ? rowsText : chartsText)(pasts, { ...stretch, io }));
  }
  return EXIT.ok;
}

/** What the lines of each page are, until the reader has enough. */
async function print(
  ask: Ask,
  query: HistoryQuery,
  io: Pick<Io, 'out' | 'drained' | 'signal'>,
  lines: (series: HistorySeries) => readonly string[],
): Promise<void> {
  for await (const page of historyPages(ask, query)) {
    const text = page.flatMap(lines);
    if (text.length > 0) io.out(text.join('\n'));
    await io.drained?.();
    if (io.signal.aborted) return;
  }
}

async function pastsOf(ask: Ask, query: HistoryQuery, found: readonly StoredChannelView[]): Promise<Past[]> {
  const parts = new Map<string, HistorySeries[]>();
  for await (const page of historyPages(ask, query)) {
    for (const series of page) parts.set(series.channel, [...(parts.get(series.channel) ?? []), series]);
  }
  return found.map((channel) => pastOf(channel, parts.get(channel.id) ?? [], query.toAtMs));
}
