/** Memory from /proc/meminfo. */
import t from 'tap';
import { memory } from '../../src/sensors/memory.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';

t.test('reads sizes in bytes', async (t) => {
  const found = await discover(fakeMachine(t), [memory]);
  t.same(ids(found), [
    'memory/ram/total',
    'memory/ram/available',
    'memory/ram/dirty',
    'memory/ram/hardware_corrupted',
    'memory/swap/total',
    'memory/swap/available',
  ]);
  t.match(channelOf(found, 'memory/ram/available'), {
    quantity: 'sizeBytes',
    class: 'memory',
    probe: { kind: 'field', key: 'MemAvailable:', column: 1, multiplier: 1024 },
  });
});

t.test('has no swap channels without swap, nor others that the kernel does not write', async (t) => {
  const machine = fakeMachine(t);
  machine.setProc('meminfo', 'MemTotal: 1000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n');
  t.same(ids(await discover(machine, [memory])), ['memory/ram/total']);
});
