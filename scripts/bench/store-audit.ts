/** What an entry of the audit chain costs: until it is on disk, and to verify. */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/core/clock.js';
import { openStore } from '../../src/store/store.js';
import { benchLog } from './store-feed.js';
import type { Figure } from './store-figure.js';

const APPENDS = 1_000;
const GROUPED = 8_000;

export async function auditFigures(): Promise<Figure[]> {
  const dataDir = mkdtempSync(join(process.cwd(), '.bench-store-'));
  const store = await openStore({ dataDir, log: benchLog, clock: systemClock });
  try {
    const what = { target: 'cpufreq/policy0', former: '3600000', written: '1800000', readBack: '1800000' };
    const append = () => store.audit.append({ kind: 'action.start', who: 'agent', what });
    const latenciesMs: number[] = [];
    for (let i = 0; i < APPENDS; i++) {
      const startMs = performance.now();
      await append();
      latenciesMs.push(performance.now() - startMs);
    }
    latenciesMs.sort((a, b) => a - b);
    const groupedMs = await elapsedMs(() => Promise.all(Array.from({ length: GROUPED }, append)));
    let entries = 0;
    const verifyMs = await elapsedMs(async () => {
      const verdict = await store.audit.verify();
      if (!verdict.ok) throw new Error(verdict.why);
      entries = verdict.entries;
    });
    return [
      { name: 'audit entry on disk, p50', value: latenciesMs[APPENDS / 2] ?? 0, unit: 'ms', limit: null },
      { name: 'audit entry on disk, p99', value: latenciesMs[APPENDS * 0.99] ?? 0, unit: 'ms', limit: null },
      { name: 'audit entries, group commit', value: (GROUPED / groupedMs) * 1000, unit: '1/s', limit: null },
      { name: 'verify an audit entry', value: (verifyMs * 1000) / entries, unit: 'us', limit: null },
    ];
  } finally {
    await store.stop();
    rmSync(dataDir, { recursive: true });
  }
}

async function elapsedMs(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}
