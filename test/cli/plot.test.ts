import fc from 'fast-check';
import t from 'tap';
import { paint } from '../../src/cli/format.js';
import { type PlotOptions, type PlotPoint, plotLines } from '../../src/cli/plot.js';
import { visibleLength } from '../../src/cli/table.js';
import { QUALITIES } from '../../src/core/channel.js';

const MINUTE_MS = 60_000;
const FROM_MS = new Date(2026, 0, 2, 10, 0, 0).getTime();

function options(given: Partial<PlotOptions> = {}): PlotOptions {
  const toAtMs = FROM_MS + 60 * MINUTE_MS;
  return { fromAtMs: FROM_MS, toAtMs, width: 80, rows: 5, unit: 'celsius', paint: paint(false), ...given };
}

/** One point a minute. */
function minutes(values: readonly (number | null)[], given: Partial<PlotPoint> = {}): PlotPoint[] {
  return values.map((value, i) => ({
    fromMs: FROM_MS + i * MINUTE_MS,
    toMs: FROM_MS + (i + 1) * MINUTE_MS,
    least: value,
    greatest: value,
    quality: value === null ? 'no_data' : 'ok',
    ...given,
  }));
}

const isBraille = (text: string) => /[\u2801-\u28ff]/.test(text);

t.test(
  'the greatest value stands at the top, the least at the bottom, with a label each and one between',
  async (t) => {
    const lines = plotLines(minutes(Array.from({ length: 60 }, (_, i) => 40 + i)), options());
    t.match(lines[0], /^ ?99\.0 °C ┤ +[\u2801-\u28ff]+$/);
    t.match(lines[2], /^69\.5 °C ┤ +[\u2801-\u28ff]+$/);
    t.match(lines[4], /^40\.0 °C ┤[\u2801-\u28ff]+$/);
    t.match(lines[1], /^ {8}│ /);
    t.match(lines[5], /^ {8}└┬─+┬─+/);
    t.match(lines[6], /10:10 +10:20 .*10:50/);
    t.equal(lines.length, 7, 'no legend where all was ok');
  },
);

t.test('a spike of one sample in a thousand is seen', async (t) => {
  const points = Array.from({ length: 1_000 }, (_, i) => ({
    fromMs: FROM_MS + i * 3_600,
    toMs: FROM_MS + (i + 1) * 3_600,
    least: 50,
    greatest: i === 500 ? 99 : 51,
    quality: 'ok' as const,
  }));
  const [top = '', ...rest] = plotLines(points, options());
  const column = [...top].findIndex(isBraille);
  t.match(top, /^99\.0 °C ┤ +[\u2801-\u28ff]{1,2}$/, 'one column reaches the top');
  t.ok(Math.abs(column - (9 + 35)) <= 1, `in the middle: ${column}`);
  for (const line of rest.slice(0, 3)) t.ok(isBraille([...line][column] ?? ''), 'and stands on the others');
});

t.test('a gap is empty, and its neighbours are not joined over it', async (t) => {
  const rising = minutes(Array.from({ length: 60 }, (_, i) => (i < 20 ? 10 : 90)));
  const lines = plotLines([...rising.slice(0, 20), ...rising.slice(40)], options());
  const chart = lines.slice(0, 5).map((line) => [...line.padEnd(80)].slice(9).join(''));
  const [width] = [chart[0]?.length ?? 0];
  for (const row of chart)
    t.notOk(isBraille(row.slice(Math.ceil(width / 3) + 1, Math.floor((2 * width) / 3) - 1)), row);
  t.notOk(isBraille(chart[2] ?? ''), 'no line from the one to the other');
  const joined = plotLines(rising, options()).slice(0, 5);
  t.ok(isBraille(joined[2] ?? ''), 'without a gap there is one');
});

t.test('columns that were not ok have a row of their own, and a legend', async (t) => {
  const points = minutes(Array.from({ length: 60 }, () => 50)).map((point, i) =>
    i >= 30 && i < 36 ? { ...point, least: null, greatest: null, quality: 'hung' as const } : point,
  );
  const lines = plotLines(
    [...points.slice(0, 50), ...points.slice(50).map((each) => ({ ...each, quality: 'fault' as const }))],
    options(),
  );
  const row = lines.find((line) => line.startsWith(' not ok │')) ?? '';
  t.match(row, /^ not ok │ {34,36}h{6,8} {15,17}f+$/);
  t.equal(lines.at(-1)?.trim(), 'f fault, h hung');
  const silent = plotLines(minutes([null, null]), options());
  t.match(silent[0], /^not ok │nn/, 'a channel that never had a value says why');
  t.equal(silent.length, 4);
});

t.test('labels of nearly equal values are told apart, and equal values stand in the middle', async (t) => {
  const close = plotLines(minutes([12.0001, 12.0002]), options({ unit: 'volts' }));
  t.match(close[0], /^12\.00020 V ┤/);
  t.match(close[4], /^12\.00010 V ┤/);
  const flat = plotLines(minutes([45, 45, 45]), options());
  t.match(flat[2], /^45\.0 °C ┤[\u2801-\u28ff]/);
  t.notOk(isBraille(flat[0] ?? '') || isBraille(flat[4] ?? ''));
  t.same(plotLines([], options()), []);
});

t.test('the time axis has clock times that fit, at any width and span', async (t) => {
  const second = 1_000;
  const day = 86_400_000;
  for (const [spanMs, pattern] of [
    [40 * second, /10:00:10 +10:00:20/],
    [3_600_000, /10:10 +10:20/],
    [day, /15:00 +18:00 +21:00 +Jan 3/],
    [20 * day, /Jan 5 +Jan 12 +Jan 19/],
    [400 * day, /Mar +May +Jul +Sep +Nov +2027/],
    [3_000 * day, /2027 +2028 +2029/],
  ] as const) {
    const to = FROM_MS + spanMs;
    const point = { fromMs: FROM_MS, toMs: to, least: 1, greatest: 2, quality: 'ok' as const };
    const lines = plotLines([point], options({ toAtMs: to }));
    t.match(lines[6], pattern);
    const [axis = '', labels = ''] = lines.slice(5);
    t.ok(axis.length <= 80 && labels.length <= 80);
  }
});

t.test('no line is wider than the terminal, whatever there was', async () => {
  const point = fc.record({
    fromMs: fc.integer({ min: FROM_MS - 3_600_000, max: FROM_MS + 7_200_000 }),
    lengthMs: fc.integer({ min: 0, max: 7_200_000 }),
    value: fc.option(fc.double({ min: -1e12, max: 1e12, noNaN: true })),
    above: fc.double({ min: 0, max: 1e9, noNaN: true }),
    quality: fc.constantFrom(...QUALITIES),
  });
  const unit = fc.constantFrom('celsius', 'bytes', 'rpm', 'ratio', 'code', 'bitmask', 'volts');
  const spanMs = fc.integer({ min: 1, max: 86_400_000 * 3_650 });
  fc.assert(
    fc.property(
      fc.array(point, { maxLength: 40 }),
      unit,
      spanMs,
      fc.integer({ min: 60, max: 250 }),
      (given, unit, spanMs, width) => {
        const points = given.map(({ fromMs, lengthMs, value, above, quality }) => ({
          fromMs,
          toMs: fromMs + lengthMs,
          least: value,
          greatest: value === null ? null : value + above,
          quality,
        }));
        const lines = plotLines(points, options({ unit, width, toAtMs: FROM_MS + spanMs }));
        return lines.every((line) => visibleLength(line) <= width && !/undefined|NaN/.test(line));
      },
    ),
  );
});
