/**
 * Mounted file systems that can fill up, from /proc/self/mountinfo.
 *
 * Discovery touches no mount point: asking a dead NFS server never returns. Each mount is a hazard domain of its own for
 * the same reason. Of several mounts of one file system (bind mounts, btrfs subvolumes) one is watched.
 * Source: proc_pid_mountinfo(5).
 */
import { type Channel, segment } from '../core/channel.js';
import { type Mount, parseMounts } from '../core/mount-info.js';
import type { Source, SourceContext, Tree } from '../core/ports.js';
import type { Quantity } from '../core/units.js';
import { makeChannel } from './make-channel.js';

const SOURCE = 'file_system';
/** A disk fills in minutes; each sample is a system call per mount. */
const RATE_HZ = 0.2;
/** Of what mountinfo says; read by mount-feed.ts. */
export const MOUNT_FEED = 'mounts';
export const MOUNT_RATE_HZ = 0.2;
export const READ_ONLY = 'read_only';
/** A node with thousands of container mounts has some 200 bytes for each. */
export const MAX_MOUNTINFO_BYTES = 8 * 1024 * 1024;
/** After the filter below a node has a dozen; beyond this something mounts without end. */
const MAX_MOUNTS = 128;

/** Without a block device under /dev, but real: shared over a network, or pools with volumes of their own. */
const SHARED = /^(nfs4?|cifs|smb3|ceph|lustre|beegfs|gpfs|glusterfs|fuse\.glusterfs|fuse\.ceph|afs|9p|virtiofs|zfs)$/;
/** Images that are full by nature. */
const IMAGES = /^(squashfs|iso9660|udf|erofs|cramfs|romfs)$/;
/** Whatever they are made of (a tmpfs, an overlay on a diskless node): the machine depends on them. */
const ALWAYS = new Set(['/', '/tmp']);

const CHANNELS = [
  { name: 'used', field: 'used_ppm', label: 'used', quantity: 'ratioPartsPerMillion' },
  { name: 'inodes_used', field: 'inodes_used_ppm', label: 'inodes used', quantity: 'ratioPartsPerMillion' },
  { name: 'available', field: 'available_bytes', label: 'available', quantity: 'sizeBytes' },
  { name: 'total', field: 'total_bytes', label: 'size', quantity: 'sizeBytes' },
] as const satisfies readonly { name: string; field: string; label: string; quantity: Quantity }[];

export const fileSystems: Source = {
  name: SOURCE,

  async discover({ proc, report }: SourceContext): Promise<Channel[]> {
    const path = 'self/mountinfo';
    const text = await proc.text(path, { maxBytes: MAX_MOUNTINFO_BYTES });
    if (text === undefined) {
      report.skipped('file systems', `${proc.absolute(path)} cannot be read`);
      return [];
    }
    if (text.length >= MAX_MOUNTINFO_BYTES)
      report.skipped('the rest of the mounts', `more than ${MAX_MOUNTINFO_BYTES} bytes`);
    const mounts = oneOfEach(visible(parseMounts(text)).filter(isReal));
    if (mounts.length === 0) report.skipped('file systems', `none in ${proc.absolute(path)} that could fill up`);
    for (const { point } of mounts.slice(MAX_MOUNTS)) report.skipped(point, `more than ${MAX_MOUNTS} file systems`);
    const watched = mounts.slice(0, MAX_MOUNTS);
    const meant = await readOnlyPoints(proc, text);
    return watched.flatMap((mount) => [
      ...mountChannels(mount, path),
      ...(meant.has(mount.point) ? [] : [readOnlyChannel(mount.point, path)]),
    ]);
  },
};

function mountChannels({ point }: Mount, path: string): Channel[] {
  return CHANNELS.map(({ name, field, label, quantity }) =>
    makeChannel({
      source: SOURCE,
      device: deviceName(point),
      name,
      label: `${point} ${label}`,
      quantity,
      class: 'disk',
      probe: { kind: 'statvfs', path: point, field },
      rateHz: RATE_HZ,
      domain: `${SOURCE}-${segment(point)}`,
      path,
    }),
  );
}

/**
 * Those that are read-only because somebody mounted them so: both the mount and its file system are. What failed keeps a mount that may be
 * written. In our own mounts everything is read-only, by the sandbox; so the first process is asked.
 */
async function readOnlyPoints(proc: Tree, own: string): Promise<ReadonlySet<string>> {
  const text = (await proc.text('1/mountinfo', { maxBytes: MAX_MOUNTINFO_BYTES })) ?? own;
  const meant = visible(parseMounts(text)).filter(
    ({ options, superOptions }) => options.includes('ro') && superOptions.includes('ro'),
  );
  return new Set(meant.map(({ point }) => point));
}

function readOnlyChannel(point: string, path: string): Channel {
  return makeChannel({
    source: SOURCE,
    device: deviceName(point),
    name: READ_ONLY,
    label: `${point} read-only`,
    quantity: 'stateCode',
    class: 'disk',
    probe: { kind: 'pushed', feed: MOUNT_FEED },
    rateHz: MOUNT_RATE_HZ,
    domain: MOUNT_FEED,
    path,
  });
}

/** The device segment of a mount point's channels. */
export function deviceOf(point: string): string {
  return segment(deviceName(point));
}

/** "/" is "_" and /var/lib "_var_lib". A mount point that has "_" itself is left to the escape, so that none collide. */
function deviceName(point: string): string {
  return point.includes('_') ? point : point.replaceAll('/', '_');
}

/** Of several mounts on one point the last one is seen. */
function visible(mounts: readonly Mount[]): Mount[] {
  return [...new Map(mounts.map((mount) => [mount.point, mount])).values()];
}

function isReal({ type, source, point }: Mount): boolean {
  if (ALWAYS.has(point)) return type !== 'rootfs';
  if (IMAGES.test(type)) return false;
  // An automount point says "autofs" until it is used; loop devices hold images of one's own, which may fill up.
  return SHARED.test(type) || (source.startsWith('/dev/') && type !== 'devtmpfs');
}

/** The mount of the whole file system before one of a part of it (a bind mount), then the shortest path. */
function oneOfEach(mounts: readonly Mount[]): Mount[] {
  const best = new Map<string, Mount>();
  for (const mount of mounts) {
    // btrfs gives each subvolume a device number of its own; what fills up is the device.
    const key = mount.source.startsWith('/dev/') ? mount.source : mount.device;
    const other = best.get(key);
    if (other === undefined || rank(mount) < rank(other)) best.set(key, mount);
  }
  return [...best.values()].filter((mount) => mount.root === '/' || mount.type === 'btrfs' || ALWAYS.has(mount.point));
}

function rank({ root, point }: Mount): number {
  return (ALWAYS.has(point) ? 0 : 1_000_000) + (root === '/' ? 0 : 100_000) + point.length;
}
