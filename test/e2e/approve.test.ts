/** The operator's words on a running node: approve what is proposed, put it on hold, read its standing orders. */
import t from 'tap';
import { CELSIUS, FORMER_KHZ, heatedNode, KHZ } from '../fixtures/node.js';

t.jobs = 2;

t.test('a proposed cap is set when it is approved, and taken back when the danger is past', async (t) => {
  const node = await heatedNode(t, { mode: 'propose' });
  node.celsius(CELSIUS.warning);
  await node.until('proposed', async () => (await node.actions())[0]?.state === 'proposed');
  const [proposed] = await node.actions();
  const id = proposed?.actionId ?? '';
  t.match((await node.cli('approve')).out, id);
  t.match(await node.cli('approve', id, '--confirm', 'somebody'), { code: /[^0]/, err: /SKOS_CLI_NAME/ });
  await node.stays('not capped', () => node.isCappedAt(FORMER_KHZ), 500);
  const { node: name } = await node.status();
  const done = await node.cli('approve', id, '--confirm', name);
  t.match(done, { code: 0, out: /risk: low[\s\S]*cpufreq\/policy0[\s\S]*Approved/ }, done.err);
  await node.untilCappedAt(KHZ.throttle10);
  t.ok((await node.audit()).some(({ kind, who }) => kind === 'approve.operator' && who !== 'agent'));
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
  t.match(await node.cli('approve', id, '--confirm', name), { code: /[^0]/, err: /SKOS_APPROVAL_UNKNOWN/ });
});

t.test('on hold the standing order still caps, and nothing else does', async (t) => {
  const node = await heatedNode(t);
  t.match(await node.cli('hold', '--for', '10m'), { code: 0 });
  node.celsius(CELSIUS.critical);
  await node.until('barred', async () => (await node.actions()).some(({ state }) => state === 'barred'));
  await node.stays('not capped', () => node.isCappedAt(FORMER_KHZ), 500);
  node.celsius(CELSIUS.emergency);
  await node.untilCappedAt(KHZ.throttle50);
  t.match((await node.cli('orders')).out, /97.0 °C +holds its cap/);
  t.match((await node.cli('status')).out, /on hold +until/);
  node.celsius(CELSIUS.critical);
  t.match(await node.cli('hold', '--end'), { code: 0, out: /The hold is over/ });
  await node.until('acting', async () => (await node.actions()).some(({ state }) => state === 'active'));
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
});
