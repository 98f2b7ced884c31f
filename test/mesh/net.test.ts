import { spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { join } from 'node:path';
import mqttPacket from 'mqtt-packet';
import t, { type Test } from 'tap';
import type { ActionRecord, Alert } from '../../src/core/ports.js';
import type { Heartbeat, NetConfig } from '../../src/core/protocol.js';
import { FakeAgent, netConfig } from '../fixtures/fake-agent.js';
import { cpuMs, freePort, memoryKilobytes, mosquittoSub, noMosquitto, startNet, tcp } from '../fixtures/net-program.js';
import { shortDirectory, until } from '../fixtures/socket.js';

async function startNode(t: Test, given: Partial<NetConfig> = {}) {
  const socketPath = join(shortDirectory(t), 'agent.sock');
  const port = await freePort();
  const agent = new FakeAgent(socketPath, netConfig({ node: 'nova', mqttListen: `127.0.0.1:${port}`, ...given }));
  t.teardown(() => agent.stop());
  await agent.start();
  const net = startNet(t, socketPath);
  await until('skos-net listens', () => agent.report?.listening === true).catch((error) => {
    throw new Error(`${error.message}\n${net.log()}`);
  });
  return { agent, net, port, socketPath };
}

const alert: Alert = {
  id: 'thermal~x',
  rule: 'thermal',
  agentType: 'thermal_sentinel',
  type: 'thermal',
  state: 'firing',
  severity: 'critical',
  verdict: 'ok',
  channel: 'hwmon/coretemp/temp1',
  sensor: 'cpu',
  message: 'CPU temperature 87.5°C exceeds critical threshold',
  value: 87.5,
  threshold: 85,
  unit: 'celsius',
  sinceAtMs: 1,
  updatedAtMs: 2,
};
const beat: Heartbeat = { agentType: 'thermal_sentinel', atMs: 1000, cpuTemp: 50.5, gpuTemp: null, metadata: { n: 1 } };
const action: ActionRecord = {
  actionId: 'nova:thermal:throttle_50:1704067200',
  action: 'throttle_50',
  rule: 'thermal',
  alert: alert.id,
  channel: alert.channel,
  severity: 'critical',
  state: 'active',
  reason: '',
  effects: [
    { target: 'cpufreq/policy0', capPpm: 500_000, outcome: 'applied', former: '4', written: '2', readBack: '2' },
  ],
  startedAtMs: 1_704_067_200_000,
  endedAtMs: null,
};
const sensor = {
  id: 'hwmon/coretemp/temp1',
  source: 'hwmon',
  device: 'coretemp',
  name: 'temp1',
  label: 'Package id 0',
  class: 'cpu',
  quantity: 'temperature',
  unit: 'celsius',
  value: 40,
  quality: 'ok',
  limits: {},
  path: 'x',
  timestamp: '2026-01-01T00:00:00.000Z',
} as const;

t.test('mosquitto_sub sees what the agent says, live and retained', { skip: noMosquitto }, async (t) => {
  const { agent, port } = await startNode(t);
  const live = mosquittoSub(t, port, ['skos/#']);
  await until('the node is online', () => live.last.get('skos/peer/nova')?.state === 'online');
  agent.server.broadcast('heartbeat', beat);
  agent.server.broadcast('alert', alert);
  agent.server.broadcast('active', alert);
  agent.server.broadcast('sensor', sensor);
  agent.server.broadcast('command', action);
  agent.server.broadcast('result', action);
  agent.server.broadcast('audit', {
    seq: 7,
    atMs: 1,
    kind: 'alert.fire',
    who: 'agent',
    what: { a: 1 },
    previous: '00',
    hash: 'ff',
  });
  await until('all of it', () => live.last.has('skos/audit/nova') && live.last.has('skos/result/nova'));
  t.match(live.last.get('skos/heartbeat/nova'), {
    v: 1,
    agent_id: 'thermal-sentinel-nova',
    agent_type: 'thermal_sentinel',
    node: 'nova',
    timestamp: '1970-01-01T00:00:01.000Z',
    cpu_temp: 50.5,
    gpu_temp: null,
    metadata: { n: 1 },
  });
  t.match(live.last.get('skos/alert/nova'), {
    v: 1,
    agent_id: 'thermal-sentinel-nova',
    type: 'thermal',
    severity: 'critical',
    node: 'nova',
    message: alert.message,
    details: { sensor: 'cpu', temperature: 87.5, threshold: 85 },
    id: alert.id,
    state: 'firing',
  });
  t.match(live.last.get('skos/command/nova'), {
    action_id: 'nova:thermal:throttle_50:1704067200',
    action_type: 'throttle_50',
    parameters: {},
    timestamp: '2024-01-01T00:00:00.000Z',
    ttl_ms: Number,
    boot_id: 'boot-nova',
    nonce: /^[0-9a-f]{16}$/,
  });
  t.match(live.last.get('skos/result/nova'), { outcome: 'active', effects: [{ read_back: '2' }] });
  t.match(live.last.get('skos/sensor/nova/hwmon/coretemp/temp1'), { value: 40, unit: 'celsius', quality: 'ok' });
  t.match(live.last.get('skos/peer/nova'), { boot_id: 'boot-nova', seq: Number, audit_head: { seq: 1 }, peers: {} });

  const late = mosquittoSub(t, port, ['skos/#']);
  await until('retained', () => late.lines.length >= 4);
  const retained = late.lines.filter((line) => line.retained).map((line) => line.topic);
  t.same(retained.sort(), [
    'skos/active/nova/thermal~x',
    'skos/heartbeat/nova/thermal_sentinel',
    'skos/peer/nova',
    'skos/sensor/nova/hwmon/coretemp/temp1',
  ]);
  agent.server.broadcast('active', { ...alert, severity: null, state: 'ok' });
  await until('emptied', () => late.last.get('skos/active/nova/thermal~x') === null);
});

t.test(
  'anonymous publishing is refused, retained or not, and nothing of it arrives',
  { skip: noMosquitto },
  async (t) => {
    const { port, net } = await startNode(t);
    const live = mosquittoSub(t, port, ['#']);
    await until('subscribed', () => live.last.has('skos/peer/nova'));
    for (const extra of [[], ['-r'], ['-q', '1'], ['-q', '2']]) {
      const args = ['-h', '127.0.0.1', '-p', String(port), '-t', 'skos/command/nova', '-m', 'x', ...extra];
      const { status } = spawnSync('mosquitto_pub', args, { timeout: 5_000 });
      if (extra[0] === '-q') t.not(status, 0, `an acknowledged publish fails (${extra})`);
    }
    const credentials = ['-u', 'me', '-P', 'secret', '-t', 'x', '-m', 'x'];
    t.not(spawnSync('mosquitto_pub', ['-p', String(port), ...credentials], { timeout: 5_000 }).status, 0, 'user names');
    await until('logged', () => net.log().includes('SKOS_NET_CLIENT'));
    t.equal(
      live.lines.some(({ topic }) => topic !== 'skos/peer/nova'),
      false,
    );
  },
);

interface Connect {
  readonly clientId: string;
  readonly clean?: boolean;
  readonly [other: string]: unknown;
}

async function connack(t: Test, port: number, connect: Connect) {
  const client = await tcp(t, port);
  const packet = { cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, keepalive: 0, clean: true, ...connect };
  // The library refuses to write what a broker must refuse to take: no client id, and no clean session (flag 0x02).
  const illegal = packet.clientId === '' && !packet.clean;
  const bytes = mqttPacket.generate({ ...packet, clean: packet.clean || illegal } as never);
  if (illegal) bytes[9] = (bytes[9] ?? 0) & ~0x02;
  client.socket.write(bytes);
  await until('answered or closed', () => client.received.length >= 4 || client.closed);
  return { client, code: client.received[3] };
}

t.test('refuses what MQTT 3.1.1 or this node does not allow, by its return code', async (t) => {
  const { port } = await startNode(t);
  t.equal((await connack(t, port, { clientId: '' })).code, 0, 'no id, clean');
  t.equal((await connack(t, port, { clientId: '', clean: false })).code, 2, 'no id, session kept (3.1.3.1)');
  t.equal((await connack(t, port, { clientId: 'a'.repeat(1000) })).code, 2, 'an id of 1000 characters');
  t.equal((await connack(t, port, { clientId: 'a', username: 'x', password: Buffer.from('y') })).code, 4);
  t.equal((await connack(t, port, { clientId: 'skos-lyra' })).code, 5, "a peer's id, not configured");
  for (const topic of ['skos/peer/nova', 'skos/peer/lyra', 'x']) {
    const will = { topic, payload: Buffer.from('{}'), qos: 0, retain: true };
    t.equal((await connack(t, port, { clientId: 'b', will })).code, 5, `will on ${topic}`);
    t.equal((await connack(t, port, { clientId: 'skos-nova', will })).code, 5, `will as ourselves`);
  }
  t.equal((await connack(t, port, { clientId: 'c', protocolVersion: 5 })).code === 0, false, 'MQTT 5');
  const { client, code } = await connack(t, port, { clientId: 'kept', clean: false });
  t.equal(code, 0);
  t.equal(client.received[2], 0, 'no session present: sessions end with the connection');
});

t.test('counts demand for sensors by what is subscribed, at once', { skip: noMosquitto }, async (t) => {
  const { agent, port } = await startNode(t);
  const other = mosquittoSub(t, port, ['skos/alert/#', 'skos/sensor/lyra/#']);
  await until('client seen', () => agent.report?.clients === 1);
  t.equal(agent.report?.sensorDemand, false);
  const before = agent.reports.length;
  const wanting = mosquittoSub(t, port, ['+/sensor/+/hwmon/#']);
  await until('demand', () => agent.report?.sensorDemand === true, 900);
  t.ok(agent.reports.length - before <= 3);
  wanting.child.kill();
  await until('no demand', () => agent.report?.sensorDemand === false, 900);
  other.child.kill();
});

t.test(
  'without the agent the node is offline and its sensors are gone; back, it tells only what still holds',
  { skip: noMosquitto },
  async (t) => {
    const { agent, port, socketPath } = await startNode(t);
    agent.server.broadcast('active', alert);
    agent.server.broadcast('active', { ...alert, id: 'still' });
    agent.server.broadcast('sensor', sensor);
    const sub = mosquittoSub(t, port, ['skos/#']);
    await until(
      'retained',
      () => sub.last.has('skos/sensor/nova/hwmon/coretemp/temp1') && sub.last.has('skos/active/nova/still'),
    );
    await agent.stop();
    await until('offline', () => sub.last.get('skos/peer/nova')?.state === 'offline');
    await until('sensor emptied', () => sub.last.get('skos/sensor/nova/hwmon/coretemp/temp1') === null);
    t.ok(sub.last.get('skos/active/nova/thermal~x'), 'alerts stand until the agent says otherwise');

    const again = new FakeAgent(socketPath, agent.config);
    again.truth = { active: [{ ...alert, id: 'still' }], heartbeat: [beat] };
    t.teardown(() => again.stop());
    const beats = sub.lines.filter(({ topic }) => topic === 'skos/heartbeat/nova').length;
    await again.start();
    await until('online', () => sub.last.get('skos/peer/nova')?.state === 'online');
    await until('what ended meanwhile is emptied', () => sub.last.get('skos/active/nova/thermal~x') === null);
    t.ok(sub.last.get('skos/active/nova/still'));
    t.equal(
      sub.lines.filter(({ topic }) => topic === 'skos/heartbeat/nova').length,
      beats,
      'an old heartbeat is not live',
    );

    again.fallSilent();
    await until('silent', () => sub.last.get('skos/peer/nova')?.state === 'offline', 5_000);
    t.match(sub.last.get('skos/peer/nova'), { why: 'no word from the agent for 2 s' });
  },
);

t.test(
  'SIGTERM: says offline to its subscribers and ends with 0 within two seconds',
  { skip: noMosquitto },
  async (t) => {
    const { net, port } = await startNode(t);
    const sub = mosquittoSub(t, port, ['skos/peer/#']);
    await until('online', () => sub.last.get('skos/peer/nova')?.state === 'online');
    const before = Date.now();
    net.child.kill('SIGTERM');
    t.same(await net.exited, { code: 0, signal: null });
    t.ok(Date.now() - before < 2_000);
    await until('it said so', () => sub.last.get('skos/peer/nova')?.state === 'offline');
    t.match(sub.last.get('skos/peer/nova'), { state: 'offline', why: 'skos-net was stopped' });
  },
);

t.test('a port that is taken is reported, and used when it is free', async (t) => {
  const taken = createServer();
  const port = await new Promise<number>((resolve) =>
    taken.listen(0, '127.0.0.1', () => resolve((taken.address() as { port: number }).port)),
  );
  t.teardown(() => taken.close());
  const socketPath = join(shortDirectory(t), 'agent.sock');
  const agent = new FakeAgent(socketPath, netConfig({ node: 'nova', mqttListen: `127.0.0.1:${port}` }));
  t.teardown(() => agent.stop());
  await agent.start();
  const net = startNet(t, socketPath);
  await until('reported', () => agent.report?.listening === false);
  await until('logged', () => net.log().includes('SKOS_NET_LISTEN'));
  await new Promise((resolve) => taken.close(resolve));
  await until('listens', () => agent.report?.listening === true, 8_000);
});

t.test('refuses a plain listener that is not loopback', async (t) => {
  const socketPath = join(shortDirectory(t), 'agent.sock');
  const agent = new FakeAgent(socketPath, netConfig({ node: 'nova', mqttListen: '0.0.0.0:0' }));
  t.teardown(() => agent.stop());
  await agent.start();
  const net = startNet(t, socketPath);
  await until('refused', () => net.log().includes('SKOS_NET_LISTEN'));
  t.equal(agent.report?.listening ?? false, false);
});

t.test('takes a changed config over without a restart', { skip: noMosquitto }, async (t) => {
  const { agent, port, net } = await startNode(t);
  const next = await freePort();
  agent.config = { ...agent.config, mqttListen: `127.0.0.1:${next}`, prefix: 'other' };
  agent.server.broadcast('net.config', {});
  await until('moved', () => agent.report?.mqttListen === `127.0.0.1:${next}` && agent.report.listening);
  const sub = mosquittoSub(t, next, ['other/#']);
  await until('online', () => sub.last.get('other/peer/nova')?.state === 'online');
  await t.rejects(tcp(t, port), 'the old port is closed');
  t.equal(net.child.exitCode, null);
});

t.test('any bytes from a client end at most its own connection', async (t) => {
  const { port, agent } = await startNode(t);
  const connect = mqttPacket.generate({
    cmd: 'connect',
    protocolId: 'MQTT',
    protocolVersion: 4,
    clientId: 'x',
    clean: true,
    keepalive: 0,
  } as never);
  const deep = mqttPacket.generate({
    cmd: 'subscribe',
    messageId: 1,
    subscriptions: [{ topic: 'a/'.repeat(200), qos: 0 }],
  } as never);
  const hostile: Buffer[] = [
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    Buffer.alloc(1000, 0xff),
    Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f]),
    Buffer.concat([connect, Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f])]),
    Buffer.concat([connect, connect]),
    Buffer.concat([connect, deep]),
    Buffer.concat([connect, Buffer.from([0x82, 0x02, 0x00, 0x01])]),
    Buffer.concat([connect, Buffer.from([0xe0, 0x00]), connect]),
    Buffer.concat([connect, Buffer.alloc(40_000, Buffer.from([0xc0, 0x00]))]),
  ];
  for (const [i, bytes] of hostile.entries()) {
    const client = await tcp(t, port);
    client.socket.write(bytes);
    await until(`closed after ${i}`, () => client.closed);
  }
  for (let i = 0; i < 100; i++) {
    const client = await tcp(t, port);
    client.socket.end(
      Buffer.concat([
        i % 2 ? connect : Buffer.alloc(0),
        Buffer.from(Array.from({ length: 50 }, () => Math.random() * 256)),
      ]),
    );
  }
  const reports = agent.reports.length;
  await until('it lives', () => agent.reports.length > reports && agent.report?.clients === 0, 15_000);
});

t.test('memory stays bounded in a flood of connections, and under readers that do not read', async (t) => {
  const { port, agent, net } = await startNode(t);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const before = memoryKilobytes(net.pid, 'Rss');
  const connect = (id: string) =>
    mqttPacket.generate({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clientId: id,
      clean: true,
      keepalive: 0,
    } as never);
  const subscribe = mqttPacket.generate({
    cmd: 'subscribe',
    messageId: 1,
    subscriptions: [{ topic: 'skos/#', qos: 0 }],
  } as never);
  for (let i = 0; i < 2000; i++) {
    const client = await tcp(t, port).catch(() => undefined);
    client?.socket.pause();
    client?.socket.write(Buffer.concat([connect(`c${i}`), subscribe]));
  }
  const flooded = memoryKilobytes(net.pid, 'Rss');
  const large = { ...alert, message: 'x'.repeat(30_000) };
  for (let i = 0; i < 400; i++) {
    agent.server.broadcast('alert', large);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const unread = memoryKilobytes(net.pid, 'Rss');
  t.comment(`RSS: ${before} kB idle, ${flooded} kB after 2000 connections, ${unread} kB with unread messages`);
  const reports = agent.reports.length;
  await until('a report of now', () => agent.reports.length > reports, 15_000);
  t.ok((agent.report?.clients ?? 999) <= 128);
  t.ok(flooded - before < 32 * 1024, 'connections');
  t.ok(unread - before < 64 * 1024, 'unread messages');
  t.ok((agent.report?.rssBytes ?? 0) > 0, 'still reporting');
});

t.test('states what it costs', { skip: noMosquitto }, async (t) => {
  const { agent, net, port } = await startNode(t);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  t.comment(`PSS idle: ${memoryKilobytes(net.pid, 'Pss')} kB`);
  const sub = mosquittoSub(t, port, ['skos/sensor/#']);
  await until('demand', () => agent.report?.sensorDemand === true);
  const from = cpuMs(net.pid);
  for (let i = 0; i < 2000; i++) {
    agent.server.broadcast('sensor', { ...sensor, value: i });
    if (i % 64 === 63) await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await until('all arrived', () => sub.lines.length >= 2000);
  t.comment(`CPU per message, bursts of 64: ${((cpuMs(net.pid) - from) * 1000) / 2000} µs`);
  t.equal(sub.lines.length >= 2000, true);
});
