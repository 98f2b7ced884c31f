/** A recorded channel as a series for people and programs: base units, wall times, and as many samples as are asked for. Pure. */
import { QUALITIES, type Quality } from '../core/channel.js';
import type { RecordingSeries } from '../core/ports.js';
import { QUANTITIES, type Quantity, toBase } from '../core/units.js';
import type { Samples } from './chunk.js';

export interface RecordedChannel {
  readonly id: string;
  readonly label: string;
  readonly quantity: Quantity;
}

const OK = QUALITIES.indexOf('ok');

/** `pick`: which of the samples, ascending; absent: all. */
export function seriesOf(channel: RecordedChannel, samples: Samples, pick?: readonly number[]): RecordingSeries {
  const indexes = pick ?? [...Array(samples.length).keys()];
  const { quantity, unit } = QUANTITIES[channel.quantity];
  const qualities: (readonly [number, Quality])[] = [];
  indexes.forEach((index, i) => {
    const quality = QUALITIES[samples.qualities[index] ?? 0] ?? 'fault';
    if (qualities.at(-1)?.[1] !== quality) qualities.push([i, quality]);
  });
  return {
    channel: channel.id,
    label: channel.label,
    quantity,
    unit,
    atMs: indexes.map((index) => samples.atMs[index] ?? 0),
    values: indexes.map((index) =>
      samples.qualities[index] === OK ? toBase(channel.quantity, samples.values[index] ?? 0) : null,
    ),
    qualities,
  };
}

export interface Thinning {
  readonly points: number;
  readonly fromAtMs: number;
  readonly toAtMs: number;
  /** The sample that stood at this time is always kept. */
  readonly keepAtMs: number;
}

/**
 * About `points` samples that show what all show: of each part of the time the least and the greatest one, and one without
 * a value where there is such. Undefined when there are no more than that anyway.
 */
export function thinned(samples: Samples, { points, fromAtMs, toAtMs, keepAtMs }: Thinning): number[] | undefined {
  if (samples.length <= points) return undefined;
  const parts = Math.max(1, Math.floor(points / 2));
  const partMs = Math.max(1, (toAtMs - fromAtMs) / parts);
  const kept = new Set<number>();
  let part = Number.NaN;
  let [least, greatest, missing] = [-1, -1, -1];
  const end = () => {
    for (const index of [least, greatest, missing]) if (index >= 0) kept.add(index);
    [least, greatest, missing] = [-1, -1, -1];
  };
  let standing = -1;
  for (let i = 0; i < samples.length; i++) {
    const atMs = samples.atMs[i] ?? 0;
    const at = Math.floor((atMs - fromAtMs) / partMs);
    if (at !== part) end();
    part = at;
    if (atMs <= keepAtMs) standing = i;
    const value = samples.values[i] ?? 0;
    if (samples.qualities[i] !== OK) missing = i;
    else {
      if (least < 0 || value < (samples.values[least] ?? 0)) least = i;
      if (greatest < 0 || value > (samples.values[greatest] ?? 0)) greatest = i;
    }
  }
  end();
  if (standing >= 0) kept.add(standing);
  return [...kept].sort((a, b) => a - b);
}
