/**
 * Whether a file system that is to be written has become read-only: the kernel makes it so when its disk or its structures fail. Read
 * from mountinfo, which asks no disk, and from its options of the file system itself: those of the mount are our sandbox's.
 */
import type { Every } from '../core/beat.js';
import type { Channel } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import { parseMounts } from '../core/mount-info.js';
import type { Tree } from '../core/ports.js';
import { deviceOf, MAX_MOUNTINFO_BYTES, MOUNT_RATE_HZ } from './file-system.js';
import { PolledFeed } from './polled-feed.js';

const STALE_AFTER_MS = 20_000;

export function mountFeed(options: {
  readonly channels: readonly Channel[];
  readonly proc: Tree;
  readonly clock: Clock;
  readonly every?: Every;
}): PolledFeed {
  const { channels, proc } = options;
  return new PolledFeed({
    ...options,
    everyMs: 1000 / MOUNT_RATE_HZ,
    staleAfterMs: STALE_AFTER_MS,
    ask: async () => {
      const text = await proc.text('self/mountinfo', { maxBytes: MAX_MOUNTINFO_BYTES });
      // The last one on a point is the one that is seen.
      const states = new Map(
        parseMounts(text ?? '').map(({ point, superOptions }) => [
          deviceOf(point),
          superOptions.includes('ro') ? 1 : 0,
        ]),
      );
      return channels.map(({ device }) => states.get(device));
    },
  });
}
