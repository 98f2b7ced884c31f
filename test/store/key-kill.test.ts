/** kill -9 of a process that exchanges its key all the time: the chain of hand-overs never breaks, and no entry is lost. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { systemClock } from '../../src/core/clock.js';
import { openStore } from '../../src/store/store.js';
import { recordingLog } from '../fixtures/logs.js';

const ROTATOR = fileURLToPath(new URL('../fixtures/key-rotator.js', import.meta.url));
const KILLS = 8;
const LONGEST_RUN_MS = 60;

/** Killed so long after so many entries were acknowledged; the lines of all that were. */
async function runUntilKilled(
  dataDir: string,
  { entries, afterMs }: { entries: number; afterMs: number },
): Promise<string[]> {
  const child = spawn(process.execPath, [ROTATOR, dataDir], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  let dies = false;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    // The first line says that it is ready.
    if (dies || output.split('\n').length - 2 < entries) return;
    dies = true;
    setTimeout(() => child.kill('SIGKILL'), afterMs);
  });
  await new Promise((resolve) => child.once('close', resolve));
  // What comes after the last newline was cut off.
  return output.split('\n').slice(1, -1);
}

t.test(`${KILLS} times killed, the first key still leads to the last`, async (t) => {
  const dataDir = mkdtempSync(join(tmpdir(), 'skos-'));
  t.teardown(() => rmSync(dataDir, { recursive: true, force: true }));
  let first: string | undefined;
  let from = 1;
  let acknowledged = 0;
  for (let round = 0; round < KILLS; round++) {
    const lines = await runUntilKilled(dataDir, { entries: round, afterMs: (LONGEST_RUN_MS * round) / KILLS });
    const log = recordingLog();
    const store = await openStore({ dataDir, log, clock: systemClock, node: 'nova' });
    const entries = await store.audit.list({ fromSeq: from, limit: 5_000 });
    const hashes = new Map(entries.map(({ seq, hash }) => [`${seq} ${hash}`, true]));
    t.strictSame(
      lines.filter((line) => !hashes.has(line)),
      [],
      `round ${round}: all ${lines.length} acknowledged entries are there`,
    );
    acknowledged += lines.length;
    const [introduction] = await store.audit.introductions();
    first ??= String(introduction?.what.keyId);
    const verdict = await store.audit.verify({ key: first });
    t.match(verdict, { ok: true, remarks: [] }, `round ${round}: no key came without a hand-over`);
    t.strictSame(log.lines, [], 'and nothing was amiss');
    from = store.audit.head().seq + 1;
    await store.stop();
    const keys = join(dataDir, 'keys');
    for (const name of readdirSync(keys)) t.equal(statSync(join(keys, name)).mode & 0o777, 0o600, name);
  }
  t.ok(acknowledged > KILLS, `${acknowledged} entries were acknowledged`);
});
