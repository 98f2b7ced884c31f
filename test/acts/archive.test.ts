/** What is archived is whole in one of both places at every moment, whatever fills up, changes or is killed. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { constants as osConstants, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { PARTIAL } from '../../src/acts/archive.js';
import { parseMounts, placeInFileSystem } from '../../src/core/mount-info.js';
import { loadAddon } from '../../src/sensors/addon.js';
import { placeOf, planOf, runAct, scratch, UNTIL_OLD_MS } from '../fixtures/acts.js';
import { Random } from '../fixtures/random.js';

const canMount = (() => {
  const probe = spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']);
  return process.getuid?.() === 0 && probe.status === 0;
})();
const addon = loadAddon();
const skip = canMount ? false : 'file systems cannot be mounted here';
const MIB = 2 ** 20;

function inside(path: string): string {
  return placeInFileSystem(path, parseMounts(readFileSync('/proc/self/mountinfo', 'utf8'))) ?? '';
}

interface Disks {
  readonly base: string;
  readonly place: string;
  readonly archive: string;
}

/** A place, and an archive on a file system of its own. */
function disks(t: Test, sizeMib: number): Disks {
  const base = scratch(t);
  const [place, archive] = [join(base, 'place'), join(base, 'archive')];
  mkdirSync(place);
  mkdirSync(archive);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMib}m`, 'tmpfs', archive]);
  t.teardown(() => spawnSync('umount', [archive]));
  return { base, place, archive };
}

function planFor({ place, archive }: Disks) {
  return planOf('archive_old_data', [placeOf(place)], { archiveTo: { path: archive, inside: inside(archive) } });
}

const afterAWhile = () => new Promise((resolve) => setTimeout(resolve, UNTIL_OLD_MS));
/** Without making it younger. */
function sum(path: string): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOATIME);
  try {
    return createHash('sha256').update(readFileSync(fd)).digest('hex');
  } finally {
    closeSync(fd);
  }
}

t.test('moves what is old, as it was, and leaves what must not be moved', { skip }, async (t) => {
  const disk = disks(t, 64);
  const { base, place, archive } = disk;
  const at = (name: string) => join(place, name);
  mkdirSync(at('run 1'));
  chmodSync(at('run 1'), 0o750);
  chownSync(at('run 1'), 1234, 4321);
  const content: Record<string, Buffer> = {
    'run 1/result\nä.bin': new Random(1).bytes(300_001),
    equal: Buffer.from('equal'),
    other: Buffer.from('mine'),
    empty: Buffer.alloc(0),
    swapped: Buffer.from('swapped'),
  };
  for (const [name, bytes] of Object.entries(content)) writeFileSync(at(name), bytes);
  chmodSync(at('run 1/result\nä.bin'), 0o640);
  chownSync(at('run 1/result\nä.bin'), 1234, 4321);
  const sparse = openSync(at('sparse'), 'w');
  ftruncateSync(sparse, 20 * MIB);
  writeSync(sparse, 'x', 10 * MIB);
  closeSync(sparse);
  writeFileSync(at('named twice'), 'x');
  linkSync(at('named twice'), at('its other name'));
  symlinkSync('/etc/passwd', at('link'));
  writeFileSync(at('open'), 'being written');
  const before = statSync(at('run 1/result\nä.bin'));
  await afterAWhile();
  writeFileSync(at('young'), '');
  const there = (name: string) => join(archive, place, name);
  mkdirSync(dirname(there('x')), { recursive: true });
  writeFileSync(there('equal'), 'equal');
  writeFileSync(there('other'), 'another of this name');
  mkdirSync(join(base, 'trap'));
  symlinkSync(join(base, 'trap'), there('trapped'));
  const open = BigInt(statSync(at('open')).ino);
  const given = { openFiles: () => ({ inodes: new Set([open]), unseen: 0 }) };
  const plan = planFor(disk);
  const listing = runAct({ plan, reports: base, isListing: true, given }).report;
  t.same(readdirSync(archive), [place.split('/')[1]], 'a listing makes nothing in the archive');
  const meanwhile = () => {
    appendFileSync(at('swapped'), ' later');
  };
  const { report, said } = runAct({ plan, reports: base, given, meanwhile });
  t.equal(report.digest, listing.digest);
  t.same(readdirSync(place).sort(), [
    'its other name',
    'link',
    'named twice',
    'open',
    'other',
    'run 1',
    'swapped',
    'young',
  ]);
  t.match(report, { ok: true, total: 6, summary: /^moved 4, .*, 2 of the list stay$/ });
  t.match(report.details, { places: [{ kept: { hard_link: 2, in_use: 1 } }] });
  t.match(said.join('\n'), /other stays: the archive has another file of this name/);
  const moved = statSync(there('run 1/result\nä.bin'));
  t.match(moved, { mode: before.mode, uid: 1234, gid: 4321, size: 300_001 });
  t.ok(Math.abs(moved.mtimeMs - before.mtimeMs) < 1);
  t.match(statSync(dirname(there('run 1/x'))), { uid: 1234, gid: 4321 });
  t.equal(statSync(dirname(there('run 1/x'))).mode & 0o7777, 0o750);
  t.ok(readFileSync(there('run 1/result\nä.bin')).equals(content['run 1/result\nä.bin'] ?? Buffer.alloc(0)));
  t.equal(statSync(there('sparse')).size, 20 * MIB);
  t.ok(statSync(there('sparse')).blocks * 512 < MIB, 'holes stay holes');
  t.equal(readFileSync(there('other'), 'utf8'), 'another of this name', 'nothing is overwritten');
  t.same(readdirSync(join(archive, PARTIAL)), []);
});

/** posix_acl_xattr of linux/posix_acl_xattr.h: owner, a user, group, mask, others. */
function accessList(user: number): Buffer {
  const list = Buffer.alloc(4 + 5 * 8);
  list.writeUInt32LE(2);
  [
    [0x01, 6, -1],
    [0x02, 6, user],
    [0x04, 0, -1],
    [0x10, 6, -1],
    [0x20, 0, -1],
  ].forEach(([tag = 0, permissions = 0, id = -1], i) => {
    list.writeUInt16LE(tag, 4 + i * 8);
    list.writeUInt16LE(permissions, 6 + i * 8);
    list.writeInt32LE(id, 8 + i * 8);
  });
  return list;
}
const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';
const CAPABILITY = 'security.capability';
/** Version 2: CAP_NET_RAW, effective. */
const NET_RAW = Buffer.from('0100000200200000000000000000000000000000', 'hex');

function attributesOf(path: string): Record<string, string> {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    const names = addon.attributeNames(fd);
    if (typeof names === 'number') throw new Error(String(names));
    const kept = names.filter((name) => !name.startsWith('security.') || name === CAPABILITY);
    return Object.fromEntries(
      kept.map((name) => [name, Buffer.from(addon.getAttribute(fd, name) as Buffer).toString('hex')]),
    );
  } finally {
    closeSync(fd);
  }
}

function give(path: string, attributes: Record<string, Buffer>): number {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    return Math.max(...Object.entries(attributes).map(([name, value]) => addon.setAttribute(fd, name, value)));
  } finally {
    closeSync(fd);
  }
}

/** Both here and on a tmpfs, which has attributes of users since Linux 6.6. */
const canGive = (() => {
  const path = mkdtempSync(join(tmpdir(), 'skos-x-'));
  const isGiven = () => give(path, { [DEFAULT]: accessList(9), 'user.x': Buffer.from('x') }) === 0;
  try {
    if (!canMount || !isGiven()) return false;
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', path]);
    try {
      return isGiven();
    } finally {
      execFileSync('umount', [path]);
    }
  } finally {
    rmSync(path, { recursive: true });
  }
})();

t.test(
  'what is archived has exactly the attributes, lists and times of its original, or the original stays',
  { skip: canGive ? false : 'no attributes can be given here' },
  async (t) => {
    const disk = disks(t, 16);
    const { base, place, archive } = disk;
    const there = (name: string) => join(archive, place, name);
    const lists = { [ACCESS]: accessList(1234), 'user.\xe4': Buffer.from('\0note'), 'user.empty': Buffer.alloc(0) };
    t.equal(give(archive, { [DEFAULT]: accessList(4321) }), 0);
    mkdirSync(join(place, 'run'));
    t.equal(give(join(place, 'run'), { ...lists, [DEFAULT]: accessList(99) }), 0);
    for (const name of ['run/listed', 'plain', 'able', 'lied', 'refused', 'met'])
      writeFileSync(join(place, name), name);
    chmodSync(join(place, 'plain'), 0o664);
    for (const name of ['run/listed', 'lied', 'refused', 'met']) t.equal(give(join(place, name), lists), 0);
    t.equal(give(join(place, 'able'), { [CAPABILITY]: NET_RAW }), 0);
    const before = Object.fromEntries(
      ['run', 'run/listed', 'plain', 'able'].map((name) => [name, attributesOf(join(place, name))]),
    );
    const stat = lstatSync(join(place, 'run/listed'), { bigint: true });
    await afterAWhile();
    mkdirSync(dirname(there('met')), { recursive: true });
    writeFileSync(there('met'), 'met');
    const attributes = () => ({
      ...addon,
      setAttribute(fd: number, name: string, value: Buffer) {
        const copy = join('/proc/self/fd', String(fd));
        const writing = statSync(copy).isFile() ? readFileSync(copy, 'utf8') : '';
        if (writing === 'refused') return osConstants.errno.EOPNOTSUPP;
        return writing === 'lied' && name === ACCESS ? 0 : addon.setAttribute(fd, name, value);
      },
    });
    const { report, said } = runAct({ plan: planFor(disk), reports: base, given: { attributes } });
    t.match(report, { ok: true, summary: /^moved 3, .*, 3 of the list stay$/ });
    t.same(readdirSync(place).sort(), ['lied', 'met', 'refused', 'run']);
    t.match(said.join('\n'), /refused stays: the archive does not take its attribute .* \(ENOTSUP\)/);
    t.match(said.join('\n'), /lied stays: its attributes read back otherwise/);
    t.match(said.join('\n'), /met stays: the archive has a file of this name with other attributes/);
    for (const [name, expected] of Object.entries(before)) t.same(attributesOf(there(name)), expected, name);
    t.same(Object.keys(before.plain ?? {}), [], 'and no list of the archive’s own');
    t.equal(statSync(there('plain')).mode & 0o777, 0o664);
    const moved = lstatSync(there('run/listed'), { bigint: true });
    t.same([moved.mtimeNs, moved.mode], [stat.mtimeNs, stat.mode], 'to the nanosecond');
    t.same(readdirSync(join(archive, PARTIAL)), []);
  },
);

t.test('what does not fit stays, and so does all while the disk of the archive is not there', { skip }, async (t) => {
  const disk = disks(t, 4);
  const { base, place, archive } = disk;
  for (const name of ['a', 'b', 'c']) writeFileSync(join(place, name), Buffer.alloc(1.5 * MIB, name));
  await afterAWhile();
  const plan = planFor(disk);
  const { report } = runAct({ plan, reports: base });
  t.match(report, { ok: true, summary: /^moved 2, .*, 1 of the list stay; the archive is full$/ });
  t.same(readdirSync(place), ['c']);
  t.equal(
    sum(join(place, 'c')),
    createHash('sha256')
      .update(Buffer.alloc(1.5 * MIB, 'c'))
      .digest('hex'),
  );
  execFileSync('umount', [archive]);
  const unmounted = runAct({ plan, reports: base }).report;
  t.match(unmounted, { ok: false, summary: /not on the file system that it was on/ });
  t.same(readdirSync(archive), [], 'nothing is written where the disk would be');
  const beside = { ...plan, archiveTo: { path: archive, inside: inside(archive) } };
  t.match(runAct({ plan: beside, reports: base }).report.summary, /moving frees nothing/);
  t.ok(existsSync(join(place, 'c')));
});

t.test(
  'killed at any moment, every file is whole in one of both places, and the next run goes on',
  { skip },
  async (t) => {
    const disk = disks(t, 256);
    const { base, place, archive } = disk;
    const names = ['a', 'b/c', 'b/d', 'e'];
    mkdirSync(join(place, 'b'));
    names.forEach((name, i) => {
      writeFileSync(join(place, name), Buffer.alloc(6 * MIB, `${name}${i}`));
    });
    const sums = names.map((name) => sum(join(place, name)));
    execFileSync('sync', ['-f', place]);
    await afterAWhile();
    const file = join(base, 'plan.json');
    writeFileSync(file, JSON.stringify(planFor(disk)), { mode: 0o600 });
    const program = join(import.meta.dirname, '../../src/app/act.js');
    const run = async (killAfterMs?: number) => {
      const child = spawn(process.execPath, [program, 'archive-old-data', '--plan', file], {
        env: { SKOS_ACT_DIR: base },
        stdio: 'ignore',
      });
      if (killAfterMs !== undefined) {
        // From the moment when it begins to write.
        while (!existsSync(join(archive, PARTIAL)) && child.exitCode === null)
          await new Promise((r) => setTimeout(r, 1));
        setTimeout(() => child.kill('SIGKILL'), killAfterMs);
      }
      await once(child, 'exit');
    };
    const random = new Random(7);
    let killed = 0;
    for (let i = 0; i < 6 && existsSync(join(place, 'e')); i++) {
      await run(random.between(0, 60));
      killed++;
      names.forEach((name, n) => {
        const whole = [join(place, name), join(archive, place, name)].filter(
          (path) => existsSync(path) && sum(path) === sums[n],
        );
        t.ok(whole.length > 0, `${name} after kill ${killed}`);
      });
    }
    t.ok(killed > 1, `killed ${killed} times`);
    await run();
    t.same(
      names.map((name) => existsSync(join(place, name))),
      names.map(() => false),
    );
    t.same(
      names.map((name) => sum(join(archive, place, name))),
      sums,
    );
    t.same(readdirSync(join(archive, PARTIAL)), []);
    t.match(JSON.parse(readFileSync(join(base, 'archive_old_data.json'), 'utf8')), {
      v: 1,
      name: 'archive_old_data',
      ok: true,
    });
  },
);

t.test(
  'the only copy of a file is not taken for another one, nor a log from who has just opened it',
  { skip },
  async (t) => {
    const [shown, opened, bound] = [disks(t, 16), disks(t, 16), disks(t, 16)];
    for (const { place } of [shown, opened, bound]) writeFileSync(join(place, 'one'), 'so far');
    await afterAWhile();
    {
      const { base, place, archive } = shown;
      const itself = join(archive, place);
      mkdirSync(itself, { recursive: true });
      execFileSync('mount', ['--bind', place, itself]);
      t.teardown(() => spawnSync('umount', [itself]));
      const { report, said } = runAct({ plan: planFor(shown), reports: base });
      t.match(report, { summary: /^moved 0/ });
      t.match(said.join('\n'), /one stays: .*another file system/);
      t.equal(readFileSync(join(place, 'one'), 'utf8'), 'so far');
    }
    {
      const { base, place, archive } = bound;
      const itself = join(archive, place, 'one');
      mkdirSync(dirname(itself), { recursive: true });
      writeFileSync(itself, '');
      execFileSync('mount', ['--bind', join(place, 'one'), itself]);
      t.teardown(() => spawnSync('umount', [itself]));
      const { said } = runAct({ plan: planFor(bound), reports: base });
      t.match(said.join('\n'), /one stays: the archive shows the file itself/);
      t.equal(readFileSync(join(place, 'one'), 'utf8'), 'so far');
    }
    const { base, place, archive } = opened;
    const inode = lstatSync(join(place, 'one'), { bigint: true }).ino;
    let looks = 0;
    // One for the listing, one before the first file, one when that is old; and then the copy took long.
    const openFiles = () => ({ inodes: new Set(++looks > 3 ? [inode] : []), unseen: 0 });
    let lateMs = 0;
    const wallMs = () => {
      if (looks > 1) lateMs += 10_000;
      return performance.timeOrigin + performance.now() + lateMs;
    };
    const { said } = runAct({ plan: planFor(opened), reports: base, given: { openFiles, wallMs } });
    t.match(said.join('\n'), /one stays: it was opened/);
    t.equal(readFileSync(join(place, 'one'), 'utf8'), 'so far');
    t.notOk(existsSync(join(archive, place, 'one')), 'nor is there a copy that would be in the way later');
  },
);
