/**
 * 50 kills at every step of an action: afterwards, once it is cool and the leases are over, every target has the value that it
 * had, nothing was done twice, and the chain verifies. How: test/fixtures/drill.ts. `scripts/test-drill` makes as many as one likes.
 */
import t from 'tap';
import type { AuditEntry } from '../../src/core/ports.js';
import { DrillNode, noTotals, runDrill, STEPS, VICTIMS } from '../fixtures/drill.js';
import { lostEntries, repeatedIntents, replays } from '../fixtures/drill-verdict.js';
import { skipped } from '../fixtures/skos-gpu.js';

const POINTS = Number(process.env.SKOS_DRILL_POINTS ?? 50);
const skip = process.getuid?.() === 0 ? skipped : 'needs root';
/** Long enough for a release that comes, on a machine that is busy with the drill itself. */
const BROKEN_PATIENCE_MS = 8_000;

t.test(`${POINTS} kills leave nothing behind and repeat nothing`, { skip, timeout: 7_200_000 }, async (t) => {
  const seed = Number(process.env.SKOS_TEST_SEED ?? Date.now() % 1_000_000_000);
  const parallel = Number(process.env.SKOS_DRILL_PARALLEL ?? 3);
  t.comment(`seed ${seed}`);
  const totals = await runDrill(t, { points: POINTS, seed, parallel });
  t.comment(JSON.stringify(totals));
  t.same(totals.faults, []);
  t.ok(totals.points >= POINTS);
  for (const step of [...STEPS, 'again']) t.ok((totals.byStep[step] ?? 0) > 0, `some at: ${step}`);
  for (const victim of VICTIMS) t.ok((totals.byVictim[victim] ?? 0) > 0, `some of: ${victim}`);
  t.ok(totals.intents > 0 && totals.starts > 0, `${totals.starts} repairs ran of ${totals.intents} intents`);
});

t.test(
  'it is found out when former values are lost, and when something starts a repair again',
  { skip, timeout: 300_000 },
  async (t) => {
    const totals = noTotals();
    const drill = await DrillNode.start(t, { seed: 1, totals });
    await drill.rise(new Set());
    await drill.repeatRepair();
    await drill.loseState();
    drill.patienceMs = BROKEN_PATIENCE_MS;
    await t.rejects(drill.fall(), /cpufreq\/policy0 \d+ and not 2800000/);
    await drill.judge();
    t.ok(
      totals.faults.some((fault) => /^hook\/redistribute ran again/.test(fault)),
      totals.faults.join('\n'),
    );
    t.ok(
      totals.faults.some((fault) => /^the next life moved cpufreq/.test(fault)),
      totals.faults.join('\n'),
    );
  },
);

/** A record, oldest first: kinds, with the attempt of an intent. */
function record(...lines: readonly (readonly [atMs: number, kind: string, attempt?: number])[]): AuditEntry[] {
  return lines.map(([atMs, kind, attempt = 1], i) => ({
    ...{ kind, atMs, who: 'agent', what: { action: 'a', attempt, jobs: ['hook/x'] } },
    ...{ seq: i + 1, previous: `${i}`, hash: `${i + 1}` },
  }));
}

t.test('a run needs an intent of its own, of the agent that lives', async (t) => {
  const at = (...times: readonly number[]) => times.map((atMs) => ({ job: 'hook/x', atMs }));
  const entries = record(
    [0, 'agent.start'],
    [10, 'action.intent', 1],
    [20, 'action.intent', 2],
    [25, 'agent.start'],
    [30, 'action.intent', 3],
  );
  t.same(replays(entries, at(12, 21, 30)), []);
  t.same(replays(entries, at(12, 35)), [], 'an intent that never ran is no fault');
  t.match(replays(entries, at(9)), [/without an intent/]);
  t.match(replays(entries, [{ job: 'hook/y', atMs: 12 }]), [/without an intent/]);
  t.match(replays(entries, at(12, 13)), [/ran again/], 'though there are more intents than runs');
  t.match(replays(entries, at(26)), [/of an earlier agent/]);
});

t.test('an intent that comes twice, and an entry that is gone or another, are faults', async (t) => {
  const entries = record([10, 'action.intent', 1], [20, 'action.intent', 2]);
  t.same(repeatedIntents(entries), []);
  t.match(repeatedIntents(record([10, 'action.intent', 1], [20, 'action.intent', 1])), [/came twice/]);
  t.same(lostEntries(entries.slice(0, 1), entries), []);
  t.match(lostEntries(entries, entries.slice(0, 1)), [/1 entries/]);
  t.match(lostEntries(entries, record([10, 'action.intent', 1]).concat({ ...entries[1], hash: 'x' } as AuditEntry)), [
    /1 entries/,
  ]);
});
