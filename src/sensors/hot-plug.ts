/**
 * Tells when the machine has other devices than before: uevents of the kernel, as udev gets them.
 *
 * Only a hint to look again, which happens each minute anyway: where the kernel gives no such socket (a container, a seccomp
 * filter) nothing is lost but time. What changes often and makes no channel is passed over: interfaces and disks with nothing
 * behind them, which containers make, and `change`, which a battery says each minute, except of a disk.
 * Source: Documentation/core-api/kobject.rst; lib/kobject_uevent.c.
 */
import { getSystemErrorName } from 'node:util';
import type { Log } from '../core/ports.js';
import type { Addon, Uevent } from './addon.js';

/** Subsystems whose devices have channels. */
const SUBSYSTEMS: ReadonlySet<string> = new Set([
  'block',
  'drm',
  'edac',
  'hwmon',
  'infiniband',
  'mc', // Memory controllers call their subsystem so.
  'net',
  'nvme',
  'pci',
  'power_supply',
  'powercap',
  'thermal',
]);
const ACTIONS: ReadonlySet<string> = new Set(['add', 'remove', 'move', 'online', 'offline', 'bind', 'unbind']);

export interface HotPlug {
  /** Idempotent; onChange is not called again. */
  close(): void;
}

/**
 * Calls `onChange` at most three times a second with the subsystems that changed; all of them when the kernel says that
 * news was lost. Does not keep the process alive.
 */
export function watchHotPlug(
  addon: Pick<Addon, 'createUeventSocket'>,
  onChange: (subsystems: ReadonlySet<string>) => void,
  log: Pick<Log, 'debug'>,
): HotPlug {
  const socket = addon.createUeventSocket((events, lost) => {
    const changed = lost ? SUBSYSTEMS : new Set(events.filter(isNews).map(({ subsystem }) => subsystem));
    if (changed.size > 0) onChange(changed);
  });
  const error = socket.open();
  if (error !== 0)
    log.debug(`no news of hot-plugged devices (${getSystemErrorName(-error)}): they are found within a minute`);
  return socket;
}

function isNews({ action, subsystem, isVirtual }: Uevent): boolean {
  if (isVirtual || !SUBSYSTEMS.has(subsystem)) return false;
  return ACTIONS.has(action) || (action === 'change' && subsystem === 'block');
}
