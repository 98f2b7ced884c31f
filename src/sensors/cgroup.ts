/**
 * CPU usage of the cgroups that the configuration lists under `targets`: what an action on them is judged by.
 *
 * Version 2 counts microseconds in cpu.stat, version 1 nanoseconds in cpuacct.usage. A cgroup that does not exist yet is
 * a channel too: its workload may start later, and until then the channel says no_data.
 * Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/cpuacct.rst.
 */
import type { Channel, Probe } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'cgroup';
/** Rules fire on it. */
const RATE_HZ = 10;
/** A microsecond of CPU per second is a millionth of one CPU. */
const NANOSECONDS_PER_MICROSECOND = 1000;

/** Where version 1 may have mounted the controller, alone or together with cpu. */
const V1_HIERARCHIES = ['cpu,cpuacct', 'cpuacct', 'cpu'];
/** The root of version 2: by itself, or beside version 1. */
const V2_ROOTS = ['', 'unified'];

export const cgroups: Source = {
  name: SOURCE,

  async discover(context: SourceContext): Promise<Channel[]> {
    const channels: Channel[] = [];
    for (const [name, target] of Object.entries(context.targets)) {
      const path = target.replace(/^\/+|\/+$/g, '');
      const usage = await usageOf(context.cgroup, path);
      if (usage === undefined) {
        context.report.skipped(`cgroup ${target}`, `no CPU accounting in ${context.cgroup.root}`);
        continue;
      }
      channels.push(
        makeChannel({
          source: SOURCE,
          device: name,
          name: 'cpu_usage',
          label: `${name} CPU usage`,
          quantity: 'ratioPartsPerMillion',
          class: 'cpu',
          probe: usage.probe,
          rateHz: RATE_HZ,
          domain: SOURCE,
          path: usage.path,
        }),
      );
    }
    return channels;
  },
};

interface Usage {
  readonly path: string;
  readonly probe: Probe;
}

/** The file that exists; else the one that this layout of hierarchies would have. */
async function usageOf(cgroup: Tree, path: string): Promise<Usage | undefined> {
  const v1 = V1_HIERARCHIES.map((hierarchy) => v1Usage(cgroup, joined(hierarchy, path)));
  const v2 = V2_ROOTS.map((root) => v2Usage(cgroup, joined(root, path)));
  for (const usage of [...v1, ...v2]) {
    if (await cgroup.exists(usage.path)) return usage;
  }
  if (await cgroup.exists('cgroup.controllers')) return v2[0];
  for (const [i, hierarchy] of V1_HIERARCHIES.entries()) {
    if (await cgroup.exists(`${hierarchy}/cpuacct.usage`)) return v1[i];
  }
  return (await cgroup.exists('unified/cgroup.controllers')) ? v2[1] : undefined;
}

function v1Usage(cgroup: Tree, directory: string): Usage {
  const path = `${directory}/cpuacct.usage`;
  return {
    path,
    probe: {
      kind: 'integer',
      path: cgroup.absolute(path),
      multiplier: 1 / NANOSECONDS_PER_MICROSECOND,
      perSecond: true,
    },
  };
}

function v2Usage(cgroup: Tree, directory: string): Usage {
  const path = `${directory}/cpu.stat`;
  return {
    path,
    probe: { kind: 'field', path: cgroup.absolute(path), key: 'usage_usec', column: 1, perSecond: true },
  };
}

function joined(root: string, path: string): string {
  return [root, path].filter((part) => part !== '').join('/');
}
