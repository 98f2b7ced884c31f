/** kill -9 of a real process at random moments: nothing that was acknowledged may be missing. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { systemClock } from '../../src/core/clock.js';
import type { AuditEntry } from '../../src/core/ports.js';
import { MAX_LISTED } from '../../src/store/audit.js';
import { type LevelStore, openStore } from '../../src/store/store.js';
import { recordingLog } from '../fixtures/logs.js';

const APPENDER = fileURLToPath(new URL('../fixtures/audit-appender.js', import.meta.url));
const KILLS = 30;
const LONGEST_RUN_MS = 150;

/** Runs the appender until it is killed, and returns the lines that it got out. */
async function runUntilKilled(
  dataDir: string,
  { inFlight, afterMs }: { inFlight: number; afterMs: number },
): Promise<string[]> {
  const child = spawn(process.execPath, [APPENDER, dataDir, String(inFlight)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (output === '') setTimeout(() => child.kill('SIGKILL'), afterMs);
    output += text;
  });
  await new Promise((resolve) => child.once('close', resolve));
  // What comes after the last newline was cut off.
  return output.split('\n').slice(1, -1);
}

async function hashes(store: LevelStore, fromSeq: number): Promise<Map<number, string>> {
  const found = new Map<number, string>();
  let from = fromSeq;
  for (;;) {
    const entries: AuditEntry[] = await store.audit.list({ fromSeq: from, limit: MAX_LISTED });
    for (const { seq, hash } of entries) found.set(seq, hash);
    if (entries.length < MAX_LISTED) return found;
    from += entries.length;
  }
}

t.test(`${KILLS} times killed, every acknowledged entry is there and the chain goes on`, async (t) => {
  const dataDir = t.testdir();
  let acknowledged = 0;
  let last = 0;
  for (let round = 0; round < KILLS; round++) {
    const run = { inFlight: round % 3 === 0 ? 1 : 16, afterMs: Math.random() * LONGEST_RUN_MS };
    const lines = await runUntilKilled(dataDir, run);
    acknowledged += lines.length;
    const log = recordingLog();
    const store = await openStore({ dataDir, log, clock: systemClock });
    const found = await hashes(store, last + 1);
    const missing = lines.filter((line) => {
      const [seq, hash] = line.split(' ');
      return found.get(Number(seq)) !== hash;
    });
    if (missing.length > 0)
      t.fail(`round ${round}: ${missing.length} acknowledged entries are missing`, { missing, run });
    last = store.audit.head().seq;
    const verdict = await store.audit.verify();
    if (!verdict.ok || verdict.entries !== last) t.fail(`round ${round}: the chain is broken`, { verdict, run });
    if (log.lines.length > 0) t.fail(`round ${round}: trouble was logged`, { lines: log.lines });
    await store.stop();
  }
  t.ok(acknowledged > KILLS, `${acknowledged} entries were acknowledged`);
  t.comment(`${acknowledged} acknowledged in ${KILLS} runs, ${last} in the chain`);
});
