/**
 * Readings of the past on their way into replays: pages of stored history, or a CSV as `skos history --csv` writes it. One page, or one
 * row of each channel, is in memory at a time.
 */
import { createReadStream } from 'node:fs';
import type { Replay } from '../control/replay.js';
import type { AgentClient } from '../core/agent-client.js';
import { QUALITIES, type Quality } from '../core/channel.js';
import { reason, SkosError } from '../core/errors.js';
import { LineReader } from '../core/lines.js';
import type { HistoryQuery, HistorySeries } from '../core/ports.js';
import { fromBase, QUANTITIES, type Quantity } from '../core/units.js';
import { STEPS_MS } from '../store/points.js';
import { csvHeader } from './history-csv.js';
import { historyPages } from './history-series.js';

/** A page is read from the disk of a busy node. */
const DEADLINE_MS = 30_000;
/** The longest row there is: an id of three segments, values, times. */
const MAX_ROW_BYTES = 1_024;
/** Channels of a file, each with its latest row: more than any node has. */
const MAX_CHANNELS = 20_000;

const QUANTITY_OF_UNIT: ReadonlyMap<string, Quantity> = new Map(
  (Object.keys(QUANTITIES) as Quantity[]).map((quantity) => [QUANTITIES[quantity].unit, quantity]),
);

/** What was read, for who reads the result. */
export interface PastFigures {
  readonly rows: number;
  readonly fromMs: number | null;
  readonly toMs: number | null;
  /** Rows of single samples, and of points by their width in ms. */
  readonly byStepMs: ReadonlyMap<number, number>;
  /** Rows that were no rows, and where the first one stood. */
  readonly garbage: number;
  readonly firstGarbageLine: number | null;
  /** Not later than the row before them: told twice, out of order, or of a clock that was set back. */
  readonly late: number;
}

interface Point {
  readonly atMs: number;
  readonly stepMs: number;
  readonly value: number | null;
  readonly minimum: number | null;
  readonly maximum: number | null;
  readonly count: number;
  readonly quality: Quality;
}

export class PastFeed {
  readonly #replays: readonly Replay[];
  readonly #onPoint: (channel: string, point: Point, quantity: Quantity) => void;
  readonly #newestMs = new Map<string, number>();
  readonly #byStepMs = new Map<number, number>();
  readonly #ids = new Set<string>();
  #rows = 0;
  #fromMs: number | null = null;
  #toMs: number | null = null;
  #garbage = 0;
  #firstGarbageLine: number | null = null;
  #late = 0;

  constructor(replays: readonly Replay[], onPoint: (channel: string, point: Point) => void = () => undefined) {
    this.#replays = replays;
    this.#onPoint = onPoint;
  }

  get figures(): PastFigures {
    return {
      rows: this.#rows,
      fromMs: this.#fromMs,
      toMs: this.#toMs,
      byStepMs: this.#byStepMs,
      garbage: this.#garbage,
      firstGarbageLine: this.#firstGarbageLine,
      late: this.#late,
    };
  }

  /** Channels of which anything came. */
  get ids(): ReadonlySet<string> {
    return this.#ids;
  }

  /** Of one channel. False: it was cancelled. Rejects as the agent does. */
  async stored(client: AgentClient, query: HistoryQuery, isCancelled: () => boolean): Promise<boolean> {
    const ask = (asked: HistoryQuery) => client.request('history', asked, { deadlineMs: DEADLINE_MS });
    for await (const page of historyPages(ask, query)) {
      for (const series of page) this.#series(series);
      if (isCancelled()) return false;
    }
    return true;
  }

  #series({ channel, unit, stepMs, atMs, values, minimums, maximums, counts, qualities }: HistorySeries): void {
    const quantity = QUANTITY_OF_UNIT.get(unit);
    if (quantity === undefined) return;
    let next = 0;
    let quality: Quality = 'ok';
    atMs.forEach((each, i) => {
      if (qualities[next]?.[0] === i) quality = qualities[next++]?.[1] ?? quality;
      const value = values[i] ?? null;
      const point = {
        atMs: each,
        stepMs,
        value,
        minimum: (minimums ?? values)[i] ?? null,
        maximum: (maximums ?? values)[i] ?? null,
        count: counts?.[i] ?? (value === null ? 0 : 1),
        quality,
      };
      this.#point(channel, point, quantity);
    });
  }

  #point(channel: string, point: Point, quantity: Quantity): void {
    const { atMs, stepMs, quality } = point;
    this.#rows += 1;
    this.#ids.add(channel);
    this.#byStepMs.set(stepMs, (this.#byStepMs.get(stepMs) ?? 0) + 1);
    this.#fromMs = Math.min(this.#fromMs ?? atMs, atMs);
    this.#toMs = Math.max(this.#toMs ?? atMs, atMs + stepMs);
    const newestMs = this.#newestMs.get(channel);
    if (newestMs !== undefined && atMs <= newestMs) this.#late += 1;
    this.#newestMs.set(channel, atMs);
    this.#onPoint(channel, point, quantity);
    const canonical = (value: number | null) => (value === null ? null : fromBase(quantity, value));
    for (const replay of this.#replays) {
      if (stepMs === 0) replay.sample(channel, canonical(point.value), quality, atMs);
      else {
        const [minimum, maximum] = [canonical(point.minimum), canonical(point.maximum)];
        replay.bucket(channel, { atMs, stepMs, minimum, maximum, count: point.count, quality });
      }
    }
  }

  // ---- CSV -----------------------------------------------------------------------------------------------------------

  /** Rejects with SKOS_REPLAY_CSV when it cannot be read, or is not such a file. False: it was cancelled. */
  async csv(path: string, isCancelled: () => boolean): Promise<boolean> {
    const reader = new LineReader({ maxBytes: MAX_ROW_BYTES });
    const rows = new CsvRows((channel, point, quantity) => this.#point(channel, point, quantity));
    let line = 0;
    const take = (text: string) => {
      line += 1;
      if (line === 1) rows.begin(text);
      else if (!rows.take(text)) {
        this.#garbage += 1;
        this.#firstGarbageLine ??= line;
      }
    };
    try {
      for await (const chunk of createReadStream(path)) {
        reader.push(chunk as Buffer, take);
        if (isCancelled()) return false;
      }
      // The last line may lack its end.
      reader.push(Buffer.from('\n'), take);
    } catch (error) {
      if (error instanceof SkosError && error.code === 'SKOS_REPLAY_CSV') throw error;
      const where = error instanceof SkosError ? ` behind line ${line}` : '';
      throw new SkosError('SKOS_REPLAY_CSV', `${path}${where}: ${reason(error)}`, { cause: error });
    }
    if (line === 0) throw new SkosError('SKOS_REPLAY_CSV', `${path} is empty`);
    rows.end();
    return true;
  }
}

/**
 * The rows of a CSV. Those of points do not say how wide they are: at most up to the next one of their channel, at most as wide as the
 * one before (tiers become finer with time), and they begin at multiples of their width.
 */
class CsvRows {
  readonly #give: (channel: string, point: Point, quantity: Quantity) => void;
  /** Points wait for the next one of their channel. */
  readonly #waiting = new Map<string, { point: Point; quantity: Quantity }>();
  readonly #stepMs = new Map<string, number>();
  #form: 'samples' | 'points' = 'samples';

  constructor(give: (channel: string, point: Point, quantity: Quantity) => void) {
    this.#give = give;
  }

  begin(header: string): void {
    if (header === csvHeader('points')) this.#form = 'points';
    else if (header !== csvHeader('samples')) {
      const expected = `expected ${csvHeader('samples')} or ${csvHeader('points')}`;
      throw new SkosError('SKOS_REPLAY_CSV', `the first line is not the header of a history; ${expected}`);
    }
  }

  /** False: that is no row. */
  take(text: string): boolean {
    const fields = text.split(',');
    if (fields.length !== (this.#form === 'samples' ? 5 : 8)) return false;
    const [time = '', channel = '', ...rest] = fields;
    const [unit = '', qualityText = ''] = rest.slice(-2);
    const atMs = ISO.test(time) ? Date.parse(time) : Number.NaN;
    const quality = QUALITIES.find((each) => each === qualityText);
    const quantity = QUANTITY_OF_UNIT.get(unit);
    const isUsable = Number.isFinite(atMs) && CHANNEL.test(channel) && quality !== undefined && quantity !== undefined;
    if (!isUsable) return false;
    const numbers = rest.slice(0, -2).map(numberOf);
    if (numbers.some((each) => each === undefined)) return false;
    return this.#form === 'samples'
      ? this.#sample(channel, { atMs, value: numbers[0] ?? null, quality }, quantity)
      : this.#points(channel, { atMs, numbers: numbers as (number | null)[], quality }, quantity);
  }

  #sample(
    channel: string,
    { atMs, value, quality }: { atMs: number; value: number | null; quality: Quality },
    quantity: Quantity,
  ): boolean {
    // A value that is not ok was never read, and an ok one without a value neither.
    if ((value !== null) !== (quality === 'ok')) return false;
    const count = value === null ? 0 : 1;
    this.#give(channel, { atMs, stepMs: 0, value, minimum: value, maximum: value, count, quality }, quantity);
    return true;
  }

  #points(
    channel: string,
    { atMs, numbers, quality }: { atMs: number; numbers: readonly (number | null)[]; quality: Quality },
    quantity: Quantity,
  ): boolean {
    const [minimum = null, value = null, maximum = null, count = null] = numbers;
    if (count === null || count < 0 || !Number.isInteger(count)) return false;
    const isEmpty = count === 0;
    if ([minimum, value, maximum].some((each) => (each === null) !== isEmpty)) return false;
    if (!isEmpty && !((minimum ?? 0) <= (maximum ?? 0))) return false;
    if (!this.#waiting.has(channel) && this.#waiting.size >= MAX_CHANNELS) return false;
    this.#next(channel, atMs);
    this.#waiting.set(channel, { point: { atMs, stepMs: 0, value, minimum, maximum, count, quality }, quantity });
    return true;
  }

  /** What waits is as wide as it can be. */
  #next(channel: string, nextMs: number): void {
    const waiting = this.#waiting.get(channel);
    if (waiting === undefined) return;
    const { point, quantity } = waiting;
    const stepMs = widthMs(
      point.atMs,
      Math.min(nextMs - point.atMs, this.#stepMs.get(channel) ?? Number.POSITIVE_INFINITY),
    );
    this.#stepMs.set(channel, stepMs);
    this.#give(channel, { ...point, stepMs }, quantity);
  }

  end(): void {
    for (const [channel, { point }] of this.#waiting)
      this.#next(channel, point.atMs + (this.#stepMs.get(channel) ?? 0));
    this.#waiting.clear();
  }
}

const ISO = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z$/;
const CHANNEL = /^[a-z0-9_~-]+(\/[a-z0-9_~-]+){2}$/;
const NUMBER = /^-?\d+(\.\d+)?(e[+-]?\d+)?$/;
/** null: empty; undefined: no number. */
function numberOf(text: string): number | null | undefined {
  if (text === '') return null;
  return NUMBER.test(text) ? Number(text) : undefined;
}

/** The widest that begins here and is over by then; 0: a single sample. */
function widthMs(atMs: number, mostMs: number): number {
  return STEPS_MS.findLast((stepMs) => stepMs <= mostMs && atMs % stepMs === 0) ?? 0;
}
