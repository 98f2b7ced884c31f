/** Units and jobs: skos-actuator and skos-units, the real programs, over a systemctl that misbehaves (fixtures/units.ts). */
import { readFileSync, rmSync, statSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { ActuatorClient } from '../../src/actuators/actuator-client.js';
import type { ActuatorJob } from '../../src/core/ports.js';
import { asked, packetConnector, startActuator, writeAllowList } from '../fixtures/actuator.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';
import { answerToNobody } from '../fixtures/nobody.js';
import { type Behaviour, FakeSystemd } from '../fixtures/units.js';
import { until } from '../fixtures/until.js';

t.jobs = 4;

const BATCH = 'batch.service';
const HOOK = 'hook.service';
const SPARE = 'spare.service';
const TARGETS = [
  `target quota/batch unit_quota ${BATCH} floor_ppm=10000`,
  `target freeze/batch unit_freeze ${BATCH} floor_ppm=0`,
  'target route/spare unit_run spare.service floor_ppm=0',
];
const JOBS = [
  `job hook/move start ${HOOK} timeout_ms=600000`,
  `job unit/batch/restart restart ${BATCH} timeout_ms=600000`,
  `job unit/batch/stop stop ${BATCH} timeout_ms=1000`,
];
const HOUR_MS = 600_000;

interface Node {
  readonly machine: FakeMachine;
  readonly systemd: FakeSystemd;
  /** Another actuator over the same state, once the one before it has ended. */
  readonly actuator: () => ReturnType<typeof startActuator>;
}

function node(t: Test, items = [...TARGETS, ...JOBS]): Node {
  const machine = fakeMachine(t);
  const systemd = new FakeSystemd(t);
  systemd.add(BATCH, { ActiveState: 'active' });
  systemd.add(HOOK, { Type: 'oneshot' });
  systemd.add(SPARE);
  return { machine, systemd, actuator: () => startActuator(t, machine, { items, args: ['--units', systemd.socket] }) };
}

async function started(t: Test) {
  const all = node(t);
  const runner = await all.systemd.start();
  const actuator = await all.actuator();
  return { ...all, runner, process: actuator, client: await actuator.client() };
}

const lease = (target: string, capPpm: number, id = target) => ({ lease: id, target, capPpm, ttlMs: HOUR_MS });

async function jobOf(client: ActuatorClient, job: string): Promise<ActuatorJob | undefined> {
  return (await client.jobs()).find((each) => each.job === job);
}

async function ended(client: ActuatorClient, job: string): Promise<ActuatorJob | undefined> {
  for (;;) {
    const last = await jobOf(client, job);
    if (last?.state !== 'running') return last;
    await setTimeout(20);
  }
}

t.test('a quota, a freeze and a start are had from systemd, read back, and given back', async (t) => {
  const { systemd, client } = await started(t);
  t.match(await client.set(lease('quota/batch', 200_000)), { ok: true, former: 'max', written: '200000' });
  t.match(await client.set(lease('quota/batch', 100_000, 'b')), { ok: true, former: 'max', readBack: '100000' });
  t.equal(systemd.get(BATCH, 'CPUQuotaPerSecUSec'), '100ms');
  t.match(await client.release('b'), { ok: true, outcome: 'applied', readBack: '200000' });
  t.match(await client.release('quota/batch'), { ok: true, outcome: 'released', readBack: 'max' });
  t.match(await client.set(lease('freeze/batch', 0)), { ok: true, former: 'thawed', readBack: 'frozen' });
  t.match(await client.release('freeze/batch'), { outcome: 'released', readBack: 'thawed' });
  t.match(await client.set(lease('route/spare', 0)), { ok: true, former: 'stopped', readBack: 'running' });
  t.match(await client.release('route/spare'), { outcome: 'released', readBack: 'stopped' });
  t.strictSame(systemd.asked(), [
    `set-property --runtime -- ${BATCH} CPUQuota=20%`,
    `set-property --runtime -- ${BATCH} CPUQuota=10%`,
    `set-property --runtime -- ${BATCH} CPUQuota=20%`,
    `set-property --runtime -- ${BATCH} CPUQuota=`,
    `freeze -- ${BATCH}`,
    `thaw -- ${BATCH}`,
    `start -- ${SPARE}`,
    `stop -- ${SPARE}`,
  ]);
});

t.test('what stood before comes back; what an operator changed meanwhile is left alone', async (t) => {
  const { systemd, client } = await started(t);
  systemd.set(BATCH, 'CPUQuotaPerSecUSec', '1s 500ms');
  t.match(await client.set(lease('quota/batch', 2_000_000)), { ok: true, former: '1500000', readBack: '1500000' });
  t.match(await client.set(lease('quota/batch', 200_000)), { ok: true, readBack: '200000' });
  t.match(await client.release('quota/batch'), { outcome: 'released', readBack: '1500000' });
  await client.set(lease('quota/batch', 200_000));
  systemd.set(BATCH, 'CPUQuotaPerSecUSec', '700ms');
  t.match(await client.release('quota/batch'), { outcome: 'foreign_change' });
  t.equal(systemd.get(BATCH, 'CPUQuotaPerSecUSec'), '700ms');
  systemd.set(BATCH, 'FreezerState', 'frozen');
  systemd.set(SPARE, 'ActiveState', 'active');
  for (const target of ['freeze/batch', 'route/spare']) {
    t.match(await client.set(lease(target, 0)), { ok: true });
    t.match(await client.release(target), { outcome: 'released' });
  }
  t.equal(systemd.get(BATCH, 'FreezerState'), 'frozen', 'it was the operator who froze it');
  t.equal(systemd.get(SPARE, 'ActiveState'), 'active', 'and who started that');
});

t.test('a unit that was restarted under its freeze runs, is frozen when asked again, and owes nothing', async (t) => {
  const { systemd, client } = await started(t);
  await client.set(lease('freeze/batch', 0));
  systemd.set(BATCH, 'FreezerState', 'running');
  t.match(await client.set(lease('freeze/batch', 0)), { ok: true, former: 'thawed', readBack: 'frozen' });
  systemd.set(BATCH, 'FreezerState', 'running');
  t.match(await client.release('freeze/batch'), { outcome: 'released' });
  t.strictSame(systemd.asked(), [`freeze -- ${BATCH}`, `freeze -- ${BATCH}`]);
});

t.test('a unit that is not there is pending and looked for less and less often, never a crash', async (t) => {
  const { systemd, client } = await started(t);
  systemd.remove(BATCH);
  t.match(await client.set(lease('quota/batch', 200_000)), { ok: false, outcome: 'pending' });
  systemd.add(BATCH, { ActiveState: 'inactive' });
  await until(() => systemd.get(BATCH, 'CPUQuotaPerSecUSec') === '200ms');
  t.match(
    await client.set(lease('freeze/batch', 0)),
    { ok: false, outcome: 'pending' },
    'what stands still cannot be frozen',
  );
  const looks = systemd.looks();
  await setTimeout(2_500);
  t.ok(systemd.looks() - looks <= 6, `${systemd.looks() - looks} looks in 2.5 s`);
  systemd.set(BATCH, 'ActiveState', 'active');
  await until(() => systemd.get(BATCH, 'FreezerState') === 'frozen', 20_000);
  systemd.remove(BATCH);
  t.match(await client.release('freeze/batch'), { ok: true, outcome: 'released' }, 'gone with its freeze');
  t.match(await client.release('quota/batch'), { ok: true, outcome: 'released' });
});

t.test('a systemctl that fails, forgets, babbles or dies is never taken for one that did it', async (t) => {
  const { systemd, client } = await started(t);
  const trouble: [Behaviour, string][] = [
    ['exit 1', 'failed'],
    ['forget', 'failed'],
    ['die', 'failed'],
    ['huge', 'failed'],
  ];
  for (const [what, outcome] of trouble) {
    systemd.does(BATCH, 'freeze', what);
    t.match(await client.set(lease('freeze/batch', 0)), { ok: false, outcome }, what);
    systemd.does(BATCH, 'freeze', null);
    t.match(await client.release('freeze/batch'), { outcome: 'released' });
  }
  for (const what of ['exit 1', 'garbage', 'huge', 'die', 'forget'] as const) {
    systemd.does(BATCH, 'show', what);
    t.match(await client.set(lease('freeze/batch', 0)), { ok: false, outcome: 'failed' }, what);
    systemd.does(BATCH, 'show', null);
    t.match(await client.release('freeze/batch'), { outcome: 'released' });
  }
  t.equal(systemd.get(BATCH, 'FreezerState') ?? 'running', 'running');
});

t.test('a systemctl that hangs holds up its own kind for ten seconds, and nothing else', async (t) => {
  const { systemd, client } = await started(t);
  systemd.does(BATCH, 'freeze', 'hang');
  const before = process.hrtime.bigint();
  t.match(await client.set(lease('freeze/batch', 0)), { ok: false, outcome: 'pending' });
  t.match(await client.set(lease('quota/batch', 200_000)), { ok: true });
  await client.run('hook/move', 'k1');
  t.match(await ended(client, 'hook/move'), { state: 'done', exit: 0 });
  t.ok(process.hrtime.bigint() - before < 6_000_000_000n, 'all of it while the other one hangs');
  systemd.does(BATCH, 'freeze', null);
  await until(() => systemd.get(BATCH, 'FreezerState') === 'frozen', 30_000);
});

t.test('a job runs once for its key, one at a time, and says how it ended', async (t) => {
  const { systemd, client } = await started(t);
  t.match(await jobOf(client, 'hook/move'), { state: 'idle', key: '', exit: null, ageMs: 0 });
  systemd.does(HOOK, 'start', 'slow');
  await client.run('hook/move', 'attempt/1');
  t.match(await jobOf(client, 'hook/move'), { state: 'running', key: 'attempt/1', exit: null });
  await client.run('hook/move', 'attempt/1');
  await t.rejects(client.run('hook/move', 'attempt/2'), { code: 'SKOS_ACTUATOR_BUSY' });
  t.match(await ended(client, 'hook/move'), { state: 'done', exit: 0, key: 'attempt/1' });
  await client.run('hook/move', 'attempt/1');
  t.match(await jobOf(client, 'hook/move'), { state: 'done' }, 'known, and not started again');
  systemd.does(HOOK, 'start', null);
  systemd.set(HOOK, 'exits', '3');
  await client.run('hook/move', 'attempt/2');
  t.match(await ended(client, 'hook/move'), { state: 'failed', exit: 3, key: 'attempt/2' });
  systemd.remove(HOOK);
  await client.run('hook/move', 'attempt/3');
  t.match(await ended(client, 'hook/move'), { state: 'failed', exit: 5 });
  t.strictSame(systemd.asked(), Array(3).fill(`start -- ${HOOK}`));
  await t.rejects(client.run('hook/other', 'k'), { code: 'SKOS_ACTUATOR_DENIED' });
  for (const key of ['-', 'K', 'a b', '', 'k'.repeat(121), 'k;k'])
    await t.rejects(client.run('hook/move', key), { code: 'SKOS_ACTUATOR_PROTOCOL' }, key);
});

t.test('a job that takes too long is a timeout, and holds up no other', async (t) => {
  const { systemd, client } = await started(t);
  systemd.does(BATCH, 'stop', 'hang');
  await client.run('unit/batch/stop', 'k1');
  await client.run('unit/batch/restart', 'k1');
  t.match(await ended(client, 'unit/batch/restart'), { state: 'done' });
  t.match(await jobOf(client, 'unit/batch/stop'), { state: 'running' });
  t.match(await ended(client, 'unit/batch/stop'), { state: 'timeout', exit: null });
});

t.test('a job of a killed actuator is not started again, and its end is known to the next one', async (t) => {
  const all = node(t);
  await all.systemd.start();
  const first = await all.actuator();
  all.systemd.does(HOOK, 'start', 'slow');
  all.systemd.set(HOOK, 'exits', '7');
  await (await first.client()).run('hook/move', 'k1');
  first.process.kill('SIGKILL');
  await first.exited;
  rmSync(first.socket);
  const client = await (await all.actuator()).client();
  await client.run('hook/move', 'k1');
  t.match(await ended(client, 'hook/move'), { state: 'failed', exit: 7, key: 'k1' });
  t.strictSame(all.systemd.asked(), [`start -- ${HOOK}`]);
});

t.test('a killed runner, alone or with its actuator, leaves the unit’s own word on what became of a job', async (t) => {
  const all = node(t);
  for (const [key, what, state] of [
    ['k1', 'slow', 'unknown'],
    ['k2', null, 'done'],
  ] as const) {
    const runner = await all.systemd.start();
    const actuator = await all.actuator();
    const client = await actuator.client();
    if (key === 'k1') {
      all.systemd.does(HOOK, 'start', 'hang');
      await client.run('hook/move', key);
      await until(() => all.systemd.asked().length === 1);
      runner.kill('SIGKILL');
      await all.systemd.start();
      // Its systemctl went with the runner, before the unit began: nobody can say more.
      t.match(await ended(client, 'hook/move'), { state, key, exit: null }, String(what));
      actuator.process.kill('SIGTERM');
      await actuator.exited;
      continue;
    }
    all.systemd.does(HOOK, 'start', null);
    // Both die when the unit has run and nobody has heard.
    all.systemd.does(HOOK, 'show', 'hang');
    await client.run('hook/move', key);
    await until(() => all.systemd.get(HOOK, 'StateChangeTimestampMonotonic') !== undefined);
    runner.kill('SIGKILL');
    actuator.process.kill('SIGKILL');
    await actuator.exited;
    rmSync(actuator.socket);
    all.systemd.does(HOOK, 'show', null);
    const next = await (await all.actuator()).client();
    t.match(await jobOf(next, 'hook/move'), { state: 'running', key }, 'asked for as soon as somebody listens');
    await all.systemd.start();
    t.match(await ended(next, 'hook/move'), { state, key, exit: 0 });
  }
  t.equal(all.systemd.asked().length, 2);
});

t.test('the line of a running job may go: it is followed to its end and not known any more', async (t) => {
  const { systemd, client, machine } = await started(t);
  systemd.does(HOOK, 'start', 'slow');
  await client.run('hook/move', 'k1');
  writeAllowList(machine, TARGETS);
  await client.reload();
  t.strictSame(
    (await client.jobs()).map(({ job, state }) => [job, state]),
    [['hook/move', 'running']],
  );
  t.match(await ended(client, 'hook/move'), { state: 'done' });
  await t.rejects(client.run('hook/move', 'k2'), { code: 'SKOS_ACTUATOR_DENIED' });
  writeAllowList(machine, JOBS);
  await client.reload();
  await client.run('hook/move', 'k1');
  t.equal(systemd.asked().length, 1, 'nor is it started again when it is listed again');
});

t.test(
  'without a runner a job is unavailable and a unit pending; a freeze of a dead one is given back later',
  async (t) => {
    const { systemd, client, runner, process: actuator } = await started(t);
    t.match(await client.set(lease('freeze/batch', 0)), { ok: true });
    runner.kill('SIGKILL');
    await until(() => runner.signalCode !== null);
    t.match(await client.release('freeze/batch'), { outcome: 'undo_pending' });
    t.match(await client.set(lease('quota/batch', 200_000)), { ok: false, outcome: 'pending' });
    await client.run('hook/move', 'k1');
    t.match(await jobOf(client, 'hook/move'), { state: 'unavailable', key: 'k1' });
    await systemd.start();
    await until(() => systemd.get(BATCH, 'FreezerState') === 'running', 20_000);
    await until(() => systemd.get(BATCH, 'CPUQuotaPerSecUSec') === '200ms', 20_000);
    actuator.process.kill('SIGTERM');
    t.equal(await actuator.exited, 0);
    t.equal(systemd.get(BATCH, 'CPUQuotaPerSecUSec'), 'infinity', 'SIGTERM restores a unit before it leaves');
  },
);

t.test('an actuator that was killed while a unit was frozen thaws it, started again', async (t) => {
  const all = node(t);
  await all.systemd.start();
  const first = await all.actuator();
  await (await first.client()).set(lease('freeze/batch', 0));
  first.process.kill('SIGKILL');
  await first.exited;
  rmSync(first.socket);
  t.equal(all.systemd.get(BATCH, 'FreezerState'), 'frozen');
  const second = await all.actuator();
  const client = await second.client();
  t.match(await client.leases(), [{ lease: 'freeze/batch' }]);
  t.match(await client.release('freeze/batch'), { outcome: 'released', readBack: 'thawed' });
});

t.test('the allow-list takes names of units and nothing else, and jobs of services', async (t) => {
  const bad = [
    'target freeze/x unit_freeze x.mount floor_ppm=0',
    'target freeze/x unit_freeze x*.service floor_ppm=0',
    'target freeze/x unit_freeze a/x.service floor_ppm=0',
    'target quota/x unit_quota x.service floor_ppm=0',
    'job hook/x start x.slice timeout_ms=1000',
    'job hook/x reload x.service timeout_ms=1000',
    'job hook/x start x.service timeout_ms=999',
    'job hook/x start x.service',
    'job HOOK start x.service timeout_ms=1000',
  ];
  for (const line of bad) {
    const actuator = await startActuator(t, fakeMachine(t), { items: [line], refused: true });
    t.equal(await actuator.exited, 3, line);
    await until(() => /line 2/.test(actuator.said()));
  }
});

t.test('the runner does what its contract says, for root alone, and leaves with its parent', async (t) => {
  const { systemd } = node(t);
  const runner = await systemd.start('--child');
  t.equal(statSync(systemd.socket).mode & 0o777, 0o600);
  const freeze = `set freeze ${BATCH} 0`;
  t.strictSame(
    await asked(systemd.socket, `get freeze ${BATCH}`, freeze, `get freeze ${BATCH}`, 'get run no.service'),
    ['value 1', 'ok', 'value 0', 'err 2'],
  );
  const hostile = ['x'.repeat(5_000), 'get run ../x.service', `get run ${BATCH} --now`, 'set freeze init.scope 0'];
  t.strictSame(await asked(systemd.socket, ...hostile), ['err 22', 'err 22', 'err 22', 'err 1']);
  // Two at once for one key: it is started once, and both hear its end; one that has gone keeps nobody waiting.
  systemd.does(HOOK, 'start', 'slow');
  const job = `job k1 start ${HOOK} 5000`;
  const gone = packetConnector()(systemd.socket, () => undefined);
  gone.send(job);
  gone.close();
  t.strictSame(await Promise.all([asked(systemd.socket, job), asked(systemd.socket, job)]), [['done 0'], ['done 0']]);
  t.equal(systemd.asked().filter((line) => line.startsWith('start')).length, 1);
  t.strictSame(await asked(systemd.socket, `await k9 start ${SPARE} 5000 1`, `job k9 start ${SPARE} 5000`), [
    'unknown',
    'unknown',
  ]);
  if (process.getuid?.() === 0) t.equal(answerToNobody(systemd.socket, `get freeze ${BATCH}`), '');
  const kilobytes = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${runner.pid}/status`, 'utf8'))?.[1]);
  t.ok(kilobytes < 4_096, `${kilobytes} kB`);
  runner.kill('SIGTERM');
  await until(() => runner.exitCode === 0);
});
