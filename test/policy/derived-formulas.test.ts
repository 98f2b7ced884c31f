import t from 'tap';
import { MeanPower } from '../../src/policy/mean-power.js';
import { CounterShare, FlagShare, hasAnyOf, hasReason } from '../../src/policy/throttled-share.js';
import { MAX_TIME_TO_LIMIT_MS, timeToLimitMs } from '../../src/policy/time-to-limit.js';

const time = (valueMilliCelsius: number, slopeMilliCelsiusPerSecond: number | null) =>
  timeToLimitMs({ valueMilliCelsius, limitMilliCelsius: 100_000, slopeMilliCelsiusPerSecond });

t.test('the time to the limit is margin by slope, and no number while nothing rises', async (t) => {
  t.equal(time(80_000, 2_000), 10_000);
  t.equal(time(99_999, 150), 7);
  for (const slope of [null, -2_000, 0, 149, Number.NaN]) t.equal(time(80_000, slope), null, String(slope));
  t.equal(time(100_000, null), 0, 'it is there');
  t.equal(time(120_000, -5_000), 0, 'and above it');
  t.equal(time(-(2 ** 53), 150), MAX_TIME_TO_LIMIT_MS, 'never a huge number');
});

t.test('power is the energy of at least a second by its time', async (t) => {
  const meter = new MeanPower();
  meter.take(5_000_000, 1_000);
  t.equal(meter.powerMilliWatts(), null, 'one reading is no difference');
  meter.take(5_100_000, 1_400);
  t.equal(meter.powerMilliWatts(), null, 'nor is a part of a second');
  meter.take(5_300_000, 2_500);
  t.equal(meter.powerMilliWatts(), 200_000, '300 J in 1.5 s');
  meter.take(5_300_000, 3_500);
  t.equal(meter.powerMilliWatts(), 0);
});

t.test('a counter that falls, a gap and a clock that runs back give no power until a second is over', async (t) => {
  for (const break_ of [
    (meter: MeanPower) => meter.take(10, 4_000),
    (meter: MeanPower) => {
      meter.lost();
      meter.take(9_000_000, 4_000);
    },
    (meter: MeanPower) => meter.take(9_000_000, 500),
  ]) {
    const meter = new MeanPower();
    meter.take(5_000_000, 1_000);
    meter.take(5_100_000, 2_000);
    t.equal(meter.powerMilliWatts(), 100_000);
    break_(meter);
    t.equal(meter.powerMilliWatts(), null);
    meter.take(9_000_500, 4_900);
    meter.take(9_001_000, 6_000);
    t.ok((meter.powerMilliWatts() ?? -1) >= 0, String(meter.powerMilliWatts()));
  }
});

t.test('reasons beyond the low 32 bits count, the ignored ones do not', async (t) => {
  const harmless = 0x113;
  for (const flags of [0, 1, 2, 16, 256, 0x113]) t.notOk(hasReason(flags, harmless), String(flags));
  for (const flags of [4, 8, 0x20, 0x40, 0x80, 0x121, 2 ** 31, 2 ** 32, 2 ** 52 + 1]) {
    t.ok(hasReason(flags, harmless), String(flags));
  }
});

t.test('the share of flagged samples is that of the last minute, and none before ten seconds', async (t) => {
  const share = new FlagShare(1);
  const run = (fromS: number, toS: number, flags: number) => {
    for (let atMs = fromS * 1000; atMs < toS * 1000; atMs += 100) share.take(flags, atMs);
    return share.sharePpm(toS * 1000 - 1);
  };
  t.equal(run(0, 9, 4), null, 'one hot start is no share');
  t.equal(run(9, 30, 4), 1_000_000);
  t.equal(run(30, 60, 1), 500_000);
  t.equal(run(60, 75, 1), 250_000, 'what is a minute old is forgotten');
  t.equal(run(75, 120, 0), 0);
  t.equal(share.sharePpm(1_000_000), null, 'nothing was seen for long');
});

t.test('of wanted bits alone, no other reason makes a share: a power cap is no heat', async (t) => {
  const nvml = { low: 0x8 | 0x40 | 0x80, high: 0 };
  for (const flags of [0, 0x4, 0x2, 0x20, 0x1 | 0x4, 2 ** 40]) t.notOk(hasAnyOf(flags, nvml), String(flags));
  for (const flags of [0x8, 0x44, 0x80, 2 ** 40 + 8]) t.ok(hasAnyOf(flags, nvml), String(flags));
  const amdgpu = { low: 0, high: 0x3fff };
  for (const flags of [2 ** 32, 2 ** 45, 2 ** 52 + 2 ** 33]) t.ok(hasAnyOf(flags, amdgpu), String(flags));
  for (const flags of [0, 1, 2 ** 31, 2 ** 46, 2 ** 52]) t.notOk(hasAnyOf(flags, amdgpu), String(flags));
  const share = new FlagShare(nvml);
  for (let atMs = 0; atMs < 20_000; atMs += 100) share.take(atMs < 10_000 ? 0x4 : 0x8, atMs);
  t.equal(share.sharePpm(19_999), 500_000);
});

t.test('the share of a counter is its rise by time; a reset begins anew', async (t) => {
  const share = new CounterShare();
  const run = (fromS: number, toS: number, count: (s: number) => number) => {
    for (let s = fromS; s < toS; s++) share.take(count(s), s * 1000);
    return share.sharePpm((toS - 1) * 1000);
  };
  t.equal(
    run(0, 8, (s) => s * 250),
    null,
  );
  t.equal(
    run(8, 200, (s) => s * 250),
    250_000,
  );
  t.equal(
    run(200, 205, (s) => s),
    null,
    'it fell',
  );
  t.equal(
    run(205, 260, (s) => (s - 200) * 5_000),
    1_000_000,
    'never more than all of the time',
  );
  t.equal(share.sharePpm(10_000_000), null);
});

t.test('a counter read every ten seconds has its share, too', async (t) => {
  const share = new CounterShare();
  for (let s = 0; s <= 300; s += 10) share.take(s * 100, s * 1000);
  t.equal(share.sharePpm(304_000), 100_000);
});
