/** CPUs: usage and frequency, at a cost that does not grow with the machine. */
import t from 'tap';
import { cpus } from '../../src/sensors/cpu.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';

function procStat(count: number): string {
  const line = (name: string) => `${name} 1 0 1 100 0 0 0 0 0 0`;
  return [line('cpu '), ...Array.from({ length: count }, (_, i) => line(`cpu${i}`)), 'intr 12345', 'ctxt 1'].join('\n');
}

t.test('reads the total at full rate and single CPUs slowly', async (t) => {
  const found = await discover(fakeMachine(t), [cpus]);
  t.same(ids(found), ['cpu/total/usage', 'cpu/cpu0/usage', 'cpu/cpu1/usage']);
  t.match(channelOf(found, 'cpu/total/usage'), {
    quantity: 'ratioPartsPerMillion',
    class: 'cpu',
    rateHz: 10,
    probe: { kind: 'cpu_busy', key: 'cpu' },
  });
  t.match(channelOf(found, 'cpu/cpu1/usage'), { rateHz: 1, probe: { key: 'cpu1' } });
});

t.test('reads the total alone on a large machine, more slowly on a very large one', async (t) => {
  const machine = fakeMachine(t);
  for (const [count, channels, rateHz] of [
    [16, 17, 10],
    [17, 1, 10],
    [64, 1, 10],
    [256, 1, 2],
  ] as const) {
    machine.setProc('stat', procStat(count));
    const found = await discover(machine, [cpus]);
    t.equal(found.channels.length, channels, `${count} CPUs`);
    t.equal(channelOf(found, 'cpu/total/usage').rateHz, rateHz, `${count} CPUs`);
  }
});

t.test('reads frequencies in hertz, with the limits of the hardware', async (t) => {
  const machine = fakeMachine(t);
  machine.addCpufreq({
    policies: [
      [0, 1],
      [2, 3],
    ],
    maxKHz: 3_600_000,
    minKHz: 800_000,
  });
  const found = await discover(machine, [cpus]);
  t.match(channelOf(found, 'cpu/policy2/frequency'), {
    quantity: 'frequencyHertz',
    limits: { min: 800_000_000, max: 3_600_000_000 },
    probe: { kind: 'integer', multiplier: 1000 },
    path: 'devices/system/cpu/cpufreq/policy2/scaling_cur_freq',
  });
});

t.test('passes over the policy of an offline CPU, and bounds their number aloud', async (t) => {
  const machine = fakeMachine(t);
  const policies = machine.addCpufreq({
    policies: Array.from({ length: 40 }, (_, i) => [i]),
    maxKHz: 2,
    minKHz: 1,
  });
  machine.remove(`${policies[3]}/scaling_cur_freq`);
  const found = await discover(machine, [cpus]);
  t.equal(found.channels.filter(({ name }) => name === 'frequency').length, 15);
  t.match(found.skipped, [{ what: '24 of 40 cpufreq policies' }]);
});

t.test('says so where /proc/stat is absent or garbage', async (t) => {
  const machine = fakeMachine(t);
  machine.setProc('stat', 'garbage');
  const found = await discover(machine, [cpus]);
  t.same(found.channels, []);
  t.match(found.skipped, [{ what: 'CPU usage' }]);
});
