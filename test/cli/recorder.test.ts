import t from 'tap';
import { EXIT } from '../../src/cli/exit-codes.js';
import { sparkline } from '../../src/cli/sparkline.js';
import { SkosError } from '../../src/core/errors.js';
import type { RecordingInfo, RecordingSeries } from '../../src/core/ports.js';
import { NOW_MS, node } from '../fixtures/cli.js';

const info: RecordingInfo = {
  alert: 'thermal-cpu-hwmon-chip-temp1',
  alertAtMs: NOW_MS - 60_000,
  fromAtMs: NOW_MS - 120_000,
  toAtMs: NOW_MS,
  channels: 2,
  samples: 1_202,
  open: false,
};

function series(given: Partial<RecordingSeries> = {}): RecordingSeries {
  const atMs = Array.from({ length: 121 }, (_, i) => info.fromAtMs + i * 1000);
  return {
    channel: 'hwmon/coretemp-0/temp1',
    label: 'Package',
    quantity: 'temperature',
    unit: 'celsius',
    atMs,
    values: atMs.map((_, i) => 40 + i / 2),
    qualities: [[0, 'ok']],
    ...given,
  };
}

const memory = { bytes: 2_097_135, channels: 25, notRecorded: 0, reachMs: 600_000 };

t.test('a sparkline rises with its values, and has gaps where nothing was read', async (t) => {
  const span = { fromAtMs: 0, toAtMs: 8_000, width: 8 };
  const at = (values: (number | null)[], stepMs = 1_000) => ({ values, atMs: values.map((_, i) => i * stepMs) });
  t.equal(sparkline(at([0, 1, 2, 3, 4, 5, 6, 7]), span), '▁▂▃▄▅▆▇█');
  t.equal(sparkline(at([5, 5, 5, 5, 5, 5, 5, 5]), span), '▁▁▁▁▁▁▁▁');
  t.equal(sparkline(at([0, null, null, 7, 7, 7, 7, 7]), span), '▁  █████');
  t.equal(sparkline(at([0, 7], 4_000), span), '▁▁▁▁████', 'a slow sensor goes on with what it said');
  t.equal(sparkline({ values: [0, 1, 2, 7], atMs: [0, 100, 200, 300] }, span), '▁       ', 'a silent one does not');
  t.equal(sparkline(at([]), span), ' '.repeat(8));
  t.equal(
    sparkline({ values: [1, 9, 1], atMs: [0, 500, 900] }, { ...span, width: 1 }),
    '▁',
    'one value is its own least',
  );
});

t.test('shows a row per channel with the moment of the alert, in any width', async (t) => {
  const asked: unknown[] = [];
  const each = await node(t, {
    'recorder.show': (params) => {
      asked.push({ ...params });
      const first = params.after === undefined;
      const quiet = series({
        channel: 'nvml/gpu-0/power',
        unit: 'watts',
        values: series().atMs.map(() => null),
        qualities: [[0, 'hung']],
      });
      return { recording: info, series: [first ? series() : quiet], after: first ? '1:0' : null };
    },
  });
  for (const columns of [60, 80, 200]) {
    const { code, out } = await each.skos(['recorder', 'show', info.alert, '**'], { columns });
    t.equal(code, EXIT.ok);
    const lines = out.split('\n');
    for (const line of lines) t.ok([...line].length <= columns, line);
    const header = lines.findIndex((line) => line.includes('▼'));
    const [mark, heat = '', power = ''] = [lines[header]?.indexOf('▼') ?? -1, ...lines.slice(header + 1)];
    t.ok(/[▃▄▅]/.test([...heat][mark] ?? ''), `the mark stands over the middle: ${heat}`);
    t.match(heat, /^hwmon\S*\/temp1 .* {2,}40\.0 … 100\.0 °C +70\.0 °C$/);
    t.match(power, /^nvml\/gpu-0\/power +– +hung$/);
  }
  t.match(asked[0], { alert: info.alert, glob: '**', points: Number });
  t.match(asked[1], { after: '1:0' });
  const { out } = await each.skos(['recorder', 'show', info.alert]);
  t.match(
    out,
    /^thermal-cpu-hwmon-chip-temp1 at 2026-01-02 03:03:05Z: from 1 min before to 1 min\s+after, 2 channels, 1202 samples/,
  );
});

t.test('CSV has every sample with its unit and quality, over all pages, one header', async (t) => {
  const asked: unknown[] = [];
  const each = await node(t, {
    'recorder.show': (params) => {
      asked.push({ ...params });
      const values = {
        atMs: [0, 100, 200],
        values: [1.5, null, 2],
        qualities: [
          [0, 'ok'],
          [1, 'fault'],
          [2, 'ok'],
        ],
      } as const;
      return { recording: info, series: [series(values)], after: params.after === undefined ? '0:3' : null };
    },
  });
  const { out } = await each.skos(['recorder', 'show', 'x', '--csv', '--nth', '2']);
  const lines = out.split('\n');
  t.same(lines.slice(0, 4), [
    'time,channel,value,unit,quality',
    '1970-01-01T00:00:00.000Z,hwmon/coretemp-0/temp1,1.5,celsius,ok',
    '1970-01-01T00:00:00.100Z,hwmon/coretemp-0/temp1,,celsius,fault',
    '1970-01-01T00:00:00.200Z,hwmon/coretemp-0/temp1,2,celsius,ok',
  ]);
  t.equal(lines.length, 7);
  t.match(asked, [
    { alert: 'x', nth: 2 },
    { nth: 2, after: '0:3' },
  ]);
  t.equal((asked[0] as { points?: number }).points, undefined, 'all of them');
  const json = (await each.skos(['recorder', 'show', 'x', '--json'])).out.split('\n').map((line) => JSON.parse(line));
  t.match(json, [{ recording: { alert: info.alert } }, { series: { unit: 'celsius' } }, { series: {} }]);
});

t.test('lists recordings, how to name the older ones of an alert, and what memory holds', async (t) => {
  const recordings = [
    { ...info, open: true },
    { ...info, alertAtMs: NOW_MS - 86_400_000 },
    { ...info, alert: 'other' },
  ];
  const each = await node(t, { 'recorder.list': () => ({ memory, recordings }) });
  const { out } = await each.skos(['recorder', 'list']);
  const lines = out.split('\n');
  t.match(lines.slice(0, 4), [
    info.alert,
    /^ {2}03:03:05Z +2 min +2 channels +1202 samples +being written$/,
    `${info.alert} --nth 2`,
    /^ {2}2026-01-01 03:04:05Z +2 min/,
  ]);
  t.equal(lines.at(-1), 'In memory: the last 10 min of 25 channels.');
  for (const line of lines) t.ok(line.length <= 80, line);
  t.same(JSON.parse((await each.skos(['recorder', 'list', '--json'])).out), { memory, recordings });
  const none = await node(t, { 'recorder.list': () => ({ memory: { ...memory, notRecorded: 3 }, recordings: [] }) });
  t.match((await none.skos(['recorder', 'list'])).out, /^No recordings\.\n.*no room for 3/);
});

t.test('what cannot be shown has a code', async (t) => {
  const each = await node(t, {
    'recorder.show': () => {
      throw new SkosError('SKOS_RECORDING_UNKNOWN', 'there is no recording of an alert "x"; did you mean "y"?');
    },
  });
  const unknown = await each.skos(['recorder', 'show', 'x']);
  t.equal(unknown.code, EXIT.failed);
  t.match(unknown.err, /SKOS_RECORDING_UNKNOWN.*did you mean "y"/);
  for (const argv of [
    ['show'],
    ['list', 'x'],
    ['show', 'x', '--csv', '--json'],
    ['shwo', 'x'],
    ['show', 'x', '--nth', '0'],
  ]) {
    t.equal((await each.skos(['recorder', ...argv])).code, EXIT.usage, argv.join(' '));
  }
});
