/**
 * Cooling devices of the kernel: /sys/class/thermal/cooling_device*. Their state says how hard the kernel itself is
 * cooling or throttling at the moment; the state codes are counted from 0 (not at all) to max_state.
 *
 * Source: Documentation/ABI/testing/sysfs-class-thermal.
 */
import type { Channel, DeviceClass } from '../core/channel.js';
import type { Source, SourceContext } from '../core/ports.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'cooling_device';
const RATE_HZ = 1;
/** ACPI makes one "Processor" for each CPU, and all of them move together: the first of a type stand for the rest. */
const MAX_PER_TYPE = 8;

const CLASSES: readonly (readonly [RegExp, DeviceClass])[] = [
  [/processor|powerclamp|cpufreq|cpuidle|tcc/i, 'cpu'],
  [/gpu|amdgpu|nouveau/i, 'gpu'],
];

export const coolingDevices: Source = {
  name: SOURCE,

  async discover({ sysfs, report }: SourceContext): Promise<Channel[]> {
    const ordinals = new Map<string, number>();
    const channels: Channel[] = [];
    for (const name of await sysfs.list('class/thermal', /^cooling_device\d+$/)) {
      const directory = await sysfs.resolve(`class/thermal/${name}`);
      const type = directory === undefined ? undefined : await sysfs.text(`${directory}/type`);
      if (directory === undefined || type === undefined || type === '') {
        report.skipped(`class/thermal/${name}`, 'no type file: the device is going away');
        continue;
      }
      const ordinal = ordinals.get(type) ?? 0;
      ordinals.set(type, ordinal + 1);
      if (ordinal >= MAX_PER_TYPE) continue;
      const max = await sysfs.integer(`${directory}/max_state`);
      const path = `${directory}/cur_state`;
      channels.push(
        makeChannel({
          source: SOURCE,
          device: type,
          name: String(ordinal),
          label: `${type} ${ordinal}`,
          quantity: 'stateCode',
          class: CLASSES.find(([pattern]) => pattern.test(type))?.[1] ?? 'board',
          limits: max === undefined ? {} : { max },
          probe: { kind: 'integer', path: sysfs.absolute(path) },
          rateHz: RATE_HZ,
          domain: `${SOURCE}-${type}`,
          path,
        }),
      );
    }
    for (const [type, count] of ordinals) {
      if (count > MAX_PER_TYPE)
        report.skipped(`${count - MAX_PER_TYPE} of ${count} ${type}`, 'they move with the others');
    }
    return channels;
  },
};
