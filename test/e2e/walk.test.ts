/**
 * Every row of the default policies, from its condition to its action to its release, on one node: real agent, actuator, skos-units
 * and oneshot programs; the machine is files, and systemd is a systemctl over files that really runs what a unit runs.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ActionRecord } from '../../src/core/ports.js';
import { CELSIUS, FORMER_KHZ, type HeatedNode, heatedNode, KHZ } from '../fixtures/node.js';
import { FakeSystemd } from '../fixtures/units.js';
import { dumpText, publicKey } from '../fixtures/wireguard.js';

const ACTUATOR = join(process.cwd(), 'build/native/skos-actuator');

/** Of the machine, which stands still. */
const UPTIME_SECONDS = 5_000;

interface Walk {
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
  await systemd.start();
  const node = await heatedNode(t, {
    prepared: true,
    machine: (machine) => machine.setProc('uptime', `${UPTIME_SECONDS} 1`),
    config: {
      actuator: { mode: 'socket', lease: 5 },
      thermal: { keep: 1 },
      repairs: { interval: 1 },
      auto_allow: ['redistribute', 'shutdown_non_essential', 'failover', 'restart_wireguard'],
      hooks: { redistribute: { unit: 'redistribute.service' }, failover: { unit: 'failover.service' } },
      workloads: { batch: { unit: 'batch.service', essential: false } },
      routes: { other: { peers: ['lyra'], destination: '10.9.0.0/24', dev: 'eth9', metric: 10, keep: 0 } },
      wireguard: { keep: 1, interfaces: { wg0: { peers: { lyra: { key: publicKey(1) } } } } },
    },
    env: () => ({ SKOS_ACT_DIR: acts, SKOS_WIREGUARD_DIR: systemd.directory }),
  });
  await startActuator(t, { node, systemd });
  await node.start();
  return { node, systemd };
}

async function startActuator(t: Test, { node, systemd }: Walk): Promise<void> {
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

t.test('the default policies, row by row', async (t) => {
  const walk = await walked(t);
  const { node, systemd } = walk;

  await t.test('heat', async (t) => {
    await go(t, walk, THERMAL);
    node.celsius(CELSIUS.cool);
    await node.until('every action is over', async () => (await open(node)).length === 0);
    t.strictSame(node.caps(), [FORMER_KHZ, FORMER_KHZ]);
    t.equal(systemd.get('batch.service', 'FreezerState'), 'running');
    const ends = Object.fromEntries((await node.actions()).map(({ action, state }) => [action, state]));
    t.strictSame(ends, {
      throttle_10: 'released',
      throttle_50: 'released',
      redistribute: 'helped',
      shutdown_non_essential: 'released',
      failover: 'helped',
    });
    await leaves(t, node, 'throttle_50', ['action.pending', 'action.active', 'action.end']);
    await leaves(t, node, 'failover', ['action.running', 'action.verifying', 'action.helped', 'action.end']);
  });

  await t.test('mesh', async (t) => {
    await go(t, walk, MESH);
    await node.until('every action is over', async () => (await open(node)).length === 0);
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

async function open(node: HeatedNode): Promise<ActionRecord[]> {
  return (await node.actions()).filter(({ endedAtMs }) => endedAtMs === null);
}

async function untilAction(node: HeatedNode, action: string, state: string): Promise<void> {
  let known: unknown;
  try {
    await node.until(`${action} is ${state}`, async () => {
      const record = (await node.actions()).find((each) => each.action === action);
      known = record;
      return record?.state === state;
    });
  } catch (error) {
    throw new Error(`${action} is not ${state} but ${JSON.stringify(known)}`, { cause: error });
  }
}

/** The entries of the record that an action leaves, among others, in this order; with an intent before the first run. */
async function leaves(t: Test, node: HeatedNode, action: string, kinds: readonly string[]): Promise<void> {
  const entries = await node.audit();
  const own = entries.filter(
    ({ kind, what }) => kind.startsWith('action.') && String(what.action).includes(`:${action}:`),
  );
  const found = own.map(({ kind }) => kind);
  t.strictSame(
    found.filter((kind) => kinds.includes(kind)),
    kinds,
    `${action} on record`,
  );
  if (kinds.includes('action.running')) t.ok(found.indexOf('action.intent') < found.indexOf('action.running'));
}
