/** Guests at the real broker, with an agent that the test plays: packets that no honest client sends. */
import mqttPacket from 'mqtt-packet';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/core/clock.js';
import { SkosError } from '../../src/core/errors.js';
import type { GuestRole } from '../../src/core/guests.js';
import type { Verb, Verbs } from '../../src/core/protocol.js';
import { EmbeddedBroker } from '../../src/mesh/broker.js';
import { ChainDesk } from '../../src/mesh/chain-desk.js';
import { GuestDesk } from '../../src/mesh/guest-desk.js';
import { CHAIN_TRUTH } from '../fixtures/fake-agent.js';
import { recordingLog } from '../fixtures/logs.js';
import { tcp } from '../fixtures/net-program.js';
import { until } from '../fixtures/socket.js';

const ROLES: Readonly<Record<string, GuestRole>> = { 'fan-watch': 'antibody', loops: 'chain', hand: 'operator' };
const CONNACK = 2;
const PUBACK = 4;
const PUBLISH = 3;

async function place(t: Test, { hasAgent = true } = {}) {
  const log = recordingLog();
  const forwarded: { kind: string; payload: unknown }[] = [];
  const agent = {
    answer: (): Promise<unknown> => Promise.resolve({}),
    request: <V extends Verb>(verb: V, params: Verbs[V]['params']): Promise<Verbs[V]['result']> => {
      const { user = '', token } = params as { user?: string; token?: string };
      const role = ROLES[user];
      const denied = new SkosError('SKOS_TOKEN_DENIED', 'wrong');
      if (role === undefined || token !== `token of ${user}`) return Promise.reject(denied);
      if (verb !== 'net.forward') return Promise.resolve({ role } as Verbs[V]['result']);
      forwarded.push(params as (typeof forwarded)[number]);
      return agent.answer() as Promise<Verbs[V]['result']>;
    },
  };
  const chains = new ChainDesk({ report: () => Promise.resolve(), clock: systemClock, log: () => log });
  const desk = new GuestDesk({ chains, clock: systemClock, log: () => log });
  desk.at({ node: 'nova', prefix: 'skos' });
  if (hasAgent) {
    desk.use(agent);
    chains.take(CHAIN_TRUTH);
  }
  const broker = new EmbeddedBroker({
    node: 'nova',
    prefix: 'skos',
    listen: '127.0.0.1:0',
    meshListen: null,
    tls: null,
    peers: new Map(),
    onSensorDemand: () => undefined,
    onLastWill: () => undefined,
    guests: desk,
    clock: systemClock,
    log,
  });
  chains.use({ origin: { node: 'nova', bootId: 'b' }, prefix: 'skos', publish: (sent) => broker.publish(sent) });
  t.teardown(() => broker.stop());
  await broker.start();
  const port = Number(broker.address.split(':')[1]);
  const text = () => log.lines.map(({ message }) => message).join('\n');

  /** Connects, and gives the return code and how to go on. */
  const connected = async (given: { user?: string; token?: string; id?: string; will?: object }) => {
    const { user, token = `token of ${user}`, id = `${user}-1`, will } = given;
    const client = await tcp(t, port);
    const send = (packet: object) => client.socket.write(mqttPacket.generate(packet as never));
    send({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clientId: id,
      clean: true,
      keepalive: 0,
      ...(user === undefined ? {} : { username: user, password: Buffer.from(token) }),
      ...(will === undefined ? {} : { will }),
    });
    await until('an answer', () => client.received.length >= 4 || client.closed);
    const kinds = () => packetKinds(client.received);
    const publish = (topic: string, payload: string | object, more: object = {}) =>
      send({
        cmd: 'publish',
        topic,
        payload: typeof payload === 'string' ? payload : JSON.stringify(payload),
        qos: 1,
        messageId: 1,
        retain: false,
        dup: false,
        ...more,
      });
    return { client, send, kinds, publish, code: client.received[3] };
  };
  return { broker, desk, chains, agent, forwarded, text, connected };
}

/** Types of the packets in these bytes, section 2.2.1. */
function packetKinds(bytes: Buffer): number[] {
  const kinds: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    kinds.push((bytes[at] ?? 0) >> 4);
    let length = 0;
    let i = 1;
    for (; ; i++) {
      const byte = bytes[at + i] ?? 0;
      length += (byte & 0x7f) * 128 ** (i - 1);
      if ((byte & 0x80) === 0) break;
    }
    at += 1 + i + length;
  }
  return kinds;
}

const beat = { v: 1, agent_id: 'fan-watch-nova', agent_type: 'fan_watch', timestamp: '2026-01-01T00:00:00Z' };
const step = { v: 1, chain_id: 'a', iteration: 1, timestamp: '2026-01-01T00:00:00Z' };

t.test('lets in by the agent’s word alone, and nobody while there is no agent', async (t) => {
  const away = await place(t, { hasAgent: false });
  t.equal((await away.connected({ user: 'fan-watch' })).code, 3, 'server unavailable');
  t.equal((await away.connected({ id: 'anybody' })).code, 0, 'who only subscribes');
  const { connected, text } = await place(t);
  t.equal((await connected({ user: 'fan-watch' })).code, 0);
  t.equal((await connected({ user: 'skos_AbCd', token: 'fan-watch' })).code, 4);
  t.match(text(), /refused/);
  t.notMatch(text(), 'AbCd', 'a token that came as a name is told to nobody');
  t.equal((await connected({ user: 'fan-watch', token: 'x' })).code, 4);
  t.equal((await connected({ user: 'fan-watch', token: 'x'.repeat(10_000) })).code, 4);
  t.equal((await connected({ user: 'ghost' })).code, 4);
  t.equal((await connected({ user: 'fan-watch', id: 'skos-lyra' })).code, 5, 'a peer’s id');
  const will = { topic: 'skos/alert/nova', payload: Buffer.from('{}'), qos: 0, retain: false };
  t.equal((await connected({ user: 'fan-watch', will })).code, 5, 'a will says what nobody checks');
});

t.test('what a guest publishes is acknowledged, goes to the agent, and to no subscriber as it came', async (t) => {
  const { connected, forwarded, text, agent } = await place(t);
  const listener = await connected({ id: 'listener' });
  const subscriptions = ['#', '$skos/#', '+/#'].map((topic) => ({ topic, qos: 1 }));
  listener.send({ cmd: 'subscribe', messageId: 1, subscriptions });
  const guest = await connected({ user: 'fan-watch' });
  guest.publish('skos/heartbeat/nova', beat, { retain: true });
  await until('acknowledged', () => guest.kinds().includes(PUBACK));
  t.match(forwarded, [{ kind: 'heartbeat', payload: { ...beat, metadata: {} } }]);
  guest.publish('skos/alert/nova', '{"v":');
  await until('garbage is said', () => text().includes('dropped what fan-watch sent'));
  agent.answer = () => Promise.reject(new SkosError('SKOS_TOKEN_DENIED', 'agent_id is wrong'));
  guest.publish('skos/heartbeat/nova', beat);
  await until('so is what the agent refuses', () => text().includes('agent_id is wrong'));
  t.notOk(guest.client.closed);
  t.notOk(listener.client.received.includes('fan_watch'), 'nothing of it is heard');
  const late = await connected({ id: 'late' });
  late.send({ cmd: 'subscribe', messageId: 1, subscriptions });
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.notOk(late.client.received.includes('fan_watch'), 'nor retained');
});

t.test('ends the connection of who publishes out of role, exactly once, too much, or for another chain', async (t) => {
  const { connected, text, chains } = await place(t);
  const ended = async (user: string, topic: string, payload: object, more: object = {}) => {
    const guest = await connected({ user, id: `${user}-x` });
    guest.publish(topic, payload, more);
    await until('it is closed', () => guest.client.closed);
  };
  await ended('fan-watch', 'skos/chain/nova/a', step);
  await ended('fan-watch', 'skos/command/nova', {});
  await ended('loops', 'skos/heartbeat/nova', beat);
  await ended('loops', 'skos/chain/nova', step);
  await ended('loops', 'skos/chain/nova/a/b', step);
  await ended('loops', 'skos/chain/nova/A', step);
  await ended('hand', 'skos/command/lyra', {});
  await ended('hand', 'skos/active/nova/x', {}, { retain: true });
  await ended('loops', 'skos/chain/nova/a', step, { qos: 2 });
  t.equal(chains.watched, 0);
  const other = await connected({ user: 'loops' });
  other.publish('skos/chain/nova/b', step);
  await until('it is said', () => text().includes('it is of chain "a"'));
  const noisy = await connected({ user: 'hand' });
  for (let i = 0; i < 30; i++) noisy.publish('skos/command/nova', '{}');
  await until('too much', () => noisy.client.closed);
  t.match(text(), /hand sends more than 1 messages a second/);
});

t.test('nobody without the token throws a guest out by its client id; a revoked one is heard no more', async (t) => {
  const { connected, broker, chains } = await place(t);
  const guest = await connected({ user: 'loops', id: 'worker' });
  for (const id of ['worker', 'guest:loops/worker']) await connected({ id });
  await connected({ user: 'loops', token: 'x', id: 'worker' });
  await connected({ user: 'hand', id: 'worker' });
  guest.publish('skos/chain/nova/a', step);
  await until('it is still heard', () => guest.kinds().includes(PUBACK));
  t.same(guest.kinds(), [CONNACK, PUBACK]);
  t.notOk(guest.kinds().includes(PUBLISH));
  t.equal(chains.watched, 1);
  t.equal(broker.passes.length, 2);
  guest.publish('skos/chain/nova/b', { ...step, chain_id: 'b' });
  broker.dropGuests('loops');
  await until('it is gone', () => guest.client.closed);
  t.equal(chains.watched, 1, 'what was on its way is not taken');
  t.same(
    broker.passes.map(({ user }) => user),
    ['hand'],
  );
});
