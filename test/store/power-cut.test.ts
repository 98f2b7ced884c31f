/**
 * The disk that forgets is itself proven here: what was not synced is gone, what was synced is there, and nothing else. What
 * the store makes of such a disk is in injection.test.ts.
 */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/core/clock.js';
import { openStore } from '../../src/store/store.js';
import { DiskFault, ERRNO, FAULTY, noDiskFault } from '../fixtures/disk-fault.js';
import { recordingLog } from '../fixtures/logs.js';

const WRITER = fileURLToPath(new URL('../fixtures/disk-writer.js', import.meta.url));
const skip = noDiskFault;

function place(t: Test): { root: string; disk: (options?: { forgets: boolean }) => DiskFault } {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'skos-p-')));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const root = join(directory, 'data');
  mkdirSync(root);
  let n = 0;
  const disk = ({ forgets } = { forgets: true }) =>
    new DiskFault({ root, place: join(directory, `disk-${n++}`), forgets });
  return { root, disk };
}

function die(disk: DiskFault, root: string, ...steps: string[]): string {
  const env = { ...process.env, NODE_OPTIONS: '', ...disk.env };
  const { signal, stdout, stderr } = spawnSync(process.execPath, [WRITER, root, ...steps], { env, encoding: 'utf8' });
  if (signal !== 'SIGKILL') throw new Error(`the writer ended with ${signal}: ${stderr}`);
  return stdout;
}

const content = (root: string) =>
  Object.fromEntries(
    readdirSync(root)
      .sort()
      .map((name) => [name, readFileSync(join(root, name), 'utf8')]),
  );

t.test(
  'the disk that forgets keeps what was synced and nothing else, and the writer reads all of it',
  { skip },
  (t) => {
    const { root, disk } = place(t);
    writeFileSync(join(root, 'old'), 'old');
    const cut = disk();
    const read = die(
      cut,
      root,
      'write:a:one',
      'sync:a',
      'write:a:two',
      'write:b:none',
      'write:old:er',
      'read:a',
      'read:b',
    );
    t.equal(read, 'onetwo\nnone\n');
    t.match(content(root), { a: 'onetwo', b: 'none', old: 'older' });
    cut.cutPower();
    t.strictSame(content(root), { a: 'one', old: 'old' });
    t.end();
  },
);

t.test('the disk that forgets brings back names whose directory was not synced', { skip }, (t) => {
  const { root, disk } = place(t);
  for (const name of ['kept', 'removed', 'moved', 'target']) writeFileSync(join(root, name), name);
  const first = disk();
  die(first, root, 'unlink:removed', 'rename:moved:target', 'write:empty:', 'truncate:kept:2');
  t.strictSame(content(root), { empty: '', kept: 'ke', target: 'moved' });
  first.cutPower();
  t.strictSame(content(root), { kept: 'kept', moved: 'moved', removed: 'removed', target: 'target' });
  const second = disk();
  die(
    second,
    root,
    'unlink:removed',
    'rename:moved:target',
    'write:empty:x',
    'truncate:kept:2',
    'sync:kept',
    'syncdir',
    'unlink:kept',
  );
  second.cutPower();
  t.strictSame(content(root), { empty: '', kept: 'ke', target: 'moved' }, 'a name is there before its content');
  t.end();
});

t.test(
  'the disk that forgets gives a synced file the name that it has then, and other files nothing',
  { skip },
  (t) => {
    const { root, disk } = place(t);
    writeFileSync(join(root, 'CURRENT'), 'former');
    const cut = disk();
    die(cut, root, 'write:tmp:new', 'sync:tmp', 'rename:tmp:CURRENT', 'write:log:entry', 'sync:log');
    cut.cutPower();
    t.strictSame(content(root), { CURRENT: 'former', log: 'entry', tmp: 'new' });
    const again = disk();
    die(again, root, 'rename:tmp:CURRENT', 'sync:CURRENT');
    again.cutPower();
    t.strictSame(content(root), { CURRENT: 'new', log: 'entry' });
    t.end();
  },
);

t.test('the disk that forgets lets sectors arrive by themselves, and never bytes that nobody wrote', { skip }, (t) => {
  const { root, disk } = place(t);
  const sectors = Array.from({ length: 40 }, (_, i) => String.fromCharCode(65 + (i % 26)).repeat(512)).join('');
  let torn = 0;
  for (let seed = 1; seed <= 6; seed++) {
    const cut = disk();
    cut.set({ seed, writebackPermille: 1000 });
    die(cut, root, `write:a:${sectors}`, 'write:b:x', 'write:b:y');
    cut.cutPower();
    const { a } = content(root);
    if (a === undefined) continue;
    for (let at = 0; at < a.length; at += 512) {
      const arrived = a.slice(at, at + 512);
      if (arrived !== sectors.slice(at, at + 512) && arrived !== '\0'.repeat(512)) t.fail(`seed ${seed}: ${arrived}`);
    }
    if (a !== sectors) torn++;
    rmSync(join(root, 'a'));
  }
  t.ok(torn > 0, `${torn} of 6 were torn`);
  t.end();
});

t.test('the failing disk fails as it is told, and writes half where it is told so', { skip }, (t) => {
  const { root, disk } = place(t);
  const full = disk({ forgets: false });
  full.set({ what: FAULTY.write, errno: ERRNO.ENOSPC, skip: 1, count: 2 });
  t.equal(die(full, root, 'try:a:1', 'try:a:2', 'try:a:3', 'try:a:4'), 'written\nENOSPC\nENOSPC\nwritten\n');
  t.match(content(root), { a: '14' });
  const short = disk({ forgets: false });
  short.set({ what: FAULTY.write, short: 1, count: 1 });
  // libuv goes on where a write was short: two writes, nothing lost and nothing twice.
  t.equal(die(short, root, 'try:b:123456'), 'written\n');
  t.equal(content(root).b, '123456');
  t.equal(short.get('faults'), 1);
  t.equal(short.get('operations'), 4, 'a creation, two writes, a sync');
  const failing = disk();
  failing.set({ what: FAULTY.sync, errno: ERRNO.EIO, count: 1 });
  t.equal(die(failing, root, 'try:c:lost', 'try:c:kept'), 'EIO\nwritten\n');
  failing.cutPower();
  t.equal(content(root).c, '\0\0\0\0kept', 'what a failed fsync was to write does not come with the next one');
  t.end();
});

t.test('a power cut at each of its first writes leaves a store that opens', { skip, timeout: 60_000 }, async (t) => {
  const { root, disk } = place(t);
  const load = fileURLToPath(new URL('../fixtures/store-load.js', import.meta.url));
  let began = 0;
  for (let killAt = 1; killAt <= 40; killAt += 3) {
    const cut = disk();
    cut.set({ killAt });
    const options = JSON.stringify({ dataDir: root, flushMs: 100, inFlight: 1 });
    const { signal, stdout } = spawnSync(process.execPath, [load, options], {
      env: { ...process.env, NODE_OPTIONS: '', ...cut.env },
      encoding: 'utf8',
    });
    t.equal(signal, 'SIGKILL');
    cut.cutPower();
    cut.remove();
    const acknowledged = [...stdout.matchAll(/^A \d+ (\d+)/gm)].map(([, seq]) => Number(seq));
    if (stdout !== '') began++;
    const log = recordingLog();
    const store = await openStore({ dataDir: root, log, clock: systemClock });
    t.match(await store.audit.verify(), { ok: true }, `killed at operation ${killAt}`);
    t.ok(store.audit.head().seq >= Math.max(0, ...acknowledged));
    await store.stop();
    for (const name of readdirSync(root)) rmSync(join(root, name), { recursive: true });
  }
  t.ok(began > 2, `${began} of them had begun`);
  t.notOk(existsSync(join(root, 'db')));
});
