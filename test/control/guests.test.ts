/** Tokens, what external antibodies say with them, operators' commands and chains: at the agent, without processes. */
import t, { type Test } from 'tap';
import { Chains } from '../../src/control/chains.js';
import { GuestAntibodies } from '../../src/control/guest-antibodies.js';
import { Guests } from '../../src/control/guests.js';
import { OperatorCommands } from '../../src/control/operator-commands.js';
import type { AttemptResult, RepairGate } from '../../src/control/repair-gate.js';
import { RepairLoops } from '../../src/control/repair-loops.js';
import { Tokens } from '../../src/control/tokens.js';
import { parseAction } from '../../src/core/action-names.js';
import type { ChainReport, ChainTruth } from '../../src/core/chains.js';
import type { GuestKind, GuestRole } from '../../src/core/guests.js';
import type { CommandAnswer } from '../../src/core/protocol.js';
import { configOf } from '../fixtures/antibodies.js';
import { FakeStore, type Life, life, turns } from '../fixtures/control.js';

const TIME = '2023-11-14T22:30:00Z';

/** A life of the agent with its guests; give the store and clock of the former one for the next. */
async function guestLife(t: Test, given: Parameters<typeof life>[0] = {}, stores?: { tokens: FakeStore }) {
  const now = life(given);
  const { record, outlet, clock, alerts, config, log } = now;
  // One store for each kind of record: the fixture keeps one kind.
  const stored = stores ?? { tokens: new FakeStore() };
  const tokens = new Tokens({ node: 'nova', store: stored.tokens, record, outlet, clock });
  const antibodies = new GuestAntibodies({
    node: 'nova',
    config,
    alerts,
    store: new FakeStore(),
    record,
    outlet,
    clock,
  });
  tokens.onRevoked((name) => antibodies.forget(name));
  const done: string[] = [];
  const commands = new OperatorCommands({
    bootId: 'boot-1',
    deeds: {
      release: ({ rule }, who) => void done.push(`release ${rule} by ${who}`),
      hold: ({ for_seconds: seconds }) => void done.push(`hold ${seconds}`),
      'hold.end': () => void done.push('hold.end'),
      reload: () => Promise.reject(new Error('bad file')),
    },
    store: now.store,
    record,
    outlet,
    clock,
  });
  const guests = new Guests({ tokens, antibodies, commands });
  await tokens.load();
  antibodies.start();
  t.teardown(() => antibodies.stop());
  await turns();
  const forward = (user: string, token: string, kind: GuestKind, payload: unknown, receivedMs = clock.monotonicMs()) =>
    guests.forward({ user, token, kind, receivedMs, payload });
  const add = (name: string, role: GuestRole) => tokens.add({ name, role, who: 'root' });
  return { ...now, tokens, antibodies, guests, done, forward, add, stored, log };
}

t.test('a token is good for its name alone, until it is revoked, over restarts', async (t) => {
  const first = await guestLife(t);
  const secret = first.add('fan-watch', 'antibody');
  const other = first.add('remote-hand', 'operator');
  t.equal(first.tokens.authenticate({ user: 'fan-watch', token: secret }), 'antibody');
  const denied = { code: 'SKOS_TOKEN_DENIED' };
  for (const [user, token] of [
    ['fan-watch', other],
    ['fan-watch', ''],
    ['nobody', secret],
    ['', ''],
    ['fan-watch', `${secret} `],
    ['__proto__', secret],
  ] as const)
    t.throws(() => first.tokens.authenticate({ user, token }), denied);
  t.throws(() => first.add('fan-watch', 'chain'), { code: 'SKOS_TOKEN_EXISTS' });
  t.throws(() => first.add('thermal-sentinel', 'antibody'), { code: 'SKOS_TOKEN_EXISTS' });
  const kept = [...first.stored.tokens.keyed.values()].join() + JSON.stringify([first.store.entries, first.log.lines]);
  t.notOk(kept.includes(secret.slice(5)), 'it is kept nowhere');

  const second = await guestLife(t, {}, first.stored);
  t.equal(second.tokens.authenticate({ user: 'fan-watch', token: secret }), 'antibody');
  const confirm = 'nova';
  await t.rejects(second.tokens.revoke({ name: 'fan-watch', confirm: 'lyra', who: 'root' }), { code: 'SKOS_CLI_NAME' });
  await t.rejects(second.tokens.revoke({ name: 'fan-wacht', confirm, who: 'root' }), {
    message: /did you mean "fan-watch"/,
  });
  await second.tokens.revoke({ name: 'fan-watch', confirm, who: 'root' });
  t.same(second.outlet.of('token.revoked'), [{ name: 'fan-watch' }]);
  t.throws(() => second.tokens.authenticate({ user: 'fan-watch', token: secret }), denied);
  const third = await guestLife(t, {}, first.stored);
  t.throws(() => third.tokens.authenticate({ user: 'fan-watch', token: secret }), denied);
  t.same(
    third.tokens.list().map(({ name }) => name),
    ['remote-hand'],
  );
});

t.test('while the disk does not say which tokens there are, none is good and none is made', async (t) => {
  const { record, outlet, clock } = life();
  const store = new FakeStore();
  store.disk = 'hangs';
  const tokens = new Tokens({ node: 'nova', store, record, outlet, clock });
  void tokens.load();
  t.throws(() => tokens.authenticate({ user: 'a', token: 'b' }), { code: 'SKOS_STORE_READ' });
  t.throws(() => tokens.add({ name: 'a', role: 'chain', who: 'root' }), { code: 'SKOS_STORE_READ' });
});

const beat = (more: object = {}) => {
  return { v: 1, agent_id: 'fan-watch-nova', agent_type: 'fan_watch', timestamp: TIME, ...more };
};
const alert = (more: object = {}) => {
  const words = { id: 'fan1', type: 'fan', severity: 'critical', message: 'fan 1 stands' };
  return { v: 1, agent_id: 'fan-watch-nova', timestamp: TIME, ...words, ...more };
};

t.test('an antibody registers, raises, clears, and when it is silent nothing that it raised is over', async (t) => {
  const now = await guestLife(t, { config: configOf({ heartbeat: { timeout: 5 } }) });
  const secret = now.add('fan-watch', 'antibody');
  const say = (kind: GuestKind, payload: unknown) => now.forward('fan-watch', secret, kind, payload);
  const standing = () => now.alerts.standing.map(({ message, verdict }) => `${message} ${verdict}`);
  await t.rejects(say('alert', alert()), { code: 'SKOS_ANTIBODY_UNKNOWN' }, 'not before it has beaten');
  await say('heartbeat', beat({ metadata: { fans: 2 } }));
  t.match(now.outlet.of('heartbeat'), [{ agentType: 'fan_watch', cpuTemp: null, metadata: { fans: 2 } }]);
  await say('alert', alert());
  await say('alert', alert({ id: 'fan2', message: 'fan 2 stands' }));
  await say('alert', alert({ id: 'fan2', severity: null, message: 'fan 2 turns' }));
  t.same(standing(), ['fan 1 stands ok']);

  now.clock.nowMs += 5_001;
  now.antibodies.tend();
  const silent = [
    'fan 1 stands (no longer watched) stale',
    'fan-watch has given no sign of life for 5 s: what it watches is not watched ok',
  ];
  t.same(standing(), silent);
  now.antibodies.tend();
  t.same(standing(), silent, 'said once');
  t.match(now.antibodies.list(), [{ name: 'fan-watch', isOnline: false, alerts: 1 }]);

  await say('heartbeat', beat());
  t.same(standing(), silent.slice(0, 1), 'it is back, and has not said how fan 1 is');
  await say('alert', alert());
  t.same(standing(), ['fan 1 stands ok']);
  t.throws(() => now.antibodies.tell({ name: 'fan', command: 'check', parameters: {} }, 'root'), {
    code: 'SKOS_ANTIBODY_UNKNOWN',
  });
  const id = now.antibodies.tell({ name: 'fan-watch', command: 'check', parameters: {} }, 'root');
  await say('heartbeat', beat({ answers: id }));
  t.match(now.antibodies.list(), [{ answered: id, isOnline: true }]);

  await now.tokens.revoke({ name: 'fan-watch', confirm: 'nova', who: 'root' });
  t.same(standing(), []);
  t.match(now.store.alertPuts.at(-1), { severity: null, message: /no longer watched/ });
  t.same(now.antibodies.names, []);
});

t.test('an antibody speaks for itself, within its bounds, and in the contract’s form', async (t) => {
  const now = await guestLife(t);
  const secret = now.add('fan-watch', 'antibody');
  const say = (kind: GuestKind, payload: unknown) => now.forward('fan-watch', secret, kind, payload);
  await say('heartbeat', beat());
  const denied = { code: 'SKOS_TOKEN_DENIED' };
  await t.rejects(say('heartbeat', beat({ agent_id: 'thermal-sentinel-nova' })), denied);
  await t.rejects(say('heartbeat', beat({ agent_type: 'thermal_sentinel' })), denied);
  await t.rejects(say('alert', alert({ agent_id: 'fan-watch-lyra' })), denied);
  await t.rejects(say('command', {}), denied, 'it is no operator');
  const invalid = { code: 'SKOS_PROTOCOL_INVALID' };
  for (const payload of [
    null,
    [],
    7,
    'x',
    {},
    alert({ message: 'a\u001b[2J' }),
    alert({ severity: 'fatal' }),
    alert({ id: '../x' }),
  ])
    await t.rejects(say('alert', payload), invalid);
  await t.rejects(say('alert', alert({ details: { value: 'hot' } })), invalid);
  for (let i = 0; i < 32; i++) await say('alert', alert({ id: `a${i}` }));
  await t.rejects(say('alert', alert({ id: 'one-more' })), denied);
  await say('alert', alert({ id: 'a1', severity: null }));
  await say('alert', alert({ id: 'one-more' }));
  const ids = now.alerts.standing.map(({ id }) => id);
  t.ok(
    ids.every((id) => /^guest~[a-z0-9~_-]{1,58}$/.test(id)),
    'no rule has such ids',
  );
});

t.test('an antibody that flaps is told slowly, and never as better than it last said', async (t) => {
  const now = await guestLife(t);
  const secret = now.add('fan-watch', 'antibody');
  const say = (more: object) => now.forward('fan-watch', secret, 'alert', alert(more));
  await now.forward('fan-watch', secret, 'heartbeat', beat());
  const pass = (ms: number) => {
    now.clock.nowMs += ms;
    now.antibodies.tend();
  };
  const puts = now.store.alertPuts.length;
  for (let i = 0; i < 1_000; i++) {
    if (i % 100 === 0) await now.forward('fan-watch', secret, 'heartbeat', beat());
    await say({ severity: i % 2 === 0 ? 'critical' : i % 4 === 1 ? null : 'warning' });
    pass(200);
  }
  t.ok(now.store.alertPuts.length - puts < 120, `${now.store.alertPuts.length - puts} changes in 200 s`);
  await say({ severity: 'emergency' });
  t.match(now.alerts.standing, [{ severity: 'emergency' }], 'what is worse is told at once');
  await say({ severity: 'warning' });
  await say({ severity: null });
  pass(10_000);
  t.same(now.alerts.standing, [], 'its last word comes true');
});

t.test('an antibody that bears the name of a rule has no part in the alerts of the rule', async (t) => {
  const now = await guestLife(t);
  const secret = now.add('chain', 'antibody');
  const { chains } = chainsOf(now);
  chains.report([report()], 'agent-loop');
  const mine = { agent_id: 'chain-nova' };
  await now.forward('chain', secret, 'heartbeat', beat({ ...mine, agent_type: 'chain' }));
  await now.forward('chain', secret, 'alert', alert(mine));
  t.match(now.antibodies.list(), [{ alerts: 1 }]);
  now.clock.nowMs += 3_600_000;
  now.antibodies.tend();
  await now.tokens.revoke({ name: 'chain', confirm: 'nova', who: 'root' });
  t.match(now.alerts.standing, [{ channel: 'chain/workload/a', verdict: 'ok' }]);
  t.equal(now.alerts.standing.length, 1);
});

t.test('a command is followed once in its boot and its time, by an operator, and nothing else is', async (t) => {
  const first = await guestLife(t);
  const secret = first.add('remote-hand', 'operator');
  let count = 0;
  const command = (more: object = {}) => {
    const words = { action_id: 'x', action_type: 'hold', parameters: { for_seconds: 60 }, boot_id: 'boot-1' };
    const timestamp = new Date(first.clock.wallMs()).toISOString();
    return { v: 1, ...words, timestamp, ttl_ms: 2_000, nonce: `nonce-${++count}-x`, ...more };
  };
  const answers = (now: Life) => now.outlet.of('answer').map((each) => (each as CommandAnswer).outcome);
  const once = command();
  await Promise.all([1, 2].map(() => first.forward('remote-hand', secret, 'command', once)));
  t.same([first.done, answers(first).sort()], [['hold 60'], ['done', 'ignored']], 'two at once');
  const late = first.clock.monotonicMs() - 2_001;
  await first.forward('remote-hand', secret, 'command', command(), late);
  await first.forward('remote-hand', secret, 'command', command({ boot_id: 'boot-0' }));
  await first.forward('remote-hand', secret, 'command', command({ timestamp: '2020-01-01T00:00:00Z' }));
  await first.forward('remote-hand', secret, 'command', command({ timestamp: '2099-01-01T00:00:00Z' }));
  t.same(answers(first).slice(2), ['ignored', 'ignored', 'ignored', 'ignored']);
  await first.forward(
    'remote-hand',
    secret,
    'command',
    command({ parameters: { for_seconds: 60, including_caps: true } }),
  );
  await first.forward('remote-hand', secret, 'command', command({ action_type: 'reload', parameters: {} }));
  t.same(answers(first).slice(6), ['refused', 'refused']);
  t.match(first.outlet.of('answer').at(-1), { reason: /bad file/ });
  for (const action_type of ['approve', 'arm', 'token.add', 'restore', '__proto__']) {
    await t.rejects(first.forward('remote-hand', secret, 'command', command({ action_type })), {
      code: 'SKOS_PROTOCOL_INVALID',
    });
  }
  const release = command({ action_type: 'release', parameters: { rule: 'chain' } });
  await first.forward('remote-hand', secret, 'command', release);
  t.same(first.done, ['hold 60', 'release chain by token remote-hand']);

  const records = first.store.entries.length;
  for (let i = 0; i < 200; i++) await first.forward('remote-hand', secret, 'command', command());
  await turns();
  t.ok(first.store.entries.length - records <= 20, 'a skos-net that has the token cannot fill the record with it');
  t.match(first.outlet.of('answer').at(-1), { outcome: 'ignored', reason: /more than 1 command a second/ });
  first.done.length = 0;
  first.clock.nowMs += 1_000;
  await first.forward('remote-hand', secret, 'command', command());
  t.same(first.done, ['hold 60']);

  // The agent was started again in the same boot, and what it followed before comes once more.
  const second = await guestLife(t, { clock: first.clock, store: first.store }, first.stored);
  await second.forward('remote-hand', secret, 'command', release);
  t.same([second.done, answers(second)], [[], ['ignored']]);
});

// ---- Chains --------------------------------------------------------------------------------------------------------

function chainsOf(now: Life, store = new FakeStore()) {
  const { config, word, alerts, record, outlet, clock, log } = now;
  const chains = new Chains({ config, word, alerts, store, record, outlet, clock, log });
  return { chains, store };
}

const report = (more: Partial<ChainReport> = {}): ChainReport => {
  const found = { chain: 'a', condition: 'depth', value: 11, limit: 10 } as const;
  return { verdict: 'circuit_break', acts: true, hold: '0123456789abcdef', ...found, ...more };
};
const acting = ({ responses }: ChainTruth) =>
  Object.entries(responses).flatMap(([condition, all]) => all.filter(({ acts }) => acts).map(() => condition));

t.test('what may act follows mode, permission, hold and bar', async (t) => {
  const truth = (config: object, change?: (now: Life) => void) => {
    const now = life({ config: configOf({ ...config }) });
    change?.(now);
    return acting(chainsOf(now).chains.truth());
  };
  t.same(truth({ mode: 'observe' }), []);
  t.same(truth({ mode: 'propose' }), []);
  t.same(truth({ mode: 'auto' }), ['depth', 'repeats', 'rate'], 'reset_chain is restartable');
  t.same(truth({ mode: 'auto', auto_allow: ['reset_chain'] }), ['depth', 'repeats', 'rate', 'iterations']);
  t.same(truth({ mode: 'auto', loop: { actions: { rate: ['alert_human'], repeats: [] } } }), ['depth']);
  t.same(
    truth({ mode: 'auto' }, ({ word }) => void word.holdFor(60_000, 'root')),
    [],
  );
  t.same(
    truth({ mode: 'auto' }, ({ word }) => word.bar(['chain'], 60_000)),
    [],
  );
});

t.test('a held chain is held over restarts, is told once, and ends with its reset alone', async (t) => {
  const now = life();
  const { chains, store } = chainsOf(now);
  chains.report([report(), report()], 'agent-loop');
  await turns();
  t.equal(now.store.entries.filter(({ kind }) => kind === 'chain.held').length, 1);
  t.match(now.alerts.standing, [
    { rule: 'chain', agentType: 'loop_breaker', severity: 'critical', channel: 'chain/workload/a' },
  ]);
  t.match(now.outlet.of('chains').at(-1), { held: [{ chain: 'a', hold: '0123456789abcdef' }], reset: [] });

  const next = life({ clock: now.clock, store: now.store });
  const { chains: again } = chainsOf(next, store);
  await again.start();
  t.teardown(() => again.stop());
  t.equal(again.truth().held.length, 1);
  next.clock.nowMs += 86_400_000;
  again.tend();
  t.equal(again.truth().held.length, 1, 'a day is no reset');
  t.equal(again.reset('a', 'root'), true);
  t.equal(again.reset('a', 'root'), false);
  t.same(again.truth().held, []);
  t.same(again.truth().reset, ['0123456789abcdef']);
  again.report([report()], 'agent-loop');
  t.same(again.truth().held, [], 'a skos-net that was away tells of the hold that was ended');
  again.report([report({ hold: 'f'.repeat(16) })], 'agent-loop');
  t.equal(again.truth().held.length, 1, 'and of another one');
  t.same(again.resetAll('root'), ['a']);
});

t.test('what would have been is an alert that ends when it is over, and an operator may hold the chain', async (t) => {
  const now = life();
  const { chains } = chainsOf(now);
  const would = report({ acts: false, hold: null });
  for (let i = 0; i < 5; i++) chains.report([would], 'agent-loop');
  await turns();
  t.equal(now.store.entries.filter(({ kind }) => kind === 'chain.excess').length, 1, 'recorded once while it goes on');
  t.match(chains.list(), [{ chain: 'a', isHeld: false, reason: /circuit_break: 11 deep/ }]);
  chains.break('a', 'root');
  t.match(chains.list(), [{ chain: 'a', isHeld: true, who: 'root' }]);
  chains.reset('a', 'root');
  t.same(now.alerts.standing, []);
  chains.report([would], 'agent-loop');
  now.clock.nowMs += 600_000;
  chains.tend();
  t.same([now.alerts.standing, chains.list()], [[], []]);
  t.throws(() => chains.break('a/b', 'root'), { code: 'SKOS_CHAIN_UNKNOWN' });
});

t.test('a thousand runaway chains are a few alerts and a bounded list', async (t) => {
  const now = life();
  const { chains } = chainsOf(now);
  for (let i = 0; i < 1_100; i++) {
    chains.report([report({ chain: `c${i}`, hold: i.toString(16).padStart(16, '0') })], 'agent-loop');
  }
  t.equal(chains.truth().held.length, 1_024);
  t.equal(now.alerts.standing.length, 65);
  chains.resetAll('root');
  t.ok(now.alerts.standing.length <= 1 + 1_100 - 1_024);
});

// ---- Repairs -------------------------------------------------------------------------------------------------------

function repairLoops(now: Life, store: FakeStore) {
  const passed: string[] = [];
  const next: RepairGate = {
    refusal: ({ action }) => {
      passed.push(action.text);
      return undefined;
    },
    ended: () => undefined,
  };
  const { alerts, record, clock, config } = now;
  const loops = new RepairLoops({ next, config, alerts, store, record, clock });
  const attempt = (text: string, channel = 'hwmon/a/temp1') => {
    const action = parseAction(text);
    if (typeof action === 'string') throw new Error(action);
    return { action, rule: 'mine', channel, severity: 'warning' } as const;
  };
  const ended = (text: string, result: AttemptResult) => {
    now.clock.nowMs += 60_000;
    loops.ended(attempt(text), result, now.clock.nowMs);
  };
  const isRefused = (text: string, channel?: string) =>
    loops.refusal(attempt(text, channel), now.clock.nowMs) !== undefined;
  return { loops, attempt, ended, isRefused, passed };
}

t.test('a repair that seems to help again and again is a loop, refused until reset, over restarts', async (t) => {
  const store = new FakeStore();
  const now = life();
  const first = repairLoops(now, store);
  for (let i = 0; i < 5; i++) first.ended('cleanup_temp', 'helped');
  t.notOk(first.isRefused('cleanup_temp'));
  first.ended('cleanup_temp', 'helped');
  t.ok(first.isRefused('cleanup_temp'));
  t.ok(first.isRefused('cleanup_logs'), 'what else would be tried for the same trouble');
  t.notOk(first.isRefused('cleanup_temp', 'hwmon/b/temp1'), 'another trouble');
  t.equal(
    first.loops.refusal({ ...first.attempt('cleanup_temp'), isApproved: true }, 0),
    undefined,
    'a person has agreed',
  );
  t.match(now.alerts.standing, [{ rule: 'chain', severity: 'critical', sensor: 'repair' }]);
  t.same(
    first.passed,
    ['cleanup_temp', 'cleanup_temp', 'cleanup_temp'],
    'the next gate counts nothing that is refused here',
  );

  const later = life({ clock: now.clock, store: now.store });
  const second = repairLoops(later, store);
  await second.loops.start();
  t.ok(second.isRefused('cleanup_temp'));
  const [found] = second.loops.list();
  t.match(found, {
    chain: 'repair/mine/hwmon/a/temp1',
    kind: 'repair',
    reason: /"cleanup_temp helped" 6 times within 6 h/,
  });
  t.equal(second.loops.reset(found?.chain ?? '', 'root'), true);
  t.notOk(second.isRefused('cleanup_temp'));
  t.strictSame(first.loops.resetAll('root'), ['repair/mine/hwmon/a/temp1']);
  t.strictSame(now.alerts.standing, [], 'with its alert');
  t.notOk(first.isRefused('cleanup_temp'));
  t.equal(second.loops.reset(found?.chain ?? '', 'root'), false);
});

t.test('two repairs that undo each other are a loop; seldom ones, notices and a clock set back are none', async (t) => {
  const pair = repairLoops(life(), new FakeStore());
  for (let i = 0; i < 6; i++) for (const text of ['cleanup_temp', 'cleanup_logs']) pair.ended(text, 'helped');
  t.ok(pair.isRefused('cleanup_temp'));

  const now = life();
  const seldom = repairLoops(now, new FakeStore());
  for (let i = 0; i < 50; i++) {
    now.clock.nowMs += 2 * 3_600_000;
    seldom.ended('cleanup_temp', 'helped');
  }
  t.notOk(seldom.isRefused('cleanup_temp'));
  for (let i = 0; i < 50; i++) seldom.ended('cleanup_temp', 'done');
  t.notOk(seldom.isRefused('cleanup_temp'));
  now.clock.nowMs -= 365 * 86_400_000;
  seldom.ended('cleanup_temp', 'helped');
  t.notOk(seldom.isRefused('cleanup_temp'), 'what lies in the future happens now, and is too little');
});
