import fc from 'fast-check';
import t from 'tap';
import { type Course, celsiusAt, crossingMs, msAbove, watts } from '../../src/policy/thermal-model.js';

const course: fc.Arbitrary<Course> = fc.record({
  atMs: fc.integer({ min: 0, max: 1_000_000 }),
  celsius: fc.integer({ min: 10, max: 120 }),
  steadyCelsius: fc.integer({ min: 10, max: 120 }),
  timeConstantMs: fc.integer({ min: 1_000, max: 200_000 }),
});

t.test('approaches its steady temperature by 1 − 1/e in one time constant', async (t) => {
  const heating = { atMs: 500, celsius: 20, steadyCelsius: 120, timeConstantMs: 30_000 };
  t.equal(celsiusAt(heating, 500), 20);
  t.ok(Math.abs(celsiusAt(heating, 30_500) - (20 + 100 * (1 - Math.exp(-1)))) < 1e-9);
  t.ok(Math.abs(celsiusAt(heating, 1e9) - 120) < 1e-9);
});

t.test('crosses a temperature when it says so, and not before', async () => {
  fc.assert(
    fc.property(course, fc.integer({ min: 0, max: 130 }), (each, celsius) => {
      const atMs = crossingMs(each, celsius, each.atMs);
      const isAbove = (ms: number) => celsiusAt(each, ms) > celsius;
      const later = [0, 0.5, 0.99].map((share) => each.atMs + share * (Math.min(atMs, each.atMs + 1e6) - each.atMs));
      if (atMs > each.atMs && later.some((ms) => isAbove(ms) !== isAbove(each.atMs))) throw new Error('crossed before');
      if (Number.isFinite(atMs) && Math.abs(celsiusAt(each, atMs) - celsius) > 1e-6) throw new Error('not there');
    }),
  );
});

t.test('is above a bound for as long as looking at each moment shows', async () => {
  fc.assert(
    fc.property(course, fc.integer({ min: 0, max: 130 }), fc.integer({ min: 1, max: 300 }), (each, bound, seconds) => {
      const span = { fromMs: each.atMs, toMs: each.atMs + seconds * 1_000 };
      let seen = 0;
      for (let ms = span.fromMs; ms < span.toMs; ms += 100) if (celsiusAt(each, ms) > bound) seen += 100;
      if (Math.abs(msAbove(each, bound, span) - seen) > 100)
        throw new Error(`${msAbove(each, bound, span)}, ${seen} seen`);
    }),
    { numRuns: 50 },
  );
});

t.test('a cap takes power, a stricter one more, and none of what an idle processor needs', async (t) => {
  const body = { idleWatts: 50, dynamicWatts: 200, kelvinPerWatt: 0.2, timeConstantMs: 1 };
  t.equal(watts(body, 1, { frequency: 1, power: 1 }), 250);
  t.equal(watts(body, 1, { frequency: 0.5, power: 1 }), 100);
  t.equal(watts(body, 1, { frequency: 1, power: 0.5 }), 125);
  t.equal(watts(body, 0, { frequency: 1, power: 0.1 }), 50);
});
