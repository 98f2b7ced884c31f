/** skos-actuator itself, the real program, over fake trees: leases, undo, orders, refusals, deaths. */
import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { packetConnector, type StartOptions, startActuator, writeAllowList } from '../fixtures/actuator.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';
import { until as untilSo } from '../fixtures/socket.js';
import { until } from '../fixtures/until.js';

const POLICY = 'devices/system/cpu/cpufreq/policy0';
const MAX = `${POLICY}/scaling_max_freq`;
const TEMP = 'class/thermal/thermal_zone0/temp';
const CPU = `target cpufreq/policy0 cpufreq ${POLICY} floor_ppm=200000`;
const ORDER = `order cpu sensor=${TEMP} raise=95000 clear=90000 samples=2 rate_mhz=100000 cap_ppm=500000 targets=cpufreq/policy0`;
const HOUR_MS = 600_000;

function node(t: Test): FakeMachine {
  const machine = fakeMachine(t);
  machine.addCpufreq({ policies: [[0, 1]], maxKHz: 3_000_000, minKHz: 800_000 });
  machine.addZone({ type: 'x86_pkg_temp', milliCelsius: 50_000 });
  return machine;
}

async function started(t: Test, machine: FakeMachine, items: readonly string[], options: Partial<StartOptions> = {}) {
  const actuator = await startActuator(t, machine, { items, ...options });
  return { actuator, client: await actuator.client() };
}

t.test('caps by a share of the former value and gives exactly that back', async (t) => {
  const machine = node(t);
  machine.set(MAX, 2_800_000);
  const { client } = await started(t, machine, [CPU]);
  const capped = await client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 500_000, ttlMs: HOUR_MS });
  t.match(capped, { ok: true, outcome: 'applied', former: '2800000', written: '1400000', readBack: '1400000' });
  t.equal(machine.get(MAX), '1400000');
  t.match(await client.release('a'), { ok: true, outcome: 'released', readBack: '2800000' });
  t.equal(machine.get(MAX), '2800000');
});

t.test('lets the strictest of several leases win, and ends at the original in any order of release', async (t) => {
  const orders = [
    ['a', 'b', 'c'],
    ['c', 'b', 'a'],
    ['b', 'c', 'a'],
  ];
  const machine = node(t);
  const { client } = await started(t, machine, [CPU]);
  const caps: Record<string, number> = { a: 900_000, b: 500_000, c: 700_000 };
  for (const order of orders) {
    for (const [lease, capPpm] of Object.entries(caps)) {
      await client.set({ lease, target: 'cpufreq/policy0', capPpm, ttlMs: HOUR_MS });
    }
    t.equal(machine.get(MAX), '1500000');
    const left = new Map(Object.entries(caps));
    for (const lease of order) {
      await client.release(lease);
      left.delete(lease);
      const strictest = Math.min(1_000_000, ...left.values());
      t.equal(machine.get(MAX), String((3_000_000 * strictest) / 1_000_000), `after ${order.join('')} until ${lease}`);
    }
  }
});

t.test('never goes below the device minimum, the floor of the list, or an unknown target', async (t) => {
  const machine = node(t);
  machine.set(`${POLICY}/cpuinfo_min_freq`, 2_000_000);
  const { client } = await started(t, machine, [CPU]);
  await client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 300_000, ttlMs: HOUR_MS });
  t.equal(machine.get(MAX), '2000000');
  const low = client.set({ lease: 'b', target: 'cpufreq/policy0', capPpm: 199_999, ttlMs: HOUR_MS });
  await t.rejects(low, { code: 'SKOS_ACTUATOR_DENIED' });
  const high = client.set({ lease: 'b', target: 'cpufreq/policy0', capPpm: 1_000_001, ttlMs: HOUR_MS });
  await t.rejects(high, { code: 'SKOS_ACTUATOR_DENIED' });
  const unknown = client.set({ lease: 'b', target: 'cpufreq/policy9', capPpm: 500_000, ttlMs: HOUR_MS });
  await t.rejects(unknown, { code: 'SKOS_ACTUATOR_DENIED' });
  t.strictSame(
    (await client.leases()).map(({ lease }) => lease),
    ['a'],
  );
});

t.test('limits and freezes cgroups of both versions and gives their own limits back', async (t) => {
  const machine = node(t);
  machine.setCgroup('two/cpu.max', '150000 100000');
  machine.setCgroup('two/cgroup.freeze', 0);
  machine.setCgroup('cpu/one/cpu.cfs_quota_us', -1);
  machine.setCgroup('cpu/one/cpu.cfs_period_us', 50_000);
  machine.setCgroup('freezer/one/freezer.state', 'THAWED');
  const items = [
    'target quota/two quota two floor_ppm=10000',
    'target freeze/two freeze two floor_ppm=0',
    'target quota/one quota cpu/one floor_ppm=10000',
    'target freeze/one freeze freezer/one floor_ppm=0',
  ];
  const { client } = await started(t, machine, items);
  for (const { target } of await client.targets()) {
    const capPpm = target.startsWith('freeze') ? 0 : 200_000;
    t.match(await client.set({ lease: target, target, capPpm, ttlMs: HOUR_MS }), { ok: true });
  }
  t.equal(machine.getCgroup('two/cpu.max'), '20000 100000');
  t.equal(machine.getCgroup('two/cgroup.freeze'), '1');
  t.equal(machine.getCgroup('cpu/one/cpu.cfs_quota_us'), '10000');
  t.equal(machine.getCgroup('freezer/one/freezer.state'), 'FROZEN');
  for (const { lease } of await client.leases()) await client.release(lease);
  t.equal(machine.getCgroup('two/cpu.max'), '150000 100000');
  t.equal(machine.getCgroup('two/cgroup.freeze'), '0');
  t.equal(machine.getCgroup('cpu/one/cpu.cfs_quota_us'), '-1');
  t.equal(machine.getCgroup('freezer/one/freezer.state'), 'THAWED');
});

t.test('never loosens a quota that is stricter already', async (t) => {
  const machine = node(t);
  machine.setCgroup('w/cpu.max', '5000 100000');
  const { client } = await started(t, machine, ['target quota/w quota w floor_ppm=10000']);
  await client.set({ lease: 'a', target: 'quota/w', capPpm: 400_000, ttlMs: HOUR_MS });
  t.equal(machine.getCgroup('w/cpu.max'), '5000 100000');
});

t.test('caps RAPL and intel_pstate by the same means', async (t) => {
  const machine = node(t);
  machine.set('devices/system/cpu/intel_pstate/max_perf_pct', 90);
  machine.set('devices/system/cpu/intel_pstate/min_perf_pct', 20);
  machine.set('class/powercap/intel-rapl:0/constraint_0_power_limit_uw', 125_000_000);
  const { client } = await started(t, machine, [
    'target intel_pstate/max_perf pstate devices/system/cpu/intel_pstate floor_ppm=200000',
    'target rapl/intel-rapl:0 rapl class/powercap/intel-rapl:0 floor_ppm=300000',
  ]);
  await client.set({ lease: 'a', target: 'intel_pstate/max_perf', capPpm: 500_000, ttlMs: HOUR_MS });
  await client.set({ lease: 'b', target: 'rapl/intel-rapl:0', capPpm: 500_000, ttlMs: HOUR_MS });
  t.equal(machine.get('devices/system/cpu/intel_pstate/max_perf_pct'), '45');
  t.equal(machine.get('class/powercap/intel-rapl:0/constraint_0_power_limit_uw'), '62500000');
});

t.test('leaves a value alone that another program wrote, and says foreign_change', async (t) => {
  const machine = node(t);
  const { client } = await started(t, machine, [CPU]);
  await client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 500_000, ttlMs: HOUR_MS });
  machine.set(MAX, 2_000_000);
  t.match(await client.release('a'), { ok: false, outcome: 'foreign_change', readBack: '2000000' });
  t.equal(machine.get(MAX), '2000000');
});

t.test('leaves a stricter value of another program alone also when the lease was asked for again', async (t) => {
  const machine = node(t);
  machine.setCgroup('w/cpu.max', '150000 100000');
  const { client } = await started(t, machine, [CPU, 'target quota/w quota w floor_ppm=10000']);
  const ask = (target: string) => client.set({ lease: target, target, capPpm: 500_000, ttlMs: HOUR_MS });
  for (const target of ['cpufreq/policy0', 'quota/w']) await ask(target);
  machine.set(MAX, 1_000_000);
  machine.setCgroup('w/cpu.max', '10000 100000');
  for (const target of ['cpufreq/policy0', 'quota/w']) {
    t.match(await ask(target), { ok: true, outcome: 'applied' });
    t.match(await client.release(target), { outcome: 'foreign_change' });
  }
  t.equal(machine.get(MAX), '1000000');
  t.equal(machine.getCgroup('w/cpu.max'), '10000 100000');
});

t.test('does not take the effective limit of the kernel for the operator’s', async (t) => {
  const machine = node(t);
  machine.addCoolingDevice({ type: 'Processor', current: 2, max: 10 });
  machine.set(MAX, 1_200_000);
  const { client } = await started(t, machine, [CPU]);
  const capped = await client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 500_000, ttlMs: HOUR_MS });
  t.match(capped, { former: '3000000', written: '1500000' }, 'the documented default stands in');
});

t.test('keeps a lease as pending while the CPU is offline, and caps it when it comes back', async (t) => {
  const machine = node(t);
  machine.remove(POLICY);
  const { client } = await started(t, machine, [CPU]);
  const capped = await client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 500_000, ttlMs: HOUR_MS });
  t.match(capped, { ok: false, outcome: 'pending' });
  machine.addCpufreq({ policies: [[0, 1]], maxKHz: 3_000_000, minKHz: 800_000 });
  await until(() => machine.get(MAX) === '1500000');
  machine.remove(POLICY);
  t.match(await client.release('a'), { ok: false, outcome: 'undo_pending' });
  machine.addCpufreq({ policies: [[0, 1]], maxKHz: 3_000_000, minKHz: 800_000 });
  machine.set(MAX, 1_500_000);
  await until(() => machine.get(MAX) === '3000000');
});

const OWN_CGROUP = [...readFileSync('/proc/self/cgroup', 'utf8').matchAll(/:\/(.+)$/gm)].at(0)?.[1];
t.test(
  'freezes no cgroup in which it runs itself, because nobody would thaw it',
  { skip: OWN_CGROUP === undefined && 'this process is in no cgroup but the root' },
  async (t) => {
    const machine = node(t);
    const [top = ''] = (OWN_CGROUP ?? '').split('/');
    const items = [OWN_CGROUP, top, `freezer/${top}`].map((path, i) => `target freeze/${i} freeze ${path} floor_ppm=0`);
    for (const item of items) machine.setCgroup(`${item.split(' ')[3]}/cgroup.freeze`, 0);
    machine.setCgroup(`${top}x/cgroup.freeze`, 0);
    const { client } = await started(t, machine, [...items, `target freeze/x freeze ${top}x floor_ppm=0`]);
    const freeze = (target: string) => client.set({ lease: target, target, capPpm: 0, ttlMs: HOUR_MS });
    for (const { target } of await client.targets()) {
      t.match(await freeze(target), { outcome: target === 'freeze/x' ? 'applied' : 'failed' }, target);
      t.match(await client.release(target), { outcome: 'released' }, target);
    }
  },
);

t.test('lets go of a cgroup that was removed under its lease, and of what stood in it', async (t) => {
  const machine = node(t);
  const make = () => {
    machine.setCgroup('job/cpu.max', 'max 100000');
    machine.setCgroup('job/cgroup.freeze', 0);
  };
  make();
  const items = ['target quota/job quota job floor_ppm=10000', 'target freeze/job freeze job floor_ppm=0'];
  const { actuator, client } = await started(t, machine, items);
  const cap = (target: string) =>
    client.set({ lease: target, target, capPpm: target === 'freeze/job' ? 0 : 200_000, ttlMs: HOUR_MS });
  for (const target of ['quota/job', 'freeze/job']) t.match(await cap(target), { outcome: 'applied' });
  rmSync(join(machine.cgroup, 'job'), { recursive: true });
  for (const target of ['quota/job', 'freeze/job'])
    t.match(await client.release(target), { ok: true, outcome: 'released' });
  make(); // The next job of this name.
  t.match(await cap('quota/job'), { outcome: 'applied', former: 'max_100000' });
  rmSync(join(machine.cgroup, 'job'), { recursive: true });
  actuator.process.kill('SIGTERM');
  t.equal(await actuator.exited, 0, 'nothing of ours stands anywhere');
});

t.test('ends an orphaned lease at once where no order watches its target', async (t) => {
  const machine = node(t);
  const { client } = await started(t, machine, [CPU]);
  await client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 500_000, ttlMs: 1_000 });
  t.equal(await client.renew(['a', 'unknown'], 1_000), 1);
  await until(() => machine.get(MAX) === '3000000');
  t.strictSame(await client.leases(), []);
});

t.test('keeps an orphaned freeze, and a quota, until no order of the node is hot', async (t) => {
  const machine = node(t);
  machine.setCgroup('batch/cgroup.freeze', 0);
  machine.setCgroup('batch/cpu.max', 'max 100000');
  const items = [CPU, 'target freeze freeze batch floor_ppm=0', 'target quota quota batch floor_ppm=10000', ORDER];
  const { client } = await started(t, machine, items);
  machine.set(TEMP, 92_000); // Never raised, and not clear.
  await untilSo('read', async () => (await client.orders())[0]?.value === 92_000, 10_000);
  await client.set({ lease: 'f', target: 'freeze', capPpm: 0, ttlMs: 1_000 });
  await client.set({ lease: 'q', target: 'quota', capPpm: 200_000, ttlMs: 1_000 });
  await untilSo('orphaned', async () => (await client.leases()).every(({ orphaned }) => orphaned), 10_000);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  t.equal(machine.getCgroup('batch/cgroup.freeze'), '1');
  t.equal(machine.getCgroup('batch/cpu.max'), '20000 100000');
  machine.set(TEMP, 50_000);
  await until(() => machine.getCgroup('batch/cgroup.freeze') === '0');
  await until(() => machine.getCgroup('batch/cpu.max') === 'max 100000');
});

t.test('keeps an orphaned lease until the sensor of its order is below the clear bound', async (t) => {
  const machine = node(t);
  machine.set(TEMP, 92_000);
  const { client } = await started(t, machine, [CPU, ORDER]);
  await client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 700_000, ttlMs: 1_000 });
  await until(() => false, 2_500).catch(() => undefined);
  t.match(await client.leases(), [{ lease: 'a', orphaned: true }]);
  t.equal(machine.get(MAX), '2100000', 'between clear and raise it stands');
  machine.set(TEMP, 89_000);
  await until(() => machine.get(MAX) === '3000000');
});

t.test('caps by standing order without any client, and releases at the clear bound', async (t) => {
  const machine = node(t);
  const { client } = await started(t, machine, [CPU, ORDER]);
  client.stop();
  machine.set(TEMP, 97_000);
  await until(() => machine.get(MAX) === '1500000');
  machine.set(TEMP, 92_000);
  await until(() => false, 300).catch(() => undefined);
  t.equal(machine.get(MAX), '1500000', 'hysteresis');
  machine.set(TEMP, 89_000);
  await until(() => machine.get(MAX) === '3000000');
});

t.test('takes a sensor that cannot be read for a hot one', async (t) => {
  const machine = node(t);
  const { actuator } = await started(t, machine, [CPU, ORDER]);
  for (const broken of ['gone', 'garbage'] as const) {
    if (broken === 'gone') machine.remove(TEMP);
    else machine.set(TEMP, 'hot');
    await until(() => machine.get(MAX) === '1500000');
    machine.set(TEMP, 50_000);
    await until(() => machine.get(MAX) === '3000000');
  }
  t.equal(actuator.process.exitCode, null);
});

t.test('finds the sensor of an order again under another hwmon number', async (t) => {
  const machine = node(t);
  const hwmon = 'devices/platform/coretemp.0/hwmon';
  const order = ORDER.replace(TEMP, `${hwmon}/*/temp1_input`);
  machine.set(`${hwmon}/hwmon3/temp1_input`, 50_000);
  const { client } = await started(t, machine, [CPU, order]);
  machine.remove(`${hwmon}/hwmon3`);
  await until(() => machine.get(MAX) === '1500000');
  machine.set(`${hwmon}/hwmon7/temp1_input`, 51_000);
  await until(() => machine.get(MAX) === '3000000');
  t.match(await client.orders(), [{ raised: false, quality: 'ok', value: 51_000 }]);
  machine.set(`${hwmon}/hwmon7/temp1_input`, 97_000);
  await until(() => machine.get(MAX) === '1500000');
});

t.test('restores everything when its unit stops it', async (t) => {
  const machine = node(t);
  const { actuator, client } = await started(t, machine, [CPU, ORDER]);
  await client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 500_000, ttlMs: HOUR_MS });
  machine.set(TEMP, 97_000);
  actuator.process.kill('SIGTERM');
  t.equal(await actuator.exited, 0);
  t.equal(machine.get(MAX), '3000000');
});

t.test('caps nothing anew on the way out, whoever asks', async (t) => {
  const machine = fakeMachine(t);
  machine.addCpufreq({ policies: [[0], [1]], maxKHz: 3_000_000, minKHz: 800_000 });
  machine.addZone({ type: 'x86_pkg_temp', milliCelsius: 50_000 });
  const other = POLICY.replace('policy0', 'policy1');
  const { actuator, client } = await started(t, machine, [CPU, CPU.replaceAll('policy0', 'policy1'), ORDER]);
  for (const target of ['cpufreq/policy0', 'cpufreq/policy1']) {
    await client.set({ lease: target, target, capPpm: 500_000, ttlMs: HOUR_MS });
  }
  machine.remove(other);
  actuator.process.kill('SIGTERM');
  await until(() => machine.get(MAX) === '3000000');
  machine.set(TEMP, 97_000);
  actuator.process.kill('SIGHUP');
  const again = client.set({ lease: 'again', target: 'cpufreq/policy0', capPpm: 500_000, ttlMs: HOUR_MS });
  await t.rejects(again, { code: 'SKOS_ACTUATOR_ABSENT' });
  await until(() => false, 500).catch(() => undefined);
  machine.set(`${other}/cpuinfo_max_freq`, 3_000_000);
  machine.set(`${other}/scaling_max_freq`, 1_500_000);
  t.equal(await actuator.exited, 0);
  t.equal(machine.get(MAX), '3000000');
  t.equal(machine.get(`${other}/scaling_max_freq`), '3000000');
});

t.test('says by its exit status and its state file whether everything was given back', async (t) => {
  const machine = node(t);
  // The byte that the uninstaller looks at before it removes the file.
  const isRestored = () => (readFileSync(join(machine.root, 'state', 'actuator.state'))[7] ?? 0) >= 128;
  const first = await started(t, machine, [CPU]);
  await first.client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 500_000, ttlMs: HOUR_MS });
  machine.remove(POLICY);
  first.actuator.process.kill('SIGTERM');
  t.equal(await first.actuator.exited, 6);
  t.match(first.actuator.said(), /not given back in time: cpufreq\/policy0; start it again/, 'for the journal');
  t.notOk(isRestored());
  machine.addCpufreq({ policies: [[0, 1]], maxKHz: 3_000_000, minKHz: 800_000 });
  machine.set(MAX, 1_500_000);
  const second = await started(t, machine, [CPU]);
  second.actuator.process.kill('SIGTERM');
  t.equal(await second.actuator.exited, 0);
  t.ok(isRestored());
  t.equal(machine.get(MAX), '3000000');
});

t.test('goes on with leases, undo values and events after it was killed', async (t) => {
  const machine = node(t);
  const first = await started(t, machine, [CPU, ORDER]);
  await first.client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 600_000, ttlMs: HOUR_MS });
  const events = await first.client.events(0);
  first.actuator.process.kill('SIGKILL');
  await first.actuator.exited;
  t.equal(machine.get(MAX), '1800000', 'the cap stands meanwhile');
  unlinkSync(first.actuator.socket);
  const second = await started(t, machine, [CPU, ORDER]);
  t.match(await second.client.leases(), [{ lease: 'a', capPpm: 600_000, orphaned: false }]);
  t.ok((await second.client.events(0)).length > events.length);
  // The cap might have been the order's: it counts as raised until its sensor has been cool for its samples.
  while ((await second.client.orders()).some(({ raised }) => raised)) await new Promise((r) => setTimeout(r, 10));
  t.match(await second.client.release('a'), { outcome: 'released', former: '3000000', readBack: '3000000' });
});

t.test('undoes what an earlier actuator left in a target that is no longer listed', async (t) => {
  const machine = node(t);
  const first = await started(t, machine, [CPU]);
  await first.client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 600_000, ttlMs: HOUR_MS });
  first.actuator.process.kill('SIGKILL');
  await first.actuator.exited;
  unlinkSync(first.actuator.socket);
  await started(t, machine, []);
  await until(() => machine.get(MAX) === '3000000');
});

t.test('holds an order’s cap over its own death as long as it is hot', async (t) => {
  const machine = node(t);
  const first = await started(t, machine, [CPU, ORDER]);
  machine.set(TEMP, 97_000);
  await until(() => machine.get(MAX) === '1500000');
  first.actuator.process.kill('SIGKILL');
  await first.actuator.exited;
  unlinkSync(first.actuator.socket);
  machine.set(TEMP, 92_000);
  await started(t, machine, [CPU, ORDER]);
  await until(() => false, 400).catch(() => undefined);
  t.equal(machine.get(MAX), '1500000', 'not released between the bounds');
  machine.set(TEMP, 80_000);
  await until(() => machine.get(MAX) === '3000000');
});

t.test('reads its allow-list again on request, keeps the old one when the new one is bad', async (t) => {
  const machine = node(t);
  const { client } = await started(t, machine, [CPU]);
  await client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 600_000, ttlMs: HOUR_MS });
  writeAllowList(machine, ['target nonsense']);
  await t.rejects(client.reload(), { code: 'SKOS_ACTUATOR_ALLOW' });
  t.match(await client.targets(), [{ target: 'cpufreq/policy0', state: 'held' }]);
  writeAllowList(machine, [CPU, ORDER]);
  await client.reload();
  t.match(await client.orders(), [{ order: 'cpu', raised: false }]);
  machine.set(TEMP, 97_000);
  await until(() => machine.get(MAX) === '1500000');
  writeAllowList(machine, [CPU, ORDER.replace('samples=2', 'samples=3')]);
  await client.reload();
  t.equal(machine.get(MAX), '1500000', 'a raised order stays raised over a reload');
  machine.set(TEMP, 60_000);
  await until(() => machine.get(MAX) === '1800000');
  writeAllowList(machine, []);
  await client.reload();
  await until(() => machine.get(MAX) === '3000000');
});

t.test('as a child leaves when the agent is gone and the last lease is over, not before', async (t) => {
  const machine = node(t);
  const { actuator, client } = await started(t, machine, [CPU], { args: ['--child'] });
  await client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 500_000, ttlMs: 1_500 });
  client.stop();
  await until(() => false, 700).catch(() => undefined);
  t.equal(actuator.process.exitCode, null);
  t.equal(machine.get(MAX), '1500000');
  t.equal(await actuator.exited, 0);
  t.equal(machine.get(MAX), '3000000');
});

t.test('outlives whoever read its standard error', async (t) => {
  const machine = node(t);
  const { actuator, client } = await started(t, machine, [CPU], { args: ['--child'] });
  await client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 500_000, ttlMs: HOUR_MS });
  actuator.process.stderr?.destroy();
  writeAllowList(machine, ['target nonsense']);
  for (let i = 0; i < 3; i++) {
    actuator.process.kill('SIGHUP');
    await until(() => false, 100).catch(() => undefined);
  }
  t.match(await client.release('a'), { outcome: 'released' });
  t.equal(machine.get(MAX), '3000000');
});

t.test('lets nobody who knocks keep it busy, and lets the next controller in', async (t) => {
  const machine = node(t);
  const { actuator, client } = await started(t, machine, [CPU]);
  const connect = packetConnector();
  const busyMs = () => {
    const words = readFileSync(`/proc/${actuator.process.pid}/stat`, 'utf8').split(' ');
    return 10 * (Number(words[13]) + Number(words[14]));
  };
  const before = busyMs();
  const end = performance.now() + 1_000;
  let knocks = 0;
  while (performance.now() < end) {
    try {
      connect(actuator.socket, () => undefined).close();
      knocks++;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
  t.ok(knocks > 100, String(knocks));
  t.ok(busyMs() - before < 200, `${busyMs() - before} ms of one second`);
  client.stop();
  await until(() => false, 200).catch(() => undefined);
  t.match(await (await actuator.client()).targets(), [{ target: 'cpufreq/policy0' }]);
});

t.test('serves one client and one instance at a time', async (t) => {
  const machine = node(t);
  const { actuator } = await started(t, machine, [CPU]);
  await t.rejects(actuator.client(), { code: /SKOS_ACTUATOR_(BUSY|ABSENT)/ });
  const other = await startActuator(t, machine, { items: [CPU], refused: true });
  t.equal(await other.exited, 4);
});

t.test('refuses an allow-list that others may write, a link, a cut file, and every malformed line', async (t) => {
  const machine = node(t);
  const refused = async (prepare: (file: string) => void) => {
    const file = writeAllowList(machine, [CPU]);
    const actuator = await startActuator(t, machine, { items: [CPU], refused: true, args: [] });
    actuator.process.kill('SIGKILL');
    await actuator.exited;
    prepare(file);
    const { spawnSync } = await import('node:child_process');
    const state = join(machine.root, 'state');
    mkdirSync(state, { recursive: true });
    const args = ['--allow', file, '--socket', '/tmp/skos-refused.sock', '--state', state, '--sysfs', machine.sysfs];
    const run = spawnSync(join(process.cwd(), 'build/native/skos-actuator'), args, { timeout: 5_000 });
    chmodSync(file, 0o644);
    return run.status;
  };
  t.equal(await refused((file) => chmodSync(file, 0o666)), 3, 'world-writable');
  t.equal(await refused((file) => chmodSync(file, 0o664)), 3, 'group-writable');
  const bad = [
    'skos-allow 2\nend 0\n',
    'skos-allow 1\nend 1\n',
    'skos-allow 1\nend 0',
    'skos-allow 1\n',
    '',
    'skos-allow 1\nend 0\nmore\n',
    `skos-allow 1\n${CPU}\n${CPU}\nend 2\n`,
    'skos-allow 1\ntarget a cpufreq ../../etc floor_ppm=1\nend 1\n',
    'skos-allow 1\ntarget a cpufreq /etc floor_ppm=1\nend 1\n',
    'skos-allow 1\ntarget a bogus x floor_ppm=1\nend 1\n',
    'skos-allow 1\ntarget a cpufreq x  floor_ppm=1\nend 1\n',
    'skos-allow 1\ntarget a cpufreq x floor_ppm=0\nend 1\n',
    'skos-allow 1\ntarget A cpufreq x floor_ppm=1\nend 1\n',
    `skos-allow 1\n${ORDER}\nend 1\n`,
    `skos-allow 1\n${CPU}\n${ORDER.replace('clear=90000', 'clear=95000')}\nend 2\n`,
    `skos-allow 1\n${CPU}\n${ORDER.replace('cap_ppm=500000', 'cap_ppm=100000')}\nend 2\n`,
    'skos-allow 1\ncontroller -1\nend 1\n',
  ];
  for (const text of bad) t.equal(await refused((file) => writeFileSync(file, text)), 3, JSON.stringify(text));
  const link = await refused((file) => {
    // To a file of the test: what is done to the link's mode afterwards is done to its target.
    const target = `${file}.target`;
    writeFileSync(target, readFileSync(file));
    chmodSync(target, 0o644);
    unlinkSync(file);
    symlinkSync(target, file);
  });
  t.equal(link, 3, 'a symbolic link');
});

t.test('answers garbage with a refusal and stays up', async (t) => {
  const machine = node(t);
  const { actuator, client } = await started(t, machine, [CPU]);
  client.stop();
  const replies: string[] = [];
  const socket = packetConnector()(actuator.socket, (packet) => packet !== null && replies.push(packet));
  const long = 'x'.repeat(8_000);
  const garbage = [
    '',
    ' ',
    '1',
    '-1 hello 1',
    '1 hello 2',
    '1  hello 1',
    '1 set',
    '1 set a b c d',
    `1 set ${long} b 1 1`,
    '1 set a cpufreq/policy0 500000 999',
    '1 renew x',
    '1 events -1',
    '1 targets x',
    '99999999999999999999 hello 1',
    '1 release A',
    long,
  ];
  for (const text of garbage) if (text !== '') socket.send(text);
  socket.send('7 hello 1');
  await until(() => replies.some((reply) => reply.startsWith('7 ok')));
  t.ok(
    replies.slice(0, -1).every((reply) => / err /.test(reply)),
    replies.join(' | '),
  );
  socket.close();
  t.equal(actuator.process.exitCode, null);
});

t.test('tells average powers, never the counter, and goes on over a reload', async (t) => {
  const machine = fakeMachine(t);
  const zone = 'class/powercap/intel-rapl:0';
  machine.set(`${zone}/energy_uj`, 262_143_300_000);
  const line = `energy rapl/intel-rapl:0 ${zone} max_uj=262143328850`;
  const items = [line, 'energy rapl/gone class/powercap/gone max_uj=5'];
  const { actuator, client } = await started(t, machine, items);
  const powers = async () => new Map((await client.powers()).map((power) => [power.id, power]));
  t.match((await powers()).get('rapl/intel-rapl:0'), { quality: 'no_data', milliWatts: null });
  machine.set(`${zone}/energy_uj`, 219_971_150); // It has gone round: 220 J later, a reading and a second lie between.
  let power = (await powers()).get('rapl/intel-rapl:0');
  const seen = new Set<number>();
  for (const endMs = Date.now() + 5_000; power?.quality !== 'ok' && Date.now() < endMs; ) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    power = (await powers()).get('rapl/intel-rapl:0');
    if (power?.milliWatts != null) seen.add(power.milliWatts);
  }
  t.match(power, { quality: 'ok' });
  t.ok((power?.milliWatts ?? 0) <= 220_000, `${power?.milliWatts} mW`);
  t.equal(seen.size, 1, 'asked often it says the same');
  writeAllowList(machine, [line]);
  await client.reload();
  const after = await powers();
  t.match(after.get('rapl/intel-rapl:0'), { quality: 'ok' });
  t.equal(after.has('rapl/gone'), false);
  t.same(await client.leases(), []);
  t.equal(actuator.process.exitCode, null);
});
