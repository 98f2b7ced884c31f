/**
 * How often and for how long Intel CPUs were throttled by heat, per package and per core.
 *
 * A package's counters stand below each of its CPUs, and a core's below each of its threads: each is read once. Which CPUs
 * belong together is read once per package and once per core, never once per CPU. A machine of many cores would spend
 * its channels on numbers that move together, so that beyond 64 cores only the packages are read: their counters rise with
 * heat anywhere on the die.
 * Source: drivers/thermal/intel/therm_throt.c.
 */
import type { Channel } from '../core/channel.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import type { Quantity } from '../core/units.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'thermal_throttle';
const CPUS = 'devices/system/cpu';
const RATE_HZ = 0.1;
/** Two channels each. Beyond them packages only. */
const MAX_CORES = 64;
/** CPUs that are asked for counters before there are none: as many first ones may be offline. */
const MAX_ASKED = 16;
/** What the kernel can be built for on x86; a list of more is none. */
const MAX_CPUS = 8192;
/** The largest x86 machines have 32 sockets of several dies. */
const MAX_PACKAGES = 64;

const COUNTERS = [
  { suffix: 'throttle_count', label: 'times throttled', quantity: 'countTotal' },
  { suffix: 'throttle_total_time_ms', label: 'time throttled', quantity: 'durationMs' }, // Not on older kernels.
] as const satisfies readonly { quantity: Quantity; [other: string]: unknown }[];

/** What is counted for some CPUs together; read below the first of them. */
interface Group {
  readonly kind: 'package' | 'core';
  /** The channels' device. */
  readonly device: string;
  readonly label: string;
  readonly cpu: number;
}

export const thermalThrottle: Source = {
  name: SOURCE,

  async discover({ sysfs, report }: SourceContext): Promise<Channel[]> {
    const cpus = (await sysfs.list(CPUS, /^cpu\d+$/)).map((name) => Number(name.slice('cpu'.length)));
    const first = await firstCounting(sysfs, cpus.slice(0, MAX_ASKED));
    if (first === undefined) return []; // Not Intel, or a virtual machine.
    const packages = await groups(sysfs, { cpus, lists: PACKAGE_LISTS, max: MAX_PACKAGES, groupOf: packageGroup });
    const threads = (await siblings(sysfs, first, CORE_LISTS)).length;
    if (cpus.length / Math.max(1, threads) > MAX_CORES) {
      report.skipped('throttling of single cores', `more than ${MAX_CORES}: the packages are read`);
      return packages;
    }
    return [...packages, ...(await groups(sysfs, { cpus, lists: CORE_LISTS, max: MAX_CORES, groupOf: coreGroup }))];
  },
};

/** The counters go with a CPU that is taken offline. */
async function firstCounting(sysfs: Tree, cpus: readonly number[]): Promise<number | undefined> {
  for (const cpu of cpus) if (await sysfs.exists(`${CPUS}/cpu${cpu}/thermal_throttle`)) return cpu;
  return undefined;
}

/** The names since Linux 5.3, and those before. */
const PACKAGE_LISTS = ['package_cpus_list', 'core_siblings_list'];
const CORE_LISTS = ['core_cpus_list', 'thread_siblings_list'];

interface Grouping {
  readonly cpus: readonly number[];
  readonly lists: readonly string[];
  readonly max: number;
  readonly groupOf: (sysfs: Tree, cpu: number) => Promise<Group>;
}

/** The channels of each group, read below its first CPU that counts. What a list names needs no read of its own. */
async function groups(sysfs: Tree, { cpus, lists, max, groupOf }: Grouping): Promise<Channel[]> {
  const seen = new Set<number>();
  const channels: Channel[] = [];
  let count = 0;
  for (const cpu of cpus) {
    if (seen.has(cpu)) continue;
    const together = await siblings(sysfs, cpu, lists);
    for (const sibling of together) seen.add(sibling);
    const counting = await firstCounting(sysfs, [cpu, ...together].slice(0, MAX_ASKED));
    if (counting === undefined || count++ >= max) continue;
    channels.push(...(await groupChannels(sysfs, await groupOf(sysfs, counting))));
  }
  return channels;
}

async function packageGroup(sysfs: Tree, cpu: number): Promise<Group> {
  const number = (await sysfs.integer(`${CPUS}/cpu${cpu}/topology/physical_package_id`)) ?? cpu;
  return { kind: 'package', device: `package-${number}`, label: `package ${number}`, cpu };
}

/** A core is named by the first of its CPUs, as `top` and `turbostat` show it. */
async function coreGroup(_: Tree, cpu: number): Promise<Group> {
  return { kind: 'core', device: `core-cpu${cpu}`, label: `core of cpu${cpu}`, cpu };
}

async function siblings(sysfs: Tree, cpu: number, files: readonly string[]): Promise<number[]> {
  for (const file of files) {
    const text = await sysfs.text(`${CPUS}/cpu${cpu}/topology/${file}`);
    if (text !== undefined) return cpuList(text);
  }
  return [cpu];
}

/** "0-3,64-67". What is no such list says nothing. */
function cpuList(text: string): number[] {
  const cpus: number[] = [];
  for (const range of text.split(',')) {
    const [, from, to = from] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(range) ?? [];
    for (let cpu = Number(from); cpu <= Number(to) && cpus.length < MAX_CPUS; cpu++) cpus.push(cpu);
  }
  return cpus;
}

async function groupChannels(sysfs: Tree, { kind, device, label, cpu }: Group): Promise<Channel[]> {
  const channels: Channel[] = [];
  for (const counter of COUNTERS) {
    const path = `${CPUS}/cpu${cpu}/thermal_throttle/${kind}_${counter.suffix}`;
    if (!(await sysfs.exists(path))) continue;
    channels.push(
      makeChannel({
        source: SOURCE,
        device,
        name: counter.suffix.replace('_ms', ''),
        label: `${label} ${counter.label}`,
        quantity: counter.quantity,
        class: 'cpu',
        probe: { kind: 'integer', path: sysfs.absolute(path) },
        rateHz: RATE_HZ,
        domain: SOURCE,
        path,
      }),
    );
  }
  return channels;
}
