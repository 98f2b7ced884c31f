/** /proc/self/mountinfo, parsed. Source: proc_pid_mountinfo(5). */

export interface Mount {
  /** "major:minor". */
  readonly device: string;
  /** Which directory of the file system stands at the mount point. */
  readonly root: string;
  readonly point: string;
  /** Of this mount alone: a file system may be writable elsewhere. */
  readonly options: readonly string[];
  readonly type: string;
  readonly source: string;
  /** Of the file system itself. */
  readonly superOptions: readonly string[];
}

/** In the order in which they were mounted: of several on one point the last one is seen. */
export function parseMounts(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const [left = '', right = ''] = line.split(' - ');
    const [, , device, root, point, options = ''] = left.split(' ').map(unescaped);
    const [type, source, superOptions = ''] = right.split(' ').map(unescaped);
    if (device === undefined || root === undefined || point === undefined || !point.startsWith('/')) return [];
    if (type === undefined || type === '') return [];
    return [
      {
        device,
        root,
        point,
        options: options.split(','),
        type,
        source: source ?? '',
        superOptions: superOptions.split(','),
      },
    ];
  });
}

/** Blanks, tabs, newlines and backslashes are written as \040 and so on. */
function unescaped(word: string): string {
  // The digits are bytes, of which several make one character.
  const bytes = Buffer.from(word, 'utf8').toString('latin1');
  const raw = bytes.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return Buffer.from(raw, 'latin1').toString('utf8');
}

/**
 * Where in its file system a path lies ("/backup" of a disk that is mounted on /mnt/a, for /mnt/a/backup): the same in every mount
 * namespace, and another one while the disk is not mounted. undefined: no mount holds it.
 */
export function placeInFileSystem(path: string, mounts: readonly Mount[]): string | undefined {
  let best: Mount | undefined;
  for (const mount of mounts) {
    const holds = mount.point === '/' || path === mount.point || path.startsWith(`${mount.point}/`);
    if (holds && (best === undefined || mount.point.length >= best.point.length)) best = mount;
  }
  if (best === undefined) return undefined;
  const rest = best.point === '/' ? path : path.slice(best.point.length);
  return `${best.root === '/' ? '' : best.root}${rest}` || '/';
}
