/** The same samples in Prometheus' TSDB, made by its own promtool (Debian: prometheus), where that is installed. */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Stored } from './store-sqlite.js';

/** Lines that are written to the file at once. */
const LINES_AT_ONCE = 10_000;

export function promtoolIsThere(): boolean {
  try {
    execFileSync('promtool', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Bytes of blocks with these series, chunks and index. Values in the base unit, as an exporter gives them. */
export function prometheusBytes(directory: string, series: readonly Stored[], perBase: number): number {
  const input = join(directory, 'samples.om');
  const blocks = join(directory, 'blocks');
  const file = openSync(input, 'w');
  writeSync(file, '# TYPE sample gauge\n');
  series.forEach(({ atMs, values }, channel) => {
    for (let from = 0; from < values.length; from += LINES_AT_ONCE) {
      const part = values.subarray(from, from + LINES_AT_ONCE);
      const lines = Array.from(
        part,
        (value, i) => `sample{channel="${channel}"} ${value / perBase} ${(atMs[from + i] ?? 0) / 1000}\n`,
      );
      writeSync(file, lines.join(''));
    }
  });
  writeSync(file, '# EOF\n');
  closeSync(file);
  mkdirSync(blocks);
  execFileSync('promtool', ['tsdb', 'create-blocks-from', 'openmetrics', input, blocks], { stdio: 'ignore' });
  rmSync(input);
  return bytesBelow(blocks);
}

export function bytesBelow(directory: string): number {
  let bytes = 0;
  for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) bytes += statSync(join(entry.parentPath, entry.name)).size;
  }
  return bytes;
}
