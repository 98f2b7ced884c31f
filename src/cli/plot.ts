/**
 * A channel's past as a chart of braille dots, four to the height of a character and two to its width. Pure.
 *
 * Every column of dots goes from the least to the greatest value of its time, so that a spike of one sample is seen in a chart
 * of a year; neighbours are joined, a time without any value stays empty. Columns in which a sample was not ok are named in a
 * row of their own: a chart that only went on would say that all was well.
 */
import type { Quality } from '../core/channel.js';
import { type Paint, quantityText } from './format.js';
import { dayText, minuteText, monthText, secondText } from './local-time.js';

/** A stretch of time with what was measured in it; the next one may begin where it ends, or later: a gap. */
export interface PlotPoint {
  readonly fromMs: number;
  readonly toMs: number;
  /** null: no value. */
  readonly least: number | null;
  readonly greatest: number | null;
  readonly quality: Quality;
}

export interface PlotOptions {
  readonly fromAtMs: number;
  readonly toAtMs: number;
  /** Of the whole, labels included, in characters. */
  readonly width: number;
  /** Height of the chart in characters; odd, so that one of them is in the middle. */
  readonly rows: number;
  readonly unit: string;
  readonly paint: Pick<Paint, 'dim' | 'warn'>;
}

const DOTS_PER_ROW = 4;
const DOTS_PER_CELL = 2;
const BRAILLE = 0x2800;
/** Bit of a dot by [column][row], as Unicode numbers them. */
const DOT_BITS = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
] as const;
/** Narrower charts show nothing; their lines are longer than the terminal then. */
const MIN_CELLS = 10;
/** A label of three values that are nearly the same: a regulator's millivolts. */
const MAX_MORE_DIGITS = 4;
const NOT_OK = 'not ok';
const MARKS: Readonly<Record<Exclude<Quality, 'ok'>, string>> = { no_data: 'n', stale: 's', fault: 'f', hung: 'h' };

/** Least and greatest of one column of dots. */
interface DotColumn {
  least: number;
  greatest: number;
}

/** The chart with its axes and, where needed, its legend; [] when there is neither a value nor a mark. */
export function plotLines(points: readonly PlotPoint[], options: PlotOptions): string[] {
  const { fromAtMs, toAtMs, width, rows, unit, paint } = options;
  const marked = points.some(({ quality }) => quality !== 'ok');
  const range = rangeOf(points);
  if (range === undefined && !marked) return [];
  const labels = range === undefined ? [] : axisLabels(range, { rows, unit });
  const margin = Math.max(0, ...labels.map((label) => label.length), marked ? NOT_OK.length : 0);
  const cells = Math.max(MIN_CELLS, width - margin - 2);
  const span = { fromAtMs, toAtMs };
  const chart = range === undefined ? [] : chartRows(dotColumns(points, { ...span, cells }), { range, rows });
  const axis = timeAxis({ ...span, cells });
  const indent = ' '.repeat(margin + 2);
  return [
    ...chart.map((row, i) => {
      const label = labels[i] ?? '';
      return `${paint.dim(`${label.padStart(margin)} ${label === '' ? '│' : '┤'}`)}${row}`.trimEnd();
    }),
    ...(marked
      ? [`${paint.dim(`${NOT_OK.padStart(margin)} │`)}${paint.warn(markRow(points, { ...span, cells }))}`]
      : []),
    paint.dim(`${' '.repeat(margin + 1)}└${axis.line}`),
    paint.dim(`${indent}${axis.labels}`),
    ...(marked ? [`${indent}${paint.warn(legend(points))}`] : []),
  ];
}

interface Range {
  readonly least: number;
  readonly greatest: number;
}

export function rangeOf(points: readonly Pick<PlotPoint, 'least' | 'greatest'>[]): Range | undefined {
  let [least, greatest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const point of points) {
    if (point.least === null || point.greatest === null) continue;
    least = Math.min(least, point.least);
    greatest = Math.max(greatest, point.greatest);
  }
  return least > greatest ? undefined : { least, greatest };
}

// ---- The dots --------------------------------------------------------------------------------------------------------

interface Cells {
  readonly fromAtMs: number;
  readonly toAtMs: number;
  readonly cells: number;
}

/** First and last column, of so many, that a stretch touches; undefined outside. */
function columnsOf(
  { fromMs, toMs }: PlotPoint,
  { fromAtMs, toAtMs }: Cells,
  columns: number,
): [number, number] | undefined {
  const perMs = columns / Math.max(1, toAtMs - fromAtMs);
  const first = Math.max(0, Math.floor((fromMs - fromAtMs) * perMs));
  const last = Math.min(columns - 1, Math.max(first, Math.ceil((toMs - fromAtMs) * perMs) - 1));
  return fromMs >= toAtMs || toMs < fromAtMs || first > last ? undefined : [first, last];
}

function dotColumns(points: readonly PlotPoint[], span: Cells): (DotColumn | undefined)[] {
  const columns = new Array<DotColumn | undefined>(span.cells * DOTS_PER_CELL).fill(undefined);
  for (const point of points) {
    const touched = columnsOf(point, span, columns.length);
    if (touched === undefined || point.least === null || point.greatest === null) continue;
    for (let i = touched[0]; i <= touched[1]; i++) {
      const column = columns[i];
      if (column === undefined) columns[i] = { least: point.least, greatest: point.greatest };
      else {
        column.least = Math.min(column.least, point.least);
        column.greatest = Math.max(column.greatest, point.greatest);
      }
    }
  }
  return columns;
}

function chartRows(
  columns: readonly (DotColumn | undefined)[],
  { range, rows }: { range: Range; rows: number },
): string[] {
  const dots = rows * DOTS_PER_ROW;
  const size = range.greatest - range.least;
  // From the top, as lines are written. Values that are all the same stand in the middle.
  const rowOf = (value: number) =>
    size === 0 ? dots >> 1 : Math.round(((range.greatest - value) / size) * (dots - 1));
  const cells = Array.from({ length: rows }, () => new Array<number>(columns.length / DOTS_PER_CELL).fill(0));
  let before: { top: number; bottom: number } | undefined;
  columns.forEach((column, i) => {
    if (column === undefined) {
      before = undefined;
      return;
    }
    const own = { top: rowOf(column.greatest), bottom: rowOf(column.least) };
    // Joined to its neighbour: a step is a line, not two of them.
    const top = before === undefined ? own.top : Math.min(own.top, before.bottom + 1);
    const bottom = before === undefined ? own.bottom : Math.max(own.bottom, before.top - 1);
    for (let dot = top; dot <= bottom; dot++) {
      const row = cells[dot >> 2];
      const cell = i >> 1;
      if (row !== undefined) row[cell] = (row[cell] ?? 0) | (DOT_BITS[i % 2 === 0 ? 0 : 1][dot & 3] ?? 0);
    }
    before = own;
  });
  return cells.map((row) => row.map((bits) => (bits === 0 ? ' ' : String.fromCodePoint(BRAILLE + bits))).join(''));
}

function markRow(points: readonly PlotPoint[], span: Cells): string {
  const row = new Array<string>(span.cells).fill(' ');
  for (const point of points) {
    const touched = point.quality === 'ok' ? undefined : columnsOf(point, span, span.cells);
    if (touched === undefined || point.quality === 'ok') continue;
    row.fill(MARKS[point.quality], touched[0], touched[1] + 1);
  }
  return row.join('').trimEnd();
}

function legend(points: readonly PlotPoint[]): string {
  const seen = new Set(points.map(({ quality }) => quality));
  return Object.entries(MARKS)
    .filter(([quality]) => seen.has(quality as Quality))
    .map(([quality, mark]) => `${mark} ${quality}`)
    .join(', ');
}

// ---- The axes --------------------------------------------------------------------------------------------------------

/** One for each row, '' for most: the greatest value, the one in the middle, the least. */
function axisLabels({ least, greatest }: Range, { rows, unit }: { rows: number; unit: string }): string[] {
  const labels = new Array<string>(rows).fill('');
  const middle = rows >> 1;
  if (least === greatest) {
    labels[middle] = quantityText(least, unit);
    return labels;
  }
  const values = [greatest, (greatest + least) / 2, least];
  let texts: string[] = [];
  for (let more = 0; more <= MAX_MORE_DIGITS; more++) {
    texts = values.map((value) => quantityText(value, unit, more));
    if (new Set(texts).size === values.length) break;
  }
  [labels[0], labels[middle], labels[rows - 1]] = [texts[0] ?? '', texts[1] ?? '', texts[2] ?? ''];
  return labels;
}

const MINUTE_S = 60;
const DAY_S = 86_400;
/** Steps that a clock face and a calendar know. */
const SECOND_STEPS = [1, 2, 5, 10, 15, 30];
const MINUTE_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720].map((minutes) => minutes * MINUTE_S);
const DAY_STEPS = [1, 2, 7, 14];
const MONTH_STEPS = [1, 2, 3, 6, 12, 24, 60];
const MONTH_S = 30.44 * DAY_S;
/** Between two labels. */
const LABEL_GAP = 3;
/** 1970-01-01 was a Thursday; weeks begin on Mondays. */
const DAYS_TO_MONDAY = 3;

interface Ticks {
  readonly stepS: number;
  readonly labelWidth: number;
  /** Moments within the span, ascending. */
  readonly at: (from: Date, to: Date) => Date[];
  readonly label: (date: Date) => string;
}

const midnight = (date: Date) => date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0;

/** By local fields, so that noon is noon on both sides of a change of summer time. */
function clockTicks(stepS: number, text: (date: Date) => string): Ticks {
  return {
    stepS,
    labelWidth: stepS < MINUTE_S ? 8 : 6,
    label: (date) => (midnight(date) ? dayText(date) : text(date)),
    at: (from, to) => {
      const found: Date[] = [];
      const day = [from.getFullYear(), from.getMonth(), from.getDate()] as const;
      for (let second = 0; ; second += stepS) {
        const date = new Date(...day, 0, 0, second);
        if (date >= to) return found;
        if (date >= from) found.push(date);
      }
    },
  };
}

function dayTicks(days: number): Ticks {
  return {
    stepS: days * DAY_S,
    labelWidth: 6,
    label: dayText,
    at: (from, to) => {
      const found: Date[] = [];
      for (let day = from.getDate(); ; day++) {
        const date = new Date(from.getFullYear(), from.getMonth(), day);
        if (date >= to) return found;
        const number = Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / (DAY_S * 1000);
        if (date >= from && (number + DAYS_TO_MONDAY) % days === 0) found.push(date);
      }
    },
  };
}

function monthTicks(months: number): Ticks {
  return {
    stepS: months * MONTH_S,
    labelWidth: 4,
    label: (date) => (date.getMonth() === 0 ? String(date.getFullYear()) : monthText(date)),
    at: (from, to) => {
      const found: Date[] = [];
      for (let month = from.getFullYear() * 12 + from.getMonth(); ; month++) {
        const date = new Date(0, month, 1);
        date.setFullYear(Math.floor(month / 12), month % 12, 1);
        if (date >= to) return found;
        if (date >= from && month % months === 0) found.push(date);
      }
    },
  };
}

const TICKS: readonly Ticks[] = [
  ...SECOND_STEPS.map((step) => clockTicks(step, secondText)),
  ...MINUTE_STEPS.map((step) => clockTicks(step, minuteText)),
  ...DAY_STEPS.map(dayTicks),
  ...MONTH_STEPS.map(monthTicks),
];

function timeAxis({ fromAtMs, toAtMs, cells }: Cells): { line: string; labels: string } {
  const spanMs = Math.max(1, toAtMs - fromAtMs);
  const isWide = ({ stepS, labelWidth }: Ticks) => ((stepS * 1000) / spanMs) * cells >= labelWidth + LABEL_GAP;
  const ticks = TICKS.find(isWide);
  const line = new Array<string>(cells).fill('─');
  const labels = new Array<string>(cells).fill(' ');
  let free = 0;
  for (const date of ticks?.at(new Date(fromAtMs), new Date(toAtMs)) ?? []) {
    const cell = Math.floor(((date.getTime() - fromAtMs) / spanMs) * cells);
    const text = ticks?.label(date) ?? '';
    const start = Math.min(cells - text.length, Math.max(0, cell - (text.length >> 1)));
    if (start < free) continue;
    line[cell] = '┬';
    for (let i = 0; i < text.length; i++) labels[start + i] = text[i] ?? ' ';
    free = start + text.length + 1;
  }
  return { line: line.join(''), labels: labels.join('').trimEnd() };
}
