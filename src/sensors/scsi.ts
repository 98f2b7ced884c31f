/**
 * SATA and SAS disks as the SCSI layer sees them: whether they are running, and how many of their commands failed.
 *
 * ioerr_cnt counts every command that ended with an error, refused questions among them: a disk may show a few from its
 * start on, and a rising number is what tells. Both are variables of the kernel: no disk is asked, or woken.
 * Sources: drivers/scsi/scsi_sysfs.c; Documentation/scsi/scsi_mid_low_api.rst for the states.
 */
import type { Channel, FileProbe } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import type { Quantity } from '../core/units.js';
import { diskName, NO_DISK } from './block.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'scsi';
const STATE_RATE_HZ = 1;
const COUNTER_RATE_HZ = 0.1;
/** Three channels each; a shelf has sixty disks, a storage node a few shelves. */
const MAX_DISKS = 256;

/** In the order of the kernel's enum scsi_device_state. */
const STATES = [
  '',
  'created',
  'running',
  'cancel',
  'deleted',
  'quiesce',
  'offline',
  'transport-offline',
  'blocked',
  'created-blocked',
];

interface Attribute {
  readonly file: string;
  readonly name: string;
  readonly label: string;
  readonly quantity: Quantity;
  readonly rateHz: number;
}

const ATTRIBUTES: readonly Attribute[] = [
  { file: 'state', name: 'state', label: 'state', quantity: 'stateCode', rateHz: STATE_RATE_HZ },
  { file: 'ioerr_cnt', name: 'errors', label: 'failed commands', quantity: 'countTotal', rateHz: COUNTER_RATE_HZ },
  {
    file: 'iotmo_cnt',
    name: 'timeouts',
    label: 'commands out of time',
    quantity: 'countTotal',
    rateHz: COUNTER_RATE_HZ,
  },
];

export const scsiDisks: Source = {
  name: SOURCE,

  async discover({ sysfs, report }: SourceContext): Promise<Channel[]> {
    const names = (await sysfs.list('block', /./)).filter((name) => !NO_DISK.test(name));
    const counting = await Promise.all(names.map((name) => sysfs.exists(`block/${name}/device/ioerr_cnt`)));
    const disks = names.filter((_, i) => counting[i]);
    if (disks.length > MAX_DISKS) report.skipped(`${disks.length - MAX_DISKS} SCSI disks`, `more than ${MAX_DISKS}`);
    return (await Promise.all(disks.slice(0, MAX_DISKS).map((name) => diskChannels(sysfs, name)))).flat();
  },
};

async function diskChannels(sysfs: Tree, name: string): Promise<Channel[]> {
  const directory = await sysfs.resolve(`block/${name}`);
  if (directory === undefined) return [];
  const device = await diskName(sysfs, directory, name);
  const there = await Promise.all(ATTRIBUTES.map(({ file }) => sysfs.exists(`${directory}/device/${file}`)));
  return ATTRIBUTES.filter((_, i) => there[i]).map((attribute) => {
    const path = `${directory}/device/${attribute.file}`;
    return makeChannel({
      source: SOURCE,
      device,
      name: attribute.name,
      label: `${name} ${attribute.label}`,
      quantity: attribute.quantity,
      class: 'disk',
      probe: probeOf(sysfs.absolute(path), attribute),
      rateHz: attribute.rateHz,
      domain: SOURCE,
      path,
    });
  });
}

function probeOf(path: string, { file }: Attribute): FileProbe {
  return file === 'state' ? { kind: 'word', path, words: STATES } : { kind: 'hexadecimal', path };
}
