/** Ids and segments of channels: what may stand in a topic, whatever the label holds. */
import fc from 'fast-check';
import t from 'tap';
import {
  type Channel,
  channelId,
  channelJson,
  QUALITIES,
  type Reading,
  STATVFS_FIELDS,
  segment,
} from '../../src/core/channel.js';

const anyText = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.string({ minLength: 50, maxLength: 300 }));

t.test('keeps letters, digits, "-" and "_", lower-cased, and escapes the rest byte by byte', async (t) => {
  t.equal(segment('temp1'), 'temp1');
  t.equal(segment('CPU_Package-0'), 'cpu_package-0');
  t.equal(segment('+12V'), '~2b12v');
  t.equal(segment('Package id 0'), 'package~20id~200');
  t.equal(segment('a/b.c'), 'a~2fb~2ec');
  t.equal(segment('#+~'), '~23~2b~7e');
  t.equal(segment('°C'), '~c2~b0c');
});

t.test('makes every segment fit for a topic level, a NATS token and a file name', async () => {
  fc.assert(fc.property(anyText, (raw) => /^[a-z0-9_~-]{1,64}$/.test(segment(raw))));
});

t.test('gives the same segment for the same text, and different ones for texts that differ beyond case', async () => {
  fc.assert(
    fc.property(anyText, anyText, (a, b) => {
      // Lone surrogates have no UTF-8 form and all become U+FFFD.
      const isSame = Buffer.from(a.toLowerCase()).equals(Buffer.from(b.toLowerCase()));
      return (segment(a) === segment(b)) === (isSame || (isEmptyMark(a) && isEmptyMark(b)));
    }),
  );
});

/** '' is written "~", which no other text becomes. */
function isEmptyMark(text: string): boolean {
  return text === '';
}

t.test('shows an empty name as "~"', async (t) => {
  t.equal(segment(''), '~');
  t.not(segment('~'), '~');
});

t.test('cuts long segments to 64 characters and tells them apart by a digest', async (t) => {
  const long = 'x'.repeat(64);
  t.equal(segment(long), long, '64 characters stay as they are');
  t.match(segment(`${long}1`), /^x{55}~[0-9a-f]{8}$/);
  t.not(segment(`${long}1`), segment(`${long}2`));
  fc.assert(
    fc.property(fc.string({ minLength: 65, maxLength: 200 }), fc.string({ minLength: 65, maxLength: 200 }), (a, b) => {
      return a.toLowerCase() === b.toLowerCase() || segment(a) !== segment(b);
    }),
  );
});

t.test('makes ids of exactly three segments, from any text', async () => {
  fc.assert(
    fc.property(anyText, anyText, anyText, (source, device, name) => {
      const parts = channelId(source, device, name).split('/');
      return parts.length === 3 && parts.every((part) => part.length >= 1 && part.length <= 64);
    }),
  );
});

t.test('tells devices and names apart wherever the slash is', async (t) => {
  t.not(channelId('hwmon', 'a/b', 'c'), channelId('hwmon', 'a', 'b/c'));
});

const channel: Channel = {
  id: 'hwmon/coretemp-0/temp1',
  source: 'hwmon',
  device: 'coretemp-0',
  name: 'temp1',
  label: 'Package id 0',
  quantity: 'temperatureMilliCelsius',
  class: 'cpu',
  limits: { max: 80_000, critical: 100_000 },
  probe: { kind: 'integer', path: '/sys/class/hwmon/hwmon0/temp1_input' },
  rateHz: 10,
  domain: 'coretemp',
  path: 'class/hwmon/hwmon0/temp1_input',
};

t.test('writes value and limits in base units, outside', async (t) => {
  const reading: Reading = { value: -44_500, quality: 'ok', atMs: 1 };
  t.match(channelJson(channel, reading, Date.UTC(2026, 0, 2)), {
    quantity: 'temperature',
    unit: 'celsius',
    value: -44.5,
    quality: 'ok',
    limits: { max: 80, critical: 100 },
    timestamp: '2026-01-02T00:00:00.000Z',
  });
});

t.test('writes null, never a number, where there is no value', async (t) => {
  for (const quality of QUALITIES.filter((each) => each !== 'ok')) {
    t.equal(channelJson(channel, { value: null, quality, atMs: 1 }, 0).value, null);
  }
});

t.test('keeps the order that native code counts on', async (t) => {
  t.same(QUALITIES, ['ok', 'no_data', 'stale', 'fault', 'hung']);
  t.same(STATVFS_FIELDS, ['total_bytes', 'available_bytes', 'used_ppm', 'inodes_used_ppm']);
});
