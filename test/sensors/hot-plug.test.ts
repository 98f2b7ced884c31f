/** Uevents of the real kernel, where this user may make some; and what of them is news. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { loadAddon, type OnUevents, type Uevent } from '../../src/sensors/addon.js';
import { watchHotPlug } from '../../src/sensors/hot-plug.js';
import { until } from '../fixtures/until.js';

/** Writing "change" makes the kernel say that of the device. Root's, and not in every container. */
const LOOP = '/sys/block/loop0/uevent';

function watched(t: { teardown(fn: () => void): void }, { error = 0 } = {}) {
  const told: string[][] = [];
  const lines: string[] = [];
  let on: OnUevents = () => undefined;
  let isOpen = false;
  const addon = {
    createUeventSocket: (given: OnUevents) => {
      on = given;
      return {
        open: () => {
          isOpen = error === 0;
          return error;
        },
        close: () => {
          isOpen = false;
        },
      };
    },
  };
  const watch = watchHotPlug(addon, (subsystems) => told.push([...subsystems].sort()), {
    debug: (line) => lines.push(line),
  });
  t.teardown(() => watch.close());
  const say = (events: readonly Partial<Uevent>[], lost = false) =>
    on(
      events.map((event) => ({ action: 'add', subsystem: 'block', isVirtual: false, ...event })),
      lost,
    );
  return { told, lines, say, watch, isOpen: () => isOpen };
}

t.test('tells the subsystems that have other devices than before, each once', async (t) => {
  const { told, say } = watched(t);
  say([{ subsystem: 'nvme' }, { subsystem: 'block' }, { action: 'remove' }, { action: 'bind', subsystem: 'pci' }]);
  t.same(told, [['block', 'nvme', 'pci']]);
});

t.test('passes over what makes no channel', async (t) => {
  const { told, say } = watched(t);
  say([{ subsystem: 'net', isVirtual: true }, { isVirtual: true }, { subsystem: 'bdi' }, { subsystem: 'queues' }]);
  say([{ action: 'change', subsystem: 'power_supply' }, { action: 'whatever' }]);
  say([]);
  t.same(told, []);
  say([
    { action: 'change', subsystem: 'block' },
    { subsystem: 'net', isVirtual: true },
  ]);
  t.same(told, [['block']], 'a medium that was changed, an array that was built');
});

t.test('takes lost news for news of everything', async (t) => {
  const { told, say } = watched(t);
  say([], true);
  t.ok((told[0]?.length ?? 0) > 8);
});

t.test('says one line and goes on where the kernel gives no such socket', async (t) => {
  const { lines, watch, isOpen } = watched(t, { error: 1 });
  t.match(lines, [/EPERM/]);
  watch.close();
  t.notOk(isOpen());
});

t.test('hears the kernel, gathers what comes together, and nothing after close()', needsUevents(), async (t) => {
  const calls: { events: readonly Uevent[]; lost: boolean }[] = [];
  const socket = loadAddon().createUeventSocket((events, lost) => calls.push({ events, lost }));
  t.teardown(() => socket.close());
  t.equal(socket.open(), 0);
  t.not(socket.open(), 0, 'it is open already');
  for (let i = 0; i < 200; i++) writeFileSync(LOOP, i % 2 === 0 ? 'change' : 'add');
  await until(() => calls.some(({ events }) => events.length >= 2));
  const own = calls.flatMap(({ events }) => events).filter(({ subsystem }) => subsystem === 'block');
  t.match(
    own
      .filter(({ isVirtual }) => isVirtual)
      .map(({ action }) => action)
      .sort(),
    ['add', 'change'],
    'two hundred events are two, in one call',
  );
  socket.close();
  socket.close();
  const before = calls.length;
  writeFileSync(LOOP, 'change');
  await new Promise((resolve) => setTimeout(resolve, 500));
  t.equal(calls.length, before);
});

t.test('believes nobody but the kernel', needsUevents(['python3', '-c', '']), async (t) => {
  const seen: string[] = [];
  const socket = loadAddon().createUeventSocket((events) => seen.push(...events.map(({ subsystem }) => subsystem)));
  t.teardown(() => socket.close());
  t.equal(socket.open(), 0);
  const sent = spawnSync('python3', ['-c', FORGER], { encoding: 'utf8' });
  t.equal(sent.status, 0, sent.stderr);
  writeFileSync(LOOP, 'change');
  await until(() => seen.includes('block'));
  t.notOk(seen.includes('forged'));
});

t.test('does not keep a process alive', async (t) => {
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', LEAVER], {
    encoding: 'utf8',
    timeout: 10_000,
  });
  t.equal(child.status, 0, child.stderr);
});

function needsUevents([program, ...args]: readonly string[] = ['true']): { skip: string | false } {
  try {
    writeFileSync(LOOP, 'change', { flag: 'r+' });
  } catch {
    return { skip: `${LOOP} cannot be written here` };
  }
  const canRun = spawnSync(program ?? '', args, { stdio: 'ignore' }).status === 0;
  return { skip: canRun ? false : `${program} is not installed` };
}

/** Sends to the kernel's own group, as any process with CAP_NET_ADMIN may. */
const FORGER = `
import socket
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)
s.sendto(b"add@/devices/x\\0ACTION=add\\0SUBSYSTEM=forged\\0", (0, 1))
`;

const LEAVER = `
const { loadAddon } = await import(${JSON.stringify(new URL('../../src/sensors/addon.js', import.meta.url).href)});
loadAddon().createUeventSocket(() => undefined).open();
`;
