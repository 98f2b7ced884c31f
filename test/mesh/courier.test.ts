import t from 'tap';
import type { OutboxItem } from '../../src/core/ports.js';
import { Courier, PAGE_ITEMS } from '../../src/mesh/courier.js';
import type { Message } from '../../src/mesh/topics.js';
import { MEMORY_OUTBOX_LIMITS, MemoryOutboxShelf, OutboxQueues } from '../../src/store/outbox.js';
import { recordingLog } from '../fixtures/logs.js';
import { until } from '../fixtures/socket.js';
import { HandClock } from '../fixtures/store-records.js';

/** A broker that acknowledges as the test says. */
class FakeBus {
  listening = true;
  readonly arrived: string[] = [];
  answer: (payload: string) => Promise<void> = () => Promise.resolve();

  async deliver({ payload }: Message): Promise<void> {
    await this.answer(String(payload));
    this.arrived.push(String(payload));
  }
}

function carried({ messages = (item: OutboxItem): Message | undefined => messageOf(item) } = {}) {
  const log = recordingLog();
  const outbox = new OutboxQueues({
    shelf: new MemoryOutboxShelf(),
    limits: MEMORY_OUTBOX_LIMITS,
    clock: new HandClock(),
    log,
  });
  const bus = new FakeBus();
  const courier = new Courier({
    read: (limit) => outbox.read('mqtt', limit),
    take: async (position) => outbox.take('mqtt', position),
    messageOf: messages,
    bus,
    log,
  });
  const put = (n: number) => outbox.put('mqtt', { kind: 'alert', data: n });
  return { outbox, bus, courier, put, waiting: () => outbox.states()[0]?.waiting ?? 0 };
}

function messageOf({ data }: OutboxItem): Message {
  return { topic: 't', payload: String(data), retain: false, qos: 1 };
}

t.test('carries a backlog of several pages in order, and what is queued afterwards at once', async (t) => {
  const { bus, courier, put, waiting } = carried();
  t.teardown(() => courier.stop());
  const all = 3 * PAGE_ITEMS + 5;
  for (let n = 1; n <= all; n++) put(n);
  courier.start();
  courier.start();
  await until('all is there', () => waiting() === 0);
  put(all + 1);
  courier.poke();
  await until('the last one too', () => waiting() === 0, 1_000);
  t.strictSame(
    bus.arrived.map(Number),
    Array.from({ length: all + 1 }, (_, i) => i + 1),
    'each once',
  );
});

t.test('takes nothing that is not acknowledged, and goes on from there when the broker is back', async (t) => {
  const { bus, courier, put, waiting } = carried();
  t.teardown(() => courier.stop());
  for (let n = 1; n <= 10; n++) put(n);
  // It dies with the fifth: later ones get no answer either, although one of them was received.
  bus.answer = (payload) =>
    Number(payload) < 5 || payload === '7' ? Promise.resolve() : Promise.reject(new Error('gone'));
  courier.start();
  await until('four are taken', () => waiting() === 6);
  bus.listening = false;
  bus.answer = () => Promise.resolve();
  courier.poke();
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.equal(waiting(), 6, 'nothing is read for a broker that is away');
  bus.listening = true;
  courier.poke();
  await until('all is there', () => waiting() === 0);
  t.strictSame(bus.arrived.map(Number), [1, 2, 3, 4, 7, 5, 6, 7, 8, 9, 10]);
});

t.test('an item that can be no message does not hold up the others', async (t) => {
  const { bus, courier, put, waiting } = carried({
    messages: (item) => (item.seq % 2 === 0 ? undefined : messageOf(item)),
  });
  t.teardown(() => courier.stop());
  for (let n = 1; n <= 6; n++) put(n);
  courier.start();
  await until('all is there', () => waiting() === 0);
  t.strictSame(bus.arrived.map(Number), [1, 3, 5]);
});

t.test('what is on its way when it is stopped holds nothing up', async (t) => {
  const { bus, courier, put, waiting } = carried();
  put(1);
  bus.answer = () => new Promise(() => undefined);
  courier.start();
  await new Promise((resolve) => setTimeout(resolve, 20));
  courier.stop();
  courier.stop();
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.equal(waiting(), 1);
});
