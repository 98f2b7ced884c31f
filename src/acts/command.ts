/**
 * Runs a command of the system for an act: fixed arguments, no shell, with a time-out and a bound on what it may say. An act's
 * unit is where processes may be started; the agent reaches nothing of this.
 */
import { execFile } from 'node:child_process';

/** More than any listing that an act reads. */
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
/** Within a summary. */
const MAX_SAID = 200;

export interface CommandResult {
  /** Exit status; null when it did not exit by itself: killed, timed out, or never started. */
  readonly status: number | null;
  readonly stdout: string;
  /** What it said, or why it could not be started. */
  readonly stderr: string;
}

export interface CommandOptions {
  readonly timeoutMs: number;
}

export type RunCommand = (command: string, args: readonly string[], options: CommandOptions) => Promise<CommandResult>;

/** Never rejects. The command is found in PATH; its environment is ours, with messages in English. */
export const runCommand: RunCommand = (command, args, { timeoutMs }) =>
  new Promise((resolve) => {
    const env = { ...process.env, LC_ALL: 'C' };
    const options = { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: MAX_OUTPUT_BYTES, env } as const;
    execFile(command, args, options, (error, stdout, stderr) => {
      if (error === null) resolve({ status: 0, stdout, stderr });
      else if (typeof error.code === 'number') resolve({ status: error.code, stdout, stderr });
      else resolve({ status: null, stdout, stderr: stderr.trim() || whyNot(error, timeoutMs) });
    });
  });

/** One line of why it did not succeed, for people. */
export function said(command: string, { status, stderr }: CommandResult): string {
  return stderr.trim().split('\n')[0]?.slice(0, MAX_SAID) || `${command} ended with ${status}`;
}

function whyNot(error: Error & { readonly killed?: boolean }, timeoutMs: number): string {
  return error.killed === true ? `it took longer than ${timeoutMs / 1000} s` : error.message;
}
