import fc from 'fast-check';
import t from 'tap';
import {
  auditKey,
  auditSeq,
  channelKey,
  channelNumber,
  chunkKey,
  chunkRange,
  chunkStartAtMs,
  historyKey,
  keyText,
  PREFIX,
  prefixRange,
} from '../../src/store/keys.js';

const whole = fc.oneof(fc.maxSafeNat(), fc.integer({ min: 2 ** 32 - 2, max: 2 ** 32 + 2 }), fc.nat(300));

t.test('the order of keys is the order of their numbers, and numbers come back', async () => {
  fc.assert(
    fc.property(whole, whole, (a, b) => {
      const order = Math.sign(a - b);
      const history = (startedAtMs: number) => historyKey(PREFIX.alertHistory, { startedAtMs, id: `z${-startedAtMs}` });
      const chunk = (startAtMs: number) =>
        chunkKey(PREFIX.rawSeries, { channel: 7, startAtMs, run: -startAtMs, ordinal: -startAtMs });
      return (
        Buffer.compare(auditKey(a), auditKey(b)) === order &&
        (order === 0 || Buffer.compare(history(a), history(b)) === order) &&
        (order === 0 || Buffer.compare(chunk(a), chunk(b)) === order) &&
        keyText(auditKey(a)) < keyText(auditKey(b)) === order < 0 &&
        auditSeq(auditKey(a)) === a &&
        chunkStartAtMs(chunk(a)) === a
      );
    }),
  );
});

t.test('no kind of record reaches into the range of another', async (t) => {
  const prefixes = Object.values(PREFIX);
  t.equal(new Set(prefixes).size, prefixes.length);
  for (const prefix of prefixes) {
    const { gte, lt } = prefixRange(prefix);
    const inside = [
      auditKey(2 ** 53 - 1),
      channelKey(2 ** 32 - 1),
      historyKey(PREFIX.actionOpen, { startedAtMs: 1, id: 'x' }),
    ];
    for (const key of inside) {
      const within = Buffer.compare(key, gte) >= 0 && Buffer.compare(key, lt) < 0;
      t.equal(within, key[0] === prefix.charCodeAt(0));
    }
  }
});

t.test('a range of chunks is of one channel, and half-open in time', async (t) => {
  const { gte, lt } = chunkRange(PREFIX.rawSeries, 5, { fromMs: 1_000, toMs: 2_000 });
  const within = (channel: number, startAtMs: number, run = 9) => {
    const key = chunkKey(PREFIX.rawSeries, { channel, startAtMs, run, ordinal: 9 });
    return Buffer.compare(key, gte) >= 0 && Buffer.compare(key, lt) < 0;
  };
  t.ok(within(5, 1_000, 0) && within(5, 1_999, 2 ** 32 - 1));
  t.notOk(within(5, 999) || within(5, 2_000) || within(4, 1_500) || within(6, 1_500));
  t.equal(channelNumber(channelKey(123_456)), 123_456);
  t.equal(
    chunkStartAtMs(chunkKey(PREFIX.rawSeries, { channel: 0, startAtMs: -5, run: 0, ordinal: 0 })),
    0,
    'a clock before 1970 sorts first',
  );
});
