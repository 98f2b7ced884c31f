/** `skos doctor` on made machines. Without an agent it reads them through the real addon: needs the native build. */
import { chmodSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Io } from '../../src/cli/command.js';
import { doctorText } from '../../src/cli/doctor.js';
import { SkosError } from '../../src/core/errors.js';
import type { Status } from '../../src/core/protocol.js';
import type { Finding } from '../../src/sensors/finding.js';
import { type Node, node, type Outcome, skos, status } from '../fixtures/cli.js';
import { gpuChannels, gpuStatus, h200, mi210, WORKING } from '../fixtures/gpus.js';

type Tap = typeof t;
type Teardown = Pick<Tap, 'teardown'>;

const EMPTY_MACHINE = `Agent
  ✓ configuration: DIR/etc/skos.yaml
  ✗ no agent answers, nothing guards this node: …
    next: Start the agent (…
Sensors
  ✗ not a single channel was found
    next: each source says below why
  ✗ no temperature at all: no driver has registered a thermal zone or a hwmon
    chip, so nothing guards against heat
    next: load the board's modules: sensors-detect (lm-sensors) finds them`;

const REST_OF_IT = `GPUs
  – no GPU is on the PCI bus
System
  – /dev/kmsg is missing: XIDs, machine checks and OOM kills are not seen
    next: in a container: give it /dev/kmsg
  – no cgroups are mounted at DIR/cgroup: workloads can be neither limited nor
    frozen
    next: boot with systemd.unified_cgroup_hierarchy=1
  – systemd's journal is not there: the log goes to standard error
  ✓ the clock says 2026-01-02 03:04:05Z; no time service runs, so compare it now
    and then
Other controllers
  ✓ no other program that moves limits or fans is running
3 problems,`;

/** Roots of the rest of the machine, and a PATH in which only what a test writes is found. */
function doctor(each: Node, argv: readonly string[] = [], given: Partial<Io> = {}): Promise<Outcome> {
  const at = (path: string) => join(each.directory, path);
  const env = { SKOS_DEV_ROOT: at('dev'), SKOS_HOST_ROOT: at('root'), PATH: `${at('bin')}:/usr/bin:/bin` };
  return each.skos(['doctor', ...argv], { ...given, env: { ...env, ...given.env } });
}

async function findings(each: Node, given: Partial<Io> = {}): Promise<{ code: number; all: Finding[] }> {
  const { code, out } = await doctor(each, ['--json'], given);
  return { code, all: JSON.parse(out) };
}

function of(all: readonly Finding[], check: string): Finding[] {
  return all.filter((each) => each.check === check);
}

/** A machine on which nothing is to be said: a CPU with its sensor, cgroups, a journal, a kernel log. */
function wellMade({ write, directory }: Node): void {
  write('sys/class/hwmon/hwmon0/name', 'k10temp\n');
  write('sys/class/hwmon/hwmon0/temp1_input', '45000\n');
  write('sys/class/hwmon/hwmon0/temp1_max', '90000\n');
  write('proc/cpuinfo', 'vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel name\t: AMD Ryzen 9\nflags\t\t: fpu\n');
  write('cgroup/cgroup.controllers', 'cpu memory\n');
  write('root/run/systemd/journal/socket', '');
  write('proc/77/comm', 'chronyd\n');
  chmodSync(write('dev/kmsg', ''), 0o644);
  mkdirSync(join(directory, 'bin'));
}

function pci(
  { write, directory }: Node,
  { address, vendor, driver }: { address: string; vendor: string; driver?: string },
): void {
  write(`sys/bus/pci/devices/${address}/vendor`, vendor);
  write(`sys/bus/pci/devices/${address}/class`, '0x030200');
  if (driver === undefined) return;
  write(`sys/bus/pci/drivers/${driver}/module`, '');
  symlinkSync(`../../drivers/${driver}`, join(directory, `sys/bus/pci/devices/${address}/driver`));
}

/** NVIDIA's driver, library and device files, all in order. */
function nvidia(each: Node): void {
  pci(each, { address: '0000:3b:00.0', vendor: '0x10de', driver: 'nvidia' });
  each.write('sys/module/nvidia/version', '570.86.15\n');
  each.write('root/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.570.86.15', '');
  symlinkSync('libnvidia-ml.so.570.86.15', join(each.directory, 'root/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1'));
  for (const name of ['nvidiactl', 'nvidia0']) chmodSync(each.write(`dev/${name}`, ''), 0o666);
}

function agentNode(t: Teardown, given: Partial<Status> = {}, gpus = gpuStatus([])) {
  const channels = [...gpuChannels(h200(), WORKING)];
  return node(t, { status: () => status(given), sensors: () => channels, gpu: () => gpus });
}

t.test('a machine with no sensors at all, and no agent, explains itself', async (t) => {
  const each = await node(t);
  const { code, out, err } = await doctor(each);
  t.equal(code, 7);
  t.equal(err, '');
  const text = out
    .replaceAll(each.directory, 'DIR')
    .replace(/guards this node: [^✓✗–]*?\n {4}next:/, 'guards this node: …\n    next:')
    .replace(/next: Start the agent \([^✓✗–]*?\nSensors/, 'next: Start the agent (…\nSensors');
  t.ok(text.startsWith(EMPTY_MACHINE), text);
  // Reflowed, because the directory's name is of any length.
  const flat = (lines: string) => lines.replaceAll(/\s+/g, ' ');
  t.ok(flat(text).includes(flat(REST_OF_IT)), text);
  for (const source of ['thermal_zone', 'hwmon', 'memory']) t.match(text, new RegExp(`^  – ${source}: `, 'm'));
  for (const line of out.split('\n')) t.ok([...line].length <= 80 || /\S{40}/.test(line), line);
});

t.test('a virtual machine without sensors is no problem, but is said to be one', async (t) => {
  const guest = await node(t, { status: () => status(), sensors: () => [], gpu: () => gpuStatus([]) });
  guest.write('proc/cpuinfo', 'vendor_id\t: AuthenticAMD\ncpu family\t: 25\nflags\t\t: fpu hypervisor\n');
  const { all } = await findings(guest);
  t.match(of(all, 'sensors.temperature'), [{ state: 'note', what: /virtual machine/, next: /on the host/ }]);
  t.same(of(all, 'sensors.cpu_driver'), []);
});

t.test('this very machine is looked at without harm', async (t) => {
  const each = await node(t);
  const { code, out } = await skos(['doctor', '--json', '--config', each.config], {
    env: { SKOS_RUN_DIR: each.env.SKOS_RUN_DIR, PATH: process.env.PATH },
    wallMs: () => Date.now(),
  });
  t.ok(code === 7, 'no agent runs in that directory');
  const all: Finding[] = JSON.parse(out);
  for (const area of ['agent', 'sensors', 'gpu', 'system', 'controllers'])
    t.ok(
      all.some(({ check }) => check.startsWith(`${area}.`)),
      area,
    );
});

t.test('nothing wrong ends with 0, also with a running agent', async (t) => {
  const each = await agentNode(t);
  wellMade(each);
  const { code, all } = await findings(each);
  t.same(
    all.filter(({ state }) => state === 'problem'),
    [],
  );
  t.equal(code, 0);
  t.match(of(all, 'agent.running'), [{ state: 'ok', what: /runs as nova \(pid 4711\), mode observe$/ }]);
  t.match(of(all, 'sensors.found'), [
    { state: 'ok', what: `${Object.keys(WORKING).length} channels: nvml ${Object.keys(WORKING).length}` },
  ]);
  t.match((await doctor(each)).out, /^No problem, \d+ notes?\.$/m);
});

t.test('every finding has a state, and every problem a next step', async (t) => {
  const each = await node(t);
  nvidia(each);
  each.write('proc/812/comm', 'thermald\n');
  const { all } = await findings(each);
  t.ok(all.length > 10);
  for (const { check, state, what, next } of all) {
    t.match(check, /^(agent|sensors|gpu|system|controllers)\.[a-z_-]+$/);
    t.ok(what.length > 0 && !what.includes('\n'), what);
    if (state === 'problem') t.ok(next, `${check}: ${what}`);
  }
});

t.test('an agent that does not admit us is told from one that is not there', async (t) => {
  const each = await node(t, { status: () => status() }, { role: null });
  wellMade(each);
  const { code, all } = await findings(each, { euid: 1000 });
  t.match(of(all, 'agent.running'), [{ state: 'note', what: /user 1000 may not ask it/, next: /root/ }]);
  t.match(of(all, 'sensors.temperature'), [{ state: 'ok', what: /^1 temperature, the highest 45\.0 °C/ }]);
  t.equal(code, 0);
});

t.test('an agent that fails at a question does not keep the rest from being looked at', async (t) => {
  const each = await node(t, {
    status: () => status(),
    sensors: () => {
      throw new SkosError('SKOS_STORE_OPEN', 'no');
    },
    gpu: () => gpuStatus([]),
  });
  wellMade(each);
  const { all } = await findings(each);
  t.match(of(all, 'agent.running'), [{ state: 'problem', what: /is there, but fails to answer \(SKOS_STORE_OPEN\)/ }]);
  t.ok(of(all, 'system.clock').length === 1);
});

t.test('a refused configuration is a problem, and the machine is looked at with the defaults', async (t) => {
  const each = await node(t);
  wellMade(each);
  each.write('etc/skos.yaml', 'moed: auto\n');
  const { code, all } = await findings(each);
  t.equal(code, 7);
  t.match(of(all, 'agent.config'), [
    { state: 'problem', what: /SKOS_CONFIG_INVALID.*did you mean mode/, next: /config check/ },
  ]);
  t.match(of(all, 'sensors.temperature'), [{ state: 'ok' }]);
});

t.test('what the agent lacks is said with the next step', async (t) => {
  const each = await agentNode(t, {
    mode: 'auto',
    armed: true,
    actuator: {
      connected: true,
      why: '',
      targets: [],
      leases: [],
      orders: [{ order: 'thermal:cpu', raised: true, value: null, quality: 'no_data' }],
    },
    store: { ok: false, why: 'disk full', head: { seq: 1, hash: 'a'.repeat(64) } },
    net: { connected: false, why: 'it is being restarted' },
    notFound: ['rule batch: no channel fits'],
    repairs: { latched: ['wall-clock'], window: null },
  });
  wellMade(each);
  each.write(
    'proc/4711/limits',
    'Limit   Soft Limit  Hard Limit  Units\nMax open files            10       4096    files\n',
  );
  for (let fd = 0; fd < 9; fd++) each.write(`proc/4711/fd/${fd}`, '');
  const { code, all } = await findings(each);
  t.equal(code, 7);
  t.match(of(all, 'agent.standing_orders'), [
    { state: 'problem', what: /thermal:cpu cannot read its sensor \(no_data\)/ },
  ]);
  t.match(of(all, 'agent.repairs'), [{ state: 'note', what: /wall-clock/, next: /skos breaker list/ }]);
  t.match(of(all, 'agent.record'), [{ state: 'problem', what: /in memory only: disk full/ }]);
  t.match(of(all, 'agent.net'), [{ state: 'note', what: /it is being restarted/ }]);
  t.match(of(all, 'agent.open_files'), [{ state: 'problem', what: /9 of 10 files open/, next: /LimitNOFILE/ }]);
  t.match(of(all, 'sensors.not_found'), [{ state: 'note', what: 'rule batch: no channel fits' }]);
});

t.test('standing orders of a node that is not armed are what a disarm that was cut off has left', async (t) => {
  const orders = [{ order: 'thermal:cpu', raised: false, value: 50, quality: 'ok' }] as const;
  const actuator = { connected: true, why: '', targets: [], leases: [], orders } as const;
  const { all } = await findings(await agentNode(t, { mode: 'observe', actuator }));
  t.match(of(all, 'agent.standing_orders'), [{ state: 'problem', what: /1 standing order/, next: /skos disarm/ }]);
  const none = await findings(await agentNode(t, { mode: 'observe', actuator: { ...actuator, orders: [] } }));
  t.same(of(none.all, 'agent.standing_orders'), []);
});

t.test('no actuator is a problem only where the node should act', async (t) => {
  const off = { connected: false, why: 'no socket', targets: [], leases: [], orders: [] } as const;
  const observing = await findings(await agentNode(t, { actuator: off }));
  t.match(of(observing.all, 'agent.actuator'), [{ state: 'note', what: /only observes/, next: /skos arm/ }]);
  const proposing = await findings(await agentNode(t, { actuator: off, mode: 'propose' }));
  t.match(of(proposing.all, 'agent.actuator'), [{ state: 'note', what: /cannot be done/, next: /skos-actuator/ }]);
  const each = await agentNode(t, { actuator: off, mode: 'auto' });
  chmodSync(each.write('run/actuator.allow', ''), 0o666);
  const acting = await findings(each);
  t.match(of(acting.all, 'agent.actuator'), [{ state: 'problem', next: /skos-actuator\.service/ }]);
  t.match(of(acting.all, 'agent.allow_list'), [
    { state: 'problem', what: /will refuse .*mode 0666/, next: /config compile/ },
  ]);
});

t.test('NVIDIA in order: driver, library, device files, and what is served', async (t) => {
  const each = await agentNode(t, {}, gpuStatus([h200()]));
  wellMade(each);
  nvidia(each);
  const { all } = await findings(each);
  const gpu = all.filter(({ check }) => check.startsWith('gpu.'));
  t.same(
    gpu.filter(({ state }) => state !== 'ok'),
    [],
  );
  t.match(of(all, 'gpu.served'), [{ what: 'skos-gpu serves 1 of 1 GPU' }]);
});

t.test('what keeps an NVIDIA GPU from being read is named, each with its next step', async (t) => {
  const cases: readonly (readonly [check: string, what: RegExp, given: (each: Node) => void])[] = [
    ['gpu.driver', /no driver is bound/, (each) => pci(each, { address: '0000:3c:00.0', vendor: '0x10de' })],
    [
      'gpu.driver',
      /nouveau drives it/,
      (each) => pci(each, { address: '0000:3c:00.0', vendor: '0x10de', driver: 'nouveau' }),
    ],
    [
      'gpu.nvml',
      /libnvidia-ml\.so\.9\) is in no directory/,
      (each) => each.write('etc/skos.yaml', 'gpu: { nvml: libnvidia-ml.so.9 }\n'),
    ],
    [
      'gpu.driver_version',
      /driver is 535\.1\.2, the library on disk 570\.86\.15/,
      (each) => each.write('sys/module/nvidia/version', '535.1.2'),
    ],
    [
      'gpu.device_files',
      /only owner and group may open .*nvidia0/,
      (each) => chmodSync(join(each.directory, 'dev/nvidia0'), 0o660),
    ],
  ];
  for (const [check, what, given] of cases) {
    const each = await node(t);
    nvidia(each);
    given(each);
    const { all } = await findings(each);
    const found = of(all, check).filter(({ state }) => state !== 'ok');
    t.match(found, [{ what, next: /./ }], String(what));
  }
  const bare = await node(t);
  pci(bare, { address: '0000:3b:00.0', vendor: '0x10de', driver: 'nvidia' });
  const { all } = await findings(bare);
  t.match(of(all, 'gpu.device_files'), [{ state: 'problem', what: /nvidiactl is missing/ }]);
});

t.test('the version of the driver is read from /proc too, and the library by the cache of the linker', async (t) => {
  const each = await node(t);
  pci(each, { address: '0000:3b:00.0', vendor: '0x10de', driver: 'nvidia' });
  each.write(
    'proc/driver/nvidia/version',
    'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC version: 12.2.0\n',
  );
  each.write('root/opt/driver/libnvidia-ml.so.1', '');
  each.write('root/etc/ld.so.cache', 'glibc-ld.so.cache1.1\0\x01\0libnvidia-ml.so.1\0/opt/driver/libnvidia-ml.so.1\0');
  const { all } = await findings(each);
  t.match(of(all, 'gpu.nvml'), [{ state: 'ok', what: 'NVML is installed (/opt/driver/libnvidia-ml.so.1)' }]);
  t.match(of(all, 'gpu.driver_version'), [{ state: 'ok', what: 'NVIDIA driver 570.86.15' }]);
});

t.test('what skos-gpu says of libraries and GPUs is said', async (t) => {
  const library = { source: 'nvml', path: '/opt/libnvidia-ml.so.1', version: '', why: 'driver not loaded' };
  for (const state of ['absent', 'failed', 'hung'] as const) {
    const each = await agentNode(t, {}, gpuStatus([], { libraries: [{ ...library, state }] }));
    nvidia(each);
    const { code, all } = await findings(each);
    t.equal(code, 7);
    t.match(
      of(all, 'gpu.nvml'),
      [{ state: 'problem', what: /\/opt\/libnvidia-ml\.so\.1.*driver not loaded/, next: /./ }],
      state,
    );
    t.match(of(all, 'gpu.served'), [
      { state: 'problem', what: /0000:3b:00\.0 is on the bus, but skos-gpu does not know it/ },
    ]);
  }
  const each = await agentNode(
    t,
    {},
    gpuStatus([h200({ state: 'hung', why: 'a call does not return' }), mi210({ state: 'detached' })]),
  );
  const { all } = await findings(each);
  t.match(of(all, 'gpu.state'), [
    { state: 'problem', what: 'NVIDIA H200 (0000:3b:00.0) is hung: a call does not return', next: /attach/ },
    { state: 'note', next: /attach 0000:83:00\.0/ },
  ]);
});

t.test('skos-gpu is missed only where there is a GPU', async (t) => {
  const gone = gpuStatus([], { connected: false, why: 'no socket' });
  const without = await agentNode(t, {}, gone);
  t.same(of((await findings(without)).all, 'gpu.served'), []);
  const each = await agentNode(t, {}, gone);
  pci(each, { address: '0000:83:00.0', vendor: '0x1002', driver: 'amdgpu' });
  t.match(of((await findings(each)).all, 'gpu.served'), [
    { state: 'problem', what: /not connected.*no socket/, next: /skos-gpu/ },
  ]);
  each.write('etc/skos.yaml', 'gpu: { mode: off }\n');
  t.match(of((await findings(each)).all, 'gpu.served'), [{ state: 'note', what: /gpu\.mode is off/ }]);
});

t.test('where only lm-sensors shows a temperature, it is said and which chip', async (t) => {
  const each = await node(t);
  const program = each.write(
    'bin/sensors',
    '#!/bin/sh\necho \'{"w83795g-i2c-0-2f":{"temp1":{"temp1_input":40.5}}}\'\n',
  );
  chmodSync(program, 0o755);
  const { all } = await findings(each);
  t.match(of(all, 'sensors.lm_sensors'), [{ state: 'problem', what: /w83795g-i2c-0-2f \(1\)/, next: /report it/ }]);

  const known = await node(t);
  wellMade(known);
  chmodSync(known.write('bin/sensors', '#!/bin/sh\nexit 1\n'), 0o755);
  t.same(of((await findings(known)).all, 'sensors.lm_sensors'), [], 'it is not asked where there is a temperature');
});

t.test('another controller is named with what it moves; it is a problem when both act', async (t) => {
  const each = await agentNode(t);
  each.write('proc/812/comm', 'thermald\n');
  each.write('proc/813/comm', 'nvidia-persiste\n');
  each.write('proc/813/cmdline', '/usr/bin/nvidia-persistenced\0');
  const { all } = await findings(each);
  t.match(of(all, 'controllers.thermald'), [
    { state: 'note', what: /^thermald \(pid 812\) moves CPU frequency/, next: /disable --now thermald/ },
  ]);
  t.match(of(all, 'controllers.nvidia-persistenced'), [{ state: 'note', what: /keeps GPUs open/ }]);

  const targets = [{ target: 'cpufreq/policy0', former: '1', current: '1', state: 'idle' }];
  const actuator = {
    connected: true,
    why: '',
    targets,
    leases: [],
    orders: [{ order: 'x', raised: false, value: 1, quality: 'ok' }],
  } as const;
  const armed = await agentNode(t, { armed: true, mode: 'auto', actuator });
  armed.write('proc/812/comm', 'thermald\n');
  armed.write('proc/814/comm', 'fancontrol\n');
  const acting = await findings(armed);
  t.match(of(acting.all, 'controllers.thermald'), [{ state: 'problem', what: /moves cpufreq\/policy0 too/ }]);
  t.match(of(acting.all, 'controllers.fancontrol'), [{ state: 'note' }]);
});

t.test('what belongs to root is read by the actuator, and said where there is none', async (t) => {
  for (const connected of [true, false]) {
    const each = await agentNode(t, { actuator: { connected, why: 'x', targets: [], leases: [], orders: [] } });
    chmodSync(each.write('dev/kmsg', ''), 0o640);
    each.write('sys/class/powercap/intel-rapl:0/energy_uj', '1');
    const { all } = await findings(each);
    const state = connected ? 'ok' : 'note';
    t.match(of(all, 'system.rapl'), [{ state, what: /1 RAPL zone/ }]);
  }
});

t.test('the kernel log is followed, or is said not to be, with the reason', async (t) => {
  const followed = await agentNode(t, {});
  followed.write('dev/kmsg', '');
  t.match(of((await findings(followed)).all, 'system.kernel_log'), [{ state: 'ok', what: /follows/ }]);
  const unread = await agentNode(t, { notFound: ['kernel log: /dev/kmsg: EPERM'] });
  unread.write('dev/kmsg', '');
  t.match(of((await findings(unread)).all, 'system.kernel_log'), [{ state: 'note', what: /EPERM.*XIDs/ }]);
  const restricted = await node(t);
  wellMade(restricted);
  restricted.write('proc/sys/kernel/dmesg_restrict', '1\n');
  t.match(of((await findings(restricted)).all, 'system.kernel_log'), [{ state: 'ok', what: /systemd opens it/ }]);
});

t.test('a clock from before this program is a problem', async (t) => {
  const each = await node(t);
  t.match(of((await findings(each, { wallMs: () => 0 })).all, 'system.clock'), [{ state: 'problem', what: /1970/ }]);
  wellMade(each);
  t.match(of((await findings(each)).all, 'system.clock'), [{ state: 'ok', what: /kept by chronyd/ }]);
});

t.test('cgroups of version 1 matter where workloads are to be limited', async (t) => {
  const each = await node(t);
  mkdirSync(join(each.directory, 'cgroup/cpu'));
  t.match(of((await findings(each)).all, 'system.cgroup'), [{ state: 'note', what: /version 1/ }]);
  each.write('etc/skos.yaml', 'targets: { batch: { cgroup: batch } }\n');
  t.match(of((await findings(each)).all, 'system.cgroup'), [{ state: 'problem', what: /lists 1/ }]);
  mkdirSync(join(each.directory, 'cgroup/freezer'));
  t.match(of((await findings(each)).all, 'system.cgroup'), [{ state: 'ok', what: /version 1/ }]);
});

t.test('a FIFO or a directory in any place of the machine holds up nothing', async (t) => {
  const each = await node(t);
  for (const path of [
    'proc/cpuinfo',
    'proc/modules',
    'proc/5/comm',
    'root/etc/ld.so.cache',
    'dev/kmsg',
    'sys/bus/pci/devices/0000:3b:00.0/vendor',
  ])
    mkdirSync(join(each.directory, path), { recursive: true });
  const began = performance.now();
  const { code } = await doctor(each);
  t.equal(code, 7);
  t.ok(performance.now() - began < 4000);
});

t.test('what devices say fits 80 columns and moves no cursor', async (t) => {
  const evil = '\x1b]0;title\x07\x1b[2J\r\nfake\u202e '.repeat(30);
  const text = doctorText(
    [
      { check: 'sensors.x', state: 'problem', what: evil, next: evil },
      { check: 'gpu.x', state: 'note', what: 'word '.repeat(50) },
    ],
    { columns: 80, color: false },
  );
  for (const line of text.split('\n')) t.ok([...line].length <= 80 && !/[\p{Cc}]/u.test(line), line);
  t.match(text, /1 problem, 1 note\.$/);
});
