/**
 * Memory of the machine, from /proc/meminfo. Sizes only: one probe reads one field, and a share would need two.
 *
 * Source: proc_meminfo(5). The kernel writes kB and means KiB.
 */
import type { Channel } from '../core/channel.js';
import type { Source, SourceContext } from '../core/ports.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'memory';
const RATE_HZ = 1;
const BYTES_PER_KIB = 1024;

const FIELDS: readonly {
  readonly key: string;
  readonly device: string;
  readonly name: string;
  readonly label: string;
}[] = [
  { key: 'MemTotal', device: 'ram', name: 'total', label: 'Memory' },
  { key: 'MemAvailable', device: 'ram', name: 'available', label: 'Memory available' },
  { key: 'Dirty', device: 'ram', name: 'dirty', label: 'Memory waiting to be written' },
  // Pages that the kernel took out of use after an uncorrectable ECC error.
  { key: 'HardwareCorrupted', device: 'ram', name: 'hardware_corrupted', label: 'Memory found broken' },
  { key: 'SwapTotal', device: 'swap', name: 'total', label: 'Swap' },
  { key: 'SwapFree', device: 'swap', name: 'available', label: 'Swap available' },
];

export const memory: Source = {
  name: SOURCE,

  async discover({ proc, report }: SourceContext): Promise<Channel[]> {
    const text = await proc.text('meminfo');
    if (text === undefined) {
      report.skipped('memory', `${proc.absolute('meminfo')} cannot be read`);
      return [];
    }
    const sizes = new Map([...text.matchAll(/^(\w+):\s+(\d+)/gm)].map(([, key, kib]) => [key, Number(kib)]));
    const fields = FIELDS.filter(
      ({ key, device }) => sizes.has(key) && (device !== 'swap' || (sizes.get('SwapTotal') ?? 0) > 0),
    );
    return fields.map(({ key, device, name, label }) =>
      makeChannel({
        source: SOURCE,
        device,
        name,
        label,
        quantity: 'sizeBytes',
        class: 'memory',
        probe: {
          kind: 'field',
          path: proc.absolute('meminfo'),
          key: `${key}:`,
          column: 1,
          multiplier: BYTES_PER_KIB,
        },
        rateHz: RATE_HZ,
        domain: 'proc',
        path: 'meminfo',
      }),
    );
  },
};
