/**
 * What the units that the configuration lists under `workloads` use, as cgroup.ts reads it: systemd gives each unit a cgroup.
 *
 * Where it is follows from the unit's name, unless its Slice= says otherwise: then one of the slices at the top has it. A unit
 * that does not run has no cgroup, and its channels say no_data.
 * Source: systemd.resource-control(5), systemd.slice(5); systemd's cg_escape() and unit_name_escape().
 */
import type { Channel } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import { groupChannels } from './cgroup.js';

const SOURCE = 'workload';
const RATE_HZ = 1;
/** Of the configuration's; five channels each. */
const MAX_WORKLOADS = 64;
/** A machine has four or five slices at the top. */
const MAX_SLICES = 32;
/** Where the hierarchy that systemd itself manages is mounted: version 2, hybrid, version 1. */
const SYSTEMD_ROOTS = ['', 'unified', 'systemd'];

export const workloads: Source = {
  name: SOURCE,

  async discover(context: SourceContext): Promise<Channel[]> {
    const entries = Object.entries(context.workloads);
    for (const [name] of entries.slice(MAX_WORKLOADS))
      context.report.skipped(`workload ${name}`, `more than ${MAX_WORKLOADS}`);
    const groups = entries.slice(0, MAX_WORKLOADS).map(async ([name, unit]) => {
      const path = await pathOf(context.cgroup, unit);
      return groupChannels(context, { source: SOURCE, name, path, cpuRateHz: RATE_HZ });
    });
    return (await Promise.all(groups)).flat();
  },
};

/** Below the root of the hierarchy. */
async function pathOf(cgroup: Tree, unit: string): Promise<string> {
  const usual = unit.endsWith('.slice') ? slicePath(unit) : `${slicePath(sliceOf(unit))}/${unit}`;
  for (const root of SYSTEMD_ROOTS) {
    const below = root === '' ? '' : `${root}/`;
    if (await cgroup.exists(`${below}${usual}`)) return usual;
    const slices = await cgroup.list(root, /\.slice$/);
    for (const slice of slices.slice(0, MAX_SLICES)) {
      if (await cgroup.exists(`${below}${slice}/${unit}`)) return `${slice}/${unit}`;
    }
  }
  return usual;
}

/** Instances of a template share a slice: train@0.service is in system-train.slice, with "-" of the name written as \x2d. */
function sliceOf(unit: string): string {
  const template = /^([^@]+)@/.exec(unit)?.[1];
  if (template === undefined || !unit.endsWith('.service')) return 'system.slice';
  return `system-${template.replaceAll('-', '\\x2d')}.slice`;
}

/** a-b-c.slice is a.slice/a-b.slice/a-b-c.slice. */
function slicePath(slice: string): string {
  const parts = slice.slice(0, -'.slice'.length).split('-');
  return parts.map((_, i) => `${parts.slice(0, i + 1).join('-')}.slice`).join('/');
}
