/**
 * A page of history while it fills: series of points and of samples in base units, up to a bound that is counted in bytes of JSON
 * from above. Pure.
 */
import { QUALITIES } from '../core/channel.js';
import type { HistoryPage, HistorySeries, StoredChannel } from '../core/ports.js';
import { QUANTITIES, toBase } from '../core/units.js';
import type { Buckets } from './buckets.js';
import type { Samples } from './chunk.js';

/** A line of the socket may have four times as much; the agent makes one in some milliseconds. */
export const MAX_PAGE_BYTES = 1024 * 1024;
/** A time, three values of up to 19 characters, a count, commas. Most take half of it. */
const POINT_BYTES = 14 + 3 * 19 + 8 + 5;
/** A time and a value. */
const SAMPLE_BYTES = 14 + 19 + 2;
/** `[12345,"no_data"],` */
const QUALITY_BYTES = 20;
/** Names of a series, with the longest id and a label. */
const SERIES_BYTES = 600;

const OK = QUALITIES.indexOf('ok');

type Mutable<T> = { -readonly [K in keyof T]: T[K] extends readonly (infer E)[] | undefined ? E[] : T[K] };
type Filling = Mutable<Required<HistorySeries>>;

export class PageBuilder {
  readonly #series: Filling[] = [];
  #bytes = 0;
  /** Points and samples. */
  #count = 0;
  #quality = -1;

  get count(): number {
    return this.#count;
  }

  get empty(): boolean {
    return this.#count === 0;
  }

  /** Points for which there is room, in a series of their own. At least one in an empty page. */
  get pointRoom(): number {
    return Math.floor(this.#room / (POINT_BYTES + QUALITY_BYTES));
  }

  get sampleRoom(): number {
    return Math.floor(this.#room / (SAMPLE_BYTES + QUALITY_BYTES));
  }

  /** What comes next is of this channel and width. Without anything it does not appear. */
  begin(channel: StoredChannel, stepMs: number): void {
    const { quantity, unit } = QUANTITIES[channel.quantity];
    this.#dropEmpty();
    this.#bytes += SERIES_BYTES;
    this.#quality = -1;
    this.#series.push({
      channel: channel.id,
      label: channel.label,
      quantity,
      unit,
      stepMs,
      atMs: [],
      values: [],
      minimums: [],
      maximums: [],
      counts: [],
      qualities: [],
    });
  }

  /** Those from index `from` up to, and without, `to`. */
  addPoints({ quantity }: StoredChannel, buckets: Buckets, from: number, to: number): void {
    const series = this.#series.at(-1);
    if (series === undefined) return;
    for (let i = from; i < to; i++) {
      const count = buckets.counts[i] ?? 0;
      const value = (values: Float64Array) => (count === 0 ? null : toBase(quantity, values[i] ?? 0));
      this.#addQuality(series, buckets.qualities[i] ?? OK);
      series.atMs.push(buckets.atMs[i] ?? 0);
      series.values.push(value(buckets.means));
      series.minimums.push(value(buckets.minimums));
      series.maximums.push(value(buckets.maximums));
      series.counts.push(count);
    }
    this.#count += to - from;
    this.#bytes += (to - from) * POINT_BYTES;
  }

  addSamples({ quantity }: StoredChannel, samples: Samples, from: number, to: number): void {
    const series = this.#series.at(-1);
    if (series === undefined) return;
    for (let i = from; i < to; i++) {
      const quality = samples.qualities[i] ?? OK;
      this.#addQuality(series, quality);
      series.atMs.push(samples.atMs[i] ?? 0);
      series.values.push(quality === OK ? toBase(quantity, samples.values[i] ?? 0) : null);
    }
    this.#count += to - from;
    this.#bytes += (to - from) * SAMPLE_BYTES;
  }

  /** To go back to. Only series that were begun since are taken back. */
  mark(): readonly [series: number, bytes: number, count: number] {
    this.#dropEmpty();
    return [this.#series.length, this.#bytes, this.#count];
  }

  backTo([series, bytes, count]: readonly [series: number, bytes: number, count: number]): void {
    this.#series.length = series;
    this.#bytes = bytes;
    this.#count = count;
  }

  done(after: string | null): HistoryPage {
    this.#dropEmpty();
    const series = this.#series.map(({ minimums, maximums, counts, ...rest }): HistorySeries => {
      return rest.stepMs === 0 ? rest : { ...rest, minimums, maximums, counts };
    });
    return { series, after };
  }

  get #room(): number {
    return Math.max(0, MAX_PAGE_BYTES - this.#bytes - SERIES_BYTES);
  }

  #addQuality(series: Filling, quality: number): void {
    if (quality === this.#quality) return;
    this.#quality = quality;
    this.#bytes += QUALITY_BYTES;
    series.qualities.push([series.atMs.length, QUALITIES[quality] ?? 'fault']);
  }

  #dropEmpty(): void {
    if (this.#series.at(-1)?.atMs.length !== 0) return;
    this.#series.pop();
    this.#bytes -= SERIES_BYTES;
  }
}
