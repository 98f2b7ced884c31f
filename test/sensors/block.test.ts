/** Disks: rates from the stat file, ids from what is written in the disk. */
import t from 'tap';
import { blockDevices } from '../../src/sensors/block.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';

function addDisk(machine: FakeMachine, directory: string, files: Readonly<Record<string, string | number>> = {}): void {
  const name = directory.slice(directory.lastIndexOf('/') + 1);
  const all = { stat: '1 0 8 1 1 0 8 1 0 2 2', size: 1000, ...files };
  for (const [file, value] of Object.entries(all)) machine.set(`${directory}/${file}`, value);
  machine.link(`block/${name}`, directory);
}

t.test('reads bytes per second, whatever sectors the disk has, and its busy share', async (t) => {
  const machine = fakeMachine(t);
  addDisk(machine, 'devices/virtio1/block/vda', { serial: 'S1' });
  const found = await discover(machine, [blockDevices]);
  t.same(ids(found), ['block/s1/read', 'block/s1/written', 'block/s1/busy']);
  t.match(channelOf(found, 'block/s1/written'), {
    label: 'vda written',
    quantity: 'rateBytesPerSecond',
    class: 'disk',
    probe: { kind: 'field', key: '', column: 6, multiplier: 512, perSecond: true },
  });
  t.match(channelOf(found, 'block/s1/busy'), {
    quantity: 'ratioPartsPerMillion',
    probe: { column: 9, multiplier: 1000, perSecond: true },
  });
});

t.test('names a disk by wwid, then serial, then its place', async (t) => {
  const machine = fakeMachine(t);
  addDisk(machine, 'devices/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1', { wwid: 'eui.0025' });
  machine.set('devices/pci0000:00/0000:01:00.0/nvme/nvme0/serial', 'SHARED');
  machine.link(
    'devices/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1/device',
    'devices/pci0000:00/0000:01:00.0/nvme/nvme0',
  );
  addDisk(machine, 'devices/pci0000:00/0000:02:00.0/nvme/nvme1/nvme1n1');
  machine.set('devices/pci0000:00/0000:02:00.0/nvme/nvme1/serial', 'S4 EV');
  machine.link(
    'devices/pci0000:00/0000:02:00.0/nvme/nvme1/nvme1n1/device',
    'devices/pci0000:00/0000:02:00.0/nvme/nvme1',
  );
  const scsi = 'devices/pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0';
  addDisk(machine, `${scsi}/block/sda`);
  machine.link(`${scsi}/block/sda/device`, scsi);
  const { channels } = await discover(machine, [blockDevices]);
  t.same([...new Set(channels.map(({ device }) => device))], ['eui~2e0025', 's4-ev', '0000-00-17-0-0-0-0']);
});

t.test('passes over what is no disk, is empty, hidden, or built of others', async (t) => {
  const machine = fakeMachine(t);
  for (const name of ['loop0', 'ram1', 'zram0', 'sr0', 'nbd3', 'dm-0', 'md127', 'fd0']) {
    addDisk(machine, `devices/virtual/block/${name}`);
  }
  addDisk(machine, 'devices/usb/block/sdx', { size: 0 });
  addDisk(machine, 'devices/nvme/block/nvme0c0n1', { hidden: 1 });
  addDisk(machine, 'devices/bcache/block/bcache0', { 'slaves/sda': 1 });
  machine.link('block/gone', 'devices/gone');
  machine.set('block/nostat/size', 5);
  t.same((await discover(machine, [blockDevices])).channels, []);
});

t.test('tells two disks of one serial apart', async (t) => {
  const machine = fakeMachine(t);
  addDisk(machine, 'devices/a/block/sda', { serial: 'SAME' });
  addDisk(machine, 'devices/b/block/sdb', { serial: 'SAME' });
  const found = await discover(machine, [blockDevices]);
  t.equal(new Set(ids(found)).size, 6);
});
