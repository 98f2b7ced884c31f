/**
 * Every row of the default policies but those on chains (guests.test.ts), from its condition to its action to its release, on one node: real agent, actuator, skos-units
 * and oneshot programs; the machine is files, and systemd is a systemctl over files that really runs what a unit runs.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { ACT_NAMES, type ActName, actUnit } from '../../src/config/act-plan.js';
import { parseMounts, placeInFileSystem } from '../../src/core/mount-info.js';
import type { ActionRecord } from '../../src/core/ports.js';
import { placeOf, planOf } from '../fixtures/acts.js';
import { CELSIUS, FORMER_KHZ, type HeatedNode, heatedNode, KHZ } from '../fixtures/node.js';
import { FakeSystemd } from '../fixtures/units.js';
import { dumpText, publicKey } from '../fixtures/wireguard.js';

const ACTUATOR = join(process.cwd(), 'build/native/skos-actuator');

/** Of the machine, which stands still. */
const UPTIME_SECONDS = 5_000;

const ACT = fileURLToPath(new URL('../../src/app/act.js', import.meta.url));
const DISK_BYTES = 4 * 1024 * 1024;
const mount = (path: string) =>
  spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'skos-test', path]).status === 0;
const noMounts = canMount() ? false : 'mounting a tmpfs needs root and CAP_SYS_ADMIN';
const PLACE_OF = {
  cleanup_temp: 'temp',
  cleanup_logs: 'logs',
  archive_old_data: 'data',
  emergency_cleanup: 'caches',
} as const satisfies Readonly<Record<ActName, string>>;
const PLACES = Object.values(PLACE_OF);

interface Walk {
  readonly disk: string;
  readonly node: HeatedNode;
  readonly systemd: FakeSystemd;
}

/** A node whose actuator is not its child: skos-units beside it speaks to another systemd than this machine's. */
async function walked(t: Test): Promise<Walk> {
  const systemd = new FakeSystemd(t);
  const acts = join(systemd.directory, 'reports');
  mkdirSync(acts);
  systemd.add('batch.service', { ActiveState: 'active' });
  systemd.addOneshot('redistribute.service', 'echo moved');
  systemd.addOneshot('failover.service', 'echo failed over');
  systemd.add('wg-quick@wg0.service', { ActiveState: 'active' });
  systemd.add('skos-act-route@other.service');
  systemd.addOneshot('skos-act-ping-peer@lyra.service', 'echo it does not answer');
  writeFileSync(join(systemd.directory, 'dump'), dump(1));
  const disk = smallDisk(t, systemd);
  for (const act of ACT_NAMES) addAct(systemd, { act, disk, acts });
  await systemd.start();
  const node = await heatedNode(t, {
    prepared: true,
    machine: (machine) => {
      machine.setProc('uptime', `${UPTIME_SECONDS} 1`);
      machine.setProc('self/mountinfo', `27 1 254:0 / ${disk} rw,relatime - ext4 /dev/vda rw`);
    },
    config: {
      actuator: { mode: 'socket', lease: 5 },
      thermal: { keep: 1 },
      repairs: { interval: 1 },
      auto_allow: ['redistribute', 'shutdown_non_essential', 'failover', 'restart_wireguard', ...ACT_NAMES],
      storage: {
        keep: 1,
        cleanup: {
          temp: [{ path: join(disk, 'temp'), age: '1d' }],
          logs: [{ path: join(disk, 'logs'), age: '1d' }],
          caches: [{ path: join(disk, 'caches'), age: '1d' }],
          archive: [{ path: join(disk, 'data'), age: '1d' }],
          archive_to: join(systemd.directory, 'archive'),
        },
      },
      hooks: { redistribute: { unit: 'redistribute.service' }, failover: { unit: 'failover.service' } },
      workloads: { batch: { unit: 'batch.service', essential: false } },
      routes: { other: { peers: ['lyra'], destination: '10.9.0.0/24', dev: 'eth9', metric: 10, keep: 0 } },
      wireguard: { keep: 1, interfaces: { wg0: { peers: { lyra: { key: publicKey(1) } } } } },
    },
    env: () => ({ SKOS_ACT_DIR: acts, SKOS_WIREGUARD_DIR: systemd.directory }),
  });
  await startActuator(t, { node, systemd });
  await node.start();
  return { node, systemd, disk };
}

function canMount(): boolean {
  const directory = mkdtempSync(join(tmpdir(), 'skos-m-'));
  const isMounted = mount(directory);
  if (isMounted) spawnSync('umount', [directory]);
  rmSync(directory, { recursive: true });
  return isMounted;
}

/** A file system of its own that a few megabytes fill; in each listed place one file is old, and one is not. */
function smallDisk(t: Test, systemd: FakeSystemd): string {
  const disk = join(systemd.directory, 'disk');
  mkdirSync(disk);
  if (noMounts === false) {
    mount(disk);
    t.teardown(() => spawnSync('umount', ['--lazy', disk]));
  }
  // What some process has open stays, by the number of its inode, and on a new file system the numbers are those of /dev, too.
  for (let i = 0; i < 3_000; i++) rmSync(mkdtempSync(join(disk, 'x')), { recursive: true });
  mkdirSync(join(systemd.directory, 'archive'));
  for (const place of PLACES) {
    mkdirSync(join(disk, place));
    writeFileSync(join(disk, place, 'old'), 'old');
  }
  return disk;
}

/** As the installed units run them; the plan is root's, and here its age is a second, because no file can be made older than it is. */
function addAct(systemd: FakeSystemd, { act, disk, acts }: { act: ActName; disk: string; acts: string }): void {
  const path = join(disk, PLACE_OF[act]);
  const archiveTo = act === 'archive_old_data' ? { path: join(systemd.directory, 'archive'), inside: '/' } : null;
  const plan = planOf(act, [placeOf(path, { pattern: '*' })], { archiveTo: archiveTo && inFileSystem(archiveTo.path) });
  const file = join(systemd.directory, `${act}.json`);
  writeFileSync(file, JSON.stringify(plan));
  const env = `SKOS_ACT_DIR=${acts} STATE_DIRECTORY=${acts}`;
  for (const listing of [true, false]) {
    const word = `${act.replaceAll('_', '-')}${listing ? '-list' : ''}`;
    systemd.addOneshot(actUnit(act, { listing }), `${env} exec ${process.execPath} ${ACT} ${word} --plan ${file}`);
  }
}

function inFileSystem(path: string): { path: string; inside: string } {
  return { path, inside: placeInFileSystem(path, parseMounts(readFileSync('/proc/self/mountinfo', 'utf8'))) ?? '/' };
}

async function startActuator(t: Test, { node, systemd }: Pick<Walk, 'node' | 'systemd'>): Promise<void> {
  const socket = join(node.runDirectory, 'actuator.sock');
  const allow = join(systemd.directory, 'allow');
  const uid = String(process.getuid?.());
  const compiled = await node.cliWithConfig('config', 'compile', '--output', allow, '--controller', uid);
  if (compiled.code !== 0) throw new Error(compiled.err);
  const roots = ['--sysfs', node.machine.sysfs, '--cgroup', node.machine.cgroup];
  const places = ['--allow', allow, '--socket', socket, '--state', systemd.directory, '--units', systemd.socket];
  const child = spawn(ACTUATOR, [...places, ...roots], { stdio: 'ignore' });
  t.teardown(() => child.kill('SIGKILL'));
}

interface Row {
  readonly when: string;
  readonly raise: (walk: Walk) => void;
  /** By action: what must come of it while the condition stands, and that it shows where it acts. */
  readonly brings: Readonly<Record<string, { readonly state: string; readonly shows: (walk: Walk) => boolean }>>;
}

const ran = (verb: string, unit: string) => (walk: Walk) =>
  walk.systemd.asked().some((asked) => asked.startsWith(verb) && asked.includes(unit));

const THERMAL: readonly Row[] = [
  {
    when: 'warning',
    raise: ({ node }) => node.celsius(CELSIUS.warning),
    brings: { throttle_10: { state: 'active', shows: ({ node }) => node.isCappedAt(KHZ.throttle10) } },
  },
  {
    when: 'critical',
    raise: ({ node }) => node.celsius(CELSIUS.critical),
    brings: {
      throttle_50: { state: 'active', shows: ({ node }) => node.isCappedAt(KHZ.throttle50) },
      redistribute: { state: 'verifying', shows: ran('start', 'redistribute.service') },
    },
  },
  {
    when: 'emergency',
    raise: ({ node }) => node.celsius(CELSIUS.emergency),
    brings: {
      shutdown_non_essential: {
        state: 'active',
        shows: ({ systemd }) => systemd.get('batch.service', 'FreezerState') === 'frozen',
      },
      failover: { state: 'verifying', shows: ran('start', 'failover.service') },
    },
  },
];

/** The dump that skos-wireguard-dump would make now, of a tunnel whose last handshake was so long ago. */
function dump(handshakeAgoSeconds: number): string {
  const wall = Math.floor(Date.now() / 1000);
  const peer = { key: publicKey(1), handshake: wall - handshakeAgoSeconds, keepalive: 25 };
  return dumpText({ wall, uptime: UPTIME_SECONDS, peers: [peer] });
}

/** Handshakes are as old as in a tunnel that was cut some minutes ago; the restart makes a new one. */
function cut({ systemd }: Walk): void {
  const file = join(systemd.directory, 'dump');
  const renewed = join(systemd.directory, 'renewed');
  writeFileSync(renewed, dump(1));
  systemd.set('wg-quick@wg0.service', 'runs', `cp ${renewed} ${file}`);
  writeFileSync(file, dump(400));
}

const MESH: readonly Row[] = [
  {
    when: 'tunnel down',
    raise: cut,
    brings: {
      ping_peer: { state: 'done', shows: ran('start', 'skos-act-ping-peer@lyra.service') },
      failover_route: { state: 'active', shows: ran('start', 'skos-act-route@other.service') },
      restart_wireguard: { state: 'verifying', shows: ran('restart', 'wg-quick@wg0.service') },
      regenerate_wireguard_config: { state: 'proposed', shows: () => true },
    },
  },
];

/** So many % of the disk are used. */
function fill({ disk }: Walk, percent: number): void {
  writeFileSync(join(disk, 'filler'), Buffer.alloc(Math.floor((DISK_BYTES * percent) / 100)));
}

const gone = (place: string) => (walk: Walk) => !existsSync(join(walk.disk, place, 'old'));

const STORAGE: readonly Row[] = [
  {
    when: '> 80 %',
    raise: (walk) => fill(walk, 83),
    brings: { cleanup_temp: { state: 'verifying', shows: gone('temp') } },
  },
  {
    when: '> 90 %',
    raise: (walk) => fill(walk, 92),
    brings: {
      cleanup_logs: { state: 'verifying', shows: gone('logs') },
      archive_old_data: {
        state: 'verifying',
        shows: (walk) =>
          gone('data')(walk) && existsSync(join(walk.systemd.directory, 'archive', walk.disk, 'data/old')),
      },
    },
  },
  {
    when: '> 95 %',
    raise: (walk) => fill(walk, 96.5),
    brings: {
      emergency_cleanup: { state: 'verifying', shows: gone('caches') },
      alert_human: { state: 'done', shows: () => true },
    },
  },
];

t.test('the default policies, row by row', async (t) => {
  const walk = await walked(t);
  const { node, systemd } = walk;

  // Each waits for its own sensors most of the time.
  t.jobs = 3;
  t.test('heat', async (t) => {
    await go(t, walk, THERMAL);
    node.celsius(CELSIUS.cool);
    const own = ['throttle_10', 'throttle_50', 'redistribute', 'shutdown_non_essential', 'failover'];
    await node.until('every action is over', async () =>
      (await open(node)).every(({ action }) => !own.includes(action)),
    );
    t.strictSame(node.caps(), [FORMER_KHZ, FORMER_KHZ]);
    t.equal(systemd.get('batch.service', 'FreezerState'), 'running');
    const ends = Object.fromEntries((await node.actions()).map(({ action, state }) => [action, state]));
    t.match(ends, {
      throttle_10: 'released',
      throttle_50: 'released',
      redistribute: 'helped',
      shutdown_non_essential: 'released',
      failover: 'helped',
    });
    await leaves(t, node, 'throttle_50', ['action.pending', 'action.active', 'action.end']);
    await leaves(t, node, 'failover', ['action.running', 'action.verifying', 'action.helped', 'action.end']);
  });

  t.test('storage', { skip: noMounts }, async (t) => {
    await go(t, walk, STORAGE);
    const [alert] = (await node.alerts()).filter(({ rule }) => rule === 'storage');
    t.match(alert, { severity: 'emergency', attention: true });
    const own = new Set<string>([...ACT_NAMES, 'alert_human']);
    fill(walk, 10);
    await node.until('every action is over', async () => (await open(node)).every(({ action }) => !own.has(action)));
    for (const action of ACT_NAMES) {
      t.match(await latest(node, action), { state: 'helped' }, action);
      await leaves(t, node, action, ['action.running', 'action.verifying', 'action.helped', 'action.end']);
    }
    const intents = (await node.audit()).filter(
      ({ kind, what }) => kind === 'action.intent' && what.verb === 'cleanup_temp',
    );
    t.match(intents, [{ what: { listing: { total: 1, items: [join(walk.disk, 'temp/old')] } } }], 'listed first');
  });

  t.test('mesh', async (t) => {
    await go(t, walk, MESH);
    const own = ['restart_wireguard', 'failover_route', 'ping_peer', 'regenerate_wireguard_config'];
    await node.until('every action is over', async () =>
      (await open(node)).every(({ action }) => !own.includes(action)),
    );
    t.equal(systemd.get('skos-act-route@other.service', 'ActiveState'), 'inactive', 'the route is taken back');
    const ends = Object.fromEntries((await node.actions()).map(({ action, state }) => [action, state]));
    t.match(ends, {
      ping_peer: 'done',
      failover_route: 'released',
      restart_wireguard: 'helped',
      regenerate_wireguard_config: 'proposed',
    });
    await leaves(t, node, 'restart_wireguard', ['action.running', 'action.verifying', 'action.helped', 'action.end']);
    await leaves(t, node, 'failover_route', ['action.active', 'action.end']);
  });
});

async function go(t: Test, walk: Walk, rows: readonly Row[]): Promise<void> {
  for (const { when, raise, brings } of rows) {
    raise(walk);
    for (const [action, { state, shows }] of Object.entries(brings)) {
      await untilAction(walk.node, action, state);
      t.ok(shows(walk), `${when}: ${action}`);
    }
  }
}

async function latest(node: HeatedNode, action: string): Promise<ActionRecord | undefined> {
  return (await node.actions()).find((each) => each.action === action);
}

async function open(node: HeatedNode): Promise<ActionRecord[]> {
  return (await node.actions()).filter(({ endedAtMs }) => endedAtMs === null);
}

async function untilAction(node: HeatedNode, action: string, state: string): Promise<void> {
  let known: unknown;
  try {
    await node.until(`${action} is ${state}`, async () => {
      const record = await latest(node, action);
      known = record;
      return record?.state === state;
    });
  } catch (error) {
    throw new Error(`${action} is not ${state} but ${JSON.stringify(known)}`, { cause: error });
  }
}

/**
 * The entries of the record that an action leaves, among others, in this order; with an intent before the first run. What became of
 * it is told at once, and is on record when the disk has it.
 */
async function leaves(t: Test, node: HeatedNode, action: string, kinds: readonly string[]): Promise<void> {
  let found: string[] = [];
  const own = () => found.filter((kind) => kinds.includes(kind));
  await node.until(`${action} is on record`, async () => {
    const entries = (await node.audit()).filter(
      ({ kind, what }) => kind.startsWith('action.') && String(what.action).includes(`:${action}:`),
    );
    found = entries.map(({ kind }) => kind);
    return own().length >= kinds.length;
  });
  t.strictSame(own(), kinds, `${action} on record`);
  if (kinds.includes('action.running')) t.ok(found.indexOf('action.intent') < found.indexOf('action.running'));
}
