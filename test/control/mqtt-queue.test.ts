import t from 'tap';
import { CurrentConfig } from '../../src/control/current-config.js';
import { MqttQueue } from '../../src/control/mqtt-queue.js';
import type { AuditEntry } from '../../src/core/ports.js';
import { MQTT_QUEUE } from '../../src/core/protocol.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { configOf } from '../fixtures/antibodies.js';
import { RecordingOutlet } from '../fixtures/control.js';
import { recordingLog } from '../fixtures/logs.js';
import { actionNamed, alertNamed, HandClock } from '../fixtures/store-records.js';

const URL = 'mqtt://127.0.0.1:1883';
const withUrl = (url: string | null) => ({ ...configOf(), mqtt: { ...configOf().mqtt, url } });

async function agent({ url = URL as string | null, store = memoryStore() } = {}) {
  const config = new CurrentConfig(withUrl(url));
  const outlet = new RecordingOutlet();
  const log = recordingLog();
  const queue = new MqttQueue({ bootId: 'boot-1', config, store, outlet, log });
  await queue.start();
  const reload = (next: string | null) => {
    config.replace(withUrl(next));
    queue.broadcast('net.config', {});
  };
  const waiting = async () => (await store.outbox.read(MQTT_QUEUE, 1_000)).map(({ kind }) => kind);
  return { queue, outlet, log, store, reload, waiting };
}

function memoryStore(): MemoryStore {
  return new MemoryStore({ clock: new HandClock(), why: 'a test', log: recordingLog() });
}

const entry = (seq: number): AuditEntry => ({
  seq,
  kind: 'a.b',
  who: 'agent',
  what: {},
  atMs: 1,
  previous: '',
  hash: '',
});

t.test('queues what must not be missed while mqtt.url is set, and tells the subscribers all the same', async (t) => {
  const { queue, outlet, store, waiting } = await agent();
  queue.broadcast('alert', alertNamed('a'));
  queue.broadcast('active', alertNamed('a'));
  queue.broadcast('command', actionNamed('c'));
  queue.broadcast('result', actionNamed('c'));
  queue.broadcast('audit', entry(1));
  queue.broadcast('peer', { state: 'online', atMs: 1, seq: 1, auditHead: { seq: 1, hash: '' } });
  t.strictSame(await waiting(), ['alert', 'command', 'result', 'audit']);
  t.match(await store.outbox.read(MQTT_QUEUE, 1), [{ data: { bootId: 'boot-1', data: { id: 'a' } } }]);
  t.equal(outlet.said.length, 6);
});

t.test('queues nothing without mqtt.url', async (t) => {
  const { queue, outlet, store, waiting } = await agent({ url: null });
  queue.broadcast('alert', alertNamed('a'));
  t.strictSame(await waiting(), []);
  t.strictSame(store.outbox.states(), []);
  t.equal(outlet.of('alert').length, 1);
});

t.test('begins with mqtt.url, keeps the queue for another address, and lets go of it when that is gone', async (t) => {
  const { queue, log, store, reload, waiting } = await agent({ url: null });
  reload(URL);
  queue.broadcast('alert', alertNamed('a'));
  reload('mqtt://127.0.0.1:1884');
  queue.broadcast('alert', alertNamed('b'));
  t.equal((await waiting()).length, 2);
  reload(null);
  t.strictSame(store.outbox.states(), []);
  t.ok(log.lines.some(({ fields }) => fields.event === 'outbox.removed'));
  queue.broadcast('alert', alertNamed('c'));
  reload(URL);
  t.strictSame(await waiting(), [], 'what happened in between is for nobody');
});

t.test('a queue that an earlier agent left is let go where mqtt.url is gone', async (t) => {
  const first = await agent();
  first.queue.broadcast('alert', alertNamed('a'));
  const second = await agent({ url: null, store: first.store });
  t.strictSame(await second.waiting(), []);
});

t.test('audit entries that a kill took from the queue are found in the chain at the next start', async (t) => {
  const store = memoryStore();
  const append = () => store.audit.append({ kind: 'alert.fire', who: 'agent', what: {} });
  await append();
  await append();
  const first = await agent({ store });
  t.strictSame(await first.waiting(), [], 'what was before the queue is not for it');
  first.queue.broadcast('audit', await append());
  await append(); // On disk, and the agent was killed before it was queued.
  await append();
  const second = await agent({ store });
  const seqs = async () =>
    (await store.outbox.read(MQTT_QUEUE, 100)).map(({ data }) => (data as { data: AuditEntry }).data.seq);
  t.strictSame(await seqs(), [3, 4, 5]);
  second.queue.broadcast('audit', await append());
  await agent({ store });
  t.strictSame(await seqs(), [3, 4, 5, 6], 'each once');
});

t.test(
  'starts where the disk hangs or fails, and an event that cannot be queued reaches the subscribers',
  async (t) => {
    for (const state of [() => new Promise(() => undefined), () => Promise.reject(new Error('disk on fire'))]) {
      const store = memoryStore();
      store.state = state;
      const { queue, outlet, log } = await agent({ store });
      store.outbox.put = () => {
        throw new RangeError('no room');
      };
      queue.broadcast('alert', alertNamed('a'));
      t.equal(outlet.of('alert').length, 1);
      t.ok(log.lines.some(({ level }) => level === 'error'));
    }
  },
);
