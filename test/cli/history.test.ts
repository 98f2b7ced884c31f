import t from 'tap';
import { EXIT } from '../../src/cli/exit-codes.js';
import { stretchOf } from '../../src/cli/moment.js';
import type { HistoryPage, HistoryQuery, HistorySeries } from '../../src/core/ports.js';
import type { StoredChannelView } from '../../src/core/protocol.js';
import { NOW_MS, type Node, node } from '../fixtures/cli.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const ESCAPE = String.fromCharCode(27);
const TEMP = 'hwmon/coretemp-0/temp1';

function stored(given: Partial<StoredChannelView> = {}): StoredChannelView {
  const [source = '', device = '', name = ''] = (given.id ?? TEMP).split('/');
  return {
    id: TEMP,
    source,
    device,
    name,
    label: 'Package',
    quantity: 'temperatureMilliCelsius',
    class: 'cpu',
    firstAtMs: NOW_MS - 2 * DAY_MS,
    lastAtMs: NOW_MS - 1_000,
    gone: false,
    ...given,
  };
}

/** Points of 30 s over the last hour. */
function points(given: Partial<HistorySeries> = {}): HistorySeries {
  const atMs = Array.from({ length: 120 }, (_, i) => NOW_MS - HOUR_MS + i * 30_000);
  const values = atMs.map((_, i) => 40 + i / 4);
  return {
    channel: TEMP,
    label: 'Package',
    quantity: 'temperature',
    unit: 'celsius',
    stepMs: 30_000,
    atMs,
    values,
    minimums: values.map((value) => value - 1),
    maximums: values.map((value, i) => (i === 60 ? 101 : value + 1)),
    counts: values.map(() => 300),
    qualities: [[0, 'ok']],
    ...given,
  };
}

function samples(given: Partial<HistorySeries> = {}): HistorySeries {
  const { minimums: _least, maximums: _greatest, counts: _counts, ...series } = points();
  return {
    ...series,
    stepMs: 0,
    atMs: [0, 100, 200],
    values: [1.5, null, 2],
    qualities: [
      [0, 'ok'],
      [1, 'fault'],
      [2, 'ok'],
    ],
    ...given,
  };
}

interface Given {
  readonly channels?: readonly StoredChannelView[];
  readonly page?: (query: HistoryQuery) => HistoryPage;
}

/** A node whose agent has these channels, and remembers what it was asked. */
async function storing(
  t: Parameters<typeof node>[0],
  { channels = [stored()], page = () => ({ series: [points()], after: null }) }: Given,
): Promise<Node & { readonly asked: HistoryQuery[] }> {
  const asked: HistoryQuery[] = [];
  const each = await node(t, {
    'history.channels': ({ glob }) => ({
      rows: channels.filter(({ id }) => glob === undefined || id === glob || glob.includes('*')),
      after: null,
    }),
    history: async (query) => {
      asked.push({ ...query });
      return page(query);
    },
  });
  return { ...each, asked };
}

t.test('shows a chart of a channel that fits the terminal, with its least, mean and greatest', async (t) => {
  const each = await storing(t, {});
  for (const columns of [60, 80, 200]) {
    const { code, out, err } = await each.skos(['history', TEMP], { columns });
    t.equal(code, EXIT.ok, err);
    const lines = out.split('\n');
    for (const line of lines) t.ok([...line].length <= columns, line);
    t.match(out, /Package\s+min 39\.0, mean 54\.9, max 101\.0 °C$/m);
    t.match(out, /^101\.0 °C ┤ +[⠁-⣿]+$/m, 'the spike of one sample');
    t.match(out, /^ 39\.0 °C ┤[⠁-⣿]/m);
    t.match(out, / 1 h$/m);
    t.notOk(out.includes(ESCAPE), 'no colours where there is no terminal');
  }
  t.match(each.asked[0], { glob: TEMP, fromAtMs: NOW_MS - HOUR_MS, toAtMs: NOW_MS, points: 120 });
  t.match(each.asked[2], { points: 400 });
  const { out } = await each.skos(['history', TEMP], { color: true });
  t.ok(out.includes(`${ESCAPE}[1mhwmon`));
});

t.test('puts the parts of a channel together, whichever width they have and on whichever page they come', async (t) => {
  const [first, second] = [points(), points()];
  const cut = (series: HistorySeries, from: number, to: number): HistorySeries => ({
    ...series,
    ...Object.fromEntries(
      (['atMs', 'values', 'minimums', 'maximums', 'counts'] as const).map((key) => [key, series[key]?.slice(from, to)]),
    ),
  });
  const each = await storing(t, {
    page: ({ after }) =>
      after === undefined
        ? { series: [cut(first, 0, 50)], after: '1' }
        : { series: [cut(second, 50, 120)], after: null },
  });
  const { out } = await each.skos(['history', TEMP]);
  t.match(out, /min 39\.0, mean 54\.9, max 101\.0 °C/);
  const whole = await storing(t, {});
  t.equal(out, (await whole.skos(['history', TEMP])).out);
});

t.test('says why a channel had no value, and when nothing is stored of the time', async (t) => {
  const hung = points({ qualities: [[0, 'hung']] });
  const nothing = hung.atMs.map(() => null);
  const page = () => ({
    series: [{ ...hung, values: nothing, minimums: nothing, maximums: nothing, counts: hung.atMs.map(() => 0) }],
    after: null,
  });
  const { out } = await (await storing(t, { page })).skos(['history', TEMP]);
  t.match(out, /not ok │h{60,}/);
  t.match(out, /h hung/);
  t.notMatch(out, /min|mean|°C/, 'nothing is invented');
  const empty = await storing(t, { page: () => ({ series: [], after: null }) });
  const { code, out: said } = await empty.skos(['history', TEMP]);
  t.equal(code, EXIT.ok);
  t.match(said, /Nothing is stored of this time; the last sample is of \S+/);
});

t.test('many channels are a row each, in any width', async (t) => {
  const channels = Array.from({ length: 9 }, (_, i) => stored({ id: `hwmon/coretemp-isa-0000/temp${i}` }));
  const page = () => ({
    series: channels
      .slice(0, 8)
      .map(({ id }, i) => points({ channel: id, ...(i === 3 ? { qualities: [[0, 'stale']] } : {}) })),
    after: null,
  });
  const each = await storing(t, { channels, page });
  for (const columns of [60, 80, 200]) {
    const { out } = await each.skos(['history', 'hwmon/**'], { columns });
    const lines = out.split('\n');
    for (const line of lines) t.ok([...line].length <= columns, line);
    t.match(out, /9\schannels,\snothing\sof\s1$/m);
    const [first, last] = [lines.at(-9), lines.at(-1)];
    t.match(first, /^hwmon\S*temp0 +[▁▂▃▄▅▆▇█ ]+ +39\.0 … 101\.0 °C +69\.8 °C$/);
    t.match(last, /^hwmon\S*temp8 +– +–$/);
  }
});

t.test('CSV of single samples has each with its unit and quality, one header over all pages', async (t) => {
  const page = ({ after, fromAtMs }: HistoryQuery): HistoryPage => ({
    series: [samples(fromAtMs === 0 && after === '1' ? { channel: 'hwmon/coretemp-0/temp2' } : {})],
    after: after === undefined ? '1' : null,
  });
  const each = await storing(t, { page });
  const { out, err } = await each.skos(['history', '**', '--csv', '--from', '1970-01-01T00:00:00Z']);
  t.same(
    out.split('\n'),
    [
      'time,channel,value,unit,quality',
      '1970-01-01T00:00:00.000Z,hwmon/coretemp-0/temp1,1.5,celsius,ok',
      '1970-01-01T00:00:00.100Z,hwmon/coretemp-0/temp1,,celsius,fault',
      '1970-01-01T00:00:00.200Z,hwmon/coretemp-0/temp1,2,celsius,ok',
      '1970-01-01T00:00:00.000Z,hwmon/coretemp-0/temp2,1.5,celsius,ok',
      '1970-01-01T00:00:00.100Z,hwmon/coretemp-0/temp2,,celsius,fault',
      '1970-01-01T00:00:00.200Z,hwmon/coretemp-0/temp2,2,celsius,ok',
    ],
    err,
  );
  t.equal(each.asked.at(-1)?.points, undefined, 'all of them');
});

t.test('CSV has least, mean, greatest and count as soon as a part of it is no single samples', async (t) => {
  // The beginning is kept in seconds, the rest in single samples.
  const old = points({
    channel: TEMP,
    atMs: [0],
    values: [2],
    minimums: [1],
    maximums: [9],
    counts: [10],
    stepMs: 1000,
  });
  const each = await storing(t, { page: () => ({ series: [old, samples()], after: null }) });
  const { out } = await each.skos(['history', TEMP, '--csv']);
  t.same(out.split('\n'), [
    'time,channel,minimum,mean,maximum,count,unit,quality',
    `1970-01-01T00:00:00.000Z,${TEMP},1,2,9,10,celsius,ok`,
    `1970-01-01T00:00:00.000Z,${TEMP},1.5,1.5,1.5,1,celsius,ok`,
    `1970-01-01T00:00:00.100Z,${TEMP},,,,0,celsius,fault`,
    `1970-01-01T00:00:00.200Z,${TEMP},2,2,2,1,celsius,ok`,
  ]);
  const asked = await storing(t, {});
  t.match((await asked.skos(['history', TEMP, '--csv', '--points', '120'])).out, /^time,channel,minimum,/);
  t.equal(asked.asked.length, 1, 'with --points nothing needs to be looked at before');
  t.equal(asked.asked[0]?.points, 120);
});

t.test('CSV finds its form where the stretch begins before anything was stored', async (t) => {
  const beginMs = NOW_MS - HOUR_MS / 2;
  const each = await storing(t, {
    page: ({ fromAtMs, toAtMs, points: most }) => {
      if (toAtMs <= beginMs) return { series: [], after: null };
      const isOld = fromAtMs < beginMs + 60_000;
      const series = most === undefined && !isOld ? samples() : points({ atMs: [beginMs], values: [1] });
      return { series: [series], after: null };
    },
  });
  const { out } = await each.skos(['history', TEMP, '--csv', '--since', '1d']);
  t.match(out, /^time,channel,minimum,/);
});

t.test('a table of samples is ended rather than filled with what is none', async (t) => {
  const each = await storing(t, {
    page: ({ toAtMs }) => ({ series: toAtMs < NOW_MS ? [samples()] : [samples(), points()], after: null }),
  });
  const { code, err } = await each.skos(['history', TEMP, '--csv']);
  t.equal(code, EXIT.failed);
  t.match(err, /SKOS_HISTORY_MIXED/);
});

t.test('the next page is asked for when the reader has taken the former', async (t) => {
  const each = await storing(t, {
    page: ({ after }) => ({ series: [points()], after: after === '4' ? null : String(Number(after ?? 0) + 1) }),
  });
  let taken = 0;
  const seen: number[] = [];
  const drained = async () => {
    await new Promise((resolve) => setTimeout(resolve, 30));
    seen.push(each.asked.length);
    taken += 1;
  };
  const { code } = await each.skos(['history', TEMP, '--json'], { drained });
  t.equal(code, EXIT.ok);
  t.same(seen, [1, 2, 3, 4, 5], 'never one ahead');
  t.equal(taken, 5);
});

t.test('JSON is one series part a line', async (t) => {
  const each = await storing(t, { page: () => ({ series: [points(), samples()], after: null }) });
  const { out } = await each.skos(['history', TEMP, '--json', '--points', '50']);
  const parsed = out.split('\n').map((line) => JSON.parse(line));
  t.match(parsed, [
    { series: { channel: TEMP, unit: 'celsius', stepMs: 30_000, minimums: Array } },
    { series: { channel: TEMP, stepMs: 0, values: [1.5, null, 2] } },
  ]);
  t.equal(each.asked[0]?.points, 50);
});

t.test('without a channel it lists what is stored, and marks what is gone, over all pages', async (t) => {
  const rows = [
    stored(),
    stored({ id: 'hwmon/old-card/in0', quantity: 'voltageMilliVolts', gone: true, lastAtMs: NOW_MS - DAY_MS }),
  ];
  const each = await node(t, {
    'history.channels': ({ after }) =>
      after === undefined ? { rows: rows.slice(0, 1), after: TEMP } : { rows: rows.slice(1), after: null },
  });
  const { out } = await each.skos(['history'], { columns: 120 });
  const lines = out.split('\n');
  t.match(lines, [
    /^hwmon\/coretemp-0$/,
    /^ {2}temp1 +celsius +since \S+ \S+$/,
    /^hwmon\/old-card$/,
    /^ {2}in0 +volts +since .* gone, last seen \S+ \S+$/,
    /^2 channels, 1 of them gone from this machine/,
  ]);
  t.match(JSON.parse((await each.skos(['history', '--json'])).out), [
    { id: TEMP, quantity: 'temperature', unit: 'celsius', gone: false, firstAtMs: Number },
    { unit: 'volts', gone: true },
  ]);
  const none = await node(t, { 'history.channels': () => ({ rows: [], after: null }) });
  t.equal((await none.skos(['history'])).out, 'Nothing is stored yet.');
});

t.test('shows the last sample of each channel, and aggregates by device', async (t) => {
  const asked: unknown[] = [];
  const each = await node(t, {
    'history.channels': () => ({ rows: [stored()], after: null }),
    'history.latest': ({ after }) => ({
      rows: [
        after === undefined
          ? { channel: TEMP, unit: 'celsius', atMs: NOW_MS - 3_000, value: 54, quality: 'ok' }
          : { channel: 'hwmon/x/fan1', unit: 'rpm', atMs: NOW_MS - DAY_MS, value: null, quality: 'hung' },
      ],
      after: after === undefined ? TEMP : null,
    }),
    'history.devices': (params) => {
      asked.push({ ...params });
      const row = {
        source: 'hwmon',
        device: 'coretemp-0',
        quantity: 'temperature',
        unit: 'celsius',
        channels: 4,
        minimum: 40,
        mean: 50,
        maximum: 91,
        maximumOf: TEMP,
        maximumAtMs: NOW_MS - 60_000,
      };
      const silent = {
        ...row,
        device: 'x',
        channels: 1,
        minimum: null,
        mean: null,
        maximum: null,
        maximumOf: '',
        maximumAtMs: null,
      };
      return { rows: [row, silent], after: null };
    },
  });
  const latest = (await each.skos(['history', '--latest'])).out.split('\n');
  t.match(latest, [/^hwmon\/coretemp-0$/, /^ {2}temp1 +54\.0 °C +3 s ago$/, /^hwmon\/x$/, /^ {2}fan1 +hung +1 d ago$/]);
  t.match(JSON.parse((await each.skos(['history', TEMP, '--latest', '--json'])).out), [{ value: 54 }, { value: null }]);
  const devices = (
    await each.skos(['history', 'hwmon/**', '--by', 'device', '--since', '2h'], { columns: 100 })
  ).out.split('\n');
  t.match(devices, [
    /^ +min +mean +max +max at$/,
    /^hwmon\/coretemp-0$/,
    /^ {2}temperature of 4 +40\.0 °C +50\.0 °C +91\.0 °C +\S+ +temp1$/,
    /^hwmon\/x$/,
    /^ {2}temperature +– +– +–$/,
  ]);
  t.match(asked[0], { glob: 'hwmon/**', fromAtMs: NOW_MS - 2 * HOUR_MS, toAtMs: NOW_MS });
  t.match(JSON.parse((await each.skos(['history', '--by', 'device', '--json'])).out), [
    { maximum: 91 },
    { maximum: null },
  ]);
});

t.test('GPUs with their long ids can be told apart on 80 columns, and no name is cut', async (t) => {
  const gpus = [0, 1].map((i) => `nvml/gpu-00000000-0000-4000-8000-00000000000${i}`);
  const names = ['temperature', 'temperature_memory_time_to_limit', 'ecc_uncorrected_aggregate_dram'];
  const ids = gpus.flatMap((gpu) => names.map((name) => `${gpu}/${name}`));
  const each = await node(t, {
    'history.channels': () => ({ rows: ids.map((id) => stored({ id })), after: null }),
    'history.latest': () => ({
      rows: ids.map((channel) => ({ channel, unit: 'celsius', atMs: NOW_MS, value: 54, quality: 'ok' })),
      after: null,
    }),
    'history.devices': () => ({
      rows: gpus.flatMap((gpu) =>
        ['temperature', 'temperature slope'].map((quantity) => ({
          source: 'nvml',
          device: gpu.slice('nvml/'.length),
          quantity,
          unit: 'celsius_per_second',
          channels: 12,
          minimum: -40,
          mean: 50,
          maximum: 91,
          maximumOf: `${gpu}/temperature`,
          maximumAtMs: NOW_MS - 60_000,
        })),
      ),
      after: null,
    }),
  });
  for (const argv of [['history'], ['history', '--latest'], ['history', '--by=device']]) {
    const { code, out, err } = await each.skos(argv);
    t.equal(code, EXIT.ok, err);
    const lines = out.split('\n');
    for (const line of lines) t.ok([...line].length <= 80, line);
    t.same(
      lines.filter((line) => line.startsWith('nvml/')),
      gpus,
      'each once, whole',
    );
    if (argv[1] !== '--by=device') for (const name of names) t.equal(out.split(`  ${name} `).length - 1, 2, name);
    else t.match(out, /^ {2}temperature slope of 12 /m);
  }
});

t.test('a channel that is not known gets a suggestion', async (t) => {
  const channels = [stored(), stored({ id: 'hwmon/nct6798/in0' }), stored({ id: 'hwmon/nct6798/in1' })];
  const each = await storing(t, { channels });
  for (const [asked, said] of [
    ['hwmon/coretemp-0/temp2', /there is no stored channel.*did you mean "hwmon\/coretemp-0\/temp1"/s],
    ['NCT6798', /did you mean "hwmon\/nct6798\/in0", "hwmon\/nct6798\/in1"\?/s],
    ['nothing-like-it', /`skos history` lists those there are/],
  ] as const) {
    const { code, err } = await each.skos(['history', asked]);
    t.equal(code, EXIT.failed);
    t.match(err, /SKOS_HISTORY_UNKNOWN/);
    t.match(err, said);
  }
  t.equal(each.asked.length, 0, 'and nothing is read for it');
});

t.test('what contradicts itself or is no time is refused with what was expected', async (t) => {
  const each = await storing(t, {});
  for (const [argv, said] of [
    [[TEMP, '--csv', '--json'], /--csv and --json exclude/],
    [[TEMP, '--latest', '--by', 'device'], /exclude/],
    [[TEMP, '--latest', '--since', '1h'], /exclude/],
    [[TEMP, '--by', 'device', '--csv'], /exclude/],
    [['--by', 'rack'], /expected device/],
    [['--csv'], /needs a channel or a glob/],
    [['--since', '1h'], /needs a channel/],
    [[TEMP, '--since', '1h', '--from', '10:00'], /give one of them/],
    [[TEMP, '--since', 'yesterday'], /expected one such as 90s/],
    [[TEMP, '--since', '0'], /no time/],
    [[TEMP, '--since', '9999w'], /at most 3650d/],
    [[TEMP, '--from', '25:00'], /expected HH:MM, or ISO 8601/],
    [[TEMP, '--from', '2026-02-30'], /expected HH:MM/],
    [[TEMP, '--until', '2026-01-01T00:00+99:00'], /expected HH:MM/],
    [[TEMP, '--from', '2026-01-02T10:00Z', '--until', '2026-01-02T09:00Z'], /is not before/],
    [[TEMP, '--from', '2027-01-01'], /is not before now/],
    [[TEMP, '--points', '0'], /whole number/],
    [[TEMP, '--points', '20000'], /whole number from 1 to 10000/],
    [[TEMP, 'more'], /one word too many/],
  ] as const) {
    const { code, err } = await each.skos(['history', ...argv]);
    t.equal(code, EXIT.usage, argv.join(' '));
    t.match(err, said);
  }
  t.equal(each.asked.length, 0);
});

t.test('a time of day is the latest that is past, and --until comes after --from', async (t) => {
  const at = (day: number, hour: number, minute = 0) => new Date(2026, 0, day, hour, minute).getTime();
  const nowMs = at(10, 12);
  const stretch = (from?: string, until?: string, since?: string) => stretchOf({ from, until, since }, nowMs);
  t.same(stretch(), { fromAtMs: nowMs - HOUR_MS, toAtMs: nowMs });
  t.same(stretch('10:00'), { fromAtMs: at(10, 10), toAtMs: nowMs });
  t.same(stretch('13:00'), { fromAtMs: at(9, 13), toAtMs: nowMs }, 'yesterday');
  t.same(stretch('23:00', '01:30'), { fromAtMs: at(9, 23), toAtMs: at(10, 1, 30) }, 'over midnight');
  t.same(stretch('10:00', '14:00'), { fromAtMs: at(10, 10), toAtMs: at(10, 14) });
  t.same(stretch('2026-01-05', '2026-01-06'), { fromAtMs: at(5, 0), toAtMs: at(6, 0) });
  t.same(stretch('22:00', '2026-01-06T02:00'), { fromAtMs: at(5, 22), toAtMs: at(6, 2) });
  t.same(stretch('2026-01-05T10:00:30.5Z', '2026-01-05 12:00:00+01:30'), {
    fromAtMs: Date.UTC(2026, 0, 5, 10, 0, 30, 500),
    toAtMs: Date.UTC(2026, 0, 5, 10, 30),
  });
  t.same(stretch(undefined, '2026-01-05', '2d'), { fromAtMs: at(3, 0), toAtMs: at(5, 0) });
});
