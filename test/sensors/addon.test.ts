import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, closeSync, mkdtempSync, openSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { constants, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { Channel, FileProbe } from '../../src/core/channel.js';
import { systemClock } from '../../src/core/clock.js';
import type { Region, Tripwire } from '../../src/core/ports.js';
import { type Crossing, loadAddon, type PeerCredentials, type SamplerSettings } from '../../src/sensors/addon.js';
import { HUNG_AFTER_MS, regionWriter } from '../fixtures/region-writer.js';
import { datagramPeer, seqPacketPeer } from '../fixtures/unix-peers.js';
import { until } from '../fixtures/until.js';

const CHILD = fileURLToPath(new URL('../fixtures/addon-child.js', import.meta.url));
const { errno } = constants;
const addon = loadAddon();

/** A short path, because a Unix address holds 107 bytes. */
function shortDirectory(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'skos-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return directory;
}

/** As the kernel changes a value: whole, or not at all. */
function write(path: string, content: string): string {
  writeFileSync(`${path}.new`, content);
  renameSync(`${path}.new`, path);
  return path;
}

function channel(probe: FileProbe, more: Partial<Channel> = {}): Channel {
  return {
    id: 'test/device/value',
    source: 'test',
    device: 'device',
    name: 'value',
    label: 'value',
    quantity: 'temperatureMilliCelsius',
    class: 'cpu',
    limits: {},
    probe,
    rateHz: 200,
    domain: 'test',
    path: probe.path,
    ...more,
  };
}

function sampler(
  t: Test,
  channels: readonly Channel[],
  { tripwires = [], ...settings }: Partial<SamplerSettings> & { tripwires?: readonly Tripwire[] } = {},
) {
  const made = addon.createSampler(channels, tripwires, {
    readDeadlineMs: 1000,
    onCrossing: () => undefined,
    ...settings,
  });
  t.teardown(() => made.stop());
  return made;
}

function codeOf(action: () => unknown): unknown {
  try {
    action();
    return undefined;
  } catch (thrown) {
    return (thrown as { code?: unknown }).code;
  }
}

t.test('reads every kind of probe, in order, with quality and monotonic time', async (t) => {
  const directory = t.testdir({ temp: '-44000\n', garbage: 'n/a\n', fields: 'key: 7 kB\nsome avg10=0.25\n' });
  const at = (name: string) => join(directory, name);
  const made = sampler(t, [
    channel({ kind: 'integer', path: at('temp') }),
    channel({ kind: 'integer', path: at('garbage') }),
    channel({ kind: 'integer', path: at('absent') }),
    channel({ kind: 'field', path: at('fields'), key: 'key:', column: 1, multiplier: 1024 }),
    channel({ kind: 'field', path: at('fields'), key: 'some', column: 1, multiplier: 10_000, offset: 1 }),
    channel({ kind: 'statvfs', path: directory, field: 'total_bytes' }),
    channel({ kind: 'cpu_busy', path: '/proc/stat', key: 'cpu' }, { rateHz: 10 }),
  ]);
  const before = systemClock.monotonicMs();
  made.refresh();
  t.same(made.latest(0), { value: null, quality: 'no_data', atMs: 0 }, 'nothing is invented before the first read');
  made.start();
  await until(() => {
    made.refresh();
    return made.latest(6).quality === 'ok';
  });
  const readings = made.channels.map((_, i) => made.latest(i));
  t.same(
    readings.map(({ quality }) => quality),
    ['ok', 'fault', 'no_data', 'ok', 'ok', 'ok', 'ok'],
  );
  t.same(
    readings.slice(0, 5).map(({ value }) => value),
    [-44_000, null, null, 7168, 2501],
  );
  t.ok((readings[6]?.value ?? -1) >= 0 && (readings[6]?.value ?? 2e6) <= 1e6);
  const atMs = readings[0]?.atMs ?? 0;
  t.ok(atMs >= before && atMs <= systemClock.monotonicMs(), 'the clock is that of core/clock');
  t.equal(
    codeOf(() => made.latest(7)),
    'SKOS_SAMPLER_SPEC',
  );
});

t.test('drains every sample once, in order of time, and counts what was lost', async (t) => {
  const path = write(join(t.testdir({}), 'value'), '5\n');
  const channels = [channel({ kind: 'integer', path }), channel({ kind: 'integer', path }, { rateHz: 50 })];
  const made = sampler(t, channels);
  made.start();
  const newest = [0, 0];
  const counts = [0, 0];
  let wrong = 0;
  const look = () =>
    made.drain((index, value, quality, atMs) => {
      if (!(atMs > (newest[index] ?? Infinity)) || value !== 5 || quality !== 'ok') wrong++;
      newest[index] = atMs;
      counts[index] = (counts[index] ?? 0) + 1;
    });
  await until(() => {
    look();
    return (counts[1] ?? 0) >= 10;
  });
  t.equal(wrong, 0);
  t.ok((counts[0] ?? 0) > (counts[1] ?? 0) * 2, 'each channel has a rate of its own');
  t.equal(made.overruns, 0);
  const small = sampler(t, [channel({ kind: 'integer', path }, { rateHz: 1000 })], { ringRecords: 8 });
  small.start();
  await until(() => small.overruns > 0);
  small.stop();
  let left = 0;
  small.drain(() => left++);
  t.equal(left, 8);
});

t.test('tells of a crossing after its data, raised and cleared', async (t) => {
  const path = write(join(t.testdir({}), 'value'), '50000\n');
  const seen: (Crossing & { latest: unknown })[] = [];
  const made = sampler(t, [channel({ kind: 'integer', path })], {
    tripwires: [{ channel: 0, raise: 80_000, clear: 70_000, samples: 2 }],
    onCrossing: (crossings, lost) => {
      made.refresh();
      t.equal(lost, 0);
      for (const crossing of crossings) seen.push({ ...crossing, latest: made.latest(0).value });
    },
  });
  made.start();
  write(path, '90000\n');
  await until(() => seen.length === 1);
  rmSync(path);
  await until(() => {
    made.refresh();
    return made.latest(0).quality === 'no_data';
  });
  t.equal(seen.length, 1, 'a sensor that is gone is not a recovery');
  write(path, '-1000\n');
  await until(() => seen.length === 2);
  t.match(seen, [
    { tripwire: 0, channel: 0, raised: true, reading: { value: 90_000, quality: 'ok' }, latest: 90_000 },
    { tripwire: 0, channel: 0, raised: false, reading: { value: -1000, quality: 'ok' }, latest: -1000 },
  ]);
});

t.test('refuses what it cannot take, with a code', async (t) => {
  const good = channel({ kind: 'integer', path: '/proc/stat' });
  const wrong: unknown[][] = [
    [[{}], []],
    ['channels', []],
    [[channel({ kind: 'integer', path: 'relative' })], []],
    [[channel({ kind: 'integer', path: '/with\0nul' })], []],
    [[channel({ kind: 'telepathy', path: '/x' } as unknown as FileProbe)], []],
    [[channel({ kind: 'field', path: '/x', key: 'a', column: -1 })], []],
    [[channel({ kind: 'statvfs', path: '/', field: 'mood' } as unknown as FileProbe)], []],
    [[channel({ kind: 'integer', path: '/x', multiplier: Number.NaN })], []],
    [[channel({ kind: 'word', path: '/x' } as unknown as FileProbe)], []],
    [[channel({ kind: 'word', path: '/x', words: [] })], []],
    [[channel({ kind: 'word', path: '/x', words: Array.from({ length: 65 }, String) })], []],
    [[channel({ kind: 'word', path: '/x', words: ['x'.repeat(64)] })], []],
    [[channel({ kind: 'word', path: '/x', words: ['a', 1] } as unknown as FileProbe)], []],
    [[{ ...good, rateHz: 0 }], []],
    [[{ ...good, rateHz: 1001 }], []],
    [[good], [{ channel: 1, raise: 1, clear: 0, samples: 1 }]],
    [[good], [{ channel: 0, raise: 1, clear: 2, samples: 1 }]],
    [[good], [{ channel: 0, raise: 1, clear: 0, samples: 0 }]],
  ];
  for (const [channels, tripwires] of wrong) {
    const create = () => sampler(t, channels as Channel[], { tripwires: tripwires as Tripwire[] });
    t.equal(codeOf(create), 'SKOS_SAMPLER_SPEC');
  }
  t.equal(
    codeOf(() => sampler(t, [good], { readDeadlineMs: 0 })),
    'SKOS_SAMPLER_SPEC',
  );
});

t.test('runs once: starting again is refused, stopping is idempotent, readings after it are stale', async (t) => {
  const path = write(join(t.testdir({}), 'value'), '5\n');
  const made = sampler(t, [channel({ kind: 'integer', path })], { readDeadlineMs: 10 });
  made.start();
  t.equal(
    codeOf(() => made.start()),
    'SKOS_SAMPLER_STATE',
  );
  await until(() => {
    made.refresh();
    return made.latest(0).quality === 'ok';
  });
  made.stop();
  made.stop();
  t.equal(
    codeOf(() => made.start()),
    'SKOS_SAMPLER_STATE',
  );
  await until(() => {
    made.refresh();
    return made.latest(0).quality === 'stale';
  });
  t.equal(made.latest(0).value, null);
});

t.test('survives 1000 starts and stops, and closing while it samples', async (t) => {
  const path = write(join(t.testdir({}), 'value'), '5\n');
  const channels = Array.from({ length: 16 }, () => channel({ kind: 'integer', path }, { rateHz: 1000 }));
  const begin = systemClock.monotonicMs();
  let crossings = 0;
  for (let i = 0; i < 1000; i++) {
    const made = addon.createSampler(channels, [{ channel: 0, raise: 1, clear: 0, samples: 1 }], {
      readDeadlineMs: 100,
      onCrossing: () => crossings++,
    });
    made.start();
    if (i % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 3));
    made.refresh();
    made.stop();
  }
  t.ok(crossings <= 1000);
  t.ok(systemClock.monotonicMs() - begin < 30_000);
});

function leavesCleanly(t: Test, { behaviour, path, output }: Record<'behaviour' | 'path' | 'output', string>): void {
  const args = ['--expose-gc', CHILD, behaviour, path];
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, { timeout: 20_000, encoding: 'utf8' });
  t.same({ status, signal, stdout, stderr }, { status: 0, signal: null, stdout: output, stderr: '' }, behaviour);
}

t.test('leaves the process cleanly at every step', async (t) => {
  const path = write(join(t.testdir({}), 'value'), '5\n');
  const expected: Record<string, string> = {
    'exit after load': '',
    'exit before start': '',
    'exit after start': '',
    'exit while sampling': '',
    'exit in a crossing': '',
    'exit in drain': '',
    'exit after stop': '',
    'end by itself while sampling': '',
    'stop in a crossing': '"stopped"\n',
    'throw in a crossing': '"thrown in a crossing"\n',
    'collect while sampling': '',
    'collect a dropped sampler': '"still there"\n',
    'load in a worker': '{"code":"SKOS_ADDON_WORKER","main":"none"}\n',
  };
  for (const [behaviour, output] of Object.entries(expected)) leavesCleanly(t, { behaviour, path, output });
});

t.test('leaves the process cleanly with a seqpacket connection', async (t) => {
  const path = join(shortDirectory(t), 'socket');
  await seqPacketPeer(t, path);
  for (const behaviour of [
    'exit while packets come',
    'exit with a connection',
    'end by itself with a connection',
    'close and end by itself',
  ]) {
    leavesCleanly(t, { behaviour, path, output: '' });
  }
});

t.test('an addon that is missing or no addon is a coded error', async (t) => {
  const directory = t.testdir({ 'broken.node': 'not an addon' });
  const before = process.env.SKOS_ADDON;
  t.teardown(() => {
    if (before === undefined) delete process.env.SKOS_ADDON;
    else process.env.SKOS_ADDON = before;
  });
  for (const name of ['absent.node', 'broken.node']) {
    process.env.SKOS_ADDON = join(directory, name);
    t.equal(codeOf(loadAddon), 'SKOS_ADDON_LOAD', name);
  }
});

t.test('writes journal entries by the native protocol, binary-safe and of any size', async (t) => {
  const path = join(shortDirectory(t), 'journal');
  const { events } = await datagramPeer(t, path);
  t.equal(addon.journalSend(path, { MESSAGE: 'größer', PRIORITY: 6, SKOS_NODE: 'nova' }), 0);
  t.equal(addon.journalSend(path, { MESSAGE: 'two\nlines', RAW: new Uint8Array([0, 10, 255]), EMPTY: '' }), 0);
  const huge = 'x'.repeat(1_000_000);
  t.equal(addon.journalSend(path, { MESSAGE: huge }), 0);
  await until(() => events.length === 3);
  const data = events.map((event) => Buffer.from(String(event.data), 'base64'));
  t.equal(data[0]?.toString(), 'MESSAGE=größer\nPRIORITY=6\nSKOS_NODE=nova\n');
  const length = (n: number) => String.fromCharCode(n, 0, 0, 0, 0, 0, 0, 0);
  t.equal(
    data[1]?.toString('latin1'),
    `MESSAGE\n${length(9)}two\nlines\nRAW\n${length(3)}\0\n\xff\nEMPTY=\n`,
    'a value with a newline goes behind its length',
  );
  t.equal(data[2]?.toString(), `MESSAGE=${huge}\n`);
  t.same(
    events.map(({ seals }) => seals),
    [null, null, 0xf],
    'what is too large for a datagram comes as a memfd that nobody can change',
  );
});

t.test('refuses journal entries that journald would drop, and says why nothing was sent', async (t) => {
  const path = join(shortDirectory(t), 'absent');
  t.equal(addon.journalSend(path, { MESSAGE: 'x' }), errno.ENOENT);
  for (const name of ['', '_TRUSTED', 'lower', '1ST', 'A B', 'A=B', 'A\nB', 'N'.repeat(65)]) {
    t.equal(addon.journalSend(path, { [name]: 'x' }), errno.EINVAL, JSON.stringify(name));
  }
  t.equal(addon.journalSend(path, {}), errno.EINVAL);
  t.equal(addon.journalSend(path, { MESSAGE: {} as unknown as string }), errno.EINVAL);
  t.equal(addon.journalSend(`/${'x'.repeat(200)}`, { MESSAGE: 'x' }), errno.ENAMETOOLONG);
});

t.test('notifies systemd by path and by abstract name', async (t) => {
  t.teardown(() => delete process.env.NOTIFY_SOCKET);
  delete process.env.NOTIFY_SOCKET;
  t.equal(addon.notify('READY=1'), errno.ENOENT);
  for (const path of [join(shortDirectory(t), 'notify'), `@skos-test-${process.pid}`]) {
    const { events } = await datagramPeer(t, path);
    process.env.NOTIFY_SOCKET = path;
    t.equal(addon.notify('READY=1\nSTATUS=protecting'), 0);
    await until(() => events.length === 1);
    t.equal(Buffer.from(String(events[0]?.data), 'base64').toString(), 'READY=1\nSTATUS=protecting');
  }
});

/** What the server learns of the first client that connects. */
function credentialsOfClient(path: string, launch: () => void): Promise<PeerCredentials> {
  return new Promise((resolve) => {
    const server = createServer((socket) => {
      const handle = (socket as unknown as { _handle: { fd: number } })._handle;
      resolve(addon.peerCredentials(handle.fd));
      socket.destroy();
      server.close();
    });
    server.listen(path, launch);
  });
}

t.test('tells who is at the other end of a Unix socket', async (t) => {
  const path = join(shortDirectory(t), 'socket');
  const { pid, uid, gid } = await credentialsOfClient(path, () => connect(path).on('error', () => undefined));
  t.same({ pid, uid, gid }, { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
  t.equal(
    codeOf(() => addon.peerCredentials(-1)),
    'EBADF',
  );
});

const notRoot = process.getuid?.() === 0 ? false : 'only root may change its groups';
t.test('tells the supplementary groups and the user of the other end', { skip: notRoot }, async (t) => {
  const path = join(shortDirectory(t), 'socket');
  chmodSync(dirname(path), 0o777);
  const program = `
import os, socket, sys, time
os.setgroups([27, 4, 100]); os.setgid(65534); os.setuid(65534)
client = socket.socket(socket.AF_UNIX); client.connect(sys.argv[1]); client.recv(1)`;
  const credentials = await credentialsOfClient(path, () => {
    chmodSync(path, 0o777);
    const client = spawn('python3', ['-c', program, path], { stdio: ['ignore', 'ignore', 'inherit'] });
    t.teardown(() => client.kill('SIGKILL'));
  });
  t.match(credentials, { uid: 65534, gid: 65534 });
  t.same([...credentials.groups].sort(), [100, 27, 4].sort());
});

t.test('locks a file for one holder at a time', async (t) => {
  const path = join(t.testdir({}), 'lock');
  const first = addon.lockFile(path);
  t.ok(first > 2);
  t.equal(addon.lockFile(path), -errno.EWOULDBLOCK);
  closeSync(first);
  const second = addon.lockFile(path);
  t.ok(second > 2);
  closeSync(second);
  t.equal(addon.lockFile('/no/such/directory/lock'), -errno.ENOENT);
});

t.test('exchanges packets in order with a seqpacket server, and learns of its end', async (t) => {
  const path = join(shortDirectory(t), 'socket');
  const { events } = await seqPacketPeer(t, path);
  const inbound: (string | null)[] = [];
  const socket = addon.createSeqPacket((packet) => inbound.push(packet));
  t.teardown(() => socket.close());
  t.equal(socket.send('too early'), errno.ENOTCONN);
  t.equal(socket.connect(`${path}.absent`), errno.ENOENT);
  t.equal(socket.connect(path), 0);
  t.equal(socket.connect(path), errno.EISCONN);
  t.equal(socket.send(''), errno.EINVAL);
  t.equal(socket.send('x'.repeat(8193)), errno.EMSGSIZE);
  const largest = 'x'.repeat(8192);
  t.equal(socket.send(largest), 0);
  t.equal(socket.send('größer'), 0);
  await until(() => inbound.length === 2);
  t.same(inbound.splice(0), [largest, 'größer']);
  // Twice the queue's bound: nothing is lost, the server waits.
  t.equal(socket.send('flood 2048'), 0);
  const blockedUntil = systemClock.monotonicMs() + 200;
  while (systemClock.monotonicMs() < blockedUntil);
  await until(() => inbound.length === 2048);
  t.same(
    inbound.splice(0),
    Array.from({ length: 2048 }, (_, i) => String(i)),
  );
  t.equal(socket.send('bye'), 0);
  await until(() => inbound.length === 1);
  t.same(inbound.splice(0), [null]);
  t.equal(socket.send('too late'), errno.ENOTCONN);
  t.equal(socket.connect(path), 0, 'it connects again');
  t.equal(socket.send('big 9000'), 0);
  await until(() => inbound.length === 1);
  t.same(inbound.splice(0), [null], 'a packet that is too large is the end');
  t.equal(socket.connect(path), 0);
  socket.close();
  socket.close();
  await until(() => events.length === 3);
  t.same(inbound, [], 'who closes is not told of the end');
});

t.test('a seqpacket socket closes from within its own callback', async (t) => {
  const path = join(shortDirectory(t), 'socket');
  await seqPacketPeer(t, path);
  const inbound: (string | null)[] = [];
  const socket = addon.createSeqPacket((packet) => {
    inbound.push(packet);
    socket.close();
  });
  t.equal(socket.connect(path), 0);
  socket.unref();
  socket.ref();
  t.equal(socket.send('flood 10'), 0);
  await until(() => inbound.length > 0);
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.same(inbound, ['0']);
});

t.test('a peer that floods a seqpacket socket does not keep other work from its turn', async (t) => {
  const PACKETS = 4000;
  const path = join(shortDirectory(t), 'socket');
  await seqPacketPeer(t, path);
  const inbound: string[] = [];
  const socket = addon.createSeqPacket((packet) => {
    inbound.push(packet ?? 'end');
    const untilMs = systemClock.monotonicMs() + 0.1;
    while (systemClock.monotonicMs() < untilMs);
  });
  t.teardown(() => socket.close());
  t.equal(socket.connect(path), 0);
  t.equal(socket.send(`flood ${PACKETS}`), 0);
  await until(() => inbound.length > 0);
  const atTurns: number[] = [];
  while (inbound.length < PACKETS) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    atTurns.push(inbound.length);
  }
  t.ok(atTurns.length >= 10, `${atTurns.length} turns in between`);
  t.same(
    inbound,
    Array.from({ length: PACKETS }, (_, i) => String(i)),
  );
});

/** A connection to a region's writer, and what came on it. Descriptors that a test leaves over are closed after it. */
async function writerLink(t: Test) {
  const path = join(shortDirectory(t), 'socket');
  const child = await regionWriter(t, path);
  const inbound: { packet: string | null; fd: number }[] = [];
  const socket = addon.createSeqPacket((packet, fd) => inbound.push({ packet, fd }));
  t.equal(socket.connect(path), 0);
  t.teardown(() => {
    socket.close();
    for (const { fd } of inbound) if (fd >= 0) closeSync(fd);
  });
  const ask = async (request: string) => {
    t.equal(socket.send(request), 0);
    await until(() => inbound.length > 0);
    return inbound.shift() ?? { packet: null, fd: -1 };
  };
  const openRegion = async () => {
    const region = addon.openRegion((await ask('region')).fd);
    t.teardown(() => region.close());
    return region;
  };
  return { child, socket, inbound, ask, openRegion };
}

function records(region: Region) {
  const out: { channel: number; value: number; quality: string; atMs: number }[] = [];
  region.drain((channel, value, quality, atMs) => out.push({ channel, value, quality, atMs }));
  return out;
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

t.test('reads the region that another process writes', async (t) => {
  const { ask, openRegion } = await writerLink(t);
  const before = openDescriptors();
  await ask('write 1 -7 0');
  const region = await openRegion();
  t.match(region, { description: '{"v":1,"name":"größer"}', channelCount: 3, overruns: 0 });
  t.match(records(region), [{ channel: 1, value: -7, quality: 'ok' }], 'it begins with what is known');
  const fromMs = systemClock.monotonicMs();
  await ask('write 0 44000 0');
  await ask('write 2 1 3');
  await ask('write 9 1 0');
  await ask('write 0 45000 0');
  const drained = records(region);
  t.match(drained, [
    { channel: 0, value: 44_000, quality: 'ok' },
    { channel: 2, value: 0, quality: 'fault' },
    { channel: 0, value: 45_000, quality: 'ok' },
  ]);
  t.ok(drained.every(({ atMs }) => atMs >= fromMs && atMs <= systemClock.monotonicMs()));
  t.equal(region.overruns, 1, 'a channel that is not there is counted');
  region.refresh();
  t.match(
    [0, 1, 2].map((i) => region.latest(i)),
    [{ value: 45_000 }, { value: -7 }, { value: null, quality: 'fault' }],
  );
  t.equal(
    codeOf(() => region.latest(3)),
    'SKOS_SAMPLER_SPEC',
  );
  for (let i = 0; i < 20; i++) await ask(`write 0 ${i} 0`);
  t.same(
    records(region).map(({ value }) => value),
    [12, 13, 14, 15, 16, 17, 18, 19],
  );
  t.equal(region.overruns, 13);
  region.close();
  region.close();
  region.refresh();
  t.same(records(region), [], 'nothing is read afterwards');
  t.match([region.latest(0), region.overruns], [{ value: 45_000 }, 13]);
  t.equal(openDescriptors(), before, 'the descriptor was taken over');
});

t.test('calls the channels of a writer that is stopped hung, once, until it goes on', async (t) => {
  const { child, ask, openRegion } = await writerLink(t);
  const region = await openRegion();
  const second = await openRegion();
  await ask('write 0 1 0');
  t.equal(records(region).length, 1);
  child.kill('SIGSTOP');
  const seen: ReturnType<typeof records> = [];
  await until(() => seen.push(...records(region)) > 0);
  t.match(
    seen.map(({ channel, quality }) => [channel, quality]),
    [0, 1, 2].map((channel) => [channel, 'hung']),
  );
  region.refresh();
  t.match(region.latest(0), { value: null, quality: 'hung' });
  await new Promise((resolve) => setTimeout(resolve, HUNG_AFTER_MS / 2));
  t.same(records(region), []);
  t.match(
    records(second).map(({ quality }) => quality),
    ['ok', 'hung', 'hung', 'hung'],
    'each reader has a cursor of its own',
  );
  child.kill('SIGCONT');
  await ask('write 0 2 0');
  t.match(records(region), [{ channel: 0, value: 2, quality: 'ok' }]);
  region.refresh();
  t.match(region.latest(0), { value: 2, quality: 'ok' });
});

t.test('refuses a descriptor that is no sealed region, and closes it', async (t) => {
  const { ask } = await writerLink(t);
  const before = openDescriptors();
  const codeFor = (fd: unknown) => codeOf(() => addon.openRegion(fd as number));
  t.equal(codeFor((await ask('unsealed')).fd), 'SKOS_GPU_PROTOCOL');
  t.equal(codeFor(openSync('/proc/self/stat', 'r')), 'SKOS_GPU_PROTOCOL');
  t.equal(codeFor(openSync('/dev/zero', 'r')), 'SKOS_GPU_PROTOCOL');
  t.equal(openDescriptors(), before);
  for (const fd of [-1, 1e9, undefined, 'fd']) t.equal(codeFor(fd), 'SKOS_GPU_PROTOCOL');
});

t.test('takes one descriptor a packet, and closes what nobody was given', async (t) => {
  const { socket, inbound, ask } = await writerLink(t);
  const before = openDescriptors();
  const { packet, fd } = await ask('two');
  t.equal(packet, 'two');
  t.equal(openDescriptors(), before + 1, 'the second one is closed');
  closeSync(fd);
  t.match(await ask('write 0 1 0'), { packet: 'write 0 1 0', fd: -1 });
  t.equal(socket.send('many 1000'), 0);
  // While nobody takes them, no more than 64 wait in this process.
  const blockedUntil = systemClock.monotonicMs() + 200;
  while (systemClock.monotonicMs() < blockedUntil);
  t.ok(openDescriptors() <= before + 64);
  await until(() => {
    for (const each of inbound) if (each.fd >= 0) closeSync(each.fd);
    for (const [i, each] of inbound.entries()) inbound[i] = { ...each, fd: -1 };
    return inbound.length === 1000;
  });
  t.same(
    inbound.splice(0).map((each) => each.packet),
    Array.from({ length: 1000 }, (_, i) => String(i)),
  );
  t.equal(socket.send('many 40'), 0);
  // Without giving JS its turn: nobody takes them meanwhile.
  const waitedUntil = systemClock.monotonicMs() + 5_000;
  while (openDescriptors() <= before && systemClock.monotonicMs() < waitedUntil);
  t.ok(openDescriptors() > before, 'some wait');
  socket.close();
  // The connection itself is one of those before.
  await until(() => openDescriptors() < before);
  t.same(inbound, []);
});

t.test('a descriptor on a packet without bytes goes with the connection', async (t) => {
  const { socket, inbound } = await writerLink(t);
  const before = openDescriptors();
  t.equal(socket.send('empty'), 0);
  await until(() => inbound.length > 0);
  t.same(inbound, [{ packet: null, fd: -1 }]);
  await until(() => openDescriptors() < before);
});
