/** skos-gpu as its clients see it: the contract of native/gpu/README.md, against the real program. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  FIRST,
  type GpuMachine,
  gpuMachine,
  isAlive,
  PROGRAM,
  SECOND,
  skipped,
  TWO_GPUS,
} from '../fixtures/skos-gpu.js';
import { until } from '../fixtures/until.js';

const skip = skipped;
// Each waits for time to pass rather than for the processor.
t.jobs = 4;
const PERIOD_MS = 100;
/** The clock of the regions. */
const nowMs = () => Number(process.hrtime.bigint()) / 1e6;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Serving, both of them, with a client that has their regions. */
async function served(machine: GpuMachine) {
  const client = await machine.client();
  await client.untilState(FIRST, 'serving');
  await client.untilState(SECOND, 'serving');
  return client;
}

/** An amdgpu as captured trees show it. */
function putCard(machine: GpuMachine, card: string, slot: string): void {
  const device = `class/drm/${card}/device`;
  machine.put(`${device}/uevent`, `DRIVER=amdgpu\nPCI_SLOT_NAME=${slot}`);
  machine.put(`${device}/vendor`, '0x1002');
  machine.put(`${device}/hwmon/hwmon4/name`, 'amdgpu');
  machine.put(`${device}/hwmon/hwmon4/temp1_label`, 'edge');
  machine.put(`${device}/hwmon/hwmon4/temp1_input`, '55000');
}

t.test('serves each GPU with its identity, channels, readings and details', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  const client = await served(machine);
  const [region] = client.regionsOf(FIRST);
  t.match(region?.device, { source: 'nvml', vendor: 'nvidia', address: FIRST, driver: '570.86.15' });
  t.ok((region?.channels.length ?? 0) >= 25, `${region?.channels.length} channels`);
  t.ok(region?.channels.some(({ name, thermalDefault }) => name === 'temperature' && thermalDefault));
  await until(() => client.of(FIRST, 'temperature').length > 5 && client.of(SECOND, 'power').length > 5);
  t.match(client.of(FIRST, 'temperature')[0], { quality: 'ok', value: 45_000 });
  // Who comes early is told first that it was not asked yet.
  const library = client.packets.filter(({ type }) => type === 'library').at(-1);
  t.match(library, { state: 'ok', version: /570\.86\.15/ });
  await until(() => client.packets.some(({ type, address }) => type === 'details' && address === FIRST));
  const late = await machine.client();
  t.ok(
    late.packets.some(({ type, address }) => type === 'details' && address === FIRST),
    'who comes late hears the details too',
  );
});

t.test(
  'a stopped worker is hung within a second, its neighbour keeps its rate, and it comes back',
  { skip },
  async (t) => {
    const machine = await gpuMachine(t);
    const client = await served(machine);
    const pid = machine.worker(FIRST);
    const stoppedAtMs = nowMs();
    process.kill(pid, 'SIGSTOP');
    await client.untilState(FIRST, 'hung');
    t.ok(nowMs() - stoppedAtMs < 1_000, `after ${Math.round(nowMs() - stoppedAtMs)} ms`);
    await until(() => client.of(FIRST, 'temperature').at(-1)?.quality === 'hung');
    t.equal(client.of(FIRST, 'energy').at(-1)?.quality, 'hung', 'channels of a low rate too');
    await sleep(700);
    t.strictSame(machine.workers(FIRST), [pid], 'no second worker beside it');
    t.ok(client.of(SECOND, 'temperature').length > 5);
    const gapMs = client.longestGapMs(SECOND, 'temperature', stoppedAtMs - PERIOD_MS);
    t.ok(gapMs > 0 && gapMs <= 2 * PERIOD_MS, `longest gap of the other: ${gapMs.toFixed(1)} ms`);
    process.kill(pid, 'SIGCONT');
    await client.untilState(FIRST, 'serving');
    await until(() => client.of(FIRST, 'temperature').at(-1)?.quality === 'ok');
    t.equal(client.regionsOf(FIRST).length, 1, 'the region is the same one');
  },
);

t.test('a call that hangs makes its GPU hung and no other, until it returns', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  const client = await served(machine);
  const hungAtMs = nowMs();
  machine.script([...TWO_GPUS, 'gpu 0 hang nvmlDeviceGetPowerUsage']);
  await client.untilState(FIRST, 'hung');
  await until(() => client.of(FIRST, 'temperature').at(-1)?.quality === 'hung');
  t.equal(client.of(FIRST, 'power_limit').at(-1)?.quality, 'hung', 'at once, although it is read each ten seconds');
  await sleep(500);
  const gapMs = client.longestGapMs(SECOND, 'temperature', hungAtMs - PERIOD_MS);
  t.ok(gapMs > 0 && gapMs <= 2 * PERIOD_MS, `longest gap of the other: ${gapMs.toFixed(1)} ms`);
  t.equal(client.state(SECOND), 'serving');
  machine.script(TWO_GPUS);
  await client.untilState(FIRST, 'serving');
  await until(() => client.of(FIRST, 'temperature').at(-1)?.quality === 'ok');
});

t.test('readings go on while the supervisor is stopped', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  const client = await served(machine);
  const stoppedAtMs = nowMs();
  machine.program?.kill('SIGSTOP');
  await sleep(800);
  const gapMs = client.longestGapMs(FIRST, 'temperature', stoppedAtMs - PERIOD_MS);
  t.ok(gapMs > 0 && gapMs <= 2 * PERIOD_MS, `longest gap: ${gapMs.toFixed(1)} ms`);
  t.ok(client.of(FIRST, 'temperature').every(({ quality }) => quality === 'ok'));
  machine.program?.kill('SIGCONT');
  t.match(await client.ask('hello 1'), { ok: true });
  t.equal(client.state(FIRST), 'serving');
});

t.test('attach starts a second worker beside one that hangs, at most three times', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  const client = await served(machine);
  const left: number[] = [];
  for (let i = 0; i < 3; i += 1) {
    left.push(machine.worker(FIRST));
    process.kill(left.at(-1) ?? 0, 'SIGSTOP');
    await client.untilState(FIRST, 'hung');
    t.match(await client.ask(`attach ${FIRST}`), { ok: true });
    await client.untilState(FIRST, 'serving');
  }
  t.equal(client.regionsOf(FIRST).length, 4);
  left.push(machine.worker(FIRST));
  process.kill(left.at(-1) ?? 0, 'SIGSTOP');
  await client.untilState(FIRST, 'hung');
  t.match(await client.ask(`attach ${FIRST}`), { ok: false, why: /3 workers/ });
  const asked = client.ask(`detach ${FIRST}`, 8_000);
  for (const pid of left.slice(1)) process.kill(pid, 'SIGCONT');
  await until(() => left.slice(1).every((pid) => !isAlive(pid)));
  t.match(await asked, { ok: false, why: /hangs/ }, 'one of them still holds it');
  t.equal(client.state(FIRST), 'hung');
  process.kill(left[0] ?? 0, 'SIGCONT');
  await client.untilState(FIRST, 'detached');
});

t.test('a worker that is killed is started again after a pause, with a region of its own', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  const client = await served(machine);
  const first = machine.worker(FIRST);
  process.kill(first, 'SIGKILL');
  await client.untilState(FIRST, 'failed');
  const failedAtMs = nowMs();
  t.match(client.packets.filter(({ type }) => type === 'device').at(-1)?.why, /signal 9/);
  await client.untilState(FIRST, 'serving');
  t.ok(nowMs() - failedAtMs > 800, 'not at once');
  t.not(machine.worker(FIRST), first);
  t.equal(client.regionsOf(FIRST).length, 2);
  t.equal(client.regionsOf(SECOND).length, 1);
  await until(() => client.of(FIRST, 'temperature').at(-1)?.quality === 'ok');
});

t.test(
  'workers leave when the supervisor is killed, when it is told to, and when its parent goes',
  { skip },
  async (t) => {
    for (const end of ['SIGKILL', 'SIGTERM', 'parent'] as const) {
      const machine = await gpuMachine(t);
      await served(machine);
      const pids = [machine.worker(FIRST), machine.worker(SECOND)];
      if (end === 'parent') machine.program?.stdio[3]?.destroy();
      else machine.program?.kill(end);
      await until(() => pids.every((pid) => !isAlive(pid)), 3_000);
      await until(() => machine.program?.exitCode !== null || machine.program?.signalCode !== null);
      t.equal(existsSync(machine.socket), end === 'SIGKILL', `${end}: the socket is taken away`);
    }
  },
);

t.test(
  'a supervisor that is told to leave waits for a hung worker at most a second and does not kill it',
  { skip },
  async (t) => {
    const machine = await gpuMachine(t);
    await served(machine);
    const pid = machine.worker(FIRST);
    process.kill(pid, 'SIGSTOP');
    const askedAtMs = nowMs();
    machine.program?.kill('SIGTERM');
    await until(() => machine.program?.exitCode === 0);
    t.ok(nowMs() - askedAtMs < 1_500);
    t.ok(isAlive(pid));
    process.kill(pid, 'SIGCONT');
    await until(() => !isAlive(pid));
  },
);

t.test(
  'a new supervisor starts no second worker beside one that hangs still, unless attach asks for it',
  { skip },
  async (t) => {
    const machine = await gpuMachine(t);
    await served(machine);
    const pid = machine.worker(FIRST);
    process.kill(pid, 'SIGSTOP');
    machine.program?.kill('SIGKILL');
    await until(() => machine.program?.signalCode === 'SIGKILL');
    await machine.start();
    const client = await machine.client();
    await client.untilState(SECOND, 'serving');
    await client.untilState(FIRST, 'hung');
    t.strictSame(machine.workers(FIRST), [pid]);
    t.match(await client.ask(`attach ${FIRST}`), { ok: true });
    await client.untilState(FIRST, 'serving');
    t.equal(machine.workers(FIRST).length, 2);
    process.kill(pid, 'SIGCONT');
    await until(() => !isAlive(pid));
    t.equal(client.state(FIRST), 'serving');
  },
);

t.test(
  'a supervisor that does not answer is replaced, and holds back no GPU whose worker can leave',
  { skip },
  async (t) => {
    const machine = await gpuMachine(t);
    await served(machine);
    const stopped = machine.program;
    const [hung, well] = [machine.worker(FIRST), machine.worker(SECOND)];
    for (const pid of [stopped?.pid ?? 0, hung]) process.kill(pid, 'SIGSTOP');
    // Two at once: one of them serves, the other one leaves.
    const options = { stdio: 'ignore', env: machine.env } as const;
    const second = spawn(PROGRAM, machine.arguments(), options);
    t.teardown(() => second.kill('SIGKILL'));
    const third = spawn(PROGRAM, machine.arguments(), options);
    t.teardown(() => third.kill('SIGKILL'));
    await until(() => second.exitCode !== null || third.exitCode !== null);
    t.strictSame(
      [second.exitCode, third.exitCode].filter((code) => code !== null),
      [4],
    );
    t.equal(stopped?.signalCode, 'SIGKILL');
    const client = await machine.client();
    await client.untilState(SECOND, 'serving');
    await client.untilState(FIRST, 'hung');
    t.notOk(isAlive(well));
    t.strictSame(machine.workers(FIRST), [hung]);
    process.kill(hung, 'SIGCONT');
    await client.untilState(FIRST, 'serving');
    const left = second.exitCode === null ? second : third;
    left.kill('SIGTERM');
    await until(() => left.exitCode === 0);
  },
);

t.test('a GPU that an earlier worker holds is not said to be detached', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  await served(machine);
  const pid = machine.worker(FIRST);
  process.kill(pid, 'SIGSTOP');
  machine.program?.kill('SIGKILL');
  await until(() => machine.program?.signalCode === 'SIGKILL');
  await machine.start();
  const client = await machine.client();
  const answer = client.ask(`detach ${FIRST}`);
  await client.untilState(FIRST, 'hung');
  await sleep(300);
  t.equal(client.state(FIRST), 'hung');
  process.kill(pid, 'SIGCONT');
  t.match(await answer, { ok: true });
  await client.untilState(FIRST, 'detached');
});

t.test('detach lets go of a GPU, over a restart too, until attach', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  const client = await served(machine);
  const pid = machine.worker(FIRST);
  t.match(await client.ask(`detach ${FIRST}`), { ok: true });
  t.notOk(isAlive(pid), 'its process is gone when the answer comes, and every descriptor with it');
  t.equal(client.state(FIRST), 'detached');
  t.equal(readFileSync(`${machine.socket}.detached`, 'utf8'), `${FIRST}\n`);
  t.match(await client.ask(`detach ${FIRST}`), { ok: true }, 'twice is no mistake');
  t.match(await client.ask(`wires ${FIRST} 0:1:0:1`), { ok: false });
  machine.program?.kill('SIGTERM');
  await until(() => machine.program?.exitCode === 0);
  await machine.start();
  const again = await machine.client();
  await again.untilState(SECOND, 'serving');
  t.equal(again.state(FIRST), 'detached');
  t.strictSame(machine.workers(FIRST), []);
  t.match(await again.ask(`attach ${FIRST}`), { ok: true });
  await again.untilState(FIRST, 'serving');
  t.equal(readFileSync(`${machine.socket}.detached`, 'utf8'), '');
});

t.test('an opening that hangs is said, and holds up nobody', { skip }, async (t) => {
  const machine = await gpuMachine(t, {
    deadlineMs: 50,
    script: [...TWO_GPUS, 'gpu 0 hang nvmlDeviceGetHandleByPciBusId_v2'],
  });
  const client = await machine.client();
  await client.untilState(SECOND, 'serving');
  await client.untilState(FIRST, 'hung');
  t.equal(client.regionsOf(FIRST).length, 0);
  t.equal(client.packets.filter(({ type }) => type === 'library').at(-1)?.state, 'ok', 'the library serves the other');
  machine.script(TWO_GPUS);
  await client.untilState(FIRST, 'serving');
});

t.test('a driver that is unloaded is let go, and taken up when it is back', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  const client = await served(machine);
  const pid = machine.worker(FIRST);
  machine.script(['driver unloaded']);
  await client.untilState(FIRST, 'failed');
  await client.untilState(SECOND, 'failed');
  t.notOk(isAlive(pid));
  await until(() => client.packets.filter(({ type }) => type === 'library').at(-1)?.state === 'failed', 5_000);
  machine.script(TWO_GPUS);
  machine.program?.kill('SIGHUP');
  await client.untilState(FIRST, 'serving');
  await client.untilState(SECOND, 'serving');
});

t.test('a lost GPU is said to be lost, and stays served as far as it answers', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  const client = await served(machine);
  machine.script([...TWO_GPUS, 'gpu 0 lost']);
  await client.untilState(FIRST, 'lost');
  await until(() => client.of(FIRST, 'temperature').at(-1)?.quality === 'fault');
  t.equal(client.state(SECOND), 'serving');
});

t.test('a GPU whose driver asks for a reset is let go', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  const client = await served(machine);
  const pid = machine.worker(FIRST);
  machine.script([...TWO_GPUS, 'gpu 0 return nvmlDeviceGetPowerUsage 16']);
  await client.untilState(FIRST, 'reset_required');
  t.notOk(isAlive(pid));
  t.equal(client.state(SECOND), 'serving');
});

t.test('events of the library reach the clients', { skip }, async (t) => {
  const machine = await gpuMachine(t, { script: [...TWO_GPUS, 'gpu 1 event xid 79 after 500'] });
  const client = await served(machine);
  await until(() => client.packets.some(({ type }) => type === 'event'));
  t.match(
    client.packets.find(({ type }) => type === 'event'),
    { address: SECOND, event: { kind: 'xid', code: 79 } },
  );
});

t.test('a storm of one event neither hides the others nor costs a client its connection', { skip }, async (t) => {
  const storm = 'gpu 1 event xid 13 times 20000 after 300';
  const machine = await gpuMachine(t, { script: [...TWO_GPUS, storm, 'gpu 1 event xid 79 after 400'] });
  const client = await served(machine);
  const told = (code: number) =>
    client.packets.filter(({ type, event }) => type === 'event' && event?.code === code).length;
  await until(() => told(13) > 0 && told(79) > 0);
  await sleep(500);
  t.ok(told(13) <= 10, `${told(13)} of 20000 of the same`);
  t.equal(told(79), 1);
  t.ok(client.connected);
});

t.test(
  'what a library starts inherits neither the socket nor the lock, and prints where errors go',
  { skip },
  async (t) => {
    const O_CLOEXEC = 0o2000000;
    const machine = await gpuMachine(t);
    await served(machine);
    const proc = `/proc/${machine.worker(FIRST)}`;
    const flagsOf = (fd: string) =>
      Number.parseInt(/^flags:\s*(\d+)$/m.exec(readFileSync(`${proc}/fdinfo/${fd}`, 'utf8'))?.[1] ?? '', 8);
    const kept = readdirSync(`${proc}/fdinfo`).filter((fd) => Number(fd) > 2 && (flagsOf(fd) & O_CLOEXEC) === 0);
    t.strictSame(kept, []);
    t.equal(readlinkSync(`${proc}/fd/1`), readlinkSync(`${proc}/fd/2`));
  },
);

t.test(
  'a tripwire tells of a crossing when the reading is in the region, without a gap in the readings',
  { skip },
  async (t) => {
    const machine = await gpuMachine(t);
    const client = await served(machine);
    const sinceMs = nowMs();
    const wire = `${client.channel(FIRST, 'temperature')}:85000:80000:2`;
    t.match(await client.ask(`wires ${FIRST} ${wire}`), { ok: true });
    machine.script([...TWO_GPUS, 'gpu 0 temperature 91']);
    const crossings = () => client.packets.filter(({ type }) => type === 'crossing').length;
    await until(() => crossings() === 1);
    await until(() => client.of(FIRST, 'temperature').at(-1)?.value === 91_000);
    t.match(await client.ask(`wires ${FIRST} ${wire}`), { ok: true });
    await sleep(300);
    t.equal(crossings(), 1, 'the same wire again is no news');
    machine.script(TWO_GPUS);
    await until(() => crossings() === 2);
    t.ok(client.longestGapMs(FIRST, 'temperature', sinceMs) <= 2 * PERIOD_MS);
    t.match(await client.ask(`wires ${FIRST} 4000:1:0:1`), { ok: false, why: /not there/ });
  },
);

t.test('another rate starts the workers afresh', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  const client = await served(machine);
  t.match(await client.ask('configure 10000 300'), { ok: true });
  t.match(await client.ask('configure 20000 300'), { ok: true });
  await until(() => client.regionsOf(FIRST).length === 2 && client.state(FIRST) === 'serving');
  const rates = client
    .regionsOf(FIRST)
    .map(({ channels }) => channels.find(({ name }) => name === 'temperature')?.rateHz);
  t.strictSame(rates, [10, 20]);
});

t.test('the library lists GPUs where the bus shows none', { skip }, async (t) => {
  const machine = await gpuMachine(t, { onBus: [] });
  const client = await machine.client();
  await client.untilState(FIRST, 'serving');
  await client.untilState(SECOND, 'serving');
});

t.test('a library that is not there is said to be absent', { skip }, async (t) => {
  for (const library of ['/nowhere/libnvidia-ml.so.1', 'libskos-no-such.so.1']) {
    const machine = await gpuMachine(t, { onBus: [], library });
    const client = await machine.client();
    await until(() => client.packets.filter(({ type }) => type === 'library').at(-1)?.state === 'absent');
    t.notOk(client.packets.some(({ type }) => type === 'device'));
  }
  const machine = await gpuMachine(t, { library: '/nowhere/libnvidia-ml.so.1' });
  const client = await machine.client();
  await client.untilState(FIRST, 'failed');
  await until(() => client.packets.filter(({ type }) => type === 'library').at(-1)?.state === 'absent');
});

t.test('GPUs of sysfs are served, and come and go', { skip }, async (t) => {
  const machine = await gpuMachine(t, { onBus: [], library: 'none' });
  const client = await machine.client();
  t.match(
    client.packets.find(({ type }) => type === 'library'),
    { state: 'unused' },
  );
  putCard(machine, 'card0', '0000:03:00.0');
  machine.put('class/drm/card0-DP-1/status', 'connected');
  machine.put('class/drm/card1/device/hwmon/hwmon5/name', 'vendor-of-another-kind');
  machine.program?.kill('SIGHUP');
  await client.untilState('0000:03:00.0', 'serving');
  await until(() => client.of('0000:03:00.0', 'temperature').at(-1)?.value === 55_000);
  t.ok(client.packets.some(({ type }) => type === 'uevent'));
  const pid = machine.worker('0000:03:00.0');
  machine.remove('class/drm/card0');
  machine.program?.kill('SIGHUP');
  await client.untilState('0000:03:00.0', 'gone');
  await until(() => !isAlive(pid));
  putCard(machine, 'card0', '0000:03:00.0');
  machine.program?.kill('SIGHUP');
  await client.untilState('0000:03:00.0', 'serving');
  t.equal(client.packets.filter(({ type, address }) => type === 'device' && address !== '0000:03:00.0').length, 0);
});

t.test('what is no request is refused, and changes nothing', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  const client = await served(machine);
  const replies = () => client.packets.filter(({ type }) => type === 'reply').slice(1);
  const bad = [
    'x',
    '-1 hello 1',
    '1',
    '1 ',
    '1 hello',
    '1 hello 2',
    '1  hello 1',
    '1 kill',
    `1 detach ../../etc`,
    '1 wires',
    `1 detach ${FIRST} now`,
    '1 configure 1 1',
    '1 configure 10000 300 ',
    '1 configure 1e4 300',
    `1 wires ${FIRST} 0:0:1:1`,
    `1 wires ${FIRST} 0:1:0:0`,
    `1 wires ${FIRST} 99999999999:1:0:1`,
    `1 wires ${FIRST} ${'0:1:0:1 '.repeat(65).trim()}`,
    '99999999999999999999 hello 1',
    '\u0000',
    '{"type":"hello"}',
    'a'.repeat(9_000),
    '1 detach 0000:99:00.0',
  ];
  for (const line of bad) client.write(line);
  await until(() => replies().length === bad.length);
  t.ok(replies().every(({ ok, why }) => ok === false && why !== ''));
  t.equal(client.state(FIRST), 'serving');
  const stranger = machine.stranger();
  t.match(await stranger.ask(`detach ${FIRST}`), { ok: false, why: /hello/ });
  t.equal(client.state(FIRST), 'serving');
});

t.test('eight clients are served, a ninth is told so, and one that does not read is dropped', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  const first = await served(machine);
  const silent = machine.stranger({ silent: true });
  await Promise.all(Array.from({ length: 6 }, () => machine.client()));
  await until(() => silent.connected);
  const ninth = machine.stranger();
  await until(() => ninth.ended);
  t.match(ninth.packets, [{ type: 'reply', ok: false, why: /busy/ }]);
  for (let i = 0; i < 2_000; i += 1) silent.write('garbage');
  await until(() => silent.ended);
  const tenth = await machine.client();
  t.match(await tenth.ask('hello 1'), { ok: true }, 'there is room again');
  t.match(await first.ask('hello 1'), { ok: true });
});

t.test('a socket has one skos-gpu', { skip }, async (t) => {
  const machine = await gpuMachine(t);
  const program = join(process.env.SKOS_NATIVE_BUILD ?? 'build/native', 'skos-gpu');
  const second = spawnSync(program, [...machine.arguments()], { encoding: 'utf8', timeout: 5_000 });
  t.equal(second.status, 4);
  t.match(second.stderr, /another skos-gpu/);
  t.match(await (await machine.client()).ask('hello 1'), { ok: true });
  for (const wrong of [[], ['--socket', 'relative'], ['--socket', '/a', '--rate-mhz', '0'], ['--nonsense', '1']]) {
    t.equal(spawnSync(program, wrong).status, 2, wrong.join(' '));
  }
});
