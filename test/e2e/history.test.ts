/** What a whole node remembers of its channels: looked at, taken out, and still there after a kill. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { QUALITIES } from '../../src/core/channel.js';
import { MAX_LINE_BYTES } from '../../src/core/protocol.js';
import { CELSIUS, type HeatedNode, heatedNode, type NodeOptions } from '../fixtures/node.js';

t.jobs = 2;

const FLUSH_SECONDS = 1;
/** After the flush is due: until the disk has it, on a busy machine. */
const FLUSH_SLACK_MS = 1_000;
const CHIPS = 20;
const SENSORS = 100;

interface Row {
  readonly atMs: number;
  readonly channel: string;
  readonly value: number | null;
  readonly unit: string;
  readonly quality: string;
}

/** Reads as a strict program would: one header, so many cells, nothing that is no number or no time. */
function strictRows(csv: string): Row[] {
  const [header, ...lines] = csv.split('\n');
  if (header !== 'time,channel,value,unit,quality') throw new Error(`header "${header}"`);
  if (lines.pop() !== '') throw new Error('the last line is not ended');
  return lines.map((line) => {
    const cells = line.split(',');
    const [time = '', channel = '', value = '', unit = '', quality = ''] = cells;
    const isTime = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/.test(time);
    const isValue = value === '' ? quality !== 'ok' : /^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(value) && quality === 'ok';
    const isKnown = (QUALITIES as readonly string[]).includes(quality) && /^[a-z_]+$/.test(unit);
    if (cells.length !== 5 || !isTime || !isValue || !isKnown || !/^[^",\s]+$/.test(channel)) {
      throw new Error(`no row: ${line}`);
    }
    return { atMs: Date.parse(time), channel, value: value === '' ? null : Number(value), unit, quality };
  });
}

/** Every channel's rows ascend in time. */
function inOrder(rows: readonly Row[]): boolean {
  return rows.every((row, i) => {
    const before = rows[i - 1];
    return (
      before === undefined || (before.channel === row.channel ? before.atMs < row.atMs : before.channel < row.channel)
    );
  });
}

/** Remembering needs no actuator. */
async function rememberingNode(t: Test, options: NodeOptions = {}): Promise<HeatedNode> {
  const config = { ...options.config, actuator: { mode: 'off' } };
  const node = await heatedNode(t, { ...options, config, mode: 'observe', prepared: true });
  await startAgent(node);
  return node;
}

async function startAgent(node: HeatedNode): Promise<void> {
  node.spawnAgent();
  await node.until('the agent samples', async () => (await node.status()).ticks > 1);
}

async function zoneChannel(node: HeatedNode): Promise<string> {
  const channels = await node.request('sensors', { glob: 'thermal_zone/**' });
  const id = channels.find(({ unit, name }) => unit === 'celsius' && !name.includes('_'))?.id;
  if (id === undefined) throw new Error('the node has no zone');
  return id;
}

async function rows(node: HeatedNode, glob: string, ...options: string[]): Promise<Row[]> {
  const { code, out, err } = await node.cliWithConfig('history', glob, '--csv', ...options);
  if (code !== 0) throw new Error(err);
  return strictRows(out);
}

t.test('shows how a temperature rose, as a chart, as CSV, as JSON, and its latest', async (t) => {
  const node = await rememberingNode(t);
  const zone = await zoneChannel(node);
  for (const celsius of [55, 60, 65, 70]) {
    node.celsius(celsius);
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
  const seen = await rows(node, zone, '--since', '1m');
  t.ok(inOrder(seen) && seen.every(({ channel, unit }) => channel === zone && unit === 'celsius'));
  const values = seen.flatMap(({ value }) => value ?? []);
  t.same([...new Set(values)], [CELSIUS.cool, 55, 60, 65, 70], 'each degree that was there, in order, and no other');
  t.ok(values.length >= 15, `${values.length} samples`);
  const chart = await node.cliWithConfig('history', zone, '--since', '20s');
  t.equal(chart.code, 0, chart.err);
  t.match(chart.out, /min 50\.0, mean [56]\d\.\d, max 70\.0 °C/);
  t.match(chart.out, /^70\.0 °C ┤ +[\u2801-\u28ff]+$/m);
  t.match(chart.out, /^50\.0 °C ┤ *[\u2801-\u28ff]/m);
  const json = (await node.cliWithConfig('history', zone, '--since', '1m', '--json', '--points', '5')).out.trim();
  const [part] = json.split('\n').map((line) => JSON.parse(line).series);
  t.ok(part.values.length <= 5 && Math.max(...(part.maximums ?? part.values)) === 70);
  const latest = await node.cliWithConfig('history', zone, '--latest');
  const [device = '', name = ''] = [zone.slice(0, zone.lastIndexOf('/')), zone.slice(zone.lastIndexOf('/') + 1)];
  t.match(latest.out, new RegExp(`^${device}\n +${name} +70\\.0 °C +\\d s ago`));
  const devices = await node.cliWithConfig('history', zone, '--by', 'device', '--since', '1m');
  t.match(devices.out, /^thermal_zone\/\S+\n +temperature +50\.0 °C +[56]\d\.\d °C +70\.0 °C/m);
  const stored = (await node.cliWithConfig('history')).out;
  t.match(stored, new RegExp(`^${device}\n(  .*\n)*  ${name} +celsius +since \\S+`, 'm'));
  t.match(await node.cliWithConfig('history', `${zone}x`), { code: 1, err: new RegExp(`did you mean "${zone}"`) });

  // What rules with other bounds would have done about it: the same from the store as from the table.
  const strict = join(t.testdir(), 'strict.yaml');
  writeFileSync(strict, 'node: nova\nthermal: { thresholds: { warning: 58, critical: 68, emergency: 90 } }\n');
  const csv = `${strict}.csv`;
  writeFileSync(csv, (await node.cliWithConfig('history', zone, '--csv', '--since', '1m')).out);
  const found = async (...options: string[]) => {
    const { code, out, err } = await node.cliWithConfig('replay', zone, '--against', strict, '--json', ...options);
    t.equal(code, 0, err);
    return JSON.parse(out.split('\n')[0] ?? '').pair;
  };
  const replayed = await found('--since', '1m');
  t.match(replayed, { a: null, b: { rule: 'thermal-cpu', channel: zone, severity: 'critical', peak: 70, to: null } });
  t.equal((await found('--csv', csv)).b.from, replayed.b.from);
});

t.test('a node that is killed remembers all but the last moments, and shows the gap', async (t) => {
  const node = await rememberingNode(t, { config: { store: { flush_seconds: FLUSH_SECONDS } } });
  const zone = await zoneChannel(node);
  node.celsius(66);
  await new Promise((resolve) => setTimeout(resolve, 2_500 + FLUSH_SLACK_MS));
  const before = await rows(node, zone, '--since', '5m');
  const killedAtMs = Date.now();
  await node.kill();
  await startAgent(node);
  const after = await rows(node, zone, '--since', '5m');
  const durable = before.filter(({ atMs }) => atMs < killedAtMs - FLUSH_SECONDS * 1000 - FLUSH_SLACK_MS);
  t.ok(durable.length >= 15, `${durable.length} samples were to be kept`);
  const times = new Map(after.map((row) => [row.atMs, row]));
  t.same(
    durable.map(({ atMs }) => times.get(atMs)),
    durable,
    'each is there again, exactly',
  );
  t.ok(inOrder(after), 'and what came after stands behind it, once');
  const kept = after.filter(({ atMs }) => atMs <= killedAtMs);
  const known = new Set(before.map(({ atMs }) => atMs));
  const late = kept.filter(({ atMs }) => !known.has(atMs) && atMs < (before.at(-1)?.atMs ?? 0));
  t.same(late, [], 'nothing is invented');
  await node.until(
    'the new agent adds to it',
    async () => (await rows(node, zone, '--since', '5m')).length > kept.length,
  );
});

t.test(`${CHIPS * SENSORS} channels at once stay within the lines of the socket`, async (t) => {
  const node = await rememberingNode(t, {
    config: { sampling: { rate_hz: 1 } },
    machine: (machine) => {
      for (let chip = 0; chip < CHIPS; chip++) {
        const files = Object.fromEntries(Array.from({ length: SENSORS }, (_, i) => [`temp${i + 1}_input`, 40_000 + i]));
        machine.addHwmon({ name: `chip${chip}`, files, device: `devices/platform/chip.${chip}`, driver: 'chip' });
      }
    },
  });
  await node.until('every channel was sampled twice', async () => {
    const latest = await node.request('history.latest', { glob: 'hwmon/**' });
    return latest.rows.length === CHIPS * SENSORS;
  });
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const seen = await rows(node, 'hwmon/**', '--since', '5m');
  t.equal(new Set(seen.map(({ channel }) => channel)).size, CHIPS * SENSORS);
  t.ok(inOrder(seen.map((row) => row)) && seen.length >= 2 * CHIPS * SENSORS, `${seen.length} rows`);
  const toAtMs = Date.now();
  const query = { glob: '**', fromAtMs: toAtMs - 300_000, toAtMs };
  for (let after: string | null | undefined, pages = 1; after !== null; pages++) {
    const page = await node.request('history', after === undefined ? query : { ...query, after });
    const bytes = Buffer.byteLength(JSON.stringify(page));
    if (bytes > MAX_LINE_BYTES / 2) t.fail(`page ${pages} has ${bytes} bytes`);
    after = page.after;
  }
  const { code, out, err } = await node.cliWithConfig('history', 'hwmon/**', '--since', '5m');
  t.equal(code, 0, err);
  t.match(out, new RegExp(`${CHIPS * SENSORS} channels$`, 'm'));
  const lines = out.trim().split('\n');
  t.equal(lines.filter((line) => /^hwmon/.test(line)).length, CHIPS * SENSORS, 'a row each');
  t.ok(lines.every((line) => [...line].length <= 80));
});
