/**
 * The process around the CLI: terminal, signals, exit code. Everything else is in cli.ts, which tests run without a process.
 */
import { once } from 'node:events';
import { createInterface } from 'node:readline/promises';
import { runCli } from './cli.js';
import type { Io } from './command.js';
import { EXIT } from './exit-codes.js';

const DEFAULT_COLUMNS = 80;
/** What --watch needs to leave in order; a command that waits for an answer is ended. */
const INTERRUPT_GRACE_MS = 200;

/** SIGINT: tells who listens, and ends the program unless something must be finished first. */
class Interrupt {
  readonly #abort = new AbortController();
  #isHeld = false;

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  raise(): void {
    this.#abort.abort();
    if (!this.#isHeld) setTimeout(() => process.exit(EXIT.interrupted), INTERRUPT_GRACE_MS).unref();
  }

  async after(work: () => Promise<void>): Promise<void> {
    this.#isHeld = true;
    try {
      await work();
    } finally {
      this.#isHeld = false;
    }
  }
}

async function main(): Promise<void> {
  const interrupt = new Interrupt();
  process.on('SIGINT', () => interrupt.raise());
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', () => {
      // `skos sensors | head`: the reader has left, and there is nothing more to say. Of a backup a half would be worse than none:
      // who writes bytes hears of it below.
      if (bytesOnTheirWay === 0) process.exit(EXIT.ok);
    });
  }
  process.exitCode = await runCli(process.argv.slice(2), processIo(interrupt));
}

function processIo(interrupt: Interrupt): Io {
  const terminal = process.stdout.isTTY === true;
  return {
    out: (text) => process.stdout.write(`${text}\n`),
    drained: untilDrained,
    write: writeBytes,
    err: (text) => process.stderr.write(`${text}\n`),
    ...(process.stderr.isTTY === true ? { overwrite: (text: string) => void process.stderr.write(text) } : {}),
    ...(process.stdin.isTTY === true ? { ask: askOnTerminal } : {}),
    env: process.env,
    columns: terminal ? process.stdout.columns || DEFAULT_COLUMNS : DEFAULT_COLUMNS,
    color: terminal && !process.env.NO_COLOR,
    screen: terminal,
    euid: process.geteuid?.() ?? -1,
    signal: interrupt.signal,
    uninterrupted: (work) => interrupt.after(work),
    wallMs: () => Date.now(),
  };
}

let bytesOnTheirWay = 0;

function writeBytes(bytes: Buffer): Promise<void> {
  bytesOnTheirWay += bytes.length;
  return new Promise((resolve, reject) => {
    process.stdout.write(bytes, (error) => {
      // Left as it is when it failed: the stream tells of the error after this.
      if (error) return reject(error);
      bytesOnTheirWay -= bytes.length;
      resolve();
    });
  });
}

async function untilDrained(): Promise<void> {
  if (process.stdout.writableNeedDrain) await once(process.stdout, 'drain');
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
