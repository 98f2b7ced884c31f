/** All sources of this machine's own kernel, in the order in which their channels are listed. */
import type { Source } from '../core/ports.js';
import { blockDevices } from './block.js';
import { cgroups } from './cgroup.js';
import { coolingDevices } from './cooling-device.js';
import { cpus } from './cpu.js';
import { fileSystems } from './file-system.js';
import { hwmon } from './hwmon.js';
import { memory } from './memory.js';
import { networkInterfaces } from './network.js';
import { pressure } from './pressure.js';
import { thermalZones } from './thermal-zone.js';

export const SOURCES: readonly Source[] = [
  thermalZones,
  hwmon,
  coolingDevices,
  cpus,
  pressure,
  memory,
  fileSystems,
  blockDevices,
  networkInterfaces,
  cgroups,
];
