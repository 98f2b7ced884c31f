/** A node of the largest kind: discovery must stay cheap, and no source may eat the channels of the others. */
import t from 'tap';
import { MAX_CHANNELS } from '../../src/sensors/discover.js';
import { SOURCES } from '../../src/sensors/sources.js';
import { discover } from '../fixtures/discovery.js';
import { processorMs } from '../fixtures/effort.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';

const CPUS = 512;
const DISKS = 16;
const PCI_FUNCTIONS = 300;
/** Of one look, which happens once a minute, on all processors together. */
const BUDGET_MS = 600;

function largeNode(machine: FakeMachine): void {
  for (let cpu = 0; cpu < CPUS; cpu++) addCpu(machine, cpu);
  for (let i = 0; i < DISKS; i++) addDisk(machine, i);
  for (let i = 0; i < PCI_FUNCTIONS; i++) {
    const address = `0000:${(0x40 + (i >> 3)).toString(16)}:00.${i & 7}`;
    machine.set(`devices/pci0000:40/${address}/class`, i % 5 === 0 ? '0x030200' : '0x088000');
    if (i % 5 === 0) machine.set(`devices/pci0000:40/${address}/aer_dev_correctable`, 'TOTAL_ERR_COR 0');
    machine.link(`bus/pci/devices/${address}`, `devices/pci0000:40/${address}`);
  }
  for (let i = 0; i < 32; i++) {
    machine.set(`devices/system/edac/mc/mc${i >> 4}/dimm${i & 15}/dimm_ce_count`, 0);
    machine.set(`devices/system/edac/mc/mc${i >> 4}/dimm${i & 15}/dimm_label`, `slot ${i}`);
  }
}

/** With what is read of it: the topology of a package's first CPU stands for all of them. */
function addCpu(machine: FakeMachine, cpu: number): void {
  const directory = `devices/system/cpu/cpu${cpu}`;
  machine.set(`${directory}/thermal_throttle/package_throttle_count`, 0);
  machine.set(`${directory}/topology/core_cpus_list`, `${cpu % 256},${(cpu % 256) + 256}`);
  if (cpu % 128 !== 0 || cpu >= 256) return;
  machine.set(`${directory}/topology/physical_package_id`, cpu / 128);
  machine.set(`${directory}/topology/package_cpus_list`, `${cpu}-${cpu + 127},${cpu + 256}-${cpu + 383}`);
}

function addDisk(machine: FakeMachine, i: number): void {
  const pci = `devices/pci0000:20/0000:${(0x20 + i).toString(16)}:00.0`;
  const controller = `${pci}/nvme/nvme${i}`;
  machine.set(`${pci}/class`, '0x010802');
  machine.set(`${pci}/aer_dev_correctable`, 'TOTAL_ERR_COR 0');
  for (const side of ['current', 'max']) {
    machine.set(`${pci}/${side}_link_speed`, '16.0 GT/s PCIe');
    machine.set(`${pci}/${side}_link_width`, 4);
  }
  machine.link(`bus/pci/devices/0000:${(0x20 + i).toString(16)}:00.0`, pci);
  machine.set(`${controller}/state`, 'live');
  machine.set(`${controller}/serial`, `SERIAL${i}`);
  machine.link(`class/nvme/nvme${i}`, controller);
  machine.set(`${controller}/nvme${i}n1/size`, 1000);
  machine.set(`${controller}/nvme${i}n1/wwid`, `eui.00${i}`);
  machine.set(`${controller}/nvme${i}n1/stat`, '0 0 0 0 0 0 0 0 0 0 0');
  machine.link(`${controller}/nvme${i}n1/device`, controller);
  machine.link(`block/nvme${i}n1`, `${controller}/nvme${i}n1`);
  machine.addHwmon({ name: 'nvme', files: { temp1_input: 40_000, temp1_label: 'Composite' }, device: controller });
}

t.test('is looked over within its budget, and leaves most channels for others', async (t) => {
  const machine = fakeMachine(t);
  largeNode(machine);
  await discover(machine, SOURCES); // The first look pays for the compiler.
  const { channels, timings } = await discover(machine, SOURCES);
  const tookMs = await processorMs(() => discover(machine, SOURCES));
  t.comment(`${Math.round(tookMs)} ms, ${channels.length} channels`);
  for (const { source, durationMs, channels: count } of timings)
    if (count > 0) t.comment(`${source}: ${count} channels, ${Math.round(durationMs)} ms`);
  t.ok(tookMs < BUDGET_MS, `${Math.round(tookMs)} ms`);
  t.ok(channels.length < MAX_CHANNELS / 4, `${channels.length} channels`);
  const throttle = channels.filter(({ source }) => source === 'thermal_throttle');
  t.equal(throttle.length, 2, 'two packages, not 512 CPUs');
});
