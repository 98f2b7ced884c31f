/**
 * Power supplies and batteries that the kernel knows: /sys/class/power_supply. (Redundant server PSUs on PMBus are hwmon chips.)
 *
 * Since Linux 5.3 most of them are hwmon chips, too: what the chip shows is left to it. Batteries of mice and head sets
 * (scope Device) are not the node's.
 * Source: Documentation/ABI/testing/sysfs-class-power.
 */
import type { Channel, FileProbe } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import { PPM_PER_PERCENT, type Quantity } from '../core/units.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'power_supply';
const SUPPLIES = 'class/power_supply';
const RATE_HZ = 1;
/** A node has two to six; beyond it something else counts as a supply (each USB port of a dock). */
const MAX_SUPPLIES = 32;

const STATUS = ['Unknown', 'Charging', 'Discharging', 'Not charging', 'Full'];

const PER_MICRO = 0.001;
const MILLI_CELSIUS_PER_TENTH = 100;

interface Attribute {
  readonly file: string;
  readonly name: string;
  readonly quantity: Quantity;
  readonly multiplier?: number;
  readonly words?: readonly string[];
  /** The same as a hwmon chip shows it. */
  readonly inHwmon?: string;
}

const ATTRIBUTES: readonly Attribute[] = [
  { file: 'online', name: 'online', quantity: 'stateCode' },
  { file: 'status', name: 'status', quantity: 'stateCode', words: STATUS },
  { file: 'capacity', name: 'charge', quantity: 'ratioPartsPerMillion', multiplier: PPM_PER_PERCENT },
  { file: 'voltage_now', name: 'voltage', quantity: 'voltageMilliVolts', multiplier: PER_MICRO, inHwmon: 'in0_input' },
  { file: 'current_now', name: 'current', quantity: 'currentMilliAmps', multiplier: PER_MICRO, inHwmon: 'curr1_input' },
  { file: 'power_now', name: 'power', quantity: 'powerMilliWatts', multiplier: PER_MICRO, inHwmon: 'power1_input' },
  {
    file: 'temp',
    name: 'temperature',
    quantity: 'temperatureMilliCelsius',
    multiplier: MILLI_CELSIUS_PER_TENTH,
    inHwmon: 'temp1_input',
  },
];

export const powerSupplies: Source = {
  name: SOURCE,

  async discover({ sysfs, report }: SourceContext): Promise<Channel[]> {
    const names = await sysfs.list(SUPPLIES, /./);
    const scopes = await Promise.all(names.map((name) => sysfs.text(`${SUPPLIES}/${name}/scope`)));
    const supplies = names.filter((_, i) => scopes[i] !== 'Device');
    for (const name of supplies.slice(MAX_SUPPLIES)) report.skipped(name, `more than ${MAX_SUPPLIES} power supplies`);
    return (await Promise.all(supplies.slice(0, MAX_SUPPLIES).map((name) => supplyChannels(sysfs, name)))).flat();
  },
};

async function supplyChannels(sysfs: Tree, name: string): Promise<Channel[]> {
  const directory = `${SUPPLIES}/${name}`;
  const chips = await sysfs.list(directory, /^hwmon\d+$/);
  const channels: Channel[] = [];
  for (const attribute of ATTRIBUTES) {
    const path = `${directory}/${attribute.file}`;
    if (!(await sysfs.exists(path)) || (await isInHwmon(sysfs, { directory, chips, attribute }))) continue;
    channels.push(
      makeChannel({
        source: SOURCE,
        device: name, // Firmware's own name (BAT0, ADP1), not counted by the kernel.
        name: attribute.name,
        label: `${name} ${attribute.name}`,
        quantity: attribute.quantity,
        class: 'board',
        probe: probeOf(sysfs.absolute(path), attribute),
        rateHz: RATE_HZ,
        domain: `${SOURCE}-${name}`, // Batteries answer over a slow bus, through firmware.
        path,
      }),
    );
  }
  return channels;
}

async function isInHwmon(
  sysfs: Tree,
  { directory, chips, attribute }: { directory: string; chips: readonly string[]; attribute: Attribute },
): Promise<boolean> {
  if (attribute.inHwmon === undefined) return false;
  for (const chip of chips) if (await sysfs.exists(`${directory}/${chip}/${attribute.inHwmon}`)) return true;
  return false;
}

function probeOf(path: string, { words, multiplier }: Attribute): FileProbe {
  if (words !== undefined) return { kind: 'word', path, words };
  return { kind: 'integer', path, ...(multiplier === undefined ? {} : { multiplier }) };
}
