import t, { type Test } from 'tap';
import { ChannelDictionary, MAX_CHANNELS } from '../../src/store/channel-dictionary.js';
import { Database, type Operation } from '../../src/store/database.js';
import { channelKey, chunkKey, minutesKey, PREFIX } from '../../src/store/keys.js';
import { Writer } from '../../src/store/writer.js';
import { recordingLog } from '../fixtures/logs.js';
import { channelNamed, HandClock } from '../fixtures/store-records.js';

const HOUR_MS = 3_600_000;
const NO_AUDIT = {
  waiting: false,
  seal: () => [],
  sealed: () => undefined,
  attach: () => Promise.resolve(),
};

async function opened(t: Test, dataDir = t.testdir()) {
  const log = recordingLog();
  const clock = new HandClock();
  const database = new Database(dataDir);
  await database.open();
  const writer = new Writer({ database, log, clock, onFresh: () => undefined });
  writer.start(NO_AUDIT);
  const dictionary = new ChannelDictionary({ database, writer, log });
  await dictionary.start();
  const close = async () => {
    await writer.stop();
    await database.close();
  };
  t.teardown(close);
  return { dictionary, database, writer, clock, log, close, dataDir };
}

t.test('a channel keeps its number, and what it is, over restarts', async (t) => {
  const first = await opened(t);
  const { wall } = first.clock;
  t.equal(first.dictionary.add(channelNamed('hwmon/a/temp1'), wall), 0);
  t.equal(first.dictionary.add(channelNamed('hwmon/b/temp1'), wall), 1);
  t.equal(first.dictionary.add(channelNamed('hwmon/a/temp1'), wall + 1), 0);
  const before = first.dictionary.all();
  await first.close();
  const { dictionary } = await opened(t, first.dataDir);
  t.equal(dictionary.numberOf('hwmon/b/temp1'), 1);
  t.equal(dictionary.numberOf('hwmon/c/temp1'), undefined);
  t.strictSame(dictionary.get(1), before[1]);
  t.match(before[0], {
    id: 'hwmon/a/temp1',
    source: 'hwmon',
    device: 'a',
    name: 'temp1',
    label: 'temp1',
    quantity: 'temperatureMilliCelsius',
    class: 'cpu',
    firstAtMs: wall,
    lastAtMs: wall + 1,
  });
  t.equal(dictionary.add(channelNamed('hwmon/c/temp1'), wall), 2);
});

t.test('an entry of format 1 keeps its number and is left out until the channel is seen again', async (t) => {
  const first = await opened(t);
  await first.database.write([{ type: 'put', key: channelKey(7), value: Buffer.from('hwmon/old/temp1') }], {
    sync: false,
  });
  await first.close();
  const second = await opened(t, first.dataDir);
  t.equal(second.dictionary.numberOf('hwmon/old/temp1'), 7);
  t.equal(second.dictionary.get(7), undefined);
  t.strictSame(second.dictionary.all(), []);
  second.dictionary.republish();
  await second.close();
  const third = await opened(t, first.dataDir);
  t.equal(third.dictionary.add(channelNamed('hwmon/old/temp1'), 1_000), 7, 'also after it was written again');
  t.match(third.dictionary.all(), [{ id: 'hwmon/old/temp1', firstAtMs: 1_000 }]);
  t.equal(third.dictionary.add(channelNamed('hwmon/new/temp1'), 1_000), 8);
});

t.test('a damaged entry is said, and its number is not given to another channel', async (t) => {
  const first = await opened(t);
  const entries = ['{"v":1,"record":{"id":3}}', '{"v":1,"rec', '', '{"v":99,"record":{}}', '{"v":1,"record":null}'];
  const operations = entries.map((text, i) => ({ type: 'put', key: channelKey(i), value: Buffer.from(text) }) as const);
  await first.database.write(operations, { sync: false });
  await first.close();
  const { dictionary, log } = await opened(t, first.dataDir);
  t.equal(log.lines.length, entries.length);
  t.match(log.lines[0], { fields: { event: 'store.damaged', code: 'SKOS_STORE_READ' } });
  t.equal(dictionary.add(channelNamed('hwmon/a/temp1'), 1), entries.length);
});

t.test('it is written when something about the channel changes, and once an hour', async (t) => {
  const { dictionary, writer } = await opened(t);
  const puts: number[] = [];
  t.intercept(writer, 'putRecord', { value: () => puts.push(0) });
  const channel = channelNamed('hwmon/a/temp1');
  for (let atMs = 0; atMs < HOUR_MS; atMs += 60_000) dictionary.add(channel, atMs);
  t.equal(puts.length, 1);
  dictionary.add(channel, HOUR_MS);
  t.equal(puts.length, 2);
  dictionary.add({ ...channel, label: 'CPU' }, HOUR_MS + 1);
  t.equal(puts.length, 3);
  dictionary.add({ ...channel, label: 'CPU' }, HOUR_MS + 2);
  t.equal(puts.length, 3);
});

t.test('a clock that was years ahead leaves no mark on when a channel was seen last', async (t) => {
  const { dictionary, clock } = await opened(t);
  const channel = channelNamed('hwmon/a/temp1');
  dictionary.add(channel, clock.wall + 1e12);
  dictionary.add(channel, clock.wall);
  t.match(dictionary.get(0), { firstAtMs: clock.wall, lastAtMs: clock.wall });
});

t.test('there are at most so many channels; what is beyond is said once', async (t) => {
  const { dictionary, log, close } = await opened(t);
  for (let i = 0; i < MAX_CHANNELS; i++) dictionary.add(channelNamed(`net/veth${i}/rx`), 1_000);
  t.equal(dictionary.add(channelNamed('net/one/more'), 2_000), undefined);
  t.equal(dictionary.add(channelNamed('net/two/more'), 2_000), undefined);
  t.equal(log.lines.length, 1);
  // So many entries are still being written: the directory must not be removed meanwhile.
  await close();
});

t.test(
  'a number under which there are samples is not given to another channel, whatever became of its entry',
  async (t) => {
    const first = await opened(t);
    first.dictionary.add(channelNamed('hwmon/a/temp1'), first.clock.wall);
    const put = (key: Buffer): Operation => ({ type: 'put', key, value: Buffer.from('x') });
    const address = { channel: 4, startAtMs: 1, run: 1, ordinal: 1 };
    await first.database.write([put(chunkKey(PREFIX.rawSeries, address)), put(minutesKey(6, 0))], { sync: true });
    await first.close();
    const { dictionary, clock } = await opened(t, first.dataDir);
    t.equal(dictionary.add(channelNamed('hwmon/a/temp1'), clock.wall), 0);
    t.equal(dictionary.add(channelNamed('hwmon/new/temp1'), clock.wall), 7);
  },
);

t.test('keys with numbers that nobody gave, or without one, are passed over', async (t) => {
  const first = await opened(t);
  first.dictionary.add(channelNamed('hwmon/a/temp1'), first.clock.wall);
  const keys = [
    channelKey(2 ** 32 - 1),
    Buffer.from('d'),
    Buffer.from('d\0'),
    Buffer.from('t\xff\xff\xff\xff', 'latin1'),
  ];
  const operations = keys.map((key): Operation => ({ type: 'put', key, value: Buffer.from('hwmon/b/temp1') }));
  await first.database.write(operations, { sync: true });
  await first.close();
  const { dictionary, clock, log } = await opened(t, first.dataDir);
  t.equal(dictionary.add(channelNamed('hwmon/new/temp1'), clock.wall), 1);
  t.equal(log.lines.length, 3);
});
