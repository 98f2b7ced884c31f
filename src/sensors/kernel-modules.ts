/**
 * Hardware whose driver is not there: sensors that this machine has, and that nothing shows because a kernel module is not
 * loaded. Reads trees only.
 * Sources: proc(5) (modules); kernel(7) Documentation/hwmon/{coretemp,k10temp,drivetemp}.rst; depmod(8).
 */
import type { Tree } from '../core/ports.js';
import { isVirtualMachine } from './absence.js';
import type { Finding } from './finding.js';

/** modules.dep of a distribution's kernel has some 800 KiB. */
const MAX_INDEX_BYTES = 8 * 1024 * 1024;
/** /proc/cpuinfo of 512 CPUs has about 1 MiB; what is asked stands in its first block. */
const CPUINFO_BYTES = 16 * 1024;

export interface MachineTrees {
  readonly sysfs: Tree;
  readonly proc: Tree;
  /** The root file system: /lib/modules. */
  readonly root: Tree;
}

type ModuleState = 'loaded' | 'built in' | 'available' | 'not in this kernel' | 'unknown';

interface Missing {
  readonly check: string;
  readonly state: 'note' | 'problem';
  readonly module: string;
  /** "an Intel CPU is there". */
  readonly hardware: string;
  /** What is not seen without it. */
  readonly without: string;
}

/** Findings about what is there and not driven; [] when nothing is. A guest sees its host's CPU but none of its sensors. */
export async function undrivenHardware(trees: MachineTrees): Promise<Finding[]> {
  const isGuest = await isVirtualMachine(trees);
  const chips = await hwmonNames(trees.sysfs);
  const missing = [
    ...(isGuest ? [] : [await cpuSensor(trees, chips), await memoryController(trees)]),
    await sataDisks(trees, chips),
    await managementController(trees),
  ].filter((each) => each !== undefined);
  const findings = await Promise.all(missing.map((each) => finding(trees, each)));
  return [...findings, ...(await nvmeDisks(trees, chips))];
}

async function hwmonNames(sysfs: Tree): Promise<ReadonlySet<string>> {
  const directories = await sysfs.list('class/hwmon', /^hwmon\d+$/);
  const names = await Promise.all(directories.map((each) => sysfs.text(`class/hwmon/${each}/name`)));
  return new Set(names.filter((name) => name !== undefined));
}

// ---- What is there ---------------------------------------------------------------------------------------------------

async function cpuSensor({ proc }: MachineTrees, chips: ReadonlySet<string>): Promise<Missing | undefined> {
  const cpuinfo = (await proc.text('cpuinfo', { maxBytes: CPUINFO_BYTES })) ?? '';
  const common = { check: 'sensors.cpu_driver', state: 'problem', without: 'no temperature of it is read' } as const;
  // coretemp needs the digital thermal sensor, which the CPU states as a flag.
  if (/^vendor_id\s*:\s*GenuineIntel$/m.test(cpuinfo) && /^flags\s*:.*\bdtherm\b/m.test(cpuinfo)) {
    return chips.has('coretemp')
      ? undefined
      : { ...common, module: 'coretemp', hardware: 'an Intel CPU with a sensor is there' };
  }
  const family = Number(/^cpu family\s*:\s*(\d+)$/m.exec(cpuinfo)?.[1] ?? 0);
  if (/^vendor_id\s*:\s*(AuthenticAMD|HygonGenuine)$/m.test(cpuinfo) && family >= 0x10) {
    return chips.has('k10temp')
      ? undefined
      : { ...common, module: 'k10temp', hardware: 'an AMD CPU with a sensor is there' };
  }
  return undefined;
}

/** Only for CPUs that are sold for servers: others have mostly no ECC memory to count errors of. */
async function memoryController({ sysfs, proc }: MachineTrees): Promise<Missing | undefined> {
  const cpuinfo = (await proc.text('cpuinfo', { maxBytes: CPUINFO_BYTES })) ?? '';
  const [, model] = /^model name\s*:.*\b(Xeon|EPYC|Threadripper)\b/m.exec(cpuinfo) ?? [];
  if (model === undefined || (await sysfs.list('devices/system/edac/mc', /^mc\d+$/)).length > 0) return undefined;
  return {
    check: 'sensors.edac',
    state: 'note',
    module: model === 'Xeon' ? intelEdacModule(cpuinfo) : 'amd64_edac',
    hardware: `a server's CPU (${model}) is there`,
    without: 'errors of ECC memory are not counted (where it has some)',
  };
}

/** Ice Lake and later have i10nm_edac, Skylake and Cascade Lake (model 85) skx_edac. */
function intelEdacModule(cpuinfo: string): string {
  const model = Number(/^model\s*:\s*(\d+)$/m.exec(cpuinfo)?.[1] ?? 0);
  return model === 85 ? 'skx_edac' : 'i10nm_edac';
}

async function sataDisks({ sysfs }: MachineTrees, chips: ReadonlySet<string>): Promise<Missing | undefined> {
  if (chips.has('drivetemp')) return undefined;
  const disks = await sysfs.list('class/scsi_disk', /^\d+:/);
  const vendors = await Promise.all(disks.map((disk) => sysfs.text(`class/scsi_disk/${disk}/device/vendor`)));
  const count = vendors.filter((vendor) => vendor === 'ATA').length;
  if (count === 0) return undefined;
  return {
    check: 'sensors.drivetemp',
    state: 'note',
    module: 'drivetemp',
    hardware: `${count} SATA ${count === 1 ? 'disk is' : 'disks are'} there`,
    without: 'no temperature of them is read',
  };
}

/** The firmware names its BMC to ACPI (IPI0001) or in SMBIOS (type 38). */
async function managementController({ sysfs }: MachineTrees): Promise<Missing | undefined> {
  const named =
    (await sysfs.list('bus/acpi/devices', /^IPI0001:/)).length > 0 || (await sysfs.exists('firmware/dmi/entries/38-0'));
  if (!named || (await sysfs.list('class/ipmi', /^ipmi\d+$/)).length > 0) return undefined;
  return {
    check: 'sensors.ipmi',
    state: 'note',
    module: 'ipmi_si',
    hardware: 'a board management controller (BMC) is there',
    without: 'power meters and chips behind it do not appear',
  };
}

/** The sensor is a part of the nvme driver: there is no module to load. */
async function nvmeDisks({ sysfs }: MachineTrees, chips: ReadonlySet<string>): Promise<Finding[]> {
  const disks = await sysfs.list('class/nvme', /^nvme\d+$/);
  if (disks.length === 0 || chips.has('nvme')) return [];
  return [
    {
      check: 'sensors.nvme',
      state: 'note',
      what: `${disks.join(', ')}: no temperature is read: this kernel is built without CONFIG_NVME_HWMON, or the disk states none`,
    },
  ];
}

// ---- Whether its module is -------------------------------------------------------------------------------------------

async function finding(trees: MachineTrees, missing: Missing): Promise<Finding> {
  const { check, state, module, hardware, without } = missing;
  const is = await moduleState(trees, module);
  const release = (await trees.proc.text('sys/kernel/osrelease')) ?? '';
  switch (is) {
    case 'loaded':
    case 'built in':
      return {
        check,
        state,
        what: `${hardware} and ${module} is ${is}, but it shows nothing: ${without}`,
        next: `journalctl -k --grep ${module} (the firmware may hide it)`,
      };
    case 'not in this kernel':
      return {
        check,
        state,
        what: `${hardware}, but this kernel (${release}) has no module ${module}: ${without}`,
        next: `install the package of its further modules (Ubuntu: linux-modules-extra-${release})`,
      };
    case 'available':
    case 'unknown':
      return {
        check,
        state,
        what: `${hardware}, but ${module} is not loaded: ${without}`,
        next: `modprobe ${module}; for every boot: echo ${module} > /etc/modules-load.d/${module}.conf`,
      };
  }
}

export async function moduleState({ proc, root }: Omit<MachineTrees, 'sysfs'>, module: string): Promise<ModuleState> {
  const loaded = (await proc.text('modules', { maxBytes: MAX_INDEX_BYTES })) ?? '';
  if (loaded.split('\n').some((line) => line.startsWith(`${module} `))) return 'loaded';
  const release = await proc.text('sys/kernel/osrelease');
  if (release === undefined || release === '' || release.includes('/')) return 'unknown';
  const file = `/${module}.ko`;
  const read = (index: string) => root.text(`lib/modules/${release}/${index}`, { maxBytes: MAX_INDEX_BYTES });
  const builtin = await read('modules.builtin');
  if (builtin?.split('\n').some((line) => line.endsWith(file))) return 'built in';
  const available = await read('modules.dep');
  if (available === undefined) return 'unknown';
  // "kernel/drivers/hwmon/coretemp.ko.zst: …"
  const names = available.split('\n').map((line) => line.split(':')[0] ?? '');
  return names.some((name) => name.replace(/\.(gz|xz|zst)$/, '').endsWith(file)) ? 'available' : 'not in this kernel';
}
