import t from 'tap';
import { FillForecast } from '../../src/policy/fill-forecast.js';

const MINUTE_MS = 60_000;

/** A sample every five seconds for so many minutes; the forecast at the end, in percent. */
function forecast(minutes: number, percentAt: (minute: number) => number): number | null {
  const window = new FillForecast();
  const startMs = 7_000_000;
  let nowMs = startMs;
  for (; nowMs < startMs + minutes * MINUTE_MS; nowMs += 5_000)
    window.take(percentAt((nowMs - startMs) / MINUTE_MS) * 10_000, nowMs);
  const ppm = window.forecastPpm(nowMs);
  return ppm === null ? null : ppm / 10_000;
}

t.test('a steady rise is carried on for four hours', async (t) => {
  const found = forecast(90, (minute) => 50 + minute * 0.1) ?? 0;
  t.ok(Math.abs(found - (59 + 24)) < 0.5, `${found}`);
});

t.test('nothing is foretold of too little, of what shrinks, and of a burst', async (t) => {
  t.equal(
    forecast(20, (minute) => 50 + minute),
    null,
    'half an hour is needed',
  );
  t.equal(Math.round(forecast(90, (minute) => 90 - minute * 0.5) ?? 0), 45, 'it is as it is');
  for (let began = 20; began < 80; began += 5) {
    const found = forecast(90, (minute) => 50 + 30 * Math.min(1, Math.max(0, (minute - began) / 10))) ?? 0;
    t.ok(found <= 85, `what was written within ten minutes, ${90 - began} minutes ago, is no trend: ${found}`);
  }
});

t.test('a gap, a clock that stands and equal samples give no nonsense', async (t) => {
  const window = new FillForecast();
  for (const atMs of [0, 0, 1, 20 * MINUTE_MS, 35 * MINUTE_MS, 35 * MINUTE_MS]) window.take(500_000, atMs);
  t.equal(window.forecastPpm(35 * MINUTE_MS), 500_000);
  t.ok((forecast(60, (minute) => minute * 50) ?? 0) <= 200, 'bounded');
});
