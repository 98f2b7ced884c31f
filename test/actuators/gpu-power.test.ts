/** What sets GPUs: skos-actuator and `skos-gpu --setters`, the real programs, over amdgpu's files and a scripted NVML. */
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { asked, startActuator } from '../fixtures/actuator.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';
import { type Setters, startedSetters } from '../fixtures/gpu-setters.js';
import { answerToNobody } from '../fixtures/nobody.js';
import { skipped } from '../fixtures/skos-gpu.js';
import { until } from '../fixtures/until.js';

t.jobs = 2;

const AMD = '0000:03:00.0';
const NVIDIA = '0000:3b:00.0';
const CAP = `bus/pci/devices/${AMD}/hwmon/hwmon4/power1_cap`;
const TARGETS = [
  `target gpu/${AMD} amdgpu_power ${AMD} floor_ppm=300000`,
  `target gpu/${NVIDIA} nvml_power ${NVIDIA} floor_ppm=300000`,
];
const HOUR_MS = 600_000;

function machineWithGpus(t: Test): FakeMachine {
  const machine = fakeMachine(t);
  machine.set(CAP, 220_000_000);
  machine.set(`${CAP}_min`, 100_000_000);
  machine.set(`${CAP}_max`, 250_000_000);
  writeFileSync(join(machine.root, 'nvml'), `driver 570.86.15\ngpu 0 pci ${NVIDIA}\ngpu 0 preset h100\n`);
  return machine;
}

function startSetters(t: Test, machine: FakeMachine): Promise<Setters> {
  return startedSetters(t, {
    sysfs: machine.sysfs,
    script: join(machine.root, 'nvml'),
    state: join(machine.root, 'set'),
  });
}

async function started(t: Test) {
  const machine = machineWithGpus(t);
  const setters = await startSetters(t, machine);
  const actuator = await startActuator(t, machine, { items: TARGETS, args: ['--setter', setters.socket] });
  const client = await actuator.client();
  const cap = (capPpm: number, gpu = AMD) =>
    client.set({ lease: `l${gpu}`, target: `gpu/${gpu}`, capPpm, ttlMs: HOUR_MS });
  return { machine, setters, actuator, client, cap };
}

t.test(
  'caps both vendors’ GPUs by a share of the former limit and gives exactly that back',
  { skip: skipped },
  async (t) => {
    const { machine, client, cap, setters } = await started(t);
    t.strictSame(setters.processes(), [], 'a GPU that nobody caps costs no process');
    t.match(await cap(900_000), { ok: true, outcome: 'applied', former: '220000000', readBack: '198000000' });
    t.equal(machine.get(CAP), '198000000');
    t.match(await cap(400_000), { ok: true, readBack: '100000000' }, 'no lower than its own minimum');
    t.match(await cap(500_000, NVIDIA), { ok: true, former: '700000000', written: '350000000', readBack: '350000000' });
    t.equal(setters.processes().length, 2, 'one each');
    t.match(await client.release(`l${AMD}`), { ok: true, outcome: 'released', readBack: '220000000' });
    t.equal(machine.get(CAP), '220000000');
    t.match(await client.release(`l${NVIDIA}`), { ok: true, readBack: '700000000' });
    await until(() => setters.processes().length === 0);
  },
);

t.test('a setter that is killed, with its listener or alone, costs a cap nothing', { skip: skipped }, async (t) => {
  const { machine, client, cap, setters } = await started(t);
  await cap(900_000);
  for (const pid of setters.processes()) process.kill(pid, 'SIGKILL');
  t.match(await cap(800_000), { ok: true, readBack: '176000000' }, 'asked again of another one');
  setters.listener()?.kill('SIGKILL');
  for (const pid of setters.processes()) process.kill(pid, 'SIGKILL');
  t.match(await client.release(`l${AMD}`), { outcome: 'undo_pending' }, 'not called released');
  t.equal(machine.get(CAP), '176000000');
  await setters.start();
  await until(() => machine.get(CAP) === '220000000');
});

t.test(
  'an actuator that was killed while a GPU was capped gives the limit back, started again',
  { skip: skipped },
  async (t) => {
    const machine = machineWithGpus(t);
    const setters = await startSetters(t, machine);
    const options = { items: TARGETS, args: ['--setter', setters.socket] };
    const first = await startActuator(t, machine, options);
    const client = await first.client();
    await client.set({ lease: 'a', target: `gpu/${AMD}`, capPpm: 400_000, ttlMs: HOUR_MS });
    first.process.kill('SIGKILL');
    await first.exited;
    await until(() => setters.processes().length === 0);
    t.equal(machine.get(CAP), '100000000', 'the cap stands');
    rmSync(first.socket);
    const second = await startActuator(t, machine, options);
    const next = await second.client();
    t.match(await next.leases(), [{ lease: 'a' }]);
    t.match(await next.release('a'), { ok: true, outcome: 'released', readBack: '220000000' });
    second.process.kill('SIGTERM');
    t.equal(await second.exited, 0);
  },
);

t.test('SIGTERM restores a GPU before it leaves', { skip: skipped }, async (t) => {
  const { machine, actuator, cap } = await started(t);
  await cap(500_000);
  actuator.process.kill('SIGTERM');
  t.equal(await actuator.exited, 0);
  t.equal(machine.get(CAP), '220000000');
});

t.test(
  'without a setter a GPU is pending, never capped, and nothing else waits for it',
  { skip: skipped },
  async (t) => {
    const machine = machineWithGpus(t);
    machine.addCpufreq({ policies: [[0]], maxKHz: 3_000_000, minKHz: 800_000 });
    const policy = 'devices/system/cpu/cpufreq/policy0';
    const items = [...TARGETS, `target cpufreq/policy0 cpufreq ${policy} floor_ppm=200000`];
    for (const args of [[], ['--setter', join(tmpdir(), 'skos-nobody.sock')]]) {
      const actuator = await startActuator(t, machine, { items, args });
      const client = await actuator.client();
      const lease = { lease: 'a', target: `gpu/${AMD}`, capPpm: 500_000, ttlMs: HOUR_MS };
      t.match(await client.set(lease), { ok: false, outcome: args.length === 0 ? 'failed' : 'pending' });
      t.match(await client.set({ ...lease, lease: 'b', target: 'cpufreq/policy0' }), { ok: true });
      t.match(await client.release('b'), { ok: true });
      t.equal(machine.get(CAP), '220000000');
      actuator.process.kill('SIGTERM');
      t.equal(await actuator.exited, 0);
    }
  },
);

t.test('the allow-list takes a PCI address for a GPU and nothing else', { skip: skipped }, async (t) => {
  for (const path of ['devices/x', '0000:3b:00', '0000:3b:00.8', '../3b:00.0', '0000:3B:00.0', '0000:3b:00.0/..']) {
    const items = [`target gpu/x nvml_power ${path} floor_ppm=300000`];
    const actuator = await startActuator(t, machineWithGpus(t), { items, refused: true });
    t.equal(await actuator.exited, 3, path);
    t.match(actuator.said(), /line 2/);
  }
});

t.test('a setter does what its contract says, and nothing for anything else', { skip: skipped }, async (t) => {
  const machine = machineWithGpus(t);
  const { socket } = await startSetters(t, machine);
  t.strictSame(await asked(socket, `open amdgpu ${AMD}`, 'get', 'set 150000000', 'get'), [
    'ok',
    'value 220000000 min 100000000 max 250000000',
    'ok',
    'value 150000000 min 100000000 max 250000000',
  ]);
  for (const first of ['', 'get', 'open', 'open amdgpu', `open amdgpu ../${AMD}`, 'x'.repeat(5_000)]) {
    if (first !== '') t.match((await asked(socket, first))[0], /^err 22$/, first.slice(0, 40));
  }
  t.match(await asked(socket, 'open amdgpu 0000:99:00.0'), ['err 19'], 'not there');
  for (const source of ['xe', '', 'nvml\0']) t.match(await asked(socket, `open ${source} ${AMD}`), ['err 95']);
  const garbage = ['set', 'set ', 'set -1', 'set 0', 'set 1e9', 'set 9999999999999999999', 'set 1 2', 'put 5', 'get 1'];
  t.strictSame(await asked(socket, `open amdgpu ${AMD}`, ...garbage), ['ok', ...garbage.map(() => 'err 22')]);
  t.equal(machine.get(CAP), '150000000');
});

t.test(
  'locks clocks where the power limit is not permitted, and unlocks them whoever asks',
  { skip: skipped },
  async (t) => {
    const machine = machineWithGpus(t);
    const setters = await startSetters(t, machine);
    const items = [...TARGETS, `target gpu-clocks/${NVIDIA} nvml_clocks ${NVIDIA} floor_ppm=300000`];
    const script = (...lines: readonly string[]) =>
      writeFileSync(
        join(machine.root, 'nvml'),
        ['driver 570.86.15', `gpu 0 pci ${NVIDIA}`, 'gpu 0 preset h100', 'gpu 0 clock.0 1755', ...lines, ''].join('\n'),
      );
    const locked = () =>
      /lock\.max/.test(existsSync(join(machine.root, 'set')) ? readFileSync(join(machine.root, 'set'), 'latin1') : '');
    script('gpu 0 set power_limit 4');
    const options = { items, args: ['--setter', setters.socket] };
    const first = await startActuator(t, machine, options);
    const client = await first.client();
    const ask = (target: string, capPpm = 500_000) => client.set({ lease: target, target, capPpm, ttlMs: HOUR_MS });
    t.match(await ask(`gpu/${NVIDIA}`), { ok: false, outcome: 'not_permitted' });
    await client.release(`gpu/${NVIDIA}`);
    const stateOf = async (id: string) => (await client.targets()).find(({ target }) => target === id)?.state;
    t.equal(await stateOf(`gpu/${NVIDIA}`), 'not_permitted', 'also when nobody asks any more');
    t.match(await ask(`gpu-clocks/${NVIDIA}`), { ok: true, former: '1980', written: '990', readBack: '990' });
    t.ok(locked());
    // Neither the setter nor the actuator lives to take it back.
    for (const pid of setters.processes()) process.kill(pid, 'SIGKILL');
    first.process.kill('SIGKILL');
    await first.exited;
    rmSync(first.socket);
    const second = await startActuator(t, machine, options);
    const next = await second.client();
    t.match(await next.release(`gpu-clocks/${NVIDIA}`), { ok: true, outcome: 'released' });
    t.notOk(locked());
    script('gpu 0 set locked_clocks ignored');
    const disobeyed = await next.set({ lease: 'a', target: `gpu-clocks/${NVIDIA}`, capPpm: 500_000, ttlMs: HOUR_MS });
    t.match(disobeyed, { ok: false, outcome: 'failed' }, 'a GPU that runs as fast as before is not capped');
    script();
    await next.release('a');
    await until(() => !locked());
    await next.reload();
    t.notOk(
      (await next.targets()).some(({ state }) => state === 'not_permitted'),
      'tried anew after a reload',
    );
  },
);

t.test(
  'forces the lowest level of amdgpu and gives back the one that was, or leaves it alone',
  { skip: skipped },
  async (t) => {
    const machine = machineWithGpus(t);
    const level = `bus/pci/devices/${AMD}/power_dpm_force_performance_level`;
    const setters = await startSetters(t, machine);
    const items = [`target gpu-level/${AMD} amdgpu_level ${AMD} floor_ppm=1`];
    const actuator = await startActuator(t, machine, { items, args: ['--setter', setters.socket] });
    const client = await actuator.client();
    const ask = (capPpm: number) => client.set({ lease: 'a', target: `gpu-level/${AMD}`, capPpm, ttlMs: HOUR_MS });
    t.match(await ask(500_000), { ok: false, outcome: 'not_permitted' }, 'a driver without levels');
    for (const former of ['auto', 'profile_peak', 'high']) {
      machine.set(level, former);
      t.match(await ask(500_000), { ok: true }, former);
      t.equal(machine.get(level), 'low');
      await client.release('a');
      await until(() => machine.get(level) === former);
    }
    for (const theirs of ['manual', 'perf_determinism', 'garbage']) {
      machine.set(level, theirs);
      t.match(await ask(500_000), { ok: false, outcome: 'not_permitted' }, theirs);
      await client.release('a');
      t.equal(machine.get(level), theirs, 'untouched');
    }
  },
);

t.test('nobody but root reaches a setter', { skip: skipped || process.getuid?.() !== 0 }, async (t) => {
  const machine = machineWithGpus(t);
  const { socket, processes } = await startSetters(t, machine);
  t.equal(statSync(socket).mode & 0o777, 0o600);
  t.equal(answerToNobody(socket, `open amdgpu ${AMD}`), '');
  t.strictSame(processes(), []);
});
