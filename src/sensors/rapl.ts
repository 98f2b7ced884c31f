/**
 * Power of CPU packages, of their cores and their memory: the zones of the kernel's power capping framework (RAPL of Intel and
 * AMD).
 *
 * Discovery only, by the zones' names. Their energy counters are root's to read, since a fine-grained one tells what the CPU
 * computes (CVE-2020-8694, "PLATYPUS"): skos-actuator reads them and says averages over at least a second, which rapl-feed.ts
 * turns into readings. The agent opens none, also where it could.
 * Source: Documentation/power/powercap/powercap.rst.
 */
import { powerId } from '../config/compile.js';
import type { Channel } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'rapl';
/** What the channels' probes name as their feed. */
export const RAPL_FEED = 'rapl';
const POWERCAP = 'class/powercap';
/** As often as the actuator has a new average. */
const RATE_HZ = 1;
/** Eight sockets of four dies have package, core and memory zones. The bound of the allow-list, too. */
const MAX_ZONES = 64;

/** One zone with an energy counter. */
export interface EnergyZone {
  /** The kernel's name, "intel-rapl:0:0": counted, so it is no part of a channel's id. */
  readonly zone: string;
  /** Directory, relative to sysfs. */
  readonly path: string;
  /** "package-0", or with its package in front of it "package-0-dram". */
  readonly name: string;
  /** Where the counter starts again from 0. */
  readonly maxMicroJoules: number;
}

export const rapl: Source = {
  name: SOURCE,

  async discover({ sysfs, hasActuator, report }: SourceContext): Promise<Channel[]> {
    const zones = await energyZones(sysfs);
    if (zones.length > 0 && !hasActuator) {
      report.skipped('RAPL', 'read by skos-actuator alone, for the agent; without both there is no reading');
      return [];
    }
    if (zones.length > MAX_ZONES) report.skipped(`${zones.length - MAX_ZONES} RAPL zones`, `more than ${MAX_ZONES}`);
    return zones.slice(0, MAX_ZONES).map((zone) => zoneChannel(zone));
  },
};

/** intel-rapl-mmio is a second view of the same counters; psys, the whole platform, is a zone like the others. */
export async function energyZones(sysfs: Tree): Promise<EnergyZone[]> {
  const zones: EnergyZone[] = [];
  for (const zone of await sysfs.list(POWERCAP, /^intel-rapl(:\d+){1,2}$/)) {
    const path = `${POWERCAP}/${zone}`;
    const [own, above, maxMicroJoules] = await Promise.all([
      sysfs.text(`${path}/name`),
      zone.split(':').length === 3 ? sysfs.text(`${POWERCAP}/${zone.slice(0, zone.lastIndexOf(':'))}/name`) : '',
      sysfs.integer(`${path}/max_energy_range_uj`),
    ]);
    const isCounting = maxMicroJoules !== undefined && maxMicroJoules > 0 && (await sysfs.exists(`${path}/energy_uj`));
    if (!own || !isCounting) continue;
    zones.push({ zone, path, name: above ? `${above}-${own}` : own, maxMicroJoules });
  }
  return zones;
}

function zoneChannel({ path, name }: EnergyZone): Channel {
  return makeChannel({
    source: SOURCE,
    device: name,
    name: 'power',
    label: `${name} power`,
    quantity: 'powerMilliWatts',
    class: name.endsWith('dram') ? 'memory' : 'cpu',
    probe: { kind: 'pushed', feed: RAPL_FEED },
    rateHz: RATE_HZ,
    domain: SOURCE,
    path: `${path}/energy_uj`,
  });
}

/** What the allow-list, and so the actuator, calls the zone that a channel is of. */
export function powerIdOf({ path }: Pick<Channel, 'path'>): string {
  return powerId(path.split('/').at(-2) ?? '');
}
