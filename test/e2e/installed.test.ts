/** The actuator as a service of its own, as systemd runs it: there before the agent, and after it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { CELSIUS, FORMER_KHZ, type HeatedNode, heatedNode, KHZ, type NodeOptions } from '../fixtures/node.js';

t.jobs = 3;

const isRoot = process.getuid?.() === 0;
const PROGRAM = join(process.cwd(), 'build/native/skos-actuator');

interface Installed {
  readonly node: HeatedNode;
  actuator: ChildProcess;
}

/** Compiles the allow-list with the CLI and starts the actuator with it, then the agent. */
async function installed(t: Test, options: NodeOptions = {}): Promise<Installed> {
  const config = { actuator: { mode: 'socket', lease: 2 } };
  const node = await heatedNode(t, { prepared: true, ...options, config: { ...config, ...options.config } });
  const compiled = await node.cliWithConfig('config', 'compile', '--controller', String(process.getuid?.() ?? 0));
  if (compiled.code !== 0) throw new Error(compiled.err);
  const actuator = await startActuator(node);
  await node.start();
  return { node, actuator };
}

async function startActuator(node: HeatedNode): Promise<ChildProcess> {
  const at = (name: string) => join(node.runDirectory, name);
  const roots = ['--sysfs', node.machine.sysfs, '--cgroup', node.machine.cgroup];
  const files = ['--allow', at('actuator.allow'), '--socket', at('actuator.sock'), '--state', node.runDirectory];
  const actuator = spawn(PROGRAM, [...files, ...roots], { stdio: 'ignore' });
  await node.until('the actuator listens', () => existsSync(at('actuator.sock')));
  return actuator;
}

const gone = (child: ChildProcess) => new Promise<number | null>((resolve) => child.once('exit', resolve));

t.test('with the agent dead, and nothing held, a rise to 97 °C is still capped, and given back', async (t) => {
  const { node, actuator } = await installed(t);
  node.celsius(CELSIUS.warning);
  await node.untilCappedAt(KHZ.throttle10);
  await node.kill();
  await node.untilCappedAt(FORMER_KHZ);
  t.pass('below the bounds of the order the cap ends with its lease');
  for (let round = 0; round < 2; round++) {
    node.celsius(CELSIUS.emergency);
    await node.untilCappedAt(KHZ.throttle50);
    await node.stays('for as long as it is hot', () => node.isCappedAt(KHZ.throttle50), 500);
    node.celsius(92);
    await node.stays('also between the bounds', () => node.isCappedAt(KHZ.throttle50), 500);
    node.celsius(CELSIUS.cool);
    await node.untilCappedAt(FORMER_KHZ);
  }
  t.equal(actuator.exitCode, null, 'the service stays');
  await node.start();
  await node.until('what happened meanwhile is on record', async () => {
    const events = (await node.audit()).filter(({ kind }) => kind === 'actuator.event').map(({ what }) => what.event);
    return events.filter((event) => event === 'order_raised').length === 2;
  });
  const raised = (await node.audit()).filter(({ what }) => what.event === 'order_raised');
  t.equal(new Set(raised.map(({ what }) => what.seq)).size, raised.length, 'once each');
});

t.test('the actuator that is stopped restores everything; started again, it is asked for the caps anew', async (t) => {
  const installation = await installed(t);
  const { node } = installation;
  node.celsius(CELSIUS.critical);
  await node.untilCappedAt(KHZ.throttle50);
  const exit = gone(installation.actuator);
  installation.actuator.kill('SIGTERM');
  t.equal(await exit, 0);
  t.ok(node.isCappedAt(FORMER_KHZ), 'restored before it left');
  await node.until('the agent says that it is lost', async () => !(await node.status()).actuator.connected);
  t.match(await node.status(), { armed: false });
  t.match(await node.cli('status'), { code: 0, out: /not connected/ });
  installation.actuator = await startActuator(node);
  await node.untilCappedAt(KHZ.throttle50);
  t.ok((await node.status()).armed);
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
});

t.test('an agent that was there before its actuator acts as soon as it comes', async (t) => {
  const node = await heatedNode(t, { prepared: true, config: { actuator: { mode: 'socket', lease: 2 } } });
  node.spawnAgent();
  node.celsius(CELSIUS.critical);
  await node.until('what cannot be done is said', async () =>
    (await node.actions()).some(({ action, state }) => action === 'throttle_50' && state === 'unavailable'),
  );
  t.equal((await node.alerts()).length, 1, 'and the alert stands');
  t.equal((await node.cliWithConfig('config', 'compile', '--controller', String(process.getuid?.() ?? 0))).code, 0);
  await startActuator(node);
  await node.untilCappedAt(KHZ.throttle50);
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
});

t.test(
  'skos arm and disarm reach the service: orders, caps, and back',
  { skip: !isRoot && 'needs root' },
  async (t) => {
    const { node } = await installed(t, { mode: 'observe' });
    t.same((await node.status()).actuator.orders, []);
    node.celsius(CELSIUS.warning);
    const armed = await node.cliWithConfig('arm', '--confirm', 'nova');
    t.equal(armed.code, 0, armed.err);
    await node.untilCappedAt(KHZ.throttle10);
    t.equal((await node.status()).actuator.orders.length, 1);
    const disarmed = await node.cliWithConfig('disarm');
    t.equal(disarmed.code, 0, disarmed.err);
    await node.untilCappedAt(FORMER_KHZ);
    t.same((await node.status()).actuator.orders, []);
  },
);

t.test('a policy that is unplugged while capped is given back when it returns with the cap', async (t) => {
  const { node } = await installed(t);
  node.celsius(CELSIUS.critical);
  await node.untilCappedAt(KHZ.throttle50);
  const [first = '', second = ''] = node.policies.map((policy) => `${policy}/scaling_max_freq`);
  node.machine.remove(second);
  node.celsius(CELSIUS.cool);
  await node.until('the other is released', () => Number(node.machine.get(first)) === FORMER_KHZ);
  await node.until('the way back is pending, and said to be', async () =>
    (await node.actions()).some(({ state }) => state === 'undo_pending'),
  );
  t.ok((await node.status()).actuator.targets.some(({ state }) => state === 'undo_pending'));
  node.machine.set(second, KHZ.throttle50);
  await node.untilCappedAt(FORMER_KHZ);
  await node.until('released', async () => (await node.actions()).every(({ endedAtMs }) => endedAtMs !== null));
});

t.test('a policy that comes back while it is hot is capped then', async (t) => {
  const { node } = await installed(t);
  const second = `${node.policies[1]}/scaling_max_freq`;
  node.machine.remove(second);
  node.celsius(CELSIUS.critical);
  await node.until(
    'the other is capped',
    () => Number(node.machine.get(`${node.policies[0]}/scaling_max_freq`)) === KHZ.throttle50,
  );
  node.machine.set(second, FORMER_KHZ);
  await node.untilCappedAt(KHZ.throttle50);
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
});

t.test(
  '`skos run` as root starts an actuator of its own where none is installed',
  { skip: !isRoot && 'needs root' },
  async (t) => {
    const node = await heatedNode(t, { net: true, config: { actuator: { lease: 2 } } });
    node.celsius(CELSIUS.warning);
    await node.untilCappedAt(KHZ.throttle10);
    t.match(await node.status(), { mode: 'auto', armed: true });
    node.celsius(CELSIUS.cool);
    await node.untilCappedAt(FORMER_KHZ);
  },
);
