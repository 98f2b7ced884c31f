import fc from 'fast-check';
import t from 'tap';
import { actionText } from '../../src/cli/actions.js';
import { alertText } from '../../src/cli/alerts.js';
import { durationSeconds } from '../../src/cli/duration.js';
import { clean, quantityText, spanText } from '../../src/cli/format.js';
import { lineDiff } from '../../src/cli/line-diff.js';
import { sensorsText } from '../../src/cli/sensors.js';
import { statusText } from '../../src/cli/status.js';
import { tableLines } from '../../src/cli/table.js';
import { type ChannelJson, channelJson } from '../../src/core/channel.js';
import { QUANTITIES } from '../../src/core/units.js';
import { cpuTemperature } from '../fixtures/antibodies.js';
import { action, alert, NOW_MS, node, status } from '../fixtures/cli.js';

type Tap = typeof t;
const IO = { columns: 80, color: false, wallMs: () => NOW_MS };
const CONTROL = /[\p{Cc}]/u;

function channel(given: Partial<ChannelJson> = {}): ChannelJson {
  return {
    ...channelJson(
      cpuTemperature({ limits: { max: 80_000, critical: 100_000 } }),
      { value: 54_300, quality: 'ok', atMs: 0 },
      0,
    ),
    ...given,
  };
}

function fits(t: Pick<Tap, 'ok'>, text: string): void {
  for (const line of text.split('\n')) t.ok([...line].length <= 80 && !CONTROL.test(line), line);
}

t.test('sensors stand below their device, with value, margin and limits', async (t) => {
  const text = sensorsText([channel(), channel({ name: 'temp2', label: 'Core 0', value: null, quality: 'hung' })], IO);
  t.equal(
    text,
    [
      'hwmon/coretemp  cpu',
      '  temp1  Package id 0  54.3 °C  26 to max  max 80, crit 100',
      '  temp2  Core 0           hung             max 80, crit 100',
      '2 channels, 1 without a value',
    ].join('\n'),
  );
});

t.test('a reading that is not ok never shows a number', async (t) => {
  for (const quality of ['no_data', 'stale', 'fault', 'hung'] as const) {
    const line =
      sensorsText([channel({ value: null, quality, limits: {}, label: 'x', name: 'a' })], IO).split('\n')[1] ?? '';
    t.match(line, new RegExp(`${quality}$`));
    t.notMatch(line, /\d/);
  }
});

t.test('labels of any length and content fit 80 columns and move no cursor', async (t) => {
  const evil = '\x1b]0;title\x07\x1b[2J\r\nfake line\u202e';
  fits(t, sensorsText([channel({ label: evil }), channel({ label: 'x'.repeat(500), name: 'y'.repeat(64) })], IO));
  fits(t, alertText(alert({ message: `${evil} ${'word '.repeat(40)}`, rule: evil }), IO));
  fits(t, actionText(action({ reason: evil.repeat(20) }), IO));
  const troubled = status({
    notFound: [evil, 'no '.repeat(60)],
    actuator: { connected: false, why: evil, targets: [], leases: [], orders: [] },
  });
  fits(t, statusText(troubled, IO));
});

t.test('no channels at all are said so', async (t) => {
  t.equal(sensorsText([], IO), 'No channels.');
});

t.test('status shows what is wrong where it is wrong', async (t) => {
  const text = statusText(
    status({
      mode: 'auto',
      alerts: 2,
      channels: 30,
      channelsByQuality: { ok: 28, hung: 2, fault: 0 },
      gpus: [
        { address: '0000:3b:00.0', name: 'NVIDIA H200', state: 'serving' },
        { address: '0000:86:00.0', name: 'NVIDIA H200', state: 'reset_required' },
      ],
      actuator: {
        connected: true,
        why: '',
        targets: [{ target: 'cpufreq/policy0', former: '1', current: '1', state: 'foreign_change' }],
        leases: [],
        orders: [{ order: 'thermal:x', raised: true, value: 97_000, quality: 'ok' }],
      },
      store: { ok: false, why: 'disk full', head: { seq: 1, hash: 'a'.repeat(64) } },
      net: { connected: false, why: 'it is being restarted' },
      bars: [{ rule: 'thermal-cpu', untilAtMs: NOW_MS }],
      logLevel: 'debug',
      notFound: ['no temperature sensor: a virtual machine'],
    }),
    IO,
  );
  for (const says of [
    /^node {7}nova, up 1 h 5 min, skos 0\.1\.0, pid 4711$/m,
    /^mode {7}auto, not armed/m,
    /^sensors {4}30 channels, 2 hung$/m,
    /^gpus {7}1 of 2 read$/m,
    /^ {11}NVIDIA H200 0000:86:00\.0: reset required$/m,
    /^alerts {5}2 alerts standing$/m,
    /cpufreq\/policy0: foreign_change/,
    /1 standing order, 1 raised/,
    /in memory only: disk full/,
    /skos-net is not there: it is being restarted/,
    /^barred {5}thermal-cpu until 2026-01-02 03:04:05Z$/m,
    /level debug/,
    /^not found {2}no temperature sensor/m,
  ]) {
    t.match(text, says);
  }
});

t.test('actions show what stood before, what is held and what came back, equal targets once', async (t) => {
  const text = actionText(action(), IO);
  t.match(text, /^throttle_50 {2}active {2}critical {2}1 min ago$/m);
  t.match(text, /^ {2}cpufreq\/policy0 and 1 more {2}50 % {2}2400000 → 1200000 {2}applied$/m);
  const unavailable = actionText(
    action({ state: 'unavailable', effects: [], endedAtMs: NOW_MS, reason: 'no target' }),
    IO,
  );
  t.match(unavailable, /unavailable.*lasted 1 min/);
});

t.test('alerts say what stands, since when, and that a sensor is gone', async (t) => {
  t.match(
    alertText(alert({ verdict: 'no_data' }), IO),
    /^critical {2}firing, sensor no_data {2}thermal-cpu {2}for 1 min/,
  );
  t.match(alertText(alert({ severity: null, state: 'ok' }), IO), /^over {2}ok {2}thermal-cpu {2}ended 1 s ago/);
});

t.test('--json prints what the agent said', async (t) => {
  const each = await node(t, {
    sensors: () => [channel()],
    alerts: () => [alert()],
    actions: () => [action()],
    status: () => status(),
  });
  t.same(JSON.parse((await each.skos(['sensors', '--json'])).out), [channel()]);
  t.same(JSON.parse((await each.skos(['alerts', '--json'])).out), [alert()]);
  t.same(JSON.parse((await each.skos(['actions', '--json'])).out), [action()]);
  t.same(JSON.parse((await each.skos(['status', '--json'])).out), status());
});

t.test('--watch goes on until it is interrupted', async (t) => {
  const abort = new AbortController();
  let asked = 0;
  const each = await node(t, {
    sensors: () => {
      asked += 1;
      if (asked === 2) abort.abort();
      return [channel()];
    },
  });
  const { code, out } = await each.skos(['sensors', '--watch', '--json'], { signal: abort.signal });
  t.equal(code, 0);
  t.equal(out.split('\n').length, 2);
});

t.test('--watch ends with an error when the agent goes away', async (t) => {
  const each = await node(t, {
    sensors: () => {
      setImmediate(() => void each.stop());
      return [channel()];
    },
  });
  t.equal((await each.skos(['sensors', '--watch'])).code, 3);
});

t.test('every unit has a text', async (t) => {
  for (const { unit } of Object.values(QUANTITIES)) t.match(quantityText(12, unit), /^\S.*\d|0xc/, unit);
  t.equal(quantityText(-44, 'celsius'), '-44.0 °C');
  t.equal(quantityText(0.25, 'ratio'), '25.0 %');
  t.equal(quantityText(1536, 'bytes'), '1.5 KiB');
  t.equal(quantityText(2.4e9, 'hertz'), '2.4 GHz');
});

t.test('spans read well at every size', async (t) => {
  for (const [ms, text] of [
    [-5, '0 s'],
    [59_999, '59 s'],
    [60_000, '1 min'],
    [7_200_000, '2 h'],
    [7_500_000, '2 h 5 min'],
    [90_000_000, '1 d 1 h'],
  ] as const) {
    t.equal(spanText(ms), text);
  }
});

t.test('durations are taken as people type them', async (t) => {
  for (const [text, seconds] of [
    ['0', 0],
    ['90', 90],
    ['90s', 90],
    ['10m', 600],
    ['24h', 86_400],
    ['1d', 86_400],
  ] as const)
    t.equal(durationSeconds(text), seconds);
  t.equal(durationSeconds('2w', 30 * 86_400), 14 * 86_400, 'longer where the past is asked for');
  for (const text of ['', '-1', '1.5m', '10 m', 'm', '2d', '1w', '25h', '9'.repeat(400)])
    t.throws(() => durationSeconds(text), { code: 'SKOS_CLI_USAGE' });
});

t.test('a table never exceeds its width while its shrinkable columns have room', async () => {
  const cell = fc.string({ unit: fc.constantFrom('a', '°', '→', ' '), maxLength: 60 }).map((text) => ({ text }));
  fc.assert(
    fc.property(fc.array(fc.tuple(cell, cell, cell)), (rows) =>
      tableLines({
        columns: [{ shrinkTo: 4 }, { align: 'right', shrinkTo: 4 }, { shrinkTo: 4 }],
        rows,
        width: 80,
        indent: 2,
      }).every((line) => [...line].length <= 80),
    ),
  );
});

t.test('no text that comes from outside keeps a control character', async () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => !CONTROL.test(clean(text))));
});

t.test('a diff holds both sides in order, and nothing else', async () => {
  const lines = fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 12 });
  fc.assert(
    fc.property(lines, lines, (before, after) => {
      const diff = lineDiff(before, after);
      const side = (mark: string) =>
        diff.filter((line) => line.startsWith(mark) || line.startsWith('  ')).map((line) => line.slice(2));
      return side('- ').join() === before.join() && side('+ ').join() === after.join();
    }),
    { numRuns: 1000 },
  );
});
