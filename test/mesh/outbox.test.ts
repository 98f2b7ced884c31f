import { spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Outbox } from '../../src/core/ports.js';
import { MQTT_QUEUE } from '../../src/core/protocol.js';
import { readPayload } from '../../src/mesh/payloads.js';
import { topicNameOf } from '../../src/mesh/topics.js';
import { openStore } from '../../src/store/store.js';
import { FakeAgent, netConfig } from '../fixtures/fake-agent.js';
import { recordingLog } from '../fixtures/logs.js';
import { freePort, mosquittoSub, noMosquitto, startNet, tcp } from '../fixtures/net-program.js';
import { SiteBroker } from '../fixtures/site-broker.js';
import { shortDirectory, until } from '../fixtures/socket.js';
import { actionNamed, alertNamed, HandClock } from '../fixtures/store-records.js';

/** An agent whose outbox is a real store in `dataDir`, skos-net, and a broker of the site that is not started yet. */
async function joined(t: Test) {
  const directory = shortDirectory(t);
  const socketPath = join(directory, 'agent.sock');
  const dataDir = join(directory, 'data');
  const port = await freePort();
  const broker = new SiteBroker(t, port);
  const config = netConfig({ node: 'nova', mqttUrl: `mqtt://127.0.0.1:${port}` });
  const startAgent = async () => {
    const store = await openStore({ dataDir, log: recordingLog(), clock: new HandClock() });
    const agent = new FakeAgent(socketPath, config, store.outbox);
    t.teardown(async () => {
      await agent.stop();
      await store.stop();
    });
    await agent.start();
    return { agent, store };
  };
  const live = await startAgent();
  const say = (agent: FakeAgent, from: number, to: number) => {
    for (let n = from; n <= to; n++) agent.queue('alert', alertNamed(`a${n}`));
  };
  return { ...live, broker, say, startAgent, socketPath, net: startNet(t, socketPath) };
}

const waiting = (outbox: Outbox) => outbox.states()[0]?.waiting ?? 0;

/** Every number from 1 to `last` is there, repeats aside in order, and equal numbers say equal things. */
function complete(t: Test, { heard }: SiteBroker, last: number): void {
  const byId = new Map<string, string>();
  const first: unknown[] = [];
  for (const { payload } of heard.filter(({ topic }) => topic === 'skos/alert/nova')) {
    const id = `${payload.outbox_epoch}/${payload.outbox_seq}`;
    const text = JSON.stringify(payload);
    if (!byId.has(id)) first.push(payload.outbox_seq);
    t.equal(byId.get(id) ?? text, text);
    byId.set(id, text);
  }
  t.strictSame(
    first,
    Array.from({ length: last }, (_, i) => i + 1),
    'nothing is missing, and all in order',
  );
}

t.test('what happens while the broker is away reaches it in order, once', async (t) => {
  const { agent, broker, say } = await joined(t);
  await until('skos-net is there', () => agent.report !== undefined);
  say(agent, 1, 200);
  agent.queue('command', actionNamed('nova:c:1'));
  agent.queue('result', actionNamed('nova:c:1'));
  agent.queue('audit', { seq: 7, kind: 'a.b', who: 'agent', what: {}, atMs: 1, previous: 'a', hash: 'b' });
  await broker.start();
  await until('all is taken', () => waiting(agent.outbox) === 0, 8_000);
  agent.queue('alert', alertNamed('a204'));
  await until('and what comes then, at once', () => waiting(agent.outbox) === 0, 1_000);
  const own = broker.heard.filter(({ topic }) => /alert|command|result|audit/.test(topic));
  t.strictSame(
    own.map(({ payload }) => payload.outbox_seq),
    Array.from({ length: 204 }, (_, i) => i + 1),
  );
  for (const { topic, payload } of own) {
    const name = topicNameOf('skos', 'nova', topic);
    if (name === undefined) throw new Error(topic);
    readPayload(name, 'nova', Buffer.from(JSON.stringify(payload)));
  }
  const command = own.find(({ topic }) => topic === 'skos/command/nova')?.payload;
  t.match(command, { boot_id: 'boot-nova', ttl_ms: 0, nonce: /^[0-9a-f]{16}$/ }, 'long over by the clock of the item');
});

t.test('live state goes to the broker as before, and is not queued', async (t) => {
  const { agent, broker } = await joined(t);
  await broker.start();
  await until('joined', () => agent.report?.listening === true, 5_000);
  agent.server.broadcast('heartbeat', {
    agentType: 'thermal_sentinel',
    atMs: 1,
    cpuTemp: 1,
    gpuTemp: null,
    metadata: {},
  });
  await until('heard', () => broker.heard.some(({ topic }) => topic === 'skos/heartbeat/nova'));
  t.strictSame(agent.outbox.states(), []);
});

t.test('a broker that dies in the middle loses nothing', async (t) => {
  const { agent, broker, say } = await joined(t);
  await broker.start();
  await until('joined', () => agent.report?.listening === true, 5_000);
  for (const deadly of [30, 90]) {
    broker.onMessage = ({ payload }) => {
      if (payload.outbox_seq === deadly) void broker.die();
    };
    say(agent, deadly === 30 ? 1 : 76, deadly === 30 ? 75 : 150);
    await until('it died', () => broker.heard.some(({ payload }) => payload.outbox_seq === deadly));
    broker.onMessage = () => undefined;
    await new Promise((resolve) => setTimeout(resolve, 50));
    t.ok(waiting(agent.outbox) > 0, 'what was not acknowledged waits');
    await broker.start();
    await until('all is taken', () => waiting(agent.outbox) === 0, 8_000);
  }
  complete(t, broker, 150);
});

t.test('skos-net that is killed between publish and take repeats, under the same number', async (t) => {
  const { agent, broker, say, net, socketPath } = await joined(t);
  await broker.start();
  await until('joined', () => agent.report?.listening === true, 5_000);
  const { take } = agent.outbox;
  agent.outbox.take = () => undefined; // The kill comes before the agent hears of it.
  say(agent, 1, 40);
  await until('published', () => broker.heard.some(({ payload }) => payload.outbox_seq === 40));
  net.child.kill('SIGKILL');
  await net.exited;
  agent.outbox.take = take.bind(agent.outbox);
  startNet(t, socketPath);
  await until('all is taken', () => waiting(agent.outbox) === 0, 8_000);
  complete(t, broker, 40);
  const repeats = broker.heard.filter(({ payload }) => payload.outbox_seq === 1);
  t.ok(repeats.length >= 2, 'the first was published by both');
});

t.test('an agent that is gone and comes back goes on with its queue', async (t) => {
  const { agent, store, broker, say, startAgent } = await joined(t);
  say(agent, 1, 50);
  await agent.stop();
  await store.stop();
  const again = await startAgent();
  again.agent.outbox.put(MQTT_QUEUE, { kind: 'nonsense', data: { bootId: 'x', data: null } });
  again.agent.outbox.put(MQTT_QUEUE, { kind: 'alert', data: 'of another version' });
  say(again.agent, 51, 60);
  await broker.start();
  await until('all is taken', () => waiting(again.agent.outbox) === 0, 8_000);
  const seqs = broker.heard.filter(({ topic }) => topic === 'skos/alert/nova').map(({ payload }) => payload.outbox_seq);
  t.strictSame(
    [...new Set(seqs)],
    Array.from({ length: 62 }, (_, i) => i + 1).filter((seq) => seq !== 51 && seq !== 52),
  );
});

t.test(
  'mosquitto gets what waited, in order, also when it is killed in between',
  { skip: noMosquitto || (spawnSync('mosquitto', ['-h']).error ? 'mosquitto is not installed' : false) },
  async (t) => {
    const directory = shortDirectory(t);
    const port = await freePort();
    const conf = join(directory, 'm.conf');
    writeFileSync(conf, `listener ${port} 127.0.0.1\nallow_anonymous true\n`);
    const startMosquitto = async () => {
      const broker = spawn('mosquitto', ['-c', conf], { stdio: 'ignore' });
      t.teardown(() => broker.kill('SIGKILL'));
      const listens = () =>
        tcp(t, port).then(
          () => true,
          () => false,
        );
      await until('mosquitto listens', listens);
      return broker;
    };
    const socketPath = join(directory, 'agent.sock');
    const agent = new FakeAgent(socketPath, netConfig({ node: 'nova', mqttUrl: `mqtt://127.0.0.1:${port}` }));
    t.teardown(() => agent.stop());
    await agent.start();
    for (let n = 1; n <= 150; n++) agent.queue('alert', alertNamed(`a${n}`));
    const first = await startMosquitto();
    const heard = mosquittoSub(t, port, ['skos/alert/#']);
    await new Promise((resolve) => setTimeout(resolve, 200));
    startNet(t, socketPath);
    const seqs = ({ lines }: typeof heard) =>
      lines.map(({ payload }) => (JSON.parse(payload) as { outbox_seq: number }).outbox_seq);
    await until('all is taken', () => waiting(agent.outbox) === 0, 8_000);
    await until('heard', () => heard.lines.length === 150);
    t.strictSame(
      seqs(heard),
      Array.from({ length: 150 }, (_, i) => i + 1),
    );
    heard.child.kill('SIGKILL');
    first.kill('SIGKILL');
    await new Promise((resolve) => first.once('exit', resolve));
    for (let n = 151; n <= 200; n++) agent.queue('alert', alertNamed(`a${n}`));
    await until('the loss is seen', () => agent.report?.listening === false, 8_000);
    t.equal(waiting(agent.outbox), 50);
    await startMosquitto();
    await until('all is taken', () => waiting(agent.outbox) === 0, 12_000);
    t.match(agent.outbox.states(), [{ takenSeq: 200, dropped: 0 }]);
  },
);
