import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { AgentClient, agentSocketPath } from '../../src/core/agent-client.js';
import { MAX_LINE_BYTES } from '../../src/core/protocol.js';
import { shortDirectory, until } from '../fixtures/socket.js';

/** A server that does with each connection what the test says. */
async function server(t: Test, each: (socket: Socket) => void): Promise<string> {
  const path = join(shortDirectory(t), 's');
  const listening = createServer((socket) => {
    socket.on('error', () => undefined);
    t.teardown(() => socket.destroy());
    each(socket);
  });
  await new Promise<void>((resolve) => listening.listen(path, resolve));
  t.teardown(() => listening.close());
  return path;
}

async function connected(t: Test, path: string, deadlineMs = 2_000): Promise<AgentClient> {
  const client = new AgentClient({ deadlineMs });
  t.teardown(() => client.close());
  await client.connect(path);
  return client;
}

t.test('says SKOS_SOCKET_UNAVAILABLE when nobody listens', async (t) => {
  const directory = shortDirectory(t);
  await t.rejects(new AgentClient().connect(join(directory, 'absent')), { code: 'SKOS_SOCKET_UNAVAILABLE' });
  writeFileSync(join(directory, 'file'), '');
  await t.rejects(new AgentClient().connect(join(directory, 'file')), { code: 'SKOS_SOCKET_UNAVAILABLE' });
});

t.test('matches answers by id, in any order', async (t) => {
  const path = await server(t, (socket) => {
    socket.once('data', () => socket.write('{"id":2,"result":["b"]}\n{"id":1,"result":["a"]}\n'));
  });
  const client = await connected(t, path);
  const answers = await Promise.all([client.request('sensors', {}), client.request('alerts', {})]);
  t.same(answers, [['a'], ['b']]);
});

t.test('rejects with the code that the agent gave', async (t) => {
  const path = await server(t, (socket) =>
    socket.once('data', () => socket.write('{"id":1,"error":{"code":"SKOS_STORE_OPEN","message":"no disk"}}\n')),
  );
  const client = await connected(t, path);
  await t.rejects(client.request('status', {}), { code: 'SKOS_STORE_OPEN', message: 'no disk' });
});

t.test('a code that it does not know is a protocol fault, not a crash', async (t) => {
  const path = await server(t, (socket) =>
    socket.once('data', () => socket.write('{"id":1,"error":{"code":"toString"}}\n')),
  );
  await t.rejects((await connected(t, path)).request('status', {}), { code: 'SKOS_PROTOCOL_INVALID' });
});

t.test('gives up at the deadline, and ignores the answer that comes after it', async (t) => {
  const path = await server(t, (socket) =>
    socket.once('data', () => setTimeout(() => socket.write('{"id":1,"result":{}}\n{"id":2,"result":7}\n'), 150)),
  );
  const client = await connected(t, path);
  await t.rejects(client.request('status', {}, { deadlineMs: 50 }), { code: 'SKOS_SOCKET_DEADLINE' });
  t.equal(await client.request('status', {}), 7);
});

t.test('rejects what is outstanding when the agent goes away, and says so once', async (t) => {
  const path = await server(t, (socket) => socket.once('data', () => socket.destroy()));
  const client = await connected(t, path);
  const reasons: string[] = [];
  client.onClose((why) => reasons.push(why.code));
  await t.rejects(client.request('status', {}), { code: 'SKOS_SOCKET_UNAVAILABLE' });
  await t.rejects(client.request('status', {}), { code: 'SKOS_SOCKET_UNAVAILABLE' });
  t.same(reasons, ['SKOS_SOCKET_UNAVAILABLE']);
  t.equal(client.connected, false);
});

t.test('tells the reason for which the agent refused the connection', async (t) => {
  const path = await server(t, (socket) =>
    socket.end('{"id":0,"error":{"code":"SKOS_SOCKET_DENIED","message":"user 7 is not admitted"}}\n'),
  );
  const client = await connected(t, path);
  await t.rejects(client.request('status', {}), { code: 'SKOS_SOCKET_DENIED' });
});

t.test('ends the connection on what is no line of the protocol', async (t) => {
  for (const garbage of ['garbage\n', '{"neither":1}\n', '[1]\n', Buffer.alloc(MAX_LINE_BYTES + 1, 'x')]) {
    const path = await server(t, (socket) => socket.once('data', () => socket.write(garbage)));
    const client = await connected(t, path);
    await t.rejects(client.request('status', {}), { code: 'SKOS_PROTOCOL_INVALID' });
    t.equal(client.connected, false);
  }
});

t.test('hands out events in order, until one stops listening', async (t) => {
  const path = await server(t, (socket) =>
    socket.on('data', () =>
      socket.write('{"event":"audit","data":1}\n{"event":"audit","data":2}\n{"event":"unknown.to.us","data":0}\n'),
    ),
  );
  const client = await connected(t, path);
  const seen: unknown[] = [];
  const off = client.on('audit', (entry) => seen.push(entry));
  client.request('status', {}, { deadlineMs: 100 }).catch(() => undefined);
  await until('two events', () => seen.length === 2);
  t.same(seen, [1, 2]);
  off();
  await client.request('status', {}, { deadlineMs: 100 }).catch(() => undefined);
  t.same(seen, [1, 2]);
});

t.test('the socket is found by server and clients in the same place', async (t) => {
  const directory = shortDirectory(t);
  const runDirectory = join(directory, 'run');
  const at = (env: Record<string, string>) => agentSocketPath({ env, dataDir: '/data', runDirectory });
  t.equal(at({ SKOS_RUN_DIR: '/x' }), '/x/agent.sock');
  t.equal(at({}), '/data/agent.sock', 'no run directory');
  t.equal(at({ SKOS_RUN_DIR: '' }), '/data/agent.sock', 'an empty variable is none');
  mkdirSync(runDirectory);
  t.equal(at({}), join(runDirectory, 'agent.sock'), 'a run directory that we may write');
});

t.test('who may not look into the data directory is sent to the installed agent, which may be stopped', async (t) => {
  const dataDir = shortDirectory(t);
  const at = () => agentSocketPath({ env: {}, dataDir, runDirectory: '/nonexistent/run' });
  t.equal(at(), join(dataDir, 'agent.sock'));
  chmodSync(dataDir, 0);
  t.teardown(() => chmodSync(dataDir, 0o700));
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65_534);
  try {
    t.equal(at(), '/nonexistent/run/agent.sock');
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
});
