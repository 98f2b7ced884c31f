/** Pressure stall information, where the kernel offers it. */
import t from 'tap';
import { pressure } from '../../src/sensors/pressure.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';

const BOTH = 'some avg10=1.50 avg60=0.31 avg300=0.16 total=9\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=0';

t.test('reads some and full of each resource, but not full of the CPU, which is undefined', async (t) => {
  const machine = fakeMachine(t);
  for (const resource of ['cpu', 'memory', 'io']) machine.setProc(`pressure/${resource}`, BOTH);
  const found = await discover(machine, [pressure]);
  t.same(ids(found), [
    'pressure/cpu/some_avg10',
    'pressure/memory/some_avg10',
    'pressure/memory/full_avg10',
    'pressure/io/some_avg10',
    'pressure/io/full_avg10',
  ]);
  t.match(channelOf(found, 'pressure/memory/full_avg10'), {
    quantity: 'ratioPartsPerMillion',
    class: 'memory',
    probe: { kind: 'field', key: 'full', column: 1, multiplier: 10_000 },
  });
});

t.test('makes no channel where the kernel offers none, and says so', async (t) => {
  const machine = fakeMachine(t);
  machine.setProc('pressure/cpu', '');
  const found = await discover(machine, [pressure]);
  t.same(found.channels, []);
  t.equal(found.skipped.length, 3);
});
