/**
 * Names of devices that are the same after every boot.
 *
 * The kernel's device tree mixes two kinds of names: those that say where a device is (PCI and ACPI addresses, platform
 * names, I²C addresses, SCSI targets) and those that count in order of detection (i2c-3, host2, nvme0). The name made
 * here climbs from the device to the nearest ancestor whose name is a place; of what is counted on the way only the
 * order among its siblings is kept, and nothing where it is the first.
 */
import type { Tree } from '../core/ports.js';
import { compareNaturally } from './tree.js';

/** sysfs is never deeper; a path that is comes from no kernel. */
const MAX_COMPONENTS = 32;

/** Directories that only group: devices/…/nvme/nvme0, devices/…/hwmon/hwmon3. */
const GROUPS = new Set(['nvme', 'hwmon', 'scsi_host', 'net', 'block', 'thermal', 'i2c-dev', 'mdio_bus', 'virtual']);

/** Names that the kernel counts, by what stands before the number. */
const COUNTED =
  /^(i2c-|spi|host|ata|nvme|usb|hwmon|thermal_zone|scsi_host|mmc|virtio|link|dev|port|end_device-|rtc)(\d+)$/;
const I2C_CLIENT = /^\d+-([0-9a-f]{4})$/;
const SPI_CLIENT = /^spi\d+\.(\d+)$/;
const USB_DEVICE = /^\d+-([\d.]+)(?::[\d.]+)?$/;
const HID_DEVICE = /^([0-9A-F]{4}:[0-9A-F]{4}:[0-9A-F]{4})\.[0-9A-F]{4}$/;
const SCSI_DEVICE = /^\d+:(\d+:\d+:\d+)$/;
const SCSI_TARGET = /^target\d+:/;

/**
 * `real` is a resolved path below the sysfs root, such as devices/pci0000:00/0000:00:1f.4/i2c-3/3-0048; the result is
 * "0000-00-1f-4-48". Raw text, to be escaped as a segment.
 */
export async function stableDeviceName(sysfs: Tree, real: string): Promise<string> {
  const slot = real.startsWith('devices/') ? undefined : await pciSlot(sysfs, real);
  if (slot !== undefined) return readable(slot);
  const components = real.split('/').slice(0, MAX_COMPONENTS);
  const parts: string[] = [];
  for (let i = components.length - 1; i >= 0; i--) {
    const component = components[i] ?? '';
    // Above it there are only groups (devices/platform/…): whatever it is called is all that there is.
    const isPlace = i <= 1 || !isMoving(component);
    const part = isPlace ? component : await relativeName(sysfs, components.slice(0, i), component);
    if (part !== '') parts.unshift(part);
    if (isPlace) break;
  }
  return readable(parts.join('-'));
}

/** In a captured tree the device may lie anywhere; its uevent file still says where it was. */
async function pciSlot(sysfs: Tree, real: string): Promise<string | undefined> {
  return /^PCI_SLOT_NAME=(\S+)$/m.exec((await sysfs.text(`${real}/uevent`)) ?? '')?.[1];
}

function readable(place: string): string {
  return place.replace(/[:.]/g, '-');
}

function isMoving(component: string): boolean {
  const patterns = [COUNTED, I2C_CLIENT, SPI_CLIENT, USB_DEVICE, HID_DEVICE, SCSI_DEVICE, SCSI_TARGET];
  return GROUPS.has(component) || patterns.some((pattern) => pattern.test(component));
}

async function relativeName(sysfs: Tree, parents: readonly string[], component: string): Promise<string> {
  if (GROUPS.has(component) || SCSI_TARGET.test(component)) return '';
  const address = I2C_CLIENT.exec(component)?.[1];
  if (address !== undefined) return address.replace(/^0+(?=..)/, '');
  const place = [SPI_CLIENT, USB_DEVICE, HID_DEVICE, SCSI_DEVICE].map((p) => p.exec(component)?.[1]).find(Boolean);
  if (place !== undefined) return place;
  const stem = COUNTED.exec(component)?.[1] ?? component;
  const siblings = await sysfs.list(parents.join('/'), COUNTED);
  const order = siblings
    .filter((name) => COUNTED.exec(name)?.[1] === stem)
    .sort(compareNaturally)
    .indexOf(component);
  return order <= 0 ? '' : `${stem.replace(/-$/, '')}${order}`;
}
