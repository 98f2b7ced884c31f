import t from 'tap';
import { type Bar, DEFAULT_BAR_MS, isBarred, MAX_BAR_MS, standingBars, withBar } from '../../src/policy/bar.js';

t.test('bars a rule for ten minutes and no longer', async (t) => {
  const bars = withBar([], { rule: 'thermal-cpu', nowMs: 1000 });
  t.ok(isBarred(bars, 'thermal-cpu', 1000));
  t.ok(isBarred(bars, 'thermal-cpu', 1000 + DEFAULT_BAR_MS - 1));
  t.notOk(isBarred(bars, 'thermal-cpu', 1000 + DEFAULT_BAR_MS));
  t.notOk(isBarred(bars, 'thermal-gpu', 1000), 'no other rule');
});

t.test("the operator's last word counts, a shorter one too", async (t) => {
  const long = withBar([], { rule: 'a', nowMs: 0, forMs: 100_000 });
  const short = withBar(long, { rule: 'a', nowMs: 1000, forMs: 500 });
  t.equal(short.length, 1);
  t.notOk(isBarred(short, 'a', 1500));
  for (const forMs of [0, -1, Number.NaN]) t.same(withBar(long, { rule: 'a', nowMs: 1000, forMs }), [], 'lifts it');
});

t.test('a bar cannot be for ever', async (t) => {
  const bars = withBar([], { rule: 'a', nowMs: 0, forMs: Number.POSITIVE_INFINITY });
  t.notOk(isBarred(bars, 'a', MAX_BAR_MS));
});

t.test('a bar of an earlier boot is over: protection is the safe side', async (t) => {
  const bars = withBar([], { rule: 'a', nowMs: 1e9 });
  t.notOk(isBarred(bars, 'a', 1000));
  t.same(standingBars(bars, 1000), []);
});

t.test('the list does not grow, and is plain JSON', async (t) => {
  let bars: readonly Bar[] = [];
  for (let i = 0; i < 1000; i++) bars = withBar(bars, { rule: `r${i % 3}`, nowMs: i, forMs: 100_000 });
  t.equal(bars.length, 3);
  t.same(JSON.parse(JSON.stringify(bars)), bars);
  t.same(standingBars(bars, 1_000_000), []);
});
