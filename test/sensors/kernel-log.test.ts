/** The kernel's log over doubles of /dev/kmsg: where reading begins, what a restart continues, what is said when it cannot be read. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  accessSync,
  appendFileSync,
  closeSync,
  constants,
  mkdirSync,
  openSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { HardwareEvent } from '../../src/core/ports.js';
import { loadAddon } from '../../src/sensors/addon.js';
import { KernelLog } from '../../src/sensors/kernel-log.js';
import { FakeStore } from '../fixtures/control.js';
import { recordingLog } from '../fixtures/logs.js';
import { until } from '../fixtures/until.js';

const addon = loadAddon();

function record(sequence: number, text: string, priority = 4): string {
  return `${priority},${sequence},1000000,-;${text}\n`;
}

function xid(sequence: number, code: number): string {
  return record(sequence, `NVRM: Xid (PCI:0000:3b:00): ${code}, pid=1234, name=python`);
}

interface Life {
  readonly kernelLog: KernelLog;
  readonly events: HardwareEvent[];
  readonly log: ReturnType<typeof recordingLog>;
  codes(): (number | null)[];
}

async function life(
  t: Test,
  { devRoot, store, bootId = 'boot-1' }: { devRoot: string; store: FakeStore; bootId?: string },
): Promise<Life> {
  const events: HardwareEvent[] = [];
  const log = recordingLog();
  const { createKmsgReader } = addon;
  const onEvent = (event: HardwareEvent) => void events.push(event);
  const kernelLog = new KernelLog({ createKmsgReader, devRoot, env: {}, bootId, store, log, onEvent });
  await kernelLog.start();
  t.teardown(() => kernelLog.stop());
  return { kernelLog, events, log, codes: () => events.map(({ code }) => code) };
}

/** A root of devices with a growing file as its kmsg. */
function machine(t: Test, content = ''): { devRoot: string; kmsg: string } {
  const devRoot = join(t.testdir({}), 'dev');
  mkdirSync(devRoot);
  const kmsg = join(devRoot, 'kmsg');
  writeFileSync(kmsg, content);
  return { devRoot, kmsg };
}

t.test('tells an event with its origin, address, code and details', async (t) => {
  const { devRoot, kmsg } = machine(t);
  const now = await life(t, { devRoot, store: new FakeStore() });
  t.strictSame(now.kernelLog.notFound, []);
  appendFileSync(kmsg, `${record(1, 'usb 1-4: new device')}${xid(2, 79)}`);
  await until(() => now.events.length === 1);
  t.match(now.events, [
    {
      kind: 'xid',
      origin: 'kmsg',
      address: '0000:3b:00.0',
      code: 79,
      count: 1,
      detail: { pid: '1234', process: 'python' },
    },
  ]);
  t.match(now.events[0]?.text, /^NVRM: Xid/);
});

t.test('a node that was never seen begins with what comes from now on', async (t) => {
  const { devRoot, kmsg } = machine(t, xid(1, 31));
  const now = await life(t, { devRoot, store: new FakeStore() });
  appendFileSync(kmsg, xid(2, 79));
  await until(() => now.events.length > 0);
  t.strictSame(now.codes(), [79]);
});

t.test('goes on behind the last record after a restart: nothing is lost and nothing told twice', async (t) => {
  const { devRoot, kmsg } = machine(t);
  const store = new FakeStore();
  const first = await life(t, { devRoot, store });
  appendFileSync(kmsg, xid(10, 31));
  await until(() => first.events.length === 1);
  first.kernelLog.stop();
  appendFileSync(kmsg, `${xid(11, 64)}${xid(12, 95)}`);
  const second = await life(t, { devRoot, store });
  await until(() => second.events.length === 2);
  t.strictSame(second.codes(), [64, 95]);
});

t.test('in a new boot it begins with the first record of that boot', async (t) => {
  const store = new FakeStore();
  const before = machine(t);
  const first = await life(t, { devRoot: before.devRoot, store });
  appendFileSync(before.kmsg, xid(900, 31));
  await until(() => first.events.length === 1);
  first.kernelLog.stop();
  const { devRoot } = machine(t, xid(3, 119));
  const second = await life(t, { devRoot, store, bootId: 'boot-2' });
  await until(() => second.events.length === 1);
  t.strictSame(second.codes(), [119]);
});

t.test('says how many records were overwritten while it was away', async (t) => {
  const { devRoot, kmsg } = machine(t);
  const store = new FakeStore();
  store.putState('kernel-log', { boot: 'boot-1', sequence: 10 });
  const now = await life(t, { devRoot, store });
  appendFileSync(kmsg, xid(500, 79));
  await until(() => now.events.length === 1);
  t.match(now.log.lines.find(({ fields }) => fields.event === 'hardware.missed')?.message, /489 messages/);
});

t.test('remembered garbage is as good as nothing', async (t) => {
  for (const garbage of [
    'x',
    7,
    { boot: 3 },
    { boot: 'boot-1', sequence: 'many' },
    { boot: 'boot-1', sequence: 1e300 },
  ]) {
    const { devRoot, kmsg } = machine(t, xid(1, 31));
    const store = new FakeStore();
    store.putState('kernel-log', garbage);
    const now = await life(t, { devRoot, store });
    appendFileSync(kmsg, xid(2, 79));
    await until(() => now.events.length > 0);
    t.strictSame(now.codes(), [79]);
    now.kernelLog.stop();
  }
});

t.test('a store that cannot be read keeps no event from being told', async (t) => {
  const { devRoot, kmsg } = machine(t);
  const store = new FakeStore();
  store.disk = 'fails';
  const now = await life(t, { devRoot, store });
  appendFileSync(kmsg, xid(2, 79));
  await until(() => now.events.length === 1);
});

t.test('says why it is not read, and the agent starts all the same', async (t) => {
  const devRoot = t.testdir({});
  const now = await life(t, { devRoot, store: new FakeStore() });
  t.match(now.kernelLog.notFound[0], /^kernel log: .*kmsg: no such file/);
  const directory = machine(t);
  const odd = await life(t, { devRoot: join(directory.devRoot, '..'), store: new FakeStore() });
  t.equal(odd.kernelLog.notFound.length, 1);
});

t.test('does not wait for a FIFO that nobody writes, and reads what comes later', async (t) => {
  const devRoot = t.testdir({});
  const kmsg = join(devRoot, 'kmsg');
  execFileSync('mkfifo', [kmsg]);
  const beganMs = performance.now();
  const now = await life(t, { devRoot, store: new FakeStore() });
  t.ok(performance.now() - beganMs < 1_000);
  const writer = openSync(kmsg, 'w');
  writeSync(writer, xid(1, 79));
  await until(() => now.events.length === 1);
});

t.test('an event that cannot be judged keeps no other from being told', async (t) => {
  const { devRoot, kmsg } = machine(t);
  const seen: (number | null)[] = [];
  const log = recordingLog();
  const { createKmsgReader } = addon;
  const onEvent = ({ code }: HardwareEvent) => {
    seen.push(code);
    if (code === 31) throw new Error('cannot');
  };
  const store = new FakeStore();
  const kernelLog = new KernelLog({ createKmsgReader, devRoot, env: {}, bootId: 'b', store, log, onEvent });
  await kernelLog.start();
  t.teardown(() => kernelLog.stop());
  appendFileSync(kmsg, `${xid(1, 31)}${xid(2, 79)}`);
  await until(() => seen.length === 2);
  t.match(log.lines.at(-1)?.message, /was not judged/);
});

t.test('a burst of 5,000 lines costs less than 50 ms of CPU and a few calls', async (t) => {
  const { devRoot, kmsg } = machine(t);
  const now = await life(t, { devRoot, store: new FakeStore() });
  const lines = Array.from({ length: 5_000 }, (_, i) => xid(i + 1, 31)).join('');
  const before = process.cpuUsage();
  appendFileSync(kmsg, lines);
  await until(() => now.events.reduce((sum, { count }) => sum + count, 0) === 5_000);
  const { user, system } = process.cpuUsage(before);
  t.comment(`${((user + system) / 1000).toFixed(1)} ms of CPU, ${now.events.length} events handed on`);
  t.ok(user + system < 50_000);
  t.ok(now.events.length <= 5);
});

t.test('what user space writes is not believed', async (t) => {
  const { devRoot, kmsg } = machine(t);
  const now = await life(t, { devRoot, store: new FakeStore() });
  const forged = record(1, 'NVRM: Xid (PCI:0000:3b:00): 79, pid=1', 12);
  appendFileSync(kmsg, `${forged}${xid(2, 64)}`);
  await until(() => now.events.length > 0);
  t.strictSame(now.codes(), [64]);
});

t.test('a reader is opened once, closed as often as one likes, and keeps nothing alive', async (t) => {
  const { kmsg } = machine(t, xid(1, 31));
  const reader = addon.createKmsgReader(() => undefined);
  t.same(reader.take(), { events: [], sequence: null, overwritten: 0, dropped: 0, error: 0 }, 'before it is opened');
  const how = { path: kmsg, after: null, fromStart: true } as const;
  t.equal(reader.open(how), 0);
  t.equal(reader.open(how), 106, 'EISCONN');
  reader.close();
  reader.close();
  t.equal(reader.take().events.length, 0);
  t.equal(reader.open(how), 0, 'again');
  reader.close();
  const bad = addon.createKmsgReader(() => undefined);
  t.equal(bad.open({ fd: 999, after: null, fromStart: false }), 9, 'EBADF');
  for (let i = 0; i < 200; i++) addon.createKmsgReader(() => undefined).open(how); // Left to the end of the process.
});

const MODULES = ['addon', 'kernel-log'].map((name) => new URL(`../../src/sensors/${name}.js`, import.meta.url).href);
/** Follows what it finds for as long as its event loop has something to do, then says what it found. */
const PROGRAM = `
  const { loadAddon } = await import(${JSON.stringify(MODULES[0])});
  const { KernelLog } = await import(${JSON.stringify(MODULES[1])});
  const events = [];
  const quiet = () => undefined;
  const log = { trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet, fatal: quiet };
  const store = { state: async () => ({ boot: 'an earlier one', sequence: 5 }), putState: quiet };
  const { createKmsgReader } = loadAddon();
  const [devRoot, listenPid] = process.argv.slice(1);
  const env = { LISTEN_PID: listenPid === 'own' ? String(process.pid) : listenPid, LISTEN_FDS: '2', LISTEN_FDNAMES: 'x:kmsg' };
  const kernelLog = new KernelLog({ createKmsgReader, devRoot, env, bootId: 'this', store, log, onEvent: (event) => events.push(event) });
  await kernelLog.start();
  await new Promise((resolve) => setTimeout(resolve, 300));
  process.stdout.write(JSON.stringify({ notFound: kernelLog.notFound, events }));
`;

interface HandedOver {
  /** Whose descriptor 4 it is to be, behind one that is something else. */
  readonly descriptor: number;
  /** $LISTEN_PID. */
  readonly pid: 'own' | '1' | '';
}

function child(devRoot: string, handedOver?: HandedOver): { notFound: string[]; events: HardwareEvent[] } {
  const args = ['--input-type=module', '-e', PROGRAM, devRoot, handedOver?.pid ?? ''];
  const result = spawnSync(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'inherit', 'ignore', handedOver?.descriptor ?? 'ignore'],
    encoding: 'utf8',
    timeout: 20_000,
  });
  if (result.status !== 0) throw new Error(`status ${result.status}, signal ${result.signal}`);
  return JSON.parse(result.stdout);
}

t.test('keeps no process alive', async (t) => {
  const { devRoot } = machine(t, xid(1, 79));
  t.match(child(devRoot), { notFound: [], events: [{ code: 79 }] });
});

function whyNoDevice(): string | false {
  try {
    accessSync('/dev/kmsg', constants.R_OK | constants.W_OK);
    closeSync(openSync('/dev/kmsg', 'r'));
    return false;
  } catch (error) {
    return `/dev/kmsg: ${String(error)}`;
  }
}

t.test(
  'takes the device that systemd hands over, and believes no forgery there',
  { skip: whyNoDevice() },
  async (t) => {
    const device = openSync('/dev/kmsg', 'r+');
    t.teardown(() => closeSync(device));
    writeSync(device, '<0>NVRM: Xid (PCI:0000:3b:00): 79, pid=1, name=forged-by-a-test, GPU has fallen off the bus.\n');
    const { notFound, events } = child(join(t.testdir({}), 'no-devices'), { descriptor: device, pid: 'own' });
    t.strictSame(notFound, []);
    t.notOk(events.some(({ text }) => text.includes('forged-by-a-test')));
  },
);

t.test('what was handed to another process, or is no kernel log, counts for nothing', async (t) => {
  const { devRoot, kmsg } = machine(t, xid(1, 79));
  const file = openSync(kmsg, 'r');
  t.teardown(() => closeSync(file));
  t.match(child(devRoot, { descriptor: file, pid: 'own' }), { notFound: [], events: [{ code: 79 }] });
  if (whyNoDevice() !== false) return;
  const device = openSync('/dev/kmsg', 'r');
  t.teardown(() => closeSync(device));
  for (const pid of ['1', ''] as const) {
    const { notFound } = child(join(t.testdir({}), 'no-devices'), { descriptor: device, pid });
    t.match(notFound, [/^kernel log: /]);
  }
});
