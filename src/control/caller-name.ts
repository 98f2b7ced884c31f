/** Who asked, for the record. */
import type { Caller } from './socket-server.js';

/** Uid of who asked; the name would need a look into the user database. */
export function nameOf({ credentials }: Caller): string {
  return credentials.uid === 0 ? 'root' : `uid ${credentials.uid}`;
}
