/**
 * Disks: what they read and write, and for how much of the time they are busy, from /sys/block/<disk>/stat.
 *
 * Only what is a disk to the operator: loop, RAM and compressed devices are none, and a device that is built of others
 * (LVM, RAID, multipath) would count their work twice. A disk is named by what is written in it (wwid, serial), since
 * sda and nvme0n1 are counted anew at every boot; the kernel's name is in the label.
 * Source: Documentation/block/stat.rst.
 */
import type { Channel } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import type { Quantity } from '../core/units.js';
import { stableDeviceName } from './device-path.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'block';
const RATE_HZ = 1;
/** A storage node has some hundred disks; beyond this something makes devices without end. */
const MAX_DISKS = 256;
/** stat counts in these, whatever the disk's own sectors are. */
const BYTES_PER_SECTOR = 512;
/** Milliseconds of work per second are thousandths. */
const PPM_PER_MS_PER_SECOND = 1000;

export const NO_DISK = /^(loop|ram|zram|fd|sr|nbd|dm-|md|mtdblock|drbd)\d/;

const CHANNELS = [
  { name: 'read', label: 'read', quantity: 'rateBytesPerSecond', column: 2, multiplier: BYTES_PER_SECTOR },
  { name: 'written', label: 'written', quantity: 'rateBytesPerSecond', column: 6, multiplier: BYTES_PER_SECTOR },
  { name: 'busy', label: 'busy', quantity: 'ratioPartsPerMillion', column: 9, multiplier: PPM_PER_MS_PER_SECOND },
] as const satisfies readonly { quantity: Quantity; [other: string]: unknown }[];

export const blockDevices: Source = {
  name: SOURCE,

  async discover({ sysfs, report }: SourceContext): Promise<Channel[]> {
    const names = (await sysfs.list('block', /./)).filter((name) => !NO_DISK.test(name));
    if (names.length > MAX_DISKS) report.skipped(`${names.length - MAX_DISKS} disks`, `more than ${MAX_DISKS}`);
    const channels = await Promise.all(names.slice(0, MAX_DISKS).map((name) => diskChannels(sysfs, name)));
    return channels.flat();
  },
};

async function diskChannels(sysfs: Tree, name: string): Promise<Channel[]> {
  const directory = await sysfs.resolve(`block/${name}`);
  if (directory === undefined || !(await sysfs.exists(`${directory}/stat`))) return [];
  const isEmpty = (await sysfs.integer(`${directory}/size`)) === 0; // A card reader without a card.
  const isStacked = (await sysfs.list(`${directory}/slaves`, /./)).length > 0;
  // One path of several to an NVMe disk, which is listed by itself.
  const isHidden = (await sysfs.integer(`${directory}/hidden`)) === 1;
  if (isEmpty || isStacked || isHidden) return [];
  const device = await diskName(sysfs, directory, name);
  const path = `${directory}/stat`;
  return CHANNELS.map((channel) =>
    makeChannel({
      source: SOURCE,
      device,
      name: channel.name,
      label: `${name} ${channel.label}`,
      quantity: channel.quantity,
      class: 'disk',
      probe: {
        kind: 'field',
        path: sysfs.absolute(path),
        key: '',
        column: channel.column,
        multiplier: channel.multiplier,
        perSecond: true,
      },
      rateHz: RATE_HZ,
      domain: `${SOURCE}-${name}`,
      path,
    }),
  );
}

/** Two namespaces of one NVMe disk share its serial, and each has a wwid: that comes first. */
export async function diskName(sysfs: Tree, directory: string, name: string): Promise<string> {
  for (const file of ['wwid', 'device/wwid', 'serial', 'device/serial']) {
    const identity = (await sysfs.text(`${directory}/${file}`))?.replace(/\s+/g, '-');
    if (identity) return identity;
  }
  const device = await sysfs.resolve(`${directory}/device`);
  return device === undefined ? name : stableDeviceName(sysfs, device);
}
