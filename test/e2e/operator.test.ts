/** What an operator does to a running node: arm, disarm, release, reload, start it twice, fill its disk. */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { CELSIUS, FORMER_KHZ, type HeatedNode, heatedNode, KHZ } from '../fixtures/node.js';

t.jobs = 4;

const isRoot = process.getuid?.() === 0;
const EXIT_CONFIG = 4;

async function warm(node: HeatedNode): Promise<void> {
  node.celsius(CELSIUS.warning);
  await node.untilCappedAt(KHZ.throttle10);
}

t.test('skos release ends the caps at once and bars the rule; when the bar is over it acts again', async (t) => {
  const node = await heatedNode(t);
  await warm(node);
  await node.until('active', async () => (await node.actions())[0]?.state === 'active');
  const done = await node.cli('release', 'thermal-cpu', '--for', '3s');
  t.match(done, { code: 0, out: /Released 1 action/ }, done.err);
  const releasedAtMs = performance.now();
  await node.untilCappedAt(FORMER_KHZ);
  await node.stays('not capped while barred', () => node.isCappedAt(FORMER_KHZ), 1_500);
  t.match(await node.status(), { alerts: 1, bars: [{ rule: 'thermal-cpu' }] }, 'it goes on to alert');
  await node.untilCappedAt(KHZ.throttle10);
  t.ok(performance.now() - releasedAtMs > 2_000, 'only after the bar');
  t.ok(
    (await node.audit()).some(({ kind, who }) => kind === 'release.operator' && who !== 'agent'),
    'on record',
  );
  t.match(await node.cli('silence', 'add', 'thermal-*'), { code: 0, out: /It covers [1-9]\d* rules?, .* and 1 alert/ });
  await node.until('silenced', async () => (await node.alerts())[0]?.silenced === true);
  t.ok(node.isCappedAt(KHZ.throttle10), 'a silence takes no cap away');
  t.match(await node.cli('breaker', 'list'), { code: 0, out: /No breaker has learnt anything/ });
});

t.test('skos release leaves standing orders in force', async (t) => {
  const node = await heatedNode(t);
  await warm(node);
  t.equal((await node.cli('release')).code, 0);
  await node.untilCappedAt(FORMER_KHZ);
  node.celsius(CELSIUS.emergency);
  await node.untilCappedAt(KHZ.throttle50);
  t.same((await node.status()).actuator.leases, [], 'no lease: the order alone');
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
});

t.test(
  'skos arm lets an observing node act, skos disarm ends it and its caps',
  { skip: !isRoot && 'needs root' },
  async (t) => {
    const node = await heatedNode(t, { mode: 'observe' });
    node.celsius(CELSIUS.warning);
    await node.until('the alert stands', async () => (await node.alerts()).length === 1);

    const before = readFileSync(join(node.runDirectory, 'actuator.allow'), 'utf8');
    const wrong = await node.cliWithConfig('arm', '--confirm', 'lyra');
    t.not(wrong.code, 0, 'a wrong name is refused');
    t.notOk(existsSync(armedFile(node)));
    t.equal(readFileSync(join(node.runDirectory, 'actuator.allow'), 'utf8'), before);
    t.match(await node.status(), { mode: 'observe', armed: false });
    await node.stays('nothing is changed', () => node.isCappedAt(FORMER_KHZ), 500);

    const armed = await node.cliWithConfig('arm', '--confirm', 'nova');
    t.match(armed, { code: 0, out: /throttle_10[\s\S]*Armed/ }, `shows what it would do: ${armed.err}`);
    await node.untilCappedAt(KHZ.throttle10);
    t.match(await node.status(), { mode: 'auto', armed: true });
    t.equal((await node.status()).actuator.orders.length, 1, 'with its standing order');

    const disarmed = await node.cliWithConfig('disarm');
    t.equal(disarmed.code, 0, disarmed.err);
    await node.untilCappedAt(FORMER_KHZ);
    t.notOk(existsSync(armedFile(node)));
    const { mode, armed: isArmed, actuator } = await node.status();
    t.match({ mode, isArmed }, { mode: 'observe', isArmed: false });
    t.same(actuator.orders, []);
    node.celsius(CELSIUS.emergency);
    await node.until('the alert rises', async () => (await node.alerts())[0]?.severity === 'emergency');
    await node.stays('untouched', () => node.isCappedAt(FORMER_KHZ), 500);
  },
);

t.test(
  'skos disarm while a standing order holds gives back what it holds',
  { skip: !isRoot && 'needs root' },
  async (t) => {
    const node = await heatedNode(t, { mode: 'observe' });
    t.equal((await node.cliWithConfig('arm', '--confirm', 'nova')).code, 0);
    node.celsius(CELSIUS.emergency);
    await node.untilCappedAt(KHZ.throttle50);
    const disarmed = await node.cliWithConfig('disarm');
    t.equal(disarmed.code, 0, disarmed.err);
    await node.untilCappedAt(FORMER_KHZ);
  },
);

function armedFile(node: HeatedNode): string {
  return join(node.configFile, '../conf.d/90-armed.yaml');
}

t.test('an invalid configuration is refused before anything starts, with file, line and a hint', async (t) => {
  const node = await heatedNode(t, { prepared: true });
  writeFileSync(
    node.configFile,
    `node: nova\ndata_dir: ${node.dataDirectory}\nthermal:\n  treshholds: { warning: 75 }\n`,
  );
  node.spawnAgent();
  t.equal(await node.exited, EXIT_CONFIG);
  const line = node.log().find(({ level }) => level === 'fatal');
  t.equal(line?.code, 'SKOS_CONFIG_INVALID');
  t.match(line?.msg, /skos\.yaml:4\b[\s\S]*did you mean "?thresholds/);
  t.notOk(existsSync(node.dataDirectory), 'no data directory was made');
  t.equal(node.processes().size, 0, 'nothing runs');
});

t.test('SIGHUP with a bad file keeps the old configuration running, and says so', async (t) => {
  const node = await heatedNode(t);
  await warm(node);
  writeFileSync(node.configFile, 'node: nova\nmode: sometimes\n');
  node.signal('SIGHUP');
  await node.until('it says so', () => node.log().some(({ event }) => event === 'config.refused'));
  t.match(
    node.log().find(({ event }) => event === 'config.refused'),
    { code: 'SKOS_CONFIG_INVALID', msg: /skos\.yaml:2/ },
  );
  t.match(await node.status(), { mode: 'auto', armed: true });
  t.ok(node.isCappedAt(KHZ.throttle10), 'the cap stands');
  node.celsius(CELSIUS.critical);
  await node.untilCappedAt(KHZ.throttle50);
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
});

t.test('SIGHUP with a good file applies: bounds, actions and mode', async (t) => {
  const node = await heatedNode(t, { celsius: 65 });
  node.configure({
    thermal: {
      keep: 1,
      thresholds: { warning: 60, critical: 85, emergency: 95 },
      actions: { warning: ['throttle_25'] },
    },
  });
  node.signal('SIGHUP');
  await node.untilCappedAt(2_100_000);
  await node.until('on record', async () => (await node.audit()).some(({ kind }) => kind === 'config.reloaded'));
  t.match(await node.alerts(), [{ severity: 'warning', threshold: 60 }]);

  node.configure({ mode: 'observe', thermal: { keep: 1, thresholds: { warning: 60, critical: 85, emergency: 95 } } });
  node.signal('SIGHUP');
  await node.untilCappedAt(FORMER_KHZ);
  await node.until('it observes', async () => (await node.status()).mode === 'observe');
  t.match(await node.alerts(), [{ severity: 'warning' }], 'the alert stands all the same');
  // The list without them is compiled once the configuration is in force.
  await node.until('no order stands', async () => (await node.status()).actuator.orders.length === 0);
});

t.test('a second agent on the same data directory is refused, and the first is not disturbed', async (t) => {
  const node = await heatedNode(t);
  await warm(node);
  const second = await heatedNode(t, {
    prepared: true,
    config: { data_dir: node.dataDirectory, actuator: { mode: 'off' } },
  });
  second.spawnAgent();
  t.equal(await second.exited, 1);
  t.match(
    second.log().find(({ level }) => level === 'fatal'),
    { code: 'SKOS_STORE_LOCKED' },
  );
  t.ok(node.isCappedAt(KHZ.throttle10));
  t.match(await node.status(), { store: { ok: true }, actuator: { connected: true } });
});

t.test('a second agent on the same run directory is refused, and the first keeps its socket', async (t) => {
  const node = await heatedNode(t);
  await warm(node);
  const second = await heatedNode(t, {
    prepared: true,
    runDirectory: node.runDirectory,
    config: { actuator: { mode: 'off' } },
  });
  second.spawnAgent();
  t.equal(await second.exited, 1);
  t.ok(
    second.log().some(({ code }) => code === 'SKOS_SOCKET_BUSY'),
    second.logText(),
  );
  t.match(await node.status(), { pid: node.pid, actuator: { connected: true } });
  t.ok(node.isCappedAt(KHZ.throttle10));
});

t.test('a database that cannot be opened: the node protects, and says that the record is in memory only', async (t) => {
  const node = await heatedNode(t, { prepared: true });
  // A link that leads to itself where the database's directory would be: nobody can open it, root included.
  mkdirSync(node.dataDirectory);
  symlinkSync('db', join(node.dataDirectory, 'db'));
  await node.start();
  t.match(await node.status(), { store: { ok: false } });
  t.match(await node.cli('status'), { code: 0, out: /in memory only/ });
  await warm(node);
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
  await node.until('the action is known', async () => (await node.actions())[0]?.state === 'released');
});

const mount = (...args: string[]) => spawnSync('mount', args).status === 0;

/** A small file system of its own; undefined where this user may not mount one. */
function tmpfs(t: Pick<Test, 'teardown'>): string | undefined {
  const path = mkdtempSync(join(tmpdir(), 'skos-full-'));
  const isMounted = mount('-t', 'tmpfs', '-o', 'size=12m', 'skos-test', path);
  t.teardown(() => {
    if (isMounted) spawnSync('umount', ['-l', path]);
    rmdirSync(path);
  });
  return isMounted ? path : undefined;
}

/** For tests that are skipped where there is none. */
function ownTmpfs(t: Test): string {
  const path = tmpfs(t);
  if (path === undefined) throw new Error('no tmpfs, although there was one before');
  return path;
}

function whyNoMount(): string | false {
  const undo: (() => unknown)[] = [];
  const path = tmpfs({ teardown: (handler) => void undo.push(handler) } as Pick<Test, 'teardown'>);
  for (const each of undo) each();
  return path === undefined && 'mounting a tmpfs needs root and CAP_SYS_ADMIN';
}

const noMount = whyNoMount();

function fill(directory: string): void {
  const fd = openSync(join(directory, 'filler'), 'w');
  try {
    for (const size of [65_536, 512, 1]) {
      const chunk = Buffer.alloc(size, 1);
      try {
        while (writeSync(fd, chunk) > 0);
      } catch {
        // ENOSPC is what is wanted; the smaller ones go on.
      }
    }
  } finally {
    closeSync(fd);
  }
}

t.test(
  'a disk that fills while the node runs: it protects, and says that nothing is kept; mended when there is room',
  { skip: noMount },
  async (t) => {
    const directory = ownTmpfs(t);
    const node = await heatedNode(t, { config: { data_dir: join(directory, 'data') } });
    fill(directory);
    await warm(node);
    await node.until('the status says so', async () => !(await node.status()).store.ok);
    t.match(await node.cli('status'), { code: 0, out: /memory/ });
    node.celsius(CELSIUS.critical);
    await node.untilCappedAt(KHZ.throttle50);
    rmSync(join(directory, 'filler'));
    node.celsius(CELSIUS.cool);
    await node.untilCappedAt(FORMER_KHZ);
    await node.until('it is kept again', async () => (await node.status()).store.ok);
    await node.until('with what happened meanwhile', async () =>
      (await node.audit()).some(({ kind, what }) => kind === 'action.end' && what.state === 'released'),
    );
    t.match(await node.cli('audit', 'verify'), { code: 0 });
  },
);

t.test(
  'a data directory that is read-only: the node protects, and says that the record is in memory only',
  { skip: noMount },
  async (t) => {
    const directory = ownTmpfs(t);
    t.ok(mount('-o', 'remount,ro', directory));
    const node = await heatedNode(t, { prepared: true, config: { data_dir: directory } });
    await node.start();
    t.match(await node.status(), { store: { ok: false } });
    t.match(await node.cli('status'), { code: 0, out: /in memory only/ });
    await warm(node);
    node.celsius(CELSIUS.cool);
    await node.untilCappedAt(FORMER_KHZ);
  },
);
