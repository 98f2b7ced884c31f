/**
 * PCI Express: errors that a device or the port above it reported (AER), and the link of disks and network cards.
 *
 * Of a few hundred functions only those are taken whose trouble is the node's: GPUs and other accelerators, NVMe, network and
 * InfiniBand, and the ports on the way up from them to the root, which see the errors of the link's other end. Virtual functions
 * share the link of their physical one. The links of GPUs are skos-gpu's; their error counters are read here, since the
 * kernel keeps them in its own memory: no driver and no device is asked.
 * Sources: Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats and sysfs-bus-pci; class codes: PCI Code and ID Assignment.
 */
import type { Channel, FileProbe } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'pcie';
const DEVICES = 'bus/pci/devices';
/** Counters that stand still on a sound machine. */
const RATE_HZ = 0.1;
/** Eight GPUs, sixteen disks, as many network ports and what is above them are some hundred. Three counters each. */
const MAX_DEVICES = 160;

/** What tells of a function whether it is of interest, by being there: one look at its directory instead of several files. */
const TELLING = /^(aer_dev_correctable|max_link_speed|secondary_bus_number|physfn)$/;
const ADDRESS = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;

type Kind = 'GPU' | 'NVMe' | 'network' | 'port';
const RANK: readonly Kind[] = ['GPU', 'NVMe', 'network', 'port'];

const COUNTERS = [
  { file: 'aer_dev_correctable', key: 'TOTAL_ERR_COR', name: 'correctable', label: 'corrected errors' },
  { file: 'aer_dev_nonfatal', key: 'TOTAL_ERR_NONFATAL', name: 'nonfatal', label: 'non-fatal errors' },
  { file: 'aer_dev_fatal', key: 'TOTAL_ERR_FATAL', name: 'fatal', label: 'fatal errors' },
] as const;

/** By generation; the kernel's spelling since 5.7 and before. What is unknown ("Unknown") is none of them, and so a fault. */
const SPEEDS: readonly (readonly string[])[] = [
  ['', '2.5 GT/s PCIe', '5.0 GT/s PCIe', '8.0 GT/s PCIe', '16.0 GT/s PCIe', '32.0 GT/s PCIe', '64.0 GT/s PCIe'],
  ['', '2.5 GT/s', '5 GT/s', '8 GT/s', '16 GT/s', '32 GT/s'],
];

interface Device {
  readonly address: string;
  readonly kind: Kind;
  /** Resolved. */
  readonly directory: string;
  readonly hasErrors: boolean;
}

export const pcie: Source = {
  name: SOURCE,

  async discover({ sysfs, report }: SourceContext): Promise<Channel[]> {
    const addresses = await sysfs.list(DEVICES, ADDRESS);
    const found = await Promise.all(addresses.map((address) => readEndpoint(sysfs, address)));
    const endpoints = found.filter((device) => device !== undefined);
    const ports = await Promise.all(portsAbove(endpoints).map((address) => readPort(sysfs, address)));
    const devices = [...endpoints, ...ports.filter((port) => port !== undefined)];
    devices.sort((a, b) => RANK.indexOf(a.kind) - RANK.indexOf(b.kind)); // Stable: by address within a kind.
    if (devices.length > MAX_DEVICES)
      report.skipped(`${devices.length - MAX_DEVICES} PCI devices`, `more than ${MAX_DEVICES}`);
    if (endpoints.length > 0 && !devices.some(({ hasErrors }) => hasErrors))
      report.skipped('PCIe errors', 'the kernel counts none: the firmware keeps AER to itself, or pci=noaer was given');
    const channels = devices.slice(0, MAX_DEVICES).map((device) => deviceChannels(sysfs, device, report));
    return (await Promise.all(channels)).flat();
  },
};

/** A device of interest; undefined for any other. Files are read only of those few that may be one. */
async function readEndpoint(sysfs: Tree, address: string): Promise<Device | undefined> {
  const at = `${DEVICES}/${address}`;
  const telling = await sysfs.list(at, TELLING);
  const hasErrors = telling.includes('aer_dev_correctable');
  const isBridge = telling.includes('secondary_bus_number');
  if (isBridge || telling.includes('physfn') || !(hasErrors || telling.includes('max_link_speed'))) return undefined;
  const kind = kindOf(await sysfs.text(`${at}/class`));
  const directory = kind === undefined ? undefined : await sysfs.resolve(at);
  if (kind === undefined || directory === undefined) return undefined;
  return { address, kind, directory, hasErrors };
}

/** 0x030200: class, subclass, programming interface. Accelerators (class 12) are GPUs without a display, such as AMD's MI300. */
function kindOf(code: string | undefined): Kind | undefined {
  if (code === undefined || !/^0x[0-9a-f]{6}$/.test(code)) return undefined;
  if (code.startsWith('0x03') || code.startsWith('0x12')) return 'GPU';
  if (code.startsWith('0x0108')) return 'NVMe';
  return code.startsWith('0x02') ? 'network' : undefined;
}

/** A function's path names the bridges that lead to it: devices/pci0000:00/0000:00:01.0/0000:01:00.0. */
function portsAbove(endpoints: readonly Device[]): string[] {
  const ports = endpoints.flatMap(({ directory }) => directory.split('/').slice(0, -1).filter(isAddress));
  return [...new Set(ports)].sort();
}

function isAddress(component: string): boolean {
  return ADDRESS.test(component);
}

async function readPort(sysfs: Tree, address: string): Promise<Device | undefined> {
  const directory = await sysfs.resolve(`${DEVICES}/${address}`);
  if (directory === undefined || !(await sysfs.exists(`${directory}/aer_dev_correctable`))) return undefined;
  return { address, kind: 'port', directory, hasErrors: true };
}

async function deviceChannels(sysfs: Tree, device: Device, report: SourceContext['report']): Promise<Channel[]> {
  const counters = device.hasErrors ? COUNTERS.map((counter) => counterChannel(sysfs, device, counter)) : [];
  const hasOwnLink = device.kind === 'NVMe' || device.kind === 'network';
  return hasOwnLink ? [...counters, ...(await linkChannels(sysfs, device, report))] : counters;
}

function counterChannel(sysfs: Tree, device: Device, counter: (typeof COUNTERS)[number]): Channel {
  const path = `${device.directory}/${counter.file}`;
  return makeChannel({
    ...common(device),
    name: counter.name,
    label: `${labelOf(device)} ${counter.label}`,
    quantity: 'countTotal',
    probe: { kind: 'field', path: sysfs.absolute(path), key: counter.key, column: 1 },
    domain: SOURCE,
    path,
  });
}

/**
 * A link below what both its ends can do (`limits.max`) is news: a card that sits badly, or a lane that is worn. A fast card
 * in a slow slot is none.
 */
async function linkChannels(sysfs: Tree, device: Device, report: SourceContext['report']): Promise<Channel[]> {
  const { directory, address } = device;
  if ((await sysfs.text(`${directory}/power/control`)) === 'auto') {
    // The files ask the device's configuration space, for which some kernels resume it first (drivers/pci/pci-sysfs.c).
    report.skipped(`link of ${address}`, 'the device may sleep, and asking would wake it');
    return [];
  }
  const ends = await Promise.all(
    [directory, directory.slice(0, directory.lastIndexOf('/'))].map((end) => capability(sysfs, end)),
  );
  const words = ends[0]?.words;
  const generation = least(ends.map((end) => end.generation));
  const width = least(ends.map((end) => end.width));
  const channels: Channel[] = [];
  if (words !== undefined && generation !== undefined) {
    const probe = { kind: 'word', path: sysfs.absolute(`${directory}/current_link_speed`), words } as const;
    channels.push(linkChannel(device, { name: 'generation', label: 'link generation', max: generation, probe }));
  }
  if (width !== undefined) {
    const probe = { kind: 'integer', path: sysfs.absolute(`${directory}/current_link_width`) } as const;
    channels.push(linkChannel(device, { name: 'width', label: 'link lanes', max: width, probe }));
  }
  return channels;
}

interface Capability {
  /** The spelling that this kernel uses. */
  readonly words?: readonly string[] | undefined;
  readonly generation?: number | undefined;
  readonly width?: number | undefined;
}

async function capability(sysfs: Tree, directory: string): Promise<Capability> {
  const [speed = '', width = 0] = await Promise.all([
    sysfs.text(`${directory}/max_link_speed`),
    sysfs.integer(`${directory}/max_link_width`),
  ]);
  const words = SPEEDS.find((spelling) => spelling.indexOf(speed) > 0);
  return { words, generation: words?.indexOf(speed), width: width > 0 ? width : undefined };
}

/** Of the device itself, and of the port above it where that says anything. */
function least([own, above]: readonly (number | undefined)[]): number | undefined {
  return own === undefined ? undefined : Math.min(own, above ?? own);
}

function linkChannel(
  device: Device,
  { name, label, max, probe }: { name: string; label: string; max: number; probe: FileProbe },
): Channel {
  return makeChannel({
    ...common(device),
    name,
    label: `${labelOf(device)} ${label}`,
    quantity: 'stateCode',
    limits: { max },
    probe,
    domain: `${SOURCE}-${device.address}`, // Asks the device itself, which may be gone from the bus.
    path: `${device.directory}/${name === 'width' ? 'current_link_width' : 'current_link_speed'}`,
  });
}

function labelOf({ kind, address }: Device): string {
  return `${kind} ${address}`;
}

function common({ address, kind }: Device) {
  const classes = { GPU: 'gpu', NVMe: 'disk', network: 'network', port: 'board' } as const;
  return {
    source: SOURCE,
    device: address.replace(/[:.]/g, '-'),
    class: classes[kind],
    rateHz: RATE_HZ,
  };
}
