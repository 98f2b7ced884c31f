import fc from 'fast-check';
import t from 'tap';
import type { ActuatableFacts } from '../../src/config/allow-input.js';
import { checkAcross } from '../../src/config/check.js';
import { compileAllowList } from '../../src/config/compile.js';
import type { Config } from '../../src/config/schema.js';
import type { Channel } from '../../src/core/channel.js';
import { type ReadAllowList, readAllowList } from '../fixtures/allow-list.js';
import { configOf, cpuTemperature } from '../fixtures/antibodies.js';

const FACTS: ActuatableFacts = {
  cpufreqPolicies: ['devices/system/cpu/cpufreq/policy0', 'devices/system/cpu/cpufreq/policy1'],
  pstate: false,
  raplZones: ['class/powercap/intel-rapl:0'],
  energyZones: [],
  gpus: [],
  fans: [],
  cgroup: { cpu: { version: 2, directory: '' }, freezer: { version: 2, directory: '' } },
};
const NOTHING: ActuatableFacts = {
  cpufreqPolicies: [],
  pstate: false,
  raplZones: [],
  energyZones: [],
  gpus: [],
  fans: [],
  cgroup: { cpu: null, freezer: null },
};

interface Given {
  readonly config?: Config;
  readonly channels?: readonly Channel[];
  readonly facts?: ActuatableFacts;
  readonly sysfsRoot?: string;
}

function compiled({
  config = configOf(),
  channels = [cpuTemperature()],
  facts = FACTS,
  sysfsRoot = '/sys',
}: Given = {}): ReadAllowList {
  return readAllowList(compileAllowList({ config, channels, facts, sysfsRoot, controllerUid: 123 }));
}

t.test('names the controller and every CPU limit with its floor', async (t) => {
  const { controllers, targets, orders } = compiled();
  t.same(controllers, [123]);
  t.same(
    [...targets].map(([id, { kind, path, floorPpm }]) => [id, kind, path, floorPpm]),
    [
      ['cpufreq/policy0', 'cpufreq', 'devices/system/cpu/cpufreq/policy0', 200_000],
      ['cpufreq/policy1', 'cpufreq', 'devices/system/cpu/cpufreq/policy1', 200_000],
      ['rapl/intel-rapl:0', 'rapl', 'class/powercap/intel-rapl:0', 300_000],
    ],
  );
  t.same(orders, [], 'no standing order while the node only observes');
});

t.test('uses intel_pstate only where there are no policies', async (t) => {
  t.notOk(compiled({ facts: { ...FACTS, pstate: true } }).targets.has('intel_pstate/max_perf'));
  const { targets } = compiled({ facts: { ...NOTHING, pstate: true } });
  t.match(targets.get('intel_pstate/max_perf'), {
    kind: 'pstate',
    path: 'devices/system/cpu/intel_pstate',
    floorPpm: 200_000,
  });
});

t.test('an armed node has a standing order at the emergency bound of each CPU sensor', async (t) => {
  const { orders } = compiled({ config: configOf({ mode: 'auto' }) });
  t.match(orders, [
    {
      name: 'thermal:hwmon/coretemp/temp1',
      fields: {
        sensor: 'class/hwmon/hwmon0/temp1_input',
        raise: '95000',
        clear: '90000',
        samples: '2',
        rate_mhz: '10000',
        cap_ppm: '500000',
      },
      targets: ['cpufreq/policy0', 'cpufreq/policy1', 'rapl/intel-rapl:0'],
    },
  ]);
});

t.test('the order follows the limit that the device states, and the thresholds that the operator writes', async (t) => {
  const channels = [cpuTemperature({ limits: { critical: 105_000 } })];
  const stated = compiled({ config: configOf({ mode: 'auto' }), channels });
  t.match(stated.orders[0]?.fields, { raise: '102000', clear: '97000' });
  const written = configOf({
    mode: 'auto',
    thermal: { thresholds: { warning: 60, critical: 70, emergency: 80 }, hysteresis: 2 },
  });
  t.match(compiled({ config: written, channels }).orders[0]?.fields, { raise: '80000', clear: '78000' });
});

t.test('a limit that no CPU means does not count', async (t) => {
  for (const critical of [0, -128_000, 127_875_000, 65_535_000]) {
    const { orders } = compiled({
      config: configOf({ mode: 'auto' }),
      channels: [cpuTemperature({ limits: { critical } })],
    });
    t.match(orders[0]?.fields, { raise: '95000' }, `${critical}`);
  }
});

t.test('carries over scale, offset and fault file of the sensor', async (t) => {
  const probe = {
    kind: 'integer',
    path: '/sys/class/hwmon/hwmon0/temp1_input',
    multiplier: 0.5,
    offset: -1500,
    faultPath: '/sys/class/hwmon/hwmon0/temp1_fault',
  } as const;
  const { orders } = compiled({ config: configOf({ mode: 'auto' }), channels: [cpuTemperature({ probe })] });
  t.match(orders[0]?.fields, { multiplier: '0.5', offset: '-1500', fault: 'class/hwmon/hwmon0/temp1_fault' });
});

t.test('orders nothing of what the actuator cannot sample, and says so', async (t) => {
  const config = configOf({ mode: 'auto' });
  for (const [what, channel] of [
    ['outside sysfs', cpuTemperature({ probe: { kind: 'integer', path: '/proc/temp' } })],
    ['another root with the same beginning', cpuTemperature({ probe: { kind: 'integer', path: '/system/temp' } })],
    ['a blank in its path', cpuTemperature({ probe: { kind: 'integer', path: '/sys/a b' } })],
    ['a way out of the root', cpuTemperature({ probe: { kind: 'integer', path: '/sys/../etc/passwd' } })],
  ] as const) {
    const { orders, comments } = compiled({ config, channels: [channel] });
    t.same(orders, [], what);
    t.ok(
      comments.some((line) => line.includes('left out: order thermal:')),
      what,
    );
  }
  const field = cpuTemperature({ probe: { kind: 'field', path: '/sys/x', key: '', column: 0 } });
  t.same(compiled({ config, channels: [field] }).orders, []);
});

t.test('orders nothing for what is no CPU temperature', async (t) => {
  const config = configOf({ mode: 'auto' });
  const channels = [
    cpuTemperature({ class: 'gpu' }),
    cpuTemperature({ thermalDefault: false }),
    cpuTemperature({ quantity: 'fanRpm' }),
  ];
  t.same(compiled({ config, channels }).orders, []);
});

t.test('a machine without any limit gets no order, and the list says so', async (t) => {
  const { orders, targets, comments } = compiled({ config: configOf({ mode: 'auto' }), facts: NOTHING });
  t.same([orders.length, targets.size], [0, 0]);
  t.ok(comments.some((line) => line.includes('no CPU limit')));
});

t.test('lists quota and freezer of each cgroup target, where the machine has the controller', async (t) => {
  const config = configOf({ targets: { demo: { cgroup: '/a//b/' } } });
  t.match(compiled({ config }).targets.get('quota/demo'), { kind: 'quota', path: 'a/b', floorPpm: 10_000 });
  t.match(compiled({ config }).targets.get('freeze/demo'), { kind: 'freeze', path: 'a/b', floorPpm: 0 });
  const hybrid = {
    ...FACTS,
    cgroup: { cpu: { version: 1, directory: 'cpu' }, freezer: { version: 2, directory: 'unified' } },
  } as const;
  t.match(compiled({ config, facts: hybrid }).targets.get('quota/demo'), { path: 'cpu/a/b' });
  t.match(compiled({ config, facts: hybrid }).targets.get('freeze/demo'), { path: 'unified/a/b' });
  const none = compiled({ config, facts: NOTHING });
  t.notOk(none.targets.has('quota/demo'));
  t.ok(none.comments.some((line) => line.includes('quota/demo')));
});

t.test(
  'lists units by their names: quota, freeze and jobs, one freeze for each, and nothing that cannot be started',
  async (t) => {
    const config = configOf({
      targets: { db: { unit: 'db.service' }, lab: { unit: 'lab.slice' }, batch: { unit: 'batch.service' } },
      workloads: { train: { unit: 'batch.service', essential: false }, serve: { unit: 'serve.service' } },
      hooks: { drain: { unit: 'drain.service' } },
      repairs: { timeout: 90 },
    });
    const { targets, jobs, comments } = compiled({ config, facts: NOTHING });
    t.same(
      [...targets].map(([id, { kind, path, floorPpm }]) => `${id} ${kind} ${path} ${floorPpm}`),
      [
        'quota/db unit_quota db.service 10000',
        'freeze/db unit_freeze db.service 0',
        'quota/lab unit_quota lab.slice 10000',
        'freeze/lab unit_freeze lab.slice 0',
        'quota/batch unit_quota batch.service 10000',
        'freeze/workload.train unit_freeze batch.service 0',
      ],
    );
    t.ok(
      comments.some((line) =>
        line.includes('freeze/batch: batch.service is a workload that freeze/workload.train freezes'),
      ),
    );
    const verbs = (id: string) => ['start', 'stop', 'restart'].map((verb) => `${id}/${verb}`);
    t.same(
      [...jobs.keys()],
      ['hook/drain', ...['unit/db', 'unit/batch', 'workload/train', 'workload/serve'].flatMap(verbs)],
    );
    t.same(jobs.get('unit/db/stop'), { verb: 'stop', unit: 'db.service', timeoutMs: 90_000 });
  },
);

t.test("compiles the operator's standing rules, with their own bounds and cap", async (t) => {
  const rule = {
    name: 'vrm',
    channel: 'hwmon/*/temp?',
    raise: 80,
    standing: true,
    actions: ['throttle_30', 'throttle_40'],
    for: { samples: 3 },
  };
  const channels = [cpuTemperature({ thermalDefault: false, class: 'board' })];
  t.same(compiled({ config: configOf({ rules: [rule] }), channels }).orders, [], 'not while the node observes');
  const own = compiled({ config: configOf({ rules: [{ ...rule, mode: 'auto' }] }), channels });
  t.match(own.orders, [
    {
      name: 'vrm:hwmon/coretemp/temp1',
      fields: { raise: '80000', clear: '75000', samples: '3', cap_ppm: '600000' },
    },
  ]);
  const observed = configOf({ mode: 'auto', rules: [{ ...rule, mode: 'observe' }] });
  t.same(compiled({ config: observed, channels }).orders, [], 'its own mode wins');
});

t.test('says which standing rule finds nothing to watch', async (t) => {
  const rule = { name: 'gone', channel: 'x/y/z', raise: 80, standing: true, actions: ['throttle_30'], mode: 'auto' };
  t.ok(compiled({ config: configOf({ rules: [rule] }) }).comments.some((line) => line.includes('rule gone')));
});

t.test('splits an order whose cap is below the floor of a target', async (t) => {
  const rule = { name: 'hard', channel: '**', raise: 80, standing: true, actions: ['throttle_75'], mode: 'auto' };
  const { orders } = compiled({ config: configOf({ rules: [rule] }) });
  t.match(
    orders.map(({ fields, targets }) => [fields.cap_ppm, targets.length]),
    [
      ['250000', 2],
      ['300000', 1],
    ],
  );
});

t.test('keeps within the limits of the format on the largest machines, packages first', async (t) => {
  const cpufreqPolicies = Array.from({ length: 700 }, (_, i) => `devices/system/cpu/cpufreq/policy${i}`);
  const cores = Array.from({ length: 128 }, (_, i) =>
    cpuTemperature({ id: `hwmon/coretemp/temp${i + 2}`, name: `temp${i + 2}`, label: `Core ${i}` }),
  );
  const { targets, orders, comments } = compiled({
    config: configOf({ mode: 'auto' }),
    channels: [...cores, cpuTemperature()],
    facts: { ...FACTS, cpufreqPolicies },
  });
  t.equal(targets.size, 512);
  t.equal(orders.length, 64);
  t.match(orders[0]?.name, /^thermal:hwmon\/coretemp\/temp1$/);
  t.ok(comments.some((line) => line.includes('policy699')));
});

t.test('lists the energy counters whose average may be told, within the bounds of the format', async (t) => {
  const zone = (i: number) => ({
    zone: `intel-rapl:${i}`,
    path: `class/powercap/intel-rapl:${i}`,
    maxMicroJoules: 262_143_328_850,
  });
  const one = compiled({ facts: { ...NOTHING, energyZones: [zone(0)] } });
  t.same(
    [...one.energies],
    [['rapl/intel-rapl:0', { path: 'class/powercap/intel-rapl:0', maxMicroJoules: 262_143_328_850 }]],
  );
  const many = compiled({ facts: { ...NOTHING, energyZones: Array.from({ length: 70 }, (_, i) => zone(i)) } });
  t.equal(many.energies.size, 64);
  t.ok(many.comments.some((line) => line.includes('energy intel-rapl:69')));
});

t.test('shortens a long channel id so that it stays unique', async (t) => {
  const long = (last: string) => cpuTemperature({ id: `hwmon/${'x'.repeat(60)}/${last}` });
  const { orders } = compiled({ config: configOf({ mode: 'auto' }), channels: [long('temp1'), long('temp2')] });
  t.equal(new Set(orders.map(({ name }) => name)).size, 2);
});

t.test('the same machine and config make the same text', async (t) => {
  const input = {
    config: configOf({ mode: 'auto' }),
    channels: [cpuTemperature()],
    facts: FACTS,
    sysfsRoot: '/sys/',
    controllerUid: 0,
  };
  t.equal(compileAllowList(input), compileAllowList(input));
  readAllowList(compileAllowList(input));
});

// ---- GPUs ----------------------------------------------------------------------------------------------------------

const GPU = '0000:3b:00.0';
const WITH_GPU: ActuatableFacts = { ...NOTHING, gpus: [{ address: GPU, kind: 'nvml_power' }] };

function gpuChannel(given: Partial<Channel> = {}): Channel {
  return cpuTemperature({
    id: 'nvml/gpu-5e9/temperature',
    name: 'temperature',
    label: 'GPU',
    class: 'gpu',
    probe: { kind: 'gpu', address: GPU, index: 3 },
    ...given,
  });
}

t.test('an armed node has an order for each temperature of a GPU, by the limits that it states', async (t) => {
  const channels = [
    gpuChannel({ limits: { critical: 89_000 } }),
    gpuChannel({ id: 'nvml/gpu-5e9/temperature_memory', name: 'temperature_memory', limits: { critical: 95_000 } }),
    gpuChannel({ id: 'nvml/gpu-5e9/margin', name: 'margin' }),
    gpuChannel({ id: 'nvml/other/temperature', probe: { kind: 'gpu', address: '0000:86:00.0', index: 0 } }),
  ];
  const { orders, comments } = compiled({ config: configOf({ mode: 'auto' }), channels, facts: WITH_GPU });
  t.match(orders, [
    {
      name: `thermal:gpu/${GPU}/temperature`,
      fields: { gpu: GPU, channel: 'temperature', raise: '86000', clear: '81000', samples: '2', cap_ppm: '500000' },
    },
    { fields: { channel: 'temperature_memory', raise: '92000' } },
  ]);
  for (const { targets } of orders) t.same(targets, [`gpu/${GPU}`, `gpu-clocks/${GPU}`], 'with what stands in for it');
  t.equal(orders.length, 2, 'a GPU that nothing can cap has none');
  t.notOk(comments.some((line) => /left out|limits/.test(line)));
  t.same(compiled({ channels, facts: WITH_GPU }).orders, [], 'none while the node observes');
  t.same(compiled({ config: configOf({ mode: 'auto', gpu: { mode: 'off' } }), channels, facts: WITH_GPU }).orders, []);
});

t.test(
  'a GPU that could not be asked gets the bound of the table under the same name, and the list says so',
  async (t) => {
    const of = (config: Config, channels: readonly Channel[] = []) => compiled({ config, channels, facts: WITH_GPU });
    const { orders, comments } = of(configOf({ mode: 'auto' }));
    t.match(orders, [{ name: `thermal:gpu/${GPU}/temperature`, fields: { raise: '95000', clear: '90000' } }]);
    t.ok(comments.some((line) => line.startsWith(`# ${GPU}: its limits were not known`)));
    const written = configOf({ mode: 'auto', thermal: { thresholds: { warning: 60, critical: 70, emergency: 80 } } });
    t.match(of(written).orders, [{ fields: { raise: '80000' } }]);
    t.notOk(
      of(written).comments.some((line) => line.includes('limits')),
      'bounds of the operator need none',
    );
  },
);

t.test('a standing rule of the operator on a GPU caps that GPU and no CPU', async (t) => {
  const rule = { name: 'hbm', channel: 'nvml/*/temperature*', raise: 80, standing: true, actions: ['throttle_30'] };
  const config = configOf({ mode: 'auto', rules: [rule] });
  const { orders } = compiled({ config, channels: [gpuChannel()], facts: { ...FACTS, gpus: WITH_GPU.gpus } });
  t.match(orders, [
    { name: `hbm:gpu/${GPU}/temperature`, fields: { raise: '80000', cap_ppm: '700000' } },
    { name: `thermal:gpu/${GPU}/temperature` },
  ]);
  for (const { targets } of orders) t.same(targets, [`gpu/${GPU}`, `gpu-clocks/${GPU}`]);
  const amd = compiled({
    config,
    channels: [gpuChannel()],
    facts: { ...FACTS, gpus: [{ address: GPU, kind: 'amdgpu_power' }] },
  });
  t.same(
    amd.orders.map(({ targets }) => targets),
    [[`gpu/${GPU}`], [`gpu/${GPU}`, `gpu-level/${GPU}`]],
    'the lowest level is no cap of 30 %',
  );
  const nothing = compiled({ config, channels: [gpuChannel({ name: 'a~20b' })], facts: NOTHING });
  t.same(nothing.orders, []);
  t.ok(nothing.comments.some((line) => line.includes('no limit that could be moved')));
});

t.test('GPUs are not crowded out by the cores of large CPUs', async (t) => {
  const cores = Array.from({ length: 128 }, (_, i) => cpuTemperature({ id: `hwmon/x/temp${i}`, label: `Core ${i}` }));
  const gpus = Array.from({ length: 16 }, (_, i) => `0000:${(16 + i).toString(16)}:00.0`);
  const facts = { ...FACTS, gpus: gpus.map((address) => ({ address, kind: 'nvml_power' as const })) };
  const { orders } = compiled({ config: configOf({ mode: 'auto' }), channels: [...cores, cpuTemperature()], facts });
  t.equal(orders.length, 64);
  t.equal(orders.filter(({ fields }) => fields.gpu !== undefined).length, 16);
  t.match(orders[0]?.name, 'coretemp', 'packages first');
});

t.test('lists fans only where an action asks for them, and clocks beside each power limit', async (t) => {
  const facts = {
    ...WITH_GPU,
    gpus: [...WITH_GPU.gpus, { address: '0000:03:00.0', kind: 'amdgpu_power' as const }],
    fans: [{ name: 'nct6798/pwm1', path: 'devices/platform/nct6775.656/hwmon/*/pwm1' }],
  };
  const kinds = (config: Config) => [...compiled({ config, facts }).targets].map(([id, { kind }]) => `${id} ${kind}`);
  const gpus = [
    `gpu/${GPU} nvml_power`,
    'gpu/0000:03:00.0 amdgpu_power',
    `gpu-clocks/${GPU} nvml_clocks`,
    'gpu-level/0000:03:00.0 amdgpu_level',
  ];
  t.same(kinds(configOf()), gpus);
  const rules = [{ name: 'loud', class: 'cpu', raise: 80, actions: ['fans_full'] }];
  t.same(kinds(configOf({ rules })), [...gpus, 'fan/nct6798/pwm1 fan']);
  t.same(
    kinds(configOf({ thermal: { actions: { critical: ['throttle_50', 'fans_full'] } } })).at(-1),
    'fan/nct6798/pwm1 fan',
  );
  t.same(kinds(configOf({ gpu: { mode: 'off' } })), []);
});

// ---- Any configuration that the check lets pass --------------------------------------------------------------------

const word = fc.stringMatching(/^[a-z0-9][a-z0-9_-]{0,55}$/);
const action = fc.oneof(
  fc.integer({ min: 1, max: 99 }).map((n) => `throttle_${n}`),
  fc.constantFrom('alert_human', 'redistribute', 'throtle_1', 'freeze@a'),
);
const rule = fc.record(
  {
    name: word,
    channel: fc.constantFrom('**', 'hwmon/*/temp1', 'hwmon/**'),
    raise: fc.double({ min: -1e15, max: 1e15, noNaN: true }),
    clear: fc.double({ min: -1e15, max: 1e15, noNaN: true }),
    standing: fc.boolean(),
    actions: fc.array(action, { maxLength: 4 }),
    mode: fc.constantFrom('auto', 'observe'),
    for: fc.record({ samples: fc.integer({ min: 1, max: 1000 }) }),
  },
  { requiredKeys: ['name', 'channel', 'raise'] },
);
const target = fc.oneof(
  fc.record({ cgroup: fc.string({ minLength: 1, maxLength: 320 }) }),
  fc.record({ cgroup: fc.stringMatching(/^[a-z./ ]{1,12}$/) }),
  fc.record({ unit: fc.stringMatching(/^[a-z@.][a-z@.\\-]{0,3}\.(service|slice)$/) }),
);
const written = fc.record({
  mode: fc.constantFrom('auto', 'observe'),
  rules: fc.array(rule, { maxLength: 5 }),
  targets: fc.dictionary(word, target, { maxKeys: 5 }),
  workloads: fc.dictionary(
    fc.stringMatching(/^[a-z-]{1,3}[a-z]{0,50}$/),
    fc.record({ unit: fc.stringMatching(/^[a-c]\.(service|scope)$/), essential: fc.boolean() }),
    { maxKeys: 3 },
  ),
  sampling: fc.record({ rate_hz: fc.double({ min: 0.1, max: 1000, noNaN: true }) }),
});
const channel = fc
  .record({
    id: fc.stringMatching(/^hwmon\/[a-z0-9~_-]{1,64}\/temp\d{1,2}$/),
    path: fc.string({ maxLength: 40 }).map((rest) => `/sys/${rest}`),
    multiplier: fc.double({ noNaN: true, noDefaultInfinity: true }),
    critical: fc.integer(),
    quantity: fc.constantFrom('temperatureMilliCelsius', 'ratioPartsPerMillion', 'fanRpm'),
  })
  .map(({ id, path, multiplier, critical, quantity }) =>
    cpuTemperature({
      id,
      quantity: quantity as Channel['quantity'],
      limits: { critical },
      probe: { kind: 'integer', path, multiplier },
    }),
  );

/** undefined: the schema or the check across keys refuses it. */
function valid(each: Record<string, unknown>): Config | undefined {
  try {
    const config = configOf(each);
    return checkAcross(config, []).length > 0 ? undefined : config;
  } catch {
    return undefined;
  }
}

t.test('no configuration that passes the check makes an invalid line', async (t) => {
  const property = fc.property(
    written,
    fc.uniqueArray(channel, { maxLength: 4, selector: ({ id }) => id }),
    (each, channels) => {
      const config = valid(each);
      fc.pre(config !== undefined); // Some nineteen of twenty are refused, and do not count.
      compiled({ config, channels });
    },
  );
  t.doesNotThrow(() => fc.assert(property, { numRuns: 120 }));
});

t.test('names the only chip of a device without its number, two chips of one device with theirs', async (t) => {
  const at = (chip: string): Channel => ({
    ...cpuTemperature({
      probe: { kind: 'integer', path: `/sys/devices/platform/coretemp.0/hwmon/${chip}/temp1_input` },
    }),
    id: `hwmon/${chip}/temp1`,
  });
  const sensorOf = (channels: Channel[]) =>
    compiled({ config: configOf({ mode: 'auto' }), channels }).orders[0]?.fields;
  t.match(sensorOf([at('hwmon3')]), { sensor: 'devices/platform/coretemp.0/hwmon/*/temp1_input' });
  const two = sensorOf([at('hwmon3'), at('hwmon4')]);
  t.match(two, { sensor: 'devices/platform/coretemp.0/hwmon/hwmon3/temp1_input' });
});
