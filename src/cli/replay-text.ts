/** What replays found, for people: one line for each episode, what it would have led to, and how far the readings reach. */
import type { ActionTotal, Episode, Pair, ReplayReport } from '../control/replay.js';
import { QUANTITIES, type Quantity, toBase } from '../core/units.js';
import { SEVERITIES } from '../core/vocabulary.js';
import type { Permission } from '../policy/action.js';
import type { Io } from './command.js';
import { clean, paint, plural, quantityText, severityPaint, spanText } from './format.js';
import { localText } from './local-time.js';
import type { PastFigures } from './past-feed.js';
import { type Cell, tableLines, wrapped } from './table.js';

/** Of the latest ones; --json has all. */
export const MAX_SHOWN = 40;
const WORDS: Readonly<Record<Permission, string>> = {
  act: 'done',
  propose: 'proposed',
  observe: 'only recorded',
};

type Terminal = Pick<Io, 'color' | 'columns' | 'wallMs'>;
export type QuantityOf = (channel: string) => Quantity | undefined;

/** Marks of a comparison, and what they say. */
const MARKS = { same: ' ', changed: '~', onlyA: '-', onlyB: '+' } as const;

export function pairLines(pairs: readonly Pair[], quantityOf: QuantityOf, io: Terminal): string[] {
  const { good, bad, warn } = paint(io.color);
  const shown = pairs.slice(-MAX_SHOWN);
  const rows = shown.flatMap(({ a, b, same }) => {
    if (a !== undefined && b !== undefined) {
      const first = [{ text: same ? MARKS.same : MARKS.changed, paint: warn }, ...cells(a, quantityOf, io)];
      return same ? [first] : [first, [{ text: '' }, ...cells(b, quantityOf, io)]];
    }
    if (a !== undefined) return [[{ text: MARKS.onlyA, paint: bad }, ...cells(a, quantityOf, io)]];
    return b === undefined ? [] : [[{ text: MARKS.onlyB, paint: good }, ...cells(b, quantityOf, io)]];
  });
  return [...hidden(pairs.length), ...tableLines({ columns: [{}, ...COLUMNS], rows, width: io.columns, indent: 1 })];
}

export function episodeLines(episodes: readonly Episode[], quantityOf: QuantityOf, io: Terminal): string[] {
  const rows = episodes.slice(-MAX_SHOWN).map((episode) => cells(episode, quantityOf, io));
  return [...hidden(episodes.length), ...tableLines({ columns: COLUMNS, rows, width: io.columns, indent: 2 })];
}

function hidden(count: number): string[] {
  return count > MAX_SHOWN ? [`  … ${count - MAX_SHOWN} earlier ones: see --json`] : [];
}

const COLUMNS = [{}, {}, { align: 'right' }, { align: 'right' }, { shrinkTo: 12 }, { shrinkTo: 12 }] as const;

function cells(episode: Episode, quantityOf: QuantityOf, io: Terminal): Cell[] {
  const { rule, channel, fromMs, toMs, severity, peak, certain, actions } = episode;
  const colors = paint(io.color);
  const quantity = quantityOf(channel);
  const value = quantity === undefined ? '' : quantityText(toBase(quantity, peak), QUANTITIES[quantity].unit);
  const done = [...new Set(actions.map(({ action }) => action))];
  return [
    { text: `${certain ? '' : '≤ '}${localText(fromMs, io.wallMs())}` },
    { text: severity, paint: severityPaint(severity, colors) },
    { text: toMs === null ? 'stands' : spanText(toMs - fromMs) },
    { text: value },
    { text: clean(`${rule} ${channel}`) },
    { text: done.join(', '), paint: colors.dim },
  ];
}

/** "warning 3, critical 1; throttle_10 4 times, 12 min in all, done; redistribute 1 time, proposed". */
export function totalLines({ fired, uncertain, bySeverity, totals }: ReplayReport, { columns }: Terminal): string[] {
  if (fired === 0) return ['  nothing fires'];
  const severities = SEVERITIES.filter((each) => bySeverity[each] > 0).map((each) => `${each} ${bySeverity[each]}`);
  const doubt = uncertain === 0 ? '' : `, of which ${uncertain} (≤) perhaps not: single samples are no longer kept`;
  return [
    ...wrapped(`${plural(fired, 'alert')} (${severities.join(', ')})${doubt}`, { width: columns, indent: '  ' }),
    ...totals.flatMap((total) => wrapped(totalText(total), { width: columns, indent: '    ' })),
  ];
}

function totalText({ action, permission, times, totalMs }: ActionTotal): string {
  return `${action}: ${plural(times, 'time')}, ${spanText(totalMs)} in all, ${WORDS[permission]}`;
}

/** How far the readings reach, and what was wrong with them. */
export function pastLines(figures: PastFigures, { columns, wallMs, color }: Terminal): string[] {
  const { fromMs, toMs, byStepMs, garbage, firstGarbageLine, late, rows } = figures;
  if (fromMs === null || toMs === null) return [];
  const widths = [...byStepMs].sort(([a], [b]) => b - a).map(([stepMs, count]) => `${count} ${widthText(stepMs)}`);
  const texts = [
    `readings from ${localText(fromMs, wallMs())} to ${localText(toMs, wallMs())}: ${widths.join(', ')}`,
    ...(late === 0 ? [] : [`${late} of ${rows} were not later than the one before them, and passed over`]),
    ...(garbage === 0
      ? []
      : [`${plural(garbage, 'line')} could not be read, the first one is line ${firstGarbageLine}`]),
  ];
  return texts.flatMap((text) => wrapped(text, { width: columns, indent: '  ' })).map(paint(color).dim);
}

function widthText(stepMs: number): string {
  return stepMs === 0 ? 'single samples' : `of ${spanText(stepMs)}`;
}
