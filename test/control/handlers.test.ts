/** The verbs that change something: what they refuse. */
import t from 'tap';
import { createHandlers, type HandlerOptions } from '../../src/control/handlers.js';
import { configOf } from '../fixtures/antibodies.js';
import { life } from '../fixtures/control.js';

const rules = [{ name: 'my-fan', class: 'cpu', raise: 80, severity: 'warning', actions: [] }];

t.test(
  'releases rules by name, also those whose sensor is not there, and refuses names that no rule has',
  async (t) => {
    const now = life({ channels: [], config: configOf({ mode: 'auto', rules }) });
    // `release` uses these parts alone.
    const handlers = createHandlers(now as unknown as HandlerOptions);
    const caller = { role: 'admin', credentials: { pid: 1, uid: 0, gid: 0, groups: [] } } as const;
    const release = async (rule: string) => handlers.release({ rule }, caller);
    await t.rejects(release('thermal_cpu'), { code: 'SKOS_RULE_UNKNOWN', message: /did you mean "thermal-cpu"/ });
    await t.rejects(release('x'), { code: 'SKOS_RULE_UNKNOWN', message: /my-fan/ });
    t.strictSame(now.executor.bars, []);
    t.match(await release('my-fan'), { barred: ['my-fan'], released: [] });
    t.match(await release('thermal-cpu'), { barred: ['thermal-cpu'] });
    t.equal(now.executor.bars.length, 2);
  },
);
