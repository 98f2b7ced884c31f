/**
 * A series as a line of blocks, from the least of its values (▁) to the greatest (█); a gap where there is none. Pure.
 *
 * A cell shows the greatest value of its time: what is looked for is a peak. A channel that speaks more seldom than the
 * cells stand goes on with its last value for three of its own periods.
 */
import type { RecordingSeries } from '../core/ports.js';

const BLOCKS = '▁▂▃▄▅▆▇█';
/** Narrower ones show nothing; wider ones nothing more. */
export const SPARK_WIDTH = { min: 10, max: 120 };
/** A sample stands for three of its channel's periods at most: after them it is a gap. */
export const HELD_PERIODS = 3;
const ID_SHRINKS_TO = 16;

export interface Span {
  readonly fromAtMs: number;
  readonly toAtMs: number;
  /** Cells. */
  readonly width: number;
}

/** Id and sparkline of rows that have so much left for both: the longest id gets half of it, and what the line cannot use. */
export function sparkColumns(ids: readonly string[], left: number): { id: number; width: number; shrinkTo: number } {
  const longest = Math.max(...ids.map((id) => id.length));
  const id = Math.min(longest, Math.max(ID_SHRINKS_TO, left - SPARK_WIDTH.max, Math.floor(left / 2)));
  const width = Math.max(SPARK_WIDTH.min, Math.min(SPARK_WIDTH.max, left - id));
  return { id, width, shrinkTo: ID_SHRINKS_TO };
}

type Series = Pick<RecordingSeries, 'atMs' | 'values'>;

export function sparkline(series: Series, span: Span): string {
  const cells = cellValues(series, span);
  const known = cells.filter((value) => value !== null);
  const least = Math.min(...known);
  const range = Math.max(...known) - least;
  return cells.map((value) => (value === null ? ' ' : block(range === 0 ? 0 : (value - least) / range))).join('');
}

/** Column of a moment; undefined outside the span. */
export function columnOf(atMs: number, { fromAtMs, toAtMs, width }: Span): number | undefined {
  const column = Math.floor(((atMs - fromAtMs) / Math.max(1, toAtMs - fromAtMs)) * width);
  return column === width && atMs === toAtMs ? width - 1 : column >= 0 && column < width ? column : undefined;
}

function block(share: number): string {
  return BLOCKS[Math.min(BLOCKS.length - 1, Math.floor(share * BLOCKS.length))] ?? ' ';
}

function cellValues({ atMs, values }: Series, span: Span): (number | null)[] {
  const cells = new Array<number | null | undefined>(span.width).fill(undefined);
  const last = new Array<number>(span.width).fill(-1);
  atMs.forEach((each, i) => {
    const column = columnOf(each, span);
    if (column === undefined) return;
    const value = values[i] ?? null;
    const former = cells[column];
    if (value === null) cells[column] ??= null;
    else cells[column] = former === undefined || former === null ? value : Math.max(former, value);
    last[column] = i;
  });
  const holdMs = HELD_PERIODS * medianPeriodMs(atMs);
  const cellMs = (span.toAtMs - span.fromAtMs) / span.width;
  let latest = -1;
  return cells.map((value, column) => {
    if ((last[column] ?? -1) >= 0) latest = last[column] ?? -1;
    if (value !== undefined) return value;
    const isHeld = latest >= 0 && span.fromAtMs + column * cellMs - (atMs[latest] ?? 0) <= holdMs;
    return isHeld ? (values[latest] ?? null) : null;
  });
}

export function medianPeriodMs(atMs: readonly number[]): number {
  const periods = atMs.slice(1).map((each, i) => each - (atMs[i] ?? 0));
  return periods.sort((a, b) => a - b)[periods.length >> 1] ?? 0;
}
