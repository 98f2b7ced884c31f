import t from 'tap';
import { leastSpacingMs, mostEntries } from '../../src/policy/oscillation.js';
import { kinds, LadderDriver, PERIOD_MS, thermalRule } from '../fixtures/rules.js';

/** Heats and cools as fast as this rule lets its rungs come and go, for ten minutes after ten minutes. */
function entries(bounds: { hot: number; cool: number }, rule = thermalRule()): number[] {
  const d = new LadderDriver(rule);
  const entered: number[] = [];
  d.celsius(76, 1);
  while (d.nowMs < 1_000_000 + 30 * 60_000) {
    const before = d.log.length;
    const rung = d.state.rung;
    d.celsius(rung >= 1 || (bounds.hot < 85 && rung >= 0) ? bounds.cool : bounds.hot);
    const happened = kinds(d.log.slice(before));
    if (happened.includes('escalate') || happened.includes('fire')) entered.push(d.nowMs);
  }
  return entered;
}

function mostIn10Minutes(atMs: readonly number[]): number {
  return Math.max(...atMs.map((from) => atMs.filter((each) => each >= from && each - from <= 600_000).length));
}

t.test('no drive makes a ladder enter a rung more often than documented, and one comes close', async (t) => {
  const rule = thermalRule();
  t.equal(leastSpacingMs(rule, PERIOD_MS), 10_100);
  const fired = entries({ hot: 76, cool: 60 });
  const most = mostIn10Minutes(fired);
  t.equal(mostEntries(rule, PERIOD_MS), 14);
  t.ok(most <= 14 && most >= 12, `${most} firings`);
  const escalated = entries({ hot: 86, cool: 79 });
  const highest = mostIn10Minutes(escalated);
  t.ok(highest <= 14 && highest >= 12, `${highest} escalations`);
});

t.test('the bound holds without a keep, and with one of an hour', async (t) => {
  t.equal(mostEntries(thermalRule({ keepMs: 3_600_000 }), PERIOD_MS), 1);
  t.equal(mostEntries(thermalRule({ keepMs: 0, forSamples: 1 }), PERIOD_MS), 15);
});
