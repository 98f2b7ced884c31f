/** PCI Express: whose errors and links are channels, and whose are not. */
import { join } from 'node:path';
import t from 'tap';
import { pcie } from '../../src/sensors/pcie.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';
import { fileProbe } from '../fixtures/probes.js';

const GPU = '0x030200';
const ACCELERATOR = '0x120000';
const NVME = '0x010802';
const ETHERNET = '0x020000';
const USB = '0x0c0330';
const BRIDGE = '0x060400';

interface Options {
  readonly code: string;
  /** Bridges above it, topmost first. */
  readonly above?: readonly string[];
  readonly aer?: boolean;
  readonly link?: readonly [speed: string, width: number];
  readonly control?: string;
}

/** Returns the device's directory. */
function addDevice(machine: FakeMachine, address: string, options: Options): string {
  const { code, above = [], aer = true, link, control = 'on' } = options;
  const directory = ['devices/pci0000:00', ...above, address].join('/');
  machine.set(`${directory}/class`, code);
  if (code === BRIDGE) machine.set(`${directory}/secondary_bus_number`, 1);
  if (aer) {
    machine.set(`${directory}/aer_dev_correctable`, 'RxErr 1\nBadTLP 2\nTOTAL_ERR_COR 3');
    machine.set(`${directory}/aer_dev_nonfatal`, 'Undefined 0\nTOTAL_ERR_NONFATAL 4');
    machine.set(`${directory}/aer_dev_fatal`, 'Undefined 0\nTOTAL_ERR_FATAL 5');
  }
  if (link !== undefined) {
    for (const file of ['current', 'max']) {
      machine.set(`${directory}/${file}_link_speed`, link[0]);
      machine.set(`${directory}/${file}_link_width`, link[1]);
    }
  }
  machine.set(`${directory}/power/control`, control);
  machine.link(`bus/pci/devices/${address}`, directory);
  return directory;
}

t.test('counts the errors of GPUs, NVMe and network devices, and of the ports above them', async (t) => {
  const machine = fakeMachine(t);
  const port = '0000:00:01.0';
  addDevice(machine, port, { code: BRIDGE });
  addDevice(machine, '0000:01:00.0', { code: GPU, above: [port] });
  addDevice(machine, '0000:02:00.0', { code: NVME });
  addDevice(machine, '0000:03:00.0', { code: ETHERNET });
  addDevice(machine, '0000:04:00.0', { code: ACCELERATOR });
  addDevice(machine, '0000:05:00.0', { code: USB });
  addDevice(machine, '0000:00:09.0', { code: BRIDGE }); // Leads to none of them.
  const found = await discover(machine, [pcie]);
  t.same(
    [...new Set(found.channels.map(({ device }) => device))],
    ['0000-01-00-0', '0000-04-00-0', '0000-02-00-0', '0000-03-00-0', '0000-00-01-0'],
  );
  t.match(channelOf(found, 'pcie/0000-01-00-0/nonfatal'), {
    label: 'GPU 0000:01:00.0 non-fatal errors',
    quantity: 'countTotal',
    class: 'gpu',
    rateHz: 0.1,
    probe: {
      kind: 'field',
      key: 'TOTAL_ERR_NONFATAL',
      column: 1,
      path: join(machine.sysfs, 'devices/pci0000:00/0000:00:01.0/0000:01:00.0/aer_dev_nonfatal'),
    },
  });
  t.equal(channelOf(found, 'pcie/0000-00-01-0/fatal').label, 'port 0000:00:01.0 fatal errors');
});

t.test('reads the link of disks and network cards against its maximum, and of no GPU', async (t) => {
  const machine = fakeMachine(t);
  const disk = addDevice(machine, '0000:02:00.0', { code: NVME, link: ['16.0 GT/s PCIe', 4] });
  addDevice(machine, '0000:01:00.0', { code: GPU, link: ['16.0 GT/s PCIe', 16] });
  machine.set(`${disk}/current_link_speed`, '8.0 GT/s PCIe');
  const found = await discover(machine, [pcie]);
  t.same(
    ids(found).filter((id) => /generation|width/.test(id)),
    ['pcie/0000-02-00-0/generation', 'pcie/0000-02-00-0/width'],
  );
  const generation = channelOf(found, 'pcie/0000-02-00-0/generation');
  t.match(generation, { quantity: 'stateCode', limits: { max: 4 } });
  const probe = fileProbe(generation);
  t.equal(probe.kind === 'word' && probe.words.indexOf('8.0 GT/s PCIe'), 3);
  t.match(channelOf(found, 'pcie/0000-02-00-0/width'), { limits: { max: 4 }, probe: { kind: 'integer' } });
});

t.test('expects no more of a link than the slower of its ends', async (t) => {
  const machine = fakeMachine(t);
  const port = '0000:00:01.0';
  addDevice(machine, port, { code: BRIDGE, link: ['8.0 GT/s PCIe', 2] });
  addDevice(machine, '0000:01:00.0', { code: NVME, above: [port], link: ['32.0 GT/s PCIe', 4] });
  const found = await discover(machine, [pcie]);
  t.match(channelOf(found, 'pcie/0000-01-00-0/generation').limits, { max: 3 });
  t.match(channelOf(found, 'pcie/0000-01-00-0/width').limits, { max: 2 });
  machine.set(`devices/pci0000:00/${port}/max_link_speed`, 'Unknown');
  machine.set(`devices/pci0000:00/${port}/max_link_width`, 0);
  const again = await discover(machine, [pcie]);
  t.match(channelOf(again, 'pcie/0000-01-00-0/generation').limits, { max: 5 });
  t.match(channelOf(again, 'pcie/0000-01-00-0/width').limits, { max: 4 });
});

t.test('knows the spelling of older kernels, and reads no link whose maximum says nothing', async (t) => {
  const machine = fakeMachine(t);
  addDevice(machine, '0000:02:00.0', { code: NVME, link: ['8 GT/s', 4] });
  addDevice(machine, '0000:03:00.0', { code: NVME, link: ['Unknown', 0] });
  addDevice(machine, '0000:04:00.0', { code: NVME, link: ['', -1] });
  const found = await discover(machine, [pcie]);
  t.match(channelOf(found, 'pcie/0000-02-00-0/generation').limits, { max: 3 });
  t.notOk(ids(found).some((id) => /0000-0[34]-00-0\/(generation|width)/.test(id)));
});

t.test('wakes no device that may sleep', async (t) => {
  const machine = fakeMachine(t);
  addDevice(machine, '0000:02:00.0', { code: NVME, link: ['8.0 GT/s PCIe', 4], control: 'auto' });
  const found = await discover(machine, [pcie]);
  t.equal(found.channels.length, 3, 'its error counters are the kernel’s own');
  t.match(found.skipped, [{ what: 'link of 0000:02:00.0', why: /wake/ }]);
});

t.test('leaves out virtual functions and what is not of PCI’s shape', async (t) => {
  const machine = fakeMachine(t);
  const function1 = addDevice(machine, '0000:03:00.1', { code: ETHERNET });
  machine.link(`${function1}/physfn`, 'devices/pci0000:00');
  addDevice(machine, '0000:04:00.0', { code: 'garbage' });
  addDevice(machine, '0000:05:00.0', { code: '' });
  machine.link('bus/pci/devices/0000:06:00.0', 'devices/pci0000:00/nowhere');
  machine.set('bus/pci/devices/README', 'x');
  t.same((await discover(machine, [pcie])).channels, []);
});

t.test('says why where the kernel counts no errors, and nothing where there is no such device', async (t) => {
  const machine = fakeMachine(t);
  t.same((await discover(machine, [pcie])).skipped, []);
  addDevice(machine, '0000:02:00.0', { code: NVME, aer: false, link: ['8.0 GT/s PCIe', 4] });
  const found = await discover(machine, [pcie]);
  t.equal(found.channels.length, 2);
  t.match(found.skipped, [{ what: 'PCIe errors', why: /AER/ }]);
});

t.test('keeps GPUs where there are more devices than it takes', async (t) => {
  const machine = fakeMachine(t);
  const address = (i: number) => `0000:${i.toString(16).padStart(2, '0')}:00.0`;
  for (let i = 0; i < 170; i++) addDevice(machine, address(i), { code: ETHERNET });
  addDevice(machine, '0000:f0:00.0', { code: GPU });
  const found = await discover(machine, [pcie]);
  t.equal(new Set(found.channels.map(({ device }) => device)).size, 160);
  t.equal(found.channels[0]?.device, '0000-f0-00-0');
  t.match(found.skipped, [{ what: '11 PCI devices' }]);
});
