import t from 'tap';
import { pciGpus } from '../../src/sensors/pci-gpus.js';
import { FileTree } from '../../src/sensors/tree.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';

t.test('lists the GPUs of three vendors with the driver that is bound', async (t) => {
  const machine = fakeMachine(t);
  const device = (address: string, vendor: string, deviceClass: string, driver?: string): void => {
    machine.set(`bus/pci/devices/${address}/vendor`, vendor);
    machine.set(`bus/pci/devices/${address}/class`, deviceClass);
    if (driver === undefined) return;
    machine.set(`bus/pci/drivers/${driver}/module`, '');
    machine.link(`bus/pci/devices/${address}/driver`, `bus/pci/drivers/${driver}`);
  };
  device('0000:00:02.0', '0x8086', '0x030000', 'i915');
  device('0000:3b:00.0', '0x10de', '0x030200', 'nvidia');
  device('0000:3b:00.1', '0x10de', '0x040300', 'snd_hda_intel');
  device('0000:83:00.0', '0x1002', '0x120000', 'amdgpu');
  device('0000:84:00.0', '0x1002', '0x030000');
  device('0000:85:00.0', '0x8086', '0x120000', 'qat');
  device('0000:86:00.0', '0x1a03', '0x030000', 'ast');
  device('10000:e1:00.0', '0x10de', '0x030200', 'vfio-pci');
  t.same(await pciGpus(new FileTree(machine.sysfs)), [
    { address: '0000:00:02.0', vendor: 'intel', driver: 'i915' },
    { address: '0000:3b:00.0', vendor: 'nvidia', driver: 'nvidia' },
    { address: '0000:83:00.0', vendor: 'amd', driver: 'amdgpu' },
    { address: '0000:84:00.0', vendor: 'amd', driver: '' },
    { address: '10000:e1:00.0', vendor: 'nvidia', driver: 'vfio-pci' },
  ]);
});

t.test('a machine without PCI has none, and half a device is none', async (t) => {
  const machine = fakeMachine(t);
  t.same(await pciGpus(new FileTree(machine.sysfs)), []);
  machine.set('bus/pci/devices/0000:3b:00.0/vendor', '0x10de');
  machine.set('bus/pci/devices/not-an-address/vendor', '0x10de');
  t.same(await pciGpus(new FileTree(machine.sysfs)), []);
});
