/** Reload: all of it, or what is said. */
import t from 'tap';
import type { Config } from '../../src/config/schema.js';
import { CurrentConfig } from '../../src/control/current-config.js';
import { Record } from '../../src/control/record.js';
import { Reloader } from '../../src/control/reloader.js';
import { SkosError } from '../../src/core/errors.js';
import { configOf } from '../fixtures/antibodies.js';
import { FakeStore, RecordingOutlet, turns } from '../fixtures/control.js';
import { recordingLog } from '../fixtures/logs.js';

function reloader(given: { load?: () => Promise<Config>; sensing?: () => Promise<void>; link?: () => Promise<void> }) {
  const config = new CurrentConfig(configOf({ mode: 'observe' }));
  const outlet = new RecordingOutlet();
  const store = new FakeStore();
  const levels: string[] = [];
  const log = { ...recordingLog(), setLevel: (level: string) => levels.push(level) };
  const ticks = { count: 0 };
  const gpus = { count: 0 };
  const part = new Reloader({
    config,
    load: given.load ?? (async () => configOf({ mode: 'auto', log: { level: 'debug' } })),
    sensing: { reload: given.sensing ?? (async () => undefined) },
    tick: {
      reload: () => {
        ticks.count += 1;
      },
    },
    link: { reload: given.link ?? (async () => undefined) },
    gpus: {
      reload: () => {
        gpus.count += 1;
      },
    },
    outlet,
    record: new Record({ store, log, outlet }),
    log,
  });
  return { part, config, outlet, store, log, levels, ticks, gpus };
}

const refuse = (code: 'SKOS_CONFIG_INVALID' | 'SKOS_SAMPLER_SPEC' | 'SKOS_ACTUATOR_ALLOW') => () =>
  Promise.reject(new SkosError(code, 'no'));

t.test('puts a good configuration in force everywhere and says what changed', async (t) => {
  const { part, config, outlet, store, levels, ticks, gpus } = reloader({});
  t.strictSame((await part.reload()).sort(), ['log', 'mode']);
  t.equal(config.get().mode, 'auto');
  t.strictSame(levels, ['debug']);
  t.equal(ticks.count, 1);
  t.equal(gpus.count, 1, 'skos-gpu is told the rates');
  t.equal(outlet.of('net.config').length, 1);
  await turns();
  t.match(store.entries, [{ kind: 'config.reloaded', what: { mode: 'auto' } }]);
});

t.test('says which of the changes wait for the next start of the agent', async (t) => {
  const { part, log } = reloader({ load: async () => configOf({ gpu: { mode: 'off' }, sampling: { rate_hz: 5 } }) });
  await part.reload();
  await turns();
  t.match(log.lines, [{ message: /changed: .*sampling.*; once the agent is started again: gpu$/ }]);
});

t.test('arming and disarming are events of their own', async (t) => {
  const modes = ['auto', 'auto', 'propose', 'observe'] as const;
  const pending = [...modes];
  const { part, log } = reloader({ load: async () => configOf({ mode: pending.shift() ?? 'observe' }) });
  for (const _ of modes) await part.reload();
  await turns();
  t.strictSame(
    log.lines.map(({ fields }) => fields.event),
    ['arm.armed', 'config.reloaded', 'arm.disarmed', 'config.reloaded'],
  );
});

for (const [what, given] of [
  ['a bad file', { load: refuse('SKOS_CONFIG_INVALID') }],
  ['sensors that cannot be taken over', { sensing: refuse('SKOS_SAMPLER_SPEC') }],
] as const) {
  t.test(`${what}: nothing changes, and that is said`, async (t) => {
    const { part, config, outlet, store, levels, ticks, gpus, log } = reloader(given);
    const former = config.get();
    await t.rejects(part.reload(), { code: /SKOS_/ });
    t.equal(config.get(), former);
    t.strictSame([levels.length, ticks.count, gpus.count, outlet.said.length, store.entries.length], [0, 0, 0, 0, 0]);
    t.match(log.lines, [{ level: 'error', message: /the former one stays/, fields: { event: 'config.refused' } }]);
  });
}

t.test('an actuator that refuses: the rest is in force, and both is said', async (t) => {
  const { part, config, log } = reloader({ link: refuse('SKOS_ACTUATOR_ALLOW') });
  await t.rejects(part.reload(), { code: 'SKOS_ACTUATOR_ALLOW', message: /in force, but the actuator/ });
  t.equal(config.get().mode, 'auto');
  await turns();
  t.match(log.lines.map(({ message }) => message).sort(), [/^configuration reloaded/, /former allow-list/]);
});

t.test('reloads one after the other, so that the last word wins', async (t) => {
  const gates: ((config: Config) => void)[] = [];
  const { part, config } = reloader({ load: () => new Promise((resolve) => gates.push(resolve)) });
  const first = part.reload();
  const second = part.reload();
  await turns();
  t.equal(gates.length, 1);
  gates[0]?.(configOf({ mode: 'auto' }));
  await first;
  await turns();
  gates[1]?.(configOf({ mode: 'propose' }));
  await second;
  t.equal(config.get().mode, 'propose');
});

t.test('a failed reload does not stop the next', async (t) => {
  let fails = true;
  const { part, config } = reloader({
    load: async () => {
      if (fails) throw new SkosError('SKOS_CONFIG_INVALID', 'no');
      return configOf({ mode: 'auto' });
    },
  });
  await t.rejects(part.reload());
  fails = false;
  await part.reload();
  t.equal(config.get().mode, 'auto');
});
