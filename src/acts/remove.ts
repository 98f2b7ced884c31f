/**
 * Deletes exactly what a listing names, one by one: a file whose inode, size or times have changed since stays, and a directory goes when it is
 * empty. For places that systemd-tmpfiles cannot be told of, for those into which others than root may put something, and old log files.
 *
 * Between the look at a name and its removal, some microseconds, whoever may write to its directory can put another file in its place:
 * there is no call that removes an inode by its name only if it is that inode.
 */
import { rmdirSync, unlinkSync } from 'node:fs';
import { systemCode } from '../core/errors.js';
import { identity } from './directory.js';
import type { InUse } from './in-use.js';
import { type Listing, mountPoints } from './listing.js';
import { walk } from './walk.js';

export interface RemoveOptions {
  readonly listing: Listing;
  readonly inUse: InUse;
  readonly warn: (text: string) => void;
}

export function removeListed({ listing, inUse, warn }: RemoveOptions): void {
  const removed = (path: string, remove: () => void) => {
    try {
      remove();
    } catch (error) {
      if (!['ENOENT', 'ENOTEMPTY'].includes(systemCode(error))) warn(`${path}: ${systemCode(error)}`);
    }
  };
  walk(
    { place: listing.place, root: listing.root, inUse, mounts: mountPoints() },
    {
      file({ directory, name, path, stat }) {
        if (listing.items.get(path)?.identity !== identity(stat)) return;
        removed(path, () => unlinkSync(directory.at(name)));
      },
      left({ directory, name, path, stat }) {
        // Its times are those from before what was in it went.
        if (listing.items.get(path)?.identity !== identity(stat)) return;
        removed(path, () => rmdirSync(directory.at(name)));
      },
      kept: () => undefined,
    },
  );
}
