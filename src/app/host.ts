/** What the programs ask the host about itself: its boot, and the numbers of the users and groups that may connect. */
import { readFileSync } from 'node:fs';
import type { Credentials, Role } from '../control/socket-server.js';
import { segment } from '../core/channel.js';

const ADMIN_GROUP = 'skos-admin';
const NET_USER = 'skos-net';
const UNKNOWN_BOOT = '00000000-0000-0000-0000-000000000000';

/** The kernel's id of this boot: what a lease or an event number is valid within. */
export function bootId(): string {
  return readText('/proc/sys/kernel/random/boot_id')?.trim() ?? UNKNOWN_BOOT;
}

/**
 * Who may do what on the agent's socket: root, the agent's own user and members of skos-admin administer; skos-net's user is
 * net; nobody else is admitted. The user database is read once: users are made by the package, not at run time.
 */
export function roles(): (credentials: Credentials) => Role | null {
  const ownUid = process.getuid?.();
  const adminGid = idOf('/etc/group', ADMIN_GROUP);
  const netUid = idOf('/etc/passwd', NET_USER);
  return ({ uid, gid, groups }) => {
    if (uid === 0 || uid === ownUid) return 'admin';
    if (adminGid !== undefined && (gid === adminGid || groups.includes(adminGid))) return 'admin';
    return netUid !== undefined && uid === netUid ? 'net' : null;
  };
}

/** Third field of the line of this name: the id in both passwd(5) and group(5). */
function idOf(file: string, name: string): number | undefined {
  const line = readText(file)
    ?.split('\n')
    .find((each) => each.startsWith(`${name}:`));
  const id = Number(line?.split(':')[2]);
  return line !== undefined && Number.isInteger(id) ? id : undefined;
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined; // A container may lack any of these; each caller says what absence means.
  }
}

/** A node's name for log lines before the configuration is read. */
export function provisionalName(hostName: string): string {
  return segment(hostName.split('.')[0] ?? 'node');
}
