/**
 * 50 kills at every step of an action: afterwards, once it is cool and the leases are over, every target has the value that it
 * had, nothing was done twice, and the chain verifies. How: test/fixtures/drill.ts. `scripts/test-drill` makes as many as one likes.
 */
import t from 'tap';
import { runDrill } from '../fixtures/drill.js';
import { skipped } from '../fixtures/skos-gpu.js';

const POINTS = Number(process.env.SKOS_DRILL_POINTS ?? 50);
const STEPS = ['rise', 'held', 'release', 'again'];

t.test(
  `${POINTS} kills leave nothing behind and repeat nothing`,
  { skip: process.getuid?.() === 0 ? skipped : 'needs root', timeout: 7_200_000 },
  async (t) => {
    const seed = Number(process.env.SKOS_TEST_SEED ?? Date.now() % 1_000_000_000);
    const parallel = Number(process.env.SKOS_DRILL_PARALLEL ?? 3);
    t.comment(`seed ${seed}`);
    const totals = await runDrill(t, { points: POINTS, seed, parallel });
    t.comment(JSON.stringify(totals));
    t.same(totals.faults, []);
    t.ok(totals.points >= POINTS);
    for (const step of STEPS) t.ok((totals.byStep[step] ?? 0) > 0, `some at: ${step}`);
    for (const victim of ['gpu', 'setters']) t.ok((totals.byVictim[victim] ?? 0) > 0, `some of: ${victim}`);
    t.ok(totals.intents > 0 && totals.starts > 0, `${totals.starts} repairs ran of ${totals.intents} intents`);
  },
);
