/** The flight recorder on a whole node: what led to an alert is there afterwards, also when the agent dies in the middle. */
import t from 'tap';
import { CELSIUS, type HeatedNode, heatedNode } from '../fixtures/node.js';

t.jobs = 2;

async function heated(node: HeatedNode): Promise<string> {
  node.celsius(CELSIUS.critical);
  let id = '';
  await node.until('an alert stands', async () => {
    id = (await node.alerts())[0]?.id ?? '';
    return id !== '';
  });
  return id;
}

/** Rows of `skos recorder show ALERT --csv` of the zone's temperature. */
async function rows(node: HeatedNode, alert: string): Promise<{ atMs: number; value: number; quality: string }[]> {
  const { out } = await node.cliWithConfig('recorder', 'show', alert, 'thermal_zone/**', '--csv');
  const cells = out
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(','));
  return cells
    .filter(
      ([, channel = '', , unit]) =>
        unit === 'celsius' && /^thermal_zone\/[^/]+\/[^/]+$/.test(channel) && !/_/.test(channel.split('/')[2] ?? ''),
    )
    .map(([time = '', , value = '', , quality = '']) => ({ atMs: Date.parse(time), value: Number(value), quality }));
}

t.test('shows what led to an alert, as a table and as CSV', async (t) => {
  const node = await heatedNode(t);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const alert = await heated(node);
  const [standing] = await node.alerts();
  await node.until('samples are written', async () =>
    (await rows(node, alert)).some(({ value }) => value === CELSIUS.critical),
  );
  const seen = await rows(node, alert);
  const before = seen.filter(({ atMs, quality }) => atMs < (standing?.sinceAtMs ?? 0) && quality === 'ok');
  t.ok(before.length >= 10, `${before.length} samples before it: all that there was`);
  t.ok(
    before.some(({ value }) => value === CELSIUS.cool),
    'and the heat comes in between',
  );
  t.ok(seen.every(({ atMs }, i) => i === 0 || atMs > (seen[i - 1]?.atMs ?? 0)));
  const table = await node.cliWithConfig('recorder', 'show', alert);
  t.equal(table.code, 0, table.err);
  t.match(table.out, /▼.*min … max/);
  t.match(table.out, /^thermal\S*\/0 +[▁▂▃▄▅▆▇█ ]+50\.0 … 88\.0 °C/m);
  const list = await node.cliWithConfig('recorder', 'list');
  t.match(list.out, new RegExp(`^${alert}\\n.*being written`, 'm'));
  t.match(list.out, /In memory: the last \d+ s of \d+ channels/);
  const unknown = await node.cliWithConfig('recorder', 'show', `${alert.slice(0, -1)}x`);
  t.match(unknown, { code: 1, err: new RegExp(`SKOS_RECORDING_UNKNOWN.*did you mean "${alert}"`) });
});

t.test('an agent that is killed in the middle leaves what it had written', async (t) => {
  const node = await heatedNode(t);
  const alert = await heated(node);
  await node.until('samples are written', async () => (await rows(node, alert)).length > 0);
  const [{ samples = 0 } = {}] = (await node.request('recorder.list', {})).recordings;
  // The writer takes a second to bring it to disk.
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  await node.kill();
  await node.start();
  const recordings = (await node.request('recorder.list', {})).recordings.filter((each) => each.alert === alert);
  const first = recordings.at(-1);
  t.match(first, { alert, open: false });
  t.ok((first?.samples ?? 0) >= samples && samples > 0, `${first?.samples} of ${samples}`);
  t.equal((await node.status()).store.ok, true);
});
