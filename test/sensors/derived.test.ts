import t from 'tap';
import { type Channel, isDerived, QUALITIES, type Quality } from '../../src/core/channel.js';
import type { Sampler, Tripwire } from '../../src/core/ports.js';
import { derivationsOf, MAX_DERIVED, withDerived } from '../../src/sensors/derived.js';
import { DerivedSampler } from '../../src/sensors/derived-sampler.js';
import { makeChannel } from '../../src/sensors/make-channel.js';
import { FakeClock, FakeSampler } from '../fixtures/control.js';

function channel(id: string, given: Partial<Channel> = {}): Channel {
  const [source = '', device = '', name = ''] = id.split('/');
  const made = makeChannel({
    source,
    device,
    name,
    label: name,
    quantity: 'temperatureMilliCelsius',
    class: 'cpu',
    probe: { kind: 'integer', path: `/${id}` },
    rateHz: 10,
    domain: source,
    path: id,
  });
  return { ...made, ...given };
}
const gpu = (n: number, name: string, given: Partial<Channel> = {}): Channel =>
  channel(`nvml/gpu-${n}/${name}`, { class: 'gpu', ...given });
const ids = (channels: readonly Channel[]) => derivationsOf(channels).map((each) => each.channel.id);

t.test('what is derived stands with its device, and says its formula', async (t) => {
  const base = channel('hwmon/coretemp-0/temp1', { thermalDefault: true, limits: { critical: 100_000 } });
  const [slope, time] = derivationsOf([base]).map((each) => each.channel);
  t.match(slope, {
    id: 'hwmon/coretemp-0/temp1_slope',
    source: 'hwmon',
    device: 'coretemp-0',
    name: 'temp1_slope',
    class: 'cpu',
    domain: 'derived',
    quantity: 'temperatureRateMilliCelsiusPerSecond',
    probe: { kind: 'pushed', feed: 'derived' },
    rateHz: 1,
    path: 'median of pairwise slopes of temp1 over 10 s',
  });
  t.match(time, { id: 'hwmon/coretemp-0/temp1_time_to_limit', path: '(100 °C − temp1) ÷ temp1_slope' });
});

t.test('slopes are of the thermal table and of GPUs, where a point a second is read', async (t) => {
  t.same(ids([channel('hwmon/nct/temp1')]), [], 'a board input reads nonsense');
  t.same(ids([channel('hwmon/x/temp1', { thermalDefault: true, rateHz: 0.5 })]), []);
  t.same(ids([gpu(0, 'margin')]), [], 'a margin falls when the temperature rises');
  t.same(ids([gpu(0, 'temperature_memory')]).length, 2);
});

t.test('the limit is the device’s own where it may be believed, else that of the thermal table', async (t) => {
  const limit = (limits: Channel['limits']) => {
    const found = derivationsOf([gpu(0, 'temperature', { limits })]).find(
      ({ formula }) => formula.kind === 'time_to_limit',
    );
    return found?.formula.kind === 'time_to_limit' ? found.formula.limitMilliCelsius : undefined;
  };
  t.equal(limit({ critical: 89_000, max: 87_000 }), 89_000);
  t.equal(limit({ max: 95_000 }), 95_000);
  t.equal(limit({ critical: 65_261_850, max: 95_000 }), 95_000);
  t.equal(limit({ critical: 0 }), 85_000);
  t.equal(limit({}), 85_000);
});

t.test('power comes from energy only where nobody says power; a limit of power is none', async (t) => {
  const energy = channel('hwmon/i915/energy1', { quantity: 'energyMilliJoules' });
  const power = (name: string) => channel(`hwmon/i915/${name}`, { quantity: 'powerMilliWatts' });
  t.same(ids([energy]), ['hwmon/i915/energy1_power']);
  t.same(ids([energy, power('power_limit')]), ['hwmon/i915/energy1_power']);
  t.same(ids([energy, power('power1')]), []);
});

t.test('GPUs are compared from three on, within one source', async (t) => {
  const three = [0, 1, 2].map((n) => gpu(n, 'power', { quantity: 'powerMilliWatts' }));
  t.same(ids(three.slice(0, 2)), []);
  t.same(ids([...three.slice(0, 2), { ...three[2], source: 'amdgpu' } as Channel]), []);
  t.same(ids(three), ['nvml/gpu-0/power_imbalance', 'nvml/gpu-1/power_imbalance', 'nvml/gpu-2/power_imbalance']);
});

t.test('throttling is a share of reasons, and of counters of time', async (t) => {
  const found = ids([
    gpu(0, 'throttle_reasons', { quantity: 'flagsBitmask' }),
    gpu(0, 'throttled_power', { quantity: 'durationMs' }),
    channel('thermal_throttle/package-0/throttle_total_time', { quantity: 'durationMs' }),
    channel('x/y/uptime', { quantity: 'durationMs' }),
    channel('x/y/flags', { quantity: 'flagsBitmask' }),
  ]);
  t.same(found, [
    'nvml/gpu-0/throttle_reasons_share',
    'nvml/gpu-0/throttle_reasons_thermal_share',
    'nvml/gpu-0/throttle_reasons_hardware_share',
    'nvml/gpu-0/throttled_power_share',
    'thermal_throttle/package-0/throttle_total_time_share',
  ]);
});

t.test('ids stay unique and bounded, and nothing is derived from what is derived', async (t) => {
  const once = withDerived([gpu(0, 'temperature'), gpu(0, 'temperature_slope', { quantity: 'stateCode' })]);
  t.equal(new Set(once.map(({ id }) => id)).size, once.length, 'a device’s own name wins');
  t.same(derivationsOf(once.filter(isDerived)), []);
  const long = withDerived([gpu(0, `temperature_${'x'.repeat(80)}`), gpu(0, `temperature_${'x'.repeat(81)}`)]);
  t.equal(new Set(long.map(({ id }) => id)).size, long.length);
  for (const { name } of long) t.ok(name.length <= 64, name);
  const many = Array.from({ length: 2_000 }, (_, n) => gpu(n, 'temperature'));
  t.equal(derivationsOf(many).length, MAX_DERIVED);
});

class Bench {
  readonly clock = new FakeClock();
  readonly channels: readonly Channel[];
  base = new FakeSampler([]);
  sampler: DerivedSampler;
  readonly said: { id: string; value: number | null; quality: Quality; atMs: number }[] = [];

  constructor(
    base: readonly Channel[],
    readonly tripwires: readonly Tripwire[] = [],
  ) {
    this.channels = withDerived(base);
    this.sampler = this.make(this.channels);
  }
  make(channels: readonly Channel[], former?: DerivedSampler): DerivedSampler {
    const createBase = (own: readonly Channel[], wires: readonly Tripwire[]): Sampler => {
      this.base = new FakeSampler(own, wires);
      return this.base;
    };
    const { clock, tripwires } = this;
    this.sampler = new DerivedSampler({ channels, tripwires, createBase, clock, deadlineMs: 1000, former });
    return this.sampler;
  }
  give(id: string, value: number, quality: Quality = 'ok'): void {
    this.base.give(
      this.base.channels.findIndex((each) => each.id === id),
      value,
      quality,
      this.clock.nowMs,
    );
  }
  /** Ticks for so long; each gives what `samples` says. */
  run(seconds: number, samples: (atS: number) => Readonly<Record<string, number | Quality>> = () => ({})): void {
    for (let i = 0; i < seconds * 10; i++) {
      this.clock.nowMs += 100;
      for (const [id, what] of Object.entries(samples(i / 10))) {
        if (typeof what === 'number') this.give(id, what);
        else this.give(id, 0, what);
      }
      this.drain();
    }
  }
  drain(): void {
    this.sampler.drain((index, value, quality, atMs) => {
      const id = this.sampler.channels[index]?.id ?? '?';
      this.said.push({ id, value: quality === 'ok' ? value : null, quality, atMs });
    });
  }
  last(id: string): { value: number | null; quality: Quality } | undefined {
    const found = this.said.findLast((each) => each.id === id);
    return found && { value: found.value, quality: found.quality };
  }
}

const CPU = 'hwmon/coretemp-0/temp1';
const cpu = channel(CPU, { thermalDefault: true, limits: { critical: 100_000 } });

t.test('samples of the base pass as they are, derived ones once a second behind them', async (t) => {
  const bench = new Bench([cpu]);
  bench.run(8, (s) => ({ [CPU]: 40_000 + 1000 * s }));
  const own = bench.said.filter(({ id }) => id === CPU);
  t.equal(own.length, 80);
  t.same(
    own.map(({ value }) => value),
    own.map((_, i) => 40_000 + 100 * i),
  );
  const slopes = bench.said.filter(({ id }) => id === `${CPU}_slope`);
  t.equal(slopes.length, 8);
  t.match(slopes[0], { value: null, quality: 'no_data' });
  t.match(bench.last(`${CPU}_slope`), { value: 1000, quality: 'ok' });
  const time = bench.last(`${CPU}_time_to_limit`);
  t.ok(time?.value !== null && time !== undefined && Math.abs(time.value - 52_200) <= 1_000, JSON.stringify(time));
  for (const { atMs } of bench.said) t.ok(atMs <= bench.clock.nowMs);
});

t.test('a reading is ok only while its base is: lost, hung, faulty, stale', async (t) => {
  for (const quality of QUALITIES.filter((each) => each !== 'ok' && each !== 'stale')) {
    const bench = new Bench([cpu]);
    bench.run(8, () => ({ [CPU]: 99_000 }));
    t.match(bench.last(`${CPU}_slope`), { value: 0, quality: 'ok' });
    bench.run(2, () => ({ [CPU]: quality }));
    t.match(bench.last(`${CPU}_slope`), { value: null, quality });
    t.match(bench.last(`${CPU}_time_to_limit`), { value: null, quality });
  }
  const bench = new Bench([cpu]);
  bench.run(8, () => ({ [CPU]: 99_000 }));
  bench.run(4);
  t.match(bench.last(`${CPU}_slope`), { value: null, quality: 'stale' }, 'no sample came any more');
});

t.test('latest() is what was said, and stale when nobody drains', async (t) => {
  const bench = new Bench([cpu]);
  t.match(bench.sampler.latest(1), { value: null, quality: 'no_data' });
  bench.run(8, (s) => ({ [CPU]: 40_000 + 1000 * s }));
  t.match(bench.sampler.latest(0), { quality: 'ok' });
  t.match(bench.sampler.latest(1), { value: 1000, quality: 'ok' });
  bench.clock.nowMs += 10_000;
  t.match(bench.sampler.latest(1), { value: null, quality: 'stale' });
});

t.test('indexes and tripwires are those of the whole list, though a gone channel stands behind', async (t) => {
  const second = channel('hwmon/other/temp1');
  const wire = (index: number): Tripwire => ({ channel: index, raise: 2, clear: 1, samples: 1 });
  const bench = new Bench([cpu], [wire(0), wire(1), wire(3)]);
  const list = [...bench.channels, second];
  t.equal(list.length, 4);
  const sampler = bench.make(list);
  t.same(
    bench.base.channels.map(({ id }) => id),
    [CPU, second.id],
  );
  t.same(
    bench.base.tripwires.map((each) => each.channel),
    [0, 1],
    'a derived channel has none',
  );
  bench.run(1, () => ({ [second.id]: 7, [CPU]: 1 }));
  t.match(bench.last(second.id), { value: 7 });
  t.match(sampler.latest(3), { value: 7, quality: 'ok' });
  t.match(sampler.latest(0), { value: 1, quality: 'ok' });
});

t.test('a derived channel whose base is gone says no_data', async (t) => {
  const bench = new Bench([cpu]);
  bench.make(bench.channels.filter(isDerived));
  bench.run(2);
  t.match(bench.last(`${CPU}_slope`), { value: null, quality: 'no_data' });
});

t.test('a new discovery does not blind what was seen', async (t) => {
  const bench = new Bench([cpu]);
  bench.run(8, (s) => ({ [CPU]: 40_000 + 1000 * s }));
  bench.make(withDerived([channel('hwmon/new/temp1'), cpu]), bench.sampler);
  bench.run(1.1, (s) => ({ [CPU]: 48_000 + 1000 * s }));
  t.match(bench.last(`${CPU}_slope`), { value: 1000, quality: 'ok' });
});

t.test('each GPU’s deviation is from the median of all, and a hung one blinds no other', async (t) => {
  const gpus = [0, 1, 2, 3].map((n) => gpu(n, 'temperature'));
  const bench = new Bench(gpus);
  const all = (last: number | Quality) =>
    Object.fromEntries(gpus.map(({ id }, n) => [id, n === 3 ? last : 60_000 + n * 1000]));
  bench.run(1, () => all(80_000));
  const imbalances = () => gpus.map(({ id }) => bench.last(`${id}_imbalance`));
  t.match(
    imbalances().map((each) => each?.value),
    [-1500, -500, 500, 18_500],
  );
  bench.run(1, () => all('hung'));
  t.match(imbalances(), [{ value: -1000 }, { value: 0 }, { value: 1000 }, { value: null, quality: 'hung' }]);
  bench.run(1, () => ({ ...all('hung'), [gpus[0]?.id ?? '']: 'no_data' }));
  t.match(imbalances()[1], { value: null, quality: 'hung' }, 'two have no median to deviate from');
});

t.test('power and shares come out of the sampler in canonical units', async (t) => {
  const energy = channel('hwmon/i915/energy1', { quantity: 'energyMilliJoules', rateHz: 1 });
  const flags = gpu(0, 'throttle_reasons', { quantity: 'flagsBitmask' });
  const counter = channel('thermal_throttle/package-0/throttle_total_time', { quantity: 'durationMs', rateHz: 0.1 });
  const bench = new Bench([energy, flags, counter]);
  bench.run(40, (s) => ({
    [energy.id]: Math.round(1e12 + s * 123_000),
    [flags.id]: s < 20 ? 1 : 0x20,
    [counter.id]: s * 500,
  }));
  t.match(bench.last(`${energy.id}_power`), { value: 123_000, quality: 'ok' });
  const share = bench.last(`${flags.id}_share`)?.value ?? 0;
  t.ok(Math.abs(share - 500_000) < 20_000, String(share));
  t.match(bench.last(`${counter.id}_share`), { value: 500_000, quality: 'ok' });
});

t.test('a fan stands still only if it turned, and its duty or the heat of a CPU asks for it', async (t) => {
  const FAN = 'hwmon/nct/fan2';
  const fan = channel(FAN, { quantity: 'fanRpm', class: 'board', rateHz: 1 });
  const duty = channel('hwmon/nct/pwm2', { quantity: 'ratioPartsPerMillion', class: 'board', rateHz: 1 });
  const stopped = (bench: Bench) => bench.last(`${FAN}_stopped`);
  const none = { value: null, quality: 'no_data' };
  const bench = new Bench([fan, duty, cpu]);
  bench.run(3, () => ({ [FAN]: 0, [duty.id]: 900_000, [CPU]: 90_000 }));
  t.match(stopped(bench), none, 'an empty header');
  bench.run(2, () => ({ [FAN]: 900, [duty.id]: 500_000 }));
  t.match(stopped(bench), { value: 0 });
  bench.run(2, () => ({ [FAN]: 0, [duty.id]: 100_000, [CPU]: 90_000 }));
  t.match(stopped(bench), { value: 0 }, 'its control lets it stand, and knows better than we');
  bench.run(2, () => ({ [FAN]: 0, [duty.id]: 500_000 }));
  t.match(stopped(bench), { value: 1 });
  bench.run(2, () => ({ [FAN]: 0, [duty.id]: 'fault' }));
  t.match(stopped(bench), none, 'nobody knows whether it should turn');
  bench.run(2, () => ({ [FAN]: 'fault', [duty.id]: 500_000 }));
  t.match(stopped(bench), { value: null, quality: 'fault' });
  const { sampler } = bench;
  bench.make(withDerived([fan, duty, cpu]), sampler);
  bench.run(2, () => ({ [FAN]: 0, [duty.id]: 500_000 }));
  t.match(stopped(bench), { value: 1 }, 'a new discovery forgets nothing');
  const simple = new Bench([fan, cpu]);
  simple.run(2, () => ({ [FAN]: 900, [CPU]: 90_000 }));
  simple.run(2, () => ({ [FAN]: 0, [CPU]: 50_000 }));
  t.match(stopped(simple), { value: 0 }, 'cool');
  simple.run(2, () => ({ [FAN]: 0, [CPU]: 75_000 }));
  t.match(stopped(simple), { value: 1 });
  t.notOk(
    ids([fan]).some((id) => id.endsWith('_stopped')),
    'without a witness there is no verdict',
  );
  t.notOk(ids([gpu(0, 'fan_rpm', { quantity: 'fanRpm' }), cpu]).some((id) => id.endsWith('_stopped')));
  t.ok(
    ids([gpu(0, 'fan_rpm', { quantity: 'fanRpm' }), gpu(0, 'fan', { quantity: 'ratioPartsPerMillion' })]).includes(
      'nvml/gpu-0/fan_rpm_stopped',
    ),
  );
});

t.test('a GPU is blind by the time that it was not read, if it was under load', async (t) => {
  const probe = { kind: 'gpu', address: '0000:3b:00.0', index: 0 } as const;
  const temperature = gpu(0, 'temperature', { probe });
  const load = gpu(0, 'utilization', { quantity: 'ratioPartsPerMillion', probe, rateHz: 1 });
  const BLIND = 'nvml/gpu-0/temperature_blind';
  t.same(derivationsOf([temperature, load]).find(({ channel: { id } }) => id === BLIND)?.channel.probe, {
    kind: 'pushed',
    feed: 'derived',
    address: '0000:3b:00.0',
  });
  const after = (ppm: number, quality: Quality | undefined) => {
    const bench = new Bench([temperature, load]);
    bench.run(3, () => ({ [temperature.id]: 60_000, [load.id]: ppm }));
    t.match(bench.last(BLIND), { value: 0, quality: 'ok' });
    bench.run(20, () => (quality === undefined ? {} : { [temperature.id]: quality, [load.id]: quality }));
    return { bench, last: bench.last(BLIND) };
  };
  for (const quality of ['hung', 'fault', undefined] as const) {
    const { last, bench } = after(800_000, quality);
    t.ok((last?.value ?? 0) >= 19_000 && (last?.value ?? 0) <= 20_500, `${quality}: ${last?.value}`);
    bench.run(2, () => ({ [temperature.id]: 61_000 }));
    t.match(bench.last(BLIND), { value: 0 });
  }
  t.match(after(20_000, 'hung').last, { value: 0, quality: 'ok' }, 'it was at rest');
  t.match(after(800_000, 'no_data').last, { value: null, quality: 'no_data' }, 'detached, or gone');
  const never = new Bench([temperature, load]);
  never.run(5, () => ({ [temperature.id]: 'hung', [load.id]: 'hung' }));
  t.match(never.last(BLIND), { value: null, quality: 'no_data' });
});
