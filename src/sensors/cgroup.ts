/**
 * What the cgroups that the configuration lists under `targets` use: CPU, which actions on them are judged by, memory,
 * processes, and how long they wait for disks. The same channels serve `workloads` (workload.ts).
 *
 * Version 2 counts CPU in microseconds in cpu.stat, version 1 in nanoseconds in cpuacct.usage. A cgroup that does not exist yet
 * is a channel too: its workload may start later, and until then the channel says no_data.
 * Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/cpuacct.rst, memory.rst, pids.rst.
 */
import type { Channel, DeviceClass, FileProbe } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import { PPM_PER_PERCENT, type Quantity } from '../core/units.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'cgroup';
/** Rules fire on the CPU usage of targets. */
const CPU_RATE_HZ = 10;
const RATE_HZ = 1;
/** A microsecond of CPU per second is a millionth of one CPU. */
const NANOSECONDS_PER_MICROSECOND = 1000;
const AVG10_COLUMN = 1;

/** The root of version 2: by itself, or beside version 1. */
const V2_ROOTS = ['', 'unified'];

type Probe = DistributiveOmit<FileProbe, 'path'>;
type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

interface Usage {
  readonly name: string;
  readonly label: string;
  readonly quantity: Quantity;
  readonly class: DeviceClass;
  readonly v2: {
    readonly file: string;
    readonly probe: Probe;
    /** Whose absence from cgroup.controllers means that the file will never be there; '' is every group's. */
    readonly controller: string;
  };
  readonly v1?: {
    readonly file: string;
    readonly probe: Probe;
    /** Where version 1 may have mounted the controller, alone or together with others. */
    readonly hierarchies: readonly string[];
  };
}

const USAGES: readonly Usage[] = [
  {
    name: 'cpu_usage',
    label: 'CPU usage',
    quantity: 'ratioPartsPerMillion',
    class: 'cpu',
    v2: { file: 'cpu.stat', probe: { kind: 'field', key: 'usage_usec', column: 1, perSecond: true }, controller: '' },
    v1: {
      file: 'cpuacct.usage',
      probe: { kind: 'integer', multiplier: 1 / NANOSECONDS_PER_MICROSECOND, perSecond: true },
      hierarchies: ['cpu,cpuacct', 'cpuacct', 'cpu'],
    },
  },
  {
    name: 'memory',
    label: 'memory',
    quantity: 'sizeBytes',
    class: 'memory',
    v2: { file: 'memory.current', probe: { kind: 'integer' }, controller: 'memory' },
    v1: { file: 'memory.usage_in_bytes', probe: { kind: 'integer' }, hierarchies: ['memory'] },
  },
  {
    name: 'oom_kills',
    label: 'processes killed for want of memory',
    quantity: 'countTotal',
    class: 'memory',
    v2: { file: 'memory.events', probe: { kind: 'field', key: 'oom_kill', column: 1 }, controller: 'memory' },
  },
  {
    name: 'processes',
    label: 'processes and threads',
    quantity: 'stateCode',
    class: 'other',
    v2: { file: 'pids.current', probe: { kind: 'integer' }, controller: 'pids' },
    v1: { file: 'pids.current', probe: { kind: 'integer' }, hierarchies: ['pids'] },
  },
  {
    name: 'io_pressure',
    label: 'waiting for disks',
    quantity: 'ratioPartsPerMillion',
    class: 'disk',
    v2: {
      file: 'io.pressure',
      probe: { kind: 'field', key: 'some', column: AVG10_COLUMN, multiplier: PPM_PER_PERCENT },
      controller: 'io',
    },
  },
];

export const cgroups: Source = {
  name: SOURCE,

  async discover(context: SourceContext): Promise<Channel[]> {
    const groups = Object.entries(context.targets).map(([name, target]) =>
      groupChannels(context, { source: SOURCE, name, path: target.replace(/^\/+|\/+$/g, ''), cpuRateHz: CPU_RATE_HZ }),
    );
    return (await Promise.all(groups)).flat();
  },
};

export interface Group {
  readonly source: string;
  readonly name: string;
  /** Below the cgroup root, or below each hierarchy's. */
  readonly path: string;
  readonly cpuRateHz: number;
}

/** Without CPU accounting nothing is accounted: that is said. What else is missing, its controller is not there for. */
export async function groupChannels({ cgroup, report }: SourceContext, group: Group): Promise<Channel[]> {
  const channels: Channel[] = [];
  for (const usage of USAGES) {
    const found = await placeOf(cgroup, group.path, usage);
    if (found === undefined) {
      if (usage.name === 'cpu_usage') report.skipped(`cgroup ${group.path}`, `no CPU accounting in ${cgroup.root}`);
      continue;
    }
    channels.push(
      makeChannel({
        source: group.source,
        device: group.name,
        name: usage.name,
        label: `${group.name} ${usage.label}`,
        quantity: usage.quantity,
        class: usage.class,
        probe: { ...found.probe, path: cgroup.absolute(found.path) },
        rateHz: usage.name === 'cpu_usage' ? group.cpuRateHz : RATE_HZ,
        domain: SOURCE,
        path: found.path,
      }),
    );
  }
  return channels;
}

interface Place {
  readonly path: string;
  readonly probe: Probe;
}

/** The file that exists; else, for a group that does not, the one that this layout of hierarchies would have. */
async function placeOf(cgroup: Tree, path: string, { v1, v2 }: Usage): Promise<Place | undefined> {
  const inV1 = (v1?.hierarchies ?? []).map((hierarchy) => ({
    root: hierarchy,
    file: v1?.file ?? '',
    probe: v1?.probe,
  }));
  const inV2 = V2_ROOTS.map((root) => ({ root, file: v2.file, probe: v2.probe }));
  for (const { root, file, probe } of [...inV1, ...inV2]) {
    const place = joined(root, path, file);
    if (probe !== undefined && (await cgroup.exists(place))) return { path: place, probe };
  }
  if (await offers(cgroup, { root: '', path, controller: v2.controller }))
    return { path: joined(path, v2.file), probe: v2.probe };
  for (const { root, file, probe } of inV1) {
    const isThere = (await cgroup.exists(joined(root, file))) && !(await cgroup.exists(joined(root, path)));
    if (probe !== undefined && isThere) return { path: joined(root, path, file), probe };
  }
  if (await offers(cgroup, { root: 'unified', path, controller: v2.controller }))
    return { path: joined('unified', path, v2.file), probe: v2.probe };
  return undefined;
}

/** Whether a group that is not there yet would have the controller's files. One that is there and lacks them has them not. */
async function offers(
  cgroup: Tree,
  { root, path, controller }: { root: string; path: string; controller: string },
): Promise<boolean> {
  const controllers = await cgroup.text(joined(root, 'cgroup.controllers'));
  if (controllers === undefined || (await cgroup.exists(joined(root, path, 'cgroup.procs')))) return false;
  return controller === '' || controllers.split(/\s+/).includes(controller);
}

function joined(...parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join('/');
}
