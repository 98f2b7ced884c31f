/** The tick, the publisher and the record: what fails in one must not stop the others. */
import { mock } from 'node:test';
import t, { type Test } from 'tap';
import { Publisher } from '../../src/control/publisher.js';
import { Record } from '../../src/control/record.js';
import { Sensing } from '../../src/control/sensing.js';
import { Tick } from '../../src/control/tick.js';
import type { ChannelJson } from '../../src/core/channel.js';
import { cpuTemperature } from '../fixtures/antibodies.js';
import { FakeSampler, FakeStore, life, RecordingOutlet, turns } from '../fixtures/control.js';
import { recordingLog } from '../fixtures/logs.js';

async function agent(t: Test) {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  t.teardown(() => mock.timers.reset());
  const now = life();
  const made = { channels: [cpuTemperature()], sampler: new FakeSampler([]), fed: 0 };
  const sensing = new Sensing({
    ...now,
    discover: async () => ({ channels: made.channels, skipped: [] }),
    createSampler: (channels, tripwires) => {
      made.sampler = new FakeSampler(channels, tripwires);
      return made.sampler;
    },
  });
  await sensing.start();
  const feed = () => {
    made.fed += 1;
  };
  const tick = new Tick({ ...now, sensing, feed });
  const publisher = new Publisher({ ...now, sensing });
  t.teardown(() => {
    tick.stop();
    publisher.stop();
    sensing.stop();
  });
  /** Time passes; a sample of this temperature is there at each tick. */
  const pass = (ms: number, celsius = 50) => {
    for (let i = 0; i < ms / 100; i++) {
      now.clock.nowMs += 100;
      made.sampler.give(0, celsius * 1000, 'ok', now.clock.nowMs);
      mock.timers.tick(100);
    }
  };
  return { ...now, made, sensing, tick, publisher, pass };
}

t.test('a finished tick feeds the watchdog, once a second', async (t) => {
  const { tick, made, pass } = await agent(t);
  tick.start();
  pass(10_000);
  t.ok(made.fed >= 10 && made.fed <= 12, `${made.fed}`);
  t.equal(tick.count, 101);
});

for (const broken of ['store', 'alerts', 'executor', 'sensing'] as const) {
  t.test(`goes on protecting while ${broken} throws, and does not feed the watchdog`, async (t) => {
    const { tick, made, pass, store, alerts, executor, sensing, log, rulebook } = await agent(t);
    const fail = () => {
      throw new Error(`${broken} is broken`);
    };
    const mend: (() => void)[] = [];
    const breakDown = <T extends object>(object: T, key: keyof T) => {
      Object.defineProperty(object, key, { value: fail, configurable: true });
      mend.push(() => Reflect.deleteProperty(object, key));
    };
    tick.start();
    if (broken === 'store') breakDown(store, 'sample');
    if (broken === 'alerts') {
      breakDown(alerts, 'apply');
      breakDown(alerts, 'tend');
    }
    if (broken === 'executor') breakDown(executor, 'reconcile');
    if (broken === 'sensing') breakDown(sensing, 'drain');
    const { fed } = made;
    pass(3_000, 86);
    t.equal(made.fed, fed);
    t.ok(log.lines.every(({ level, message }) => level !== 'error' || message.includes(`${broken} is broken`)));
    t.ok(log.lines.some(({ level }) => level === 'error'));
    if (broken !== 'sensing') t.equal(rulebook.bound[0]?.ladder.rung, 1, 'the ladder climbs');
    if (broken !== 'executor' && broken !== 'sensing') t.ok(executor.actions.length > 0, 'and it is acted');
    for (const each of mend) each();
    pass(3_000, 86);
    t.ok(made.fed > fed, 'it recovers by itself');
    t.ok(executor.actions.length > 0);
  });
}

t.test('what throws at one sample keeps no other from being looked at', async (t) => {
  const { tick, made, rulebook, clock } = await agent(t);
  made.sampler.give(1, 1, 'ok', clock.nowMs);
  const seen: number[] = [];
  rulebook.sample = (index) => {
    seen.push(index);
    if (index === 1) throw new Error('a mistake');
  };
  made.sampler.give(0, 99_000, 'ok', clock.nowMs);
  tick.start();
  t.strictSame(seen, [1, 0]);
  t.equal(made.fed, 0, 'and it is no finished tick');
});

t.test('many crossings at once are one look, and none after stop()', async (t) => {
  const { tick, executor } = await agent(t);
  tick.wake();
  await turns(2);
  t.equal(tick.count, 0, 'not before start()');
  tick.start();
  for (let i = 0; i < 1_000; i++) tick.wake();
  await turns(2);
  t.equal(tick.count, 2);
  tick.wake();
  tick.stop();
  await turns(2);
  t.equal(tick.count, 2);
  t.strictSame(executor.actions, []);
});

t.test('says sensors on change and at most once a second while somebody listens, else each half minute', async (t) => {
  const { tick, publisher, outlet, pass } = await agent(t);
  tick.start();
  publisher.start();
  let celsius = 50;
  for (let i = 0; i < 29; i++) pass(1_000, celsius++);
  t.equal(outlet.of('sensor').length, 0);
  pass(1_000, celsius++);
  t.equal(outlet.of('sensor').length, 1);
  // As skos-net says it again and again.
  const listened = (value: number) => {
    publisher.demand = true;
    pass(1_000, value);
  };
  for (let i = 0; i < 10; i++) listened(celsius++);
  t.equal(outlet.of('sensor').length, 11);
  for (let i = 0; i < 10; i++) listened(celsius);
  t.equal(outlet.of('sensor').length, 12, 'one change, then none');
  t.equal(outlet.of('heartbeat').length, 10);
  t.equal(outlet.of('peer').length, 50);
});

t.test('does not go on for subscribers of a skos-net that is gone', async (t) => {
  const { publisher, outlet, pass } = await agent(t);
  publisher.start();
  publisher.demand = true;
  for (let i = 0; i < 20; i++) pass(1_000, 50 + i);
  t.ok(outlet.of('sensor').length <= 10, String(outlet.of('sensor').length));
});

t.test('a channel that left says no_data where it is retained', async (t) => {
  const { publisher, outlet, made, sensing, pass, antibody } = await agent(t);
  publisher.start();
  const sent: string[] = [];
  publisher.retained((event) => sent.push(event));
  t.ok(sent.includes('sensor'));
  made.channels = [cpuTemperature({ id: 'hwmon/other/temp1' })];
  antibody.rules = [];
  await sensing.reload();
  await sensing.reload();
  pass(2_000);
  const gone = outlet.of('sensor').filter((json) => (json as ChannelJson).id === cpuTemperature().id);
  t.match(gone, [{ value: null, quality: 'no_data' }], 'once, without waiting for a demand');
});

t.test(
  'the journal has its line within a second though the disk hangs or fails, and nothing ends the process',
  async (t) => {
    mock.timers.enable({ apis: ['setTimeout'] });
    t.teardown(() => mock.timers.reset());
    const rejections: unknown[] = [];
    const onRejection = (error: unknown) => rejections.push(error);
    process.on('unhandledRejection', onRejection);
    t.teardown(() => process.off('unhandledRejection', onRejection));
    const occurrence = {
      kind: 'x',
      who: 'agent',
      what: {},
      level: 'info',
      message: 'it happened',
      fields: {},
    } as const;
    const said = async (spoil: (store: FakeStore, outlet: RecordingOutlet) => void) => {
      const store = new FakeStore();
      const outlet = new RecordingOutlet();
      const log = recordingLog();
      spoil(store, outlet);
      new Record({ store, log, outlet }).add(occurrence);
      await turns(2);
      mock.timers.tick(1_000);
      await turns(2);
      return log.lines;
    };
    t.match(await said(() => undefined), [{ message: 'it happened', fields: { auditSeq: 1 } }]);
    t.match(
      await said((store) => {
        store.disk = 'hangs';
      }),
      [{ message: 'it happened', fields: { audit: 'not on disk yet' } }],
    );
    t.match(
      await said((store) => {
        store.disk = 'fails';
      }),
      [{ message: 'it happened', fields: { audit: /disk on fire/ } }],
    );
    const thrown = await said((store) => {
      store.audit.append = () => {
        throw new Error('a mistake');
      };
    });
    t.match(thrown, [{ level: 'error', message: /it happened.*a mistake/ }]);
    const mute = await said((_, outlet) => {
      outlet.broadcast = () => {
        throw new Error('a mistake');
      };
    });
    t.match(mute, [{ message: /it happened/ }]);
    t.strictSame(rejections, []);
  },
);
