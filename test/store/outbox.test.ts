import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { Operation, ScanOptions } from '../../src/store/database.js';
import { Database } from '../../src/store/database.js';
import { outboxKey } from '../../src/store/keys.js';
import { MemoryOutboxShelf, OUTBOX_LIMITS, type OutboxLimits, OutboxQueues } from '../../src/store/outbox.js';
import { openStore } from '../../src/store/store.js';
import { Writer } from '../../src/store/writer.js';
import { recordingLog } from '../fixtures/logs.js';
import { HandClock } from '../fixtures/store-records.js';

const item = (n: number) => ({ kind: 'alert', data: { n } });
const numbers = (items: readonly { data: unknown }[]) => items.map(({ data }) => (data as { n: number }).n);
const upTo = (n: number, from = 1) => Array.from({ length: n - from + 1 }, (_, i) => from + i);

async function opened(t: Test, dataDir = t.testdir()) {
  const log = recordingLog();
  const store = await openStore({ dataDir, log, clock: new HandClock() });
  t.teardown(() => store.stop());
  return { store, outbox: store.outbox, dataDir, log };
}

function inMemory(limits: OutboxLimits = OUTBOX_LIMITS, shelf = new MemoryOutboxShelf()) {
  const log = recordingLog();
  return { outbox: new OutboxQueues({ shelf, limits, clock: new HandClock(), log }), log, shelf };
}

t.test('hands out the same items, in order, until they are taken', async (t) => {
  const { outbox } = await opened(t);
  for (const n of upTo(5)) outbox.put('mqtt', item(n));
  const first = await outbox.read('mqtt', 3);
  t.strictSame(numbers(first), [1, 2, 3]);
  t.strictSame(await outbox.read('mqtt', 3), first, 'reading changes nothing');
  const [, second] = first;
  if (second === undefined) throw new Error('nothing there');
  outbox.take('mqtt', second);
  t.strictSame(numbers(await outbox.read('mqtt', 100)), [3, 4, 5]);
  outbox.take('mqtt', second);
  t.match(outbox.states(), [{ queue: 'mqtt', waiting: 3, takenSeq: 2, lastSeq: 5, dropped: 0 }], 'taken twice is once');
  t.strictSame(await outbox.read('nobody', 10), []);
});

t.test('ignores a take of what it never gave', async (t) => {
  const { outbox } = await opened(t);
  outbox.put('mqtt', item(1));
  const [first] = await outbox.read('mqtt', 1);
  const epoch = first?.epoch ?? '';
  for (const seq of [2, -1, 0, 1.5, Number.NaN, Number.MAX_SAFE_INTEGER]) outbox.take('mqtt', { epoch, seq });
  outbox.take('mqtt', { epoch: 'another', seq: 1 });
  outbox.take('nobody', { epoch, seq: 1 });
  t.match(outbox.states(), [{ waiting: 1, takenSeq: 0 }]);
});

t.test('goes on after a restart with what was not taken, under the same numbers', async (t) => {
  const { store, outbox, dataDir } = await opened(t);
  for (const n of upTo(300)) outbox.put('mqtt', item(n));
  const page = await outbox.read('mqtt', 120);
  const last = page.at(-1);
  if (last === undefined) throw new Error('nothing there');
  outbox.take('mqtt', last);
  await store.stop();
  const again = await opened(t, dataDir);
  t.match(again.outbox.states(), [{ waiting: 180, takenSeq: 120, lastSeq: 300, dropped: 0 }]);
  const rest = await again.outbox.read('mqtt', 1_000);
  t.strictSame(numbers(rest), upTo(300, 121));
  t.strictSame([rest[0]?.seq, rest[0]?.epoch], [121, last.epoch]);
  again.outbox.put('mqtt', item(301));
  t.equal((await again.outbox.read('mqtt', 1_000)).at(-1)?.seq, 301, 'a number is never given twice');
});

t.test('keeps the numbers of a queue that was emptied', async (t) => {
  const { store, outbox, dataDir } = await opened(t);
  outbox.put('mqtt', item(1));
  const [first] = await outbox.read('mqtt', 1);
  if (first === undefined) throw new Error('nothing there');
  outbox.take('mqtt', first);
  await store.stop();
  const again = await opened(t, dataDir);
  again.outbox.put('mqtt', item(2));
  t.match(await again.outbox.read('mqtt', 1), [{ seq: 2, epoch: first.epoch }]);
});

t.test('drops the oldest beyond the bound of items or bytes, counts them over restarts and says so once', async (t) => {
  for (const limits of [
    { items: 100, bytes: 1_000_000 },
    { items: 1_000_000, bytes: 7_500 },
  ]) {
    const { outbox, log, shelf } = inMemory(limits);
    for (const n of upTo(1_000)) outbox.put('mqtt', item(n));
    const [state] = outbox.states();
    if (state === undefined) throw new Error('no queue');
    t.equal(state.waiting + state.dropped, 1_000);
    t.ok(state.waiting <= limits.items && state.bytes <= limits.bytes && state.waiting > 50, `${state.waiting} wait`);
    t.strictSame(numbers(await outbox.read('mqtt', 10_000)), upTo(1_000, state.dropped + 1));
    t.equal(log.lines.filter(({ fields }) => fields.event === 'outbox.dropped').length, 1);
    const reborn = inMemory(limits, shelf);
    await reborn.outbox.start({ scan: (options: ScanOptions) => scanOf(shelf, options) });
    t.match(reborn.outbox.states(), [{ waiting: state.waiting, dropped: state.dropped, lastSeq: 1_000 }]);
    t.equal(
      (await shelf.range({ gte: Buffer.from('o'), lt: Buffer.from('p'), limit: 1e9 })).length,
      state.waiting,
      'the rest is deleted',
    );
  }
});

async function* scanOf(
  shelf: MemoryOutboxShelf,
  options: ScanOptions,
): AsyncGenerator<[Buffer, Buffer], void, undefined> {
  yield* await shelf.range({ ...options, limit: Number.MAX_SAFE_INTEGER });
}

t.test('reads thousands in pages that have a bound in bytes too', async (t) => {
  const { outbox } = inMemory();
  const long = 'x'.repeat(50_000);
  for (const n of upTo(100)) outbox.put('mqtt', { kind: 'alert', data: { n, long } });
  const read: number[] = [];
  for (;;) {
    const page = await outbox.read('mqtt', 5_000);
    const last = page.at(-1);
    if (last === undefined) break;
    t.ok(JSON.stringify(page).length < 2 * 1024 * 1024, 'fits a line of the socket');
    read.push(...numbers(page));
    outbox.take('mqtt', last);
  }
  t.strictSame(read, upTo(100));
});

t.test('an item too large for anybody is dropped and does not hold up the others', async (t) => {
  const { outbox } = inMemory();
  outbox.put('mqtt', { kind: 'audit', data: { n: 1, long: 'x'.repeat(200_000) } });
  outbox.put('mqtt', item(2));
  t.match(outbox.states(), [{ waiting: 1, dropped: 1 }]);
  t.match(await outbox.read('mqtt', 10), [{ seq: 2 }]);
});

t.test('a queue that is removed lets go of everything, and goes on counting when it is wanted again', async (t) => {
  const { store, outbox, dataDir } = await opened(t);
  for (const n of upTo(1_500)) outbox.put('mqtt', item(n));
  t.equal(outbox.remove('mqtt'), 1_500);
  t.equal(outbox.remove('mqtt'), 0);
  t.strictSame(outbox.states(), []);
  t.strictSame(await outbox.read('mqtt', 10), []);
  await store.stop();
  const again = await opened(t, dataDir);
  t.strictSame(again.outbox.states(), [], 'also after a restart');
  for (let i = 0; i < 10; i++) again.outbox.trim();
  again.outbox.put('mqtt', item(1_501));
  t.match(await again.outbox.read('mqtt', 10), [{ seq: 1_501 }]);
  await again.store.stop();
  const database = new Database(dataDir);
  await database.open();
  t.teardown(() => database.close());
  let stored = 0;
  for await (const _ of database.scan({ gte: Buffer.from('o'), lt: Buffer.from('p') })) stored++;
  t.equal(stored, 1, 'nothing is left on disk');
});

t.test('refuses what only a mistake can ask for', async (t) => {
  const { outbox } = inMemory();
  t.throws(() => outbox.put('', item(1)), RangeError);
  t.throws(() => outbox.put('a\0b', item(1)), RangeError);
  t.throws(() => outbox.put('mqtt', { kind: 'alert', data: undefined }), RangeError);
  for (let i = 0; i < 16; i++) outbox.put(`q${i}`, item(1));
  t.throws(() => outbox.put('one-more', item(1)), RangeError);
});

t.test('what is damaged on disk is counted and does not hold up what stands behind it', async (t) => {
  const { store, outbox, dataDir } = await opened(t);
  for (const n of upTo(6)) outbox.put('mqtt', item(n));
  await store.stop();
  const database = new Database(dataDir);
  await database.open();
  await database.write(
    [
      { type: 'put', key: outboxKey('mqtt', 2), value: Buffer.from('{"v":1,"rec') },
      { type: 'put', key: outboxKey('mqtt', 3), value: Buffer.from('{"v":9,"record":{}}') },
      { type: 'del', key: outboxKey('mqtt', 5) },
    ],
    { sync: true },
  );
  await database.close();
  const again = await opened(t, dataDir);
  t.strictSame(numbers(await again.outbox.read('mqtt', 10)), [1, 4, 6]);
  t.match(again.outbox.states(), [{ waiting: 3, dropped: 3 }]);
});

t.test('a queue whose numbers are lost keeps what waits, in an epoch of its own', async (t) => {
  const { store, outbox, dataDir } = await opened(t);
  for (const n of upTo(3)) outbox.put('mqtt', item(n));
  const former = outbox.states()[0]?.epoch;
  await store.stop();
  const database = new Database(dataDir);
  await database.open();
  await database.write([{ type: 'put', key: Buffer.from('Omqtt'), value: Buffer.from('garbage') }], { sync: true });
  await database.close();
  const again = await opened(t, dataDir);
  const items = await again.outbox.read('mqtt', 10);
  t.strictSame(numbers(items), [1, 2, 3]);
  t.not(items[0]?.epoch, former, 'nobody takes them for repeats');
  t.ok(again.log.lines.some(({ fields }) => fields.event === 'store.damaged'));
});

t.test(
  'while the disk takes nothing, what does not fit into memory goes, counted, and takes no room of records',
  async (t) => {
    const database = new Database(t.testdir());
    await database.open();
    t.teardown(() => database.close());
    const log = recordingLog();
    const clock = new HandClock();
    let outbox: OutboxQueues | undefined;
    const onQueuedDrop = (operation: Operation) => outbox?.dropped(operation);
    // Never started: as a disk that hangs.
    const writer = new Writer({ database, log, clock, onFresh: () => undefined, onQueuedDrop });
    const shelf = {
      put: (o: Operation) => writer.putQueued(o),
      range: (o: ScanOptions & { limit: number }) => writer.range(o),
    };
    outbox = new OutboxQueues({ shelf, limits: OUTBOX_LIMITS, clock, log });
    writer.putRecord({ type: 'put', key: Buffer.from('e-first'), value: Buffer.from('an alert') });
    for (const n of upTo(9_000)) outbox.put('mqtt', { kind: 'alert', data: { n, text: 'x'.repeat(500) } });
    const [state] = outbox.states();
    if (state === undefined) throw new Error('no queue');
    t.equal(state.waiting + state.dropped, 9_000);
    t.ok(state.dropped > 5_000 && state.waiting > 500, `${state.waiting} wait`);
    t.strictSame(numbers(await outbox.read('mqtt', 10_000)).length > 0, true, 'and can be read');
    t.equal(numbers(await outbox.read('mqtt', 1))[0], state.dropped + 1, 'the oldest went');
    t.ok(await writer.get(Buffer.from('e-first')), 'the record is there still');
  },
);

t.test('an alert that was put before an acknowledged audit entry survives kill -9', { timeout: 30_000 }, async (t) => {
  const dataDir = t.testdir();
  const program = fileURLToPath(new URL('../fixtures/outbox-putter.js', import.meta.url));
  let total = 0;
  for (const killAfter of [5, 40, 90]) {
    const child = spawn(process.execPath, [program, dataDir], { stdio: ['ignore', 'pipe', 'inherit'] });
    let acknowledged = 0;
    let rest = '';
    child.stdout.on('data', (chunk) => {
      const lines = (rest + String(chunk)).split('\n');
      rest = lines.pop() ?? '';
      acknowledged = Number(lines.at(-1) ?? acknowledged);
      if (acknowledged >= killAfter) child.kill('SIGKILL');
    });
    await new Promise((resolve) => child.once('close', resolve));
    const { store, outbox } = await opened(t, dataDir);
    const items = await outbox.read('mqtt', 100_000);
    const own = numbers(items).slice(total);
    t.ok(own.length >= acknowledged, `${acknowledged} acknowledged, ${own.length} there`);
    t.strictSame(own, upTo(own.length), 'none is missing in between');
    t.strictSame(
      items.map(({ seq }) => seq),
      upTo(items.length),
    );
    total = items.length;
    await store.stop();
  }
});
