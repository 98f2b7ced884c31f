/** Mounted file systems: the real ones, each once, and never touched by discovery. */
import t from 'tap';
import { systemClock } from '../../src/core/clock.js';
import { fileSystems } from '../../src/sensors/file-system.js';
import { mountFeed } from '../../src/sensors/mount-feed.js';
import { FileTree } from '../../src/sensors/tree.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';

async function points(t: Parameters<typeof fakeMachine>[0], mountinfo: string): Promise<string[]> {
  const machine = fakeMachine(t);
  machine.setProc('self/mountinfo', mountinfo);
  const { channels } = await discover(machine, [fileSystems]);
  return channels.filter(({ name }) => name === 'used').map(({ probe }) => ('path' in probe ? probe.path : ''));
}

t.test('watches space and inodes of a file system, in a hazard domain of its own', async (t) => {
  const machine = fakeMachine(t);
  machine.setProc('self/mountinfo', '1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:50 / /mnt/nfs rw - nfs4 server:/x rw');
  const found = await discover(machine, [fileSystems]);
  t.same(ids(found), [
    'file_system/_/used',
    'file_system/_/inodes_used',
    'file_system/_/available',
    'file_system/_/total',
    'file_system/_/read_only',
    'file_system/_mnt_nfs/used',
    'file_system/_mnt_nfs/inodes_used',
    'file_system/_mnt_nfs/available',
    'file_system/_mnt_nfs/total',
    'file_system/_mnt_nfs/read_only',
  ]);
  t.match(channelOf(found, 'file_system/_mnt_nfs/used'), {
    quantity: 'ratioPartsPerMillion',
    class: 'disk',
    rateHz: 0.2,
    probe: { kind: 'statvfs', path: '/mnt/nfs', field: 'used_ppm' },
  });
  t.equal(new Set(found.channels.map(({ domain }) => domain)).size, 3, 'and what is read of mountinfo');
});

t.test('passes over what cannot fill up or is no file system of its own', async (t) => {
  const mounts = `22 27 0:21 / /proc rw,relatime - proc proc rw
23 27 0:22 / /sys rw - sysfs sysfs rw
24 27 0:6 / /dev rw - devtmpfs devtmpfs rw
24 27 0:6 / /dev2 rw - devtmpfs /dev/made-up rw
25 24 0:23 / /dev/shm rw shared:1 master:2 - tmpfs tmpfs rw
31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
40 27 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro
41 27 11:0 / /media/cd ro - iso9660 /dev/sr0 ro
42 27 0:60 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
43 27 0:61 / /mnt/auto rw - autofs systemd-1 rw
27 1 254:0 / / rw - ext4 /dev/vda rw
44 27 254:1 / /boot/efi rw - vfat /dev/vda1 rw`;
  t.same(await points(t, mounts), ['/', '/boot/efi']);
});

t.test('watches a file system once, however often it is mounted', async (t) => {
  const mounts = `50 27 8:2 /data/sub /srv/bind rw - xfs /dev/sdb rw
51 27 8:2 / /a/long/path/to/data rw - xfs /dev/sdb rw
52 27 8:2 / /data rw - xfs /dev/sdb rw
53 27 0:70 /@home /home rw - btrfs /dev/sdc rw
54 27 0:71 /@ / rw - btrfs /dev/sdc rw
55 27 8:3 /etc/hosts /etc/hosts rw - ext4 /dev/sdd rw`;
  t.same((await points(t, mounts)).sort(), ['/', '/data'], 'a bind mount of a part alone is no file system');
});

t.test('watches the root and /tmp whatever they are made of', async (t) => {
  const mounts =
    '1 0 0:1 / / rw - overlay overlay rw\n2 1 0:2 / /tmp rw - tmpfs tmpfs rw\n3 1 0:3 / /run rw - tmpfs tmpfs rw';
  t.same(await points(t, mounts), ['/', '/tmp']);
  t.same(await points(t, '1 0 0:1 / / rw - rootfs rootfs rw'), []);
});

t.test('sees the last mount on a point', async (t) => {
  t.same(await points(t, '1 0 8:1 / /x rw - ext4 /dev/sda rw\n2 1 0:9 / /x rw - tmpfs tmpfs rw'), []);
});

t.test('reads mount points with blanks, backslashes and other languages', async (t) => {
  const mounts =
    '1 0 8:1 / /mnt/my\\040disk\\134x\\012 rw - ext4 /dev/sda rw\n2 0 8:2 / /mnt/Ümläut rw - ext4 /dev/sdb rw';
  t.same(await points(t, mounts), ['/mnt/my disk\\x\n', '/mnt/Ümläut']);
});

t.test('gives different mount points different ids', async (t) => {
  const machine = fakeMachine(t);
  machine.setProc(
    'self/mountinfo',
    '1 0 8:1 / /a/b rw - ext4 /dev/sda rw\n2 0 8:2 / /a_b rw - ext4 /dev/sdb rw\n3 0 8:3 / /A/B rw - ext4 /dev/sdc rw',
  );
  const found = await discover(machine, [fileSystems]);
  t.equal(new Set(ids(found)).size, 15);
  t.match(ids(found), ['file_system/_a_b/used', /./, /./, /./, /./, 'file_system/~2fa_b/used']);
});

t.test('survives garbage, and reads on beyond 64 KiB of mounts', async (t) => {
  t.same(await points(t, 'garbage\n - \n1 2 3 - \n1 0 8:1 / relative rw - ext4 /dev/sda rw'), []);
  const overlays = Array.from(
    { length: 2000 },
    (_, i) => `${i} 1 0:${i} / /run/containers/${i} rw - overlay overlay rw`,
  );
  t.same(await points(t, [...overlays, '9 0 8:1 / /last rw - ext4 /dev/sda rw'].join('\n')), ['/last']);
});

t.test('bounds how many it watches, and names the others', async (t) => {
  const machine = fakeMachine(t);
  const many = Array.from({ length: 130 }, (_, i) => `${i} 1 8:${i} / /mnt/${i} rw - ext4 /dev/sd${i} rw`);
  machine.setProc('self/mountinfo', many.join('\n'));
  const found = await discover(machine, [fileSystems]);
  t.equal(found.channels.length, 128 * 5);
  t.match(found.skipped, [{ what: '/mnt/128' }, { what: '/mnt/129' }]);
});

t.test('tells a file system that became read-only from one that is mounted so, and from our own sandbox', async (t) => {
  const machine = fakeMachine(t);
  const mounts = (data: string, own = 'rw') =>
    `1 0 8:1 / / ${own} - ext4 /dev/sda rw\n2 1 8:2 / /data ${own} - ext4 /dev/sdb ${data}\n3 1 8:3 / /iso ro - ext4 /dev/sdc ro`;
  machine.setProc('1/mountinfo', mounts('rw,errors=remount-ro'));
  machine.setProc('self/mountinfo', mounts('rw,errors=remount-ro', 'ro'));
  const { channels } = await discover(machine, [fileSystems]);
  const watched = channels.filter(({ name }) => name === 'read_only');
  t.same(
    watched.map(({ device }) => device),
    ['_', '_data'],
  );
  const read = async () => {
    const feed = mountFeed({ channels: watched, proc: new FileTree(machine.proc), clock: systemClock });
    feed.start();
    while (feed.latest(0).atMs === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    feed.stop();
    return watched.map((_, i) => feed.latest(i).value ?? feed.latest(i).quality);
  };
  t.same(await read(), [0, 0]);
  machine.setProc('self/mountinfo', mounts('ro,errors=remount-ro', 'ro'));
  machine.setProc('1/mountinfo', mounts('ro,errors=remount-ro'));
  t.same(await read(), [0, 1]);
  t.ok(
    ids(await discover(machine, [fileSystems])).includes('file_system/_data/read_only'),
    'an agent that starts later sees it',
  );
  machine.setProc('self/mountinfo', '');
  t.same(await read(), ['no_data', 'no_data'], 'who cannot look knows nothing');
});
