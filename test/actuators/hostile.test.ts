/**
 * A client that means harm: the most that an agent can do that was taken over, or a user who knocks. It has the protocol, its
 * own uid and, here, the right to swap files of the tree, which sysfs gives nobody. What it must not get: a write outside of
 * the allow-list and its floors, a write outside of the roots, or an actuator that stops protecting.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { allowList, packetConnector, type RealActuator, startActuator, writeAllowList } from '../fixtures/actuator.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';
import { Random } from '../fixtures/random.js';
import { until } from '../fixtures/until.js';

const POLICY = 'devices/system/cpu/cpufreq/policy0';
const MAX = `${POLICY}/scaling_max_freq`;
const CPU = `target cpufreq/policy0 cpufreq ${POLICY} floor_ppm=200000`;
const TEMP = 'class/thermal/thermal_zone0/temp';
const ORDER = `order cpu sensor=${TEMP} raise=95000 clear=90000 samples=2 rate_mhz=100000 cap_ppm=500000 targets=cpufreq/policy0`;
/** Done-when of the actuator. */
const RSS_KIB = 3 * 1024;
const SECCOMP_FILTER = '2';
const NOBODY = 65_534;
const MAX_LEASES = 1_536;
const isRoot = process.getuid?.() === 0;

function node(t: Test): FakeMachine {
  const machine = fakeMachine(t);
  machine.addCpufreq({ policies: [[0, 1]], maxKHz: 3_000_000, minKHz: 800_000 });
  machine.addZone({ type: 'x86_pkg_temp', milliCelsius: 50_000 });
  return machine;
}

function field(actuator: RealActuator, name: string, task = ''): string {
  const text = readFileSync(`/proc/${actuator.process.pid}${task}/status`, 'utf8');
  return new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(text)?.[1] ?? '';
}

/** Sends packets as they are; every answer, in order. */
function rawClient(t: Test, actuator: RealActuator) {
  const replies: string[] = [];
  const socket = packetConnector()(actuator.socket, (packet) => packet !== null && replies.push(packet));
  t.teardown(() => socket.close());
  const answered = async (seq: number) => {
    await until(() => replies.some((reply) => reply.startsWith(`${seq} ok`) || reply.startsWith(`${seq} err`)));
    return replies.filter((reply) => reply.startsWith(`${seq} `));
  };
  return { replies, send: (packet: string) => socket.send(packet), answered };
}

/** What a user is answered to one packet: as Python writes it. By Python, which has no addon to load. */
function asUser(uid: number, socketPath: string, packet: string) {
  const script = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
def answer(patience):
    s.settimeout(patience)
    try:
        return s.recv(200)
    except OSError as error:
        return str(error)
# Who is refused is told so unasked; what it sends then would only reset the connection.
first = answer(0.3)
if isinstance(first, bytes):
    print([first, answer(3)])
else:
    s.send(sys.argv[2].encode())
    print([answer(3)])`;
  const args = [`--reuid=${uid}`, '--clear-groups', '--', 'python3', '-c', script, socketPath, packet];
  return spawnSync('setpriv', args, { encoding: 'utf8', timeout: 10_000, env: { PATH: '/usr/bin:/bin' } });
}

/** Everything below a directory with its content, to be compared. */
function contents(directory: string): Record<string, string> {
  const names = readdirSync(directory, { recursive: true }).map(String);
  const files = names.filter((name) => statSync(join(directory, name)).isFile());
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(directory, name), 'utf8').trim()]));
}

t.test('runs with a filter of system calls on each of its threads, and in 3 MB', async (t) => {
  const machine = node(t);
  machine.setCgroup('w/cpu.max', '150000 100000');
  machine.setCgroup('w/cgroup.freeze', 0);
  const items = [CPU, ORDER, 'target quota/w quota w floor_ppm=10000', 'target freeze/w freeze w floor_ppm=0'];
  const actuator = await startActuator(t, machine, { items, args: ['--child'] });
  const client = await actuator.client();
  for (const target of ['cpufreq/policy0', 'quota/w', 'freeze/w']) {
    const capPpm = target === 'freeze/w' ? 0 : 500_000;
    t.match(await client.set({ lease: target, target, capPpm, ttlMs: 60_000 }), { outcome: 'applied' }, target);
  }
  const tasks = readdirSync(`/proc/${actuator.process.pid}/task`);
  t.ok(tasks.length >= 5, 'its own, the sampler’s, and a worker for each kind of target, started behind the filter');
  for (const task of tasks) {
    t.equal(field(actuator, 'Seccomp', `/task/${task}`), SECCOMP_FILTER);
    t.equal(field(actuator, 'NoNewPrivs', `/task/${task}`), '1');
  }
  t.ok(Number(field(actuator, 'VmRSS')) <= RSS_KIB, `${field(actuator, 'VmRSS')} KiB`);
  t.equal(actuator.said().includes('not confined'), false);
});

t.test('writes nothing outside of its root while a thread swaps files and directories for links', async (t) => {
  const machine = node(t);
  const outside = join(machine.root, 'outside');
  const decoy = join(outside, 'policy');
  mkdirSync(decoy, { recursive: true });
  const bait = {
    scaling_max_freq: 2_222_222,
    scaling_min_freq: 800_000,
    cpuinfo_max_freq: 3_000_000,
    cpuinfo_min_freq: 1,
  };
  for (const [name, value] of Object.entries(bait)) writeFileSync(join(decoy, name), `${value}\n`);
  const before = contents(outside);
  const actuator = await startActuator(t, machine, { items: [CPU] });
  const client = await actuator.client();
  const directory = join(machine.sysfs, POLICY);
  // Absolute, relative and through /proc; the directory, the attribute, and back, as fast as it goes.
  const swapper = new Worker(
    `const { workerData: { directory, decoy, stop } } = require('node:worker_threads');
     const fs = require('node:fs');
     const path = require('node:path');
     const relative = path.relative(path.dirname(directory), decoy);
     const flag = new Int32Array(stop);
     const links = [decoy, relative, '/proc/self/root' + decoy];
     for (let i = 0; Atomics.load(flag, 0) === 0; i++) {
       fs.renameSync(directory, directory + '.kept');
       fs.symlinkSync(links[i % 3], directory);
       fs.unlinkSync(directory);
       fs.renameSync(directory + '.kept', directory);
       const attribute = directory + '/scaling_max_freq';
       fs.renameSync(attribute, attribute + '.kept');
       fs.symlinkSync(links[i % 2] + '/scaling_max_freq', attribute);
       fs.unlinkSync(attribute);
       fs.renameSync(attribute + '.kept', attribute);
       Atomics.add(flag, 1, 1);
     }`,
    { eval: true, workerData: { directory, decoy, stop: new SharedArrayBuffer(8) } },
  );
  const outcomes = new Set<string>();
  const endMs = performance.now() + 1_000;
  for (let i = 0; performance.now() < endMs; i++) {
    const lease = `a${i % 3}`;
    outcomes.add(
      (await client.set({ lease, target: 'cpufreq/policy0', capPpm: 300_000 + (i % 5) * 100_000, ttlMs: 60_000 }))
        .outcome,
    );
    outcomes.add((await client.release(lease)).outcome);
  }
  await swapper.terminate();
  t.strictSame(contents(outside), before);
  t.ok(outcomes.size > 1, [...outcomes].join(' '));
  t.equal(actuator.process.exitCode, null);
});

t.test('a link that stays, out of the root or to a FIFO, is a refusal and no write', async (t) => {
  const machine = node(t);
  const victim = join(machine.root, 'victim');
  writeFileSync(victim, '2222222\n');
  machine.remove(MAX);
  machine.link(MAX, victim);
  const actuator = await startActuator(t, machine, { items: [CPU] });
  const client = await actuator.client();
  const asked = await client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 500_000, ttlMs: 60_000 });
  t.equal(asked.ok, false, asked.outcome);
  machine.remove(MAX);
  spawnSync('mkfifo', [join(machine.sysfs, MAX)]);
  t.equal((await client.set({ lease: 'b', target: 'cpufreq/policy0', capPpm: 500_000, ttlMs: 60_000 })).ok, false);
  t.equal(readFileSync(victim, 'utf8'), '2222222\n');
});

t.test('whatever is asked, only what the list names moves, and never below its floor', async (t) => {
  const machine = node(t);
  machine.setCgroup('w/cpu.max', '150000 100000');
  const actuator = await startActuator(t, machine, { items: [CPU, 'job act/x start x.service timeout_ms=1000'] });
  const { send, answered, replies } = rawClient(t, actuator);
  const before = contents(machine.root);
  const random = new Random(Number(process.env.SKOS_TEST_SEED ?? 4_711));
  const targets = [
    'cpufreq/policy0',
    'cpufreq/policy1',
    '../policy0',
    'quota/w',
    'w',
    '/etc/passwd',
    'cpufreq/policy0/..',
    'order',
    '',
  ];
  const verbs = [
    'set',
    'release',
    'renew',
    'run',
    'jobs',
    'targets',
    'write',
    'exec',
    'SET',
    'hello',
    'reload',
    'events',
    'shell',
  ];
  const numbers = [
    '0',
    '-1',
    '199999',
    '1000001',
    '9223372036854775807',
    '18446744073709551616',
    '1e6',
    '0x10',
    'nan',
    '١',
    '+1',
    ' 1',
    '',
  ];
  // No cap of the one target that is listed is among these: what stands at the end is what stood before.
  for (let i = 1; i <= 4_000; i++) {
    const words = [
      random.one(verbs),
      `l${i % 40}`,
      random.one(targets),
      random.one(numbers),
      random.one(['60000', ...numbers]),
    ];
    send(`${i} ${words.slice(0, random.between(1, 6)).join(random.chance(0.05) ? '  ' : ' ')}`);
    // Only so many answers wait for a client at once.
    if (i % 50 === 0) await answered(i);
  }
  send('5000 set ok cpufreq/policy0 200000 60000');
  t.match((await answered(5_000))[0], /^5000 ok applied /, 'it serves on');
  t.equal(machine.get(MAX), '800000', 'the minimum of the device');
  send('5001 release-all');
  await answered(5_001);
  await until(() => machine.get(MAX) === '3000000');
  const after = contents(machine.root);
  const moved = Object.keys(after).filter((name) => after[name] !== before[name] && !name.startsWith('state/'));
  t.strictSame(moved, []);
  t.ok(replies.filter((reply) => / err (malformed|unknown_verb|not_listed|out_of_bounds)/.test(reply)).length > 2_000);
});

t.test('a flood of leases ends at its bound', async (t) => {
  const machine = node(t);
  const actuator = await startActuator(t, machine, { items: [CPU] });
  const { send, answered, replies } = rawClient(t, actuator);
  for (let i = 1; i <= MAX_LEASES + 64; i++) {
    send(`${i} set lease-${i} cpufreq/policy0 500000 600000`);
    if (i % 32 === 0) await answered(i);
  }
  const refused = replies.filter((reply) => reply.endsWith('err too_many'));
  t.equal(refused.length, 64);
  t.ok(Number(field(actuator, 'VmRSS')) <= RSS_KIB, `${field(actuator, 'VmRSS')} KiB with every lease taken`);
  send('9001 release-all');
  await answered(9_001);
  await until(() => machine.get(MAX) === '3000000');
});

t.test('a packet that is too large is a refusal', { skip: isRoot ? false : 'needs root' }, async (t) => {
  const actuator = await startActuator(t, node(t), { items: [CPU] });
  for (const bytes of [8_193, 100_000]) {
    const { stdout, stderr } = asUser(0, actuator.socket, `9 hello ${'1'.repeat(bytes)}`);
    t.equal(stdout, "[b'0 err malformed']\n", stderr);
  }
});

t.test('other users are told so and no more', { skip: isRoot ? false : 'needs root' }, async (t) => {
  const machine = node(t);
  const actuator = await startActuator(t, machine, { items: ['controller 998', CPU] });
  chmodSync(join(actuator.socket, '..'), 0o755);
  const as = (uid: number) => asUser(uid, actuator.socket, '1 set a cpufreq/policy0 500000 60000');
  const nobody = as(NOBODY);
  t.equal(nobody.stdout, "[b'0 err denied', b'']\n", nobody.stderr);
  t.equal(machine.get(MAX), '3000000');
  t.match(as(998).stdout, /^\[b'1 ok applied/, 'the controller of the list is admitted');
});

t.test(
  'no list of somebody else is taken, neither at the start nor over a reload',
  { skip: isRoot ? false : 'needs root' },
  async (t) => {
    const machine = node(t);
    const actuator = await startActuator(t, machine, { items: [CPU] });
    const client = await actuator.client();
    const wide = CPU.replace('floor_ppm=200000', 'floor_ppm=1');
    const ways: Record<string, () => void> = {
      foreign: () => chownSync(actuator.allowFile, NOBODY, NOBODY),
      'writable by others': () => chmodSync(actuator.allowFile, 0o646),
      'writable by its group': () => chmodSync(actuator.allowFile, 0o664),
      'cut off': () => writeFileSync(actuator.allowFile, allowList([wide]).slice(0, -3)),
      'too large': () => writeFileSync(actuator.allowFile, `${allowList([wide])}${'#'.repeat(300_000)}`),
    };
    for (const [name, spoil] of Object.entries(ways)) {
      writeAllowList(machine, [wide]);
      spoil();
      await t.rejects(client.reload(), { code: 'SKOS_ACTUATOR_ALLOW' }, name);
      const below = client.set({ lease: 'a', target: 'cpufreq/policy0', capPpm: 199_999, ttlMs: 60_000 });
      await t.rejects(below, { code: 'SKOS_ACTUATOR_DENIED' }, 'the floor is the old one');
      chownSync(actuator.allowFile, 0, 0);
    }
  },
);
