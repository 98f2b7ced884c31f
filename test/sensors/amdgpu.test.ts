/**
 * AMD GPUs, read by skos-gpu's own reader: captured cards against what is known of them, gpu_metrics of every revision against
 * the public headers, and made cards. What only a test in the reader's own process can see is in native/test/amdgpu_test.cc.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import {
  addAmdGpu,
  type DumpedChannel,
  type DumpedGpu,
  dumpCard,
  dumpMetrics,
  dumpSkipped,
  gpuMetrics13,
} from '../fixtures/amdgpu.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';

const DATA = findData();
const noData = DATA === undefined ? '../shared/data is not there' : false;
const skip = dumpSkipped || noData;

interface Stats {
  readonly active_power_states: Readonly<Record<string, { readonly Index: number }>>;
  readonly busy_percent: number;
  readonly clockspeed: { readonly gpu_clockspeed: number; readonly vram_clockspeed?: number };
  readonly fan: {
    readonly pwm_current?: number;
    readonly speed_current?: number;
    readonly speed_max?: number;
  };
  readonly performance_level?: string;
  readonly power: Readonly<Record<string, number>>;
  readonly temps: Readonly<Record<string, { readonly current: number; readonly crit: number | null }>>;
  readonly voltage: { readonly gpu: number; readonly sensors: Readonly<Record<string, number>> };
  readonly vram: { readonly total?: number; readonly used?: number };
}

interface Expected {
  readonly root: string;
  readonly cards: readonly string[];
  readonly stats: Stats;
  readonly link_info: Readonly<Record<string, string>>;
  readonly vbios: string;
  readonly driver: string;
  readonly pci: { readonly vendor_id: string; readonly model_id: string };
}

/**
 * Stats that are no sensor values but settings, ranges of settings, or that tool's own view: hysteresis that no driver sets,
 * whether a temperature is shown only, and pwm_max and pwm_min, which it works out from the range of the fan curve.
 */
const NO_SENSORS = new Set([
  'fan.control_enabled',
  'fan.pmfw_info',
  'fan.pwm_max',
  'fan.pwm_min',
  'fan.speed_min',
  'fan.temperature_range',
  'temps.*.crit_hyst',
  'temps.*.display_only',
  'temps.*.primary',
  'clockspeed.sensors',
]);

const TEMPERATURES: Readonly<Record<string, string>> = {
  edge: 'temperature',
  junction: 'temperature_hotspot',
  mem: 'temperature_memory',
};
const POWERS: Readonly<Record<string, string>> = {
  average: 'power',
  current: 'power_instant',
  cap_current: 'power_limit',
  cap_default: 'power_limit_default',
  cap_min: 'power_limit_min',
  cap_max: 'power_limit_max',
};
const GENERATIONS: Readonly<Record<string, number>> = { '8.0 GT/s PCIe': 3, '16.0 GT/s PCIe': 4 };

t.test('reads every value that is known of the captured cards', { skip }, async (t) => {
  const { devices } = json<{ devices: Record<string, Expected> }>('captures/expected.json');
  t.ok(Object.keys(devices).length >= 4);
  for (const [name, expected] of Object.entries(devices)) {
    await t.test(`reads ${name}`, async (t) => {
      const gpu = await dumpCard(extracted(t, expected.root), `class/drm/${expected.cards[0]}/device`);
      t.equal(gpu.serving, true);
      const checked = checkStats(t, gpu, expected.stats);
      t.same(
        [...statPaths(expected.stats)].filter((path) => !checked.has(path) && !NO_SENSORS.has(path)),
        [],
        'every stat is read or known to be no sensor',
      );
      checkRest(t, gpu, expected);
    });
  }
});

function checkStats(t: Test, gpu: DumpedGpu, stats: Stats): Set<string> {
  const checked = new Set<string>();
  const check = (path: string, channel: string, value: number | undefined) => {
    if (value === undefined) return;
    checked.add(path);
    t.equal(readingOf(gpu, channel), Math.round(value), `${path} is ${channel}`);
  };
  for (const [label, { current, crit }] of Object.entries(stats.temps)) {
    const channel = TEMPERATURES[label] ?? '';
    check('temps.*.current', channel, current * 1000);
    checked.add('temps.*.crit');
    t.equal(find(gpu, channel)?.limits.critical, crit === null ? undefined : crit * 1000, `critical of ${label}`);
    t.equal(find(gpu, channel)?.thermalDefault, true);
  }
  for (const [name, watts] of Object.entries(stats.power)) check(`power.${name}`, POWERS[name] ?? '', watts * 1000);
  for (const [name, { Index }] of Object.entries(stats.active_power_states)) {
    check(`active_power_states.${name}.Index`, `power_state_${name}`, Index);
  }
  check('busy_percent', 'utilization', stats.busy_percent * 10_000);
  // It cuts off what is below a megahertz.
  for (const [path, channel, megahertz] of [
    ['clockspeed.gpu_clockspeed', 'clock_graphics', stats.clockspeed.gpu_clockspeed],
    ['clockspeed.vram_clockspeed', 'clock_memory', stats.clockspeed.vram_clockspeed],
  ] as const) {
    if (megahertz === undefined) continue;
    checked.add(path);
    t.equal(Math.floor((readingOf(gpu, channel) ?? 0) / 1_000_000), megahertz, `${path} is ${channel}`);
  }
  const { pwm_current, speed_current, speed_max } = stats.fan;
  // pwm1_max is 255 in all of the trees.
  check('fan.pwm_current', 'fan', pwm_current === undefined ? undefined : (pwm_current * 1_000_000) / 255);
  check('fan.speed_current', 'fan_rpm', speed_current);
  checked.add('fan.speed_max');
  t.equal(find(gpu, 'fan_rpm')?.limits.max, speed_max);
  check('voltage.gpu', 'voltage', stats.voltage.gpu);
  check('voltage.sensors.northbridge', 'voltage_soc', stats.voltage.sensors.northbridge);
  check('vram.total', 'memory_total', stats.vram.total);
  check('vram.used', 'memory_used', stats.vram.used);
  checked.add('performance_level');
  t.equal(gpu.device.performance_level, stats.performance_level);
  return checked;
}

function checkRest(t: Test, gpu: DumpedGpu, { link_info, vbios, driver, pci }: Expected): void {
  t.equal(gpu.device.vbios, vbios);
  t.equal(gpu.device.driver, driver);
  t.equal(gpu.device.pci_id, `${pci.vendor_id}:${pci.model_id}`);
  const links = { current_speed: 'pcie_generation', max_speed: 'pcie_generation_max' } as const;
  for (const [key, channel] of Object.entries(links)) {
    const speed = link_info[key];
    if (speed !== undefined) t.equal(readingOf(gpu, channel), GENERATIONS[speed], key);
  }
  const widths = { current_width: 'pcie_width', max_width: 'pcie_width_max' } as const;
  for (const [key, channel] of Object.entries(widths)) {
    const width = link_info[key];
    if (width !== undefined) t.equal(readingOf(gpu, channel), Number(width), key);
  }
}

/** "temps.*.crit": every leaf of the stats, temperatures alike; lists and empty objects are leaves. */
function* statPaths(value: unknown, path = ''): Generator<string> {
  const isBranch = typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isBranch || path === 'fan.pmfw_info') {
    yield path;
    return;
  }
  for (const [key, inner] of Object.entries(value)) {
    yield* statPaths(inner, path === '' ? key : `${path}.${path === 'temps' ? '*' : key}`);
  }
}

t.test('decodes every field of every revision of gpu_metrics', { skip }, async (t) => {
  const expected = json<Record<string, { size: number; decoded: Record<string, unknown> }>>(
    'gpu_metrics_synthetic/expected.json',
  );
  t.equal(Object.keys(expected).length, 15);
  for (const [name, { size, decoded }] of Object.entries(expected)) {
    const metrics = await dumpMetrics(blobPath(name));
    t.equal(metrics.verdict, 'known', name);
    t.match(metrics.revision, new RegExp(`^${name.slice('gpu_metrics_v'.length).replace('_', '\\.')}, ${size} bytes$`));
    t.same(metrics.fields, decoded, `${name}, field for field`);
  }
});

t.test(
  'takes blobs that are padded to a page, and none that is cut, of another size or too long',
  { skip },
  async (t) => {
    const file = join(t.testdir(), 'gpu_metrics');
    const verdictOf = async (blob: Buffer) => {
      writeFileSync(file, blob);
      return dumpMetrics(file);
    };
    for (const name of Object.keys(json<Record<string, unknown>>('gpu_metrics_synthetic/expected.json'))) {
      const blob = readFileSync(blobPath(name));
      const { fields } = await verdictOf(blob);
      const padded = await verdictOf(Buffer.concat([blob, Buffer.alloc(4096 - blob.length)]));
      t.equal(padded.verdict, 'known');
      t.same(padded.fields, fields, `${name}: the same fields`);
      t.match(await verdictOf(blob.subarray(0, -1)), { verdict: 'truncated', fields: {}, channels: {} }, name);
      t.match(await verdictOf(Buffer.concat([blob, Buffer.alloc(4097 - blob.length)])), { verdict: 'unknown' }, name);
      const grown = Buffer.concat([blob, Buffer.alloc(8)]);
      grown.writeUInt16LE(grown.length, 0);
      t.match(await verdictOf(grown), { verdict: 'unknown', fields: {} }, `${name} of another size`);
      const ones = Buffer.concat([blob.subarray(0, 4), Buffer.alloc(blob.length - 4, 0xff)]);
      const absent = await verdictOf(ones);
      t.same(new Set(Object.values(absent.fields).flat()), new Set([null]), `${name}: all-ones is absent`);
      t.same(absent.channels, {});
    }
  },
);

t.test('reads a made card with all that amdgpu shows', { skip: dumpSkipped }, async (t) => {
  const machine = fakeMachine(t);
  const gpu = addAmdGpu(machine, {
    address: '0000:C3:00.0',
    metrics: gpuMetrics13(
      { temperature_hotspot: 77, temperature_vrgfx: 52, current_socclk: 1090 },
      { throttle: 1n << 36n },
    ),
    device: {
      'ras/umc_err_count': 'ue: 1\nce: 12\nde: 0',
      'ras/gpu_vram_bad_pages': '0x1 : 0x1000 : R\n0x2 : 0x1000 : P',
    },
  });
  const dumped = await dumpCard(machine.sysfs, gpu.path);
  t.match(dumped.device, {
    id: 'pci-0000:c3:00.0',
    source: 'amdgpu',
    vendor: 'amd',
    address: '0000:c3:00.0',
    unique_id: '9d7a3f1c2b4e5d60',
    gpu_metrics: 'revision 1.3, 120 bytes',
  });
  const values = Object.fromEntries(dumped.channels.map(({ name, value }) => [name, value]));
  t.match(values, {
    temperature: 45_000,
    // hwmon's, which the firmware's does not replace.
    temperature_hotspot: 50_000,
    temperature_vr_graphics: 52_000,
    power: 90_000,
    clock_soc: 1_090_000_000,
    clock_soc_max: 1_090_000_000,
    power_state_core: 1,
    throttle_reasons: 2 ** 36,
    ras_umc_uncorrected: 1,
    ras_umc_corrected: 12,
    ras_umc_deferred: 0,
    bad_pages: 2,
    xgmi_errors: 0,
    pcie_generation: 4,
    memory_total: 68_702_699_520,
    runtime_state: 0,
  });
  t.same([...new Set(dumped.channels.map(({ quality }) => quality))], ['ok']);
  t.equal(new Set(dumped.channels.map(({ name }) => name)).size, dumped.channels.length);
});

t.test('gives each channel the name, quantity and rate of the contract', { skip: dumpSkipped }, async (t) => {
  const contract = readFileSync(join(repository(), 'native/gpu/README.md'), 'utf8');
  const rows = [...contract.matchAll(/^\| (`.*?) \| (\w+)[^|]*\| (F|M|S)/gm)].flatMap(
    ([, names = '', quantity, rate]) =>
      [...names.matchAll(/`([a-z_0-9…]+)`/g)].map(([, name]) => ({ name, quantity, rate })),
  );
  t.ok(rows.length > 50);
  const machine = fakeMachine(t);
  const { path } = addAmdGpu(machine, { metrics: gpuMetrics13({ temperature_vrgfx: 52, current_socclk: 1 }) });
  const { channels } = await dumpCard(machine.sysfs, path);
  for (const { name, quantity, rate } of channels) {
    // Blocks of RAS are the chip's own: one row stands for all.
    const row = rows.find(
      (each) => each.name === name.replace(/^ras_(.*)_(corrected|uncorrected|deferred)$/, 'ras_umc_$2'),
    );
    t.equal(row?.quantity, quantity, `quantity of ${name}`);
    if (!/^(memory|gtt)/.test(name)) t.equal(row?.rate, rate[0]?.toUpperCase(), `rate of ${name}`);
  }
});

t.test('tells two cards apart by their address, whatever their numbers are', { skip: dumpSkipped }, async (t) => {
  const machine = fakeMachine(t);
  const first = addAmdGpu(machine, { address: '0000:43:00.0', card: 1 });
  const second = addAmdGpu(machine, { address: '0000:03:00.0', card: 0, hwmon: { temp2_input: 91_000 } });
  const ids: string[] = [];
  for (const { path } of [first, second]) ids.push((await dumpCard(machine.sysfs, path)).device.id ?? '');
  t.same(ids, ['pci-0000:43:00.0', 'pci-0000:03:00.0']);
  t.equal(readingOf(await dumpCard(machine.sysfs, second.path), 'temperature_hotspot'), 91_000);
});

t.test('shows of a suspended card nothing but that it sleeps', { skip: dumpSkipped }, async (t) => {
  const machine = fakeMachine(t);
  const gpu = addAmdGpu(machine);
  gpu.suspend();
  const { channels, device } = await dumpCard(machine.sysfs, gpu.path);
  t.match(channels, [{ name: 'runtime_state', value: 1 }]);
  t.equal(channels.length, 1);
  t.notOk('vbios' in device);
  gpu.resume();
  t.ok((await dumpCard(machine.sysfs, gpu.path)).channels.length > 30);
});

t.test('says why a card that has gone cannot be opened', { skip: dumpSkipped }, async (t) => {
  const machine = fakeMachine(t);
  const gpu = addAmdGpu(machine);
  gpu.disappear();
  t.same(await dumpCard(machine.sysfs, gpu.path), { why: 'class/drm/card0/device: no such device' });
});

function find({ channels }: DumpedGpu, name: string): DumpedChannel | undefined {
  return channels.find((each) => each.name === name);
}

function readingOf(gpu: DumpedGpu, name: string): number | undefined {
  return find(gpu, name)?.value;
}

function json<T>(path: string): T {
  return JSON.parse(readFileSync(join(DATA ?? '', path), 'utf8'));
}

function blobPath(name: string): string {
  return join(DATA ?? '', 'gpu_metrics_synthetic', `${name}.bin`);
}

function extracted(t: Test, archive: string): string {
  const root = t.testdir();
  execFileSync('tar', ['xzf', join(DATA ?? '', 'captures', archive), '-C', root]);
  return root;
}

/** Wherever the tests were compiled to. */
function repository(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}

function findData(): string | undefined {
  const data = join(repository(), '../shared/data');
  return existsSync(data) ? data : undefined;
}
