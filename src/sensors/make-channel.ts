/** Makes a channel from what a source knows: escapes the segments, bounds the label, leaves out what is the default. */
import { type Channel, channelId, segment } from '../core/channel.js';

/** A label is a few words; a file that holds more is no label, and every payload would carry it. */
const MAX_LABEL_LENGTH = 128;

/** Device, name and label as they are: they are escaped here. */
export type ChannelParts = Omit<Channel, 'id' | 'limits'> & Partial<Pick<Channel, 'limits'>>;

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
