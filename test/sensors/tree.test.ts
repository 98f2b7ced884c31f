/** The tree that discovery reads: what is planted in it must neither block nor lead out of it. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdirSync, openSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { compareNaturally, FileTree, rootsFromEnvironment } from '../../src/sensors/tree.js';

function makeFifo(path: string): void {
  execFileSync('mkfifo', [path]);
}

t.test('takes the roots of this machine, or those that the environment names', async (t) => {
  t.same(rootsFromEnvironment({}), { sysfs: '/sys', proc: '/proc', dev: '/dev', cgroup: '/sys/fs/cgroup' });
  t.equal(rootsFromEnvironment({ SKOS_SYSFS_ROOT: '/fake' }).cgroup, '/fake/fs/cgroup');
  t.same(
    rootsFromEnvironment({
      SKOS_SYSFS_ROOT: '/a',
      SKOS_PROC_ROOT: '/b',
      SKOS_DEV_ROOT: '/c',
      SKOS_CGROUP_ROOT: '/d',
    }),
    { sysfs: '/a', proc: '/b', dev: '/c', cgroup: '/d' },
  );
});

t.test('reads text and integers, trimmed', async (t) => {
  const tree = new FileTree(t.testdir({ a: ' 42\n', b: '-44000', c: 'x 1', d: '', big: '99999999999999999999' }));
  t.equal(await tree.text('a'), '42');
  t.equal(await tree.integer('a'), 42);
  t.equal(await tree.integer('b'), -44_000);
  for (const path of ['c', 'd', 'big', 'none']) t.equal(await tree.integer(path), undefined, path);
  t.equal(await tree.text('d'), '', 'empty is not absent');
  t.equal(await tree.text('none'), undefined);
});

t.test('lists matching names in natural order, and nothing where there is no directory', async (t) => {
  const tree = new FileTree(t.testdir({ d: { temp10: '', temp2: '', temp1: '', fan1: '' }, file: '' }));
  t.same(await tree.list('d', /^temp/), ['temp1', 'temp2', 'temp10']);
  t.same(await tree.list('none', /./), []);
  t.same(await tree.list('file', /./), []);
});

t.test('sorts any names consistently', async () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (a, b) => {
      return Math.sign(compareNaturally(a, b)) === -Math.sign(compareNaturally(b, a)) || a === b;
    }),
  );
});

t.test('does not block on a FIFO, and takes neither it nor a directory for a file', async (t) => {
  const root = t.testdir({ directory: {} });
  makeFifo(join(root, 'fifo'));
  symlinkSync('fifo', join(root, 'link'));
  const tree = new FileTree(root, { readDeadlineMs: 60_000 });
  for (const path of ['fifo', 'link', 'directory']) t.equal(await tree.text(path), undefined, path);
  t.same(tree.stuck, []);
});

t.test('does not open a FIFO that has a writer either', async (t) => {
  const root = t.testdir();
  makeFifo(join(root, 'fifo'));
  const fd = openSync(join(root, 'fifo'), constants.O_RDWR);
  t.teardown(() => closeSync(fd));
  t.equal(await new FileTree(root).text('fifo'), undefined);
});

t.test('reads no more of a huge file than its bound', async (t) => {
  const root = t.testdir();
  writeFileSync(join(root, 'huge'), Buffer.alloc(10 * 1024 * 1024, 'x'));
  const tree = new FileTree(root);
  t.equal((await tree.text('huge'))?.length, 64 * 1024);
  t.equal((await tree.text('huge', { maxBytes: 1000 }))?.length, 1000);
  t.equal(await tree.integer('huge'), undefined);
});

t.test('follows links within the root, not out of it', async (t) => {
  const base = t.testdir({ root: { devices: { x: { temp: '1' } }, class: {} }, secret: { file: 'hidden' } });
  const root = join(base, 'root');
  symlinkSync('../devices/x', join(root, 'class/inside'));
  symlinkSync('../../secret', join(root, 'class/outside'));
  symlinkSync(join(base, 'secret/file'), join(root, 'class/absolute'));
  symlinkSync('nowhere', join(root, 'class/dangling'));
  symlinkSync('loop', join(root, 'class/loop'));
  const tree = new FileTree(root);
  t.equal(await tree.resolve('class/inside'), 'devices/x');
  t.equal(await tree.text('class/inside/temp'), '1');
  for (const path of ['class/outside', 'class/absolute', 'class/dangling', 'class/loop', 'class/outside/file']) {
    t.equal(await tree.resolve(path), undefined, path);
    t.equal(await tree.text(path), undefined, path);
    t.equal(await tree.exists(path), false, path);
    t.same(await tree.list(path, /./), [], path);
  }
});

t.test('is not led out by a root that is the head of another name, nor by ".."', async (t) => {
  const base = t.testdir({ sys: { a: '1' }, 'sys-other': { b: '2' } });
  const tree = new FileTree(join(base, 'sys'));
  t.equal(await tree.text('../sys-other/b'), undefined);
  t.equal(tree.absolute('../../../etc/passwd'), join(base, 'sys/etc/passwd'));
  t.equal(await tree.resolve('.'), '');
});

t.test('works where the root is a link, absent at first, or the whole file system', async (t) => {
  const base = t.testdir({ real: { a: '1' } });
  symlinkSync('real', join(base, 'link'));
  t.equal(await new FileTree(join(base, 'link')).text('a'), '1');
  const late = new FileTree(join(base, 'late'));
  t.equal(await late.text('a'), undefined);
  mkdirSync(join(base, 'late'));
  writeFileSync(join(base, 'late/a'), '2');
  t.equal(await late.text('a'), '2');
  t.equal(await new FileTree('/').exists('proc/self'), true);
});

t.test('reads files of /proc, which state no size', async (t) => {
  const tree = new FileTree('/proc');
  t.match(await tree.text('stat'), /^cpu /);
  t.match(await tree.text('self/mountinfo'), / - /);
});

t.test('gives up a read that takes too long, spares that file meanwhile, and asks again afterwards', async (t) => {
  const root = t.testdir({ slow: { quick: '2' }, other: { quick: '3' } });
  const bytes = 64 * 1024 * 1024;
  writeFileSync(join(root, 'slow/huge'), Buffer.alloc(bytes, 'x'));
  const tree = new FileTree(root, { readDeadlineMs: 1 });
  // A thousand pieces take longer than 1 ms on any machine.
  t.equal(await tree.text('slow/huge', { maxBytes: bytes }), undefined);
  t.same(tree.stuck, ['slow/huge']);
  t.equal(await tree.text('slow/huge'), undefined, 'at once, and without a second read');
  t.same(tree.stuck, ['slow/huge']);
  t.equal(await new FileTree(root).text('slow/quick'), '2', 'names stay readable');
  while (tree.stuck.length > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  const patient = new FileTree(root);
  t.equal(await patient.text('slow/quick'), '2');
});

t.test('fails, instead of saying "absent", while as many reads hang as may, and recovers', async (t) => {
  const root = t.testdir({ a: {}, b: {}, c: { file: '1' } });
  const bytes = 64 * 1024 * 1024;
  for (const name of ['a', 'b']) writeFileSync(join(root, name, 'huge'), Buffer.alloc(bytes, 'x'));
  const tree = new FileTree(root, { readDeadlineMs: 1 });
  const hanging = ['a', 'b'].map((name) => tree.text(`${name}/huge`, { maxBytes: bytes }));
  const waiting = tree.text('c/file');
  t.same(await Promise.all(hanging), [undefined, undefined]);
  await t.rejects(waiting, 'a read that waited for its turn');
  await t.rejects(tree.text('c/file'));
  const another = new FileTree(root);
  t.same([...another.stuck].sort(), ['a/huge', 'b/huge'], 'the pool is the process, not the tree');
  await t.rejects(another.text('c/file'));
  while (tree.stuck.length > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  t.equal(await another.text('c/file'), '1');
});

t.test('fails as well when the reads that hang are of one directory', async (t) => {
  const root = t.testdir({ a: {}, c: { file: '1' } });
  const bytes = 64 * 1024 * 1024;
  for (const name of ['huge1', 'huge2']) writeFileSync(join(root, 'a', name), Buffer.alloc(bytes, 'x'));
  const tree = new FileTree(root, { readDeadlineMs: 1 });
  await Promise.all(['huge1', 'huge2'].map((name) => tree.text(`a/${name}`, { maxBytes: bytes })));
  t.equal(tree.stuck.length, 2);
  t.equal(await tree.text('a/huge1'), undefined);
  await t.rejects(tree.text('c/file'));
  while (tree.stuck.length > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  t.equal(await new FileTree(root).text('c/file'), '1');
});

t.test('does not blame a driver for an event loop that was blocked', async (t) => {
  const root = t.testdir({ file: '1' });
  const tree = new FileTree(root, { readDeadlineMs: 100 });
  const reading = tree.text('file');
  // Let the read begin, then hold the loop for longer than the deadline.
  await new Promise((resolve) => setImmediate(resolve));
  const until = Date.now() + 200;
  while (Date.now() < until);
  t.equal(await reading, '1');
  t.same(tree.stuck, []);
});

t.test('nor for one whose every turn is long, as on a machine without time', async (t) => {
  const tree = new FileTree(t.testdir({ file: '1' }), { readDeadlineMs: 80 });
  // A read has six steps, and each turn lets it take one.
  let isBusy = true;
  const turn = () => {
    const until = Date.now() + 25;
    while (Date.now() < until);
    if (isBusy) setImmediate(turn);
  };
  turn();
  t.teardown(() => {
    isBusy = false;
  });
  t.equal(await tree.text('file'), '1');
  t.same(tree.stuck, []);
});

t.test('answers any number of reads at once', async (t) => {
  const files = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`f${i}`, String(i)]));
  const tree = new FileTree(t.testdir(files));
  const values = await Promise.all(Object.keys(files).map((name) => tree.integer(name)));
  t.same(
    values,
    Array.from({ length: 300 }, (_, i) => i),
  );
});
