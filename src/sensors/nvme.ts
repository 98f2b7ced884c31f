/**
 * State of NVMe controllers: live, or on the way out. (Temperatures are hwmon's; SMART needs an ioctl of root.)
 *
 * Named by the disk's serial number, as its namespaces are in `block`: nvme0 is counted anew at every boot.
 * Source: drivers/nvme/host/sysfs.c, nvme_sysfs_show_state().
 */
import type { Channel } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import { stableDeviceName } from './device-path.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'nvme';
const CONTROLLERS = 'class/nvme';
const RATE_HZ = 1;
/** A storage node has some dozen disks with two paths each. */
const MAX_CONTROLLERS = 128;

/** In the order of the kernel's enum nvme_ctrl_state. */
const STATES = ['new', 'live', 'resetting', 'connecting', 'deleting', 'deleting (no IO)', 'dead'];

export const nvmeControllers: Source = {
  name: SOURCE,

  async discover({ sysfs, report }: SourceContext): Promise<Channel[]> {
    const names = await sysfs.list(CONTROLLERS, /^nvme\d+$/);
    if (names.length > MAX_CONTROLLERS)
      report.skipped(`${names.length - MAX_CONTROLLERS} NVMe controllers`, `more than ${MAX_CONTROLLERS}`);
    const channels = names.slice(0, MAX_CONTROLLERS).map((name) => controllerChannel(sysfs, name));
    return (await Promise.all(channels)).filter((channel) => channel !== undefined);
  },
};

async function controllerChannel(sysfs: Tree, name: string): Promise<Channel | undefined> {
  const path = `${CONTROLLERS}/${name}/state`;
  if (!(await sysfs.exists(path))) return undefined; // Before Linux 4.14.
  return makeChannel({
    source: SOURCE,
    device: await deviceName(sysfs, name),
    name: 'state',
    label: `${name} state`,
    quantity: 'stateCode',
    class: 'disk',
    probe: { kind: 'word', path: sysfs.absolute(path), words: STATES },
    rateHz: RATE_HZ,
    domain: SOURCE, // Tells a variable of the driver: no disk is asked.
    path,
  });
}

async function deviceName(sysfs: Tree, name: string): Promise<string> {
  const serial = (await sysfs.text(`${CONTROLLERS}/${name}/serial`))?.replace(/\s+/g, '-');
  if (serial) return serial;
  const device = await sysfs.resolve(`${CONTROLLERS}/${name}/device`);
  return device === undefined ? name : stableDeviceName(sysfs, device);
}
