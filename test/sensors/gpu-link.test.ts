/** The agent's end of skos-gpu, against a stand-in that says what the contract says and what it forbids. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { mock } from 'node:test';
import t, { type Test } from 'tap';
import type { HardwareEvent, Region } from '../../src/core/ports.js';
import { GpuLink, type GpuLinkOptions } from '../../src/sensors/gpu-link.js';
import { recordingLog } from '../fixtures/logs.js';
import { until } from '../fixtures/until.js';

const ADDRESS = '0000:3b:00.0';
const CHANNELS = [
  {
    name: 'temperature',
    label: 'GPU',
    quantity: 'temperatureMilliCelsius',
    rateHz: 10,
    limits: { critical: 89_000 },
    thermalDefault: true,
  },
  { name: 'power', label: 'GPU power', quantity: 'powerMilliWatts', rateHz: 10 },
];

function description(channels: readonly unknown[] = CHANNELS, uuid = 'GPU-Ab12'): string {
  const device = { id: uuid, source: 'nvml', vendor: 'nvidia', address: ADDRESS, name: 'H200', uuid, driver: '580.1' };
  return JSON.stringify({ v: 1, device, channels });
}

/** A region whose readings a test sets. */
class FakeRegion implements Region {
  readonly description: string;
  readonly channelCount: number;
  overruns = 0;
  closed = false;
  quality: 'ok' | 'hung' = 'ok';
  readonly waiting: [number, number, number][] = [];

  constructor(text: string, channelCount = CHANNELS.length) {
    this.description = text;
    this.channelCount = channelCount;
  }

  latest(i: number) {
    return { value: this.quality === 'ok' ? 1000 + i : null, quality: this.quality, atMs: 5 };
  }

  refresh(): void {
    if (this.closed) throw new Error('read after close');
  }

  drain(each: (channel: number, value: number, quality: 'ok' | 'hung', atMs: number) => void): void {
    if (this.closed) throw new Error('read after close');
    for (const [index, value, atMs] of this.waiting.splice(0)) each(index, value, 'ok', atMs);
  }

  close(): void {
    this.closed = true;
  }
}

function link(t: Test, options: Partial<GpuLinkOptions> = {}) {
  const sent: string[] = [];
  const regions: FakeRegion[] = [];
  const next: FakeRegion[] = [];
  const events: HardwareEvent[] = [];
  const states: string[] = [];
  const clock = { nowMs: 1000, monotonicMs: () => clock.nowMs, wallMs: () => 1_700_000_000_000 + clock.nowMs };
  const counts = { changes: 0, crossings: 0, connects: 0 };
  const log = recordingLog();
  let onPacket: (packet: string | null, fd: number) => void = () => undefined;
  let answers = true;
  const gpus = new GpuLink({
    path: '/run/none',
    why: '',
    connect: (_path, listener) => {
      counts.connects += 1;
      onPacket = listener;
      return {
        send: (packet) => {
          sent.push(packet);
          const [seq] = packet.split(' ');
          if (answers) setImmediate(() => listener(`{"type":"reply","seq":${seq},"ok":true}`, -1));
          return 0;
        },
        close: () => undefined,
      };
    },
    openRegion: (fd) => {
      closeSync(fd);
      const region = next.shift() ?? new FakeRegion(description());
      regions.push(region);
      return region;
    },
    rates: () => ({ rateHz: 10, deadlineMs: 1000 }),
    onChange: () => {
      counts.changes += 1;
    },
    onCrossing: () => {
      counts.crossings += 1;
    },
    onState: (address, state) => states.push(`${address} ${state}`),
    onEvent: (event) => events.push(event),
    log,
    clock,
    ...options,
  });
  gpus.start();
  t.teardown(() => gpus.stop());
  const fd = () => openSync('/dev/null', 'r');
  return {
    gpus,
    sent,
    regions,
    next,
    events,
    states,
    clock,
    counts,
    lines: () => log.lines.filter(({ level }) => level !== 'debug'),
    mute: () => {
      answers = false;
    },
    say: (message: object, withFd = false) => onPacket(JSON.stringify(message), withFd ? fd() : -1),
    raw: (text: string | null, descriptor = -1) => onPacket(text, descriptor),
    serve: (state = 'serving', address = ADDRESS) =>
      onPacket(JSON.stringify({ type: 'device', address, source: 'nvml', state, why: '', region: true }), fd()),
    state: (state: string, why = '') =>
      onPacket(JSON.stringify({ type: 'device', address: ADDRESS, source: 'nvml', state, why, region: false }), -1),
  };
}

t.test('makes channels of what a region describes, and reads them under the indexes of one list', async (t) => {
  const node = link(t);
  node.serve();
  const [temperature, power] = node.gpus.channels;
  t.match(temperature, {
    id: 'nvml/gpu-ab12/temperature',
    class: 'gpu',
    limits: { critical: 89_000 },
    thermalDefault: true,
    probe: { kind: 'gpu', address: ADDRESS, index: 0 },
  });
  t.equal(node.counts.changes, 1, 'a new list is told');
  t.ok(temperature && power);
  const sampler = node.gpus.sampler([...node.gpus.channels].reverse(), []);
  sampler.start();
  node.regions[0]?.waiting.push([0, 91_000, 7], [1, 300_000, 8]);
  const seen: unknown[] = [];
  sampler.drain((...sample) => seen.push(sample));
  t.strictSame(seen, [
    [1, 91_000, 'ok', 7],
    [0, 300_000, 'ok', 8],
  ]);
  sampler.refresh();
  t.equal(sampler.latest(1).value, 1000);
});

t.test('goes on with the region of a fresh worker, and closes the old one', async (t) => {
  const node = link(t);
  node.serve();
  const sampler = node.gpus.sampler(node.gpus.channels, []);
  node.serve();
  t.equal(node.counts.changes, 1, 'the same channels are no new list');
  t.equal(node.regions[0]?.closed, true);
  node.regions[1]?.waiting.push([0, 50_000, 9]);
  const seen: unknown[] = [];
  sampler.drain((i, value) => seen.push([i, value]));
  t.strictSame(seen, [[0, 50_000]]);
});

t.test('reads nothing from a region that describes other channels than the list, and tells the new list', async (t) => {
  const node = link(t);
  node.serve();
  const sampler = node.gpus.sampler(node.gpus.channels, []);
  node.next.push(new FakeRegion(description([...CHANNELS].reverse())));
  node.serve();
  t.equal(node.counts.changes, 2);
  node.regions[1]?.waiting.push([0, 300_000, 9]);
  const seen: unknown[] = [];
  sampler.drain((i, value, quality) => seen.push([i, value, quality]));
  t.strictSame(seen, [
    [0, 0, 'no_data'],
    [1, 0, 'no_data'],
  ]);
});

t.test('says again and again that a detached GPU has no data, and that a hung one hangs', async (t) => {
  const node = link(t);
  node.serve();
  const sampler = node.gpus.sampler(node.gpus.channels, []);
  const drain = () => {
    const seen: string[] = [];
    sampler.drain((_i, _value, quality) => seen.push(quality));
    return seen;
  };
  const [region] = node.regions;
  t.ok(region);
  if (region === undefined) return;
  region.waiting.push([0, 1, 1]);
  t.strictSame(drain(), ['ok']);
  node.clock.nowMs += 600;
  t.strictSame(drain(), [], 'slow channels that are quiet are in order');
  region.quality = 'hung';
  t.strictSame(drain(), ['hung', 'hung']);
  t.strictSame(drain(), [], 'not at every look');
  node.clock.nowMs += 600;
  t.strictSame(drain(), ['hung', 'hung']);
  node.state('detached', 'by the operator');
  node.clock.nowMs += 600;
  t.strictSame(drain(), ['no_data', 'no_data']);
  t.equal(region.closed, true, 'its memory is given back');
  t.equal(node.gpus.channels.length, 2, 'its channels stay in the list');
  t.strictSame(node.gpus.notFound, [`gpu: ${ADDRESS}: detached: by the operator`]);
  t.strictSame(node.states, [`${ADDRESS} serving`, `${ADDRESS} detached`]);
  t.match(node.lines(), [{ fields: { event: 'gpu.serving' } }, { fields: { event: 'gpu.detached' } }]);
});

t.test('asks for its rates and its tripwires at each connection, and when a GPU is served', async (t) => {
  const node = link(t);
  node.serve();
  const wire = { channel: 0, raise: 90_000, clear: 85_000, samples: 2 };
  node.gpus.sampler(node.gpus.channels, [wire]).start();
  const wires = `wires ${ADDRESS} 0:90000:85000:2`;
  await until(() => node.sent.some((line) => line.endsWith(wires)));
  await until(() => node.sent.some((line) => line.endsWith(' configure 10000 1000')));
  node.sent.length = 0;
  node.raw(null);
  t.match(node.gpus.status(), { connected: false, gpus: [{ address: ADDRESS }] });
  await until(() => node.counts.connects === 2);
  await until(() => node.sent.some((line) => line.endsWith(' configure 10000 1000')));
  node.serve();
  await until(() => node.sent.some((line) => line.endsWith(wires)));
  node.say({ type: 'crossing', address: ADDRESS });
  t.equal(node.counts.crossings, 1);
});

t.test(
  'finds a GPU by address, name or UUID, or the beginning of one, and refuses what fits none or two',
  async (t) => {
    const node = link(t);
    node.serve();
    node.next.push(new FakeRegion(description(CHANNELS, 'GPU-Ab99')));
    node.serve('serving', '0000:5e:00.0');
    for (const id of [ADDRESS, '0000:3B', 'GPU-Ab12', 'gpu-ab1']) t.equal(node.gpus.addressOf(id), ADDRESS);
    await node.gpus.detach(ADDRESS);
    t.ok(node.sent.some((line) => line.endsWith(`detach ${ADDRESS}`)));
    t.throws(() => node.gpus.addressOf('GPU-Ab'), {
      code: 'SKOS_GPU_UNKNOWN',
      message: /fits 0000:3b:00\.0 and 0000:5e:00\.0/,
    });
    t.throws(() => node.gpus.addressOf('x'), { code: 'SKOS_GPU_UNKNOWN', message: /0000:3b:00\.0/ });
  },
);

t.test(
  'says of no GPU that it is served while skos-gpu is away, and takes its return for no return of the GPU',
  async (t) => {
    const node = link(t);
    node.serve();
    node.state('detached');
    node.raw(null);
    t.match(node.gpus.status(), { connected: false, gpus: [{ state: 'opening', why: /closed the connection/ }] });
    t.equal(node.gpus.reading(ADDRESS, 'power'), undefined);
    await until(() => node.counts.connects === 2);
    node.serve();
    t.strictSame(
      node.states.map((line) => line.split(' ')[1]),
      ['serving', 'detached', 'opening', 'serving'],
    );
  },
);

t.test('gives the latest reading of a channel by its name, and none while the GPU is not served', async (t) => {
  const node = link(t);
  t.equal(node.gpus.reading(ADDRESS, 'power'), undefined, 'of a GPU that nobody knows');
  node.next.push(new FakeRegion(description(), 1));
  node.serve();
  t.equal(node.gpus.reading(ADDRESS, 'power'), undefined, 'that its region has no room for');
  node.serve();
  t.match(node.gpus.reading(ADDRESS, 'power'), { value: 1001, quality: 'ok' });
  t.equal(node.gpus.reading(ADDRESS, 'recovery_action'), undefined, 'that it does not have');
  node.state('detached');
  t.equal(node.gpus.reading(ADDRESS, 'power'), undefined);
});

t.test('a GPU that a restarted skos-gpu does not name any more is gone, and one that it names is not', async (t) => {
  const node = link(t);
  node.serve();
  node.next.push(new FakeRegion(description(CHANNELS, 'GPU-Ab99')));
  node.serve('serving', '0000:5e:00.0');
  node.say({ type: 'listed' });
  t.equal(node.gpus.channels.length, 2 * CHANNELS.length);
  node.raw(null);
  await until(() => node.counts.connects === 2);
  node.serve();
  t.equal(node.gpus.channels.length, 2 * CHANNELS.length, 'not before all was named');
  node.say({ type: 'listed' });
  t.match(node.gpus.status().gpus, [
    { address: ADDRESS, state: 'serving' },
    { address: '0000:5e:00.0', state: 'gone' },
  ]);
  t.equal(node.gpus.channels.length, CHANNELS.length);
  t.equal(node.counts.changes, 3);
});

t.test('says what the library says now, not what it said once', async (t) => {
  const node = link(t);
  node.say({ type: 'library', source: 'nvml', state: 'failed', why: 'nvmlInit_v2: Driver Not Loaded (9)' });
  t.match(node.gpus.notFound, [/Not Loaded/]);
  node.say({ type: 'library', source: 'nvml', state: 'ok', why: '', version: '580' });
  t.strictSame(node.gpus.notFound, []);
});

t.test('a request that waits is refused when the connection is lost', async (t) => {
  const node = link(t);
  node.serve();
  await new Promise((resolve) => setTimeout(resolve, 20));
  node.mute();
  const asked = node.gpus.detach(ADDRESS);
  node.raw(null);
  await t.rejects(asked, { code: 'SKOS_GPU_REFUSED' });
});

t.test('leaves out the second of two GPUs that claim one identity', async (t) => {
  const node = link(t);
  node.serve();
  node.serve('serving', '0000:5e:00.0');
  t.equal(node.gpus.channels.length, CHANNELS.length);
  t.equal(node.gpus.status().gpus.length, 2);
});

t.test('keeps a bound on what a broken skos-gpu says there is', async (t) => {
  const node = link(t);
  for (let i = 0; i < 200; i++) {
    node.say({ type: 'library', source: `library${i}`, state: 'ok' });
    node.say({ type: 'device', address: `0000:${i}`, source: 'nvml', state: 'failed', why: '', region: false });
  }
  const { libraries, gpus } = node.gpus.status();
  t.ok(libraries.length <= 8);
  t.ok(gpus.length <= 64);
  node.say({ type: 'library', source: 'library0', state: 'hung' });
  t.equal(node.gpus.status().libraries[0]?.state, 'hung', 'those it knows it keeps');
});

t.test('hands on what the driver announced', async (t) => {
  const node = link(t);
  node.say({ type: 'event', address: ADDRESS, event: { kind: 'xid', code: 79, gpuInstance: 3 }, atMs: 5 });
  t.match(node.events, [
    { kind: 'xid', code: 79, origin: 'nvml', address: ADDRESS, detail: { gpuInstance: '3' }, count: 1 },
  ]);
});

t.test('survives every malformed message, closes its descriptor, and says so', async (t) => {
  const node = link(t);
  const open = openSync('/dev/null', 'r');
  const malformed = [
    'x',
    '{}',
    'null',
    '{"type":"device"}',
    '{"type":"device","address":"../..","source":"nvml","state":"serving","why":"","region":true}',
    '{"type":"device","address":"0000:3b:00.0","source":"nvml","state":"happy","why":""}',
    '{"type":"event","event":{"kind":"A B"}}',
    '{"type":"details","address":"0000:3b:00.0","details":{"processes":7}}',
    '{"type":"reply","seq":-1,"ok":true}',
  ];
  for (const text of malformed) node.raw(text);
  t.equal(node.lines().length, malformed.length);
  node.raw('garbage', open);
  t.throws(() => fstatSync(open), { code: 'EBADF' });
  const unasked = openSync('/dev/null', 'r');
  node.raw('{"type":"uevent"}', unasked);
  t.throws(() => fstatSync(unasked), { code: 'EBADF' }, 'a descriptor that nobody asked for');
  node.raw('{"type":"of-a-newer-version"}');
  t.equal(node.lines().length, malformed.length + 1);
  for (const text of ['', 'x', '{"device":{}}', description([{ name: 'x', quantity: 'mood', rateHz: 1 }])]) {
    node.next.push(new FakeRegion(text));
    node.serve();
    t.equal(node.regions.at(-1)?.closed, true, 'a region that describes nonsense is given back');
  }
  t.strictSame(node.gpus.channels, []);
});

t.test('is quiet about a skos-gpu that is not there: one line for each reason', async (t) => {
  let attempts = 0;
  const node = link(t, {
    connect: () => {
      attempts += 1;
      throw new Error('nothing answers');
    },
  });
  await until(() => attempts >= 3);
  t.match(node.lines(), [{ level: 'info', fields: { event: 'gpu.unread' } }]);
  t.match(node.gpus.notFound, [/nothing answers/]);
  await t.rejects(node.gpus.detach(ADDRESS), { code: 'SKOS_GPU_ABSENT' });
});

t.test('notices a skos-gpu that does not answer, tells it once, and lets it be replaced', async (t) => {
  mock.timers.enable({ apis: ['setInterval', 'setTimeout'] });
  t.teardown(() => mock.timers.reset());
  let silences = 0;
  const node = link(t, { onSilent: () => (silences += 1) });
  node.serve();
  const pass = async (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      mock.timers.tick(1_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await pass(30);
  t.equal(silences, 0, 'who answers is not silent');
  node.mute();
  await pass(30);
  t.ok(silences > 0);
  t.equal(node.lines().filter(({ fields }) => fields.event === 'gpu.silent').length, 1);
  t.equal(node.gpus.status().gpus[0]?.state, 'serving', 'its readings may go on');
  const before = silences;
  node.raw(null);
  await pass(30);
  t.ok(silences > before, 'one that never answers at all, too');
});
