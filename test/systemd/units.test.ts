import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ACT_NAMES, actUnit } from '../../src/config/act-plan.js';

const UNITS = readdirSync('systemd').filter((name) => /\.(service|slice|path|socket|timer)$/.test(name));
const SERVICES = UNITS.filter((name) => name.endsWith('.service'));
const PROGRAMS = [
  'usr/bin/node',
  'usr/lib/skos/skos-actuator',
  'usr/lib/skos/skos-gpu',
  'usr/lib/skos/skos-units',
  'usr/lib/skos/skos-wireguard-dump',
  'bin/kill',
  'bin/sh',
];
/** Units of the system that ours refer to; their content does not matter here. */
const SYSTEM_UNITS = ['sysinit', 'basic', 'shutdown', 'multi-user', 'local-fs', 'network', 'slices', 'paths', 'timers'];

/** Above systemd's own word "OK" a unit is "MEDIUM" exposed; ours stay well below. In tenths, as --threshold takes it. */
const MAX_EXPOSURE_TENTHS = 20;
/** Those that give files to their owners, and start what logrotate starts. */
const MORE_EXPOSED_TENTHS: Readonly<Record<string, number>> = {
  'skos-act-archive-old-data.service': 23,
  'skos-act-cleanup-logs.service': 24,
};

const skip = spawnSync('systemd-analyze', ['--version']).status === 0 ? false : 'systemd-analyze is not here';

/** Units that run something once and end. */
const ONESHOTS = SERVICES.filter((service) => settings(service).get('Type')?.[0] === 'oneshot');

/** A system root that holds our units and stand-ins for the programs that they start. */
function systemRoot(t: Test): string {
  const root = t.testdir({});
  const units = join(root, 'etc/systemd/system');
  mkdirSync(units, { recursive: true });
  for (const unit of UNITS) copyFileSync(join('systemd', unit), join(units, unit));
  for (const unit of SYSTEM_UNITS) writeFileSync(join(units, `${unit}.target`), '[Unit]\nDescription=stand-in\n');
  writeFileSync(join(units, 'systemd-journald.socket'), '[Unit]\n[Socket]\nListenStream=/run/x\nService=x.service\n');
  for (const program of PROGRAMS) {
    mkdirSync(join(root, program, '..'), { recursive: true });
    writeFileSync(join(root, program), '#!/bin/sh\n');
    chmodSync(join(root, program), 0o755);
  }
  return root;
}

/** Lines `Key=Value` of a unit; a key that stands twice has both values, in order. */
function settings(unit: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const line of readFileSync(join('systemd', unit), 'utf8').split('\n')) {
    const [, key, value] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) found.set(key, [...(found.get(key) ?? []), value]);
  }
  return found;
}

t.test('systemd takes every unit without a complaint', { skip }, async (t) => {
  const root = systemRoot(t);
  const result = spawnSync('systemd-analyze', ['verify', '--man=no', `--root=${root}`, ...UNITS], { encoding: 'utf8' });
  t.equal(result.stderr, '');
  t.equal(result.status, 0);
});

t.test('the actuator may confine itself further, whatever this systemd counts to @system-service', async (t) => {
  t.equal(settings('skos-actuator.service').get('SystemCallFilter')?.at(-1), 'seccomp');
});

t.test('the check itself notices a setting that systemd does not know', { skip }, async (t) => {
  const root = systemRoot(t);
  const unit = join(root, 'etc/systemd/system/skos-net.service');
  writeFileSync(unit, `${readFileSync(unit, 'utf8')}\n[Service]\nMemroyMax=1G\n`);
  const result = spawnSync('systemd-analyze', ['verify', '--man=no', `--root=${root}`, 'skos-net.service'], {
    encoding: 'utf8',
  });
  t.match(result.stderr, /Memroy/);
});

for (const service of SERVICES) {
  const tenths = MORE_EXPOSED_TENTHS[service] ?? MAX_EXPOSURE_TENTHS;
  t.test(`${service} is hardened: exposure at most ${tenths / 10}`, { skip }, async (t) => {
    const result = spawnSync(
      'systemd-analyze',
      ['security', '--offline=yes', '--no-pager', `--root=${systemRoot(t)}`, `--threshold=${tenths}`, service],
      { encoding: 'utf8' },
    );
    // Of a template it takes an instance of its own.
    const shown = service.replace('@.', '@[^ ]*.');
    t.match(result.stdout, new RegExp(`Overall exposure level for ${shown}`), result.stderr);
    t.equal(result.status, 0, result.stdout.split('\n').find((line) => line.includes('Overall')) ?? '');
  });

  if (ONESHOTS.includes(service)) continue;
  t.test(`${service} can be reloaded from inside its sandbox, and restarts for ever`, async (t) => {
    const unit = settings(service);
    for (const reload of unit.get('ExecReload') ?? []) t.match(reload, /^\+/, 'kill cannot be executed in the sandbox');
    const socket = service.replace('.service', '.socket');
    // What its own socket starts is there again with the next connection.
    if (unit.get('Requires')?.[0] === socket) t.strictSame(settings(socket).get('TriggerLimitIntervalSec'), ['0']);
    else t.strictSame(unit.get('Restart'), ['always']);
    t.strictSame(unit.get('StartLimitIntervalSec'), ['0']);
  });
}

t.test('what is started for one job ends by itself, is bounded, and reads nothing of the agent', async (t) => {
  t.ok(ONESHOTS.length >= 5);
  for (const service of ONESHOTS) {
    const unit = settings(service);
    for (const key of ['TimeoutStartSec', 'MemoryMax', 'TasksMax']) t.ok(unit.has(key), `${service} ${key}`);
    t.notOk(unit.has('Restart'), `${service}: whether it is tried again is decided elsewhere`);
    t.strictSame(unit.get('Slice'), ['skos.slice'], service);
  }
});

t.test('what deletes may write its report and what root’s drop-in names, its listing the report alone', async (t) => {
  for (const name of ACT_NAMES) {
    for (const listing of [false, true]) {
      const service = actUnit(name, { listing });
      const unit = settings(service);
      t.strictSame(unit.get('ReadWritePaths'), ['/run/skos-act'], service);
      t.strictSame(unit.get('ProtectSystem'), ['strict']);
      t.strictSame(unit.get('ProtectHome'), ['read-only']);
      t.strictSame(unit.get('PrivateNetwork'), ['yes']);
      t.strictSame(unit.get('AssertPathExists'), [`/etc/skos/act/${name}.json`], 'without a plan its start fails');
      t.match(
        unit.get('ExecStart')?.[0],
        new RegExp(`/dist/act\\.js ${name.replaceAll('_', '-')}${listing ? '-list' : ''}$`),
      );
      // logrotate's dry run becomes whom its configuration names; what it would rotate must stand on the list.
      const identity = name === 'cleanup_logs' ? 'CAP_SETUID CAP_SETGID ' : '';
      if (listing) t.strictSame(unit.get('CapabilityBoundingSet'), [`CAP_DAC_READ_SEARCH ${identity}CAP_SYS_PTRACE`]);
      // Each place that systemd-tmpfiles could not see would look like one that is gone.
      for (const key of ['PrivateTmp', 'ProtectProc', 'ProcSubset']) t.notOk(unit.has(key), `${service} ${key}`);
    }
  }
});

t.test('a route is taken away also where its start failed, and its note outlives the unit', async (t) => {
  const route = settings('skos-act-route@.service');
  t.notOk(route.has('ExecStop'));
  t.match(route.get('ExecStopPost')?.[0], / route remove %i$/);
  t.strictSame(route.get('RuntimeDirectoryPreserve'), ['yes']);
  t.strictSame(route.get('CapabilityBoundingSet'), ['CAP_NET_ADMIN']);
});

t.test('the agent is given what WireGuard says, and not what it takes to ask', async (t) => {
  const dump = settings('skos-wireguard-dump.service');
  t.strictSame(dump.get('Group'), settings('skos-agent.service').get('Group'));
  t.strictSame(dump.get('RuntimeDirectoryMode'), ['0750']);
  t.strictSame(dump.get('CapabilityBoundingSet'), ['CAP_NET_ADMIN']);
  t.strictSame(settings('skos-wireguard-dump.timer').get('OnUnitInactiveSec'), ['10s']);
  t.match(readFileSync('systemd/tmpfiles.d/skos.conf', 'utf8'), /^d \/run\/skos-act 1770 root skos -$/m);
});

t.test('the agent has no network and no capability, and executes nothing but Node.js', async (t) => {
  const agent = settings('skos-agent.service');
  t.strictSame(agent.get('RestrictAddressFamilies'), ['AF_UNIX AF_NETLINK']);
  t.strictSame(agent.get('CapabilityBoundingSet'), ['']);
  t.strictSame(agent.get('NoExecPaths'), ['/']);
  const allowed = (agent.get('ExecPaths') ?? []).join(' ').split(' ');
  t.notOk(
    allowed.some((path) => /actuator|\/bin$|\/sh$|^\/usr\/lib$/.test(path)),
    'no directory of programs',
  );
  t.ok(agent.has('WatchdogSec'));
});

t.test('each program runs as a user of its own, root only what moves something', async (t) => {
  // What a listing shows its act does, as the same user.
  const programs = SERVICES.filter((service) => !/-list[@.]/.test(service));
  const users = programs.map((service) => settings(service).get('User')?.[0]);
  const others = users.filter((user) => user !== 'root');
  t.equal(new Set(others).size, others.length);
  t.strictSame(programs.filter((service) => settings(service).get('User')?.[0] === 'root').sort(), [
    'skos-act-archive-old-data.service',
    'skos-act-cleanup-logs.service',
    'skos-act-cleanup-temp.service',
    'skos-act-emergency-cleanup.service',
    'skos-act-regenerate-wireguard-config@.service',
    'skos-act-route@.service',
    'skos-actuator.service',
    'skos-gpu-set.service',
    'skos-units.service',
  ]);
  const sysusers = readFileSync('systemd/sysusers.d/skos.conf', 'utf8');
  for (const user of users) if (user !== 'root') t.match(sysusers, new RegExp(`^u ${user} `, 'm'));
  t.match(sysusers, /^g skos-admin /m);
});

t.test('the agent is given the kernel’s log, which it may not open itself', async (t) => {
  const agent = settings('skos-agent.service');
  t.strictSame(agent.get('Sockets'), ['skos-kmsg.socket']);
  t.strictSame(agent.get('PrivateDevices'), ['yes']);
  t.strictSame(agent.get('ProtectKernelLogs'), ['yes']);
  const socket = settings('skos-kmsg.socket');
  t.strictSame(socket.get('ListenSpecial'), ['/dev/kmsg']);
  t.strictSame(socket.get('Service'), ['skos-agent.service']);
});

t.test('without a kernel log the agent starts, and no message of the kernel starts one that was stopped', async (t) => {
  const agent = settings('skos-agent.service');
  t.notOk(agent.has('StandardInput'), 'a file that cannot be opened would keep it from starting');
  for (const key of ['Requires', 'BindsTo', 'Requisite']) t.notOk(agent.has(key), key);
  const socket = settings('skos-kmsg.socket');
  t.strictSame(socket.get('ConditionPathExists'), ['/dev/kmsg']);
  t.strictSame(socket.get('PartOf'), ['skos-agent.service']);
  t.ok(socket.has('TriggerLimitBurst'));
  t.strictSame(socket.get('StartLimitIntervalSec'), ['0'], 'an agent that died often gets it again');
});

t.test('the network side has limits of memory, CPU and tasks, and no swap', async (t) => {
  const net = settings('skos-net.service');
  for (const key of ['MemoryHigh', 'MemoryMax', 'CPUQuota', 'TasksMax']) t.ok(net.has(key), key);
  t.strictSame(net.get('MemorySwapMax'), ['0']);
});

t.test('the actuator keeps its state over restarts, in a directory of its own, before the agent starts', async (t) => {
  const actuator = settings('skos-actuator.service');
  t.strictSame(actuator.get('RuntimeDirectoryPreserve'), ['yes']);
  t.strictSame(actuator.get('Before'), ['skos-agent.service']);
  const tmpfiles = readFileSync('systemd/tmpfiles.d/skos.conf', 'utf8');
  t.match(tmpfiles, /^L\+ \/run\/skos\/actuator\.sock .* \/run\/skos-actuator\/actuator\.sock$/m);
  t.match(actuator.get('ExecStart')?.[0], '--socket /run/skos-actuator/actuator.sock');
});

t.test('the GPU reader leaves a worker that hangs alone, and no such worker holds up a restart', async (t) => {
  const gpu = settings('skos-gpu.service');
  t.strictSame(gpu.get('KillMode'), ['process']);
  t.strictSame(gpu.get('RuntimeDirectoryPreserve'), ['yes']);
  t.strictSame(gpu.get('CapabilityBoundingSet'), ['']);
  t.strictSame(gpu.get('RestrictAddressFamilies'), ['AF_UNIX AF_NETLINK']);
  t.match(gpu.get('ExecStart')?.[0], '--socket /run/skos-gpu/gpu.sock --controller skos');
});

t.test('what sets GPUs is reached by the actuator alone, and leaves it a setter that hangs', async (t) => {
  const socket = settings('skos-gpu-set.socket');
  const setter = settings('skos-gpu-set.service');
  t.strictSame(socket.get('SocketMode'), ['0600']);
  const [path = ''] = socket.get('ListenSequentialPacket') ?? [];
  t.match(setter.get('ExecStart')?.[0], `--setters --socket ${path}`);
  t.match(settings('skos-actuator.service').get('ExecStart')?.[0], `--setter ${path}`);
  t.strictSame(setter.get('KillMode'), ['process']);
  t.strictSame(setter.get('CapabilityBoundingSet'), ['CAP_SYS_ADMIN']);
  t.strictSame(setter.get('PrivateNetwork'), ['yes']);
});

t.test(
  'what moves units is reached by the actuator alone, executes systemctl only, and has no capability',
  async (t) => {
    const socket = settings('skos-units.socket');
    const units = settings('skos-units.service');
    t.strictSame(socket.get('SocketMode'), ['0600']);
    const [path = ''] = socket.get('ListenSequentialPacket') ?? [];
    t.match(units.get('ExecStart')?.[0], `--socket ${path}`);
    t.match(settings('skos-actuator.service').get('ExecStart')?.[0], `--units ${path}`);
    t.match(settings('skos-actuator.service').get('Wants')?.join(' '), 'skos-units.socket');
    t.strictSame(units.get('NoExecPaths'), ['/']);
    const programs = (units.get('ExecPaths') ?? []).join(' ').split(' ');
    t.strictSame(
      programs.filter((each) => /\/s?bin|skos/.test(each)),
      ['/usr/lib/skos/skos-units', '-/usr/bin/systemctl', '-/bin/systemctl'],
    );
    t.strictSame(units.get('CapabilityBoundingSet'), ['']);
    t.strictSame(units.get('RestrictAddressFamilies'), ['AF_UNIX']);
  },
);

t.test('the actuator finds what it needs for as long as it gives limits back', async (t) => {
  // Stopped with the actuator, or ordered after its stop, none could be started meanwhile.
  for (const unit of ['skos-gpu-set.socket', 'skos-gpu-set.service', 'skos-units.socket', 'skos-units.service']) {
    const keys = ['PartOf', 'BindsTo', 'Before', 'Conflicts', 'StopPropagatedFrom'];
    t.strictSame(
      [...settings(unit).keys()].filter((key) => keys.includes(key)),
      [],
      unit,
    );
    for (const key of ['Requires', 'After'])
      t.notMatch((settings(unit).get(key) ?? []).join(' '), 'skos-actuator', `${unit} ${key}`);
  }
  for (const socket of ['skos-gpu-set.socket', 'skos-units.socket'])
    t.match(settings('skos-actuator.service').get('After')?.join(' '), socket);
  const actuator = settings('skos-actuator.service');
  const tied = ['Requires', 'BindsTo', 'PropagatesStopTo'].flatMap((key) => actuator.get(key) ?? []);
  t.notMatch(tied.join(' '), /gpu-set|units/);
  t.notMatch(settings('skos-actuator.service').get('After')?.join(' '), /(gpu-set|units)\.service/);
});

t.test('users and directories are made as their tools take them', { skip }, async (t) => {
  const root = t.testdir({ etc: {} });
  const has = (tool: string) => spawnSync(tool, ['--version']).status === 0;
  if (has('systemd-sysusers')) {
    execFileSync('systemd-sysusers', [`--root=${root}`, join(process.cwd(), 'systemd/sysusers.d/skos.conf')]);
    t.match(readFileSync(join(root, 'etc/passwd'), 'utf8'), /^skos:.*\nskos-net:.*\nskos-gpu:/m);
  }
  if (has('systemd-tmpfiles') && process.getuid?.() === 0) {
    const conf = join(process.cwd(), 'systemd/tmpfiles.d/skos.conf');
    execFileSync('systemd-tmpfiles', ['--create', `--root=${root}`, conf]);
    t.ok(readdirSync(join(root, 'run/skos')).includes('actuator.sock'));
  }
});
