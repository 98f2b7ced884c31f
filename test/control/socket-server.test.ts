import { spawn } from 'node:child_process';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { NetBudget } from '../../src/control/net-budget.js';
import { SocketConnection } from '../../src/control/socket-connection.js';
import { listenAt } from '../../src/control/socket-file.js';
import { SocketServer, type SocketServerOptions } from '../../src/control/socket-server.js';
import { AgentClient } from '../../src/core/agent-client.js';
import { type Clock, systemClock } from '../../src/core/clock.js';
import { SkosError } from '../../src/core/errors.js';
import { MAX_CLIENTS, MAX_LINE_BYTES, MAX_QUEUED_BYTES, NET_VERBS, type NetReport } from '../../src/core/protocol.js';
import { FakeClock } from '../fixtures/control.js';
import { handlers, rawClient, rememberingLog, serverOptions, shortDirectory, until } from '../fixtures/socket.js';

async function started(t: Test, given: Partial<SocketServerOptions> = {}) {
  const path = join(shortDirectory(t), 'agent.sock');
  const server = new SocketServer(serverOptions(path, given));
  t.teardown(() => server.stop());
  await server.start();
  return { server, path };
}

async function client(t: Test, path: string): Promise<AgentClient> {
  const connected = new AgentClient();
  t.teardown(() => connected.close());
  await connected.connect(path);
  return connected;
}

/** The socket file of a process that was killed. */
async function leaveStale(path: string): Promise<void> {
  const child = spawn(process.execPath, [
    '-e',
    `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`,
  ]);
  await new Promise((resolve) => child.stdout.once('data', resolve));
  child.kill('SIGKILL');
  await new Promise((resolve) => child.once('exit', resolve));
}

const peer = { state: 'online', atMs: 1, seq: 1, auditHead: { seq: 0, hash: '' } } as const;

t.test('answers a verb by its handler, with the caller that the kernel named', async (t) => {
  let fd = -1;
  const { path } = await started(t, {
    credentialsOf: (descriptor) => {
      fd = descriptor;
      return { uid: 7, gid: 8, groups: [9], pid: 10 };
    },
    handlers: handlers({ sensors: (params, caller) => [params, caller] as never }),
  });
  const answer = await (await client(t, path)).request('sensors', { glob: 'hwmon/*' });
  t.match(answer, [{ glob: 'hwmon/*' }, { role: 'admin', credentials: { uid: 7, gid: 8, groups: [9], pid: 10 } }]);
  t.ok(fd > 2, 'the descriptor is that of the connection');
});

t.test("passes a handler's coded error on, and survives one without a code", async (t) => {
  const { path } = await started(t, {
    handlers: handlers({
      reload: () => Promise.reject(new SkosError('SKOS_CONFIG_INVALID', 'line 3')),
      preview: () => {
        throw new TypeError('a bug');
      },
    }),
  });
  const connected = await client(t, path);
  await t.rejects(connected.request('reload', {}), { code: 'SKOS_CONFIG_INVALID', message: 'line 3' });
  await t.rejects(connected.request('preview', {}), { message: 'a bug' });
});

t.test('refuses unknown verbs with a hint, and params of a wrong shape before the handler sees them', async (t) => {
  const { path } = await started(t, {
    handlers: handlers({ alerts: () => t.fail('the handler saw bad params') as never }),
  });
  const connected = await client(t, path);
  await t.rejects(connected.request('sensor' as 'sensors', {}), { code: 'SKOS_PROTOCOL_INVALID', message: /sensors/ });
  await t.rejects(connected.request('__proto__' as 'sensors', {}), { code: 'SKOS_PROTOCOL_INVALID' });
  for (const params of [{ limit: 0 }, { limit: 1e9 }, { limit: '1' }, { all: 1 }, { lmit: 1 }, [], 'x', null]) {
    await t.rejects(connected.request('alerts', params as never), { code: 'SKOS_PROTOCOL_INVALID' });
  }
});

t.test('lets skos-net use its own verbs and no other, and strangers none', async (t) => {
  const { path } = await started(t, { roleOf: () => 'net', handlers: handlers({ 'net.report': () => ({}) }) });
  const net = await client(t, path);
  const report: NetReport = {
    mqttListen: '127.0.0.1:1883',
    listening: true,
    clients: 0,
    sensorDemand: false,
    peers: [{ node: 'lyra', state: 'unknown', sinceAtMs: 1, why: 'not seen yet', silentMs: null, deafMs: null }],
    rssBytes: 1,
  };
  t.same(await net.request('net.report', report), {});
  t.ok(NET_VERBS.includes('net.report'));
  await t.rejects(net.request('release', {}), { code: 'SKOS_SOCKET_DENIED' });

  const stranger = await started(t, { roleOf: () => null });
  await t.rejects((await client(t, stranger.path)).request('status', {}), { code: 'SKOS_SOCKET_DENIED' });
  t.equal(stranger.server.clients, 0);
});

t.test('admits nobody when the kernel does not say who it is', async (t) => {
  const { path } = await started(t, {
    credentialsOf: () => {
      throw new Error('getsockopt failed');
    },
  });
  await t.rejects((await client(t, path)).request('status', {}), { code: 'SKOS_SOCKET_DENIED' });
});

t.test('answers malformed lines by coded errors and goes on', async (t) => {
  const { path } = await started(t, { handlers: handlers({ alerts: () => [] }) });
  const raw = await rawClient(t, path);
  raw.send('{\n[]\n{"verb":"alerts"}\n{"id":0,"verb":"alerts"}\n{"id":-1}\n{"id":1.5}\n{"id":"1"}\n{"id":9}\n');
  raw.send('{"id":10,"verb":"alerts"}\n');
  await until('nine answers', () => raw.lines.length === 9);
  t.same(
    raw.lines.slice(0, 7).map((line) => line.id),
    [-1, -1, -1, -1, -1, -1, -1],
  );
  t.match(
    raw.lines.find((line) => line.id === 9),
    { error: { code: 'SKOS_PROTOCOL_INVALID' } },
  );
  t.same(raw.lines.find((line) => line.id === 10)?.result, []);
});

t.test('survives any bytes', async (t) => {
  const { path } = await started(t, { handlers: handlers({ alerts: () => [] }) });
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.json().map((j) => Buffer.from(`${j}\n`)),
        ),
      ),
      async (chunks) => {
        const raw = await rawClient(t, path);
        for (const chunk of chunks) raw.socket.write(chunk);
        raw.socket.end();
      },
    ),
    { numRuns: 50 },
  );
  t.same(await (await client(t, path)).request('alerts', {}), []);
});

t.test('closes a client whose line has no end, after telling it why', async (t) => {
  const { log, lines } = rememberingLog();
  const { server, path } = await started(t, { log });
  const raw = await rawClient(t, path);
  raw.socket.write(Buffer.alloc(MAX_LINE_BYTES + 1, 'x'));
  await until('closed', raw.closed);
  t.match(raw.lines, [{ id: 0, error: { code: 'SKOS_PROTOCOL_INVALID' } }]);
  t.equal(server.clients, 0);
  t.match(lines, [{ level: 'warn', fields: { code: 'SKOS_PROTOCOL_INVALID', uid: 0 } }]);
});

t.test('an answer too large for a line is an error that says so', async (t) => {
  const { path } = await started(t, { handlers: handlers({ alerts: () => 'x'.repeat(MAX_LINE_BYTES) as never }) });
  await t.rejects((await client(t, path)).request('alerts', {}), {
    code: 'SKOS_PROTOCOL_INVALID',
    message: /too large/,
  });
});

t.test('reads no further from a client with too many unanswered requests, and loses none of them', async (t) => {
  let open = 0;
  let most = 0;
  const waiting: (() => void)[] = [];
  const { path } = await started(t, {
    handlers: handlers({
      alerts: async () => {
        most = Math.max(most, ++open);
        await new Promise<void>((resolve) => waiting.push(resolve));
        open--;
        return [];
      },
    }),
  });
  const raw = await rawClient(t, path);
  // In pieces, since what one read has brought is answered whole.
  for (let id = 1; id <= 200; id++) {
    raw.send(`{"id":${id},"verb":"alerts"}${' '.repeat(4096)}\n`);
  }
  await until('requests arrive', () => open >= 64);
  t.ok(most < 200, `${most} at once`);
  while (raw.lines.length < 200) {
    for (const release of waiting.splice(0)) release();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  t.equal(raw.lines.length, 200);
});

/** A server that takes its clients for skos-net, what it did for them, and a time that passes only when it is told to. */
async function servingNet(t: Test, clock: Clock = new FakeClock()) {
  const done = { reports: 0, subscriptions: 0 };
  const report = () => {
    done.reports += 1;
    return {};
  };
  const onSubscribe = () => {
    done.subscriptions += 1;
  };
  const { path } = await started(t, {
    roleOf: () => 'net',
    handlers: handlers({ 'net.report': report }),
    onSubscribe,
    clock,
  });
  return { clock, done, path };
}

const NET_REPORT: NetReport = {
  mqttListen: '',
  listening: true,
  clients: 0,
  sensorDemand: false,
  peers: [],
  rssBytes: 1,
  chains: 0,
};
const NET_REQUEST = `${JSON.stringify({ id: 1, verb: 'net.report', params: NET_REPORT })}\n`;

const codeOf = (line: unknown) => (line as { error?: { code?: string } } | undefined)?.error?.code;

t.test(
  'a flood of skos-net is read no further, and its next connection is refused until time has passed',
  async (t) => {
    const clock = new FakeClock();
    const { done, path } = await servingNet(t, clock);
    const flood = await rawClient(t, path);
    for (let i = 0; i < 100; i++) flood.send(NET_REQUEST.repeat(1_000));
    // As net-budget.ts counts: the connection, then each request and its bytes; all but the last one must have been answered.
    const affordable = Math.floor((2_000 - 10) / (1 + NET_REQUEST.length / 4_096)) - 1;
    await until('its budget is spent', () => done.reports >= affordable);
    const second = await rawClient(t, path);
    second.send(NET_REQUEST);
    await until('it is refused', second.closed);
    t.equal(codeOf(second.lines[0]), 'SKOS_SOCKET_FLOOD');
    await new Promise((resolve) => setTimeout(resolve, 100));
    t.ok(done.reports < 4_000, `${done.reports} of 100,000 were answered`);
    flood.socket.destroy();
    clock.nowMs += 10_000;
    const later = await rawClient(t, path);
    later.send(NET_REQUEST);
    await until('it is answered', () => later.lines.length > 0);
    t.equal(codeOf(later.lines[0]), undefined);
  },
);

t.test('what skos-net cannot owe any more ends its connection, with a code', async (t) => {
  const { path } = await servingNet(t);
  // All of one read: the smallest requests, which are all wrong.
  const flood = await Promise.all([rawClient(t, path), rawClient(t, path), rawClient(t, path)]);
  for (const each of flood) each.send('{}\n'.repeat(100_000));
  await until('one is disconnected', () => flood.some(({ closed }) => closed()));
  t.ok(flood.some(({ lines }) => codeOf(lines.at(-1)) === 'SKOS_SOCKET_FLOOD'));
  t.ok(flood.reduce((sum, { lines }) => sum + lines.length, 0) < 5_000, 'the others are read no further');
});

t.test('what is refused is read no further, though requests of it are answered later', async (t) => {
  const path = join(shortDirectory(t), 'a.sock');
  const budget = new NetBudget(new FakeClock());
  for (let i = 0; i < 15; i++) budget.takeVerb('subscribe');
  let resumed = 0;
  const ended = new Promise<SkosError | undefined>((resolve) => {
    const server = createServer((socket) => {
      const resume = socket.resume.bind(socket);
      new SocketConnection({ socket, answer: async () => ({}), budget: () => budget, onEnd: resolve }).start();
      socket.resume = () => {
        resumed += 1;
        return resume();
      };
    });
    server.listen(path);
    t.teardown(() => server.close());
  });
  const flood = connect(path);
  t.teardown(() => flood.destroy());
  flood.write('{"id":1,"verb":"x"}\n'.repeat(500));
  t.equal((await ended)?.code, 'SKOS_SOCKET_FLOOD');
  for (let i = 0; i < 5; i++) await new Promise(setImmediate);
  t.equal(resumed, 0);
});

t.test('long lines and subscriptions of skos-net count for what they cost', async (t) => {
  const { done, path } = await servingNet(t);
  let refused: string | undefined;
  for (let i = 0; i < 50 && refused === undefined; i++) {
    const each = await rawClient(t, path);
    each.send('{"id":1,"verb":"subscribe"}\n');
    await until('an answer', () => each.lines.length > 0);
    refused = codeOf(each.lines[0]);
    each.socket.destroy();
  }
  t.equal(refused, 'SKOS_SOCKET_FLOOD');
  t.ok(done.subscriptions < 10, `${done.subscriptions} subscriptions`);

  const other = await servingNet(t);
  const long = await rawClient(t, other.path);
  for (let i = 0; i < 10; i++) long.send(`{"id":1,"verb":"x","params":"${'x'.repeat(MAX_LINE_BYTES / 2)}"}\n`);
  await until('the first are answered', () => long.lines.length > 0);
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.ok(long.lines.length < 6, `${long.lines.length} lines of 2 MiB were parsed while no time passed`);
});

t.test('skos-net that waits for its answers is slowed down when it asks too much, and loses none', async (t) => {
  const { done, path } = await servingNet(t, systemClock);
  const net = await client(t, path);
  const beganMs = performance.now();
  for (let i = 0; i < 50; i++) {
    await Promise.all(Array.from({ length: 60 }, () => net.request('net.report', NET_REPORT)));
  }
  t.equal(done.reports, 3_000);
  t.ok(performance.now() - beganMs > 800, 'a thousand more than may be asked at once take a second');
});

t.test('sends events to subscribers only, the retained truth first', async (t) => {
  const { server, path } = await started(t, {
    onSubscribe: (send) => {
      send('peer', { ...peer, seq: 1 });
      send('peer', { ...peer, seq: 2 });
    },
  });
  const [one, other] = [await rawClient(t, path), await rawClient(t, path)];
  server.broadcast('peer', { ...peer, seq: 99 });
  one.send('{"id":1,"verb":"subscribe"}\n{"id":2,"verb":"subscribe"}\n');
  await until('subscribed', () => one.lines.length === 4);
  server.broadcast('peer', { ...peer, seq: 3 });
  await until('live event', () => one.lines.length === 5);
  const events = one.lines.filter((line) => line.event === 'peer').map((line) => (line.data as { seq: number }).seq);
  t.same(events, [1, 2, 3], 'subscribing twice is subscribing once');
  t.same(other.lines, []);
});

t.test('serialises an event once for all subscribers, and not at all for none', async (t) => {
  const { server, path } = await started(t);
  let serialised = 0;
  const event = { ...peer, toJSON: () => ({ ...peer, n: ++serialised }) };
  server.broadcast('peer', event);
  t.equal(serialised, 0);
  const raws = [await rawClient(t, path), await rawClient(t, path), await rawClient(t, path)];
  for (const raw of raws) raw.send('{"id":1,"verb":"subscribe"}\n');
  await until('subscribed', () => server.subscribers === 3);
  server.broadcast('peer', event);
  await until('events', () => raws.every((raw) => raw.lines.some((line) => line.event === 'peer')));
  t.equal(serialised, 1);
});

t.test('disconnects a subscriber that does not read; the others miss nothing', async (t) => {
  const { log, lines } = rememberingLog();
  const { server, path } = await started(t, { log });
  const [slow, fast] = [await rawClient(t, path), await rawClient(t, path)];
  for (const raw of [slow, fast]) raw.send('{"id":1,"verb":"subscribe"}\n');
  await until('subscribed', () => server.subscribers === 2);
  slow.socket.pause();
  const filling = { ...peer, fill: 'x'.repeat(256 * 1024) };
  const rounds = Math.ceil((2 * MAX_QUEUED_BYTES) / filling.fill.length);
  for (let i = 0; i < rounds; i++) {
    server.broadcast('peer', { ...filling, seq: i });
    await until('the fast one reads', () => fast.lines.length === i + 2);
  }
  t.equal(server.subscribers, 1);
  t.match(lines, [{ level: 'warn', fields: { code: 'SKOS_PROTOCOL_OVERFLOW' } }]);
});

t.test('bounds the number of clients, and keeps room for skos-net', async (t) => {
  let role: 'admin' | 'net' = 'admin';
  const { server, path } = await started(t, { roleOf: () => role, handlers: handlers({ status: () => 1 as never }) });
  const admitted = [];
  for (let i = 0; i < MAX_CLIENTS - 2; i++) admitted.push(await client(t, path));
  await until('all in', () => server.clients === MAX_CLIENTS - 2);
  await t.rejects((await client(t, path)).request('status', {}), { code: 'SKOS_SOCKET_FULL' });
  role = 'net';
  t.equal(await (await client(t, path)).request('status', {}), 1);
  role = 'admin';
  admitted[0]?.close();
  await until('one left', () => server.clients === MAX_CLIENTS - 2);
  admitted[1]?.close();
  await until('another left', () => server.clients === MAX_CLIENTS - 3);
  t.equal(await (await client(t, path)).request('status', {}), 1, 'a place that is free again');
});

t.test('everybody may knock, and the file goes with the server', async (t) => {
  const { server, path } = await started(t);
  t.equal(statSync(path).mode & 0o777, 0o666);
  await server.stop();
  await server.stop();
  t.equal(existsSync(path), false);
});

t.test('two servers at one path: the second says SKOS_SOCKET_BUSY and the first goes on', async (t) => {
  const { path } = await started(t, { handlers: handlers({ alerts: () => [] }) });
  await t.rejects(new SocketServer(serverOptions(path)).start(), { code: 'SKOS_SOCKET_BUSY' });
  t.same(await (await client(t, path)).request('alerts', {}), []);
});

t.test('started at the same moment over a stale file, exactly one of two servers wins', async (t) => {
  const path = join(shortDirectory(t), 'agent.sock');
  await leaveStale(path);
  const servers = [createServer(), createServer()];
  const outcomes = await Promise.allSettled(servers.map((server) => listenAt(path, server)));
  t.teardown(() => {
    for (const server of servers) server.close();
  });
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
});

t.test('takes over the file of an agent that was killed, never anything else', async (t) => {
  const path = join(shortDirectory(t), 'agent.sock');
  await leaveStale(path);
  t.ok(existsSync(path), 'the killed one left its file');
  const server = new SocketServer(serverOptions(path, { handlers: handlers({ alerts: () => [] }) }));
  t.teardown(() => server.stop());
  await server.start();
  t.same(await (await client(t, path)).request('alerts', {}), []);

  const file = join(shortDirectory(t), 'agent.sock');
  writeFileSync(file, 'precious');
  await t.rejects(new SocketServer(serverOptions(file)).start(), { code: 'SKOS_SOCKET_LISTEN' });
  t.ok(existsSync(file));
});

t.test('says so when the path cannot be', async (t) => {
  const long = join(shortDirectory(t), 'x'.repeat(200));
  await t.rejects(new SocketServer(serverOptions(long)).start(), { code: 'SKOS_SOCKET_LISTEN' });
});

t.test('stops with clients that neither read nor leave', async (t) => {
  const { server, path } = await started(t);
  const raw = await rawClient(t, path);
  raw.socket.pause();
  const before = Date.now();
  await server.stop();
  t.ok(Date.now() - before < 2_000);
});
