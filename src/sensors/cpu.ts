/**
 * CPUs: busy share from /proc/stat, frequency from cpufreq.
 *
 * The whole costs a fixed budget whatever the machine: the kernel takes longer to write /proc/stat the more CPUs there
 * are (about 1 ms with 256), and each frequency may interrupt an idle CPU to be measured.
 * Sources: proc_stat(5); Documentation/admin-guide/pm/cpufreq.rst.
 */
import type { Channel } from '../core/channel.js';
import type { Source, SourceContext } from '../core/ports.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'cpu';
/** Rules fire on the total. */
const TOTAL_RATE_HZ = 10;
/** Beyond this many CPUs one read of /proc/stat costs so much that ten a second would exceed 0.5 % of a core. */
const MAX_CPUS_AT_FULL_RATE = 64;
const LARGE_TOTAL_RATE_HZ = 2;
const EACH_RATE_HZ = 1;
/** Single CPUs interest on small machines; on large ones they would be most of all channels and say least. */
const MAX_CPUS_EACH = 16;
/** Likewise: policies, which are one per CPU on most servers. */
const MAX_POLICIES = 16;
/** With a thousand CPUs and long interrupt counts /proc/stat has some 200 kB. */
const MAX_STAT_BYTES = 1024 * 1024;

const HERTZ_PER_KHZ = 1000;

export const cpus: Source = {
  name: SOURCE,

  async discover(context: SourceContext): Promise<Channel[]> {
    return [...(await usage(context)), ...(await frequencies(context))];
  },
};

async function usage({ proc, report }: SourceContext): Promise<Channel[]> {
  const stat = await proc.text('stat', { maxBytes: MAX_STAT_BYTES });
  const keys: readonly string[] = stat?.match(/^cpu\d*(?= )/gm) ?? [];
  if (!keys.includes('cpu')) {
    report.skipped('CPU usage', `no cpu line in ${proc.absolute('stat')}`);
    return [];
  }
  const single = keys.filter((key) => key !== 'cpu');
  const totalRateHz = single.length > MAX_CPUS_AT_FULL_RATE ? LARGE_TOTAL_RATE_HZ : TOTAL_RATE_HZ;
  const isEach = single.length <= MAX_CPUS_EACH;
  if (!isEach) report.skipped(`usage of ${single.length} single CPUs`, `more than ${MAX_CPUS_EACH}: the total is read`);
  return ['cpu', ...(isEach ? single : [])].map((key) =>
    makeChannel({
      source: SOURCE,
      device: key === 'cpu' ? 'total' : key,
      name: 'usage',
      label: key === 'cpu' ? 'CPU usage' : `${key} usage`,
      quantity: 'ratioPartsPerMillion',
      class: 'cpu',
      probe: { kind: 'cpu_busy', path: proc.absolute('stat'), key },
      rateHz: key === 'cpu' ? totalRateHz : EACH_RATE_HZ,
      domain: 'proc',
      path: 'stat',
    }),
  );
}

async function frequencies({ sysfs, report }: SourceContext): Promise<Channel[]> {
  const directory = 'devices/system/cpu/cpufreq';
  const policies = await sysfs.list(directory, /^policy\d+$/);
  if (policies.length > MAX_POLICIES) {
    report.skipped(`${policies.length - MAX_POLICIES} of ${policies.length} cpufreq policies`, 'the first are read');
  }
  const channels: Channel[] = [];
  for (const policy of policies.slice(0, MAX_POLICIES)) {
    const path = `${directory}/${policy}/scaling_cur_freq`;
    if (!(await sysfs.exists(path))) continue; // The policy of an offline CPU.
    const [min, max] = await Promise.all([
      sysfs.integer(`${directory}/${policy}/cpuinfo_min_freq`),
      sysfs.integer(`${directory}/${policy}/cpuinfo_max_freq`),
    ]);
    channels.push(
      makeChannel({
        source: SOURCE,
        device: policy,
        name: 'frequency',
        label: `${policy} frequency`,
        quantity: 'frequencyHertz',
        class: 'cpu',
        limits: {
          ...(min === undefined ? {} : { min: min * HERTZ_PER_KHZ }),
          ...(max === undefined ? {} : { max: max * HERTZ_PER_KHZ }),
        },
        probe: { kind: 'integer', path: sysfs.absolute(path), multiplier: HERTZ_PER_KHZ },
        rateHz: EACH_RATE_HZ,
        domain: 'cpufreq',
        path,
      }),
    );
  }
  return channels;
}
