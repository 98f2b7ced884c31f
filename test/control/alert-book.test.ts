/** Alerts that stand: what is told when, and what a restart, a re-discovery or a reload may make of them. */
import t from 'tap';
import type { RaisedAlert } from '../../src/control/alert-book.js';
import type { Alert } from '../../src/core/ports.js';
import { cpuTemperature } from '../fixtures/antibodies.js';
import { type FakeClock, type Life, life } from '../fixtures/control.js';
import { thermalRule } from '../fixtures/rules.js';

/** Feeds samples at 10 Hz as the tick does. */
function feed(now: Life, celsius: number | null, seconds = 0.2): void {
  for (let i = 0; i < Math.round(seconds * 10); i++) {
    now.clock.nowMs += 100;
    const quality = celsius === null ? ('fault' as const) : ('ok' as const);
    now.rulebook.sample(0, (celsius ?? 0) * 1000, quality, now.clock.nowMs, (b, f) => now.alerts.apply(b, f));
    now.alerts.tend(now.clock.nowMs);
  }
}

function active(now: Life): Alert[] {
  return now.outlet.of('active') as Alert[];
}

t.test('tells each change of severity at once and empties the retained alert exactly when it is over', async (t) => {
  const now = life();
  for (const celsius of [76, 86, 96]) feed(now, celsius);
  t.strictSame(
    active(now).map(({ severity }) => severity),
    ['warning', 'critical', 'emergency'],
  );
  feed(now, 50, 40);
  const severities = active(now)
    .map(({ severity }) => severity)
    .filter((severity, i, all) => severity !== all[i - 1]);
  t.strictSame(severities, ['warning', 'critical', 'emergency', 'critical', 'warning', null]);
  t.equal(active(now).filter(({ severity }) => severity === null).length, 1);
  t.strictSame(now.alerts.standing, []);
  t.strictSame(now.store.alertPuts, active(now), 'the store knows what was told');
});

t.test('tells small changes seldom, and the last of them for sure', async (t) => {
  const now = life();
  feed(now, 76);
  const told = active(now).length;
  for (let i = 0; i < 100; i++) {
    feed(now, null, 0.1);
    feed(now, 76, 0.1);
  }
  t.ok(active(now).length - told <= 5, `${active(now).length - told} in 20 s`);
  feed(now, null, 10);
  t.match(active(now).at(-1), { severity: 'warning', verdict: 'fault' });
});

t.test('never closes an alert because the sensor is gone', async (t) => {
  const now = life();
  feed(now, 86);
  feed(now, null, 600);
  t.match(now.alerts.standing, [{ severity: 'critical', verdict: 'fault' }]);
});

t.test('several transitions within one tick are all told', async (t) => {
  const now = life();
  const { rulebook, clock, alerts } = now;
  for (let i = 0; i < 3; i++) {
    clock.nowMs += 100;
    rulebook.sample(0, 0, 'fault', clock.nowMs, (b, f) => alerts.apply(b, f));
  }
  for (let i = 0; i < 3; i++) {
    clock.nowMs += 100;
    rulebook.sample(0, 96_000, 'ok', clock.nowMs, (b, f) => alerts.apply(b, f));
  }
  t.match(active(now), [{ severity: 'emergency' }]);
});

/** The next life, with what the former left standing. */
function reborn(clock: FakeClock, alerts: Alert[], given: Parameters<typeof life>[0] = {}): Life {
  const now = life({ clock, ...given });
  now.alerts.adopt(alerts);
  return now;
}

function left(): { clock: FakeClock; alerts: Alert[] } {
  const now = life();
  feed(now, 86);
  return { clock: now.clock, alerts: [...now.alerts.standing] };
}

t.test('after a restart an alert is closed only when its sensor said ok for its keep', async (t) => {
  const { clock, alerts } = left();
  const now = reborn(clock, alerts);
  feed(now, null, 60);
  t.equal(now.alerts.standing.length, 1, 'blind');
  feed(now, 50, 0.5);
  t.match(active(now), [{ severity: null, state: 'ok' }]);
  t.strictSame(now.alerts.standing, []);
});

t.test('after a restart a sensor that comes late is waited for from then on as any other', async (t) => {
  const { clock, alerts } = left();
  const now = reborn(clock, alerts, { channels: [] });
  feed(now, null, 5);
  t.match(now.alerts.standing, [{ verdict: 'no_data' }], 'nobody can look');
  now.rebuild([cpuTemperature()]);
  feed(now, null, 60);
  t.equal(now.alerts.standing.length, 1, 'blind');
  feed(now, 50, 0.5);
  t.strictSame(now.alerts.standing, [], 'long before the sensor would count as taken out');
});

t.test('after a restart an alert whose danger is there goes on, once', async (t) => {
  const { clock, alerts } = left();
  const now = reborn(clock, alerts);
  feed(now, 86, 60);
  t.match(active(now), [{ severity: 'critical', sinceAtMs: alerts[0]?.sinceAtMs }]);
  t.equal(now.alerts.standing.length, 1);
});

t.test('a re-discovery after the restart does not close what fires', async (t) => {
  const { clock, alerts } = left();
  const now = reborn(clock, alerts);
  feed(now, 50, 1);
  now.rebuild();
  feed(now, 86, 60);
  t.match(now.alerts.standing, [{ severity: 'critical' }]);
  t.notOk(active(now).some(({ severity }) => severity === null));
});

t.test('an alert whose sensor is not there after a restart waits for it, says no_data, and not for ever', async (t) => {
  const { clock, alerts } = left();
  const now = reborn(clock, alerts, { channels: [] });
  now.alerts.tend(clock.nowMs + 60_000);
  t.match(now.alerts.standing, [{ severity: 'critical', verdict: 'no_data' }]);
  now.alerts.tend(clock.nowMs + 11 * 60_000);
  t.match(active(now), [{ severity: null, message: /no more/ }]);
});

t.test('closes the alert of a rule that a new configuration no longer has', async (t) => {
  const now = life();
  feed(now, 86);
  now.antibody.rules = [];
  now.rebuild();
  now.alerts.tend(now.clock.nowMs);
  t.match(active(now).at(-1), { severity: null, message: /no more/ });
  t.strictSame(now.alerts.standing, []);
});

t.test('the ladder outlives a rebuild, and goes on within the rungs that a new configuration has', async (t) => {
  const now = life();
  feed(now, 96);
  now.rebuild([cpuTemperature({ rateHz: 1 })]);
  t.equal(now.rulebook.bound[0]?.ladder.rung, 2);
  now.antibody.rules = [thermalRule({ rungs: thermalRule().rungs.slice(0, 1) })];
  now.rebuild();
  t.equal(now.rulebook.bound[0]?.ladder.rung, 0);
  now.antibody.rules = [thermalRule()];
  now.rebuild();
  feed(now, 96);
  t.equal(now.rulebook.bound[0]?.ladder.rung, 2);
});

t.test('seeding puts a ladder up, never down, and not beyond its rungs', async (t) => {
  const { rulebook } = life();
  const [bound] = rulebook.bound;
  if (bound === undefined) throw new Error('no rule');
  rulebook.seed(bound, 1);
  t.match(bound.ladder, { rung: 1, phase: 'firing' });
  rulebook.seed(bound, 0);
  t.equal(bound.ladder.rung, 1);
  rulebook.seed(bound, 99);
  t.equal(bound.ladder.rung, 2);
});

t.test('a rebuild that cannot be made leaves the former rules', async (t) => {
  const now = life();
  now.antibody.rulesFor = () => {
    throw new Error('a mistake');
  };
  t.throws(() => now.rebuild());
  t.equal(now.rulebook.bound.length, 1);
  feed(now, 96);
  t.equal(now.alerts.standing.length, 1);
});

// ---- Alerts that an event raises --------------------------------------------------------------------------------------

function raised(given: Partial<RaisedAlert> = {}): RaisedAlert {
  return {
    id: 'gpu-xid-kernel-x',
    rule: 'gpu-xid',
    type: 'gpu',
    channel: 'kernel/x/xid-79',
    sensor: 'gpu',
    severity: 'warning',
    message: 'something happened',
    value: 1,
    threshold: null,
    unit: 'total',
    ...given,
  };
}

t.test('a raised alert stands without a rule or a sensor until it is ended', async (t) => {
  const now = life();
  now.alerts.raise(raised());
  for (let i = 0; i < 100; i++) {
    now.clock.nowMs += 60_000;
    now.alerts.tend(now.clock.nowMs);
  }
  t.match(now.alerts.standing, [
    { agentType: 'hardware_watcher', severity: 'warning', state: 'firing', verdict: 'ok' },
  ]);
  now.alerts.end('gpu-xid-kernel-x', 'over');
  t.strictSame(now.alerts.standing, []);
  t.match(active(now).at(-1), { severity: null, message: 'over' });
  now.alerts.end('gpu-xid-kernel-x', 'over');
  t.equal(active(now).filter((alert) => alert.severity === null).length, 1, 'ended once');
});

t.test('tells a raised alert at once when its severity changes, and small changes seldom', async (t) => {
  const now = life();
  now.alerts.raise(raised());
  now.alerts.raise(raised({ severity: 'critical' }));
  now.alerts.raise(raised({ severity: 'warning' }));
  t.strictSame(
    active(now).map(({ severity }) => severity),
    ['warning', 'critical', 'warning'],
  );
  const since = new Set(active(now).map(({ sinceAtMs }) => sinceAtMs));
  t.equal(since.size, 1, 'it stands since the first');
  for (let value = 2; value < 1_000; value++) {
    now.clock.nowMs += 10;
    now.alerts.raise(raised({ value }));
    now.alerts.tend(now.clock.nowMs);
  }
  t.ok(active(now).length <= 3 + 3);
  now.clock.nowMs += 20_000;
  now.alerts.tend(now.clock.nowMs);
  t.match(active(now).at(-1), { value: 999 }, 'the last of them for sure');
  const told = active(now).length;
  now.alerts.raise(raised({ value: 999 }));
  now.clock.nowMs += 10_000;
  now.alerts.tend(now.clock.nowMs);
  t.equal(active(now).length, told, 'what says nothing new is not told');
});

t.test('tells of an event that repeats for days less and less often, and soon again when it gets worse', async (t) => {
  const now = life();
  const repeat = (times: number, severity: 'warning' | 'critical') => {
    const told = active(now).length;
    for (let value = 1; value <= times; value++) {
      now.clock.nowMs += 1_000;
      now.alerts.raise(raised({ value, severity }));
      now.alerts.tend(now.clock.nowMs);
    }
    return active(now).length - told;
  };
  const perDay = repeat(86_400, 'warning');
  t.ok(perDay < 300, `${perDay} a day`);
  t.ok(perDay > 280, 'it is told all the same');
  t.ok(repeat(11, 'critical') >= 2, 'what is worse, at once and soon again');
});

t.test('takes a raised alert over after a restart, and no ladder’s alert can be ended as one', async (t) => {
  const first = life();
  first.alerts.raise(raised());
  feed(first, 86);
  const next = reborn(first.clock, [...first.alerts.standing]);
  next.clock.nowMs += 3_600_000;
  next.alerts.tend(next.clock.nowMs);
  t.match(
    next.alerts.raised.map(({ rule }) => rule),
    ['gpu-xid'],
  );
  const thermal = first.alerts.standing.find(({ rule }) => rule !== 'gpu-xid');
  first.alerts.end(thermal?.id ?? '', 'no');
  t.equal(first.alerts.dismiss(thermal?.rule ?? '', 'root'), 0);
  t.ok(first.alerts.standing.some(({ id }) => id === thermal?.id));
});

t.test('marks an alert that needs a person, from the rung on that says so, and tells the journal loudly', async (t) => {
  const rule = thermalRule();
  const rungs = rule.rungs.map((rung) => (rung.severity === 'critical' ? { ...rung, actions: ['alert_human'] } : rung));
  const now = life({ rules: [{ ...rule, rungs }] });
  for (const celsius of [76, 86, 96]) feed(now, celsius);
  t.same(
    active(now).map(({ attention = false }) => attention),
    [false, true, true],
  );
  feed(now, 80);
  t.match(now.alerts.standing, [{ attention: true }], 'rungs go down in their own time');
});
