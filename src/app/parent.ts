/**
 * Ends a child with its parent. The agent gives each child that must not outlive it one end of a socket pair, whose
 * number is in SKOS_PARENT_FD; nothing is ever sent. When the agent dies, however it dies, the kernel closes its end and
 * the child reads the end of the stream.
 *
 * PR_SET_PDEATHSIG would do the same but is bound to the thread that forked and is lost on a change of user.
 */
import { Socket } from 'node:net';

export const PARENT_FD_VARIABLE = 'SKOS_PARENT_FD';

export interface ParentWatch {
  /** No parent was named: installed, systemd looks after us. */
  readonly watched: boolean;
  stop(): void;
}

/** Calls `onGone` once, when the process that started us is gone. Does not keep this process alive. */
export function watchParent(
  onGone: () => void,
  env: Readonly<Record<string, string | undefined>> = process.env,
): ParentWatch {
  const fd = Number(env[PARENT_FD_VARIABLE]);
  if (!Number.isInteger(fd) || fd < 3) return { watched: false, stop: () => undefined };
  const pipe = new Socket({ fd, readable: true, writable: false });
  // A parent that was killed shows as an end or as ECONNRESET; both close the socket.
  pipe.on('error', () => undefined);
  pipe.once('close', onGone);
  pipe.resume();
  pipe.unref();
  return {
    watched: true,
    stop() {
      pipe.removeListener('close', onGone);
      pipe.destroy();
    },
  };
}
