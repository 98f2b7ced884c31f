import { join } from 'node:path';
import t from 'tap';
import { moduleState, undrivenHardware } from '../../src/sensors/kernel-modules.js';
import { FileTree } from '../../src/sensors/tree.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';

const RELEASE = '6.8.0-45-generic';
const INTEL =
  'vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\nmodel name\t: Intel(R) Xeon(R) Gold 6338\nflags\t\t: fpu dtherm';
const AMD = 'vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9654\nflags\t\t: fpu';

function trees({ root, sysfs, proc }: FakeMachine) {
  return { sysfs: new FileTree(sysfs), proc: new FileTree(proc), root: new FileTree(root) };
}

/** `index`: files of /lib/modules/RELEASE. The root of the machine's directory stands for /. */
function withKernel(machine: FakeMachine, index: Readonly<Record<string, string>>, loaded = ''): void {
  machine.setProc('sys/kernel/osrelease', RELEASE);
  machine.setProc('modules', loaded);
  for (const [name, text] of Object.entries(index)) machine.setProc(join('../lib/modules', RELEASE, name), text);
}

t.test('a machine whose hardware is all driven has no findings', async (t) => {
  const machine = fakeMachine(t);
  machine.setProc('cpuinfo', INTEL);
  machine.addHwmon({ name: 'coretemp', files: {} });
  machine.addHwmon({ name: 'nvme', files: {} });
  machine.addHwmon({ name: 'drivetemp', files: {} });
  machine.set('class/nvme/nvme0/model', 'x');
  machine.set('class/scsi_disk/0:0:0:0/device/vendor', 'ATA');
  machine.set('devices/system/edac/mc/mc0/ce_count', 0);
  machine.set('bus/acpi/devices/IPI0001:00/hid', 'IPI0001');
  machine.set('class/ipmi/ipmi0/dev', '1:1');
  t.same(await undrivenHardware(trees(machine)), []);
});

t.test('each kind of hardware without its driver is named with its module', async (t) => {
  const machine = fakeMachine(t);
  machine.setProc('cpuinfo', INTEL);
  machine.set('class/nvme/nvme0/model', 'x');
  machine.set('class/scsi_disk/0:0:0:0/device/vendor', 'ATA');
  machine.set('class/scsi_disk/1:0:0:0/device/vendor', 'SEAGATE');
  machine.set('bus/acpi/devices/IPI0001:00/hid', 'IPI0001');
  const findings = await undrivenHardware(trees(machine));
  t.match(findings, [
    { check: 'sensors.cpu_driver', state: 'problem', next: /^modprobe coretemp;/ },
    { check: 'sensors.edac', state: 'note', next: /^modprobe i10nm_edac;/ },
    { check: 'sensors.drivetemp', state: 'note', what: /^1 SATA disk is there/, next: /^modprobe drivetemp;/ },
    { check: 'sensors.ipmi', state: 'note', next: /^modprobe ipmi_si;/ },
    { check: 'sensors.nvme', state: 'note', what: /CONFIG_NVME_HWMON/ },
  ]);
  t.equal(findings.length, 5);
});

t.test('AMD and Hygon CPUs have k10temp, others are not asked for a module they never had', async (t) => {
  for (const [cpuinfo, module] of [
    [AMD, 'k10temp'],
    [AMD.replace('AuthenticAMD', 'HygonGenuine'), 'k10temp'],
    [AMD.replace(': 25', ': 6').replace('EPYC', 'Athlon'), undefined],
    ['processor\t: 0\nCPU implementer\t: 0x41', undefined],
    ['vendor_id\t: GenuineIntel\nflags\t\t: fpu', undefined],
    ['', undefined],
  ] as const) {
    const machine = fakeMachine({ testdir: () => t.testdir({}) });
    machine.setProc('cpuinfo', cpuinfo);
    const cpu = (await undrivenHardware(trees(machine))).find(({ check }) => check === 'sensors.cpu_driver');
    t.equal(cpu?.next?.split(/[ ;]/)[1], module, cpuinfo);
  }
});

t.test('a guest is asked for no driver of the CPU of its host', async (t) => {
  const machine = fakeMachine(t);
  machine.setProc('cpuinfo', AMD.replace('fpu', 'fpu hypervisor'));
  t.same(await undrivenHardware(trees(machine)), []);
});

t.test('a module is loaded, built in, available, or not of this kernel', async (t) => {
  const machine = fakeMachine(t);
  const builtin = 'kernel/drivers/nvme/host/nvme-core.ko\nkernel/drivers/hwmon/k10temp.ko\n';
  const dep =
    'kernel/drivers/hwmon/coretemp.ko.zst:\nkernel/drivers/hwmon/drivetemp.ko: kernel/x.ko\nkernel/drivers/xcoretempx.ko.xz:\n';
  withKernel(machine, { 'modules.builtin': builtin, 'modules.dep': dep }, 'ipmi_si 86016 0 - Live 0x0\n');
  for (const [module, state] of [
    ['ipmi_si', 'loaded'],
    ['k10temp', 'built in'],
    ['coretemp', 'available'],
    ['drivetemp', 'available'],
    ['ipmi', 'not in this kernel'],
    ['amd64_edac', 'not in this kernel'],
  ] as const)
    t.equal(await moduleState(trees(machine), module), state, module);
});

t.test('without an index of modules nothing is claimed, and a release that climbs is not followed', async (t) => {
  const machine = fakeMachine(t);
  t.equal(await moduleState(trees(machine), 'coretemp'), 'unknown');
  machine.setProc('sys/kernel/osrelease', '../../etc');
  t.equal(await moduleState(trees(machine), 'coretemp'), 'unknown');
});

t.test('the next step fits what is the matter with the module', async (t) => {
  const machine = fakeMachine(t);
  machine.setProc('cpuinfo', AMD.replace('EPYC', 'Ryzen'));
  withKernel(machine, { 'modules.dep': 'kernel/fs/ext4/ext4.ko:\n' });
  t.match(await undrivenHardware(trees(machine)), [
    { what: new RegExp(`this kernel \\(${RELEASE}\\) has no module k10temp`), next: /linux-modules-extra/ },
  ]);
  machine.setProc('modules', 'k10temp 16384 0 - Live 0x0\n');
  t.match(await undrivenHardware(trees(machine)), [
    { what: /k10temp is loaded, but it shows nothing/, next: /^journalctl -k --grep k10temp/ },
  ]);
});
