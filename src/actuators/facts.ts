/**
 * What of this machine can be limited at all: cpufreq policies, intel_pstate, RAPL packages, GPUs, fans, cgroup controllers.
 *
 * Discovery only; the answer goes into the allow-list, which root makes. Sources: Documentation/admin-guide/pm/cpufreq.rst
 * and intel_pstate.rst, Documentation/power/powercap/powercap.rst, Documentation/admin-guide/cgroup-v2.rst.
 */
import type { ActuatableFacts, CgroupController } from '../config/allow-input.js';
import type { Tree } from '../core/ports.js';
import { stableDeviceName } from '../sensors/device-path.js';
import { type PciGpu, pciGpus } from '../sensors/pci-gpus.js';
import { energyZones } from '../sensors/rapl.js';

const CPUFREQ = 'devices/system/cpu/cpufreq';
const INTEL_PSTATE = 'devices/system/cpu/intel_pstate';
const POWERCAP = 'class/powercap';
const GPU_CHIPS = new Set(['amdgpu', 'radeon', 'nouveau', 'nvidia', 'i915', 'xe']);

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
    fans: await fans(sysfs),
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

/**
 * Fans that a chip of the board controls and whose mode can be read, or it could not be given back. Chips of GPUs are left to
 * their drivers, which may hang. Source: Documentation/hwmon/sysfs-interface.rst.
 */
async function fans(sysfs: Tree): Promise<ActuatableFacts['fans'][number][]> {
  const found: ActuatableFacts['fans'][number][] = [];
  for (const chip of await sysfs.list('class/hwmon', /^hwmon\d+$/)) {
    const base = await sysfs.resolve(`class/hwmon/${chip}`);
    const name = base === undefined ? undefined : await sysfs.text(`${base}/name`);
    if (base === undefined || name === undefined || GPU_CHIPS.has(name)) continue;
    const device = await sysfs.resolve(`${base}/device`);
    const place = device === undefined ? chip : await stableDeviceName(sysfs, device);
    const siblings = await sysfs.list(base.slice(0, base.lastIndexOf('/')), /^hwmon\d+$/);
    for (const pwm of await sysfs.list(base, /^pwm\d{1,2}$/)) {
      if ((await sysfs.integer(`${base}/${pwm}_enable`)) === undefined) continue;
      found.push({
        name: `${fanSegment(`${name}-${place}`)}/${pwm}`,
        path: `${siblings.length === 1 ? withoutNumber(base) : base}/${pwm}`,
      });
    }
  }
  return found;
}

/** With "fan/" before it and the pwm behind, it must fit the 64 characters of an id. */
const FAN_SEGMENT_LENGTH = 48;

function fanSegment(text: string): string {
  return text
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]/g, '-')
    .slice(0, FAN_SEGMENT_LENGTH);
}

/** The number in hwmonN changes when its driver is loaded again; the actuator looks up what stands for the only chip of a device. */
function withoutNumber(base: string): string {
  return base.replace(/^(devices\/.*\/hwmon)\/hwmon\d+$/, '$1/*');
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
