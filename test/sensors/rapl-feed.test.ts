/** Powers that the actuator tells: quality when it is there, slow, gone, another one, or tells nonsense. */
import { mock } from 'node:test';
import t, { type Test } from 'tap';
import type { Quality } from '../../src/core/channel.js';
import { SkosError } from '../../src/core/errors.js';
import type { ActuatorPower } from '../../src/core/ports.js';
import { rapl } from '../../src/sensors/rapl.js';
import { raplFeed } from '../../src/sensors/rapl-feed.js';
import { discover } from '../fixtures/discovery.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';

const OK = (id: string, milliWatts: number): ActuatorPower => ({ id, quality: 'ok', milliWatts });

interface Asked {
  answer(powers: readonly ActuatorPower[]): void;
  refuse(): void;
}

async function feed(t: Test) {
  const machine = fakeMachine(t);
  for (const [zone, name] of [
    ['intel-rapl:0', 'package-0'],
    ['intel-rapl:0:0', 'dram'],
  ]) {
    machine.set(`class/powercap/${zone}/name`, name ?? '');
    machine.set(`class/powercap/${zone}/energy_uj`, 1);
    machine.set(`class/powercap/${zone}/max_energy_range_uj`, 262_143_328_850);
  }
  const { channels } = await discover(machine, [rapl]);
  mock.timers.enable({ apis: ['setInterval'] });
  t.teardown(() => mock.timers.reset());
  const asked: Asked[] = [];
  const state = { connected: true, nowMs: 100 };
  const powers = () =>
    new Promise<ActuatorPower[]>((resolve, reject) => {
      asked.push({
        answer: (given) => resolve([...given]),
        refuse: () => reject(new SkosError('SKOS_ACTUATOR_ABSENT', 'lost')),
      });
    });
  const made = raplFeed({
    channels,
    actuator: () => (state.connected ? { powers } : undefined),
    clock: { monotonicMs: () => state.nowMs, wallMs: () => 0 },
  });
  t.teardown(() => made.stop());
  const after = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 500) {
      state.nowMs += 500;
      mock.timers.tick(500);
      await settled();
    }
  };
  const drained = () => {
    const samples: [number, number, Quality][] = [];
    made.drain((channel, value, quality) => samples.push([channel, value, quality]));
    return samples;
  };
  return { made, asked, state, after, drained };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

t.test('gives each channel the average of its zone', async (t) => {
  const { made, asked, drained } = await feed(t);
  t.same(
    made.channels.map(({ id }) => id),
    ['rapl/package-0/power', 'rapl/package-0-dram/power'],
  );
  made.start();
  t.same(made.latest(0), { value: null, quality: 'no_data', atMs: 0 }, 'nothing before the first answer');
  asked[0]?.answer([OK('rapl/intel-rapl:0:0', 12_000), OK('rapl/intel-rapl:0', 150_000)]);
  await settled();
  t.same(made.latest(0), { value: 150_000, quality: 'ok', atMs: 100 });
  t.same(made.latest(1), { value: 12_000, quality: 'ok', atMs: 100 });
  t.same(drained(), [
    [0, 150_000, 'ok'],
    [1, 12_000, 'ok'],
  ]);
  t.same(drained(), [], 'once');
});

t.test('asks once a second, and one question at a time', async (t) => {
  const { made, asked, after } = await feed(t);
  made.start();
  made.start();
  t.equal(asked.length, 1);
  await after(2_500);
  t.equal(asked.length, 1, 'the first is not answered yet');
  asked[0]?.answer([]);
  await settled();
  await after(1_000);
  t.equal(asked.length, 2);
});

t.test('says no_data without an actuator, for a zone that it does not know, and when it is lost', async (t) => {
  const { made, asked, state, after } = await feed(t);
  state.connected = false;
  made.start();
  t.match(made.latest(0), { value: null, quality: 'no_data' });
  state.connected = true;
  await after(1_000);
  asked[0]?.answer([OK('rapl/intel-rapl:0', 1_000), OK('rapl/other', 5)]);
  await after(1_000);
  t.match(made.latest(0), { value: 1_000, quality: 'ok' });
  t.match(made.latest(1), { value: null, quality: 'no_data' });
  asked[1]?.refuse();
  await after(500);
  t.match(made.latest(0), { value: null, quality: 'no_data' }, 'the last value is not kept');
});

t.test('hands on the quality that the actuator says, without a value', async (t) => {
  const { made, asked } = await feed(t);
  made.start();
  asked[0]?.answer([
    { id: 'rapl/intel-rapl:0', quality: 'hung', milliWatts: null },
    { id: 'rapl/intel-rapl:0:0', quality: 'stale', milliWatts: 7 },
  ]);
  await settled();
  t.match(made.latest(0), { value: null, quality: 'hung' });
  t.match(made.latest(1), { value: null, quality: 'stale' });
});

t.test('calls the last answer stale when the next does not come', async (t) => {
  const { made, asked, after, drained } = await feed(t);
  made.start();
  asked[0]?.answer([OK('rapl/intel-rapl:0', 1_000)]);
  await after(1_000);
  t.equal(asked.length, 2);
  drained();
  await after(2_000);
  t.match(made.latest(0), { quality: 'ok' });
  await after(1_000);
  t.match(made.latest(0), { value: null, quality: 'stale' });
  t.match(made.latest(1), { value: null, quality: 'no_data' }, 'what was never known is not stale');
  t.same(drained(), [[0, 0, 'stale']], 'said once');
  await after(1_000);
  t.same(drained(), []);
  asked[1]?.answer([OK('rapl/intel-rapl:0', 2_000)]);
  await settled();
  t.match(made.latest(0), { value: 2_000, quality: 'ok' });
});

t.test('keeps a bounded queue and counts what nobody drained', async (t) => {
  const { made, asked, after, drained } = await feed(t);
  made.start();
  for (let i = 0; i < 40; i++) {
    asked.at(-1)?.answer([OK('rapl/intel-rapl:0', i), OK('rapl/intel-rapl:0:0', i)]);
    await after(1_000);
  }
  t.equal(made.overruns, (40 - 16) * 2);
  const samples = drained();
  t.equal(samples.length, 32);
  t.same(samples.at(-1), [1, 39, 'ok']);
});

t.test('heeds no answer after stop(), and can start again', async (t) => {
  const { made, asked, after, drained } = await feed(t);
  made.start();
  made.stop();
  made.stop();
  asked[0]?.answer([OK('rapl/intel-rapl:0', 1_000)]);
  await after(3_000);
  t.equal(asked.length, 1);
  t.same(drained(), []);
  made.start();
  asked[1]?.answer([OK('rapl/intel-rapl:0', 2_000)]);
  await settled();
  t.match(made.latest(0), { value: 2_000 });
});
