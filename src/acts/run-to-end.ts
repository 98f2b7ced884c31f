/**
 * Runs a program of the system and waits for it, with nothing else going on meanwhile: what deletes must see the files as they are when
 * it has looked. Fixed path, no shell, an environment of two words.
 */
import { spawnSync } from 'node:child_process';
import { SkosError } from '../core/errors.js';

/** A dry run of logrotate says some lines for each log file. */
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
/** For compressors and scripts of logrotate. */
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** SKOS_ACT_PROGRAM where it cannot be started, or does not end by itself. In the locale C, in which a byte is a sign. */
export function runToEnd(
  program: string,
  words: readonly string[],
  { timeoutMs, input }: { timeoutMs: number; input?: Buffer },
): Ran {
  const { error, status, signal, stdout, stderr } = spawnSync(program, words, {
    env: { LC_ALL: 'C', PATH },
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    maxBuffer: MAX_OUTPUT_BYTES,
    encoding: 'utf8',
    ...(input === undefined ? { stdio: ['ignore', 'pipe', 'pipe'] } : { input }),
  });
  if (error !== undefined) throw new SkosError('SKOS_ACT_PROGRAM', `${program}: ${error.message}`);
  if (status === null) throw new SkosError('SKOS_ACT_PROGRAM', `${program} was ended by ${signal}`);
  return { status, stdout, stderr };
}
