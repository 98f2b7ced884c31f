/**
 * The name that lm-sensors gives a chip (coretemp-isa-0000, nct6798-isa-0290, k10temp-pci-00c3, nvme-pci-0100), by which
 * its configuration addresses it: prefix, bus and address of the device behind it.
 *
 * Source: libsensors, lib/sysfs.c. As there, a device on a bus that says nothing about its place (nvme, thermal) takes
 * that of its parent; a chip without any is virtual.
 */
import type { ChipName, Tree } from '../core/ports.js';

/** From the chip up to its bus: nvme0 → PCI function is one step, SCSI disks a few; the rest of the tree says nothing. */
const MAX_STEPS = 4;

type Place = Omit<ChipName, 'prefix'>;

/** `device` is the resolved path of the device behind the chip, below the sysfs root; undefined: there is none. */
export async function chipName(sysfs: Tree, prefix: string, device: string | undefined): Promise<ChipName> {
  let path = device;
  for (let step = 0; step < MAX_STEPS && path !== undefined && path.includes('/'); step++) {
    const place = await placeOf(sysfs, path);
    if (place !== undefined) return { prefix, ...place };
    path = (await sysfs.resolve(`${path}/device`)) ?? path.slice(0, path.lastIndexOf('/'));
  }
  return { prefix, bus: 'virtual', busNumber: 0, address: 0 };
}

async function placeOf(sysfs: Tree, path: string): Promise<Place | undefined> {
  const subsystem = basename(await sysfs.resolve(`${path}/subsystem`));
  const name = basename(path) ?? '';
  switch (subsystem) {
    case 'i2c':
      return i2cPlace(sysfs, name);
    case 'spi':
      return numbered('spi', /^spi(\d+)\.(\d+)$/.exec(name), 10);
    case 'pci':
      return pciPlace(name);
    case 'platform':
    case 'of_platform':
      return { bus: 'isa', busNumber: 0, address: Number(/^[a-z0-9_]+\.(\d+)$/.exec(name)?.[1] ?? 0) };
    case 'acpi':
      return { bus: 'acpi', busNumber: 0, address: 0 };
    case 'hid':
      return hidPlace(name);
    case 'mdio_bus':
      return { bus: 'mdio', busNumber: 0, address: 0 };
    case 'scsi':
      return scsiPlace(name);
    default:
      return undefined;
  }
}

async function i2cPlace(sysfs: Tree, name: string): Promise<Place | undefined> {
  const place = numbered('i2c', /^(\d+)-([0-9a-f]+)$/.exec(name), 16);
  if (place === undefined) return undefined;
  const adapter = await sysfs.text(`class/i2c-adapter/i2c-${place.busNumber}/name`);
  const fallback = adapter ?? (await sysfs.text(`class/i2c-dev/i2c-${place.busNumber}/name`));
  return fallback === undefined ? place : { ...place, adapter: fallback };
}

function numbered(bus: 'i2c' | 'spi', match: RegExpExecArray | null, base: number): Place | undefined {
  if (match === null) return undefined;
  return { bus, busNumber: Number(match[1]), address: Number.parseInt(match[2] ?? '', base) };
}

function pciPlace(name: string): Place | undefined {
  const match = /^([0-9a-f]+):([0-9a-f]+):([0-9a-f]+)\.([0-9a-f]+)$/.exec(name);
  if (match === null) return undefined;
  const [domain = 0, bus = 0, slot = 0, fn = 0] = match.slice(1).map((digits) => Number.parseInt(digits, 16));
  // Not by shifts: a domain of Intel's VMD (10000) exceeds 32 bits with them.
  return { bus: 'pci', busNumber: 0, address: domain * 0x10000 + bus * 0x100 + slot * 8 + fn };
}

function hidPlace(name: string): Place | undefined {
  const match = /^([0-9A-Fa-f]+):[0-9A-Fa-f]+:[0-9A-Fa-f]+\.([0-9A-Fa-f]+)$/.exec(name);
  if (match === null) return undefined;
  const [busNumber = 0, address = 0] = match.slice(1).map((digits) => Number.parseInt(digits, 16));
  return { bus: 'hid', busNumber, address };
}

function scsiPlace(name: string): Place | undefined {
  const match = /^(\d+):(\d+):(\d+):([0-9a-f]+)$/.exec(name);
  if (match === null) return undefined;
  const [host = 0, channel = 0, target = 0] = match.slice(1, 4).map(Number);
  const lun = Number.parseInt(match[4] ?? '', 16);
  return { bus: 'scsi', busNumber: host, address: channel * 0x100 + target * 0x10 + lun };
}

function basename(path: string | undefined): string | undefined {
  return path?.slice(path.lastIndexOf('/') + 1);
}
