/**
 * What holds for the ladder under any input. The oracle reads the raw history backwards and knows nothing of runs and
 * phases, so that it cannot share a mistake with the state machine.
 */
import fc from 'fast-check';
import t from 'tap';
import { QUALITIES } from '../../src/core/channel.js';
import {
  FLAP_COUNT,
  initialLadder,
  type LadderState,
  RUN_EXPIRY_MS,
  type Sample,
  stale,
  step,
} from '../../src/policy/ladder.js';
import type { Rule } from '../../src/policy/rule.js';
import { deepFreeze, kinds, LadderDriver, thermalRule } from '../fixtures/rules.js';

const RUNS = 400;
const MAX_STATE_BYTES = 2048;

/** Mostly the ordinary rhythm; now and then a lost sample, a pause beyond the gap, a suspend. */
const deltaMs = fc.oneof(
  { weight: 12, arbitrary: fc.constant(100) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 1300 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1301, max: 2 * RUN_EXPIRY_MS }) },
  { weight: 1, arbitrary: fc.constant(86_400_000) },
);
const bound = fc.constantFrom(69_999, 70_000, 75_000, 75_001, 79_999, 85_000, 85_001, 89_999, 90_000, 95_000, 95_001);
const value = fc.oneof(bound, fc.integer({ min: 60_000, max: 110_000 }), fc.constant(-44_000));
const quality = fc.constantFrom(...QUALITIES.filter((word) => word !== 'ok'));

/** Stretches of one kind, because noise alone never satisfies a run nor a keep. */
const stretch = fc
  .record({
    length: fc.integer({ min: 1, max: 30 }),
    value,
    quality: fc.oneof({ weight: 5, arbitrary: fc.constant('ok' as const) }, { weight: 1, arbitrary: quality }),
    deltas: fc.array(deltaMs, { minLength: 30, maxLength: 30 }),
  })
  .map(({ length, value, quality, deltas }) =>
    deltas.slice(0, length).map((delta) => ({ delta, value: quality === 'ok' ? value : null, quality })),
  );
const history: fc.Arbitrary<Sample[]> = fc.array(stretch, { minLength: 1, maxLength: 20 }).map((stretches) => {
  let atMs = 1000;
  return stretches.flat().map(({ delta, value, quality }) => {
    atMs += delta;
    return { value, quality, atMs };
  });
});
const rule: fc.Arbitrary<Rule> = fc
  .record({
    forMs: fc.constantFrom(0, 300, 2000),
    forSamples: fc.integer({ min: 1, max: 5 }),
    keepMs: fc.constantFrom(0, 500, 1000, 2500),
  })
  .map((overrides) => thermalRule(overrides));

interface Observed {
  readonly before: LadderState;
  readonly after: LadderState;
  readonly transitions: ReturnType<typeof step>['transitions'];
  readonly past: readonly Sample[];
  readonly sample: Sample;
}

/** Steps through the samples and shows each step with its whole past (the sample included). */
function walk(rule: Rule, samples: readonly Sample[], see: (observed: Observed) => void): LadderState {
  let state = initialLadder(rule);
  samples.forEach((sample, i) => {
    const before = deepFreeze(state);
    const { state: after, transitions } = step(rule, before, sample);
    see({ before, after, transitions, past: samples.slice(0, i + 1), sample });
    state = after;
  });
  return state;
}

/** The raise condition of a rung, from the past alone. */
function holds(rule: Rule, raise: number, past: readonly Sample[]): boolean {
  const newest = past.at(-1);
  if (newest === undefined || newest.value === null) return false;
  let [count, firstMs] = [0, newest.atMs];
  for (const { value, atMs } of past.filter((sample) => sample.value !== null).toReversed()) {
    if (value === null || value <= raise || firstMs - atMs > RUN_EXPIRY_MS) break;
    count += 1;
    firstMs = atMs;
  }
  return count >= rule.forSamples && newest.atMs - firstMs >= rule.forMs;
}

/** How long the past has ended in unbroken calm: ok, below the bound, without a gap. */
function calmMs(rule: Rule, clear: number, past: readonly Sample[]): number {
  const newestMs = past.at(-1)?.atMs ?? 0;
  let firstMs = newestMs;
  for (const { value, atMs } of past.toReversed()) {
    if (value === null || value >= clear || firstMs - atMs > rule.gapMs) break;
    firstMs = atMs;
  }
  return newestMs - firstMs;
}

function highest(rule: Rule, past: readonly Sample[]): number {
  return rule.rungs.findLastIndex(({ raise }) => holds(rule, raise, past));
}

function property(check: (rule: Rule, samples: Sample[]) => void): void {
  fc.assert(fc.property(rule, history, check), { numRuns: RUNS });
}

t.test('rises exactly when a raise condition holds, at once, and to the highest that holds', async () => {
  property((rule, samples) => {
    walk(rule, samples, ({ before, after, past }) => {
      const reached = highest(rule, past);
      if (reached > before.rung) assertEqual(after.rung, reached);
      else assertTrue(after.rung <= before.rung);
    });
  });
});

t.test('comes down only after a whole keep of calm, one rung per keep', async () => {
  property((rule, samples) => {
    let downMs = Number.NEGATIVE_INFINITY;
    walk(rule, samples, ({ before, after, past, sample }) => {
      if (after.rung >= before.rung) return;
      assertEqual(after.rung, before.rung - 1);
      assertTrue(calmMs(rule, rule.rungs[before.rung]?.clear ?? Number.NaN, past) >= rule.keepMs);
      assertTrue(sample.atMs - downMs >= rule.keepMs);
      downMs = sample.atMs;
    });
  });
});

t.test('does come down after a keep of calm, unless it is damped', async () => {
  property((rule, samples) => {
    const final = walk(rule, samples, () => {});
    fc.pre(final.phase !== 'flapping');
    const d = new LadderDriver(rule);
    d.state = final;
    d.nowMs = final.lastMs ?? 0;
    d.celsius(20, 0.1 + 3 * (rule.keepMs / 1000 + 0.1));
    assertEqual(d.state.rung, -1);
  });
});

t.test('missing data changes no level and recovers nothing', async () => {
  property((rule, samples) => {
    walk(rule, samples, ({ before, after, transitions, sample }) => {
      if (sample.value !== null) return;
      assertEqual(after.rung, before.rung);
      assertTrue(after.belowSinceMs === null && after.phase !== 'recovering');
      assertTrue(transitions.every(({ kind, value }) => kind === 'verdict' && value === null));
      assertEqual(after.verdict, sample.quality);
    });
  });
});

t.test('silence changes no level, whenever it is asked about', async () => {
  property((rule, samples) => {
    walk(rule, samples, ({ after }) => {
      for (const laterMs of [0, rule.gapMs, rule.gapMs + 1, 1e9]) {
        const asked = stale(rule, after, (after.lastMs ?? 0) + laterMs);
        assertEqual(asked.state.rung, after.rung);
        assertEqual(asked.state.lastMs, after.lastMs);
        assertEqual(asked.state.verdict === 'stale', laterMs > rule.gapMs || after.verdict === 'stale');
      }
    });
  });
});

t.test('holds its level inside the hysteresis band, under any noise there', async () => {
  const noise = fc.array(
    fc.record({ delta: deltaMs, share: fc.double({ min: 0, max: 1, noNaN: true }), dark: fc.boolean() }),
    { maxLength: 200 },
  );
  fc.assert(
    fc.property(rule, fc.integer({ min: 0, max: 2 }), noise, (rule, rung, noise) => {
      const d = new LadderDriver(rule);
      const entered = rule.rungs[rung];
      if (entered === undefined) throw new Error('the rule has three rungs');
      d.celsius((entered.raise + 1) / 1000, 5);
      assertEqual(d.state.rung, rung);
      const top = rule.rungs[rung + 1]?.raise ?? entered.raise + 50_000;
      for (const { delta, share, dark } of noise) {
        d.nowMs += delta;
        const value = Math.round(entered.clear + share * (top - entered.clear));
        d.sample(dark ? { value: null, quality: 'fault' } : { value, quality: 'ok' });
        assertEqual(d.state.rung, rung);
      }
    }),
    { numRuns: RUNS },
  );
});

t.test('damping neither delays a rise nor shortens a hold', async (t) => {
  // Firings every few seconds with a short keep, so that most histories flap.
  const bursts = fc.array(
    fc.record({
      hot: fc.constantFrom(76, 86, 96),
      hotSeconds: fc.integer({ min: 1, max: 3 }),
      cool: fc.integer({ min: 1, max: 70 }),
    }),
    { minLength: FLAP_COUNT + 4, maxLength: 20 },
  );
  let flapped = 0;
  fc.assert(
    fc.property(bursts, (bursts) => {
      const rule = thermalRule({ keepMs: 100 });
      const samples: Sample[] = [];
      let atMs = 0;
      const add = (celsius: number, seconds: number) => {
        for (let i = 0; i < seconds * 10; i++) {
          atMs += 100;
          samples.push({ value: celsius * 1000, quality: 'ok', atMs });
        }
      };
      for (const { hot, hotSeconds, cool } of bursts) {
        add(hot, hotSeconds);
        add(60, cool);
      }
      let state = initialLadder(rule);
      let hotRun = 0;
      for (const sample of samples) {
        const before = state;
        const { state: after, transitions } = step(rule, before, sample);
        hotRun = sample.value === 60_000 ? 0 : hotRun + 1;
        const above = rule.rungs.findLastIndex(({ raise }) => (sample.value ?? 0) > raise);
        if (hotRun >= rule.forSamples) assertTrue(after.rung >= above);
        if (after.rung < before.rung) assertTrue(sample.atMs - (before.belowSinceMs ?? Number.NaN) >= rule.keepMs);
        if (transitions.some(({ kind }) => kind === 'flapping')) flapped += 1;
        state = after;
      }
    }),
    { numRuns: 60 },
  );
  t.ok(flapped > 0, 'the property was put to the test');
});

t.test('the same inputs give the same outputs, also through JSON at every step', async () => {
  property((rule, samples) => {
    let stored = JSON.stringify(initialLadder(rule));
    walk(rule, samples, ({ after, transitions, sample }) => {
      const again = step(rule, JSON.parse(stored), sample);
      assertEqual(JSON.stringify(again.transitions), JSON.stringify(transitions));
      assertEqual(JSON.stringify(again.state), JSON.stringify(after));
      stored = JSON.stringify(again.state);
    });
  });
});

t.test('the state stays small however long it runs', async () => {
  property((rule, samples) => {
    walk(rule, samples, ({ after }) => {
      assertTrue(JSON.stringify(after).length <= MAX_STATE_BYTES);
      assertEqual(after.runs.length, rule.rungs.length);
      assertEqual(after.enteredMs.length, rule.rungs.length);
      assertTrue(after.enteredMs.every(({ length }) => length <= FLAP_COUNT + 1));
      assertTrue(after.runs.every(({ samples }) => samples <= rule.forSamples));
    });
  });
});

t.test('samples given twice or late change nothing', async () => {
  property((rule, jumpy) => {
    // Late beyond CLOCK_RESTART_MS would be another clock, so that the history must have no such jump.
    const samples = jumpy.map((sample, i) => ({ ...sample, atMs: 1000 + i * 100 }));
    const plain = walk(rule, samples, () => {});
    const doubled = samples.flatMap((sample, i) => [sample, ...samples.slice(Math.max(0, i - 1), i + 1)]);
    assertEqual(JSON.stringify(walk(rule, doubled, () => {})), JSON.stringify(plain));
  });
});

t.test('every transition says what the state became', async () => {
  property((rule, samples) => {
    walk(rule, samples, ({ before, after, transitions }) => {
      const named = (rung: number) => rule.rungs[rung]?.severity ?? null;
      const level = transitions.filter(({ before, after }) => before !== after);
      assertEqual(level.length, before.rung === after.rung ? 0 : 1);
      for (const transition of level) {
        assertEqual(transition.before, named(before.rung));
        assertEqual(transition.after, named(after.rung));
      }
      const last = transitions.at(-1);
      if (last !== undefined) assertEqual(last.phase, after.phase);
      const words = kinds(transitions);
      assertEqual(new Set(words).size, words.length);
      assertTrue((after.rung === -1) === (after.phase === 'ok' || after.phase === 'pending'));
    });
  });
});

function assertTrue(holds: boolean): void {
  if (!holds) throw new Error('does not hold');
}

function assertEqual<T>(found: T, wanted: T): void {
  if (found !== wanted) throw new Error(`found ${found}, wanted ${wanted}`);
}
