import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, closeSync, mkdirSync, openSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fileSystemOf, openFiles } from '../../src/acts/in-use.js';
import { readPlan } from '../../src/acts/plan-file.js';
import { placeOf, planOf, scratch } from '../fixtures/acts.js';

const plan = planOf('cleanup_temp', [placeOf('/scratch/tmp')]);

t.test(
  'believes a plan only that nobody else could have written, and only what a configuration could have said',
  async (t) => {
    const base = scratch(t);
    const file = join(base, 'plan.json');
    const write = (text: string, mode = 0o644) => {
      writeFileSync(file, text);
      chmodSync(file, mode);
    };
    const refused = (what: string, path = file) =>
      t.throws(() => readPlan(path, 'cleanup_temp'), { code: 'SKOS_ACT_PLAN' }, what);
    refused('absent');
    write(JSON.stringify(plan));
    t.match(readPlan(file, 'cleanup_temp'), { places: [{ path: '/scratch/tmp' }] });
    t.throws(() => readPlan(file, 'emergency_cleanup'), { code: 'SKOS_ACT_PLAN' }, 'the plan of another act');
    for (const mode of [0o664, 0o646, 0o666]) {
      write(JSON.stringify(plan), mode);
      refused(mode.toString(8));
    }
    for (const text of [
      '',
      '{',
      'null',
      '[]',
      JSON.stringify({ ...plan, v: '2' }),
      JSON.stringify({ ...plan, more: 1 }),
      ' '.repeat(300_000),
    ]) {
      write(text);
      refused(text.slice(0, 20));
    }
    for (const path of ['/', '/etc', '/scratch/../etc', 'scratch/tmp', '/usr/share/x', '/var/lib', '/scratch/*']) {
      write(JSON.stringify(planOf('cleanup_temp', [placeOf(path)])));
      refused(path);
      write(JSON.stringify({ ...plan, archiveTo: { path, inside: '/' } }));
      refused(`archive to ${path}`);
    }
    write(JSON.stringify(plan));
    symlinkSync(file, join(base, 'link'));
    refused('a link', join(base, 'link'));
    mkdirSync(join(base, 'directory'));
    refused('a directory', join(base, 'directory'));
  },
);

t.test('sees what another process has open, a directory too, and not its own', async (t) => {
  const base = scratch(t);
  const paths = [join(base, 'file'), base];
  writeFileSync(join(base, 'file'), '');
  const handles = paths.map((path) => openSync(path, 'r'));
  const inodes = paths.map((path) => statSync(path, { bigint: true }).ino);
  const own = fileSystemOf(handles[1] ?? -1);
  t.match(own, /^\d+:\d+$/);
  const isSeen = (fileSystem = own) => inodes.map((inode) => openFiles(fileSystem).inodes.has(inode));
  t.same(isSeen(), [false, false]);
  const child: ChildProcess = spawn('sleep', ['60'], { stdio: ['ignore', ...handles] });
  t.teardown(() => child.kill('SIGKILL'));
  for (const handle of handles) closeSync(handle);
  t.same(isSeen(), [true, true]);
  t.same(isSeen('0:99999'), [false, false], 'files of another file system have such numbers too');

  const block = (name: string) => join(base, 'sys/block', name);
  for (const name of ['loop0/loop', 'loop1', 'sda']) mkdirSync(block(name), { recursive: true });
  writeFileSync(block('loop0/loop/backing_file'), '/data/i\u00e4\nmage\n');
  const { paths: images } = openFiles(own, '/proc', join(base, 'sys'));
  t.same([...(images ?? [])], [Buffer.from('/data/i\u00e4\nmage').toString('latin1')], 'and what the kernel has open');
});
