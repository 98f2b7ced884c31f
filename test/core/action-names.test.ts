import t from 'tap';
import { type Action, actionClass, actionNames, parseAction, VERBS } from '../../src/core/action-names.js';

function parsed(text: string, hooks: Record<string, unknown> = {}): Action {
  const action = parseAction(text, hooks);
  if (typeof action === 'string') throw new Error(action);
  return action;
}

t.test('reads verb, number and target', async (t) => {
  t.same(parsed('throttle_50'), { text: 'throttle_50', verb: 'throttle', amount: 50, target: null, hook: null });
  t.same(parsed('limit_20@demo'), { text: 'limit_20@demo', verb: 'limit', amount: 20, target: 'demo', hook: null });
  t.match(parsed('limit_400@demo'), { amount: 400 });
  t.match(parsed('freeze@batch'), { verb: 'freeze', amount: null, target: 'batch' });
  t.match(parsed('restart_unit@web'), { verb: 'restart_unit', target: 'web' });
});

t.test('knows every action of the default tables', async (t) => {
  const defaults =
    'throttle_10 throttle_50 redistribute shutdown_non_essential failover cleanup_temp cleanup_logs archive_old_data ' +
    'emergency_cleanup alert_human restart_wireguard regenerate_wireguard_config ping_peer failover_route circuit_break reset_chain';
  for (const text of defaults.split(' ')) t.equal(parsed(text).text, text);
});

t.test('refuses what it does not know or cannot mean', async (t) => {
  const wrong = [
    '',
    'throttle',
    'throttle_0',
    'throttle_100',
    'throttle_050',
    'throttle_-5',
    'throttle_5.5',
    'throttle_99999999999999999999',
    'throttle_50@cpu',
    'throttle_50_50',
    'limit_20',
    'limit@demo',
    'limit_0@demo',
    'freeze',
    'freeze_1@demo',
    'freeze@',
    'freeze@a@b',
    'restart_unit',
    'cleanup_temp_5',
    'failover@lyra',
    'hook',
    'Throttle_50',
    'constructor',
    '__proto__',
    'toString',
  ];
  for (const text of wrong) t.type(parseAction(text), 'string', text);
});

t.test('takes a name of hooks, as careful as can be, and not as a target', async (t) => {
  const hooks = { drain: {}, level_2: {}, throttle_50: {} };
  t.same(parsed('drain', hooks), { text: 'drain', verb: 'hook', amount: null, target: null, hook: 'drain' });
  t.match(parsed('level_2', hooks), { verb: 'hook', hook: 'level_2' });
  t.equal(actionClass(parsed('drain', hooks).verb), 'irreversible');
  t.type(parseAction('drain@demo', hooks), 'string');
  t.type(parseAction('drain'), 'string');
  t.type(parseAction('constructor', hooks), 'string');
});

t.test('a hook named like a built-in action supplies it and does not change its class', async (t) => {
  t.match(parsed('redistribute', { redistribute: {} }), { verb: 'redistribute', hook: null });
  t.match(parsed('throttle_50', { throttle_50: {} }), { verb: 'throttle', amount: 50 }, 'a cap cannot be shadowed');
});

t.test('only what can be taken back is reversible', async (t) => {
  const reversible = Object.keys(VERBS).filter((verb) => actionClass(verb as keyof typeof VERBS) === 'reversible');
  t.same(reversible, ['throttle', 'limit', 'freeze', 'fans_full', 'failover_route', 'circuit_break']);
});

t.test('lists names as they are written, for suggestions', async (t) => {
  const names = actionNames({ drain: {} });
  for (const name of ['throttle_N', 'limit_N@TARGET', 'freeze@TARGET', 'cleanup_temp', 'drain'])
    t.ok(names.includes(name), name);
  t.notOk(names.includes('hook'));
});
