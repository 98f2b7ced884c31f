/** Exact sequences of the ladder; what holds under any input is in ladder-properties.test.ts. */
import t from 'tap';
import {
  CLOCK_RESTART_MS,
  dueActions,
  FLAP_COUNT,
  FLAP_KEEP_MIN_MS,
  FLAP_WINDOW_MS,
  RUN_EXPIRY_MS,
  severityOf,
  stale,
} from '../../src/policy/ladder.js';
import { kinds, LadderDriver, thermalRule } from '../fixtures/rules.js';

t.test('climbs 75, 85, 95 °C one severity at a time and comes back one rung per keep', async (t) => {
  const d = new LadderDriver();
  t.same(kinds(d.celsius(60, 5)), [], 'the first reading is no news');
  t.same(d.celsius(76, 0.1), []);
  t.equal(d.state.phase, 'pending');
  t.match(d.celsius(76, 0.1), [
    { kind: 'fire', before: null, after: 'warning', phase: 'firing', value: 76_000, threshold: 75_000, verdict: 'ok' },
  ]);
  t.match(d.celsius(86, 1), [{ kind: 'escalate', before: 'warning', after: 'critical', threshold: 85_000 }]);
  t.match(d.celsius(96, 1), [{ kind: 'escalate', before: 'critical', after: 'emergency', threshold: 95_000 }]);

  t.match(d.celsius(60, 10), [{ kind: 'recovering', before: 'emergency', after: 'emergency', threshold: 90_000 }]);
  t.match(d.celsius(60, 0.1), [
    { kind: 'step_down', before: 'emergency', after: 'critical', phase: 'recovering', threshold: 90_000 },
  ]);
  t.same(d.celsius(60, 9.9), [], 'a fresh keep');
  t.match(d.celsius(60, 0.1), [{ kind: 'step_down', before: 'critical', after: 'warning', threshold: 80_000 }]);
  t.same(d.celsius(60, 9.9), []);
  t.match(d.celsius(60, 0.1), [{ kind: 'clear', before: 'warning', after: null, phase: 'ok', threshold: 70_000 }]);
  t.same(d.celsius(60, 30), []);
});

t.test('does not fire at the bound itself, only above it', async (t) => {
  const d = new LadderDriver();
  t.same(d.celsius(75, 10), []);
  t.equal(d.state.phase, 'ok');
});

t.test('does not recover at the clear bound itself, only below it', async (t) => {
  const d = new LadderDriver();
  d.celsius(76, 1);
  t.same(d.celsius(70, 60), []);
  t.equal(d.severity, 'warning');
});

t.test('enters the highest rung at once, past those between', async (t) => {
  const d = new LadderDriver();
  d.celsius(97, 0.1);
  t.match(d.celsius(97, 0.1), [{ kind: 'fire', before: null, after: 'emergency', threshold: 95_000 }]);
});

t.test('escalates in the middle of a recovery', async (t) => {
  const d = new LadderDriver();
  d.celsius(86, 1);
  d.celsius(60, 9);
  t.equal(d.state.phase, 'recovering');
  t.same(kinds(d.celsius(96, 0.2)), ['relapse', 'escalate']);
  t.equal(d.state.belowSinceMs, null);
});

t.test('a relapse begins the keep again', async (t) => {
  const d = new LadderDriver();
  d.celsius(76, 1);
  d.celsius(60, 9.9);
  t.match(d.celsius(72, 0.1), [{ kind: 'relapse', phase: 'firing', threshold: 70_000, value: 72_000 }]);
  t.same(kinds(d.celsius(60, 10)), ['recovering']);
  t.same(kinds(d.celsius(60, 0.1)), ['clear']);
});

t.test('one ok sample at or below the bound ends the run', async (t) => {
  const d = new LadderDriver(thermalRule({ forSamples: 3 }));
  for (let i = 0; i < 10; i++) {
    d.celsius(76, 0.2);
    d.celsius(75, 0.1);
  }
  t.same(d.log, []);
  t.same(kinds(d.celsius(76, 0.3)), ['fire']);
});

t.test('asks for both samples and time', async (t) => {
  const d = new LadderDriver(thermalRule({ forMs: 1000, forSamples: 2 }));
  t.same(d.celsius(76, 1), [], 'ten samples, 900 ms between the first and the last');
  t.same(kinds(d.celsius(76, 0.1)), ['fire']);
  const slow = new LadderDriver(thermalRule({ forMs: 1000, forSamples: 5 }));
  slow.nowMs += 5000;
  slow.celsius(76, 0.1);
  slow.nowMs += 5000;
  t.same(kinds(slow.celsius(76, 0.1)), [], 'five seconds, but two samples');
});

t.test('fires on the first sample where the rule asks for one', async (t) => {
  const d = new LadderDriver(thermalRule({ forSamples: 1 }));
  t.same(kinds(d.celsius(76, 0.1)), ['fire']);
});

t.test('missing samples neither count towards a run nor reset it', async (t) => {
  const d = new LadderDriver();
  d.celsius(76, 0.1);
  t.same(kinds(d.without('no_data', 5)), ['verdict']);
  t.equal(d.state.phase, 'pending');
  t.same(kinds(d.celsius(76, 0.1)), ['verdict', 'fire']);
});

t.test('a run without an ok sample expires', async (t) => {
  const d = new LadderDriver();
  d.celsius(76, 0.1);
  d.without('fault', RUN_EXPIRY_MS / 1000 + 1);
  t.equal(d.state.phase, 'ok');
  t.same(kinds(d.celsius(76, 0.1)), ['verdict']);
  t.same(kinds(d.celsius(76, 0.1)), ['fire']);
});

for (const quality of ['no_data', 'stale', 'fault', 'hung'] as const) {
  t.test(`${quality} while firing is a verdict, never a recovery`, async (t) => {
    const d = new LadderDriver();
    d.celsius(86, 1);
    t.match(d.without(quality, 3600), [
      { kind: 'verdict', before: 'critical', after: 'critical', verdict: quality, value: null, phase: 'firing' },
    ]);
    t.equal(d.severity, 'critical');
    t.match(d.celsius(60, 0.1), [
      { kind: 'verdict', verdict: 'ok', value: 60_000 },
      { kind: 'recovering', phase: 'recovering' },
    ]);
    t.same(d.celsius(60, 9.9), [], 'nothing of the time without data counts');
    t.same(kinds(d.celsius(60, 0.1)), ['step_down']);
  });
}

t.test('hung in the middle of a recovery restarts the keep', async (t) => {
  const d = new LadderDriver();
  d.celsius(76, 1);
  d.celsius(60, 9.8);
  t.match(d.without('hung', 0.1), [{ kind: 'verdict', verdict: 'hung', phase: 'firing' }]);
  t.same(kinds(d.celsius(60, 10)), ['verdict', 'recovering']);
  t.same(kinds(d.celsius(60, 0.1)), ['clear']);
});

t.test('a silence longer than the rhythm of the channel restarts the keep', async (t) => {
  const d = new LadderDriver();
  d.celsius(76, 1);
  d.celsius(60, 5);
  d.nowMs += 1200;
  t.same(d.celsius(60, 0.1), [], 'as long as the bound: still its rhythm');
  d.nowMs += 3_600_000;
  t.same(kinds(d.celsius(60, 10)), [], 'a suspend of an hour is not an hour of calm');
  t.same(kinds(d.celsius(60, 0.1)), ['clear']);
});

t.test('an ok sample without a number is a fault', async (t) => {
  for (const value of [null, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    const d = new LadderDriver();
    d.celsius(86, 1);
    d.nowMs += 100;
    t.match(d.sample({ value, quality: 'ok' }), [{ kind: 'verdict', verdict: 'fault', value: null }]);
    t.equal(d.severity, 'critical');
  }
});

t.test('duplicates and late samples change nothing', async (t) => {
  const d = new LadderDriver();
  d.celsius(76, 0.1);
  const before = d.state;
  for (const lateMs of [0, 1, 50, CLOCK_RESTART_MS]) {
    t.same(d.take({ value: 99_000, quality: 'ok', atMs: d.nowMs - lateMs }), []);
    t.same(d.take({ value: null, quality: 'hung', atMs: d.nowMs - lateMs }), []);
  }
  t.same(d.take({ value: 99_000, quality: 'ok', atMs: Number.NaN }), []);
  t.same(d.take({ value: 99_000, quality: 'ok', atMs: Number.POSITIVE_INFINITY }), []);
  t.equal(d.state, before);
});

t.test('state of an earlier boot keeps its level and is not deaf', async (t) => {
  const d = new LadderDriver();
  d.celsius(86, 1);
  d.celsius(60, 9);
  d.nowMs = 5000;
  t.same(d.celsius(60, 0.1).length, 1, 'the calm of the other clock does not count');
  t.equal(d.severity, 'critical');
  t.same(d.celsius(60, 9.9), []);
  t.same(kinds(d.celsius(60, 0.1)), ['step_down']);
  t.same(kinds(d.celsius(96, 0.2)).at(-1), 'escalate');
});

t.test('a sensor that was hung in an earlier boot is said to be read again', async (t) => {
  const d = new LadderDriver();
  d.celsius(86, 1);
  d.without('hung', 1);
  d.nowMs = 0;
  t.match(d.celsius(86, 0.1), [{ kind: 'verdict', verdict: 'ok', before: 'critical', after: 'critical' }]);
});

t.test('goes stale when no sample comes, once, and not before', async (t) => {
  const d = new LadderDriver();
  t.same(stale(d.rule, d.state, 1e12).transitions, [], 'never a sample: no_data already says it');
  d.celsius(86, 1);
  t.same(stale(d.rule, d.state, d.nowMs + d.rule.gapMs).transitions, []);
  const late = stale(d.rule, d.state, d.nowMs + d.rule.gapMs + 1);
  t.match(late.transitions, [
    { kind: 'verdict', verdict: 'stale', before: 'critical', after: 'critical', value: null },
  ]);
  t.equal(late.state.rung, d.state.rung);
  t.same(stale(d.rule, late.state, d.nowMs + 1e9).transitions, [], 'said once');
  d.state = late.state;
  d.nowMs += 1;
  t.same(kinds(d.celsius(96, 0.2)), ['verdict', 'escalate'], 'a sample older than the verdict still counts');
});

t.test('flaps after more than four firings in the window, and then holds longer', async (t) => {
  const d = new LadderDriver(thermalRule({ keepMs: 1000 }));
  for (let i = 0; i < FLAP_COUNT; i++) {
    t.same(kinds(d.celsius(76, 1)), ['fire']);
    t.same(kinds(d.celsius(60, 2)), ['recovering', 'clear']);
  }
  t.match(d.celsius(76, 1), [
    { kind: 'fire', after: 'warning', phase: 'flapping' },
    { kind: 'flapping', before: 'warning', after: 'warning' },
  ]);
  t.same(d.celsius(60, FLAP_KEEP_MIN_MS / 1000), [], 'its ups and downs are no news any more');
  t.equal(d.state.phase, 'flapping');
  t.same(kinds(d.celsius(96, 0.2)), ['escalate'], 'the way up is not damped');
  t.equal(d.state.phase, 'flapping');
  d.celsius(60, 3 * (FLAP_KEEP_MIN_MS / 1000) + 1);
  t.equal(d.state.phase, 'ok');
  d.celsius(60, FLAP_WINDOW_MS / 1000);
  t.match(d.celsius(76, 1), [{ kind: 'fire', phase: 'firing' }], 'calm for a window: as before');
});

t.test('four firings in the window do not flap, nor five over a longer time', async (t) => {
  const d = new LadderDriver(thermalRule({ keepMs: 1000 }));
  for (let i = 0; i < 3 * FLAP_COUNT; i++) {
    d.celsius(76, 1);
    d.celsius(60, FLAP_WINDOW_MS / 1000 / FLAP_COUNT);
  }
  t.notOk(kinds(d.log).includes('flapping'));
});

t.test(
  'a ladder that goes up and down between two rungs flaps: up as fast as ever, down later, until it clears',
  async (t) => {
    const d = new LadderDriver(thermalRule());
    const KEEP_S = 10.2;
    d.celsius(76, 1);
    for (let i = 0; i < FLAP_COUNT; i++) {
      d.celsius(86, 0.2);
      d.celsius(79, KEEP_S);
      t.equal(d.state.rung, 0, 'as ever');
    }
    t.same(kinds(d.celsius(86, 0.2)), ['escalate', 'flapping']);
    t.equal(d.state.phase, 'flapping');
    d.celsius(79, KEEP_S);
    t.equal(d.state.rung, 1, 'held');
    d.celsius(79, FLAP_KEEP_MIN_MS / 1000 - KEEP_S + 0.2);
    t.equal(d.state.rung, 0);
    t.same(kinds(d.celsius(86, 0.2)), ['escalate'], 'at once, and said to flap no second time');
    t.same(kinds(d.celsius(60, 2 * (FLAP_KEEP_MIN_MS / 1000) + 1)), ['step_down', 'clear']);
    t.equal(d.state.phase, 'ok');
  },
);

t.test('remembers no more firings than it needs, however long it chatters', async (t) => {
  const d = new LadderDriver(thermalRule({ keepMs: 0, forSamples: 1 }));
  for (let i = 0; i < 100; i++) {
    d.celsius(76, 0.1);
    d.celsius(60, FLAP_KEEP_MIN_MS / 1000 / 2);
    d.celsius(60, FLAP_KEEP_MIN_MS / 1000 / 2 + 0.1);
    t.ok(d.state.enteredMs.every(({ length }) => length <= FLAP_COUNT + 1));
  }
  t.equal(d.state.phase, 'ok');
  t.ok(kinds(d.log).includes('flapping'));
});

t.test('a keep of zero still leaves one rung per sample', async (t) => {
  const d = new LadderDriver(thermalRule({ keepMs: 0 }));
  d.celsius(96, 1);
  t.same(kinds(d.celsius(60, 0.1)), ['recovering']);
  t.same(kinds(d.celsius(60, 0.1)), ['step_down']);
  t.same(kinds(d.celsius(60, 0.1)), ['step_down']);
  t.same(kinds(d.celsius(60, 0.1)), ['clear']);
});

t.test('negative temperatures are readings like others', async (t) => {
  const d = new LadderDriver(
    thermalRule({ rungs: [{ severity: 'warning', raise: -40_000, clear: -45_000, actions: [] }], keepMs: 0 }),
  );
  t.same(d.celsius(-44, 1), []);
  t.same(kinds(d.celsius(-39, 1)), ['fire']);
  t.same(d.celsius(-45, 1), []);
  t.same(kinds(d.celsius(-46, 1)), ['recovering', 'clear']);
});

t.test('stays up when its rung is gone from the rule', async (t) => {
  const d = new LadderDriver();
  d.celsius(96, 1);
  const shorter = new LadderDriver(thermalRule({ rungs: d.rule.rungs.slice(0, 1) }));
  shorter.state = d.state;
  shorter.nowMs = d.nowMs;
  shorter.celsius(20, 100);
  t.equal(shorter.state.rung, 2);
});

t.test('due actions are cumulative, mildest first, each once', async (t) => {
  const rule = thermalRule();
  t.same(dueActions(rule, -1), []);
  t.same(dueActions(rule, 0), [{ action: 'throttle_10', severity: 'warning' }]);
  t.same(
    dueActions(rule, 2).map(({ action, severity }) => `${severity}:${action}`),
    [
      'warning:throttle_10',
      'critical:throttle_50',
      'critical:redistribute',
      'emergency:shutdown_non_essential',
      'emergency:failover',
    ],
  );
  const repeated = thermalRule({ rungs: rule.rungs.map((rung) => ({ ...rung, actions: ['alert_human'] })) });
  t.same(dueActions(repeated, 2), [{ action: 'alert_human', severity: 'warning' }]);
  t.equal(severityOf(rule, 1), 'critical');
  t.equal(severityOf(rule, -1), null);
});
