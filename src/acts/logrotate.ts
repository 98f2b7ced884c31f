/**
 * `logrotate --force` of the configurations that the plan lists. Each rotation pushes the oldest file out, so that one that is forced
 * again and again would push out everything: at most once a day each.
 */
import { createHash } from 'node:crypto';
import { statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SkosError } from '../core/errors.js';
import { runToEnd } from './run-to-end.js';

export const LOGROTATE = '/usr/sbin/logrotate';
const EVERY_MS = 24 * 3_600_000;
export interface RotateOptions {
  readonly config: string;
  readonly program: string;
  /** Where its state and our stamps are. */
  readonly directory: string;
  readonly timeoutMs: number;
  readonly wallMs: number;
}

/** The files that a rotation would move or remove, as its dry run says. */
export function rotatable(options: RotateOptions): string[] {
  const output = run(options, ['--debug', '--force', '--state', stateOf(options.directory), options.config]);
  const paths = [
    ...output.matchAll(/^(?:rotating log (\/.+), log->rotateCount is -?\d+|removing (?:old log )?(\/.+))$/gm),
  ];
  return [...new Set(paths.map(([, rotated, removed]) => rotated ?? removed ?? ''))].sort();
}

/** False: it was rotated within the last day. */
export function isDue({ config, directory, wallMs }: Pick<RotateOptions, 'config' | 'directory' | 'wallMs'>): boolean {
  const stamp = statSync(stampOf(directory, config), { throwIfNoEntry: false });
  return stamp === undefined || Math.abs(wallMs - stamp.mtimeMs) >= EVERY_MS;
}

export function rotate(options: RotateOptions): void {
  const { config, directory, wallMs } = options;
  const stamp = stampOf(directory, config);
  // Before it: a run that fails halfway has rotated some of them.
  writeFileSync(stamp, '');
  utimesSync(stamp, wallMs / 1000, wallMs / 1000);
  run(options, ['--force', '--state', stateOf(directory), config]);
}

function stateOf(directory: string): string {
  return join(directory, 'logrotate.status');
}

function stampOf(directory: string, config: string): string {
  return join(directory, `logrotate-${createHash('sha256').update(config).digest('hex').slice(0, 16)}.stamp`);
}

function run({ program, timeoutMs, config }: RotateOptions, words: readonly string[]): string {
  const { status, stdout, stderr } = runToEnd(program, words, { timeoutMs });
  const error = stderr.split('\n').find((line) => line.startsWith('error:'));
  // It goes on without a line that it does not understand, as if it were not there.
  if (status === 0 && error === undefined) return `${stdout}\n${stderr}`;
  const why = error ?? `it ended with ${status}`;
  throw new SkosError('SKOS_ACT_PROGRAM', `logrotate of ${config}: ${why}`);
}
