/**
 * The frame of a demonstration: what it took it gives back, in reverse order, when it ends, fails or is interrupted.
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What a test harness calls a test that cannot run here (automake, meson). */
const EXIT_UNSUITABLE = 77;
const EXIT_FAILED = 1;
const EXIT_INTERRUPTED = 130;
const POLL_MS = 50;

/** This machine cannot show it; nothing is wrong. */
export class Unsuitable extends Error {}

export class Stage {
  readonly #undo: (() => void | Promise<void>)[] = [];
  readonly #explanations: (() => string)[] = [];

  /** Called once, after everything that was registered later. */
  onEnd(undo: () => void | Promise<void>): void {
    this.#undo.push(undo);
  }

  /** More to print when the play fails. */
  onFailure(explain: () => string): void {
    this.#explanations.push(explain);
  }

  get explanations(): string[] {
    return this.#explanations.map((explain) => explain());
  }

  /** A directory that is removed at the end; in memory where that can be. */
  directory(): string {
    const path = mkdtempSync(join(isDirectory('/dev/shm') ? '/dev/shm' : tmpdir(), `skos-demo-${process.pid}-`));
    this.onEnd(() => rmSync(path, { recursive: true, force: true }));
    return path;
  }

  async clear(): Promise<void> {
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      try {
        await undo();
      } catch (error) {
        // The others must be undone all the same.
        say(`demo: could not tidy up: ${String(error)}`);
        process.exitCode = EXIT_FAILED;
      }
    }
  }
}

/** Runs the play and ends the process. */
export async function perform(play: (stage: Stage) => Promise<void>): Promise<void> {
  const stage = new Stage();
  let interrupted = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (interrupted) return;
      interrupted = true;
      say('\nInterrupted; taking back what was done …');
      void stage.clear().then(() => process.exit(EXIT_INTERRUPTED));
    });
  }
  let exitCode = 0;
  try {
    await play(stage);
  } catch (error) {
    if (interrupted) return;
    exitCode = error instanceof Unsuitable ? EXIT_UNSUITABLE : EXIT_FAILED;
    complain(stage, error);
  }
  if (interrupted) return;
  await stage.clear();
  process.exit(exitCode || process.exitCode);
}

function complain(stage: Stage, error: unknown): void {
  const isUnsuitable = error instanceof Unsuitable;
  const lines = [
    `\ndemo: ${isUnsuitable ? 'not on this machine' : 'the loop did not close'}: ${error instanceof Error ? error.message : String(error)}`,
    ...(isUnsuitable ? [] : stage.explanations),
  ];
  process.stderr.write(`${lines.join('\n')}\n`);
}

export function say(text = ''): void {
  process.stdout.write(`${text}\n`);
}

/** Rejects with what it waited for. */
export async function until(what: string, condition: () => boolean, seconds: number): Promise<void> {
  const endMs = performance.now() + seconds * 1000;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`${what}: not within ${seconds} s`);
    await pause(POLL_MS);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** For the play's own claims. */
export function claim(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
