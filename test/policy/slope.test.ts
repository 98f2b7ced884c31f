import fc from 'fast-check';
import t from 'tap';
import { sortedMedian } from '../../src/policy/median.js';
import { SlopeWindow } from '../../src/policy/slope.js';

/** Samples at 10 Hz of a temperature that is a function of time, from second 0; the slope at the end. */
function slopeOf(seconds: number, milliCelsius: (atMs: number) => number, startMs = 5_000_000): number | null {
  const window = new SlopeWindow();
  for (let atMs = 0; atMs < seconds * 1000; atMs += 100) window.take(milliCelsius(atMs), startMs + atMs);
  return window.slopePerSecond(startMs + seconds * 1000);
}

t.test('the median is that of a sorted copy, of even and odd counts', async () => {
  fc.assert(
    fc.property(fc.array(fc.integer(), { minLength: 1, maxLength: 45 }), (list) => {
      const sorted = [...list].sort((a, b) => a - b);
      const [low, high] = [sorted[(list.length - 1) >> 1] ?? 0, sorted[list.length >> 1] ?? 0];
      return sortedMedian(Float64Array.from(list), list.length) === (low + high) / 2;
    }),
  );
});

t.test('a steady rise is its slope, at any rate and clock', async (t) => {
  for (const slope of [-2_000, -1, 0, 150, 3_500]) {
    const found = slopeOf(12, (atMs) => 40_000 + (slope * atMs) / 1000) ?? Number.NaN;
    t.ok(Math.abs(found - slope) < 1e-6 * Math.max(1, Math.abs(slope)), `${slope}: ${found}`);
  }
});

t.test('asked twice for one moment it answers the same, and anew when samples came in between', async (t) => {
  const window = new SlopeWindow();
  for (let atMs = 0; atMs <= 8_000; atMs += 1_000) window.take(atMs, atMs);
  t.equal(window.slopePerSecond(8_500), 1_000);
  t.equal(window.slopePerSecond(8_500), 1_000);
  for (let atMs = 9_000; atMs <= 30_000; atMs += 1_000) window.take(0, atMs);
  t.equal(window.slopePerSecond(30_500), 0);
  t.equal(window.slopePerSecond(60_000), null, 'and what was known then is old now');
});

t.test('there is no slope before five seconds were seen', async (t) => {
  t.equal(new SlopeWindow().slopePerSecond(1_000), null);
  t.equal(
    slopeOf(4, () => 40_000),
    null,
  );
  t.equal(
    slopeOf(5, () => 40_000),
    0,
  );
});

t.test('neither spikes nor a mad second move it', async (t) => {
  const spiky = slopeOf(12, (atMs) => (atMs % 700 === 0 ? 127_000 : 40_000 + atMs));
  t.ok(Math.abs((spiky ?? 0) - 1_000) < 50, String(spiky));
  const mad = slopeOf(12, (atMs) => (Math.floor(atMs / 1000) === 7 ? -273_000 : 40_000 + atMs));
  t.ok(Math.abs((mad ?? 0) - 1_000) < 1, String(mad));
});

t.test('one step of a whole degree stays below the noise floor, wherever it lies', async (t) => {
  for (let stepMs = 0; stepMs < 12_000; stepMs += 250) {
    const found = slopeOf(12, (atMs) => (atMs >= stepMs ? 41_000 : 40_000)) ?? Number.NaN;
    t.ok(found >= 0 && found < 150, `${stepMs}: ${found}`);
  }
});

t.test('points older than ten seconds do not count, also after a gap', async (t) => {
  const window = new SlopeWindow();
  for (let s = 0; s < 20; s++) window.take(90_000 - 4_000 * s, s * 1000);
  for (let s = 20; s < 31; s++) window.take(10_000 + 500 * s, s * 1000);
  t.equal(window.slopePerSecond(31_000), 500);
  t.equal(window.slopePerSecond(60_000), null, 'nothing came for half a minute');
});

t.test(
  'any samples give a number or null, in bounded memory, also at a thousand a second and times that run back',
  async () => {
    const sample = fc.tuple(fc.integer({ min: -5_000, max: 50_000 }), fc.maxSafeInteger());
    fc.assert(
      fc.property(fc.array(sample, { maxLength: 400 }), (list) => {
        const window = new SlopeWindow();
        for (const [atMs, value] of list) window.take(value, atMs);
        const slope = window.slopePerSecond(50_000);
        return slope === null || Number.isFinite(slope);
      }),
    );
  },
);
