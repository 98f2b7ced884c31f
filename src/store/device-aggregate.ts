/** What all channels of a device said of one quantity over a stretch of time: least, mean and greatest. */
import type { DeviceAggregate, StoredChannel } from '../core/ports.js';
import { QUANTITIES, toBase } from '../core/units.js';
import { type Buckets, MINUTE_MS, SECOND_MS } from './buckets.js';
import type { ChannelView } from './channel-view.js';
import { Points, type Stretch } from './points.js';

/** A week of them: some hundred KiB. */
const MINUTES_AT_ONCE = 10_000;

/** One quantity of one device, summed up over its channels. */
export class Gathering {
  readonly #of: StoredChannel;
  #channels = 0;
  #count = 0;
  /** Sum of what the means exceed the first by, weighted by samples. */
  #origin = 0;
  #excess = 0;
  #minimum = Number.POSITIVE_INFINITY;
  #maximum = Number.NEGATIVE_INFINITY;
  #maximumOf = '';
  #maximumAtMs = 0;

  constructor(of: StoredChannel) {
    this.#of = of;
  }

  addChannel(): void {
    this.#channels++;
  }

  add(id: string, { length, atMs, counts, minimums, means, maximums }: Buckets): void {
    for (let i = 0; i < length; i++) {
      const count = counts[i] ?? 0;
      if (count === 0) continue;
      const mean = means[i] ?? 0;
      if (this.#count === 0) this.#origin = mean;
      this.#excess += (mean - this.#origin) * count;
      this.#count += count;
      this.#minimum = Math.min(this.#minimum, minimums[i] ?? 0);
      const maximum = maximums[i] ?? 0;
      if (maximum <= this.#maximum) continue;
      [this.#maximum, this.#maximumOf, this.#maximumAtMs] = [maximum, id, atMs[i] ?? 0];
    }
  }

  result(): DeviceAggregate {
    const { source, device, quantity } = this.#of;
    const isNone = this.#count === 0;
    const inBase = (canonical: number) => (isNone ? null : toBase(quantity, canonical));
    return {
      source,
      device,
      quantity: QUANTITIES[quantity].quantity,
      unit: QUANTITIES[quantity].unit,
      channels: this.#channels,
      minimum: inBase(this.#minimum),
      mean: inBase(this.#origin + (isNone ? 0 : this.#excess / this.#count)),
      maximum: inBase(this.#maximum),
      maximumOf: this.#maximumOf,
      maximumAtMs: isNone ? null : this.#maximumAtMs,
    };
  }
}

/** Whole minutes from the minutes, what is left at both ends from the seconds; a stretch of minutes at a time. */
export async function gatherChannel(
  gathering: Gathering,
  { id }: StoredChannel,
  { view, stretch }: { view: ChannelView; stretch: Stretch },
): Promise<boolean> {
  const firstMinuteMs = Math.ceil(stretch.fromMs / MINUTE_MS) * MINUTE_MS;
  const lastMinuteMs = Math.max(firstMinuteMs, Math.floor(stretch.toMs / MINUTE_MS) * MINUTE_MS);
  const ends: Stretch[] = [
    { fromMs: stretch.fromMs, toMs: Math.min(firstMinuteMs, stretch.toMs) },
    { fromMs: lastMinuteMs, toMs: stretch.toMs },
  ];
  let found = false;
  const take = (points: Points) => {
    const buckets = points.buckets();
    found ||= buckets.length > 0;
    gathering.add(id, buckets);
  };
  for (const end of ends.filter(({ fromMs, toMs }) => fromMs < toMs)) {
    const points = new Points(end, SECOND_MS);
    await view.addSeconds(points, end);
    view.addLive(points, end);
    take(points);
  }
  for (let fromMs = firstMinuteMs; fromMs < lastMinuteMs; ) {
    const block = { fromMs, toMs: Math.min(lastMinuteMs, fromMs + MINUTES_AT_ONCE * MINUTE_MS) };
    const points = new Points(block, MINUTE_MS);
    await view.addMinutes(points, block);
    view.addLive(points, block);
    take(points);
    fromMs = block.toMs;
  }
  if (found) gathering.addChannel();
  return found;
}
