/** A node whose site has a broker of its own (mqtt.url), which is away when it matters. */
import { join } from 'node:path';
import t from 'tap';
import { freePort, startNet } from '../fixtures/net-program.js';
import { CELSIUS, heatedNode } from '../fixtures/node.js';
import { SiteBroker } from '../fixtures/site-broker.js';

t.test('what happened while the broker was away, and an agent was killed, reaches it whole and in order', async (t) => {
  const port = await freePort();
  const broker = new SiteBroker(t, port);
  const node = await heatedNode(t, { config: { mqtt: { url: `mqtt://127.0.0.1:${port}` } } });
  node.celsius(CELSIUS.critical);
  await node.until('acting', async () => (await node.actions()).some(({ state }) => state === 'active'));
  const known = await node.audit();
  await node.kill();
  await node.start();
  await node.until('queued', async () => (await node.request('outbox', {}))[0]?.waiting !== undefined);
  t.match(await node.cli('outbox'), { code: 0, out: /mqtt +\d+ waiting/ });

  startNet(t, join(node.runDirectory, 'agent.sock'));
  await broker.start();
  const waiting = async () => (await node.request('outbox', {}))[0]?.waiting;
  await node.until('all is taken', async () => (await waiting()) === 0);
  const queued = broker.heard.filter(({ payload }) => payload.outbox_seq !== undefined);
  const seqs = [...new Set(queued.map(({ payload }) => payload.outbox_seq))];
  t.strictSame(
    seqs,
    Array.from({ length: seqs.length }, (_, i) => i + 1),
  );
  const heard = (kind: string) => queued.filter(({ topic }) => topic === `skos/${kind}/${node.name}`);
  t.ok(heard('alert').some(({ payload }) => payload.state === 'firing'));
  t.ok(heard('result').some(({ payload }) => payload.outcome === 'active'));
  const told = new Set(heard('audit').map(({ payload }) => payload.seq));
  const missing = known.filter(({ seq, kind }) => !told.has(seq) && /^(alert|action|agent)\./.test(kind));
  t.strictSame(
    missing.map(({ seq, kind }) => `${seq} ${kind}`),
    [],
    'every entry that was on disk',
  );
});

t.test('the queue goes when the configuration has no broker any more', async (t) => {
  const node = await heatedNode(t, { config: { mqtt: { url: `mqtt://127.0.0.1:${await freePort()}` } } });
  await node.until('queued', async () => ((await node.request('outbox', {}))[0]?.waiting ?? 0) > 0);
  node.configure({ mqtt: { url: null, listen: `127.0.0.1:${node.port}` } });
  await node.request('reload', {});
  t.strictSame(await node.request('outbox', {}), []);
  t.match((await node.cli('outbox')).out, /Nothing is queued/);
});
