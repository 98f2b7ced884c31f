/**
 * What of this machine can be limited at all: cpufreq policies, intel_pstate, RAPL packages, GPUs, cgroup controllers.
 *
 * Discovery only; the answer goes into the allow-list, which root makes. Sources: Documentation/admin-guide/pm/cpufreq.rst
 * and intel_pstate.rst, Documentation/power/powercap/powercap.rst, Documentation/admin-guide/cgroup-v2.rst.
 */
import type { ActuatableFacts, CgroupController } from '../config/compile.js';
import type { Tree } from '../core/ports.js';
import { type PciGpu, pciGpus } from '../sensors/pci-gpus.js';
import { energyZones } from '../sensors/rapl.js';

const CPUFREQ = 'devices/system/cpu/cpufreq';
const INTEL_PSTATE = 'devices/system/cpu/intel_pstate';
const POWERCAP = 'class/powercap';

export interface ActuatableTrees {
  readonly sysfs: Tree;
  readonly cgroup: Tree;
}

export async function actuatorFacts({ sysfs, cgroup }: ActuatableTrees): Promise<ActuatableFacts> {
  const cpufreqPolicies = await policies(sysfs);
  return {
    cpufreqPolicies,
    // In active mode the policies are there too and reach single CPUs, which the global percentage does not.
    pstate: cpufreqPolicies.length === 0 && (await sysfs.exists(`${INTEL_PSTATE}/max_perf_pct`)),
    raplZones: await raplZones(sysfs),
    gpus: (await pciGpus(sysfs)).flatMap(settable),
    energyZones: await energyZones(sysfs),
    cgroup: { cpu: await cpuController(cgroup), freezer: await freezerController(cgroup) },
  };
}

/** By vendor where no driver is bound yet: the list is made at boot, perhaps before the driver comes. */
function settable({ address, vendor, driver }: PciGpu): ActuatableFacts['gpus'][number][] {
  if (vendor === 'nvidia' && (driver === '' || driver === 'nvidia')) return [{ address, kind: 'nvml_power' }];
  if (vendor === 'amd' && (driver === '' || driver === 'amdgpu')) return [{ address, kind: 'amdgpu_power' }];
  return [];
}

async function policies(sysfs: Tree): Promise<string[]> {
  const found: string[] = [];
  for (const name of await sysfs.list(CPUFREQ, /^policy\d+$/)) {
    if (await sysfs.exists(`${CPUFREQ}/${name}/scaling_max_freq`)) found.push(`${CPUFREQ}/${name}`);
  }
  return found;
}

/**
 * Packages only: their children are parts of them, psys is the whole platform, and intel-rapl-mmio is a second view of
 * the same limit. AMD shows zones that count energy and have no limit.
 */
async function raplZones(sysfs: Tree): Promise<string[]> {
  const zones: string[] = [];
  for (const name of await sysfs.list(POWERCAP, /^intel-rapl:\d+$/)) {
    const zone = `${POWERCAP}/${name}`;
    const label = await sysfs.text(`${zone}/name`);
    if (label?.startsWith('package') !== true) continue;
    if (await sysfs.exists(`${zone}/constraint_0_power_limit_uw`)) zones.push(zone);
  }
  return zones;
}

async function cpuController(cgroup: Tree): Promise<CgroupController | null> {
  const controllers = await cgroup.text('cgroup.controllers');
  if (controllers?.split(/\s+/).includes('cpu') === true) return { version: 2, directory: '' };
  for (const directory of ['cpu', 'cpu,cpuacct']) {
    // cpu.shares stands in every cpu hierarchy, also in its root, where cfs_quota_us is missing.
    if (await cgroup.exists(`${directory}/cpu.shares`)) return { version: 1, directory };
  }
  return null;
}

/** Version 2 has no freezer controller: every group below a v2 root can be frozen. */
async function freezerController(cgroup: Tree): Promise<CgroupController | null> {
  if (await cgroup.exists('cgroup.controllers')) return { version: 2, directory: '' };
  if (await cgroup.exists('freezer/cgroup.procs')) return { version: 1, directory: 'freezer' };
  if (await cgroup.exists('unified/cgroup.controllers')) return { version: 2, directory: 'unified' };
  return null;
}
