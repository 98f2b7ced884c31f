/** The operator's hand on workloads: only what the configuration names, on record, whatever breakers say. */
import t from 'tap';
import { Workloads } from '../../src/control/workloads.js';
import type { ChannelJson } from '../../src/core/channel.js';
import { configOf } from '../fixtures/antibodies.js';
import { FakeClock } from '../fixtures/control.js';
import { FakeActuator, FakeActuatorCore } from '../fixtures/fake-actuator.js';

const CONFIG = configOf({
  workloads: {
    train: { unit: 'train.service', essential: false, movable: true, hosts: [] },
    db: { unit: 'db.service', essential: true, movable: false, hosts: [] },
  },
});

function given({ connected = true } = {}) {
  const core = new FakeActuatorCore(['freeze/workload.train']);
  core.listJobs(['workload/train/start', 'workload/train/stop', 'workload/db/stop']);
  const said: unknown[] = [];
  const actuator = new FakeActuator(core);
  const sensors = [{ source: 'workload', device: 'train', quality: 'ok' }] as unknown as ChannelJson[];
  const workloads = new Workloads({
    config: { get: () => CONFIG },
    actuator: () => (connected ? actuator : undefined),
    sensors: () => sensors,
    record: { add: (occurrence) => said.push(occurrence) },
    clock: new FakeClock(),
  });
  return { core, said, actuator, workloads };
}

t.test('lists what runs, what is frozen, and the last that was asked for', async (t) => {
  const { core, actuator, workloads } = given();
  await actuator.set({ lease: 'x', target: 'freeze/workload.train', capPpm: 0, ttlMs: 10_000 });
  core.run('workload/train/stop', 'older');
  core.finish('workload/train/stop', 'failed', 5);
  core.nowMs += 1_000;
  core.run('workload/train/start', 'newer');
  t.match(await workloads.list(), [
    { name: 'train', isRunning: true, isFrozen: true, last: { verb: 'start', state: 'running' } },
    { name: 'db', isRunning: false, isFrozen: false, last: null },
  ]);
});

t.test('runs what is listed, twice when asked twice, and says who asked', async (t) => {
  const { core, said, workloads } = given();
  await workloads.run({ name: 'train', verb: 'start', who: 'kim' });
  core.finish('workload/train/start');
  await workloads.run({ name: 'train', verb: 'start', who: 'kim' });
  t.equal(core.started.length, 2);
  t.match(said, [{ kind: 'workload.operator', who: 'kim', what: { workload: 'train' } }, {}]);
});

t.test('is on record before it is done', async (t) => {
  const { actuator, said, workloads } = given();
  actuator.prompt = false;
  void workloads.run({ name: 'train', verb: 'stop', who: 'kim' });
  t.match(said, [{ what: { job: 'workload/train/stop' } }]);
});

t.test('refuses what nobody listed, what runs already, and without an actuator', async (t) => {
  const { core, said, workloads } = given();
  await t.rejects(workloads.run({ name: 'trian', verb: 'start', who: 'kim' }), {
    code: 'SKOS_WORKLOAD_UNKNOWN',
    message: /train/,
  });
  await t.rejects(workloads.run({ name: '__proto__', verb: 'start', who: 'kim' }), { code: 'SKOS_WORKLOAD_UNKNOWN' });
  await t.rejects(workloads.run({ name: 'db', verb: 'start', who: 'kim' }), { code: 'SKOS_ACTUATOR_DENIED' });
  await workloads.run({ name: 'train', verb: 'stop', who: 'kim' });
  await t.rejects(workloads.run({ name: 'train', verb: 'stop', who: 'kim' }), { code: 'SKOS_ACTUATOR_BUSY' });
  t.equal(core.started.length, 1);
  t.match(said, [
    { what: { job: 'workload/db/start' } },
    { what: { job: 'workload/db/start', refused: String } },
    { what: { job: 'workload/train/stop' } },
    { what: { job: 'workload/train/stop' } },
    { what: { job: 'workload/train/stop', refused: String } },
  ]);
  const { workloads: alone } = given({ connected: false });
  await t.rejects(alone.run({ name: 'train', verb: 'stop', who: 'kim' }), { code: 'SKOS_ACTUATOR_ABSENT' });
  t.match(await alone.list(), [{ name: 'train', last: null }, { name: 'db' }]);
});
