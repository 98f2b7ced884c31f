import t from 'tap';
import { type Action, parseAction } from '../../src/core/action-names.js';
import { MODES } from '../../src/core/vocabulary.js';
import { permitted } from '../../src/policy/action.js';

function action(text: string): Action {
  const parsed = parseAction(text, { drain: {} });
  if (typeof parsed === 'string') throw new Error(parsed);
  return parsed;
}

t.test('auto covers what can be taken back and proposes the rest', async (t) => {
  for (const text of ['throttle_50', 'limit_20@demo', 'freeze@demo', 'failover_route']) {
    t.equal(permitted(action(text), 'auto', []), 'act', text);
  }
  for (const text of [
    'restart_unit@web',
    'redistribute',
    'cleanup_temp',
    'shutdown_non_essential',
    'failover',
    'drain',
  ]) {
    t.equal(permitted(action(text), 'auto', []), 'propose', text);
    t.equal(permitted(action(text), 'auto', [text]), 'act', text);
  }
});

t.test('auto_allow names one action exactly', async (t) => {
  t.equal(permitted(action('restart_unit@web'), 'auto', ['restart_unit', 'restart_unit@db', 'restart']), 'propose');
});

t.test('observe and propose act on nothing, whatever auto_allow says', async (t) => {
  for (const text of ['throttle_50', 'cleanup_temp', 'drain']) {
    t.equal(permitted(action(text), 'observe', [text]), 'observe', text);
    t.equal(permitted(action(text), 'propose', [text]), 'propose', text);
  }
});

t.test('people are told in every mode', async (t) => {
  for (const mode of MODES) t.equal(permitted(action('alert_human'), mode, []), 'act');
});
