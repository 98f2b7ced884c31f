import t from 'tap';
import { ruleProblems, sampleGapMs } from '../../src/policy/rule.js';
import { thermalRule } from '../fixtures/rules.js';

const [warning, critical] = thermalRule().rungs;
if (warning === undefined || critical === undefined) throw new Error('the fixture has three rungs');

t.test('accepts the default table', async (t) => {
  t.same(ruleProblems(thermalRule()), []);
});

t.test('refuses what could never clear, never fire, or would climb in the wrong order', async (t) => {
  const wrong = {
    'no rung': { rungs: [] },
    'clear equal to raise': { rungs: [{ ...warning, clear: warning.raise }] },
    'clear above raise': { rungs: [{ ...warning, clear: warning.raise + 1 }] },
    'raise not a number': { rungs: [{ ...warning, raise: Number.NaN }] },
    'raise infinite': { rungs: [{ ...warning, raise: Number.POSITIVE_INFINITY }] },
    'raises that do not ascend': { rungs: [warning, { ...critical, raise: warning.raise, clear: warning.clear }] },
    'severities that do not ascend': { rungs: [warning, { ...critical, severity: 'warning' as const }] },
    'no sample': { forSamples: 0 },
    'negative time': { forMs: -1 },
    'negative keep': { keepMs: -1 },
    'keep not a number': { keepMs: Number.NaN },
    'no rate': { gapMs: 0 },
  };
  for (const [what, overrides] of Object.entries(wrong)) t.equal(ruleProblems(thermalRule(overrides)).length, 1, what);
});

t.test('the ordinary rhythm of a channel is three periods and the deadline', async (t) => {
  t.equal(sampleGapMs({ rateHz: 10, deadlineMs: 1000 }), 1300);
  t.equal(sampleGapMs({ rateHz: 0.1, deadlineMs: 1000 }), 31_000);
});
