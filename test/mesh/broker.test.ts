import t, { type Test } from 'tap';
import { systemClock } from '../../src/core/clock.js';
import { EmbeddedBroker, type EmbeddedBrokerOptions } from '../../src/mesh/broker.js';
import { MqttClient } from '../../src/mesh/mqtt-client.js';
import { PeerLinks } from '../../src/mesh/peer-links.js';
import type { Message } from '../../src/mesh/topics.js';
import { rememberingLog, until } from '../fixtures/socket.js';

async function broker(t: Test, given: Partial<EmbeddedBrokerOptions> = {}) {
  const { log, lines } = rememberingLog();
  const started = new EmbeddedBroker({
    node: 'lyra',
    prefix: 'skos',
    listen: '127.0.0.1:0',
    meshListen: null,
    tls: null,
    peers: new Map([['nova', { plainLoopback: true }]]),
    onSensorDemand: () => undefined,
    onLastWill: () => undefined,
    clock: systemClock,
    log,
    ...given,
  });
  t.teardown(() => started.stop());
  await started.start();
  return { broker: started, lines, port: Number(started.address.split(':')[1]) };
}

async function subscriber(t: Test, port: number, filters: string[], qos: 0 | 1) {
  const received: { topic: string; payload: string }[] = [];
  const client = new MqttClient({
    url: { tls: false, host: '127.0.0.1', port },
    clientId: 'reader',
    tls: {},
    clock: systemClock,
    onMessage: (topic, payload) => received.push({ topic, payload: payload.toString() }),
    onEnd: () => undefined,
  });
  t.teardown(() => client.end({ goodbye: false }));
  await client.connect();
  await client.subscribe(filters, qos);
  return { client, received };
}

t.test('loses and reorders nothing, however QoS and retained messages are mixed', async (t) => {
  const { broker: lyra, port } = await broker(t);
  const { received } = await subscriber(t, port, ['a/#', 'a/b'], 1);
  const count = 3_000;
  for (let i = 0; i < count; i++) {
    lyra.publish({
      topic: i % 5 === 0 ? 'a/b' : 'a/c',
      payload: String(i),
      qos: (i >> 1) % 2 === 0 ? 0 : 1,
      retain: i % 3 === 0,
    });
    if (i % 100 === 99) await new Promise((resolve) => setImmediate(resolve));
  }
  await until('all', () => received.length >= count);
  t.same(
    received.map(({ payload }) => Number(payload)),
    Array.from({ length: count }, (_, i) => i),
  );
});

t.test('retains the last word on each topic, whether or not somebody listens meanwhile', async (t) => {
  const { broker: lyra, port } = await broker(t);
  const say = (topic: string, payload: string) => lyra.publish({ topic, payload, qos: 1, retain: true });
  say('a/heard', 'before');
  const first = await subscriber(t, port, ['a/heard'], 1);
  for (let i = 0; i < 100; i++) for (const topic of ['a/heard', 'a/unheard']) say(topic, String(i));
  await until('all', () => first.received.length === 101);
  await first.client.unsubscribe(['a/heard']);
  say('a/heard', 'after');
  const second = await subscriber(t, port, ['a/+'], 1);
  await until('retained', () => second.received.length >= 2);
  say('a/unheard', '');
  await until('emptied', () => second.received.length === 3);
  t.same(first.received.at(-1), { topic: 'a/heard', payload: '99' });
  t.same(second.received.map(({ topic, payload }) => `${topic} ${payload}`).sort(), [
    'a/heard after',
    'a/unheard ',
    'a/unheard 99',
  ]);
  const third = await subscriber(t, port, ['a/#'], 0);
  await until('retained', () => third.received.length > 0);
  t.same(third.received, [{ topic: 'a/heard', payload: 'after' }]);
});

t.test('publishing while it is stopped or not started is no error', async (t) => {
  const { broker: lyra } = await broker(t);
  await lyra.stop();
  await lyra.stop();
  lyra.publish({ topic: 'a', payload: 'x', qos: 1, retain: true });
  await lyra.start();
  lyra.publish({ topic: 'a', payload: 'y', qos: 1, retain: true });
  const { received } = await subscriber(t, Number(lyra.address.split(':')[1]), ['a'], 0);
  await until('retained', () => received.length === 1);
  t.equal(received[0]?.payload, 'y');
});

t.test('a reader that does not read is disconnected, and the others get everything in time', async (t) => {
  const { broker: lyra, port, lines } = await broker(t);
  const net = await import('node:net');
  const mqttPacket = (await import('mqtt-packet')).default;
  const slow = net.connect(port, '127.0.0.1');
  slow.on('error', () => undefined);
  t.teardown(() => slow.destroy());
  slow.write(
    mqttPacket.generate({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clientId: 'slow',
      clean: true,
      keepalive: 0,
    } as never),
  );
  slow.write(mqttPacket.generate({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: '#', qos: 0 }] } as never));
  await new Promise((resolve) => slow.once('data', resolve));
  slow.pause();
  await until('subscribed', () => lyra.clients === 1);
  const { received } = await subscriber(t, port, ['a'], 0);
  for (let i = 0; i < 500; i++) {
    lyra.publish({ topic: 'a', payload: 'x'.repeat(20_000), qos: 0, retain: false });
    await until('the reader is not held up', () => received.length === i + 1, 1_000);
  }
  t.equal(lyra.clients, 1, 'the slow one is gone');
  t.match(
    lines.find(({ message }) => message.includes('slow')),
    { level: 'warn', fields: { code: 'SKOS_NET_CLIENT' } },
  );
});

t.test('at most 64 subscriptions per client; the others go on', async (t) => {
  const { broker: lyra, port } = await broker(t);
  const { client, received } = await subscriber(
    t,
    port,
    Array.from({ length: 64 }, (_, i) => `t/${i}`),
    0,
  );
  await t.rejects(client.subscribe(['one/more'], 0));
  lyra.publish({ topic: 'one/more', payload: '', qos: 0, retain: false });
  lyra.publish({ topic: 't/63', payload: 'x', qos: 0, retain: false });
  await until('the granted one', () => received.length > 0);
  t.same(
    received.map(({ topic }) => topic),
    ['t/63'],
  );
});

/** A link of nova to a broker of lyra that says whatever the test wants. */
async function linked(t: Test) {
  const { broker: lyra, port } = await broker(t);
  const { log, lines } = rememberingLog();
  const mirrored: Message[] = [];
  let demand = false;
  const links = new PeerLinks({
    origin: { node: 'nova', bootId: 'b' },
    prefix: 'skos',
    mesh: { tls: null, peers: { lyra: { url: `mqtt://127.0.0.1:${port}` } } },
    heartbeatTimeoutMs: 60_000,
    bus: { publish: (message) => mirrored.push(message), sensorDemand: () => demand },
    onChange: () => undefined,
    clock: systemClock,
    random: Math.random,
    log,
  });
  t.teardown(() => links.stop());
  links.start();
  await until('linked', () => lines.some(({ message }) => message === 'linked to lyra'));
  const say = (topic: string, content: unknown, retain = false) =>
    lyra.publish({ topic, payload: typeof content === 'string' ? content : JSON.stringify(content), qos: 1, retain });
  const status = {
    v: 1,
    node: 'lyra',
    state: 'online',
    timestamp: null,
    boot_id: null,
    seq: 1,
    audit_head: null,
    peers: {},
  };
  return {
    lyra,
    links,
    mirrored,
    lines,
    say,
    status,
    want: (wanted: boolean) => {
      demand = wanted;
      links.sensorDemandChanged('lyra');
    },
    last: (topic: string) =>
      mirrored
        .filter((message) => message.topic === topic)
        .at(-1)
        ?.payload.toString(),
  };
}

t.test('mirrors only what a peer says of itself and in the shape of the contract', async (t) => {
  const { say, status, mirrored, links, lines, last } = await linked(t);
  say('skos/alert/nova', { v: 1, node: 'nova' });
  say('skos/peer/athena', status, true);
  say('skos/command/lyra', '{');
  say('skos/audit/lyra', { v: 1, node: 'athena' });
  say('skos/alert/lyra/too/deep', status);
  say('skos/peer/lyra', { ...status, state: 'glorious' });
  say('skos/peer/lyra', { ...status, node: 'nova' });
  say('skos/result/lyra', `{"x":"${'y'.repeat(65_536)}"}`);
  t.equal(links.views[0]?.state, 'unknown');
  say('skos/peer/lyra', status, true);
  await until('online', () => links.views[0]?.state === 'online');
  t.same(
    mirrored.map(({ topic }) => topic),
    ['skos/peer/lyra'],
  );
  t.match(JSON.parse(last('skos/peer/lyra') ?? ''), { state: 'online' });
  t.ok(lines.some(({ fields }) => fields.code === 'SKOS_NET_PAYLOAD'));
});

t.test('takes sensors only on demand and while the peer is online, and takes them back', async (t) => {
  const { lyra, say, status, links, last, want } = await linked(t);
  const at = 'skos/sensor/lyra/hwmon/x/temp1';
  const value = {
    v: 1,
    node: 'lyra',
    id: 'hwmon/x/temp1',
    unit: 'celsius',
    value: 1,
    quality: 'ok',
    timestamp: '2026-01-01T00:00:00Z',
  };
  say(at, value, true);
  want(true);
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal(last(at), undefined, 'not while nobody knows that it lives');
  t.equal(lyra.sensorDemand('lyra'), false);
  say('skos/peer/lyra', status, true);
  await until('its retained value comes with demand', () => last(at) !== undefined);
  t.equal(lyra.sensorDemand('lyra'), true);
  want(false);
  t.equal(last(at), '', 'emptied when nobody wants it: nobody would renew it');
  await until('no demand at the peer', () => !lyra.sensorDemand('lyra'));
  want(true);
  await until('again', () => last(at) !== '');
  say('skos/peer/lyra', { ...status, state: 'offline', why: 'stopped' }, true);
  await until('offline', () => links.views[0]?.state === 'offline');
  t.equal(last(at), '', 'emptied when the peer is offline');
  t.match(JSON.parse(last('skos/peer/lyra') ?? ''), { state: 'offline', why: 'stopped' });
});

t.test('a peer that makes up topics without end fills no memory here', async (t) => {
  const { say, status, mirrored, lines, links } = await linked(t);
  say('skos/peer/lyra', status, true);
  await until('online', () => links.views[0]?.state === 'online');
  const active = {
    v: 1,
    agent_id: 'x',
    type: 'x',
    severity: 'warning',
    node: 'lyra',
    message: 'x',
    id: 'x',
    state: 'firing',
    details: { sensor: 'cpu', temperature: 1, threshold: 1 },
    timestamp: '2026-01-01T00:00:00Z',
  };
  for (let i = 0; i < 9_000; i++) {
    say(`skos/active/lyra/${i}`, active);
    if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await until('refused', () => lines.some(({ message }) => message.includes('too many')), 10_000);
  t.ok(mirrored.length <= 8_193);
});

t.test('a peer that floods is cut off and tried again with patience', async (t) => {
  const { say, status, lines, links } = await linked(t);
  say('skos/peer/lyra', status, true);
  await until('online', () => links.views[0]?.state === 'online');
  const fill = { v: 1, fill: 'x'.repeat(60_000) };
  for (let i = 0; i < 2_000 && links.views[0]?.state === 'online'; i++) {
    say('skos/result/lyra', fill);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await until('cut off', () => links.views[0]?.state !== 'online');
  t.match(
    lines.find(({ fields }) => fields.event === 'mesh.link_lost'),
    { fields: { code: 'SKOS_MESH_LINK' } },
  );
});
