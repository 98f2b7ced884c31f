/** The verbs that change something: what they refuse. */
import t from 'tap';
import { createHandlers, type HandlerOptions } from '../../src/control/handlers.js';
import { NetState } from '../../src/control/net-state.js';
import { unguarded } from '../../src/control/status-verbs.js';
import type { Clock } from '../../src/core/clock.js';
import { configOf, cpuTemperature } from '../fixtures/antibodies.js';
import { life } from '../fixtures/control.js';

const rules = [{ name: 'my-fan', class: 'cpu', raise: 80, severity: 'warning', actions: [] }];

t.test(
  'releases rules by name, also those whose sensor is not there, and refuses names that no rule has',
  async (t) => {
    const now = life({ channels: [], config: configOf({ mode: 'auto', rules }) });
    // `release` uses these parts alone.
    const handlers = createHandlers({ ...now, antibodies: { names: ['fan-watch'] } } as unknown as HandlerOptions);
    const caller = { role: 'admin', credentials: { pid: 1, uid: 0, gid: 0, groups: [] } } as const;
    const release = async (rule: string) => handlers.release({ rule }, caller);
    await t.rejects(release('thermal_cpu'), { code: 'SKOS_RULE_UNKNOWN', message: /did you mean "thermal-cpu"/ });
    await t.rejects(release('x'), { code: 'SKOS_RULE_UNKNOWN', message: /my-fan/ });
    t.strictSame(now.word.bars, []);
    t.match(await release('my-fan'), { barred: ['my-fan'], released: [] });
    t.match(await release('thermal-cpu'), { barred: ['thermal-cpu'] });
    t.equal(now.word.bars.length, 2);
    t.match(await release('fan-watch'), { released: [] }, 'an external antibody, to dismiss its alerts');
  },
);

t.test('names the CPU temperatures that no standing order guards, and no others', async (t) => {
  const guarded = cpuTemperature();
  const late = cpuTemperature({ id: 'hwmon/late/temp1' });
  const board = cpuTemperature({ id: 'hwmon/board/temp1', thermalDefault: false });
  const orders = [{ order: `thermal:${guarded.id}`, raised: false, value: 50_000, quality: 'ok' as const }];
  const targets = [{ target: 'cpufreq/policy0', state: 'idle', former: '-', current: '-' }];
  const lines = unguarded([guarded, late, board], { targets, orders });
  t.strictSame(
    lines.map((line) => line.split(': ')[1]),
    ['none for hwmon/late/temp1'],
  );
  t.strictSame(unguarded([late], { targets: [], orders: [] }), [], 'nothing could be capped anyway');
  const gpu = (address: string) =>
    cpuTemperature({ id: `nvml/${address}/t`, name: 't', class: 'gpu', probe: { kind: 'gpu', address, index: 0 } });
  const gpus = {
    targets: ['a', 'b'].map((address) => ({ target: `gpu/${address}`, state: 'idle', former: '-', current: '-' })),
    orders: [{ order: 'thermal:gpu/a/t', raised: false, value: null, quality: 'no_data' as const }],
  };
  t.match(unguarded([gpu('a'), gpu('b'), gpu('c'), late], gpus), [/none for nvml\/b\/t/]);
});

t.test('says how long the agent runs whatever is done to the clock meanwhile', async (t) => {
  const now = life({ channels: [] });
  let setByMs = 0;
  const clock: Clock = {
    monotonicMs: () => now.clock.monotonicMs(),
    wallMs: () => now.clock.wallMs() + setByMs,
  };
  const absent = { connected: false, why: '', targets: [], leases: [], orders: [] };
  // `status` asks these parts alone.
  const parts = {
    ...now,
    clock,
    startedAtMs: clock.wallMs() - 5_000,
    link: { status: async () => absent },
    sensing: { channels: [], notFound: [], refresh: () => undefined },
    gpus: { status: () => ({ gpus: [] }), notFound: [] },
    net: new NetState(clock),
    tick: { count: 0, p99Ms: 0 },
    store: { health: () => ({ ok: true, why: '' }), audit: { head: () => ({}) }, outbox: { states: () => [] } },
  };
  const handlers = createHandlers(parts as unknown as HandlerOptions);
  const caller = { role: 'admin', credentials: { pid: 1, uid: 0, gid: 0, groups: [] } } as const;
  const upMs = async () => clock.wallMs() - (await handlers.status({}, caller)).startedAtMs;
  t.equal(await upMs(), 5_000);
  for (const byMs of [-3_600_000, 3 * 365 * 86_400_000]) {
    setByMs += byMs;
    now.clock.nowMs += 1_000;
    t.equal(await upMs(), 5_000 + now.clock.nowMs - 1_000_000);
  }
});
