/** Caps outlive whoever asked for them, end when it is safe, and are never asked for twice. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { CELSIUS, FORMER_KHZ, type HeatedNode, heatedNode, KHZ } from '../fixtures/node.js';

t.jobs = 4;

/** Critical, and above the clear bound of the standing order (90 °C), so that an orphaned lease has to wait. */
const HOT = 92;

async function hot(node: HeatedNode, celsius = HOT): Promise<void> {
  node.celsius(celsius);
  await node.untilCappedAt(KHZ.throttle50);
  await node.until('both caps are on record', async () => {
    const actions = await node.actions();
    return ['throttle_10', 'throttle_50'].every((action) =>
      actions.some((record) => record.action === action && record.state === 'active'),
    );
  });
}

const throttles = async (node: HeatedNode) =>
  (await node.actions()).filter(({ action }) => action.startsWith('throttle_'));

async function untilGone(node: HeatedNode): Promise<void> {
  await node.until('no process is left', () => node.processes().size === 0);
}

t.test('SIGKILL of the agent while hot: the cap stands for as long as it is hot', async (t) => {
  const node = await heatedNode(t);
  await hot(node);
  const actuator = node.actuatorPid;
  await node.kill();
  // Longer than the lease of 2 s.
  await node.stays('capped', () => node.isCappedAt(KHZ.throttle50), 3_000);
  t.equal(node.actuatorPid, actuator, 'the actuator lives on');

  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
  await untilGone(node);
  t.pass('the actuator restored by itself, and left');

  await node.start();
  await node.stays('nothing is replayed', () => node.isCappedAt(FORMER_KHZ), 500);
  await node.until('the records are closed', async () =>
    (await throttles(node)).every(({ endedAtMs }) => endedAtMs !== null),
  );
  t.same(
    (await throttles(node)).map(({ action, state }) => [action, state]).sort(),
    [
      ['throttle_10', 'abandoned'],
      ['throttle_50', 'abandoned'],
    ],
    'the earlier actions, closed; no new one',
  );
  await node.until('the alert of the earlier agent is over', async () => (await node.alerts()).length === 0);
  t.equal((await node.cli('audit', 'verify')).code, 0);
});

t.test('SIGKILL of the agent below the bounds of the orders: the caps end with their leases', async (t) => {
  const node = await heatedNode(t);
  await hot(node, CELSIUS.critical);
  await node.kill();
  await node.untilCappedAt(FORMER_KHZ);
  await untilGone(node);
  t.pass('and the actuator with them');
});

t.test('SIGKILL and restart while hot: leases are adopted, not doubled, and later released exactly', async (t) => {
  const node = await heatedNode(t);
  await hot(node);
  const before = await throttles(node);
  const leases = (await node.status()).actuator.leases.map(({ lease }) => lease).sort();
  const actuator = node.actuatorPid;
  await node.kill();
  await node.start();
  t.equal(node.actuatorPid, actuator, 'the same actuator');
  await node.until('the alert stands', async () => (await node.alerts())[0]?.severity === 'critical');
  await node.stays('capped without a gap', () => node.isCappedAt(KHZ.throttle50), 2_500);
  const now = (await node.status()).actuator.leases;
  t.same(now.map(({ lease }) => lease).sort(), leases, 'the same leases');
  t.notOk(
    now.some(({ orphaned }) => orphaned),
    'which are renewed',
  );
  t.same(
    (await throttles(node)).map(({ actionId }) => actionId),
    before.map(({ actionId }) => actionId),
    'the same actions',
  );

  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
  await node.until('released', async () => (await throttles(node)).every(({ state }) => state === 'released'));
  t.equal((await throttles(node)).length, 2);
  await node.until('the alert is over', async () => (await node.alerts()).length === 0);
});

t.test(
  'restarted when it has cooled but the lease stands: steps down in its own time to the exact value',
  async (t) => {
    const node = await heatedNode(t, { leaseSeconds: 20 });
    await hot(node);
    await node.kill();
    node.celsius(CELSIUS.cool);
    t.ok(node.isCappedAt(KHZ.throttle50), 'the lease has time left');
    await node.start();
    await node.untilCappedAt(FORMER_KHZ);
    await node.until('no lease is left', async () => (await node.status()).actuator.leases.length === 0);
    await node.until('released', async () => (await throttles(node)).every(({ state }) => state === 'released'));
    t.equal((await throttles(node)).length, 2);
  },
);

t.test('SIGSTOP of the agent: a rise to 97 °C is capped by standing order', async (t) => {
  const node = await heatedNode(t);
  await node.until('the order is there', async () => (await node.status()).actuator.orders.length === 1);
  node.signal('SIGSTOP');
  await node.until('it has stopped', () => processState(node.pid) === 'T');
  node.celsius(CELSIUS.emergency);
  await node.untilCappedAt(KHZ.throttle50);
  t.equal(processState(node.pid), 'T', 'while the agent stands still');

  node.signal('SIGCONT');
  await node.until('the agent sees it', async () => (await node.alerts())[0]?.severity === 'emergency');
  await node.until('and holds caps of its own', async () => (await node.status()).actuator.leases.length === 4);
  await node.until('the reflex is on record', async () =>
    (await node.audit()).some(({ kind, what }) => kind === 'actuator.event' && what.event === 'order_raised'),
  );
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
  await node.until('all is over', async () => (await node.alerts()).length === 0);
  await node.until('and recorded as that', async () =>
    (await throttles(node)).every(({ state }) => state === 'released'),
  );
  t.equal((await node.cli('audit', 'verify')).code, 0);
});

t.test('SIGSTOP while capped and cooled meanwhile: the caps end without the agent, which then says so', async (t) => {
  const node = await heatedNode(t);
  await hot(node);
  node.signal('SIGSTOP');
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
  node.signal('SIGCONT');
  await node.until('all is over', async () => (await node.alerts()).length === 0);
  await node.until('no action stands', async () =>
    (await throttles(node)).every(({ endedAtMs }) => endedAtMs !== null),
  );
  await node.untilCappedAt(FORMER_KHZ);
  t.same((await node.status()).actuator.leases, []);
});

t.test('kill -9 of the actuator while capped: it is started again and adopts its leases', async (t) => {
  const node = await heatedNode(t);
  await hot(node);
  const first = node.actuatorPid ?? 0;
  process.kill(first, 'SIGKILL');
  await node.until('another actuator is connected', async () => {
    const { actuator } = await node.status();
    return actuator.connected && node.actuatorPid !== undefined && node.actuatorPid !== first;
  });
  t.ok(node.isCappedAt(KHZ.throttle50), 'the cap stood');
  await node.until('the leases are there', async () => (await node.status()).actuator.leases.length === 4);
  t.same(
    (await throttles(node)).map(({ state }) => state),
    ['active', 'active'],
  );
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
  await node.until('released', async () => (await throttles(node)).every(({ state }) => state === 'released'));
  t.equal((await throttles(node)).length, 2, 'nothing was done twice');
});

t.test('an agent that adopted a running actuator starts one again when that dies', async (t) => {
  const node = await heatedNode(t);
  await hot(node);
  await node.kill();
  await node.start();
  const adopted = node.actuatorPid ?? 0;
  process.kill(adopted, 'SIGKILL');
  await node.until('another actuator is connected', async () => {
    const { actuator } = await node.status();
    return actuator.connected && node.actuatorPid !== undefined && node.actuatorPid !== adopted;
  });
  t.ok(node.isCappedAt(KHZ.throttle50));
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
});

t.test('kill -9 of both while hot: the next agent and its actuator release exactly', async (t) => {
  const node = await heatedNode(t);
  await hot(node);
  const actuator = node.actuatorPid ?? 0;
  await node.kill();
  process.kill(actuator, 'SIGKILL');
  await untilGone(node);
  t.ok(node.isCappedAt(KHZ.throttle50), 'nobody is there, and the kernel keeps the limit');
  await node.start();
  await node.stays('capped', () => node.isCappedAt(KHZ.throttle50), 500);
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
  await node.until('no action stands', async () =>
    (await throttles(node)).every(({ endedAtMs }) => endedAtMs !== null),
  );
});

t.test('SIGTERM while hot leaves the caps to the actuator, which ends with the last of them', async (t) => {
  const node = await heatedNode(t);
  await hot(node);
  t.equal(await node.stop(), 0);
  await node.stays('capped', () => node.isCappedAt(KHZ.throttle50), 2_500);
  t.equal(node.processes().size, 1, 'the actuator alone is left');
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
  await untilGone(node);
  t.pass('nothing is left behind');
});

t.test('SIGTERM of a cool node leaves no process behind', async (t) => {
  const node = await heatedNode(t, { net: true });
  await node.until('skos-net runs', () => node.netPid !== undefined);
  t.equal(await node.stop(), 0);
  await untilGone(node);
  t.ok(node.isCappedAt(FORMER_KHZ));
  await node.until('the journal says so', () => node.log().some(({ event }) => event === 'agent.stop'));
});

/** R, S, T … of proc(5). */
function processState(pid: number): string | undefined {
  return readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.[0];
}
