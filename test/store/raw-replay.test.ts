import { spawnSync } from 'node:child_process';
import { mkdir, readFile, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { encodeChunk } from '../../src/store/chunk.js';
import { decodeStream } from '../../src/store/raw-head.js';
import { RawLog } from '../../src/store/raw-log.js';
import { BlockBuilder } from '../../src/store/raw-log-block.js';
import { Replay } from '../../src/store/raw-replay.js';
import { recordingLog } from '../fixtures/logs.js';
import { CountingHead, counting, rawKeyText, replayed, segmentsIn, storedChannel } from '../fixtures/raw-heads.js';
import { HandClock } from '../fixtures/store-records.js';

/** A segment with these heads, each in pieces of ten samples; what each flush appended. */
async function segment(directory: string, { run = 1, samples = 30, channels = [1, 2] } = {}) {
  const rawLog = new RawLog({ directory, log: recordingLog(), clock: new HandClock(), describe: storedChannel });
  rawLog.start(run);
  const heads = channels.map((channel) => new CountingHead(channel, { run }));
  for (let n = 0; n < samples; n += 10) {
    for (const head of heads) head.grow(10);
    await rawLog.append(heads);
  }
  await rawLog.stop({ empty: false });
  return heads;
}

const directoryOf = (t: Test) => join(t.testdir({}), 'raw-log');

function chunkOf(head: CountingHead, samples = head.count): Buffer {
  return encodeChunk(decodeStream(new CountingHead(head.address.channel).grow(samples).stream()));
}

t.test('what several runs left is found, each with its own heads', async (t) => {
  const directory = directoryOf(t);
  await segment(directory, { run: 1, channels: [1] });
  await segment(directory, { run: 2, channels: [2], samples: 50 });
  const files = await segmentsIn(directory);
  t.equal(files.length, 2);
  t.strictSame(
    (await replayed(files)).heads,
    new Map([
      [1, counting(30)],
      [2, counting(50)],
    ]),
  );
});

t.test(
  'a chunk that is in the database with as many samples or more stays; one with fewer, or damaged, is replaced',
  async (t) => {
    const directory = directoryOf(t);
    const [head, other] = await segment(directory);
    if (head === undefined || other === undefined) return;
    const files = await segmentsIn(directory);
    for (const [stored, expected] of [
      [chunkOf(head), undefined],
      [chunkOf(head, 31), undefined],
      [chunkOf(head, 29), counting(30)],
      [chunkOf(head, 5), counting(30)],
      [Buffer.from('rubbish'), counting(30)],
    ] as const) {
      const database = new Map([[rawKeyText(head.address), stored]]);
      const { heads, done } = await replayed(files, { database });
      t.strictSame([heads.get(1), heads.get(2)], [expected, counting(30)]);
      t.strictSame(done, files);
    }
  },
);

t.test('a head that is in memory still is left to it', async (t) => {
  const directory = directoryOf(t);
  await segment(directory);
  const { heads } = await replayed(await segmentsIn(directory), { isOpen: ({ channel }) => channel === 1 });
  t.strictSame([...heads.keys()], [2]);
});

t.test('the samples go to the number that the dictionary has for the channel now', async (t) => {
  const directory = directoryOf(t);
  await segment(directory);
  const numberOf = ({ name }: { name: string }) => (name === 'temp1' ? 77 : undefined);
  const { heads } = await replayed(await segmentsIn(directory), { numberOf });
  t.strictSame(heads, new Map([[77, counting(30)]]), 'and what has no number is passed over');
});

t.test('a piece that is missing ends its head, unless a later segment has the whole', async (t) => {
  const directory = directoryOf(t);
  const [head] = await segment(directory, { channels: [1] });
  const [path = ''] = await segmentsIn(directory);
  const whole = await readFile(path);
  const second = whole.indexOf('SKRL', 1);
  const third = whole.indexOf('SKRL', second + 1);
  await writeFile(path, Buffer.concat([whole.subarray(0, second), whole.subarray(third)]));
  t.strictSame((await replayed([path])).heads.get(1), counting(10));
  if (head === undefined) return;
  const builder = new BlockBuilder(1);
  builder.channel(1, storedChannel(1));
  builder.piece({ address: head.address, offset: 0, ...head.stream() });
  const later = join(directory, '1-2.log');
  await writeFile(later, builder.take());
  t.strictSame((await replayed([path, later])).heads.get(1), counting(30));
});

t.test('a damaged block in the middle is told, and heads that began behind it are whole', async (t) => {
  const directory = directoryOf(t);
  await segment(directory, { channels: [1], samples: 20 });
  const [path = ''] = await segmentsIn(directory);
  const bytes = await readFile(path);
  const second = bytes.indexOf('SKRL', 1);
  bytes[second + 25] = (bytes[second + 25] ?? 0) ^ 1;
  const builder = new BlockBuilder(1);
  builder.channel(2, storedChannel(2));
  const head = new CountingHead(2).grow(15);
  builder.piece({ address: head.address, offset: 0, ...head.stream() });
  await writeFile(path, Buffer.concat([bytes, builder.take()]));
  const { heads, lines } = await replayed([path]);
  t.strictSame(
    heads,
    new Map([
      [1, counting(10)],
      [2, counting(15)],
    ]),
  );
  t.match(lines, [{ fields: { event: 'store.damaged', code: 'SKOS_STORE_READ' } }]);
  t.equal(lines.length, 1);
});

t.test('a block that is intact and makes no sense is told, and ends nothing', async (t) => {
  const path = join(t.testdir({}), '1-1.log');
  const builder = new BlockBuilder(1);
  const address = { channel: 1, startAtMs: 1, run: 1, ordinal: 1 };
  builder.channel(1, storedChannel(1));
  builder.piece({ address, offset: 2 ** 31, count: 1, bytes: Buffer.of(0) });
  const good = new BlockBuilder(1);
  good.piece({ address, offset: 0, ...new CountingHead(1).grow(3).stream() });
  await writeFile(path, Buffer.concat([builder.take(), good.take()]));
  const { heads, lines } = await replayed([path]);
  t.strictSame(heads, new Map([[1, counting(3)]]));
  t.equal(lines.length, 1);
});

t.test('what is no segment of this version is said once each, left alone, and stops no other', async (t) => {
  const directory = directoryOf(t);
  await segment(directory);
  const [good = ''] = await segmentsIn(directory);
  const bytes = await readFile(good);
  const path = (name: string) => join(directory, name);
  await writeFile(path('2-1.log'), 'a text that somebody put here');
  const newer = Buffer.from(bytes);
  newer[4] = 2;
  await writeFile(path('2-2.log'), newer);
  await mkdir(path('2-3.log'));
  await symlink(good, path('2-4.log'));
  spawnSync('mkfifo', [path('2-5.log')]);
  await writeFile(path('2-6.log'), 'x');
  // A terabyte of nothing, behind something that looks right.
  await writeFile(path('2-7.log'), bytes);
  await truncate(path('2-7.log'), 2 ** 40);
  const files = [...(await segmentsIn(directory)), path('2-8.log')];
  const { heads, done, lines } = await replayed(files);
  t.strictSame(
    heads,
    new Map([
      [1, counting(30)],
      [2, counting(30)],
    ]),
  );
  t.strictSame(done, [good, path('2-6.log'), path('2-7.log')]);
  t.equal(lines.length, 6);
  for (const { fields } of lines) t.match(fields, { event: 'store.raw_log_skipped', code: 'SKOS_STORE_READ' });
  t.ok((await readFile(path('2-2.log'))).equals(newer));
});

t.test('more than fits into memory at once is taken in passes, each head once and whole', async (t) => {
  const directory = directoryOf(t);
  const rawLog = new RawLog({ directory, log: recordingLog(), clock: new HandClock(), describe: storedChannel });
  rawLog.start(1);
  const heads = Array.from({ length: 300 }, (_, channel) => {
    const head = new CountingHead(channel);
    for (let i = 0; i < 8_000; i++) head.append(i, i + 0.5, 0);
    return head;
  });
  await rawLog.append(heads);
  const { heads: found } = await replayed(await segmentsIn(directory));
  t.equal(found.size, 300);
  for (const values of found.values()) {
    if (values.length !== 8_000 || values[7_999] !== 7_999.5) t.fail('a head is not whole');
  }
  await rawLog.stop({ empty: true });
});

t.test('a replay that is interrupted and begun anew comes to the same', async (t) => {
  const directory = directoryOf(t);
  const channels = counting(20);
  await segment(directory, { channels });
  const files = await segmentsIn(directory);
  const database = new Map<string, Buffer>();
  for (let attempt = 0; attempt < 20; attempt++) {
    let left = 1;
    const replay = new Replay({
      log: recordingLog(),
      pause: () => Promise.resolve(),
      get: (key) => Promise.resolve(database.get(key.toString('latin1'))),
      numberOf: ({ name }) => Number(name.slice(4)),
      isOpen: () => false,
      put: (address, stream) => {
        if (left-- === 0) throw new Error('killed');
        if (database.has(rawKeyText(address))) t.fail('a chunk was put twice');
        database.set(rawKeyText(address), encodeChunk(decodeStream(stream)));
        return Promise.resolve();
      },
      stopped: () => false,
    });
    await replay.run(files).then(
      () => t.equal(attempt, 19),
      (error: Error) => t.equal(error.message, 'killed'),
    );
  }
  t.equal(database.size, 20);
});
