/** Stored history, and recordings, as CSV. Ids, units and qualities have no commas or quotes. */
import { SkosError } from '../core/errors.js';
import type { HistoryQuery, HistorySeries } from '../core/ports.js';
import { type Ask, historyPages } from './history-series.js';

/** Single samples, or points with least, mean and greatest. */
export type CsvForm = 'samples' | 'points';

const HEADERS: Readonly<Record<CsvForm, string>> = {
  samples: 'time,channel,value,unit,quality',
  points: 'time,channel,minimum,mean,maximum,count,unit,quality',
};
/** Holds the beginning of a minute, and a sample of every channel that is read at all. */
const PROBE_MS = 61_000;
const PROBE_POINTS = 2_000;
/** The least that store.raw_hours may be: what is younger is kept in single samples. */
const ALWAYS_SAMPLES_MS = 1_800_000;

export function csvHeader(form: CsvForm): string {
  return HEADERS[form];
}

/** Rejects points for a table of samples with SKOS_HISTORY_MIXED: it has no columns for them. */
export function csvRows(series: HistorySeries, form: CsvForm): string[] {
  const { channel, unit, stepMs, atMs, values, minimums = values, maximums = values, counts, qualities } = series;
  if (form === 'samples' && stepMs > 0) {
    const from = new Date(atMs[0] ?? 0).toISOString();
    throw new SkosError('SKOS_HISTORY_MIXED', `of ${channel} from ${from} on there are no single samples any more`);
  }
  let next = 0;
  let quality = 'ok';
  return atMs.map((each, i) => {
    if (qualities[next]?.[0] === i) quality = qualities[next++]?.[1] ?? quality;
    const value = values[i] ?? null;
    const count = counts?.[i] ?? (value === null ? 0 : 1);
    const measured =
      form === 'samples' ? `${value ?? ''}` : `${minimums[i] ?? ''},${value ?? ''},${maximums[i] ?? ''},${count}`;
    return `${new Date(each).toISOString()},${channel},${measured},${unit},${quality}`;
  });
}

/**
 * Whether single samples are kept of all of this time. There is one header, which stands before the first row, so that the
 * beginning is looked at first: what is old is what becomes seconds and minutes.
 */
export async function csvForm(ask: Ask, query: HistoryQuery, nowMs: number): Promise<CsvForm> {
  if (query.points !== undefined) return 'points';
  if (query.fromAtMs >= nowMs - ALWAYS_SAMPLES_MS) return 'samples';
  const first = await formOf(ask, { ...query, toAtMs: Math.min(query.toAtMs, query.fromAtMs + PROBE_MS) });
  if (first !== undefined) return first;
  // The agent was not there yet: where does it begin?
  let [beginAtMs, endAtMs] = [query.toAtMs, query.toAtMs];
  for await (const page of historyPages(ask, { ...query, points: PROBE_POINTS })) {
    for (const { atMs, stepMs } of page) {
      const at = Math.max(query.fromAtMs, atMs[0] ?? query.toAtMs);
      if (at < beginAtMs) [beginAtMs, endAtMs] = [at, Math.min(query.toAtMs, at + stepMs + PROBE_MS)];
    }
  }
  return (await formOf(ask, { ...query, fromAtMs: beginAtMs, toAtMs: endAtMs })) ?? 'samples';
}

/** undefined: nothing is stored of this time. */
async function formOf(ask: Ask, query: HistoryQuery): Promise<CsvForm | undefined> {
  let form: CsvForm | undefined;
  for await (const page of historyPages(ask, query)) {
    if (page.some(({ stepMs }) => stepMs > 0)) return 'points';
    if (page.length > 0) form = 'samples';
  }
  return form;
}
