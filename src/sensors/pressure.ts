/**
 * Pressure stall information: the share of the last ten seconds in which some task, or every task, waited for CPU,
 * memory or disk. It tells overload from mere use.
 *
 * Source: Documentation/accounting/psi.rst.
 */

import type { Channel, DeviceClass } from '../core/channel.js';
import type { Source, SourceContext } from '../core/ports.js';
import { PPM_PER_PERCENT } from '../core/units.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'pressure';
/** The kernel updates the averages every 2 s. */
const RATE_HZ = 1;
const AVG10_COLUMN = 1;

const RESOURCES: readonly (readonly [string, DeviceClass])[] = [
  ['cpu', 'cpu'],
  ['memory', 'memory'],
  ['io', 'disk'],
];

export const pressure: Source = {
  name: SOURCE,

  async discover({ proc, report }: SourceContext): Promise<Channel[]> {
    const channels: Channel[] = [];
    for (const [resource, deviceClass] of RESOURCES) {
      const path = `pressure/${resource}`;
      // With psi=0 the files exist, and reading them fails with EOPNOTSUPP.
      const text = await proc.text(path);
      const kinds = text?.match(/^(some|full)(?= avg10=)/gm) ?? [];
      if (kinds.length === 0)
        report.skipped(`pressure of ${resource}`, `${proc.absolute(path)}: not offered by this kernel`);
      for (const kind of kinds) {
        // For the whole machine "full" of the CPU is undefined; the kernel writes zeros for compatibility.
        if (resource === 'cpu' && kind === 'full') continue;
        channels.push(
          makeChannel({
            source: SOURCE,
            device: resource,
            name: `${kind}_avg10`,
            label: `${resource} pressure, ${kind}`,
            quantity: 'ratioPartsPerMillion',
            class: deviceClass,
            probe: {
              kind: 'field',
              path: proc.absolute(path),
              key: kind,
              column: AVG10_COLUMN,
              multiplier: PPM_PER_PERCENT,
            },
            rateHz: RATE_HZ,
            domain: 'proc',
            path,
          }),
        );
      }
    }
    return channels;
  },
};
