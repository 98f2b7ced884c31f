/** Several nodes on one machine: real skos-net processes, each with an agent of its own, linked to each other. */
import { spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import mqttPacket from 'mqtt-packet';
import t, { type Test } from 'tap';
import type { NetConfig } from '../../src/core/protocol.js';
import { FakeAgent, netConfig } from '../fixtures/fake-agent.js';
import { freePort, mosquittoSub, type NetProgram, noMosquitto, startNet, tcp } from '../fixtures/net-program.js';
import { shortDirectory, until } from '../fixtures/socket.js';

interface Node {
  readonly name: string;
  readonly agent: FakeAgent;
  net: NetProgram;
  readonly port: number;
  readonly socketPath: string;
  /** How it sees its peers. */
  sees(): Record<string, string>;
}

async function startNode(t: Test, config: NetConfig, port: number): Promise<Node> {
  const socketPath = join(shortDirectory(t), 'agent.sock');
  const agent = new FakeAgent(socketPath, config);
  t.teardown(() => agent.stop());
  await agent.start();
  const net = startNet(t, socketPath);
  const sees = () => Object.fromEntries((agent.report?.peers ?? []).map(({ node, state }) => [node, state]));
  return { name: config.node, agent, net, port, socketPath, sees };
}

/** A full mesh over plain loopback. */
async function mesh(t: Test, names: readonly string[]): Promise<Node[]> {
  const ports = new Map<string, number>();
  for (const name of names) ports.set(name, await freePort());
  const port = (name: string) => ports.get(name) ?? 0;
  return Promise.all(
    names.map((node) => {
      const others = names.filter((name) => name !== node);
      const peers = Object.fromEntries(others.map((name) => [name, { url: `mqtt://127.0.0.1:${port(name)}` }]));
      const config = netConfig({
        node,
        mqttListen: `127.0.0.1:${port(node)}`,
        mesh: { listen: null, tls: null, peers },
      });
      return startNode(t, config, port(node));
    }),
  );
}

const sensor = (node: string, value: number) =>
  ({
    id: 'hwmon/x/temp1',
    source: 'hwmon',
    device: 'x',
    name: 'temp1',
    label: node,
    class: 'cpu',
    quantity: 'temperature',
    unit: 'celsius',
    value,
    quality: 'ok',
    limits: {},
    path: 'x',
    timestamp: '2026-01-01T00:00:00.000Z',
  }) as const;

const alert = (id: string) =>
  ({
    id,
    rule: 'r',
    agentType: 'thermal_sentinel',
    type: 'thermal',
    state: 'firing',
    severity: 'warning',
    verdict: 'ok',
    channel: 'c',
    sensor: 'cpu',
    message: 'hot',
    value: 80,
    threshold: 75,
    unit: 'celsius',
    sinceAtMs: 1,
    updatedAtMs: 2,
  }) as const;

t.test(
  'three nodes see each other online, offline by last will, by heartbeat, and back',
  { skip: noMosquitto },
  async (t) => {
    const nodes = await mesh(t, ['nova', 'lyra', 'athena']);
    const [nova, lyra, athena] = nodes as [Node, Node, Node];
    await until(
      'all online',
      () => nodes.every((node) => Object.values(node.sees()).filter((s) => s === 'online').length === 2),
      10_000,
    );
    t.same(nova.sees(), { lyra: 'online', athena: 'online' });

    const atNova = mosquittoSub(t, nova.port, ['skos/#']);
    const state = (peer: string) => atNova.last.get(`skos/peer/${peer}`)?.state;
    await until('mirrored', () => state('lyra') === 'online' && state('athena') === 'online');
    t.match(atNova.last.get('skos/peer/lyra'), { node: 'lyra', boot_id: 'boot-lyra', audit_head: { seq: 1 } });

    lyra.agent.server.broadcast('alert', alert('a1'));
    lyra.agent.server.broadcast('active', alert('a1'));
    await until(
      'alert of lyra at nova',
      () => atNova.last.has('skos/alert/lyra') && atNova.last.has('skos/active/lyra/a1'),
    );
    await new Promise((resolve) => setTimeout(resolve, 300));
    t.equal(atNova.lines.filter(({ topic }) => topic === 'skos/alert/lyra').length, 1, 'one hop, once');

    await until('nova asks for sensors of lyra', () => lyra.agent.report?.sensorDemand === true);
    lyra.agent.server.broadcast('sensor', sensor('lyra', 41));
    await until('sensor of lyra at nova', () => atNova.last.get('skos/sensor/lyra/hwmon/x/temp1')?.value === 41);
    t.equal(athena.agent.report?.sensorDemand, true, 'skos/# wants all nodes');

    await t.test('kill -9: offline at once, by last will or a lost link that is not excused', async (t) => {
      lyra.net.child.kill('SIGKILL');
      await lyra.net.exited;
      await until('offline', () => state('lyra') === 'offline', 1_500);
      t.match(atNova.last.get('skos/peer/lyra'), {
        state: 'offline',
        why: /last will/,
        reported_by: 'nova',
        seq: null,
      });
      await until('at athena too', () => athena.sees().lyra === 'offline', 1_500);
      t.equal(atNova.last.get('skos/sensor/lyra/hwmon/x/temp1'), null, 'no sensor value stays as if live');
      const late = mosquittoSub(t, nova.port, ['skos/peer/lyra']);
      await until('retained', () => late.last.get('skos/peer/lyra')?.state === 'offline');
      t.equal(late.lines[0]?.retained, true);
    });

    await t.test('started again: online, and what ended meanwhile is emptied', async (t) => {
      lyra.agent.truth = { active: [alert('a2')] };
      lyra.net = startNet(t, lyra.socketPath);
      await until('online', () => state('lyra') === 'online', 12_000);
      await until('the new alert', () => atNova.last.get('skos/active/lyra/a2') !== undefined);
      await until('the old one is gone', () => atNova.last.get('skos/active/lyra/a1') === null, 6_000);
      t.ok(atNova.last.get('skos/active/lyra/a2'));
    });

    await t.test('SIGSTOP: offline when no heartbeat came for the timeout; SIGCONT: online again', async (t) => {
      const stoppedAt = Date.now();
      athena.net.child.kill('SIGSTOP');
      await until('offline', () => state('athena') === 'offline', 8_000);
      t.ok(Date.now() - stoppedAt >= 1_500, 'not before the timeout of 2 s since the last status');
      t.match(atNova.last.get('skos/peer/athena'), { why: /no heartbeat for 2 s/, reported_by: 'nova' });
      athena.net.child.kill('SIGCONT');
      await until('online', () => state('athena') === 'online', 12_000);
    });

    await t.test("an agent that dies behind a living broker is offline by that broker's word", async (t) => {
      await athena.agent.stop();
      await until('offline', () => state('athena') === 'offline', 1_500);
      t.match(atNova.last.get('skos/peer/athena'), { why: /the agent is gone/ });
      t.equal(atNova.last.get('skos/peer/athena')?.reported_by, undefined, 'its own words');
    });
  },
);

t.test('a peer that never answered is unknown, then offline with the reason, never invented as online', async (t) => {
  const port = await freePort();
  const peers = { lyra: { url: `mqtt://127.0.0.1:${await freePort()}` }, vega: { url: 'mqtt://192.0.2.1:1883' } };
  const config = netConfig({ node: 'nova', mqttListen: `127.0.0.1:${port}`, mesh: { listen: null, tls: null, peers } });
  const nova = await startNode(t, config, port);
  await until('unknown', () => nova.sees().lyra === 'unknown');
  await until('offline', () => nova.sees().lyra === 'offline' && nova.sees().vega === 'offline', 5_000);
  t.match(nova.agent.report?.peers, [
    { why: /no heartbeat for 2 s .*ECONNREFUSED/ },
    { why: /plain MQTT is for loopback only/ },
  ]);
});

t.test(
  "a client with a peer's id may leave its own will and subscribe to this node only; no more",
  { skip: noMosquitto },
  async (t) => {
    const port = await freePort();
    const peers = { lyra: { url: `mqtt://127.0.0.1:${await freePort()}` } };
    const config = netConfig({
      node: 'nova',
      mqttListen: `127.0.0.1:${port}`,
      heartbeatTimeoutSeconds: 60,
      mesh: { listen: null, tls: null, peers },
    });
    const nova = await startNode(t, config, port);
    await until('listens', () => nova.agent.report?.listening === true);
    const watcher = mosquittoSub(t, port, ['skos/#']);
    await until('watching', () => watcher.last.has('skos/peer/nova'));
    const connect = (topic: string) =>
      mqttPacket.generate({
        cmd: 'connect',
        protocolId: 'MQTT',
        protocolVersion: 4,
        clientId: 'skos-lyra',
        clean: true,
        keepalive: 0,
        will: { topic, payload: Buffer.from('{"state":"online","forged":true}'), qos: 0, retain: true },
      } as never);

    const other = await tcp(t, port);
    other.socket.write(connect('skos/peer/nova'));
    await until('refused', () => other.closed);
    t.equal(other.received[3], 5);

    const lyra = await tcp(t, port);
    lyra.socket.write(connect('skos/peer/lyra'));
    await until('accepted', () => lyra.received.length >= 4);
    t.equal(lyra.received[3], 0);
    const filters = ['skos/alert/nova/#', 'skos/#', 'skos/+/nova', 'skos/alert/lyra/#'];
    lyra.socket.write(
      mqttPacket.generate({
        cmd: 'subscribe',
        messageId: 1,
        subscriptions: filters.map((topic) => ({ topic, qos: 0 })),
      } as never),
    );
    await until('answered', () => lyra.received.length >= 4 + 8);
    t.same([...lyra.received.subarray(8, 12)], [0, 128, 128, 128]);
    lyra.socket.destroy();
    await until('its will is heard', () => watcher.last.has('skos/peer/lyra'));
    t.match(watcher.last.get('skos/peer/lyra'), { state: 'offline', why: /last will/, reported_by: 'nova' });
    t.notMatch(watcher.last.get('skos/peer/lyra'), { forged: true });
  },
);

const noOpenssl = spawnSync('openssl', ['version']).status === 0 ? false : 'openssl is not installed';

/** A certificate authority and a certificate per name, in a directory. */
function certificates(t: Test, names: readonly string[]) {
  const directory = shortDirectory(t);
  const at = (name: string) => join(directory, name);
  const openssl = (...args: string[]) => {
    const { status, stderr } = spawnSync('openssl', args);
    if (status !== 0) throw new Error(String(stderr));
  };
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  for (const ca of ['ca', 'evil']) {
    openssl(
      'req',
      '-x509',
      ...curve,
      '-days',
      '1',
      '-subj',
      `/CN=test ${ca}`,
      '-keyout',
      at(`${ca}.key`),
      '-out',
      at(`${ca}.crt`),
    );
  }
  const issue = (name: string, ca: string, file: string) => {
    openssl('req', ...curve, '-subj', `/CN=${name}`, '-keyout', at(`${file}.key`), '-out', at(`${file}.csr`));
    openssl(
      'x509',
      '-req',
      '-in',
      at(`${file}.csr`),
      '-CA',
      at(`${ca}.crt`),
      '-CAkey',
      at(`${ca}.key`),
      '-CAcreateserial',
      '-days',
      '1',
      '-out',
      at(`${file}.crt`),
    );
  };
  for (const name of names) issue(name, 'ca', name);
  issue('lyra', 'evil', 'forged');
  issue('stranger', 'ca', 'stranger');
  return (file: string) => ({ ca: at('ca.crt'), cert: at(`${file}.crt`), key: at(`${file}.key`) });
}

t.test(
  'mutual TLS: peers with certificates of their names see each other; others are refused',
  { skip: noOpenssl || noMosquitto },
  async (t) => {
    const files = certificates(t, ['nova', 'lyra']);
    const [novaPort, lyraPort, novaMesh, lyraMesh] = [
      await freePort(),
      await freePort(),
      await freePort(),
      await freePort(),
    ];
    const secure = (node: string, peer: string, ports: { mqtt: number; own: number; peer: number }) =>
      netConfig({
        node,
        mqttListen: `127.0.0.1:${ports.mqtt}`,
        mesh: {
          listen: `127.0.0.1:${ports.own}`,
          tls: files(node),
          peers: { [peer]: { url: `mqtts://127.0.0.1:${ports.peer}` } },
        },
      });
    const nova = await startNode(
      t,
      secure('nova', 'lyra', { mqtt: novaPort, own: novaMesh, peer: lyraMesh }),
      novaPort,
    );
    const lyra = await startNode(
      t,
      secure('lyra', 'nova', { mqtt: lyraPort, own: lyraMesh, peer: novaMesh }),
      lyraPort,
    );
    await until('online', () => nova.sees().lyra === 'online' && lyra.sees().nova === 'online', 10_000);

    const pub = (file: string, ...extra: string[]) => {
      const { ca, cert, key } = files(file);
      const args = [
        '-h',
        '127.0.0.1',
        '-p',
        String(novaMesh),
        '--cafile',
        ca,
        '--cert',
        cert,
        '--key',
        key,
        '--insecure',
        '-q',
        '1',
        ...extra,
      ];
      return spawnSync('mosquitto_pub', [...args, '-t', 'skos/peer/lyra', '-m', '{"state":"online"}'], {
        timeout: 5_000,
      }).status;
    };
    t.not(pub('forged', '-i', 'skos-lyra'), 0, 'the right name by a wrong authority');
    t.not(pub('stranger', '-i', 'skos-stranger'), 0, 'a name that is no peer');
    t.not(pub('stranger', '-i', 'skos-lyra'), 0, 'the id of a peer with the certificate of another');
    t.not(pub('lyra', '-i', 'skos-nova'), 0, 'an id that is not that of the certificate');
    t.not(pub('lyra', '-i', 'skos-lyra'), 0, 'a peer that publishes');
    const plain = await tcp(t, novaPort);
    plain.socket.write(
      mqttPacket.generate({
        cmd: 'connect',
        protocolId: 'MQTT',
        protocolVersion: 4,
        clientId: 'skos-lyra',
        clean: true,
        keepalive: 0,
      } as never),
    );
    await until('refused', () => plain.closed);
    t.equal(plain.received[3], 5, 'without a certificate nobody is a peer that has one');
    lyra.net.child.kill('SIGKILL');
    await until('offline', () => nova.sees().lyra === 'offline', 3_000);
  },
);

t.test('a link does not trust a broker whose certificate bears another name', { skip: noOpenssl }, async (t) => {
  const files = certificates(t, ['nova', 'lyra', 'vega']);
  const [vegaMesh, vegaPort, port] = [await freePort(), await freePort(), await freePort()];
  await startNode(
    t,
    netConfig({
      node: 'vega',
      mqttListen: `127.0.0.1:${vegaPort}`,
      mesh: { listen: `127.0.0.1:${vegaMesh}`, tls: files('vega'), peers: { nova: { url: 'mqtt://127.0.0.1:1' } } },
    }),
    vegaPort,
  );
  const peers = {
    lyra: { url: `mqtts://127.0.0.1:${vegaMesh}`, ...files('nova') },
    ghost: { url: 'mqtts://127.0.0.1:1', ca: '/absent', cert: '/absent', key: '/absent' },
  };
  const nova = await startNode(
    t,
    netConfig({ node: 'nova', mqttListen: `127.0.0.1:${port}`, mesh: { listen: null, tls: null, peers } }),
    port,
  );
  await until('offline', () => nova.sees().lyra === 'offline', 6_000);
  const views = Object.fromEntries((nova.agent.report?.peers ?? []).map((view) => [view.node, view.why]));
  t.match(views, { lyra: /common name "vega", not "lyra"/, ghost: /ENOENT/ });
  t.match(nova.net.log(), /SKOS_MESH_TLS/);
});

t.test(
  'mqtt.url joins a broker that is there: same messages, last will included',
  { skip: noMosquitto || (spawnSync('mosquitto', ['-h']).error ? 'mosquitto is not installed' : false) },
  async (t) => {
    const brokerPort = await freePort();
    const conf = join(shortDirectory(t), 'm.conf');
    writeFileSync(conf, `listener ${brokerPort} 127.0.0.1\nallow_anonymous true\n`);
    const start = async () => {
      const started = spawn('mosquitto', ['-c', conf], { stdio: 'ignore' });
      t.teardown(() => started.kill('SIGKILL'));
      const listens = () =>
        tcp(t, brokerPort).then(
          () => true,
          () => false,
        );
      await until('mosquitto listens', listens);
      return started;
    };
    const nova = await startNode(
      t,
      netConfig({ node: 'nova', mqttUrl: `mqtt://u:p@127.0.0.1:${brokerPort}` }),
      brokerPort,
    );
    const broker = await start();
    await until('joined', () => nova.agent.report?.listening === true, 5_000);
    t.equal(nova.agent.report?.mqttListen, `mqtt://127.0.0.1:${brokerPort}`, 'no password in the report');
    nova.agent.server.broadcast('active', alert('a1'));
    const sub = mosquittoSub(t, brokerPort, ['skos/#']);
    await until(
      'there',
      () => sub.last.has('skos/active/nova/a1') && sub.last.get('skos/peer/nova')?.state === 'online',
    );
    nova.net.child.kill('SIGKILL');
    await until('last will', () => sub.last.get('skos/peer/nova')?.state === 'offline');
    const again = startNet(t, nova.socketPath);
    await until('online', () => sub.last.get('skos/peer/nova')?.state === 'online', 5_000);
    broker.kill('SIGKILL');
    await new Promise((resolve) => broker.once('exit', resolve));
    await start();
    const after = mosquittoSub(t, brokerPort, ['skos/#'], ['-V', '311']);
    await until(
      'the truth is told to a broker that has forgotten it',
      () => after.last.get('skos/peer/nova')?.state === 'online',
      12_000,
    );
    again.child.kill('SIGTERM');
    t.same(await again.exited, { code: 0, signal: null });
    await until('a clean stop says offline', () => after.last.get('skos/peer/nova')?.why === 'skos-net was stopped');
  },
);
