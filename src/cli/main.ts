/**
 * The process around the CLI: terminal, signals, exit code. Everything else is in cli.ts, which tests run without a process.
 */
import { createInterface } from 'node:readline/promises';
import { runCli } from './cli.js';
import type { Io } from './command.js';
import { EXIT } from './exit-codes.js';

const DEFAULT_COLUMNS = 80;
/** As shells count a program that SIGINT ended: 128 + 2. */
const INTERRUPTED = 130;
/** What --watch needs to leave in order; a command that waits for an answer is ended. */
const INTERRUPT_GRACE_MS = 200;

async function main(): Promise<void> {
  const abort = new AbortController();
  process.once('SIGINT', () => {
    abort.abort();
    setTimeout(() => process.exit(INTERRUPTED), INTERRUPT_GRACE_MS).unref();
  });
  for (const stream of [process.stdout, process.stderr]) {
    // `skos sensors | head`: the reader has left, and there is nothing more to say.
    stream.on('error', () => process.exit(EXIT.ok));
  }
  process.exitCode = await runCli(process.argv.slice(2), processIo(abort.signal));
}

function processIo(signal: AbortSignal): Io {
  const terminal = process.stdout.isTTY === true;
  return {
    out: (text) => process.stdout.write(`${text}\n`),
    err: (text) => process.stderr.write(`${text}\n`),
    ...(process.stdin.isTTY === true ? { ask: askOnTerminal } : {}),
    env: process.env,
    columns: terminal ? (process.stdout.columns ?? DEFAULT_COLUMNS) : DEFAULT_COLUMNS,
    color: terminal && !process.env.NO_COLOR,
    screen: terminal,
    euid: process.geteuid?.() ?? -1,
    signal,
    wallMs: () => Date.now(),
  };
}

async function askOnTerminal(question: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await lines.question(question);
  } finally {
    lines.close();
  }
}

await main();
