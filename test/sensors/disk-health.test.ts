/** What the kernel knows of disks' health without asking them: NVMe controllers, SCSI disks, software RAID. */
import t from 'tap';
import type { Channel } from '../../src/core/channel.js';
import { loadAddon } from '../../src/sensors/addon.js';
import { mdArrays } from '../../src/sensors/md.js';
import { nvmeControllers } from '../../src/sensors/nvme.js';
import { scsiDisks } from '../../src/sensors/scsi.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';
import { until } from '../fixtures/until.js';

function addNvme(machine: FakeMachine, name: string, { serial = '', state = 'live' } = {}): string {
  const directory = `devices/pci0000:00/0000:01:00.0/nvme/${name}`;
  machine.set(`${directory}/state`, state);
  if (serial !== '') machine.set(`${directory}/serial`, serial);
  machine.link(`${directory}/device`, 'devices/pci0000:00/0000:01:00.0');
  machine.link(`class/nvme/${name}`, directory);
  return directory;
}

function addScsi(machine: FakeMachine, name: string, wwid: string): string {
  const directory = 'devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0';
  const disk = `${directory}/block/${name}`;
  machine.set(`${disk}/size`, 100);
  machine.set(`${directory}/state`, 'running');
  machine.set(`${directory}/ioerr_cnt`, '0x1f');
  machine.set(`${directory}/iotmo_cnt`, '0x0');
  machine.set(`${directory}/wwid`, wwid);
  machine.link(`${disk}/device`, directory);
  machine.link(`block/${name}`, disk);
  return directory;
}

/** Values of the channels, read by the native sampler. */
async function valuesOf(t: { teardown(fn: () => void): void }, channels: readonly Channel[]) {
  const fast = channels.map((channel) => ({ ...channel, rateHz: 100 }));
  const sampler = loadAddon().createSampler(fast, [], { readDeadlineMs: 1_000, onCrossing: () => undefined });
  t.teardown(() => sampler.stop());
  sampler.start();
  await until(() => {
    sampler.refresh();
    return fast.every((_, i) => sampler.latest(i).atMs > 0);
  });
  return fast.map((_, i) => sampler.latest(i).value);
}

t.test('an NVMe controller is named by its serial number, and its state is the kernel’s word', async (t) => {
  const machine = fakeMachine(t);
  addNvme(machine, 'nvme0', { serial: 'S4EM NX0 ', state: 'deleting (no IO)' });
  addNvme(machine, 'nvme1', { state: 'exploding' });
  machine.set('class/nvme/nvme2/model', 'older than the state file');
  machine.set('class/nvme/nvme-subsys0/state', 'live');
  const found = await discover(machine, [nvmeControllers]);
  t.same(ids(found), ['nvme/s4em-nx0/state', 'nvme/0000-01-00-0/state']);
  t.same(await valuesOf(t, found.channels), [5, null]);
});

t.test('SCSI disks tell their state and their errors in hexadecimal', async (t) => {
  const machine = fakeMachine(t);
  addScsi(machine, 'sda', 'naa.5000c500a1b2c3d4');
  const found = await discover(machine, [scsiDisks]);
  t.same(ids(found), [
    'scsi/naa~2e5000c500a1b2c3d4/state',
    'scsi/naa~2e5000c500a1b2c3d4/errors',
    'scsi/naa~2e5000c500a1b2c3d4/timeouts',
  ]);
  t.same(await valuesOf(t, found.channels), [2, 31, 0]);
});

t.test('is no NVMe disk, whose device has a state too, and no card reader or CD drive', async (t) => {
  const machine = fakeMachine(t);
  const controller = addNvme(machine, 'nvme0');
  machine.link(`${controller}/nvme0n1/device`, controller);
  machine.link('block/nvme0n1', `${controller}/nvme0n1`);
  addScsi(machine, 'sr0', 'x');
  t.same(await discover(machine, [scsiDisks]).then(ids), []);
});

t.test('tells whether an array is whole, and what it does', async (t) => {
  const machine = fakeMachine(t);
  for (const [file, value] of Object.entries({
    array_state: 'active',
    degraded: 1,
    sync_action: 'recover',
    mismatch_cnt: 128,
  }))
    machine.set(`block/md127/md/${file}`, value);
  machine.set('block/md1/md/array_state', 'clean'); // RAID 0.
  machine.set('block/md1/md/uuid', '2b1ae7b4-6a2d-4f3a-8a4e-0f1d2c3b4a59');
  machine.set('block/md_d9/size', 0);
  const found = await discover(machine, [mdArrays]);
  t.same(ids(found), [
    'md/2b1ae7b4-6a2d-4f3a-8a4e-0f1d2c3b4a59/state',
    'md/md127/state',
    'md/md127/missing_devices',
    'md/md127/sync_action',
    'md/md127/mismatches',
  ]);
  t.same(await valuesOf(t, found.channels), [5, 6, 1, 2, 128]);
  t.match(channelOf(found, 'md/md127/state').domain, 'md-md127', 'one that waits for itself keeps no other waiting');
});

t.test('bounds each kind aloud', async (t) => {
  const machine = fakeMachine(t);
  for (let i = 0; i < 130; i++) addNvme(machine, `nvme${i}`, { serial: `s${i}` });
  for (let i = 0; i < 33; i++) machine.set(`block/md${i}/md/array_state`, 'clean');
  const found = await discover(machine, [nvmeControllers, mdArrays]);
  t.equal(found.channels.length, 128 + 32);
  t.match(found.skipped, [{ what: '2 NVMe controllers' }, { what: 'md32' }]);
});
