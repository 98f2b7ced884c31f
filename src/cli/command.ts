/**
 * What a command is and what it is given. A command writes to `io` and returns an exit code; it reads nothing of the
 * process by itself, so that tests run it with any environment, terminal and user.
 */
import type { ParseArgsConfig } from 'node:util';
import type { LoadedConfig } from '../config/load.js';
import type { AgentClient } from '../core/agent-client.js';

export interface Io {
  readonly out: (text: string) => void;
  /** Resolves when the reader has taken what was written; who writes much waits for it. Absent: at once. */
  readonly drained?: () => Promise<void>;
  /** Bytes to standard output; resolves when they are taken. Rejects when nobody takes them. Absent: only text. */
  readonly write?: (bytes: Buffer) => Promise<void>;
  readonly err: (text: string) => void;
  /** Standard error, as it is and without a newline, where that is a terminal: for a line that is written over. */
  readonly overwrite?: (text: string) => void;
  /** Asks on the terminal; undefined where there is none. */
  readonly ask?: (question: string) => Promise<string>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Width of the terminal; 80 where there is none. */
  readonly columns: number;
  readonly color: boolean;
  /** The output is a terminal, whose screen --watch may clear. */
  readonly screen: boolean;
  readonly euid: number;
  /** Aborted by SIGINT and by a reader that went away. */
  readonly signal: AbortSignal;
  readonly wallMs: () => number;
  /** SIGINT waits for the end of the work. Absent: there are no signals. See uninterrupted(). */
  readonly uninterrupted?: (work: () => Promise<void>) => Promise<void>;
}

export type Values = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;

export interface Invocation {
  readonly values: Values;
  readonly positionals: readonly string[];
}

export interface Context {
  readonly io: Io;
  /** Loads the configuration that --config names. */
  readonly config: () => Promise<LoadedConfig>;
  /** Connects to the agent. Closed for the command when it is done. */
  readonly agent: () => Promise<AgentClient>;
  /** Where the agent's socket is, or would be. */
  readonly socketPath: () => Promise<string>;
}

export interface Command {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** Each way to call it, without "skos". */
  readonly usage: readonly string[];
  /** What its help says between usage and options: one paragraph. */
  readonly details?: string;
  readonly options: NonNullable<ParseArgsConfig['options']>;
  /** Option → what it does. Every option has an entry. */
  readonly optionHelp: Readonly<Record<string, string>>;
  readonly examples: readonly (readonly [command: string, what: string])[];
  readonly run: (invocation: Invocation, context: Context) => Promise<number>;
}

/** Runs to its end what must not be left half done. */
export async function uninterrupted(io: Pick<Io, 'uninterrupted'>, work: () => Promise<void>): Promise<void> {
  await (io.uninterrupted === undefined ? work() : io.uninterrupted(work));
}

export function textOption(values: Values, name: string): string | undefined {
  const value = values[name];
  return typeof value === 'string' ? value : undefined;
}
