/** Backup and restore of a whole node: the agent, its socket and the command line, as an operator uses them. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { AgentClient } from '../../src/core/agent-client.js';
import { CELSIUS, type HeatedNode, heatedNode } from '../fixtures/node.js';

async function backupOf(node: HeatedNode, file: string, ...options: string[]) {
  const outcome = await node.cliWithConfig('backup', file, '--json', ...options);
  if (outcome.code !== 0) throw new Error(`${outcome.out}\n${outcome.err}`);
  return JSON.parse(outcome.out) as { auditHead: { seq: number; hash: string }; sha256: string; records: number };
}

function fileIn(node: HeatedNode, name = 'b.skos'): string {
  return join(node.machine.env.SKOS_SYSFS_ROOT ?? '', '..', name);
}

async function kinds(node: HeatedNode): Promise<string[]> {
  return (await node.audit()).map(({ kind }) => kind);
}

/** No actuator: nothing here needs one. */
async function observingNode(t: Test): Promise<HeatedNode> {
  const node = await heatedNode(t, { prepared: true, mode: 'observe', config: { actuator: { mode: 'off' } } });
  await start(node);
  return node;
}

async function start(node: HeatedNode): Promise<void> {
  node.spawnAgent();
  await node.until('the agent protects', async () => {
    const { ticks, store } = await node.status();
    return ticks > 1 && store.ok;
  });
}

t.test('goes back to the moment of a backup, keeps what it replaces, and says so in the chain', async (t) => {
  const node = await observingNode(t);
  node.celsius(CELSIUS.critical);
  await node.until('an alert stands', async () => (await node.alerts()).length > 0);
  const file = fileIn(node);
  const taken = await backupOf(node, file, '--with-keys');
  t.equal(statSync(file).mode & 0o777, 0o600);
  const before = await node.audit();
  t.match(before.at(-1), { kind: 'backup.taken', what: { sha256: taken.sha256, withKeys: true } });
  t.ok(before.some(({ seq, hash }) => seq === taken.auditHead.seq && hash === taken.auditHead.hash));
  const verified = await node.cli('backup', '--verify', file);
  t.match(verified, { code: 0, out: /audit chain: whole/ });

  const running = await node.cliWithConfig('restore', file, '--confirm', node.name);
  t.match(running, { code: 1, err: /SKOS_RESTORE_RUNNING/ }, 'not under a running agent');
  node.celsius(CELSIUS.cool);
  await node.until('the alert ends', async () => (await node.alerts()).length === 0);
  const head = (await node.status()).store.head;
  await node.stop();
  t.match(await node.cliWithConfig('restore', file), { code: 1, err: /SKOS_CLI_NAME/ }, 'not without the name');
  t.match(await node.cliWithConfig('restore', file, '--confirm', 'lyra'), { code: 1, err: /SKOS_CLI_NAME/ });
  const restored = await node.cliWithConfig('restore', file, '--confirm', node.name);
  t.match(restored, { code: 0, out: /HIGH[\s\S]*db\.replaced-\d/ }, restored.err);
  const kept = readdirSync(node.dataDirectory);
  for (const what of ['db', 'raw-log', 'keys']) {
    t.ok(
      kept.some((name) => name.startsWith(`${what}.replaced-`)),
      what,
    );
  }
  await start(node);
  await node.until('the restore is in the chain', async () => (await kinds(node)).includes('audit.restore'));
  const after = await node.audit();
  t.same(
    after.slice(0, taken.auditHead.seq),
    before.slice(0, taken.auditHead.seq),
    'the entries of the backup are there',
  );
  const [note] = after.slice(taken.auditHead.seq);
  t.match(note, { kind: 'audit.restart' });
  t.ok((note?.seq ?? 0) > head.seq, 'no number that was acknowledged is used again');
  t.match(
    after.find(({ kind }) => kind === 'audit.restore'),
    { who: /^(root|uid \d+)$/, what: { sha256: taken.sha256, replacedHead: { seq: Number }, node: node.name } },
  );
  t.notOk(readdirSync(node.dataDirectory).includes('restore.json'), 'told once');

  // A chain that states its own restart can be backed up and restored like any other.
  const second = fileIn(node, 'b2.skos');
  await backupOf(node, second);
  await node.stop();
  t.match(await node.cliWithConfig('restore', second, '--confirm', node.name), { code: 0 });
  await start(node);
});

t.test('a client that is killed in the middle frees the session, and it is on record', async (t) => {
  const node = await observingNode(t);
  const client = new AgentClient();
  await client.connect(join(node.runDirectory, 'agent.sock'));
  await client.request('backup.begin', {});
  const page = await client.request('backup.read', {});
  t.ok(page.data !== null);
  const file = fileIn(node);
  t.match(await node.cliWithConfig('backup', file), { code: 1, err: /SKOS_BACKUP_BUSY/ });
  t.notOk(existsSync(file));
  client.close();
  await node.until('the end is in the chain', async () => (await kinds(node)).includes('backup.ended'));
  t.match(
    (await node.audit()).find(({ kind }) => kind === 'backup.ended'),
    { what: { why: 'the connection was closed', readBytes: Number } },
  );
  await backupOf(node, file);
  t.match(await node.cli('backup', '--verify', file), { code: 0 });
});

t.test('an agent that is killed in the middle leaves no half of a file, and starts as ever', async (t) => {
  const node = await observingNode(t);
  const client = new AgentClient();
  await client.connect(join(node.runDirectory, 'agent.sock'));
  t.teardown(() => client.close());
  await client.request('backup.begin', {});
  await client.request('backup.read', {});
  await node.kill();
  await t.rejects(client.request('backup.read', {}), { code: 'SKOS_SOCKET_UNAVAILABLE' });
  await start(node);
  t.match(await node.request('audit.verify', {}), { ok: true });
  const file = fileIn(node);
  await backupOf(node, file);
  t.match(await node.cli('backup', '--verify', file), { code: 0 });
});
