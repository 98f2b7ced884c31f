import t from 'tap';
import { derivedIds } from '../../src/cli/derived-ids.js';
import { marginText, temperatureMargin } from '../../src/cli/margin.js';
import { sensorsText } from '../../src/cli/sensors.js';
import { type ChannelJson, channelJson } from '../../src/core/channel.js';
import type { Quantity } from '../../src/core/units.js';
import { withDerived } from '../../src/sensors/derived.js';
import { makeChannel } from '../../src/sensors/make-channel.js';
import { cpuTemperature } from '../fixtures/antibodies.js';
import { node } from '../fixtures/cli.js';
import { processorMs } from '../fixtures/effort.js';
import { gpuChannels, gpuStatus, h200, mi210 } from '../fixtures/gpus.js';

const IO = { columns: 80, color: false };

function at(celsius: number | null, limits: Readonly<Record<string, number>>): ChannelJson {
  const reading = {
    value: celsius === null ? null : celsius * 1000,
    quality: celsius === null ? 'stale' : 'ok',
    atMs: 0,
  } as const;
  return { ...channelJson(cpuTemperature({}), reading, 0), limits };
}

t.test('the margin is to the nearest limit above, and to the highest that is exceeded', async (t) => {
  for (const [celsius, limits, text] of [
    [61, { max: 80, critical: 90 }, '19 to max'],
    [61, { critical: 90 }, '29 to crit'],
    [61, { emergency: 65.5, critical: 90 }, '4.5 to emerg'],
    [80, { max: 80 }, '0 to max'],
    [85.25, { max: 80, critical: 90 }, '5.3 over max'],
    [104, { max: 80, critical: 90 }, '14 over crit'],
  ] as const) {
    const margin = temperatureMargin(at(celsius, limits));
    t.equal(margin && marginText(margin), text);
  }
  for (const [celsius, limits] of [
    [61, {}],
    [61, { min: 0, lowCritical: -10 }],
    [null, { max: 80 }],
  ] as const)
    t.equal(temperatureMargin(at(celsius, limits)), undefined);
});

t.test('devices stand by class, GPUs under their name in the order of the bus', async (t) => {
  const amd = gpuChannels(mi210(), { temperature: ['temperatureMilliCelsius', 48_000, { critical: 100_000 }] });
  const nvidia = gpuChannels(h200(), { temperature: ['temperatureMilliCelsius', 61_000, { max: 87_000 }] });
  const disk = { ...at(40, {}), source: 'hwmon', device: 'nvme-0', class: 'disk' as const, id: 'hwmon/nvme-0/temp1' };
  const text = sensorsText([disk, ...amd, ...nvidia, at(54, { max: 80 })], IO, [mi210(), h200()]);
  t.same(
    text.split('\n').filter((line) => !line.startsWith('  ')),
    [
      'hwmon/coretemp  cpu',
      `NVIDIA H200 0000:3b:00.0  nvml/${h200().device}  gpu`,
      `AMD Instinct MI210 0000:83:00.0  amdgpu/${mi210().device}  gpu`,
      'hwmon/nvme-0  disk',
      '4 channels, all ok',
    ],
  );
  t.match(text, / 61\.0 °C {2}26 to max /);
  const long = h200({ info: { name: 'NVIDIA A100-SXM4-80GB Engineering Sample' } });
  t.match(sensorsText(nvidia, IO, [long]), /^NVIDIA A100-SX… 0000:3b:00\.0 {2}nvml\/.* {2}gpu$/m);
});

t.test('what is derived stands below its base, and is no loss while it has no value', async (t) => {
  const channels = gpuChannels(h200(), {
    temperature: ['temperatureMilliCelsius', 61_000],
    power: ['powerMilliWatts', 400_000],
    temperature_slope: ['temperatureRateMilliCelsiusPerSecond', 250],
    temperature_time_to_limit: ['durationMs', null],
    orphan_slope: ['temperatureRateMilliCelsiusPerSecond', null],
  });
  const lines = sensorsText(channels, IO, [h200()]).split('\n');
  t.same(
    lines.slice(1, -1).map((line) => line.trim().split(' ')[0]),
    ['temperature', 'temperature_slope', 'temperature_time_to_limit', 'power', 'orphan_slope'],
  );
  t.equal(lines.at(-1), '5 channels, 1 without a value');
});

t.test('every channel that the agent derives is known as derived', async (t) => {
  const read = { value: 1, quality: 'ok', atMs: 0 } as const;
  const gpu = (n: number, name: string, quantity: Quantity) =>
    makeChannel({
      source: 'nvml',
      device: `gpu-${n}`,
      name,
      label: name,
      quantity,
      class: 'gpu',
      probe: { kind: 'gpu', address: '0000:3b:00.0', index: 0 },
      rateHz: 10,
      domain: 'gpu',
      path: name,
    });
  const bases = [1, 2, 3].flatMap((n) => [
    gpu(n, 'temperature', 'temperatureMilliCelsius'),
    gpu(n, 'energy', 'energyMilliJoules'),
    gpu(n, 'throttle_reasons', 'flagsBitmask'),
    gpu(n, 'throttled_thermal', 'durationMs'),
    gpu(n, 'utilization', 'ratioPartsPerMillion'),
    gpu(n, 'fan', 'ratioPartsPerMillion'),
    gpu(n, 'fan_rpm', 'fanRpm'),
  ]);
  const all = withDerived(bases);
  t.ok(all.length >= bases.length + 9 * 3, 'each kind of derived channel is there');
  const known = derivedIds(all.map((channel) => channelJson(channel, read, 0)));
  t.same(
    all.filter(({ id }) => known.has(id)),
    all.slice(bases.length),
  );
});

t.test('an agent that says nothing of GPUs costs their names, not the values', async (t) => {
  const channels = gpuChannels(h200(), { power: ['powerMilliWatts', 1000] });
  const mute = await node(t, { sensors: () => channels });
  const { code, out } = await mute.skos(['sensors']);
  t.equal(code, 0);
  t.match(out, /^nvml\/gpu-5a2c.* {2}gpu\n {2}power {2}1\.0 W\n/);
  const telling = await node(t, { sensors: () => channels, gpu: () => gpuStatus([h200()]) });
  t.match((await telling.skos(['sensors'])).out, /^NVIDIA H200 0000:3b:00\.0 {2}nvml/);
});

t.test('thousands of channels are shown at once', async (t) => {
  const many = Array.from({ length: 4096 }, (_, i) => ({ ...at(50, { max: 80 }), name: `temp${i}` }));
  const tookMs = await processorMs(() => sensorsText(many, IO));
  t.ok(tookMs < 1000, `${tookMs} ms`);
});
