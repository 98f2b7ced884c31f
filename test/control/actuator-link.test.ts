/** The link to the actuator: reconnecting, draining its events once, and ending in the middle of anything. */
import t, { type Test } from 'tap';
import { ActuatorLink, type ActuatorLinkOptions } from '../../src/control/actuator-link.js';
import { systemClock } from '../../src/core/clock.js';
import { FakeStore, life, turns } from '../fixtures/control.js';
import { PacketServer } from '../fixtures/packet-server.js';
import { until } from '../fixtures/until.js';

function linked(t: Test, given: Partial<ActuatorLinkOptions> & { server?: PacketServer; store?: FakeStore } = {}) {
  const { server = new PacketServer(), store = new FakeStore(), ...options } = given;
  const now = life({ store });
  const link = new ActuatorLink({
    path: '/run/x.sock',
    why: 'why not',
    connect: server.connect,
    ...now,
    clock: systemClock,
    ...options,
  });
  t.teardown(() => link.stop());
  const told = () =>
    store.entries.filter(({ kind }) => kind === 'actuator.event').map(({ what }) => (what as { seq: number }).seq);
  return { ...now, server, link, told };
}

const rejections: unknown[] = [];
process.on('unhandledRejection', (error) => rejections.push(error));

t.test('connects again after a loss, each time it is lost, with one connection at a time', async (t) => {
  const { link, server } = linked(t);
  await link.start();
  for (let i = 1; i <= 3; i++) {
    server.lose();
    await until(() => link.actuator === undefined);
    await until(() => link.actuator !== undefined);
    t.equal(server.open, 1);
  }
  t.equal(server.connections, 4);
});

for (const verb of ['hello', 'targets', 'leases'] as const) {
  t.test(`a connection lost at "${verb}" is made again, and stays`, async (t) => {
    const { link, server } = linked(t);
    server.loseAt = verb;
    await link.start();
    await until(() => link.actuator !== undefined);
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    t.equal(server.connections, 2, 'no second retry that finds the first one there');
    t.equal(server.open, 1);
    t.ok(link.actuator !== undefined);
  });
}

t.test('drains events once over reconnects and restarts of the agent, and anew in another boot', async (t) => {
  const first = linked(t);
  const { server, store } = first;
  server.events = [
    { seq: 1, kind: 'applied' },
    { seq: 2, kind: 'order_raised' },
  ];
  await first.link.start();
  await until(() => first.told().length === 2);
  server.lose();
  server.events.push({ seq: 3, kind: 'released' });
  await until(() => first.told().length === 3);
  first.link.stop();
  const second = linked(t, { server, store });
  await second.link.start();
  server.events.push({ seq: 4, kind: 'released' });
  await until(() => second.told().length === 4);
  t.strictSame(second.told(), [1, 2, 3, 4]);
  second.link.stop();
  server.boot = 'boot-2';
  server.events = [{ seq: 1, kind: 'applied' }];
  const third = linked(t, { server, store });
  await third.link.start();
  await until(() => third.told().length === 5);
  t.strictSame(third.told(), [1, 2, 3, 4, 1]);
});

t.test('looks at the targets again when somebody else has the actuator read its allow-list', async (t) => {
  const { link, server, executor, told } = linked(t);
  let looks = 0;
  executor.refreshTargets = async () => {
    looks += 1;
  };
  await link.start();
  server.events.push({ seq: 1, kind: 'applied' });
  await until(() => told().length === 1);
  t.equal(looks, 0);
  server.events.push({ seq: 2, kind: 'loaded' });
  await until(() => looks === 1);
  await until(() => told().length === 2);
});

t.test('does not wait for a dead disk', async (t) => {
  for (const disk of ['hangs', 'fails'] as const) {
    const store = new FakeStore();
    store.disk = disk;
    const { link } = linked(t, { store });
    await link.start();
    t.ok(link.actuator !== undefined, disk);
    link.stop();
  }
});

t.test('stop() in the middle of saying hello leaves no connection', async (t) => {
  const { link, server } = linked(t);
  server.mute.add('hello');
  const starting = link.start();
  await until(() => server.connections === 1);
  link.stop();
  await starting;
  t.equal(server.open, 0);
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.equal(server.connections, 1, 'no retry');
});

t.test('stop() while the executor takes the connection over leaves none', async (t) => {
  const { link, server } = linked(t);
  server.mute.add('leases');
  const starting = link.start();
  await until(() => server.received.some((packet) => packet.endsWith('leases')));
  link.stop();
  await starting;
  t.equal(server.open, 0);
});

t.test('starts an actuator of its own once, when none answers', async (t) => {
  const server = new PacketServer();
  server.absent = true;
  let starts = 0;
  const startOwn = async () => {
    starts += 1;
    setTimeout(() => {
      server.absent = false;
    }, 100);
  };
  const { link } = linked(t, { server, startOwn });
  await link.start();
  t.ok(link.actuator !== undefined);
  server.lose();
  await until(() => link.actuator === undefined);
  await until(() => link.actuator !== undefined);
  t.equal(starts, 1);
});

t.test('does not start its own where one answers, until that is gone for good', async (t) => {
  const server = new PacketServer();
  let starts = 0;
  const startOwn = async () => {
    starts += 1;
    server.absent = false;
  };
  const { link } = linked(t, { server, startOwn });
  await link.start();
  t.equal(starts, 0);
  server.absent = true;
  server.lose();
  await until(() => link.actuator === undefined);
  await until(() => link.actuator !== undefined);
  t.equal(starts, 1);
});

t.test('says it when its own actuator cannot be started, or does not answer', async (t) => {
  const server = new PacketServer();
  server.absent = true;
  const broken = linked(t, { server, startOwn: () => Promise.reject(new Error('no such program')) });
  await broken.link.start();
  t.ok(broken.log.lines.some(({ level, message }) => level === 'error' && message.includes('no such program')));
  const silent = linked(t, { server, startOwn: async () => undefined });
  await silent.link.start();
  t.ok(silent.log.lines.some(({ level, message }) => level === 'error' && message.includes('does not answer')));
});

t.test('says why nothing can be throttled where there is no way to an actuator', async (t) => {
  const { link, log } = linked(t, { path: null, why: 'actuator.mode is off' });
  await link.start();
  t.match(log.lines, [{ level: 'warn', message: /actuator.mode is off/ }]);
  t.match(await link.status(), { connected: false, why: 'actuator.mode is off' });
  await link.reload();
});

t.test('status is an answer also when the connection is lost in the middle of it', async (t) => {
  const { link, server } = linked(t);
  await link.start();
  server.loseAt = 'orders';
  t.match(await link.status(), { connected: false, targets: [] });
  await turns();
});

t.test('a refused connection (busy) is tried again and said once', async (t) => {
  const server = new PacketServer();
  server.busy = true;
  const { link, log } = linked(t, { server });
  await link.start();
  await new Promise((resolve) => setTimeout(resolve, 700));
  t.equal(log.lines.filter(({ level }) => level === 'warn').length, 1);
  server.busy = false;
  await until(() => link.actuator !== undefined);
});

t.test('left no promise alone in all of this', async (t) => {
  t.strictSame(rejections, []);
});
