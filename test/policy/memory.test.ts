import fc from 'fast-check';
import t from 'tap';
import { type ActionClass, actionClass, parseAction } from '../../src/core/action-names.js';
import { initialLadder, NO_RUNG, type Sample, step } from '../../src/policy/ladder.js';
import {
  type Lesson,
  learnt,
  MIN_OBSERVATIONS,
  NO_LESSON,
  type Outcome,
  RECENT,
  rememberedRung,
  weighed,
  wilsonLower,
} from '../../src/policy/memory.js';
import { thermalRule } from '../fixtures/rules.js';

function lesson(outcomes: readonly Outcome[]): Lesson {
  return outcomes.reduce((sum, outcome, i) => learnt(sum, { outcome, tookMs: 1000 * (i + 1), fell: null }), NO_LESSON);
}
const times = (count: number, outcome: Outcome): Outcome[] => Array.from({ length: count }, () => outcome);

function known(lessons: Readonly<Record<string, Lesson>>) {
  return (text: string) => {
    const action = parseAction(text);
    return typeof action === 'string' ? undefined : { class: actionClass(action.verb), lesson: lessons[text] };
  };
}
const rungsOf = (...actions: readonly (readonly string[])[]) =>
  thermalRule({
    rungs: thermalRule().rungs.map((rung, i) => ({ ...rung, actions: actions[i] ?? [] })),
  });

t.test('Wilson’s lower bound is that of the tables', async (t) => {
  // Values of the score interval at 95 %, computed by hand from the formula in Wilson (1927), equation 1.
  for (const [hits, tries, expected] of [
    [8, 8, 0.6756],
    [7, 8, 0.5291],
    [6, 8, 0.4093],
    [0, 8, 0],
    [50, 100, 0.4038],
    [1, 1, 0.2065],
  ] as const) {
    t.ok(Math.abs(wilsonLower(hits, tries) - expected) < 5e-5, `${hits}/${tries}: ${wilsonLower(hits, tries)}`);
  }
  t.equal(wilsonLower(0, 0), 0);
});

t.test('tells the median and the mean of the times that helped, over the latest outcomes alone', async (t) => {
  const old = lesson([...times(RECENT, 'unhelpful'), ...times(RECENT - 1, 'helped'), 'failed']);
  const { observations, helped, medianTookMs, meanTookMs, isProven, isFutile } = weighed(old);
  t.equal(old.attempts, 2 * RECENT);
  t.equal(observations, RECENT);
  t.equal(helped, RECENT - 1);
  t.equal(medianTookMs, 1000 * (RECENT + RECENT / 2));
  t.equal(meanTookMs, 1000 * (RECENT + RECENT / 2));
  t.strictSame([isProven, isFutile], [true, false]);
  t.equal(weighed(NO_LESSON).medianTookMs, null);
});

t.test(
  'begins higher only where the lower rung is futile and the higher one proven, after enough of both',
  async (t) => {
    const rule = rungsOf(['throttle_10'], ['throttle_50'], ['alert_human']);
    const futile = lesson(times(MIN_OBSERVATIONS, 'unhelpful'));
    const proven = lesson(times(MIN_OBSERVATIONS, 'helped'));
    const rung = (lessons: Readonly<Record<string, Lesson>>) => rememberedRung(rule, known(lessons));
    t.equal(rung({}), NO_RUNG);
    t.equal(rung({ throttle_10: futile, throttle_50: proven }), 1);
    t.equal(rung({ throttle_10: futile }), NO_RUNG, 'nothing is known of what would be begun');
    t.equal(rung({ throttle_10: proven, throttle_50: proven }), NO_RUNG);
    const few = lesson(times(MIN_OBSERVATIONS - 1, 'unhelpful'));
    t.equal(rung({ throttle_10: few, throttle_50: proven }), NO_RUNG);
    const mixed = lesson([...times(MIN_OBSERVATIONS - 2, 'unhelpful'), ...times(2, 'helped')]);
    t.equal(rung({ throttle_10: mixed, throttle_50: proven }), NO_RUNG);
  },
);

t.test(
  'a rung that only tells people is no evidence, and one that cannot be taken back is never begun early',
  async (t) => {
    const futile = lesson(times(RECENT, 'failed'));
    const proven = lesson(times(RECENT, 'helped'));
    const all = { throttle_10: futile, throttle_50: futile, shutdown_non_essential: proven, alert_human: futile };
    t.equal(rememberedRung(rungsOf(['throttle_10'], ['throttle_50'], ['shutdown_non_essential']), known(all)), NO_RUNG);
    t.equal(
      rememberedRung(rungsOf(['alert_human'], ['throttle_50'], []), known({ ...all, throttle_50: proven })),
      NO_RUNG,
    );
    t.equal(
      rememberedRung(
        rungsOf(['throttle_10'], ['throttle_50', 'cleanup_temp'], []),
        known({ ...all, throttle_50: proven }),
      ),
      NO_RUNG,
      'nor one beside a cap',
    );
  },
);

const word = fc.constantFrom('throttle_10', 'throttle_50', 'redistribute', 'cleanup_temp', 'alert_human', 'no_action');
const outcomes = fc.array(fc.constantFrom<Outcome>('helped', 'unhelpful', 'failed'), { maxLength: 20 });

t.test(
  'whatever is remembered, a ladder begins no lower than its readings say, and with no irreversible action early',
  async () => {
    const sample = fc.record({
      value: fc.integer({ min: 60_000, max: 110_000 }),
      remembered: fc.constantFrom(-1, 0, 1, 2, 2, 2, 3, Number.NaN, 0.5),
    });
    fc.assert(
      fc.property(fc.array(sample, { minLength: 1, maxLength: 60 }), (samples) => {
        const rule = thermalRule({ forMs: 0, forSamples: 2, keepMs: 200 });
        let raised = initialLadder(rule);
        samples.forEach(({ value, remembered }, i) => {
          const at: Sample = { value, quality: 'ok', atMs: 1000 + 100 * i };
          const before = raised;
          const next = step(rule, raised, { ...at, firstRung: remembered });
          raised = next.state;
          const [transition] = next.transitions.filter(({ kind }) => kind === 'fire');
          const bare = step(rule, before, at);
          if (raised.rung < bare.state.rung) throw new Error('memory lowered it');
          const isRaised = raised.rung > bare.state.rung;
          if (isRaised && (before.rung !== NO_RUNG || bare.state.rung === NO_RUNG))
            throw new Error('raised without a fire');
          if (isRaised !== (transition?.firstRung !== undefined)) throw new Error('the input is not in the record');
          // What is recorded gives the same again.
          const { firstRung } = transition ?? {};
          const again = step(rule, before, firstRung === undefined ? at : { ...at, firstRung });
          if (JSON.stringify(again) !== JSON.stringify(next)) throw new Error('a replay differs');
        });
      }),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(
        fc.array(fc.array(word, { maxLength: 3 }), { minLength: 3, maxLength: 3 }),
        fc.array(outcomes, { minLength: 6, maxLength: 6 }),
        (actions, lessons) => {
          const names = ['throttle_10', 'throttle_50', 'redistribute', 'cleanup_temp', 'alert_human', 'no_action'];
          const rule = rungsOf(...actions);
          const found = known(Object.fromEntries(names.map((name, i) => [name, lesson(lessons[i] ?? [])])));
          const rung = rememberedRung(rule, found);
          if (rung === 0 || rung >= rule.rungs.length) throw new Error(`rung ${rung}`);
          const begun: (ActionClass | undefined)[] = rule.rungs
            .slice(0, rung + 1)
            .flatMap((each) => each.actions.map((text) => found(text)?.class));
          if (begun.includes('irreversible')) throw new Error('an irreversible action was begun early');
        },
      ),
      { numRuns: 400 },
    );
  },
);
