import fc from 'fast-check';
import t from 'tap';
import type { ChainLimits, ChainResponses } from '../../src/core/chains.js';
import {
  afterVerdict,
  type ChainState,
  type ChainStep,
  FRESH_CHAIN,
  judge,
  MAX_SEEN_STATES,
  takeStep,
} from '../../src/policy/chain.js';

const LIMITS: ChainLimits = { maxDepth: 10, maxIterations: 100, maxStepsPerSecond: 10, repeats: 3, windowMs: 1_000 };
const BREAK = [{ verdict: 'circuit_break', acts: true }] as const;
const RESPONSES: ChainResponses = {
  depth: BREAK,
  repeats: BREAK,
  rate: BREAK,
  iterations: [{ verdict: 'reset_chain', acts: true }],
};

interface Given extends Partial<ChainStep> {
  readonly atMs: number;
}

/** Takes steps; each is another one unless it says its key. Gives what the last one exceeds. */
function after(given: readonly Given[], limits = LIMITS): { state: ChainState; exceeded: string[] } {
  let state = FRESH_CHAIN;
  let exceeded: string[] = [];
  given.forEach(({ atMs, ...step }, i) => {
    const taken = takeStep(limits, state, { iteration: i + 1, depth: 0, state: null, key: `${i}`, ...step }, atMs);
    state = taken.state;
    exceeded = taken.excesses.map(({ condition, value, limit }) => `${condition} ${value}/${limit}`);
  });
  return { state, exceeded };
}

t.test('finds what is deeper, or has iterated more often, than its limit, and not what is at it', async (t) => {
  t.same(after([{ atMs: 0, depth: 10, iteration: 100 }]).exceeded, []);
  t.same(after([{ atMs: 0, depth: 11 }]).exceeded, ['depth 11/10']);
  t.same(after([{ atMs: 0, iteration: 101 }]).exceeded, ['iterations 101/100']);
  const silent = Array.from({ length: 101 }, (_, i) => ({ atMs: i * 1_000, iteration: 1 }));
  t.same(after(silent).exceeded, ['iterations 101/100'], 'steps count also when they say another number');
});

t.test('finds the same state again and again within the window, whatever lies between', async (t) => {
  const cycle = (periodMs: number) => ['a', 'b', 'a', 'b', 'a'].map((state, i) => ({ atMs: i * periodMs, state }));
  t.same(after(cycle(100)).exceeded, ['repeats 3/3']);
  t.same(after(cycle(100).slice(0, 4)).exceeded, []);
  t.same(after(cycle(300)).exceeded, [], 'not within the window');
  t.same(after([...cycle(100), { atMs: 500, state: 'new' }]).exceeded, [], 'it has got on');
});

t.test('finds more steps a second than the limit, lets a burst pass, and forgives', async (t) => {
  const burst = Array.from({ length: 10 }, () => ({ atMs: 0 }));
  t.same(after(burst).exceeded, []);
  t.same(after([...burst, { atMs: 0 }]).exceeded, ['rate 11/10']);
  const storm = Array.from({ length: 90 }, () => ({ atMs: 0 }));
  t.same(after([...storm, { atMs: 2_500 }]).exceeded, [], 'a moment later all is well');
  t.same(after([...burst, { atMs: -60_000 }]).exceeded, ['rate 11/10'], 'a clock that goes back gives nothing');
});

t.test('counts a step that is delivered twice once, and a late one when it comes', async (t) => {
  const again = Array.from({ length: 60 }, () => ({ atMs: 0, key: 'same', state: 'a' }));
  const { state, exceeded } = after(again);
  t.equal(state.counted, 1);
  t.same(exceeded, []);
  const late = after([
    { atMs: 0, iteration: 50 },
    { atMs: 1, iteration: 3 },
  ]);
  t.match(late.state, { iteration: 50, counted: 2 });
});

t.test('gives the most severe verdict of what may act, and says what would be worse', async (t) => {
  const excess = (condition: 'depth' | 'iterations') => ({ condition, value: 2, limit: 1 });
  const both = [excess('depth'), excess('iterations')];
  t.match(judge(both, RESPONSES), { verdict: 'circuit_break', would: null, because: { condition: 'depth' } });
  const shy: ChainResponses = { ...RESPONSES, depth: [{ verdict: 'circuit_break', acts: false }] };
  t.match(judge(both, shy), { verdict: 'reset_chain', would: 'circuit_break', because: { condition: 'iterations' } });
  t.match(judge([excess('depth')], shy), { verdict: 'continue', would: 'circuit_break' });
  const silent: ChainResponses = { ...RESPONSES, depth: [] };
  t.match(judge([excess('depth')], silent), { verdict: 'continue', would: null, because: { condition: 'depth' } });
  t.match(judge([], RESPONSES), { verdict: 'continue', would: null, because: null });
});

t.test('a chain that was told to begin anew begins anew, and is told again when it goes on as before', async (t) => {
  const { state } = after([{ atMs: 0, iteration: 101, state: 'a', depth: 3 }]);
  const fresh = afterVerdict(state, 'reset_chain');
  t.match(fresh, { iteration: 0, depth: 0, counted: 0, seen: [] });
  const step = { depth: 0, state: null };
  t.same(takeStep(LIMITS, fresh, { ...step, iteration: 1, key: 'x' }, 1_000).excesses, []);
  t.equal(takeStep(LIMITS, fresh, { ...step, iteration: 102, key: 'y' }, 1_000).excesses.length, 1);
  t.equal(afterVerdict(state, 'circuit_break'), state);
});

t.test('whatever comes, what is remembered of a chain is bounded', async () => {
  const step = fc.record({
    iteration: fc.nat(),
    depth: fc.nat(),
    state: fc.option(fc.string({ maxLength: 3 })),
    key: fc.string({ maxLength: 2 }),
    atMs: fc.integer({ min: -10_000, max: 10_000 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const { state } = after(steps);
      return (
        state.seen.length <= MAX_SEEN_STATES &&
        state.latest.length <= 16 &&
        Number.isFinite(state.level) &&
        state.level >= 0 &&
        new Set(state.seen.map((each) => each.state)).size === state.seen.length
      );
    }),
    { numRuns: 50 },
  );
});
