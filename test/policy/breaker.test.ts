import fc from 'fast-check';
import t from 'tap';
import {
  type Breaker,
  CLOSED,
  FAILURES_TO_OPEN,
  type Free,
  guard,
  OPEN_MS,
  OPENS_TO_LATCH,
  OPENS_WINDOW_MS,
  PROBE_MS,
  recordFailure,
  recordSuccess,
} from '../../src/policy/breaker.js';

function failed(breaker: Breaker, nowMs: number, times = 1): Breaker {
  let next = breaker;
  for (let i = 0; i < times; i++) next = recordFailure(next, nowMs);
  return next;
}

t.test('opens after three failures in a row', async (t) => {
  const twice = failed(CLOSED, 0, FAILURES_TO_OPEN - 1);
  t.ok(guard(twice, 'restartable', 0).allowed);
  const open = failed(twice, 1000);
  t.match(guard(open, 'restartable', 1000), { allowed: false });
  t.match(guard(open, 'irreversible', 1000 + OPEN_MS - 1), { allowed: false });
});

t.test('a success in between starts the count again', async (t) => {
  const breaker = failed(recordSuccess(failed(CLOSED, 0, 2), 0), 0, 2);
  t.equal(breaker.phase, 'closed');
});

t.test('admits one single probe when the wait is over', async (t) => {
  const open = failed(CLOSED, 0, FAILURES_TO_OPEN);
  const first = guard(open, 'restartable', OPEN_MS);
  t.ok(first.allowed);
  t.notOk(guard(first.breaker, 'restartable', OPEN_MS).allowed, 'the second asks in vain');
  t.equal(recordSuccess(first.breaker, OPEN_MS + 1).phase, 'closed');
  t.equal(recordFailure(first.breaker, OPEN_MS + 1).phase, 'open', 'one failed probe is enough');
});

t.test('a probe of which nobody spoke again is given up', async (t) => {
  const { breaker } = guard(failed(CLOSED, 0, FAILURES_TO_OPEN), 'restartable', OPEN_MS);
  t.notOk(guard(breaker, 'restartable', OPEN_MS + PROBE_MS - 1).allowed);
  t.ok(guard(breaker, 'restartable', OPEN_MS + PROBE_MS).allowed);
});

function latched(): { breaker: Breaker; nowMs: number } {
  let breaker = failed(CLOSED, 0, FAILURES_TO_OPEN);
  let nowMs = 0;
  for (let opens = 1; opens < OPENS_TO_LATCH; opens++) {
    nowMs += OPEN_MS;
    breaker = recordFailure(guard(breaker, 'restartable', nowMs).breaker, nowMs);
  }
  return { breaker, nowMs };
}

t.test('latches at the third opening, until an operator resets it', async (t) => {
  const { breaker, nowMs } = latched();
  t.equal(breaker.phase, 'latched');
  t.notOk(guard(breaker, 'restartable', nowMs + 1e12).allowed);
  t.equal(recordSuccess(breaker, nowMs + 1).phase, 'latched', 'a late word does not undo it');
  t.ok(guard(CLOSED, 'restartable', nowMs).allowed);
});

t.test('openings far apart do not latch', async (t) => {
  let breaker = CLOSED;
  for (let i = 0; i < 10; i++) {
    const nowMs = i * (OPENS_WINDOW_MS + OPEN_MS);
    breaker = recordFailure(
      guard(failed(breaker, nowMs, FAILURES_TO_OPEN), 'restartable', nowMs + OPEN_MS).breaker,
      nowMs,
    );
    t.not(breaker.phase, 'latched');
    breaker = recordSuccess(guard(breaker, 'restartable', nowMs + 2 * OPEN_MS).breaker, nowMs + 2 * OPEN_MS);
  }
});

t.test('never stands in the way of a cap, and says so in its type', async (t) => {
  const { breaker, nowMs } = latched();
  // The annotation is the test: a Gate that could refuse would not compile here.
  const cap: Free = guard(breaker, 'reversible', nowMs);
  const notice: Free = guard(breaker, 'notice', nowMs);
  t.ok(cap.allowed && notice.allowed);
  t.equal(cap.breaker, breaker, 'and a cap is no probe');
});

t.test('survives a restart, and forgives nothing by a reboot', async (t) => {
  const { breaker } = latched();
  t.notOk(guard(JSON.parse(JSON.stringify(breaker)), 'restartable', 5).allowed);
  const open = failed(CLOSED, 1e9, FAILURES_TO_OPEN);
  t.notOk(guard(open, 'restartable', 1000).allowed, 'the wait begins again on the new clock');
  t.notOk(guard(guard(open, 'restartable', 1000).breaker, 'restartable', OPEN_MS).allowed);
  t.ok(guard(guard(open, 'restartable', 1000).breaker, 'restartable', 1000 + OPEN_MS).allowed);
});

t.test('under any sequence it stays small, and is never open to more than one probe', async (t) => {
  const event = fc.record({
    what: fc.constantFrom('ask', 'success', 'failure'),
    delta: fc.constantFrom(0, 1000, OPEN_MS, PROBE_MS, OPENS_WINDOW_MS),
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 100 }), (events) => {
      let breaker = CLOSED;
      let nowMs = 0;
      for (const { what, delta } of events) {
        nowMs += delta;
        if (what === 'success') breaker = recordSuccess(breaker, nowMs);
        else if (what === 'failure') breaker = recordFailure(breaker, nowMs);
        else {
          const before = breaker.phase;
          const gate = guard(breaker, 'irreversible', nowMs);
          breaker = gate.breaker;
          if (gate.allowed && before !== 'closed' && guard(breaker, 'irreversible', nowMs).allowed) return false;
        }
        if (breaker.opensMs.length > OPENS_TO_LATCH || breaker.failures > FAILURES_TO_OPEN) return false;
      }
      return true;
    }),
  );
  t.pass('held');
});
