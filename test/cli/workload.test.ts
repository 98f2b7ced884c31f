/** `skos workload`: what it shows, asks and refuses. */
import t from 'tap';
import { EXIT } from '../../src/cli/exit-codes.js';
import type { WorkloadView } from '../../src/core/protocol.js';
import { node, status } from '../fixtures/cli.js';

const train: WorkloadView = {
  name: 'train',
  unit: 'train.service',
  essential: false,
  movable: true,
  hosts: [],
  isRunning: true,
  isFrozen: false,
  last: null,
};

/** `states`: of the last run, one for each look after it was asked for. */
function given(view: WorkloadView, states: ('running' | 'done' | 'failed')[] = ['running', 'done']) {
  const asked: unknown[] = [];
  const handlers = {
    status: () => status(),
    workloads: () => {
      const state = asked.length === 0 ? undefined : states.length > 1 ? states.shift() : states[0];
      const last = state === undefined ? null : { verb: 'stop', state, exit: state === 'failed' ? 3 : 0, ageMs: 10 };
      return [{ ...view, last }];
    },
    'workload.run': (params: unknown) => {
      asked.push({ ...(params as object) });
      return {};
    },
  };
  return { asked, handlers };
}

t.test('lists, waits for what it asked for, and says how it ended', async (t) => {
  const good = given(train);
  const each = await node(t, good.handlers);
  t.match((await each.skos(['workload'])).out, /train +train\.service +runs +not essential, movable/);
  const done = await each.skos(['workload', 'stop', 'train']);
  t.match(done, { code: EXIT.ok, out: /train is stopped/ });
  t.strictSame(good.asked, [{ name: 'train', verb: 'stop' }]);
  const other = await node(t, given(train, ['failed']).handlers);
  t.match(await other.skos(['workload', 'stop', 'train']), { code: EXIT.failed, out: /failed, exit status 3/ });
});

t.test('stops what is essential only when the node’s name is typed', async (t) => {
  const { asked, handlers } = given({ ...train, essential: true });
  const each = await node(t, handlers);
  t.equal((await each.skos(['workload', 'restart', 'train'], { ask: async () => 'yes' })).code, EXIT.failed);
  t.strictSame(asked, []);
  t.equal((await each.skos(['workload', 'start', 'train'])).code, EXIT.ok, 'a start asks nothing');
  t.equal((await each.skos(['workload', 'stop', 'train', '--confirm', 'nova'])).code, EXIT.ok);
  t.equal((await each.skos(['workload', 'kill', 'train'])).code, EXIT.usage);
  t.equal((await each.skos(['workload', 'stop'])).code, EXIT.usage);
});
