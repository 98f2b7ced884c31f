/**
 * Software RAID: whether an array is whole, and what it is doing about it.
 *
 * Named by the array's UUID where the kernel tells it, else by its name: md127 is counted anew where no mdadm.conf says
 * otherwise.
 * Source: Documentation/admin-guide/md.rst.
 */
import type { Channel, FileProbe } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import type { Quantity } from '../core/units.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'md';
const RATE_HZ = 0.1;
/** Four channels each; a node has a few. */
const MAX_ARRAYS = 32;

const ARRAY_STATES = [
  'clear',
  'inactive',
  'suspended',
  'readonly',
  'read-auto',
  'clean',
  'active',
  'write-pending',
  'active-idle',
  'broken',
];
const SYNC_ACTIONS = ['idle', 'resync', 'recover', 'check', 'repair', 'reshape', 'frozen'];

interface Attribute {
  readonly file: string;
  readonly name: string;
  readonly label: string;
  readonly quantity: Quantity;
  readonly words?: readonly string[];
}

const ATTRIBUTES: readonly Attribute[] = [
  { file: 'array_state', name: 'state', label: 'state', quantity: 'stateCode', words: ARRAY_STATES },
  { file: 'degraded', name: 'missing_devices', label: 'missing devices', quantity: 'stateCode' },
  { file: 'sync_action', name: 'sync_action', label: 'sync action', quantity: 'stateCode', words: SYNC_ACTIONS },
  { file: 'mismatch_cnt', name: 'mismatches', label: 'mismatched sectors of the last check', quantity: 'countTotal' },
];

export const mdArrays: Source = {
  name: SOURCE,

  async discover({ sysfs, report }: SourceContext): Promise<Channel[]> {
    const names = await sysfs.list('block', /^md/);
    const arrays = (await Promise.all(names.map((name) => isArray(sysfs, name)))).flatMap((yes, i) =>
      yes ? (names[i] ?? []) : [],
    );
    for (const name of arrays.slice(MAX_ARRAYS)) report.skipped(name, `more than ${MAX_ARRAYS} arrays`);
    return (await Promise.all(arrays.slice(0, MAX_ARRAYS).map((name) => arrayChannels(sysfs, name)))).flat();
  },
};

/** Partitions of arrays are no directories of /sys/block; a leftover device without an array has no such file. */
function isArray(sysfs: Tree, name: string): Promise<boolean> {
  return sysfs.exists(`block/${name}/md/array_state`);
}

async function arrayChannels(sysfs: Tree, name: string): Promise<Channel[]> {
  const directory = `block/${name}/md`;
  const device = (await sysfs.text(`${directory}/uuid`)) || name;
  const there = await Promise.all(ATTRIBUTES.map(({ file }) => sysfs.exists(`${directory}/${file}`)));
  // RAID 0 and linear arrays have no redundancy, and so neither `degraded` nor a sync action.
  return ATTRIBUTES.filter((_, i) => there[i]).map((attribute) => {
    const path = `${directory}/${attribute.file}`;
    return makeChannel({
      source: SOURCE,
      device,
      name: attribute.name,
      label: `${name} ${attribute.label}`,
      quantity: attribute.quantity,
      class: 'disk',
      probe: probeOf(sysfs.absolute(path), attribute),
      rateHz: RATE_HZ,
      domain: `${SOURCE}-${name}`, // Waits while the array is reshaped or suspended.
      path,
    });
  });
}

function probeOf(path: string, { words }: Attribute): FileProbe {
  return words === undefined ? { kind: 'integer', path } : { kind: 'word', path, words };
}
