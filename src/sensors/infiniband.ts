/**
 * InfiniBand and RoCE ports: state, rate, traffic and what went wrong, from /sys/class/infiniband/<device>/ports/<n>.
 *
 * A device is named by its place on the bus: mlx5_0 is counted anew at every boot, and stands in the label. Virtual
 * functions are left out: their errors are those of the physical port. Each device is a hazard domain, since its counters are
 * asked of its firmware.
 * Sources: Documentation/ABI/stable/sysfs-class-infiniband; drivers/infiniband/core/sysfs.c for the words of the states.
 */
import type { Channel, FileProbe } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import type { Quantity } from '../core/units.js';
import { stableDeviceName } from './device-path.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'infiniband';
const DEVICES = 'class/infiniband';
/** State and traffic. */
const RATE_HZ = 1;
/** Counters that stand still on a sound fabric; each may cost a question to the firmware. */
const COUNTER_RATE_HZ = 0.1;
/** A GPU node has a dozen; 22 channels each. */
const MAX_PORTS = 32;

/** The numbers in front of them are these places. */
const STATES = ['NOP', 'DOWN', 'INIT', 'ARMED', 'ACTIVE', 'ACTIVE_DEFER'];
const PHYSICAL_STATES = [
  '<unknown>',
  'Sleep',
  'Polling',
  'Disabled',
  'PortConfigurationTraining',
  'LinkUp',
  'LinkErrorRecovery',
  'Phy Test',
];
/** "200 Gb/sec (4X HDR)". */
const BYTES_PER_SECOND_PER_GIGABIT = 125_000_000;
/** IBTA counts data in words of 32 bits. */
const BYTES_PER_WORD = 4;

const ERRORS: readonly (readonly [file: string, name: string, label: string])[] = [
  ['counters/symbol_error', 'symbol_errors', 'symbol errors'],
  ['counters/link_error_recovery', 'link_recoveries', 'link recoveries'],
  ['counters/link_downed', 'link_downed', 'link lost'],
  ['counters/port_rcv_errors', 'receive_errors', 'receive errors'],
  ['counters/port_rcv_remote_physical_errors', 'remote_errors', 'remote physical errors'],
  ['counters/port_xmit_discards', 'send_discards', 'send discards'],
  ['counters/local_link_integrity_errors', 'integrity_errors', 'link integrity errors'],
  ['counters/excessive_buffer_overrun_errors', 'buffer_overruns', 'buffer overruns'],
  ['hw_counters/out_of_sequence', 'out_of_sequence', 'packets out of sequence'],
  ['hw_counters/packet_seq_err', 'sequence_errors', 'sequence errors'],
  ['hw_counters/local_ack_timeout_err', 'ack_timeouts', 'acknowledge time-outs'],
  ['hw_counters/rnr_nak_retry_err', 'receiver_not_ready', 'receiver not ready'],
  ['hw_counters/out_of_buffer', 'out_of_buffer', 'out of buffer'],
  ['hw_counters/roce_adp_retrans', 'retransmissions', 'adaptive retransmissions'],
  ['hw_counters/rx_icrc_encapsulated', 'icrc_errors', 'ICRC errors'],
  ['hw_counters/np_cnp_sent', 'congestion_notified', 'congestion notifications sent'],
  ['hw_counters/rp_cnp_handled', 'congestion_heeded', 'congestion notifications handled'],
];

type Probe = DistributiveOmit<FileProbe, 'path'>;
type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

interface Reading {
  readonly file: string;
  readonly name: string;
  readonly label: string;
  readonly quantity: Quantity;
  readonly rateHz: number;
  readonly probe: Probe;
}

const READINGS: readonly Reading[] = [
  state('state', 'state', STATES),
  state('phys_state', 'physical state', PHYSICAL_STATES),
  {
    file: 'rate',
    name: 'rate',
    label: 'link rate',
    quantity: 'rateBytesPerSecond',
    rateHz: RATE_HZ,
    probe: { kind: 'field', key: '', column: 0, multiplier: BYTES_PER_SECOND_PER_GIGABIT },
  },
  traffic('counters/port_rcv_data', 'received'),
  traffic('counters/port_xmit_data', 'sent'),
  ...ERRORS.map(
    ([file, name, label]): Reading => ({
      file,
      name,
      label,
      quantity: 'countTotal',
      rateHz: COUNTER_RATE_HZ,
      probe: { kind: 'integer' },
    }),
  ),
];

function state(file: string, label: string, words: readonly string[]): Reading {
  return { file, name: file, label, quantity: 'stateCode', rateHz: RATE_HZ, probe: { kind: 'word', words } };
}

function traffic(file: string, name: string): Reading {
  const probe: Probe = { kind: 'integer', multiplier: BYTES_PER_WORD, perSecond: true };
  return { file, name, label: name, quantity: 'rateBytesPerSecond', rateHz: RATE_HZ, probe };
}

export const infiniband: Source = {
  name: SOURCE,

  async discover({ sysfs, report }: SourceContext): Promise<Channel[]> {
    const names = await sysfs.list(DEVICES, /./);
    const ports = (await Promise.all(names.map((name) => portsOf(sysfs, name)))).flat();
    if (ports.length > MAX_PORTS)
      report.skipped(`${ports.length - MAX_PORTS} InfiniBand ports`, `more than ${MAX_PORTS}`);
    return (await Promise.all(ports.slice(0, MAX_PORTS).map((port) => portChannels(sysfs, port)))).flat();
  },
};

interface Port {
  readonly name: string;
  readonly number: string;
  readonly device: string;
  readonly directory: string;
}

async function portsOf(sysfs: Tree, name: string): Promise<Port[]> {
  if (await sysfs.exists(`${DEVICES}/${name}/device/physfn`)) return [];
  const behind = await sysfs.resolve(`${DEVICES}/${name}/device`);
  const place = behind === undefined ? name : await stableDeviceName(sysfs, behind); // Soft RoCE has no device.
  const numbers = await sysfs.list(`${DEVICES}/${name}/ports`, /^\d+$/);
  return numbers.map((number) => ({
    name,
    number,
    device: `${place}-port${number}`,
    directory: `${DEVICES}/${name}/ports/${number}`,
  }));
}

async function portChannels(sysfs: Tree, { name, number, device, directory }: Port): Promise<Channel[]> {
  const there = await Promise.all(READINGS.map(({ file }) => sysfs.exists(`${directory}/${file}`)));
  return READINGS.filter((_, i) => there[i]).map((reading) => {
    const path = `${directory}/${reading.file}`;
    return makeChannel({
      source: SOURCE,
      device,
      name: reading.name,
      label: `${name} port ${number} ${reading.label}`,
      quantity: reading.quantity,
      class: 'network',
      probe: { ...reading.probe, path: sysfs.absolute(path) },
      rateHz: reading.rateHz,
      domain: `${SOURCE}-${name}`,
      path,
    });
  });
}
