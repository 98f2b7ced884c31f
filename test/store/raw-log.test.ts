import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { mkdir, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { RawLog } from '../../src/store/raw-log.js';
import { recordingLog } from '../fixtures/logs.js';
import { CountingHead, counting, replayed, segmentsIn, storedChannel } from '../fixtures/raw-heads.js';
import { HandClock } from '../fixtures/store-records.js';

const HOUR_MS = 3_600_000;

function started(t: Test, { directory = join(t.testdir(), 'raw-log'), run = 1 } = {}) {
  const log = recordingLog();
  const clock = new HandClock();
  const rawLog = new RawLog({ directory, log, clock, describe: storedChannel });
  rawLog.start(run);
  t.teardown(() => rawLog.stop({ empty: false }));
  return { rawLog, directory, log, clock };
}

t.test('what heads grew by is appended, and put together again', async (t) => {
  const { rawLog, directory } = started(t);
  const heads = [new CountingHead(1), new CountingHead(2)];
  for (let flush = 0; flush < 20; flush++) {
    heads[0]?.grow(flush * 7);
    if (flush % 3 === 0) heads[1]?.grow(1);
    await rawLog.append(heads);
  }
  const files = await segmentsIn(directory);
  t.equal(files.length, 1);
  const { heads: found, done, lines } = await replayed(files);
  t.strictSame(
    found,
    new Map([
      [1, counting(1_330)],
      [2, counting(7)],
    ]),
  );
  t.strictSame(done, files);
  t.strictSame(lines, []);
});

t.test('a flush without anything new writes nothing', async (t) => {
  const { rawLog, directory } = started(t);
  await rawLog.append([]);
  await t.rejects(stat(directory), 'no directory is made for nothing');
  const heads = [new CountingHead(1).grow(10)];
  await rawLog.append(heads);
  const [path = ''] = await segmentsIn(directory);
  const { size } = await stat(path);
  await rawLog.append(heads);
  t.equal((await stat(path)).size, size);
});

t.test('files are for the agent alone', async (t) => {
  const { rawLog, directory } = started(t);
  await rawLog.append([new CountingHead(1).grow(1)]);
  const [path = ''] = await segmentsIn(directory);
  t.equal((await stat(path)).mode & 0o777, 0o600);
  t.equal((await stat(directory)).mode & 0o777, 0o700);
});

t.test('a new segment has all that is in memory, and the former one goes', async (t) => {
  const { rawLog, directory, clock } = started(t);
  const slow = new CountingHead(1).grow(100);
  const ended = new CountingHead(2).grow(100);
  await rawLog.append([slow, ended]);
  const [first] = await segmentsIn(directory);
  clock.advance(HOUR_MS + 31_000);
  slow.grow(5);
  // The other one is in the database by now.
  await rawLog.append([slow]);
  const files = await segmentsIn(directory);
  t.equal(files.length, 1);
  t.not(files[0], first);
  t.strictSame((await replayed(files)).heads, new Map([[1, counting(105)]]));
});

t.test('the log stays two segments small, whatever the heads hold', async (t) => {
  const { rawLog, directory } = started(t);
  let most = 0;
  let written = 0;
  let head = new CountingHead(1);
  for (let flush = 0; flush < 300; flush++) {
    if (head.count > 7_000) head = new CountingHead(1, { ordinal: flush });
    for (let n = 0; n < 400; n++) head.append(head.count, flush + n / 3, 0);
    await rawLog.append([
      head,
      ...Array.from({ length: 10 }, (_, i) => new CountingHead(i + 2, { ordinal: flush }).grow(3_000)),
    ]);
    const sizes = await Promise.all((await segmentsIn(directory)).map(async (path) => (await stat(path)).size));
    written += 33_000;
    most = Math.max(most, ...sizes);
    t.equal(sizes.length === 1, true);
  }
  t.ok(written > 2 * most, `${most} bytes at most of ${written}`);
  t.ok(most < 4.5 * 1024 * 1024);
});

t.test('whatever is cut off the end, what was flushed before is there, and the cut is no trouble', async (t) => {
  const { rawLog, directory } = started(t);
  const heads = [new CountingHead(1), new CountingHead(2)];
  for (const head of heads) head.grow(10);
  await rawLog.append(heads);
  const [path = ''] = await segmentsIn(directory);
  const flushed = (await readFile(path)).length;
  for (const head of heads) head.grow(10);
  await rawLog.append(heads);
  const whole = await readFile(path);
  const cut = join(t.testdir(), '1-1.log');
  for (let length = 0; length <= whole.length; length++) {
    await writeFile(cut, whole.subarray(0, length));
    const { heads: found, done, lines } = await replayed([cut]);
    const expected = length === whole.length ? 20 : length >= flushed ? 10 : undefined;
    const values = expected === undefined ? undefined : counting(expected);
    if (length === 0) t.strictSame(done, [cut]);
    for (const channel of [1, 2]) t.strictSame(found.get(channel), values, `${length} bytes`);
    t.strictSame(lines, []);
  }
});

t.test('no wrong byte makes a wrong sample, and what is intact before it is used', async (t) => {
  const { rawLog, directory } = started(t);
  const heads = [new CountingHead(1), new CountingHead(2)];
  const ends: number[] = [];
  for (let flush = 0; flush < 3; flush++) {
    for (const head of heads) head.grow(5);
    await rawLog.append(heads);
    const [path = ''] = await segmentsIn(directory);
    ends.push((await stat(path)).size);
  }
  const [path = ''] = await segmentsIn(directory);
  const whole = await readFile(path);
  const broken = join(t.testdir(), '1-1.log');
  for (let at = 0; at < whole.length; at++) {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
    await writeFile(broken, bytes);
    const { heads: found, done, lines } = await replayed([broken]);
    const intact = ends.findIndex((end) => at < end);
    for (const channel of [1, 2]) t.strictSame(found.get(channel) ?? [], counting(5 * intact), `byte ${at}`);
    // At its very beginning it may be anybody's file.
    if (done.length === 0) t.ok(at < 20 && lines.length === 1, `byte ${at}`);
  }
});

t.test('zeros behind the end, or in place of all, are what a power cut leaves', async (t) => {
  const { rawLog, directory } = started(t);
  await rawLog.append([new CountingHead(1).grow(10)]);
  const [path = ''] = await segmentsIn(directory);
  await rawLog.stop({ empty: false });
  await writeFile(path, Buffer.alloc(5_000), { flag: 'a' });
  const zeros = join(directory, '1-9.log');
  await writeFile(zeros, Buffer.alloc(5_000));
  const { heads, done, lines } = await replayed([path, zeros]);
  t.strictSame([heads, done, lines], [new Map([[1, counting(10)]]), [path, zeros], []]);
});

t.test('a name that is taken is left to whom it belongs', async (t) => {
  const directory = t.testdir({ '1-1.log': 'of an earlier life', '1-2.log': '' });
  const { rawLog } = started(t, { directory });
  t.equal((await rawLog.earlier()).length, 2);
  await rawLog.append([new CountingHead(1).grow(1)]);
  t.strictSame(
    (await segmentsIn(directory)).map((path) => path.slice(directory.length + 1)),
    ['1-1.log', '1-2.log', '1-3.log'],
  );
  t.equal(await readFile(join(directory, '1-1.log'), 'utf8'), 'of an earlier life');
});

t.test('earlier files are those of earlier runs only, in the order in which they were begun', async (t) => {
  const names = ['10-1.log', '9-2.log', '9-10.log', 'notes.txt', '9-10.log~', '-1.log', '1-1.log.gz'];
  const directory = t.testdir(Object.fromEntries(names.map((name) => [name, ''])));
  const { rawLog } = started(t, { directory, run: 11 });
  await rawLog.append([new CountingHead(1).grow(1)]);
  t.strictSame(
    await rawLog.earlier(),
    ['9-2.log', '9-10.log', '10-1.log'].map((name) => join(directory, name)),
  );
});

t.test(
  'while the log cannot be written it is said once, and the next flush that can begins anew with everything',
  async (t) => {
    const directory = join(t.testdir(), 'raw-log');
    const { rawLog, log, clock } = started(t, { directory });
    const head = new CountingHead(1).grow(10);
    await writeFile(directory, 'not a directory');
    for (let flush = 0; flush < 3; flush++) {
      await rawLog.append([head.grow(1)]);
      clock.advance(8_000);
    }
    t.match(log.lines, [{ level: 'error', fields: { event: 'store.raw_log', code: 'SKOS_STORE_WRITE' } }]);
    t.equal(log.lines.length, 1);
    t.not(rawLog.trouble(), '');
    await rm(directory);
    await rawLog.append([head.grow(1)]);
    t.match(log.lines[1], { level: 'warn', fields: { event: 'store.raw_log_recovered' } });
    t.equal(rawLog.trouble(), '');
    t.strictSame((await replayed(await segmentsIn(directory))).heads, new Map([[1, counting(14)]]));
  },
);

t.test('a torn tail is never appended to', async (t) => {
  const { rawLog, directory, log } = started(t);
  const head = new CountingHead(1).grow(10);
  await rawLog.append([head]);
  const [torn = ''] = await segmentsIn(directory);
  const file = await open(torn);
  const prototype = Object.getPrototypeOf(file);
  await file.close();
  const intercepted = t.intercept(prototype, 'datasync', { value: () => Promise.reject(new Error('EIO')) });
  await rawLog.append([head.grow(10)]);
  t.match(log.lines, [{ fields: { event: 'store.raw_log' } }]);
  const size = (await stat(torn)).size;
  await rawLog.append([head.grow(10)]);
  t.equal((await stat(torn)).size, size);
  t.strictSame(await segmentsIn(directory), [torn], 'an attempt that failed leaves no file');
  intercepted.restore();
  await rawLog.append([head.grow(10)]);
  const files = await segmentsIn(directory);
  t.equal(files.length, 1, 'and is replaced when a whole new segment is on disk');
  t.not(files[0], torn);
  t.strictSame((await replayed(files)).heads, new Map([[1, counting(40)]]));
});

t.test('held segments are kept until they were replayed', async (t) => {
  const { rawLog, directory, clock } = started(t);
  await rawLog.append([new CountingHead(1).grow(10)]);
  rawLog.hold();
  clock.advance(HOUR_MS + 31_000);
  await rawLog.append([new CountingHead(2).grow(10)]);
  t.equal(rawLog.kept().length, 0, 'the segment goes on: a new one would only repeat what is in memory');
  rawLog.renew();
  await rawLog.append([new CountingHead(3).grow(10)]);
  t.equal(rawLog.kept().length, 1);
  t.strictSame([...(await replayed(rawLog.kept())).heads.keys()], [1, 2]);
  for (const path of rawLog.kept()) await rawLog.remove(path);
  t.strictSame(rawLog.kept(), []);
  clock.advance(HOUR_MS + 31_000);
  await rawLog.append([new CountingHead(4).grow(10)]);
  t.equal((await segmentsIn(directory)).length, 1, 'from then on as before');
});

t.test('stopping with everything in the database leaves no file, otherwise all of them', async (t) => {
  for (const empty of [true, false]) {
    const { rawLog, directory } = started(t, { directory: join(t.testdir(), `${empty}`) });
    await rawLog.append([new CountingHead(1).grow(10)]);
    await rawLog.stop({ empty });
    await rawLog.stop({ empty });
    t.equal((await segmentsIn(directory)).length, empty ? 0 : 1);
  }
});

const TMPFS_BYTES = 256 * 1024;

function mounted(path: string): boolean {
  return spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${TMPFS_BYTES}`, 'skos-test', path]).status === 0;
}

function unmount(path: string): void {
  spawnSync('umount', ['-l', path]);
  rmdirSync(path);
}

function whyNot(): string | false {
  const path = mkdtempSync(join(tmpdir(), 'skos-raw-log-'));
  const done = mounted(path);
  unmount(path);
  return done ? false : 'mounting a tmpfs needs root and CAP_SYS_ADMIN';
}

t.test('a full disk stops the log, and space starts it again with everything', { skip: whyNot() }, async (t) => {
  const path = mkdtempSync(join(tmpdir(), 'skos-raw-log-'));
  t.teardown(() => unmount(path));
  t.ok(mounted(path));
  const directory = join(path, 'raw-log');
  await mkdir(directory);
  const { rawLog, log, clock } = started(t, { directory });
  const head = new CountingHead(1).grow(100);
  await rawLog.append([head]);
  const filler = join(path, 'filler');
  await writeFile(filler, Buffer.alloc(TMPFS_BYTES)).catch(() => undefined);
  let flushes = 0;
  for (; rawLog.trouble() === '' && flushes < 100; flushes++) await rawLog.append([head.grow(80)]);
  t.match(rawLog.trouble(), /ENOSPC/);
  for (let flush = 0; flush < 5; flush++) await rawLog.append([head.grow(80)]);
  t.equal(log.lines.length, 1);
  const { heads: found } = await replayed(await segmentsIn(directory));
  t.ok((found.get(1)?.length ?? 0) >= 100 + 80 * (flushes - 1), 'what was flushed is there all the while');
  clock.advance(60_000);
  await rm(filler);
  await rawLog.append([head]);
  t.equal(rawLog.trouble(), '');
  const files = await segmentsIn(directory);
  t.equal(files.length, 1);
  t.strictSame((await replayed(files)).heads.get(1), counting(head.count));
});
