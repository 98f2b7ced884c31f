/** `--watch`: the same answer again each second until Ctrl-C, on a cleared screen where there is one. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Io } from './command.js';
import { EXIT } from './exit-codes.js';

/** A person follows a value that changes each second; the agent answers from memory. */
const WATCH_INTERVAL_MS = 1_000;
const CLEAR_SCREEN = `${String.fromCharCode(27)}[H${String.fromCharCode(27)}[2J`;

export interface Watch {
  /** What is printed each time: a text, or one JSON document on one line. */
  readonly frame: () => Promise<string>;
  readonly json: boolean;
  readonly io: Pick<Io, 'out' | 'screen' | 'signal'>;
}

export async function watch({ frame, json, io }: Watch): Promise<number> {
  while (!io.signal.aborted) {
    io.out((io.screen && !json ? CLEAR_SCREEN : '') + (await frame()));
    await sleep(WATCH_INTERVAL_MS, undefined, { signal: io.signal }).catch(() => undefined); // Aborted: the loop ends.
  }
  return EXIT.ok;
}
