/**
 * GPUs that the PCI bus lists, whatever drives them. Only names, links and numbers of the PCI core are read: no driver is asked, so
 * that a GPU that hangs or sleeps is neither waited for nor woken.
 * Sources: Documentation/ABI/testing/sysfs-bus-pci; PCI Code and ID Assignment Specification (classes 03h, 12h).
 */
import { posix } from 'node:path';
import type { Tree } from '../core/ports.js';

export interface PciGpu {
  readonly address: string;
  readonly vendor: 'nvidia' | 'amd' | 'intel';
  /** Driver that is bound: nvidia, nouveau, amdgpu, vfio-pci …; '' for none. */
  readonly driver: string;
}

const VENDORS: Readonly<Record<string, PciGpu['vendor']>> = { '0x10de': 'nvidia', '0x1002': 'amd', '0x8086': 'intel' };
const DISPLAY = /^0x03/;
/** AMD's Instinct cards are no display controllers. Other vendors' accelerators of this class are no GPUs. */
const ACCELERATOR = /^0x12/;

export async function pciGpus(sysfs: Tree): Promise<PciGpu[]> {
  const addresses = await sysfs.list('bus/pci/devices', /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/);
  const found = await Promise.all(addresses.map((address) => pciGpu(sysfs, address)));
  return found.filter((gpu) => gpu !== undefined);
}

async function pciGpu(sysfs: Tree, address: string): Promise<PciGpu | undefined> {
  const directory = `bus/pci/devices/${address}`;
  const vendor = VENDORS[(await sysfs.text(`${directory}/vendor`)) ?? ''];
  if (vendor === undefined) return undefined;
  const deviceClass = (await sysfs.text(`${directory}/class`)) ?? '';
  if (!DISPLAY.test(deviceClass) && !(vendor === 'amd' && ACCELERATOR.test(deviceClass))) return undefined;
  const driver = await sysfs.resolve(`${directory}/driver`);
  return { address, vendor, driver: driver === undefined ? '' : posix.basename(driver) };
}
