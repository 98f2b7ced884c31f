/** User names of the local password file. Other sources (LDAP) are not asked: the agent's user is a system user. */
import { readFile } from 'node:fs/promises';

/** undefined when there is no such user. */
export async function userId(name: string, file = '/etc/passwd'): Promise<number | undefined> {
  for (const line of (await readFile(file, 'utf8')).split('\n')) {
    const [user, , uid] = line.split(':');
    if (user === name && uid !== undefined && /^\d+$/.test(uid)) return Number(uid);
  }
  return undefined;
}
