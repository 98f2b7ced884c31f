import { join } from 'node:path';
import t from 'tap';
import { actuatorFacts } from '../../src/actuators/facts.js';
import { FileTree } from '../../src/sensors/tree.js';

type Tap = typeof t;
type Content = Parameters<(typeof t)['testdir']>[0];

async function factsOf(t: Pick<Tap, 'testdir'>, { sys = {}, cgroup = {} }: { sys?: object; cgroup?: object }) {
  const directory = t.testdir({ sys, cgroup } as Content);
  return actuatorFacts({
    sysfs: new FileTree(join(directory, 'sys')),
    cgroup: new FileTree(join(directory, 'cgroup')),
  });
}

function cpus(cpu: object): object {
  return { devices: { system: { cpu } } };
}

t.test('a machine that lets itself be limited by nothing', async (t) => {
  t.same(await factsOf(t, {}), {
    cpufreqPolicies: [],
    pstate: false,
    raplZones: [],
    gpus: [],
    fans: [],
    energyZones: [],
    cgroup: { cpu: null, freezer: null },
  });
});

t.test('policies in natural order; those without a limit are none', async (t) => {
  const policy = () => ({ scaling_max_freq: '1' });
  const sys = cpus({
    cpufreq: { policy10: policy(), policy2: policy(), policy0: policy(), policy3: {}, boost: '1', ondemand: {} },
  });
  t.same((await factsOf(t, { sys })).cpufreqPolicies, [
    'devices/system/cpu/cpufreq/policy0',
    'devices/system/cpu/cpufreq/policy2',
    'devices/system/cpu/cpufreq/policy10',
  ]);
});

t.test('intel_pstate counts only where there are no policies', async (t) => {
  const intel_pstate = { status: 'active', max_perf_pct: '100' };
  t.equal((await factsOf(t, { sys: cpus({ intel_pstate }) })).pstate, true);
  const both = cpus({ intel_pstate, cpufreq: { policy0: { scaling_max_freq: '1' } } });
  t.equal((await factsOf(t, { sys: both })).pstate, false);
  t.equal((await factsOf(t, { sys: cpus({ intel_pstate: { status: 'off' } }) })).pstate, false);
});

t.test('RAPL packages with a limit; no children, platform, second views, or zones that only count', async (t) => {
  const zone = (name: string) => ({ name, constraint_0_power_limit_uw: '1' });
  const powercap = {
    'intel-rapl:0': zone('package-0'),
    'intel-rapl:1': zone('package-1'),
    'intel-rapl:0:0': zone('core'),
    'intel-rapl:2': zone('psys'),
    'intel-rapl-mmio:0': zone('package-0'),
    'intel-rapl:3': { name: 'package-3' },
    'intel-rapl:4': { constraint_0_power_limit_uw: '1' },
  };
  t.same((await factsOf(t, { sys: { class: { powercap } } })).raplZones, [
    'class/powercap/intel-rapl:0',
    'class/powercap/intel-rapl:1',
  ]);
});

t.test('every zone that counts energy, with the range of its counter', async (t) => {
  const zone = (name: string) => ({ name, energy_uj: '5', max_energy_range_uj: '262143328850' });
  const powercap = {
    'intel-rapl:0': zone('package-0'),
    'intel-rapl:0:0': zone('dram'),
    'intel-rapl-mmio:0': zone('package-0'),
  };
  t.match((await factsOf(t, { sys: { class: { powercap } } })).energyZones, [
    { zone: 'intel-rapl:0', path: 'class/powercap/intel-rapl:0', maxMicroJoules: 262_143_328_850 },
    { zone: 'intel-rapl:0:0' },
  ]);
});

t.test('cgroup version 2, version 1, and both beside each other', async (t) => {
  for (const [what, cgroup, expected] of [
    [
      'v2',
      { 'cgroup.controllers': 'cpuset cpu io memory\n' },
      { cpu: { version: 2, directory: '' }, freezer: { version: 2, directory: '' } },
    ],
    ['v2 without cpu', { 'cgroup.controllers': 'cpuset\n' }, { cpu: null, freezer: { version: 2, directory: '' } }],
    [
      'v1',
      { cpu: { 'cpu.shares': '1024' }, freezer: { 'cgroup.procs': '' } },
      { cpu: { version: 1, directory: 'cpu' }, freezer: { version: 1, directory: 'freezer' } },
    ],
    [
      'hybrid',
      { 'cpu,cpuacct': { 'cpu.shares': '1024' }, unified: { 'cgroup.controllers': '' } },
      { cpu: { version: 1, directory: 'cpu,cpuacct' }, freezer: { version: 2, directory: 'unified' } },
    ],
  ] as const) {
    t.same((await factsOf(t, { cgroup })).cgroup, expected, what);
  }
});

t.test('fans whose mode can be read, by a name that stays; none of a GPU or of a chip that only tells', async (t) => {
  const chip = (name: string, more: object) => ({ name, pwm1: '120', ...more });
  const device = (hwmon: object) => ({ hwmon });
  const sys = {
    devices: {
      platform: {
        'nct6775.656': device({
          hwmon4: chip('nct6798', { pwm1_enable: '5', pwm2: '80', pwm2_enable: '1', pwm3: '1' }),
        }),
        two: device({ hwmon5: chip('a b', { pwm1_enable: '2' }), hwmon6: chip('other', { pwm1_enable: 'x' }) }),
      },
      pci: { gpu: device({ hwmon7: chip('amdgpu', { pwm1_enable: '2' }) }) },
    },
    class: { hwmon: {} as Record<string, unknown> },
  };
  for (const [name, at] of Object.entries({
    hwmon4: 'platform/nct6775.656',
    hwmon5: 'platform/two',
    hwmon6: 'platform/two',
    hwmon7: 'pci/gpu',
  })) {
    sys.class.hwmon[name] = t.fixture('symlink', `../../devices/${at}/hwmon/${name}`);
    const place = at.split('/');
    const parent = (sys.devices as Record<string, Record<string, { hwmon: Record<string, object> }>>)[place[0] ?? ''];
    const found = parent?.[place[1] ?? '']?.hwmon;
    if (found !== undefined) found[name] = { ...found[name], device: t.fixture('symlink', '../..') };
  }
  t.same((await factsOf(t, { sys })).fans, [
    { name: 'nct6798-nct6775-656/pwm1', path: 'devices/platform/nct6775.656/hwmon/*/pwm1' },
    { name: 'nct6798-nct6775-656/pwm2', path: 'devices/platform/nct6775.656/hwmon/*/pwm2' },
    { name: 'a-b-two/pwm1', path: 'devices/platform/two/hwmon/hwmon5/pwm1' },
  ]);
});
