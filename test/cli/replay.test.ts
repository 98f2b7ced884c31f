import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { EXIT } from '../../src/cli/exit-codes.js';
import { findingOf, quantile } from '../../src/cli/suggest.js';
import type { Handlers } from '../../src/control/socket-server.js';
import type { Channel } from '../../src/core/channel.js';
import type { HistoryQuery, HistorySeries } from '../../src/core/ports.js';
import { configOf, cpuTemperature } from '../fixtures/antibodies.js';
import { NOW_MS, type Node, node, withCpufreq } from '../fixtures/cli.js';

const MINUTE_MS = 60_000;
const DAY_MS = 1_440 * MINUTE_MS;
const CPU = cpuTemperature({ rateHz: 1, limits: { critical: 100_000 } });
const GPU = cpuTemperature({
  id: 'nvml/gpu-1/temperature',
  source: 'nvml',
  device: 'gpu-1',
  name: 'temperature',
  label: 'GPU 1',
  class: 'gpu',
  rateHz: 1,
  limits: { critical: 90_000 },
  probe: { kind: 'gpu', address: '0000:01:00.0', index: 0 },
});

/** °C at a time; null: nothing is stored. */
type Past = (channel: string, atMs: number) => number | null;

/** An agent that has minutes of these channels. */
async function storing(
  t: Parameters<typeof node>[0],
  past: Past,
  given: { channels?: readonly Channel[]; verbs?: Partial<Handlers>; sinceMs?: number } = {},
): Promise<Node & { readonly asked: HistoryQuery[] }> {
  const { channels = [CPU, GPU], sinceMs = NOW_MS - 8 * DAY_MS } = given;
  const asked: HistoryQuery[] = [];
  const each = await node(t, {
    channels: () => ({ rows: channels, after: null }),
    'history.channels': () => ({
      rows: channels.map((channel) => ({ ...channel, firstAtMs: sinceMs, lastAtMs: NOW_MS, gone: false })),
      after: null,
    }),
    history: (query) => {
      asked.push(query);
      const series = channels.filter(({ id }) => id === query.glob).map(({ id }) => minutes(id, query, past));
      return { series: series.filter(({ atMs }) => atMs.length > 0), after: null };
    },
    ...given.verbs,
  });
  return { ...each, asked };
}

function minutes(channel: string, { fromAtMs, toAtMs }: HistoryQuery, past: Past): HistorySeries {
  const atMs: number[] = [];
  const values: number[] = [];
  for (let at = Math.ceil(fromAtMs / MINUTE_MS) * MINUTE_MS; at < toAtMs; at += MINUTE_MS) {
    const value = past(channel, at);
    if (value === null) continue;
    atMs.push(at);
    values.push(value);
  }
  return {
    channel,
    label: '',
    quantity: 'temperature',
    unit: 'celsius',
    stepMs: MINUTE_MS,
    atMs,
    values,
    minimums: values,
    maximums: values,
    counts: values.map(() => 60),
    qualities: [[0, 'ok']],
  };
}

const HEAT_MS = NOW_MS - 3 * 3_600_000;
/** An hour of heat three hours ago. */
const heat: Past = (channel, atMs) => (channel === CPU.id && atMs >= HEAT_MS && atMs < HEAT_MS + 3_600_000 ? 93 : 60);

t.test('tells what would have been done over what is stored, and by whose leave', async (t) => {
  const each = await storing(t, heat);
  const { code, out, err } = await each.skos(['replay']);
  t.equal(code, EXIT.ok, err);
  t.match(out, /critical +1 h 1 min +93\.0 °C +thermal-cpu/);
  t.match(out, /1 alert \(critical 1\)/);
  t.match(out.replaceAll(/\s+/g, ' '), /throttle_50: 1 time, .* in all, only recorded/);
  t.match(out, /of 1 min/);
  for (const line of out.split('\n')) t.ok([...line].length <= 80, line);
  t.same(
    each.asked.map(({ glob }) => glob),
    [CPU.id, GPU.id],
    'only what a rule watches, a channel at a time',
  );
  t.match((await each.skos(['replay', '--mode', 'auto'])).out, /throttle_50: .* done/);
  t.match((await each.skos(['replay', 'nvml/**'])).out, /nothing fires/);
});

t.test('two configurations side by side, what differs marked; and as JSON lines', async (t) => {
  const each = await storing(t, heat);
  const strict = each.write(
    'etc/strict.yaml',
    'node: nova\nthermal: { thresholds: { warning: 50, critical: 95, emergency: 99 } }\n',
  );
  const { out } = await each.skos(['replay', '--against', strict]);
  t.match(out, /^ ~ .*critical/m);
  t.match(out, /^ \+ .*warning .*thermal-gpu/m);
  const lines = (await each.skos(['replay', '--against', strict, '--json'])).out
    .split('\n')
    .map((line) => JSON.parse(line));
  t.match(lines[0], { pair: { same: false } });
  const { summary } = lines.at(-1) ?? {};
  t.match(summary.policies, [{ fired: 1 }, { fired: 2, file: strict }]);
  t.match(summary.readings, { byStepMs: { [MINUTE_MS]: Number } });
  const alone = JSON.parse((await each.skos(['replay', '--json'])).out.split('\n')[0] ?? '');
  t.match(alone, {
    episode: { rule: 'thermal-cpu', severity: 'critical', peak: 93, unit: 'celsius', from: /Z$/, certain: true },
  });
});

t.test('says when there is nothing to go by, and refuses what contradicts itself', async (t) => {
  const none = await storing(t, () => null);
  t.match(await none.skos(['replay']), { code: EXIT.failed, err: /SKOS_REPLAY_NOTHING/ });
  t.match(await none.skos(['replay', 'no/such/*']), { err: /SKOS_REPLAY_NOTHING/ });
  t.match(await none.skos(['replay', '--csv', 'x', '--since', '1d']), { code: EXIT.usage });
  t.match(await none.skos(['replay', '--csv', '/nonexistent']), { err: /SKOS_REPLAY_CSV/ });
  const file = join(none.directory, 'past.csv');
  writeFileSync(file, 'time,channel,value,unit,quality\n2026-01-01T00:00:00Z,hwmon/other/temp1,99,celsius,ok\n');
  t.match(await none.skos(['replay', '--csv', file]), { err: /SKOS_REPLAY_NOTHING/ });
});

t.test('arming shows what it would have done since the history begins, and is kept by nothing', async (t) => {
  const verbs = { preview: () => ({ node: 'nova', actions: [], targets: [] }) };
  const each = await storing(t, heat, { verbs });
  withCpufreq(each);
  const { out } = await each.skos(['arm'], { ask: async () => 'no' });
  t.match(out.replaceAll(/\s+/g, ' '), /What it would have done since 2025-12-25 .* where the history begins/);
  t.match(out.replaceAll(/\s+/g, ' '), /1 alert \(critical 1\).*throttle_50: 1 time, 1 h.* in all, done/);
  t.ok(
    each.asked.every(({ points }) => points === 10_000),
    'in points: quickly',
  );
  const empty = await storing(t, () => null, { verbs });
  t.match((await empty.skos(['arm'], { ask: async () => 'no' })).out, /what it would have\s+done|nothing fires/);
  const broken = await node(t, verbs);
  withCpufreq(broken);
  t.match((await broken.skos(['arm'], { ask: async () => 'no' })).out.replaceAll(/\s+/g, ' '), /is not known/);
});

// ---- config suggest ----------------------------------------------------------------------------------------------------

t.test('suggests what is stricter than the built-in bounds, with its reasons, and writes nothing', async (t) => {
  // A CPU that idles at 50 °C with one outlier, and a GPU that works where the built-in bound is.
  const past: Past = (channel, atMs) => (channel === GPU.id ? 80 : atMs === HEAT_MS - (HEAT_MS % MINUTE_MS) ? 140 : 50);
  const each = await storing(t, past);
  const { code, out, err } = await each.skos(['config', 'suggest']);
  t.equal(code, EXIT.ok, err);
  t.match(out, /suggested-warning-1, channel: "hwmon\/coretemp\/temp1", raise: 55, clear: 50, severity: warning/);
  t.match(out, /suggested-critical-1, .* raise: 62, /);
  t.notMatch(out, /channel: "nvml/);
  t.match(
    out.replaceAll(/\n# /g, ' '),
    /nvml\/gpu-1\/temperature: nothing proposed\. Its peak is 80 °C; .* looser than the built-in one, and ordinary operation lies above it/,
  );
  t.match(out, /^# {2}\d+ alerts? \(/m, 'and what would have fired with it');
  each.write('etc/conf.d/50-suggested.yaml', out);
  t.match(await each.skos(['config', 'check']), { code: EXIT.ok });
  t.match((await each.skos(['config', 'suggest'])).out, /suggested-warning-1/, 'again, in the place of the former one');
});

t.test(
  'a day is too little, a quantile is not moved by outliers, and nothing is looser than the built-in bounds',
  async (t) => {
    t.equal(quantile([], 0.999), undefined);
    t.equal(quantile([7], 0.999), 7);
    t.equal(
      quantile(
        Array.from({ length: 2_000 }, (_, i) => i),
        0.999,
      ),
      1_997,
    );
    const config = configOf();
    const finding = (celsius: number, count = 1_440) =>
      findingOf(
        { glob: CPU.id, channels: [CPU] },
        new Map([[CPU.id, Array.from({ length: count }, () => celsius)]]),
        config,
      );
    t.same(finding(50, 1_439).proposals, []);
    t.equal(finding(50, 1_439).peakCelsius, null);
    for (let celsius = 0; celsius < 120; celsius += 0.5) {
      const { proposals, builtIn } = finding(celsius);
      for (const each of proposals) t.ok(each.celsius < builtIn[each.severity] && each.celsius > celsius);
      if (celsius < builtIn.warning - 6) t.equal(proposals.length, 2);
    }
  },
);
