import fc from 'fast-check';
import t, { type Test } from 'tap';
import { actionClass } from '../../src/core/action-names.js';
import { NODE_FAILURES_TO_OPEN } from '../../src/policy/breaker.js';
import { DAY_MS, HOUR_MS } from '../../src/policy/budget.js';
import { configOf } from '../fixtures/antibodies.js';
import { FakeStore } from '../fixtures/control.js';
import { attemptOf, GatedNode } from '../fixtures/gates.js';

const MINUTE_MS = 60_000;
const RESTART = 'restart_unit@a';

async function node(t: Test, written: Record<string, unknown> = {}, store = new FakeStore()): Promise<GatedNode> {
  const made = new GatedNode(written, store);
  t.teardown(() => made.gates.stop());
  return made.start();
}

t.test('lets a repair through once, and the next when its interval is over', async (t) => {
  const now = await node(t);
  t.equal(now.ask(RESTART), undefined);
  t.match(now.ask(RESTART), /under way/, 'two rules that want it at once are one attempt');
  now.end(RESTART);
  t.match(now.ask(RESTART), /tried a moment ago, until \d{4}-\d\d-\d\dT\d\d:\d\dZ$/);
  t.equal(now.ask('cleanup_temp'), undefined, 'another action is another matter');
  now.pass(MINUTE_MS);
  t.equal(now.ask(RESTART), undefined);
});

t.test(
  'waits twice as long after each attempt that did not help, also after a restart, up to the back-off',
  async (t) => {
    const now = await node(t, {
      repairs: { per_hour: 60, per_day: 200, node_per_hour: 500, node_per_day: 500, back_off: 300 },
    });
    for (const waitMs of [2, 4].map((n) => n * MINUTE_MS)) {
      t.equal(now.try(RESTART, 'unhelpful'), undefined);
      await now.restart({ killed: true });
      now.pass(waitMs - 1);
      t.match(now.ask(RESTART), /waits longer/);
      now.pass(1);
    }
    t.equal(now.try(RESTART, 'failed'), undefined);
    now.pass(5 * MINUTE_MS);
    t.equal(now.try(RESTART, 'helped'), undefined, 'eight minutes would be longer than the longest');
    now.pass(MINUTE_MS);
    t.equal(now.ask(RESTART), undefined, 'one that helped ends the back-off');
  },
);

t.test(
  'opens the breaker of an action, and that of its kind when it fails on one target after the other',
  async (t) => {
    const now = await node(t, {
      repairs: { per_hour: 60, per_day: 200, node_per_hour: 500, node_per_day: 500, interval: 1, back_off: 1 },
    });
    for (let n = 0; n < NODE_FAILURES_TO_OPEN; n++) {
      t.equal(now.try(`restart_unit@u${n % 3}`, 'failed'), undefined);
      now.pass(1000);
    }
    t.match(now.ask('restart_unit@fresh'), /circuit breaker of restart_unit on this node is open/);
    t.equal(now.ask('cleanup_temp'), undefined);
    const { breakers } = now.gates.view();
    t.match(
      breakers.find(({ name }) => name === 'restart_unit'),
      { scope: 'node', phase: 'open', failures: NODE_FAILURES_TO_OPEN, budget: null },
    );
    now.pass(5 * MINUTE_MS);
    t.equal(now.ask('restart_unit@fresh'), undefined, 'a probe');
    t.match(now.ask('restart_unit@other'), /single probe/);
    now.end('restart_unit@fresh', 'helped');
    t.equal(now.ask('restart_unit@other'), undefined);
  },
);

t.test('one target by itself never opens the breaker of its kind', async (t) => {
  const now = await node(t, {
    repairs: { per_hour: 60, per_day: 200, node_per_hour: 500, node_per_day: 500, interval: 1, back_off: 1 },
  });
  for (let n = 0; n < 2_000; n++) {
    now.try(RESTART, 'failed');
    now.pass(MINUTE_MS);
  }
  t.match(now.ask(RESTART), /waits for an operator/);
  t.match(
    now.gates.view().breakers.map(({ name, phase }) => [name, phase]),
    [
      ['restart_unit', 'closed'],
      [RESTART, 'latched'],
    ],
  );
});

t.test('an operator’s reset closes breaker and back-off, and forgives no attempt', async (t) => {
  const now = await node(t, { repairs: { per_hour: 4, per_day: 4, interval: 1, back_off: 1 } });
  for (let n = 0; n < 3; n++) {
    now.try(RESTART, 'failed');
    now.pass(1000);
  }
  t.match(now.ask(RESTART), /breaker is open/);
  t.strictSame(now.gates.reset('restart_unit@b'), [], 'of which nothing is known');
  t.strictSame(now.gates.reset(undefined), ['restart_unit', RESTART]);
  t.equal(now.try(RESTART), undefined);
  now.pass(1000);
  t.match(now.ask(RESTART), /its 4 attempts in one hour|its 4 attempts in one day/);
  t.match(
    now.gates.view().breakers.find(({ name }) => name === RESTART),
    { budget: { usedDay: 4, perDay: 4 } },
  );
});

t.test('a repair that took the machine down with it is one that did not help', async (t) => {
  const now = await node(t);
  for (let n = 0; n < 3; n++) {
    t.equal(now.ask('tidy'), undefined);
    await now.reboot({ offMs: 30_000 });
    t.match(now.ask('tidy'), /waits longer|breaker is open/);
    now.pass(10 * MINUTE_MS);
  }
  t.match(
    now.gates.view().breakers.find(({ name }) => name === 'tidy'),
    { phase: 'open' },
  );
});

t.test('what came of an attempt is taken also when it is said before the store has answered', async (t) => {
  const store = new FakeStore();
  const now = await node(t, {}, store);
  t.equal(now.ask(RESTART), undefined);
  store.disk = 'fails';
  await now.restart({ killed: true });
  now.end(RESTART, 'helped');
  now.end('cleanup_temp', 'failed');
  t.match(now.ask(RESTART), /store does not answer/, 'who forgot the attempts would repeat them');
  store.disk = 'well';
  now.gates.tend();
  await new Promise(setImmediate);
  now.pass(MINUTE_MS);
  t.equal(now.ask(RESTART), undefined, 'it is no longer under way');
  t.match(now.gates.view().breakers, [{ name: RESTART, setbacks: 0 }], 'and what was never let through is no failure');
});

t.test('asks a store that failed again, and goes on with what it says', async (t) => {
  const store = new FakeStore();
  const now = await node(t, { repairs: { per_hour: 1, per_day: 1 } }, store);
  t.equal(now.try(RESTART), undefined);
  store.disk = 'fails';
  await now.restart();
  now.pass(2 * MINUTE_MS);
  t.match(now.ask(RESTART), /store does not answer/);
  t.equal(now.gates.view().isKnown, false);
  store.disk = 'well';
  now.gates.tend();
  await new Promise(setImmediate);
  t.match(now.ask(RESTART), /its 1 attempts in one/);
});

t.test(
  'a clock that is set while the agent is dead, or just before the machine goes down, forgives nothing',
  async (t) => {
    const now = await node(t, { repairs: { per_hour: 2, per_day: 2, interval: 1 } });
    t.equal(now.try(RESTART), undefined);
    now.pass(10 * MINUTE_MS);
    t.equal(now.try(RESTART), undefined);
    now.pass(1000);
    const untilText = new Date(now.clock.wallMs() + DAY_MS - 10 * MINUTE_MS).toISOString().slice(0, 15);
    t.match(
      now.ask(RESTART),
      `its 2 attempts in one day are used up, until ${untilText}`,
      'when the first leaves the day',
    );
    now.clock.wallOffsetMs += 40 * DAY_MS;
    await now.restart({ killed: true });
    t.match(now.ask(RESTART), /2 attempts/, 'the same boot');
    now.clock.wallOffsetMs += 40 * DAY_MS;
    now.gates.tend();
    await now.reboot({ offMs: 1000 });
    t.match(now.ask(RESTART), /2 attempts/, 'another one');
    await now.reboot({ offMs: DAY_MS });
    t.equal(now.ask(RESTART), undefined, 'and a day off is a day');
  },
);

t.test(
  'a damaged record of an action leaves the budget of the node, and a lost clock forgives and blocks nothing',
  async (t) => {
    const store = new FakeStore();
    const budgets = { per_hour: 4, per_day: 4, node_per_hour: 5, node_per_day: 5, interval: 1, back_off: 1 };
    const now = await node(t, { repairs: budgets }, store);
    now.pass(50 * DAY_MS);
    for (let n = 0; n < 3; n++) {
      t.equal(now.try(RESTART, 'failed'), undefined);
      now.pass(1000);
    }
    for (const key of store.keyed.keys()) {
      const isOfAction = key.includes('attempts') && key.includes(RESTART);
      if (isOfAction || key.includes('lasting')) store.keyed.set(key, Buffer.from('{"v":1,"record":{"startsMs"'));
    }
    await now.reboot({ offMs: 1000, wallBackMs: 5 * DAY_MS });
    t.match(now.ask(RESTART), /breaker is open/);
    now.pass(5 * MINUTE_MS);
    t.equal(now.try(RESTART), undefined, 'its wait is not that of the former clock');
    now.pass(MINUTE_MS);
    t.equal(now.try('restart_unit@b'), undefined);
    now.pass(MINUTE_MS);
    t.match(now.ask(RESTART), /5 attempts of this node/);
    now.pass(DAY_MS);
    t.equal(now.try(RESTART), undefined);
    for (let n = 0; n < 3; n++) {
      now.pass(1000);
      now.try('tidy', 'failed');
    }
    for (const key of store.keyed.keys()) if (!key.includes('breaker')) store.keyed.set(key, Buffer.from('{'));
    await now.reboot({ offMs: 1000, wallBackMs: DAY_MS });
    t.match(now.ask('tidy'), /breaker is open/, 'and what is left is kept');
    now.pass(5 * MINUTE_MS);
    t.equal(now.ask('tidy'), undefined);
  },
);

t.test('on a full disk, where nothing is kept, the budgets hold as long as the agent lives', async (t) => {
  const store = new FakeStore();
  const now = await node(t, { repairs: { per_hour: 2, per_day: 2, interval: 1 } }, store);
  store.keyed.set = () => store.keyed;
  for (let n = 0; n < 2; n++) {
    t.equal(now.try(RESTART), undefined);
    now.pass(1000);
  }
  t.match(now.ask(RESTART), /its 2 attempts/);
  t.equal(store.keyed.size, 1, 'nothing but the clock of the start was written');
});

t.test('during maintenance nothing begins by itself; what was approved does, and caps as ever', async (t) => {
  const now = await node(t);
  const at = (minutes: number) => new Date(now.clock.wallMs() + minutes * MINUTE_MS).toISOString();
  now.config.replace(configOf({ maintenance: [{ name: 'fans', from: at(-5), to: at(10) }] }));
  t.match(now.ask(RESTART), /maintenance window "fans".*until/);
  t.equal(now.gates.view().window?.name, 'fans');
  t.equal(now.ask('freeze@batch'), undefined);
  t.equal(now.ask(RESTART, { isApproved: true }), undefined);
  now.end(RESTART);
  now.pass(11 * MINUTE_MS);
  t.equal(now.ask(RESTART), undefined);
});

t.test('says the same words while the reason is the same, however the clocks tremble', async (t) => {
  const now = await node(t);
  now.clock.wallOffsetMs -= now.clock.wallOffsetMs % MINUTE_MS; // Its wait ends at a full minute.
  now.try(RESTART, 'failed');
  const words = new Set<string | undefined>();
  for (let n = 0; n < 50; n++) {
    now.clock.wallOffsetMs += n % 2 === 0 ? 7 : -7;
    now.pass(1000);
    words.add(now.ask(RESTART));
  }
  t.equal(words.size, 1);
});

// ---- Whatever happens ----------------------------------------------------------------------------------------------

const BUDGETS = { per_hour: 3, per_day: 5, node_per_hour: 5, node_per_day: 9, interval: 20, back_off: 900 };
const ACTIONS = [RESTART, 'restart_unit@b', 'cleanup_temp', 'tidy'] as const;
const FREE = ['throttle_50', 'limit_20@a', 'freeze@a', 'failover_route', 'circuit_break', 'ping_peer', 'alert_human'];

/** Mostly good: a latched breaker would end the story early. */
const result = fc.constantFrom('helped', 'helped', 'helped', 'helped', 'done', 'unhelpful', 'failed');
/** Mostly short: what exceeds a budget happens within it. */
const span = (mostMs: number) =>
  fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 1, max: 10 * MINUTE_MS }) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: mostMs }) },
  );
const happening = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant('ask' as const),
      action: fc.constantFrom(...ACTIONS),
      result: fc.option(result, { freq: 8 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('pass' as const),
      ms: span(30 * HOUR_MS),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('wall' as const),
      ms: fc.integer({ min: -400 * DAY_MS, max: 400 * DAY_MS }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('restart' as const), killed: fc.boolean() }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('reboot' as const),
      offMs: span(2 * DAY_MS),
      wallBackMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 60 * DAY_MS })),
    }),
  },
);

t.test(
  'deletes nothing by age while the clock is ahead of what can be believed, until a person believes it',
  async (t) => {
    const BY_AGE = ['cleanup_temp', 'cleanup_logs', 'emergency_cleanup', 'archive_old_data'];
    const now = await node(t);
    const refused = () => BY_AGE.filter((action) => /the clock went ahead/.test(now.ask(action) ?? ''));
    const wallMs = (aheadMs: number) => {
      now.clock.wallOffsetMs += aheadMs;
    };
    const AHEAD_MS = 12 * 365 * DAY_MS;
    now.gates.tend();
    await now.reboot({ offMs: MINUTE_MS, wallBackMs: -AHEAD_MS });
    t.same(refused(), BY_AGE, 'a dead battery, and a year that is none');
    t.equal(now.ask(RESTART), undefined, 'what does not go by age goes on');
    t.match(now.gates.view().breakers, [
      { name: 'restart_unit@a' },
      { name: 'wall-clock', phase: 'latched', untilAtMs: null },
    ]);
    now.pass(20 * DAY_MS);
    now.gates.tend();
    await now.restart({ killed: true });
    await now.reboot({ offMs: MINUTE_MS });
    t.same(refused(), BY_AGE, 'also after days, another agent and another boot');
    t.equal(now.ask('cleanup_temp', { isApproved: true }), undefined, 'who approves it has seen what would go');
    wallMs(-AHEAD_MS);
    t.same(refused(), [], 'it was set right');
    t.notOk(now.gates.view().breakers.some(({ name }) => name === 'wall-clock'));

    const other = await node(t);
    other.gates.tend();
    other.clock.wallOffsetMs -= 40 * 365 * DAY_MS;
    other.gates.tend();
    other.clock.wallOffsetMs += 40 * 365 * DAY_MS;
    t.equal(other.ask('cleanup_logs'), undefined, 'a clock that began in 1970 and was set is right');
    other.clock.wallOffsetMs += AHEAD_MS;
    t.match(other.ask('cleanup_temp'), /the clock went ahead by 4380 days/, 'set ahead while the machine runs');
    t.same(other.gates.reset(undefined), [], 'who resets all breakers has not said that it is right');
    t.match(other.ask('cleanup_temp'), /the clock went ahead/);
    t.same(other.gates.reset('wall-clock'), ['wall-clock']);
    await other.restart({ killed: true });
    t.equal(other.ask('cleanup_temp'), undefined, 'believed from then on');
    await other.reboot({ offMs: 13 * DAY_MS });
    t.equal(other.ask('archive_old_data'), undefined, 'a long holiday');
  },
);

t.test(
  'no window of any length of time holds more attempts than its budget, through restarts and set clocks',
  async (t) => {
    let attempts = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(happening, { minLength: 20, maxLength: 80 }), async (happenings) => {
        const now = await new GatedNode({ repairs: BUDGETS }).start();
        try {
          const began = new Map<string, number[]>();
          for (const each of happenings) {
            if (each.kind === 'pass') now.pass(each.ms);
            else if (each.kind === 'restart') await now.restart(each);
            else if (each.kind === 'reboot') await now.reboot(each);
            else if (each.kind === 'wall') {
              now.clock.wallOffsetMs += each.ms;
              now.gates.tend();
            } else {
              const isLatched = now.gates
                .view()
                .breakers.some((one) => one.name === each.action && one.phase === 'latched');
              if (now.ask(each.action) !== undefined) continue;
              if (isLatched) throw new Error('a latched breaker let it through');
              if (each.result !== null) now.end(each.action, each.result);
              attempts += 1;
              for (const name of [each.action, '*']) began.set(name, [...(began.get(name) ?? []), now.clock.trueMs]);
            }
          }
          for (const [name, atMs] of began) {
            const [perHour, perDay] =
              name === '*' ? [BUDGETS.node_per_hour, BUDGETS.node_per_day] : [BUDGETS.per_hour, BUDGETS.per_day];
            for (const last of atMs) {
              const within = (ms: number) => atMs.filter((one) => one <= last && last - one < ms).length;
              if (within(HOUR_MS) > perHour || within(DAY_MS) > perDay) throw new Error(`${name}: too many at ${last}`);
            }
          }
          // And nothing is blocked for ever: what an operator resets goes on when the longest window is over.
          now.pass(DAY_MS + HOUR_MS);
          now.gates.reset(undefined);
          now.gates.reset('wall-clock');
          for (const action of ACTIONS) {
            const why = now.ask(action);
            // An attempt whose end nobody said became a failure just now.
            if (why !== undefined && !/waits longer/.test(why)) throw new Error(`${action}: ${why}`);
          }
        } finally {
          now.gates.stop();
        }
      }),
      { numRuns: 250 },
    );
    t.ok(attempts > 500, `${attempts} attempts were let through at all`);
  },
);

t.test('no cap and no notice is ever gated or counted, whatever is known, open or under way', async (t) => {
  const store = new FakeStore();
  const now = await node(t, { repairs: { per_hour: 1, per_day: 1, node_per_hour: 1, node_per_day: 1 } }, store);
  for (let n = 0; n < 6; n++) now.try(RESTART, 'failed');
  const before = [...store.keyed.values()].join();
  for (const disk of ['well', 'hangs', 'fails'] as const) {
    store.disk = disk;
    if (disk !== 'well') await now.restart({ killed: true });
    for (const text of FREE) {
      t.notOk(['restartable', 'irreversible'].includes(actionClass(attemptOf(text).action.verb)));
      for (let n = 0; n < 10; n++) {
        t.equal(now.ask(text), undefined);
        now.end(text, 'failed');
      }
    }
  }
  t.equal([...store.keyed.values()].join(), before);
});
