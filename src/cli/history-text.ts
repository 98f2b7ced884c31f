/** The past of channels for a terminal: a chart of each, or a row of each when there are many. */
import type { Io } from './command.js';
import { clean, paint, plural, quantityText, spanText } from './format.js';
import type { Past } from './history-series.js';
import { localText, stretchText } from './local-time.js';
import type { Stretch } from './moment.js';
import { plotLines, rangeOf } from './plot.js';
import { sparkColumns, sparkline } from './sparkline.js';
import { type Column, elided, tableLines, visibleLength, wrapped } from './table.js';

/** The fewer charts, the higher they are: by their number. */
const CHART_ROWS: readonly number[] = [11, 11, 9, 7];
const MANY_CHARTS_ROWS = 5;
/** Their mean means nothing. */
const WITHOUT_MEAN = new Set(['bitmask', 'code']);

interface TextOptions extends Stretch {
  readonly io: Pick<Io, 'color' | 'columns' | 'wallMs'>;
}

export function chartsText(pasts: readonly Past[], options: TextOptions): string {
  const { fromAtMs, toAtMs, io } = options;
  const colors = paint(io.color);
  const rows = CHART_ROWS[pasts.length] ?? MANY_CHARTS_ROWS;
  return [
    ...headLines(options),
    ...pasts.flatMap((past) => {
      const { unit, points } = past;
      const chart = plotLines(points, { fromAtMs, toAtMs, width: io.columns, rows, unit, paint: colors });
      const none = `  Nothing is stored of this time; the last sample is of ${localText(past.lastAtMs, io.wallMs())}.`;
      return ['', ...titleLines(past, io), ...(points.length === 0 ? [none] : chart)];
    }),
  ].join('\n');
}

function headLines({ fromAtMs, toAtMs, io }: TextOptions, more = ''): string[] {
  const text = `${stretchText({ fromAtMs, toAtMs })}, ${spanText(toAtMs - fromAtMs)}${more}`;
  return wrapped(text, { width: io.columns }).map(paint(io.color).dim);
}

/** One line where it fits. */
function titleLines(past: Past, { color, columns }: TextOptions['io']): string[] {
  const { bold, dim } = paint(color);
  const label = clean(past.label);
  const name = label === '' || past.id.endsWith(`/${label}`) ? '' : `  ${label}`;
  const title = `${bold(past.id)}${dim(name)}`;
  const numbers = numbersText(past);
  if (numbers === '') return [title];
  const blanks = columns - visibleLength(title) - visibleLength(numbers);
  return blanks < 2 ? [title, `  ${numbers}`] : [`${title}${' '.repeat(blanks)}${numbers}`];
}

/** "min 48.0, mean 55.3, max 91.0 °C": the unit once, where it is the same. */
function numbersText({ points, unit, mean }: Past): string {
  const range = rangeOf(points);
  if (range === undefined) return '';
  const numbers: [string, number][] = [['min', range.least]];
  if (mean !== null && !WITHOUT_MEAN.has(unit)) numbers.push(['mean', mean]);
  numbers.push(['max', range.greatest]);
  const texts = numbers.map(([, value]) => splitUnit(quantityText(value, unit)));
  return numbers
    .map(([name], i) => {
      const { number = '', symbol = '' } = texts[i] ?? {};
      const isSaid = i < texts.length - 1 && texts[i + 1]?.symbol === symbol;
      return `${name} ${number}${isSaid ? '' : symbol}`;
    })
    .join(', ');
}

function splitUnit(text: string): { number: string; symbol: string } {
  const blank = text.indexOf(' ');
  return blank < 0 ? { number: text, symbol: '' } : { number: text.slice(0, blank), symbol: text.slice(blank) };
}

export function rowsText(pasts: readonly Past[], options: TextOptions): string {
  const { fromAtMs, toAtMs, io } = options;
  const { dim, bold, warn } = paint(io.color);
  const ranges = pasts.map(rangeText);
  const lasts = pasts.map(lastText);
  const widest = (texts: readonly string[]) => Math.max(...texts.map((text) => text.length));
  const left = io.columns - widest([...ranges, 'min … max']) - widest([...lasts, 'last']) - 6;
  const ids = pasts.map((past) => past.id);
  const { id, width, shrinkTo } = sparkColumns(ids, left);
  const columns: Column[] = [{ shrinkTo }, {}, { align: 'right' }, { align: 'right' }];
  const header = ['', '', 'min … max', 'last'].map((text) => ({ text, paint: dim }));
  const rows = pasts.map((past, i) => [
    { text: elided(past.id, id) },
    { text: sparkline(sparkSeries(past), { fromAtMs, toAtMs, width }).padEnd(width) },
    { text: ranges[i] ?? '' },
    { text: lasts[i] ?? '', paint: past.last?.value === null ? warn : bold },
  ]);
  const silent = pasts.filter(({ points }) => points.length === 0).length;
  return [
    ...headLines(options, `, ${plural(pasts.length, 'channel')}${silent === 0 ? '' : `, nothing of ${silent}`}`),
    ...tableLines({ columns, rows: [header, ...rows], width: io.columns }),
  ].join('\n');
}

/** A cell shows the greatest: what is looked for is a peak. */
function sparkSeries({ points }: Past) {
  return { atMs: points.map(({ fromMs }) => fromMs), values: points.map(({ greatest }) => greatest) };
}

function rangeText({ points, unit }: Past): string {
  const range = rangeOf(points);
  if (range === undefined) return '–';
  const [from, to] = [range.least, range.greatest].map((value) => splitUnit(quantityText(value, unit)));
  if (from === undefined || to === undefined) return '–';
  const greatest = `${to.number}${to.symbol}`;
  if (from.number === to.number && from.symbol === to.symbol) return greatest;
  return `${from.number}${from.symbol === to.symbol ? '' : from.symbol} … ${greatest}`;
}

function lastText({ last, unit }: Past): string {
  if (last === undefined) return '–';
  return last.value === null ? last.quality : quantityText(last.value, unit);
}
