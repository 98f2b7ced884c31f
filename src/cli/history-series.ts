/** Stored series as they come from the agent, put together into the past of each channel. */
import type { Quality } from '../core/channel.js';
import type { HistoryPage, HistoryQuery, HistorySeries, StoredChannel } from '../core/ports.js';
import { QUANTITIES } from '../core/units.js';
import type { PlotPoint } from './plot.js';
import { HELD_PERIODS, medianPeriodMs } from './sparkline.js';

export type Ask = (query: HistoryQuery) => Promise<HistoryPage>;

/** Page after page, each asked for when the former was used. */
export async function* historyPages(ask: Ask, query: HistoryQuery): AsyncGenerator<readonly HistorySeries[]> {
  let after: string | null | undefined;
  do {
    const page: HistoryPage = await ask(typeof after === 'string' ? { ...query, after } : query);
    yield page.series;
    after = page.after;
  } while (after !== null);
}

export interface Past {
  readonly id: string;
  readonly label: string;
  readonly unit: string;
  readonly lastAtMs: number;
  /** In the order of time. */
  readonly points: readonly PlotPoint[];
  /** Of all samples; null when there is no value. */
  readonly mean: number | null;
  /** The last point's; null and its quality when that has no value. */
  readonly last: { readonly value: number | null; readonly quality: Quality } | undefined;
}

interface Point {
  readonly atMs: number;
  readonly stepMs: number;
  readonly value: number | null;
  readonly least: number | null;
  readonly greatest: number | null;
  readonly count: number;
  readonly quality: Quality;
}

export function pastOf(
  { id, label, quantity, lastAtMs }: StoredChannel,
  parts: readonly HistorySeries[],
  toAtMs: number,
): Past {
  const points = parts.flatMap(pointsOf).sort((a, b) => a.atMs - b.atMs);
  const periodMs = medianPeriodMs(points.map(({ atMs }) => atMs));
  let [sum, count] = [0, 0];
  for (const point of points) {
    sum += (point.value ?? 0) * point.count;
    count += point.count;
  }
  return {
    id,
    label,
    unit: QUANTITIES[quantity].unit,
    lastAtMs,
    points: points.map((point, i) => {
      const { atMs, least, greatest, quality } = point;
      return { fromMs: atMs, toMs: endOf(point, points[i + 1]?.atMs ?? toAtMs, periodMs), least, greatest, quality };
    }),
    mean: count === 0 ? null : sum / count,
    last: points.at(-1),
  };
}

/** Up to the next one, unless that is so late that something is missing between them. */
function endOf({ atMs, stepMs }: Point, nextMs: number, periodMs: number): number {
  return nextMs - atMs <= HELD_PERIODS * periodMs ? nextMs : Math.min(nextMs, atMs + Math.max(stepMs, periodMs));
}

function pointsOf({ stepMs, atMs, values, minimums, maximums, counts, qualities }: HistorySeries): Point[] {
  let next = 0;
  let quality: Quality = 'ok';
  return atMs.map((each, i) => {
    if (qualities[next]?.[0] === i) quality = qualities[next++]?.[1] ?? quality;
    const value = values[i] ?? null;
    return {
      atMs: each,
      stepMs,
      value,
      least: (minimums ?? values)[i] ?? null,
      greatest: (maximums ?? values)[i] ?? null,
      count: value === null ? 0 : (counts?.[i] ?? 1),
      quality,
    };
  });
}
