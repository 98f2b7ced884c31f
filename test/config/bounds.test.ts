import fc from 'fast-check';
import t from 'tap';
import { ruleBounds } from '../../src/config/rule-bounds.js';
import { thermalBounds } from '../../src/config/thermal-bounds.js';
import { QUANTITIES, type Quantity } from '../../src/core/units.js';
import { configOf } from '../fixtures/antibodies.js';

t.test('a device without a limit of its own gets the table, 5 °C of hysteresis inside', async (t) => {
  t.same(thermalBounds(configOf(), { limits: {} }), {
    warning: { raise: 75_000, clear: 70_000 },
    critical: { raise: 85_000, clear: 80_000 },
    emergency: { raise: 95_000, clear: 90_000 },
  });
});

t.test('a device that states its critical limit gets the margins to it', async (t) => {
  t.match(thermalBounds(configOf(), { limits: { critical: 100_000 } }), {
    warning: { raise: 85_000 },
    critical: { raise: 92_000 },
    emergency: { raise: 97_000 },
  });
});

t.test('other limits of the device do not count', async (t) => {
  t.match(thermalBounds(configOf(), { limits: { max: 80_000, emergency: 120_000 } }), { warning: { raise: 75_000 } });
});

t.test('what the operator writes always applies', async (t) => {
  const config = configOf({ thermal: { thresholds: { warning: 50, critical: 60, emergency: 70.5 } } });
  t.match(thermalBounds(config, { limits: { critical: 100_000 } }), { emergency: { raise: 70_500, clear: 65_500 } });
});

t.test('bounds ascend and clear lies strictly inside raise, whatever the limit and the hysteresis', async () => {
  const limit = fc.oneof(fc.integer(), fc.integer({ min: 50_000, max: 130_000 }));
  fc.assert(
    fc.property(limit, fc.double({ min: 0.1, max: 100, noNaN: true }), (critical, hysteresis) => {
      const bounds = thermalBounds(configOf({ thermal: { hysteresis } }), { limits: { critical } });
      const rungs = [bounds.warning, bounds.critical, bounds.emergency];
      return rungs.every(({ raise, clear }, i) => {
        const lower = rungs[i - 1];
        return (
          clear < raise &&
          Number.isInteger(raise) &&
          (lower === undefined || (lower.raise < raise && lower.clear < clear))
        );
      });
    }),
  );
});

t.test('a rule is written in degrees, percent and base units', async (t) => {
  t.same(ruleBounds({ raise: 80, clear: 70 }, 'temperatureMilliCelsius'), { raise: 80_000, clear: 70_000 });
  t.same(ruleBounds({ raise: 80, clear: undefined }, 'temperatureMilliCelsius'), { raise: 80_000, clear: 75_000 });
  t.same(ruleBounds({ raise: 80, clear: undefined }, 'ratioPartsPerMillion'), { raise: 800_000, clear: 750_000 });
  t.same(ruleBounds({ raise: 1.2, clear: undefined }, 'voltageMilliVolts'), { raise: 1200, clear: 1140 });
});

t.test('the clear bound of a rule is strictly inside, also where both round to one value', async () => {
  const quantities = Object.keys(QUANTITIES) as Quantity[];
  const bound = fc.double({ min: -1e9, max: 1e9, noNaN: true });
  fc.assert(
    fc.property(
      bound,
      fc.option(bound, { nil: undefined }),
      fc.constantFrom(...quantities),
      (raise, clear, quantity) => {
        if (clear !== undefined && clear >= raise) return true;
        const bounds = ruleBounds({ raise, clear }, quantity);
        return bounds.clear < bounds.raise;
      },
    ),
  );
});
