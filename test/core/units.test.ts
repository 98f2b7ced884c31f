import fc from 'fast-check';
import t from 'tap';
import { fromBase, QUANTITIES, type Quantity, toBase } from '../../src/core/units.js';

const quantities = Object.keys(QUANTITIES) as Quantity[];

t.test('the name of every quantity ends in its canonical unit', async (t) => {
  const unit =
    /(MilliCelsius|MilliCelsiusPerSecond|MilliVolts|MilliAmps|MilliWatts|MilliJoules|Hertz|Rpm|PartsPerMillion|Bytes|Total|Ms|BytesPerSecond|Bitmask|Code)$/;
  for (const quantity of quantities) t.match(quantity, unit);
});

t.test('what is written in a base unit comes back the same', async (_t) => {
  fc.assert(
    fc.property(fc.constantFrom(...quantities), fc.integer({ min: -1e9, max: 1e9 }), (quantity, canonical) => {
      return fromBase(quantity, toBase(quantity, canonical)) === canonical;
    }),
  );
});

t.test('canonical values are integers, rounded to the nearest', async (t) => {
  t.equal(fromBase('temperatureMilliCelsius', 54.32149), 54321);
  t.equal(fromBase('temperatureMilliCelsius', -44), -44_000);
  t.equal(fromBase('frequencyHertz', 0.4), 0);
  fc.assert(
    fc.property(fc.constantFrom(...quantities), fc.double({ min: -1e6, max: 1e6, noNaN: true }), (quantity, base) =>
      Number.isInteger(fromBase(quantity, base)),
    ),
  );
});

t.test('a share of one is a million parts', async (t) => {
  t.equal(fromBase('ratioPartsPerMillion', 1), 1_000_000);
  t.equal(toBase('ratioPartsPerMillion', 250_000), 0.25);
});
