/**
 * History: what is stored of the channels' past, for whoever asks.
 *
 * Without a number of points all there is: samples where raw is kept, seconds before that, minutes before that, each from where the
 * finer tier ends. With one: points of the smallest round step of which no more cover the time, summed up from the coarsest tier
 * whose width divides the step; an extreme never disappears, because least and greatest are those of the tier, and the tier's are
 * those of the samples. Where there are no more samples than points, all there is is given instead.
 *
 * An answer is a page; its cursor says where the next one begins: the channel, the part (minutes, seconds, samples), the time, and how
 * many samples of that very time were given already. Nothing is kept between pages, so that a reader may stay away for ever.
 * Channels come in the order of their ids.
 */
import { QUALITIES } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import { SkosError } from '../core/errors.js';
import { globMatches } from '../core/glob.js';
import type {
  DeviceAggregate,
  History,
  HistoryPage,
  HistoryQuery,
  LatestSample,
  StoredChannel,
} from '../core/ports.js';
import { QUANTITIES, toBase } from '../core/units.js';
import { type Buckets, MINUTE_MS, SECOND_MS } from './buckets.js';
import { ChannelView, type DamageReport, HOUR_MS, MAX_AT_MS } from './channel-view.js';
import type { Samples } from './chunk.js';
import { Gathering, gatherChannel } from './device-aggregate.js';
import { PageBuilder } from './history-page.js';
import { inOrder } from './in-order.js';
import { PREFIX } from './keys.js';
import { Points, type Stretch, stepFor, widened } from './points.js';
import { slicesOf } from './slices.js';
import type { Tiers } from './tiers.js';
import type { Writer } from './writer.js';

/** Of one channel: more than any screen has columns; the samples of so many fit into a page. */
export const MAX_POINTS = 10_000;
/** Channels looked into for one page, with or without something to show: some dozens of milliseconds. */
const MAX_CHANNELS_PER_PAGE = 512;
/** When a channel was seen first and last is known to about an hour; clocks are set. */
const SEEN_SLACK_MS = 24 * HOUR_MS;
/** What is dated later than this from now is of a clock that was ahead, and not the latest. */
const AHEAD_MS = HOUR_MS;

/** Of looking through ids and chunks: shorter than a tick. */
const SLICE_MS = 2;

const OK = QUALITIES.indexOf('ok');
const EVER: Stretch = { fromMs: 0, toMs: MAX_AT_MS };

/** What is in no chunk yet, with wall times. */
export interface LiveSamples {
  live(channel: number, stretch: Stretch): Iterable<{ readonly samples: Samples }>;
}

export interface ChannelBook {
  numberOf(id: string): number | undefined;
  all(): readonly StoredChannel[];
}

export interface HistoryOptions {
  readonly writer: Writer;
  readonly clock: Clock;
  readonly series: LiveSamples;
  readonly dictionary: ChannelBook;
  readonly tiers: Tiers;
  readonly damage: DamageReport;
}

/** m: minutes, s: seconds, r: raw. In this order of time. */
const PARTS = ['m', 's', 'r'] as const;
type Part = (typeof PARTS)[number];

/** Where a page goes on within a channel. */
interface Position {
  /** a: all there is; p: points. */
  readonly mode: 'a' | 'p';
  readonly part: Part;
  readonly atMs: number;
  /** Samples of that time that were given already. */
  readonly skip: number;
}

interface Cursor {
  readonly channel: string;
  /** Undefined: at its beginning. */
  readonly position: Position | undefined;
}

/** One channel's turn in a page. */
interface Turn {
  readonly channel: StoredChannel;
  readonly view: ChannelView;
  readonly page: PageBuilder;
  readonly stretch: Stretch;
}

/** Where a turn ended: it is over, it goes on at a position, or it is to begin anew in the next page. */
type End = 'over' | 'anew' | Position;

export class StoredHistory implements History {
  readonly #options: HistoryOptions;

  constructor(options: HistoryOptions) {
    this.#options = options;
  }

  channels(): readonly StoredChannel[] {
    return this.#options.dictionary.all();
  }

  /** Rejects with SKOS_PROTOCOL_INVALID for a query that makes no sense, and with SKOS_STORE_READ. */
  async page(query: HistoryQuery): Promise<HistoryPage> {
    const stretch = stretchOf(query);
    const points = pointsOf(query.points);
    const cursor = query.after === undefined ? undefined : parsedCursor(query.after);
    const page = new PageBuilder();
    if (stretch.fromMs >= stretch.toMs) return page.done(null);
    const reach = widened(stretch, points === undefined ? MINUTE_MS : Math.max(MINUTE_MS, stepFor(stretch, points)));
    let looked = 0;
    for await (const channel of this.#matching(query.glob, reach, cursor?.channel)) {
      if (looked++ >= MAX_CHANNELS_PER_PAGE) return page.done(cursorText({ channel: channel.id, position: undefined }));
      const resumed = cursor?.channel === channel.id ? cursor.position : undefined;
      const end = await this.#withView(channel, reach, (view) => {
        return turn({ channel, view, page, stretch }, points, resumed);
      });
      if (end === undefined || end === 'over') continue;
      return page.done(cursorText({ channel: channel.id, position: end === 'anew' ? undefined : end }));
    }
    return page.done(null);
  }

  async latest(glob: string): Promise<LatestSample[]> {
    const list: LatestSample[] = [];
    for await (const channel of this.#matching(glob)) {
      const latest = await this.#withView(channel, EVER, (view) => this.#latestOf(channel, view));
      if (latest !== undefined) list.push(latest);
    }
    return list;
  }

  /** To a second at both ends; when the greatest was seen is told to a minute. */
  async byDevice(query: Pick<HistoryQuery, 'glob' | 'fromAtMs' | 'toAtMs'>): Promise<DeviceAggregate[]> {
    const stretch = widened(stretchOf(query), SECOND_MS);
    const devices = new Map<string, Gathering>();
    if (stretch.fromMs >= stretch.toMs) return [];
    for await (const channel of this.#matching(query.glob, stretch)) {
      await this.#withView(channel, stretch, async (view) => {
        const { source, device, quantity } = channel;
        const key = `${source}/${device}/${quantity}`;
        const gathering = devices.get(key) ?? new Gathering(channel);
        if (await gatherChannel(gathering, channel, { view, stretch })) devices.set(key, gathering);
      });
    }
    return [...devices].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, gathering]) => gathering.result());
  }

  /** By id, from one id on. `stretch`: without those that cannot have anything in it. */
  async *#matching(glob: string, stretch: Stretch = EVER, fromId = ''): AsyncGenerator<StoredChannel, void, undefined> {
    const known = this.#options.dictionary.all().filter(({ id, firstAtMs, lastAtMs }) => {
      return id >= fromId && firstAtMs - SEEN_SLACK_MS < stretch.toMs && lastAtMs + SEEN_SLACK_MS >= stretch.fromMs;
    });
    known.sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
    const pause = slicesOf(SLICE_MS);
    for (const channel of known) {
      if (globMatches(glob, channel.id)) yield channel;
      await pause();
    }
  }

  /** Undefined for a channel that has been let go meanwhile. Of what is live only what may lie in the stretch. */
  async #withView<T>(
    { id }: StoredChannel,
    stretch: Stretch,
    use: (view: ChannelView) => Promise<T>,
  ): Promise<T | undefined> {
    const { dictionary, series, tiers, writer, damage } = this.#options;
    const channel = dictionary.numberOf(id);
    if (channel === undefined) return undefined;
    await tiers.look(channel);
    // From here to the constructor's end without a pause: what is live and what is stored belong to one moment.
    const live = Array.from(series.live(channel, stretch), ({ samples }) => samples);
    const pendingHours = tiers.pendingHours(channel);
    const onDamagedWindow = (windowAtMs: number) => tiers.onDamagedWindow(channel, windowAtMs);
    const pause = slicesOf(SLICE_MS);
    const view = new ChannelView({ channel, writer, live, pendingHours, damage, pause, onDamagedWindow });
    try {
      return await use(view);
    } finally {
      await view.close();
    }
  }

  /** The last one of the finest tier that has any; of a tier of buckets the mean of the last one. */
  async #latestOf({ id, quantity }: StoredChannel, view: ChannelView): Promise<LatestSample | undefined> {
    const { unit } = QUANTITIES[quantity];
    const told = (atMs: number, value: number | undefined, quality: number): LatestSample => ({
      channel: id,
      unit,
      atMs,
      value: quality === OK && value !== undefined ? toBase(quantity, value) : null,
      quality: QUALITIES[quality] ?? 'fault',
    });
    const samples = lastOf(view.live);
    const now = this.#options.clock.wallMs() + AHEAD_MS;
    for (const before of samples === undefined ? [Math.max(0, now), MAX_AT_MS] : [0]) {
      const stored = samples ?? (await view.lastSamples(before));
      if (stored !== undefined) {
        const i = stored.length - 1;
        return told(stored.atMs[i] ?? 0, stored.values[i], stored.qualities[i] ?? OK);
      }
      const buckets = (await view.lastBuckets('seconds', before)) ?? (await view.lastBuckets('minutes', before));
      if (buckets !== undefined) {
        const i = buckets.length - 1;
        return told(buckets.atMs[i] ?? 0, buckets.means[i], buckets.qualities[i] ?? OK);
      }
    }
    return undefined;
  }
}

/** The one that goes on last. */
function lastOf(live: readonly Samples[]): Samples | undefined {
  return live.reduce<Samples | undefined>((last, each) => {
    const ends = (samples: Samples | undefined) => samples?.atMs[samples.length - 1] ?? Number.NEGATIVE_INFINITY;
    return ends(each) >= ends(last) ? each : last;
  }, undefined);
}

// ---- One channel of a page --------------------------------------------------------------------------------------------

async function turn(given: Turn, points: number | undefined, resumed: Position | undefined): Promise<End> {
  if (points === undefined || resumed?.mode === 'a') return allThereIs(given, resumed, Number.POSITIVE_INFINITY);
  const parts = await pointsOfChannel(given, points, resumed);
  const samples = parts.reduce(
    (sum, [, { buckets }]) => sum + buckets.counts.reduce((all, count) => all + count, 0),
    0,
  );
  if (resumed === undefined && samples <= points) {
    const { page } = given;
    if (!page.empty && page.sampleRoom < points) return 'anew';
    const mark = page.mark();
    const end = await allThereIs(given, undefined, page.count + points);
    if (end === 'over') return 'over';
    page.backTo(mark);
  }
  return putPoints(given, parts);
}

type PartPoints = readonly [Part, { readonly stepMs: number; readonly buckets: Buckets }];

/** The points of a channel, in one part or in two: the older one of minutes, where the seconds are gone and a step is shorter. */
async function pointsOfChannel(
  { view, stretch: asked }: Turn,
  points: number,
  resumed: Position | undefined,
): Promise<PartPoints[]> {
  const stepMs = stepFor(asked, points);
  const stretch = widened(asked, stepMs);
  const fromMs = Math.max(stretch.fromMs, resumed?.atMs ?? 0);
  if (stepMs % MINUTE_MS === 0) {
    const all = new Points({ fromMs, toMs: stretch.toMs }, stepMs);
    await view.addMinutes(all, all.stretch);
    view.addLive(all, all.stretch);
    return [['m', { stepMs, buckets: all.buckets() }]];
  }
  const oldestAtMs = (await view.firstAtMs(PREFIX.secondSeries)) ?? view.live[0]?.atMs[0];
  const seamMs = Math.min(await seamOf(view, stretch, oldestAtMs), Math.ceil(stretch.toMs / MINUTE_MS) * MINUTE_MS);
  const parts: PartPoints[] = [];
  const older = new Points(widened({ fromMs, toMs: Math.max(fromMs, seamMs) }, MINUTE_MS), MINUTE_MS);
  if (fromMs < seamMs && resumed?.part !== 's') {
    await view.addMinutes(older, older.stretch);
    view.addLive(older, older.stretch);
    parts.push(['m', { stepMs: MINUTE_MS, buckets: older.buckets() }]);
  }
  const newer = new Points(
    widened({ fromMs: Math.max(fromMs, seamMs), toMs: Math.max(seamMs, stretch.toMs) }, stepMs),
    stepMs,
  );
  const exact = { fromMs: Math.max(fromMs, seamMs), toMs: stretch.toMs };
  await view.addSeconds(newer, exact);
  view.addLive(newer, exact);
  parts.push(['s', { stepMs, buckets: newer.buckets() }]);
  return parts;
}

function putPoints({ channel, page }: Turn, parts: readonly PartPoints[]): End {
  for (const [part, { stepMs, buckets }] of parts) {
    const fits = Math.min(buckets.length, page.pointRoom);
    page.begin(channel, stepMs);
    page.addPoints(channel, buckets, 0, fits);
    if (fits < buckets.length) return { mode: 'p', part, atMs: buckets.atMs[fits] ?? 0, skip: 0 };
  }
  return 'over';
}

/** Samples, before them seconds, before them minutes. Ends early when there are more than `limit` in the page. */
async function allThereIs(given: Turn, resumed: Position | undefined, limit: number): Promise<End> {
  const { view, stretch } = given;
  const raw = await view.first(PREFIX.rawSeries);
  const starts = [await view.firstAtMs(PREFIX.rawSeries), await view.firstAtMs(PREFIX.secondSeries)];
  const oldest = starts.reduce((least, each) => (least === undefined || (each ?? least) < least ? each : least));
  const seamMs = await seamOf(view, stretch, oldest);
  for (const part of PARTS.slice(resumed === undefined ? 0 : PARTS.indexOf(resumed.part))) {
    const from = resumed?.part === part ? resumed : undefined;
    let end: End;
    if (part === 'm') end = await allMinutes(given, { toMs: seamMs, from });
    else if (part === 's') end = await allSeconds(given, { fromMs: seamMs, before: raw, from });
    else end = await allSamples(given, { storedFromMs: seamMs, from, limit });
    if (end !== 'over' || given.page.count > limit) return end === 'over' ? 'anew' : end;
  }
  return 'over';
}

async function allMinutes(
  { channel, view, page, stretch }: Turn,
  { toMs, from }: { toMs: number; from: Position | undefined },
): Promise<End> {
  const whole = widened({ fromMs: stretch.fromMs, toMs: Math.min(toMs, stretch.toMs) }, MINUTE_MS);
  page.begin(channel, MINUTE_MS);
  const next = (atMs: number) => view.nextMinutes(atMs);
  return inBlocks(
    { ...whole, fromMs: from?.atMs ?? whole.fromMs },
    { page, stepMs: MINUTE_MS, next },
    async (block) => {
      const points = new Points(block, MINUTE_MS);
      await view.addMinutes(points, block);
      return put({ channel, page, part: 'm', buckets: points.buckets() });
    },
  );
}

async function allSeconds(
  { channel, view, page, stretch }: Turn,
  { fromMs, before, from }: { fromMs: number; before: Buffer | undefined; from: Position | undefined },
): Promise<End> {
  const whole = widened({ fromMs: Math.max(fromMs, stretch.fromMs), toMs: stretch.toMs }, SECOND_MS);
  page.begin(channel, SECOND_MS);
  const next = (atMs: number) => view.nextSeconds(atMs, before);
  return inBlocks(
    { ...whole, fromMs: from?.atMs ?? whole.fromMs },
    { page, stepMs: SECOND_MS, next },
    async (block) => {
      const points = new Points(block, SECOND_MS);
      await view.addSeconds(points, block, before);
      return put({ channel, page, part: 's', buckets: points.buckets() });
    },
  );
}

interface BlockWalk {
  readonly page: PageBuilder;
  readonly stepMs: number;
  /** When what is stored at or behind a time begins, at the earliest; undefined: there is nothing. */
  readonly next: (atMs: number) => Promise<number | undefined>;
}

/** Blocks for which the page has room, one behind the other, over what is empty at a leap. */
async function inBlocks(
  { fromMs, toMs }: Stretch,
  { page, stepMs, next }: BlockWalk,
  each: (block: Stretch) => Promise<End>,
): Promise<End> {
  let atMs = fromMs;
  while (atMs < toMs) {
    const beginsAtMs = await next(atMs);
    if (beginsAtMs === undefined || beginsAtMs >= toMs) return 'over';
    atMs = Math.max(atMs, Math.floor(beginsAtMs / stepMs) * stepMs);
    // A block of at least one: it is then told where the page ended.
    const endMs = Math.min(toMs, atMs + stepMs * Math.max(1, page.pointRoom));
    const end = await each({ fromMs: atMs, toMs: endMs });
    if (end !== 'over') return end;
    atMs = endMs;
  }
  return 'over';
}

function put({ channel, page, part, buckets }: Pick<Turn, 'channel' | 'page'> & { part: Part; buckets: Buckets }): End {
  const fits = Math.min(buckets.length, page.pointRoom);
  page.addPoints(channel, buckets, 0, fits);
  return fits < buckets.length ? { mode: 'a', part, atMs: buckets.atMs[fits] ?? 0, skip: 0 } : 'over';
}

interface SampleWalk {
  /** Chunks have been told as minutes before that time. */
  readonly storedFromMs: number;
  readonly from: Position | undefined;
  readonly limit: number;
}

async function allSamples(
  { channel, view, page, stretch }: Turn,
  { storedFromMs, from, limit }: SampleWalk,
): Promise<End> {
  const fromMs = from?.part === 'r' ? Math.max(from.atMs, stretch.fromMs) : stretch.fromMs;
  let skip = from?.skip ?? 0;
  let [lastAtMs, ofLastTime] = [Number.NaN, 0];
  page.begin(channel, 0);
  for await (const samples of inOrder(view.samples({ fromMs, toMs: stretch.toMs }, storedFromMs))) {
    for (let i = 0; i < samples.length; i++) {
      const atMs = samples.atMs[i] ?? 0;
      if (atMs < fromMs || atMs >= stretch.toMs) continue;
      if (atMs === lastAtMs) ofLastTime++;
      else [lastAtMs, ofLastTime] = [atMs, 1];
      if (atMs === from?.atMs && skip > 0) {
        skip--;
        continue;
      }
      if (page.sampleRoom < 1) return { mode: 'a', part: 'r', atMs, skip: ofLastTime - 1 };
      page.addSamples(channel, samples, i, i + 1);
      if (page.count > limit) return 'anew';
    }
  }
  return 'over';
}

/**
 * From when on seconds are told, and before it minutes: where the oldest chunk of seconds begins. In the minute of that moment the
 * chunk before, which is gone, may have had a part: then that whole minute is told as a minute.
 */
async function seamOf(view: ChannelView, { fromMs, toMs }: Stretch, oldestAtMs: number | undefined): Promise<number> {
  if (oldestAtMs === undefined) return toMs;
  const minuteAtMs = Math.floor(oldestAtMs / MINUTE_MS) * MINUTE_MS;
  // Outside it does not matter what the minute has.
  if (minuteAtMs === oldestAtMs || minuteAtMs + MINUTE_MS <= fromMs || minuteAtMs >= toMs) return minuteAtMs;
  const minute = { fromMs: minuteAtMs, toMs: minuteAtMs + MINUTE_MS };
  const [asMinute, asSeconds] = [new Points(minute, MINUTE_MS), new Points(minute, MINUTE_MS)];
  await view.addMinutes(asMinute, minute);
  await view.addSeconds(asSeconds, minute);
  const count = (points: Points) => points.buckets().counts[0] ?? 0;
  return count(asMinute) > count(asSeconds) ? minute.toMs : minute.fromMs;
}

// ---- What is asked ------------------------------------------------------------------------------------------------------

function stretchOf({ fromAtMs, toAtMs }: Pick<HistoryQuery, 'fromAtMs' | 'toAtMs'>): Stretch {
  if (!Number.isFinite(fromAtMs) || !Number.isFinite(toAtMs)) {
    throw new SkosError('SKOS_PROTOCOL_INVALID', 'fromAtMs and toAtMs are milliseconds since 1970');
  }
  const within = (atMs: number) => Math.min(Math.max(0, atMs), MAX_AT_MS);
  return { fromMs: within(fromAtMs), toMs: within(toAtMs) };
}

function pointsOf(points: number | undefined): number | undefined {
  if (points === undefined || (Number.isInteger(points) && points >= 1 && points <= MAX_POINTS)) return points;
  throw new SkosError('SKOS_PROTOCOL_INVALID', `points is a whole number from 1 to ${MAX_POINTS}`);
}

/** "ps1700000000000.0@hwmon/chip/temp1", or "@hwmon/chip/temp1" for its beginning. */
function cursorText({ channel, position }: Cursor): string {
  if (position === undefined) return `@${channel}`;
  const { mode, part, atMs, skip } = position;
  return `${mode}${part}${atMs}.${skip}@${channel}`;
}

function parsedCursor(text: string): Cursor {
  const [whole, mode, part, atMs, skip, channel = ''] =
    /^(?:([ap])([msr])(\d{1,16})\.(\d{1,9}))?@(.+)$/s.exec(text) ?? [];
  if (whole === undefined)
    throw new SkosError('SKOS_PROTOCOL_INVALID', 'after is not what a page of history ended with');
  const known = PARTS.find((each) => each === part);
  if (known === undefined) return { channel, position: undefined };
  return {
    channel,
    position: { mode: mode === 'a' ? 'a' : 'p', part: known, atMs: Number(atMs), skip: Number(skip) },
  };
}
