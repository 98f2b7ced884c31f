/** Makes a channel from what a source knows: escapes the segments, bounds the label, leaves out what is the default. */
import { type Channel, channelId, type DeviceClass, type Limits, type Probe, segment } from '../core/channel.js';
import type { Quantity } from '../core/units.js';

/** A label is a few words; a file that holds more is no label, and every payload would carry it. */
const MAX_LABEL_LENGTH = 128;

export interface ChannelParts {
  readonly source: string;
  /** Raw: escaped here. */
  readonly device: string;
  readonly name: string;
  readonly label: string;
  readonly quantity: Quantity;
  readonly class: DeviceClass;
  readonly limits?: Limits;
  readonly probe: Probe;
  readonly rateHz: number;
  readonly domain: string;
  readonly path: string;
  readonly thermalDefault?: boolean;
}

export function makeChannel({ device, name, label, limits = {}, thermalDefault, ...rest }: ChannelParts): Channel {
  return {
    ...rest,
    id: channelId(rest.source, device, name),
    device: segment(device),
    name: segment(name),
    label: label.slice(0, MAX_LABEL_LENGTH),
    limits,
    ...(thermalDefault ? { thermalDefault } : {}),
  };
}

/** Linear scaling as a part of a probe: absent where it changes nothing. */
export function scaling({ multiplier, offset = 0 }: { multiplier: number; offset?: number }): {
  multiplier?: number;
  offset?: number;
} {
  return { ...(multiplier === 1 ? {} : { multiplier }), ...(offset === 0 ? {} : { offset }) };
}
