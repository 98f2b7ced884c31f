/** The record of a whole node: signed from its first start, handed over, exported, and checked without the node. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type HeatedNode, heatedNode } from '../fixtures/node.js';

/** The record needs no actuator. */
async function recordingNode(t: Test): Promise<HeatedNode> {
  const node = await heatedNode(t, { mode: 'observe', config: { actuator: { mode: 'off' } }, prepared: true });
  await startAgent(node);
  return node;
}

async function startAgent(node: HeatedNode): Promise<void> {
  node.spawnAgent();
  await node.until('the agent answers', async () => (await node.status()).ticks > 1);
}

const keyFiles = ({ dataDirectory }: HeatedNode) => readdirSync(join(dataDirectory, 'keys'));
const keyOf = async (node: HeatedNode) => (await node.audit()).find(({ kind }) => kind === 'audit.key')?.what.keyId;

t.test('a killed node and its successor keep one record, which is checked live, stopped and as a file', async (t) => {
  const node = await recordingNode(t);
  const first = String(await keyOf(node));
  t.strictSame(keyFiles(node), [`${first}.pem`]);
  t.equal(statSync(join(node.dataDirectory, 'keys', `${first}.pem`)).mode & 0o777, 0o600);
  t.match(await node.cli('audit', 'verify', '--no-journal', '--key', first), { code: 0, out: /The chain is whole/ });
  t.match(await node.cli('audit', 'verify', node.dataDirectory), { code: 1, err: /SKOS_STORE_LOCKED/ });

  await t.rejects(node.request('audit.rotate', { confirm: 'lyra' }), { code: 'SKOS_CLI_NAME' });
  t.match(await node.cli('audit', 'rotate-key', '--confirm', node.name), { code: 0, out: /handed over to it/ });
  t.match(
    (await node.audit()).filter(({ kind }) => kind === 'audit.key'),
    [{ who: 'agent' }, { who: /^(root|uid \d+)$/ }],
    'who asked is on record',
  );
  await node.kill();
  await startAgent(node);

  const file = join(node.runDirectory, 'record.audit');
  t.match(await node.cli('audit', 'export', file), { code: 0 });
  t.match(await node.cli('audit', 'verify', file, '--key', first), { code: 0, out: /all of it/ });
  t.match(await node.cli('audit', 'show', '2'), { code: 0, out: /^Signed by the key/m });
  t.equal(await node.stop(), 0);
  const stopped = await node.cli('audit', 'verify', node.dataDirectory, '--key', first, '--no-journal');
  t.match(stopped, { code: 0, out: /Signed: up to entry \d+, all of it/ }, 'the last entry is signed, too');
  t.equal(keyFiles(node).length, 1);
});
