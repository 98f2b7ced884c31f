/**
 * Deletes exactly what a listing names, one by one: a file whose inode, size or times have changed since stays. For places that
 * systemd-tmpfiles cannot be told of: those with a pattern or exclusions, and old log files. Directories stay.
 */
import { unlinkSync } from 'node:fs';
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
  walk(
    { place: listing.place, root: listing.root, inUse, mounts: mountPoints() },
    {
      file({ directory, name, path, stat }) {
        if (listing.items.get(path)?.identity !== identity(stat)) return;
        try {
          unlinkSync(directory.at(name));
        } catch (error) {
          if (systemCode(error) !== 'ENOENT') warn(`${path}: ${systemCode(error)}`);
        }
      },
      kept: () => undefined,
    },
  );
}
