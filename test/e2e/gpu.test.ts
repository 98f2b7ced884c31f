/** GPUs through the whole agent: a scripted NVML is hot, lost, hung, unloaded and let go of; a second GPU goes on all the while. */
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type GpuNode, gpuNode, PERIOD_MS } from '../fixtures/gpu-node.js';
import { FIRST, isAlive, SECOND, skipped, TWO_GPUS } from '../fixtures/skos-gpu.js';

const skip = skipped;
// Each waits for time to pass rather than for the processor.
t.jobs = 5;

/** What a second GPU may notice of the trouble of a first one. */
const MOST_MS = 2 * PERIOD_MS;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function standing(gpus: GpuNode, id: string) {
  return (await gpus.node.alerts()).find(({ channel }) => channel === id);
}

/** When it began and ended, wall time: the other GPU is to be read on meanwhile. */
async function timed(what: () => Promise<void>): Promise<{ fromMs: number; toMs: number }> {
  const fromMs = Date.now();
  await what();
  return { fromMs, toMs: Date.now() };
}

t.test('a hot GPU is shown, told and alerted by its margin to slowdown', { skip }, async (t) => {
  const gpus = await gpuNode(t, { journal: true, keepSeconds: 0.5 });
  const { node } = gpus;
  await gpus.untilState(FIRST, 'serving');
  const heartbeat = gpus.next('heartbeat', ({ gpuTemp }) => gpuTemp !== null && gpuTemp >= 91);
  gpus.also('gpu 0 temperature 91', 'gpu 0 field.82 101', 'gpu 0 reasons 0x60');
  const core = gpus.idOf(FIRST, 'temperature');
  const memory = gpus.idOf(FIRST, 'temperature_memory');
  await node.until('both alerts', async () =>
    [await standing(gpus, core), await standing(gpus, memory)].every((alert) => alert?.severity === 'emergency'),
  );
  t.match(await gpus.channel(FIRST, 'temperature'), { value: 91, quality: 'ok', limits: { critical: 89 } });
  t.match(await gpus.channel(FIRST, 'temperature_memory'), { value: 101, quality: 'ok' });
  t.match(await gpus.channel(FIRST, 'throttle_reasons'), { value: 0x60, quality: 'ok' });
  t.match(await standing(gpus, core), { rule: 'thermal-gpu', value: 91, message: /GPU temperature 91\.0°C/ });
  t.match(await standing(gpus, memory), { rule: 'thermal-gpu', value: 101 });
  t.notOk(await standing(gpus, gpus.idOf(SECOND, 'temperature')));
  await node.until(
    'the journal says so',
    () => gpus.journal('alert.fire').length + gpus.journal('alert.escalate').length >= 2,
  );
  const told = [...gpus.journal('alert.fire'), ...gpus.journal('alert.escalate')];
  t.ok(
    told.some(
      (entry) =>
        entry.SKOS_RULE === 'thermal-gpu' &&
        entry.SKOS_CHANNEL === core &&
        /^[0-9a-f]{32}$/.test(entry.MESSAGE_ID ?? ''),
    ),
  );
  const { out, code } = await node.cli('gpu', FIRST);
  t.equal(code, 0);
  t.match(out, /91/);
  t.match(out, /101/);
  t.match(out, /software thermal slowdown/);
  t.match(out, /hardware thermal slowdown/);
  // Memory is a temperature of the GPU, and the hotter one.
  t.equal((await heartbeat).gpuTemp, 101);
  // Between the raise bound of warning and the clear bound of critical.
  gpus.also('gpu 0 temperature 75');
  await node.until('the margin says warning', async () => {
    const alert = await standing(gpus, core);
    return alert?.severity === 'warning' && (await standing(gpus, memory)) === undefined;
  });
});

t.test('a lost GPU is said to be lost, and the other one keeps its rate', { skip }, async (t) => {
  const gpus = await gpuNode(t, { journal: true, script: [...TWO_GPUS, 'gpu 0 lost after 400'] });
  const { node } = gpus;
  await gpus.untilState(FIRST, 'serving', 'lost');
  const span = await timed(async () => {
    await gpus.untilState(FIRST, 'lost');
    await gpus.untilQuality(FIRST, 'fault');
    await node.until('an alert', async () => (await node.alerts()).some(({ rule }) => rule === 'gpu-driver'));
    await sleep(500);
  });
  t.match(
    (await node.alerts()).find(({ rule }) => rule === 'gpu-driver'),
    { severity: 'critical', channel: /3b/ },
  );
  // Those that are read each ten seconds say so when it is their turn.
  for (const name of [
    'temperature_memory',
    'power',
    'throttle_reasons',
    'energy',
    'clock_sm',
    'utilization',
    'memory_used',
  ]) {
    t.match(await gpus.channel(FIRST, name), { quality: 'fault', value: null }, name);
  }
  t.equal((await gpus.view(SECOND))?.state, 'serving');
  await node.until('it is told', () => gpus.journal('gpu.lost').length === 1);
  const onRecord = async () => (await node.audit()).filter(({ kind }) => kind === 'hardware.event');
  await node.until('it is on record', async () => (await onRecord()).length > 0);
  t.match(
    (await onRecord()).map(({ what }) => what.kind),
    ['gpu_lost'],
  );
  t.equal(await node.stop(), 0);
  const { gapMs } = await gpus.storedGapMs(SECOND, span);
  t.ok(gapMs <= MOST_MS, `longest gap of the other: ${gapMs.toFixed(1)} ms`);
});

t.test('a call that never returns makes its GPU hung, over a restart of the agent too', { skip }, async (t) => {
  const gpus = await gpuNode(t, { journal: true });
  const { node } = gpus;
  await gpus.untilState(FIRST, 'serving');
  await gpus.untilQuality(FIRST, 'ok');
  const span = await timed(async () => {
    gpus.also('gpu 0 hang nvmlDeviceGetPowerUsage forever');
    await gpus.untilState(FIRST, 'hung');
    await gpus.untilQuality(FIRST, 'hung');
    await sleep(700);
  });
  t.ok((await gpus.channels(FIRST)).every(({ quality, value }) => quality === 'hung' && value === null));
  await node.until('it is told', () => {
    const sensors = gpus.journal('sensor.hung').map(({ SKOS_CHANNEL }) => SKOS_CHANNEL);
    return gpus.journal('gpu.hung').length === 1 && sensors.includes(gpus.idOf(FIRST, '*'));
  });
  const stoppedAtMs = Date.now();
  t.equal(await node.stop(), 0);
  t.ok(Date.now() - stoppedAtMs < 4_000, 'it waits for nobody who hangs');
  const { gapMs } = await gpus.storedGapMs(SECOND, span);
  t.ok(gapMs <= MOST_MS, `longest gap of the other: ${gapMs.toFixed(1)} ms`);
  await node.start();
  await gpus.untilState(SECOND, 'serving');
  await gpus.untilState(FIRST, 'hung');
  await gpus.untilQuality(SECOND, 'ok');
  t.match(await node.request('audit.verify', {}), { ok: true });
});

t.test('a worker that is stopped in its tracks is hung until it goes on', { skip }, async (t) => {
  const gpus = await gpuNode(t, { journal: true });
  const { node } = gpus;
  await gpus.untilState(FIRST, 'serving');
  await gpus.untilQuality(FIRST, 'ok');
  const pid = gpus.worker(FIRST);
  const span = await timed(async () => {
    process.kill(pid, 'SIGSTOP');
    await gpus.untilState(FIRST, 'hung');
    await gpus.untilQuality(FIRST, 'hung');
    await sleep(700);
  });
  t.strictSame(gpus.workers(FIRST), [pid], 'no second one is sent into that driver');
  process.kill(pid, 'SIGCONT');
  await gpus.untilState(FIRST, 'serving');
  await gpus.untilQuality(FIRST, 'ok');
  await node.until('both are told', () =>
    gpus.journal('gpu.serving').some(({ MESSAGE }) => /again/.test(String(MESSAGE))),
  );
  t.equal(await node.stop(), 0);
  const { gapMs } = await gpus.storedGapMs(SECOND, span);
  t.ok(gapMs <= MOST_MS, `longest gap of the other: ${gapMs.toFixed(1)} ms`);
});

for (const end of ['SIGKILL', 'SIGTERM'] as const) {
  t.test(
    `an agent that ends by ${end} while skos-gpu is stopped comes back with its store, and serves who can be`,
    { skip },
    async (t) => {
      const gpus = await gpuNode(t, { journal: true });
      const { node } = gpus;
      await gpus.untilState(FIRST, 'serving');
      await gpus.untilQuality(FIRST, 'ok');
      await gpus.untilQuality(SECOND, 'ok');
      const [supervisor, hung] = [gpus.supervisor(), gpus.worker(FIRST)];
      const span = await timed(async () => {
        for (const pid of [supervisor, hung]) process.kill(pid, 'SIGSTOP');
        await gpus.untilQuality(FIRST, 'hung');
        await sleep(500);
      });
      t.equal(await gpus.quality(SECOND), 'ok');
      const { ticks } = await node.status();
      await node.until('it keeps ticking', async () => (await node.status()).ticks > ticks + 5);
      const { head } = (await node.status()).store;
      const askedAtMs = Date.now();
      node.signal(end);
      const status = await node.exited;
      t.comment(`the agent was gone after ${Date.now() - askedAtMs} ms`);
      if (end === 'SIGTERM') t.equal(status, 0);
      if (end === 'SIGTERM') {
        const { gapMs } = await gpus.storedGapMs(SECOND, span);
        t.ok(gapMs <= MOST_MS, `longest gap of the other: ${gapMs.toFixed(1)} ms`);
      }
      const startedAtMs = Date.now();
      await node.start();
      t.ok((await node.status()).store.ok, 'the record goes on where it was');
      t.ok(((await node.status()).store.head.seq ?? 0) > head.seq);
      await gpus.untilState(SECOND, 'serving');
      await gpus.untilQuality(SECOND, 'ok');
      t.comment(`the other GPU was served again ${Date.now() - startedAtMs} ms after the start`);
      await gpus.untilState(FIRST, 'hung');
      t.notOk(isAlive(supervisor), 'who does not answer is in nobody’s way');
      t.strictSame(gpus.workers(FIRST), [hung], 'and no second worker is sent into that driver');
      t.equal(gpus.supervisors().length, 1);
      process.kill(hung, 'SIGCONT');
      await gpus.untilState(FIRST, 'serving');
      await gpus.untilQuality(FIRST, 'ok');
      t.notOk(isAlive(hung));
      t.match(await node.request('audit.verify', {}), { ok: true });
    },
  );
}

t.test('with all of skos-gpu stopped the agent says hung, protects, and can be started again', { skip }, async (t) => {
  const gpus = await gpuNode(t, { journal: true });
  const { node } = gpus;
  await gpus.untilState(FIRST, 'serving');
  for (const address of [FIRST, SECOND]) await gpus.untilQuality(address, 'ok');
  const stopped = [gpus.supervisor(), gpus.worker(FIRST), gpus.worker(SECOND)];
  for (const pid of stopped) process.kill(pid, 'SIGSTOP');
  for (const address of [FIRST, SECOND]) await gpus.untilQuality(address, 'hung');
  t.ok((await gpus.channels(SECOND)).every(({ quality, value }) => quality === 'hung' && value === null));
  const { ticks } = await node.status();
  node.celsius(88);
  await node.until('it protects the CPU', async () => (await node.alerts()).some(({ rule }) => rule === 'thermal-cpu'));
  t.ok((await node.status()).ticks > ticks);
  node.celsius(50);
  await node.kill();
  await node.start();
  for (const address of [FIRST, SECOND]) await gpus.untilState(address, 'hung');
  t.equal((await node.cli('gpu', 'attach', SECOND)).code, 0, 'a second worker, because somebody asked for it');
  await gpus.untilQuality(SECOND, 'ok');
  t.equal((await gpus.view(FIRST))?.state, 'hung');
  for (const pid of stopped.slice(1)) process.kill(pid, 'SIGCONT');
  await gpus.untilQuality(FIRST, 'ok');
  t.notOk(stopped.some(isAlive));
});

t.test('a supervisor that is stopped beside a running agent is told and replaced', { skip }, async (t) => {
  const gpus = await gpuNode(t, { journal: true });
  const { node } = gpus;
  for (const address of [FIRST, SECOND]) await gpus.untilQuality(address, 'ok');
  const stopped = gpus.supervisor();
  process.kill(stopped, 'SIGSTOP');
  await node.stays('readings go on', async () => (await gpus.quality(FIRST)) === 'ok', 1_000);
  await node.until('it is replaced', () => !isAlive(stopped) && gpus.supervisors().length === 1);
  for (const address of [FIRST, SECOND]) {
    await gpus.untilState(address, 'serving');
    await gpus.untilQuality(address, 'ok');
  }
  await node.until('it is told', () => gpus.journal('gpu.silent').length === 1);
  t.equal((await node.cli('gpu', 'detach', FIRST)).code, 0);
});

t.test('what both NVML and the kernel’s log tell is one alert, with the driver’s verdict', { skip }, async (t) => {
  const xids = [64, 79, 95, 154];
  const events = xids.map((xid) => `gpu 0 event xid ${xid} after 1500`);
  const gpus = await gpuNode(t, { journal: true, script: [...TWO_GPUS, 'gpu 0 field.230 2', ...events] });
  const { node } = gpus;
  const found = async () => (await node.alerts()).filter(({ rule }) => rule === 'gpu-xid');
  await node.until('four alerts', async () => (await found()).length === xids.length);
  t.ok(
    (await found()).every(({ message }) => /drain the node and restart it/.test(message)),
    'as field 230 says',
  );
  const lines = [
    `NVRM: Xid (PCI:${FIRST.slice(0, -2)}): 79, pid=1234, name=python, GPU has fallen off the bus.`,
    `NVRM: Xid (PCI:${FIRST.slice(0, -2)}): 64, pid='<unknown>', name=<unknown>, Row Remapper: Failed to remap row.`,
    `NVRM: Xid (PCI:${FIRST.slice(0, -2)}): 95, pid=77, name=python, Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No`,
    `NVRM: Xid (PCI:${FIRST.slice(0, -2)}): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)`,
  ];
  lines.forEach((line, i) => {
    appendFileSync(join(node.machine.dev, 'kmsg'), `4,${i + 1},1000000,-;${line}\n`);
  });
  await node.until('the verdict', async () =>
    (await found()).every(({ message }) => /Node Reboot Required/.test(message)),
  );
  const alerts = await found();
  t.equal(alerts.length, xids.length);
  t.ok(
    alerts.every(({ severity, value }) => severity === 'critical' && value === 1),
    'each is told twice and has happened once',
  );
  t.match(alerts.find(({ channel }) => channel.endsWith('xid-64'))?.message, /remap/);
  t.match(alerts.find(({ channel }) => channel.endsWith('xid-79'))?.message, /fallen off|bus/);
  await sleep(300);
  t.equal(gpus.journal('hardware.event').length, xids.length, 'one entry for each');
  t.equal((await node.audit()).filter(({ kind }) => kind === 'hardware.event').length, xids.length);
});

t.test('a driver that is unloaded and comes back is followed without a hand', { skip }, async (t) => {
  const gpus = await gpuNode(t, { journal: true });
  const { node } = gpus;
  await gpus.untilState(FIRST, 'serving');
  await gpus.untilQuality(FIRST, 'ok');
  const [agent, supervisor] = [node.pid, gpus.supervisor()];
  gpus.script('driver unloaded');
  for (const address of [FIRST, SECOND]) {
    await gpus.untilState(address, 'failed');
    await gpus.untilQuality(address, 'no_data');
    t.ok((await gpus.channels(address)).every(({ quality }) => quality === 'no_data'));
    t.strictSame(gpus.workers(address), [], 'nothing of ours keeps the module');
  }
  await sleep(200);
  gpus.script(...TWO_GPUS);
  for (const address of [FIRST, SECOND]) {
    await gpus.untilState(address, 'serving');
    await gpus.untilQuality(address, 'ok');
  }
  await node.until(
    'it is told',
    () => gpus.journal('gpu.failed').length === 2 && gpus.journal('gpu.serving').length === 4,
  );
  t.strictSame([node.pid, gpus.supervisor()], [agent, supervisor]);
  t.strictSame(
    (await node.alerts()).map(({ rule }) => rule),
    [],
  );
});

t.test('detach closes a GPU until attach, over a restart of the agent, and says who asked', { skip }, async (t) => {
  let log = '';
  const gpus = await gpuNode(t, {
    journal: true,
    env: ({ root }) => {
      log = join(root, 'nvml.log');
      return { SKOS_NVML_LOG: log };
    },
  });
  const { node } = gpus;
  await gpus.untilState(FIRST, 'serving');
  await gpus.untilQuality(FIRST, 'ok');
  const pid = gpus.worker(FIRST);
  const { out, code } = await node.cli('gpu', 'detach', FIRST);
  t.equal(code, 0);
  t.match(out, /let go of/);
  t.notOk(isAlive(pid), 'its process is gone, and every descriptor with it');
  t.strictSame(gpus.workers(FIRST), []);
  t.equal((await gpus.view(FIRST))?.state, 'detached');
  await gpus.untilQuality(FIRST, 'no_data');
  t.ok((await gpus.channels(FIRST)).every(({ quality }) => quality === 'no_data'));
  t.strictSame(await node.alerts(), []);
  const entry = async (kind: string) => (await node.audit()).find((each) => each.kind === kind);
  await node.until('who asked is on record', async () => (await entry('gpu.detach')) !== undefined);
  t.match(await entry('gpu.detach'), { who: process.getuid?.() === 0 ? 'root' : /^uid/, what: { address: FIRST } });
  t.equal(await node.stop(), 0);
  await node.start();
  await gpus.untilState(SECOND, 'serving');
  await gpus.untilState(FIRST, 'detached');
  t.strictSame(gpus.workers(FIRST), [], 'an operator may be resetting it');
  t.equal((await node.cli('gpu', 'attach', FIRST)).code, 0);
  await gpus.untilQuality(FIRST, 'ok');
  await node.until('who asked is on record', async () => (await entry('gpu.attach')) !== undefined);
  t.notOk(gpus.journal('alert.clear').length, 'nothing is said to have recovered');
});

t.test('a GPU that crosses a bound wakes the tick', { skip }, async (t) => {
  const gpus = await gpuNode(t);
  const { node } = gpus;
  await gpus.untilState(FIRST, 'serving');
  await gpus.untilQuality(FIRST, 'ok');
  const raisedAtMs = async () =>
    (await standing(gpus, gpus.idOf(FIRST, 'temperature')))?.sinceAtMs ?? Number.POSITIVE_INFINITY;
  // By itself the tick comes once a minute now.
  node.configure({ monitor: { interval: 60 } });
  t.ok((await node.request('reload', {})).changed.length > 0);
  await sleep(300);
  const { ticks } = await node.status();
  await sleep(300);
  t.equal((await node.status()).ticks, ticks, 'no tick comes without a reason');
  const hotAtMs = Date.now();
  gpus.also('gpu 0 temperature 91');
  await node.until('the alert', async () => (await raisedAtMs()) < Number.POSITIVE_INFINITY, 5_000);
  const tookMs = (await raisedAtMs()) - hotAtMs;
  t.comment(`the alert stood after ${tookMs} ms, with 2 samples of ${PERIOD_MS} ms to go by`);
  // Two samples must agree, and the first may come a period after the change.
  t.ok(tookMs <= 5 * PERIOD_MS, `after ${tookMs} ms`);
});

t.test(
  'a ladder keeps its rung while its GPU hangs or is let go of, and leaves it when the GPU is cool',
  { skip },
  async (t) => {
    const gpus = await gpuNode(t, { journal: true, keepSeconds: 0.5 });
    const { node } = gpus;
    await gpus.untilState(FIRST, 'serving');
    gpus.also('gpu 0 temperature 91');
    const id = gpus.idOf(FIRST, 'temperature');
    const severity = async () => (await standing(gpus, id))?.severity;
    await node.until('emergency', async () => (await severity()) === 'emergency');
    const pid = gpus.worker(FIRST);
    process.kill(pid, 'SIGSTOP');
    // Cool, but nobody can see it.
    gpus.also();
    await node.until('the verdict hung', async () => (await standing(gpus, id))?.verdict === 'hung');
    await node.stays('the rung', async () => (await severity()) === 'emergency', 1_500);
    gpus.also('gpu 0 temperature 91');
    process.kill(pid, 'SIGCONT');
    await gpus.untilQuality(FIRST, 'ok');
    t.equal((await node.cli('gpu', 'detach', FIRST)).code, 0);
    gpus.also();
    await node.until('the verdict no_data', async () => (await standing(gpus, id))?.verdict === 'no_data');
    await node.stays('the rung', async () => (await severity()) === 'emergency', 1_500);
    t.equal(gpus.journal('alert.clear').length + gpus.journal('alert.recover').length, 0, 'no false recovery');
    t.equal((await node.cli('gpu', 'attach', FIRST)).code, 0);
    await node.until('it is over', async () => (await severity()) === undefined);
    await node.until('and told', () => gpus.journal('alert.clear').some(({ SKOS_CHANNEL }) => SKOS_CHANNEL === id));
  },
);
