/**
 * Network interfaces: traffic, errors and link, from /sys/class/net/<interface>.
 *
 * Interfaces with hardware behind them, bonds and WireGuard tunnels. Others (loopback, bridges, veth and tap pairs of
 * containers) carry what those carry, come and go by the hundred, and would be most of all channels.
 * Source: Documentation/ABI/testing/sysfs-class-net and sysfs-class-net-statistics.
 */
import type { Channel } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import type { Quantity } from '../core/units.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'network';
const RATE_HZ = 1;
/** A GPU node has a dozen ports; beyond this something makes functions without end (SR-IOV). */
const MAX_INTERFACES = 64;

interface Counter {
  readonly file: string;
  readonly name: string;
  readonly label: string;
  readonly quantity: Quantity;
  readonly perSecond?: true;
}

const COUNTERS: readonly Counter[] = [
  {
    file: 'statistics/rx_bytes',
    name: 'received',
    label: 'received',
    quantity: 'rateBytesPerSecond',
    perSecond: true,
  },
  { file: 'statistics/tx_bytes', name: 'sent', label: 'sent', quantity: 'rateBytesPerSecond', perSecond: true },
  { file: 'statistics/rx_errors', name: 'receive_errors', label: 'receive errors', quantity: 'countTotal' },
  { file: 'statistics/tx_errors', name: 'send_errors', label: 'send errors', quantity: 'countTotal' },
  { file: 'statistics/rx_dropped', name: 'receive_dropped', label: 'receive dropped', quantity: 'countTotal' },
  { file: 'statistics/tx_dropped', name: 'send_dropped', label: 'send dropped', quantity: 'countTotal' },
  { file: 'carrier_down_count', name: 'link_lost', label: 'link lost', quantity: 'countTotal' },
];

export const networkInterfaces: Source = {
  name: SOURCE,

  async discover({ sysfs, report }: SourceContext): Promise<Channel[]> {
    const found = await Promise.all((await sysfs.list('class/net', /./)).map((name) => readInterface(sysfs, name)));
    const interfaces = found.filter((each) => each !== undefined);
    if (interfaces.length === 0) {
      report.skipped('network interfaces', `none with hardware behind it in ${sysfs.absolute('class/net')}`);
    }
    for (const { name } of interfaces.slice(MAX_INTERFACES))
      report.skipped(name, `more than ${MAX_INTERFACES} interfaces`);
    const channels = interfaces.slice(0, MAX_INTERFACES).map((each) => interfaceChannels(sysfs, each));
    return (await Promise.all(channels)).flat();
  },
};

interface Interface {
  readonly name: string;
  /** Resolved directory. */
  readonly directory: string;
}

async function readInterface(sysfs: Tree, name: string): Promise<Interface | undefined> {
  const directory = await sysfs.resolve(`class/net/${name}`);
  if (directory === undefined) return undefined;
  const isReal =
    (await sysfs.exists(`${directory}/device`)) ||
    (await sysfs.exists(`${directory}/bonding`)) ||
    /^DEVTYPE=wireguard$/m.test((await sysfs.text(`${directory}/uevent`)) ?? '');
  return isReal ? { name, directory } : undefined;
}

async function interfaceChannels(sysfs: Tree, { name, directory }: Interface): Promise<Channel[]> {
  const channels: Channel[] = [];
  for (const counter of COUNTERS) {
    const path = `${directory}/${counter.file}`;
    if (!(await sysfs.exists(path))) continue;
    channels.push(
      makeChannel({
        source: SOURCE,
        device: name,
        name: counter.name,
        label: `${name} ${counter.label}`,
        quantity: counter.quantity,
        class: 'network',
        probe: {
          kind: 'integer',
          path: sysfs.absolute(path),
          ...(counter.perSecond ? { perSecond: true } : {}),
        },
        rateHz: RATE_HZ,
        domain: `${SOURCE}-${name}`,
        path,
      }),
    );
  }
  return channels;
}
