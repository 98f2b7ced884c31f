/** The client of the actuator against an end that misbehaves. */
import t from 'tap';
import { ActuatorClient } from '../../src/actuators/actuator-client.js';
import { systemClock } from '../../src/core/clock.js';
import { startActuator } from '../fixtures/actuator.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';
import { PacketServer } from '../fixtures/packet-server.js';

async function client(server: PacketServer, lost: string[] = []) {
  const made = new ActuatorClient({
    path: 'x',
    connect: server.connect,
    clock: systemClock,
    onLost: (why) => lost.push(why),
  });
  await made.start();
  return made;
}

t.test('sends more than the socket takes at once, in order, without giving up', async (t) => {
  const server = new PacketServer();
  const lost: string[] = [];
  const made = await client(server, lost);
  server.room = 10;
  const refill = setInterval(() => {
    server.room = 10;
  }, 2);
  t.teardown(() => clearInterval(refill));
  const sets = Array.from({ length: 600 }, (_, i) =>
    made.set({ lease: `l${i}`, target: 'x', capPpm: 1, ttlMs: 1_000 }),
  );
  const results = await Promise.all(sets);
  t.ok(results.every(({ ok }) => ok));
  const order = server.received.slice(1).map((packet) => Number(packet.split(' ')[0]));
  t.strictSame(
    order,
    [...order].sort((a, b) => a - b),
  );
  t.strictSame(lost, []);
  made.stop();
});

t.test('gives up an end that takes nothing any more, once, and rejects all that wait', async (t) => {
  const server = new PacketServer();
  const lost: string[] = [];
  const made = await client(server, lost);
  server.room = 0;
  const asked = [made.release('a'), made.release('b'), made.targets()];
  const outcomes = await Promise.allSettled(asked);
  t.ok(outcomes.every(({ status }) => status === 'rejected'));
  t.equal(lost.length, 1);
  await t.rejects(made.release('c'), { code: 'SKOS_ACTUATOR_ABSENT' });
  t.equal(made.connected, false);
});

t.test('splits renewals so that no packet is too long, and adds up what was known', async (t) => {
  const server = new PacketServer();
  const made = await client(server);
  await made.renew(
    Array.from({ length: 500 }, (_, i) => `${'x'.repeat(100)}${i}`),
    1_000,
  );
  const renewals = server.received.filter((packet) => packet.includes('renew'));
  t.equal(renewals.length, 9);
  t.ok(renewals.every((packet) => packet.length <= 8_192));
  made.stop();
});

t.test('takes a power for what it says, and never makes one up', async (t) => {
  const server = new PacketServer();
  server.powers = [
    'a ok 150000',
    'b no_data 0',
    'c hung 7',
    'd ok',
    'e ok -1',
    'f ok 1e3',
    'g splendid 5',
    'h ok 9999999999999',
    '',
  ];
  const made = await client(server);
  t.same(await made.powers(), [
    { id: 'a', quality: 'ok', milliWatts: 150_000 },
    { id: 'b', quality: 'no_data', milliWatts: null },
    { id: 'c', quality: 'hung', milliWatts: null },
    ...['d', 'e', 'f', 'g', 'h', ''].map((id) => ({ id, quality: 'fault', milliWatts: null })),
  ]);
  made.stop();
  await t.rejects(made.powers(), { code: 'SKOS_ACTUATOR_ABSENT' });
});

t.test('a burst for a large machine reaches the real actuator whole, though that was kept from running', async (t) => {
  const machine = fakeMachine(t);
  machine.addCpufreq({ policies: [[0]], maxKHz: 3_000_000, minKHz: 800_000 });
  const policy = 'devices/system/cpu/cpufreq/policy0';
  const actuator = await startActuator(t, machine, { items: [`target a cpufreq ${policy} floor_ppm=200000`] });
  const made = await actuator.client();
  actuator.process.kill('SIGSTOP');
  const sets = Array.from({ length: 600 }, (_, i) =>
    made.set({ lease: `l${i}`, target: 'a', capPpm: 500_000, ttlMs: 60_000 }),
  );
  setTimeout(() => actuator.process.kill('SIGCONT'), 300);
  const results = await Promise.all(sets);
  t.ok(results.every(({ outcome }) => outcome === 'applied'));
  t.equal((await made.leases()).length, 600);
});
