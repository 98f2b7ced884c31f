/** All sources of this machine's own kernel, in the order in which their channels are listed. */
import type { Source } from '../core/ports.js';
import { blockDevices } from './block.js';
import { cgroups } from './cgroup.js';
import { coolingDevices } from './cooling-device.js';
import { cpus } from './cpu.js';
import { edac } from './edac.js';
import { fileSystems } from './file-system.js';
import { hwmon } from './hwmon.js';
import { infiniband } from './infiniband.js';
import { mdArrays } from './md.js';
import { memory } from './memory.js';
import { networkInterfaces } from './network.js';
import { nvmeControllers } from './nvme.js';
import { pcie } from './pcie.js';
import { powerSupplies } from './power-supply.js';
import { pressure } from './pressure.js';
import { rapl } from './rapl.js';
import { scsiDisks } from './scsi.js';
import { thermalThrottle } from './thermal-throttle.js';
import { thermalZones } from './thermal-zone.js';
import { workloads } from './workload.js';

export const SOURCES: readonly Source[] = [
  thermalZones,
  hwmon,
  coolingDevices,
  powerSupplies,
  cpus,
  thermalThrottle,
  rapl,
  pressure,
  memory,
  edac,
  fileSystems,
  blockDevices,
  nvmeControllers,
  scsiDisks,
  mdArrays,
  networkInterfaces,
  infiniband,
  pcie,
  cgroups,
  workloads,
];
