/** Sensing: discovery, the swap of samplers, and what happens when either fails or takes its time. */
import t, { type Test } from 'tap';
import { Sensing } from '../../src/control/sensing.js';
import type { Channel, Quality } from '../../src/core/channel.js';
import type { Discovery } from '../../src/core/ports.js';
import { configOf, cpuTemperature } from '../fixtures/antibodies.js';
import { FakeSampler, life, turns } from '../fixtures/control.js';
import { thermalRule } from '../fixtures/rules.js';

const CPU = cpuTemperature();
const DISK = cpuTemperature({ id: 'hwmon/nvme/temp1', thermalDefault: false });

function sensing(t: Test, first: readonly Channel[] = [CPU]) {
  const now = life({ channels: [] });
  const samplers: FakeSampler[] = [];
  const made = {
    found: first,
    skipped: [] as Discovery['skipped'],
    unanswered: [] as readonly string[],
    fails: '' as '' | 'discover' | 'create' | 'start',
    discoveries: 0,
    /** When set, discovery answers only when these are called. */
    gates: undefined as (() => void)[] | undefined,
  };
  const part = new Sensing({
    config: now.config,
    rulebook: now.rulebook,
    log: now.log,
    discover: async (): Promise<Discovery> => {
      made.discoveries += 1;
      const { found } = made;
      const { gates } = made;
      if (gates !== undefined) await new Promise<void>((resolve) => gates.push(resolve));
      if (made.fails === 'discover') throw new Error('the tree is gone');
      return { channels: found, skipped: made.skipped, unanswered: made.unanswered };
    },
    createSampler: (channels, tripwires) => {
      if (made.fails === 'create') throw new Error('bad spec');
      const sampler = new FakeSampler(channels, tripwires);
      if (made.fails === 'start')
        sampler.start = () => {
          throw new Error('no thread');
        };
      samplers.push(sampler);
      return sampler;
    },
  });
  t.teardown(() => part.stop());
  const newest = () => {
    const sampler = samplers.at(-1);
    if (sampler === undefined) throw new Error('no sampler');
    return sampler;
  };
  const feed = (celsius: number, quality: Quality = 'ok', index = 0) => {
    now.clock.nowMs += 100;
    newest().give(index, celsius * 1000, quality, now.clock.nowMs);
    part.drain((i, value, q, atMs) => now.rulebook.sample(i, value, q, atMs, (b, f) => now.alerts.apply(b, f)));
  };
  return { ...now, part, samplers, made, feed, newest };
}

t.test('a swap keeps what stands and stops the former sampler', async (t) => {
  const { part, samplers, made, feed, alerts, rulebook } = sensing(t);
  await part.start();
  for (let i = 0; i < 3; i++) feed(86);
  t.match(alerts.standing, [{ severity: 'critical' }]);
  made.found = [DISK, CPU];
  await part.reload();
  t.strictSame(
    samplers.map(({ running }) => running),
    [false, true],
  );
  t.equal(rulebook.bound[0]?.ladder.rung, 1);
  for (let i = 0; i < 3; i++) feed(96, 'ok', 1);
  t.match(alerts.standing, [{ severity: 'emergency' }], 'samples go to the rule by the new index');
});

t.test('has a tripwire for each rung', async (t) => {
  const { part, newest } = sensing(t, [DISK, CPU]);
  await part.start();
  t.match(newest().tripwires, [
    { channel: 1, raise: 75_000, clear: 70_000, samples: 2 },
    { channel: 1, raise: 85_000 },
    { channel: 1, raise: 95_000 },
  ]);
});

t.test('a watched channel that is gone stays listed, its alert stands', async (t) => {
  const { part, made, feed, alerts } = sensing(t, [CPU, DISK]);
  await part.start();
  for (let i = 0; i < 3; i++) feed(86);
  made.found = [];
  await part.reload();
  t.strictSame(
    part.channels.map(({ id }) => id),
    [CPU.id],
  );
  for (let i = 0; i < 3; i++) feed(0, 'no_data');
  t.match(alerts.standing, [{ severity: 'critical', verdict: 'no_data' }]);
});

t.test('channels of a source that did not answer in time stay, and it is asked again soon', async (t) => {
  const { mock } = await import('node:test');
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const { part, made } = sensing(t, [CPU, DISK]);
  await part.start();
  const ids = () => part.channels.map(({ id }) => id);
  made.found = [];
  made.unanswered = ['hwmon'];
  await part.reload();
  t.strictSame(ids(), [CPU.id, DISK.id]);
  const before = made.discoveries;
  made.unanswered = [];
  made.found = [CPU];
  mock.timers.tick(3_000);
  await turns(3);
  t.equal(made.discoveries, before + 1);
  t.strictSame(ids(), [CPU.id], 'what it says then holds');
});

t.test('gone channels without an alert do not pile up', async (t) => {
  const { part, made, antibody } = sensing(t, []);
  antibody.rulesFor = ({ channels }) => channels.map(({ id }) => thermalRule({ channelId: id }));
  await part.start();
  for (let i = 0; i < 200; i++) {
    made.found = [cpuTemperature({ id: `hwmon/c${i}/temp1` })];
    await part.reload();
  }
  t.ok(part.channels.length <= 65, `${part.channels.length}`);
});

for (const fails of ['discover', 'create', 'start'] as const) {
  t.test(`keeps sampler and rules when ${fails} fails`, async (t) => {
    const { part, samplers, made, feed, alerts } = sensing(t);
    await part.start();
    made.found = [DISK, CPU];
    made.fails = fails;
    await t.rejects(part.reload());
    t.equal(samplers[0]?.running, true);
    t.strictSame(part.channels, [CPU]);
    samplers.splice(1);
    for (let i = 0; i < 3; i++) feed(86);
    t.match(alerts.standing, [{ severity: 'critical' }], 'its samples still reach their rule');
    made.fails = '';
    await part.reload();
    t.equal(part.channels.length, 2);
  });
}

t.test('a slow discovery does not undo a newer one', async (t) => {
  const { part, made } = sensing(t);
  await part.start();
  made.gates = [];
  const old = part.reload();
  made.found = [CPU, DISK];
  const young = part.reload();
  made.gates[1]?.();
  await young;
  t.equal(part.channels.length, 2);
  made.gates[0]?.();
  await old;
  t.equal(part.channels.length, 2, 'the older result is of an older configuration');
});

t.test('stop() during a discovery leaves no sampler behind', async (t) => {
  const { part, made, samplers } = sensing(t);
  made.gates = [];
  const starting = part.start();
  part.stop();
  made.gates[0]?.();
  await starting;
  t.strictSame(samplers, []);
});

t.test('looks for sensors soon after one fell silent, though it flickers, and ever less often', async (t) => {
  const { mock } = await import('node:test');
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const { part, made, feed } = sensing(t);
  await part.start();
  const looks: number[] = [];
  for (let ms = 0; ms < 120_000; ms += 500) {
    feed(50);
    feed(0, 'no_data');
    const before = made.discoveries;
    mock.timers.tick(500);
    await turns(1);
    if (made.discoveries > before) looks.push(ms + 500);
  }
  t.equal(looks[0], 2_000, 'the flicker does not put it off');
  t.ok(looks.length <= 7, `${looks.join()}`);
});

t.test('looks within a second when it is told to, and ever less often when that does not end', async (t) => {
  const { mock } = await import('node:test');
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const { part, made } = sensing(t);
  part.lookSoon('before the start');
  mock.timers.tick(60_000);
  t.equal(made.discoveries, 0, 'the start looks by itself');
  await part.start();
  const looks: number[] = [];
  for (let ms = 0; ms < 120_000; ms += 250) {
    part.lookSoon('block');
    const before = made.discoveries;
    mock.timers.tick(250);
    await turns(1);
    if (made.discoveries > before) looks.push(ms + 250);
  }
  t.equal(looks[0], 1_000);
  t.ok(looks.length <= 8, `${looks.join()}`);
  part.stop();
  const before = made.discoveries;
  part.lookSoon('block');
  mock.timers.tick(120_000);
  await turns(1);
  t.equal(made.discoveries, before, 'not after the end');
});

t.test('forgets no look that is asked for during another one', async (t) => {
  const { mock } = await import('node:test');
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const { part, made } = sensing(t);
  made.gates = [];
  const starting = part.start();
  part.lookSoon('nvme');
  made.gates.shift()?.();
  await starting;
  mock.timers.tick(1_000);
  await turns(1);
  t.equal(made.discoveries, 2, 'during the first one');
  part.lookSoon('nvme');
  made.gates.shift()?.();
  await turns(1);
  mock.timers.tick(2_000);
  await turns(1);
  t.equal(made.discoveries, 3, 'during the second one');
});

t.test('a start that takes long is overtaken by no look, and ends with its sampler', async (t) => {
  const { mock } = await import('node:test');
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const { part, made, log } = sensing(t);
  made.gates = [];
  const starting = part.start();
  part.lookSoon('GPUs');
  mock.timers.tick(10_000);
  await turns(1);
  t.equal(made.discoveries, 1);
  made.gates.shift()?.();
  await starting;
  t.equal(part.channels.length, 1);
  mock.timers.tick(1_000);
  await turns(1);
  t.equal(made.discoveries, 2, 'what was asked for meanwhile');
  made.gates.shift()?.();
  await turns(1);
  t.notOk(log.lines.some(({ message }) => message.startsWith('new sensor')));
});

t.test('a rate that has no value right after a swap is no news', async (t) => {
  const rate = cpuTemperature({ id: 'cpu/usage/all', probe: { kind: 'cpu_busy', path: '/proc/stat', key: 'cpu' } });
  const { part, made, feed, log } = sensing(t, [rate]);
  await part.start();
  feed(0, 'no_data');
  feed(5);
  made.found = [rate, DISK];
  await part.reload();
  feed(0, 'no_data');
  feed(5);
  t.strictSame(
    log.lines.filter(({ level }) => level === 'warn'),
    [],
  );
});

t.test('says at the start in one line what was not found and why', async (t) => {
  const { part, made, log } = sensing(t);
  const told = () => log.lines.filter(({ fields }) => fields.event === 'sensors.not_found');
  made.skipped = Array.from({ length: 10 }, (_, i) => ({
    source: 'hwmon',
    what: `chip ${i}`,
    why: 'it is going away',
  }));
  await part.start();
  t.equal(told().length, 1);
  t.match(told()[0]?.message, /^not found: hwmon: chip 0: it is going away; .*chip 7.*; and 2 more, see skos status$/);
  await part.reload();
  t.equal(told().length, 1);
});

t.test('says that a sensor is back when its loss was said, also after a swap, and of no other', async (t) => {
  const { part, feed, log } = sensing(t);
  const told = () => log.lines.map(({ fields }) => fields.event).filter((event) => /^sensor\./.test(`${event}`));
  await part.start();
  feed(50);
  t.strictSame(told(), [], 'a first reading is no return');
  feed(0, 'no_data');
  feed(0, 'fault');
  feed(50);
  t.strictSame(told(), ['sensor.gone', 'sensor.back']);
  feed(0, 'hung');
  await part.reload();
  feed(50);
  t.strictSame(told().slice(2), ['sensor.hung', 'sensor.back']);
});

t.test('tells in one line what many channels of one device do at once, and one by one what few do', async (t) => {
  const gpu = Array.from({ length: 40 }, (_, i) =>
    cpuTemperature({ id: `nvml/gpu-1/c${i}`, source: 'nvml', device: 'gpu-1', thermalDefault: false }),
  );
  const { part, newest, clock, log } = sensing(t, [CPU, ...gpu]);
  const told = () => log.lines.filter(({ fields }) => /^sensor\./.test(`${fields.event}`));
  const all = (quality: Quality, from = 0) => {
    clock.nowMs += 100;
    for (let i = from; i <= gpu.length; i++) newest().give(i, 50_000, quality, clock.nowMs);
    part.drain(() => undefined);
  };
  await part.start();
  all('ok');
  all('hung');
  t.match(
    told().map(({ fields }) => fields),
    [
      { event: 'sensor.hung', channel: CPU.id },
      { event: 'sensor.hung', channel: 'nvml/gpu-1/*' },
    ],
  );
  t.match(told()[1]?.message, /40 channels/);
  all('ok', 38);
  all('ok');
  t.match(
    told()
      .slice(2)
      .map(({ fields }) => fields.channel),
    ['nvml/gpu-1/c37', 'nvml/gpu-1/c38', 'nvml/gpu-1/c39', CPU.id, 'nvml/gpu-1/*'],
  );
});

t.test('says once when samples were lost', async (t) => {
  const { part, newest, feed, log } = sensing(t);
  await part.start();
  newest().overruns = 5;
  feed(50);
  feed(50);
  t.match(
    log.lines.filter(({ level }) => level === 'warn'),
    [{ message: /^5 samples/ }],
  );
});

t.test('takes the configuration that is in force when it rebuilds', async (t) => {
  const { part, config, antibody } = sensing(t);
  const seen: string[] = [];
  antibody.rulesFor = (context) => {
    seen.push((context as unknown as { config: { mode: string } }).config.mode);
    return [];
  };
  await part.start();
  config.replace(configOf({ mode: 'propose' }));
  await part.reload();
  t.strictSame(seen, ['auto', 'propose']);
});
