/** A node whose database was written by an earlier version. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { dump, makeFormat1 } from '../fixtures/format-1.js';
import { CELSIUS, heatedNode, KHZ } from '../fixtures/node.js';

t.test('without room for the backup the node is protected, says so, and takes the record up when it can', async (t) => {
  const node = await heatedNode(t, { prepared: true });
  await makeFormat1(node.dataDirectory);
  const obstacle = join(node.dataDirectory, 'backup');
  writeFileSync(obstacle, 'no directory');
  await node.start();
  const { store } = await node.status();
  t.match(store, { ok: false, why: /in memory only/ });
  t.ok(node.log().some(({ code }) => code === 'SKOS_STORE_MIGRATION'));
  node.celsius(CELSIUS.critical);
  await node.untilCappedAt(KHZ.throttle50);
  await node.stop();
  t.equal((await dump(node.dataDirectory)).get('mformat'), '1', 'untouched');

  rmSync(obstacle);
  await node.start();
  t.match((await node.status()).store, { ok: true });
  const entries = await node.audit();
  t.match(entries.slice(0, 3), [{ seq: 1 }, { seq: 2 }, { seq: 3 }], 'the chain goes on');
  t.match(await node.request('audit.verify', {}), { ok: true });
  t.match(await node.cli('status'), { code: 0 });
});
