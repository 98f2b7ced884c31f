/**
 * How fast a node reacts: a temperature crosses a bound, a cap stands in the device. By policy, through the agent, while its
 * broker carries 10,000 messages a second (lib/mqtt-load.mjs, counted where they arrive); and by standing order, through the actuator alone: with the agent idle, with the agent stopped, and
 * with every core busy besides. Beside them a polling loop of a shell, as people run today.
 *
 * The policy figure is taken from outside, from the change of the sensor's file to the change of scaling_max_freq, at a
 * sampling rate of 1 kHz and two samples for `for`: so it holds up to 2 ms of sampling besides what the limit is for. The
 * standing order's figure is the actuator's own: from the time stamp of the sample to the end of the write. On a GPU that is to the end
 * of the read-back, through a setter and a scripted NVML, which answers at once: a real driver's milliseconds come on top.
 *
 * As root, programs get the share of the processor that they have when installed (AS_INSTALLED). How long the agent waited for
 * a processor stands beside the figure: on a machine that is busy with other things, that is the most of it.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, watch, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { ActuatorClient } from '../../build/ts/src/actuators/actuator-client.js';
import { systemClock } from '../../build/ts/src/core/clock.js';
import { packetConnector, startActuator } from '../../build/ts/test/fixtures/actuator.js';
import { fakeMachineAt } from '../../build/ts/test/fixtures/fake-sysfs.js';
import { startedSetters } from '../../build/ts/test/fixtures/gpu-setters.js';
import { FIRST, gpuMachine, SECOND, skipped, TWO_GPUS } from '../../build/ts/test/fixtures/skos-gpu.js';
import { report } from './lib/figures.mjs';
import { loadPlace, startLoad } from './lib/mqtt-load.mjs';
import { freePort, percentile, setNiceness, sleep, startNode, waitedMs } from './lib/node.mjs';

const WHEN = { idle: 'agent idle', stopped: 'agent stopped', busy: 'agent stopped, every core busy' };
/** A rule that fires more often within ten minutes is flapping and holds its cap: so many sensors take turns. */
const SENSORS = 64;
const FIRINGS = 4;
/** Of each of the three; the actuator's log has 1,024 entries, of which a round takes four. */
const ORDER_ROUNDS = 80;
const GPU_ROUNDS = 40;
/** As people run today: a loop of a shell that reads every sensor and writes a limit. */
const POLLING_S = 5;
const POLLED = 40;
const MESSAGES_PER_SECOND = 10_000;
const SUBSCRIBERS = 20;
/** Of the peer, to each subscriber; the node's own messages come on top, and a busy second carries less than an idle one. */
const PEER_PER_SECOND = 650;
/**
 * A step of niceness is a factor of 1.25: skos.slice has ten times the weight of what else runs, and in it skos-agent comes
 * before skos-net. The load is not to be what is short of a processor, and what measures must not be late itself.
 */
const AS_INSTALLED = { 'skos-agent': -10, 'skos-net': -5 };
const LOAD_NICENESS = -5;
const OWN_NICENESS = -15;
const POLICY = 'devices/system/cpu/cpufreq/policy0';
const temperature = (sensor) => `devices/virtual/thermal/thermal_zone${sensor}/temp`;
const FULL_KHZ = '3000000';

const CONFIG = `mode: auto
sampling: { rate_hz: 1000 }
thermal:
  thresholds: { warning: 75, critical: 85, emergency: 95 }
  actions: { warning: [throttle_10], critical: [], emergency: [] }
  keep: 0
`;

function populate(machine) {
  machine.addCpufreq({ policies: [[0, 1]], maxKHz: Number(FULL_KHZ), minKHz: 800_000 });
  for (let i = 0; i < SENSORS; i++) machine.addZone({ type: 'x86_pkg_temp', milliCelsius: 50_000 });
}

/** Resolves when the file holds another value than `former`; inotify, so that nothing is burnt while waiting. */
function changed(node, path, former) {
  return new Promise((resolve, reject) => {
    const watcher = watch(join(node.machine.sysfs, path), () => {
      const value = node.machine.get(path);
      if (value === former || value === '') return;
      clearTimeout(deadline);
      watcher.close();
      resolve(performance.now());
    });
    const deadline = setTimeout(() => {
      watcher.close();
      reject(new Error(`no reaction: ${node.log().slice(-2000)}`));
    }, 10_000);
  });
}

/** Milliseconds from crossing to write, and of these how long the agent waited for a processor. */
async function policyReactions(node) {
  const agent = node.child.pid;
  const durationsMs = [];
  const waitsMs = [];
  for (let i = 0; i < SENSORS * FIRINGS; i++) {
    const temp = temperature(i % SENSORS);
    const capped = changed(node, `${POLICY}/scaling_max_freq`, FULL_KHZ);
    const waited = waitedMs(agent);
    const startMs = performance.now();
    node.machine.set(temp, 80_000);
    durationsMs.push((await capped) - startMs);
    waitsMs.push(waitedMs(agent) - waited);
    node.machine.set(temp, 50_000);
    while (node.machine.get(`${POLICY}/scaling_max_freq`) !== FULL_KHZ) await sleep(5);
    await sleep(20);
  }
  return { durationsMs, waitsMs };
}

async function orderRounds(node, rounds) {
  for (let i = 0; i < rounds; i++) {
    node.machine.set(temperature(0), 97_000);
    await sleep(15);
    node.machine.set(temperature(0), 50_000);
    await sleep(15);
  }
}

async function withEveryCoreBusy(work) {
  const hogs = Array.from({ length: availableParallelism() + 1 }, () =>
    spawn('sh', ['-c', 'while :; do :; done'], { detached: true }),
  );
  try {
    await work();
  } finally {
    for (const hog of hogs) process.kill(-hog.pid, 'SIGKILL');
  }
}

/** Microseconds, by what the agent and the machine did meanwhile. */
async function orderReactions(node) {
  const idleMs = Date.now();
  await orderRounds(node, ORDER_ROUNDS);
  await sleep(500);
  node.child.kill('SIGSTOP');
  const stoppedMs = Date.now();
  await orderRounds(node, ORDER_ROUNDS);
  const busyMs = Date.now();
  await withEveryCoreBusy(() => orderRounds(node, ORDER_ROUNDS));
  // An actuator of its own leaves when no agent is there and nothing is hot; it must stay to be asked.
  node.machine.set(temperature(0), 97_000);
  await sleep(100);
  node.child.kill('SIGKILL');
  await sleep(100);
  const all = await latenciesUs(node);
  node.machine.set(temperature(0), 50_000);
  const between = (fromMs, toMs) => all.filter(({ atMs }) => atMs >= fromMs && atMs < toMs).map(({ us }) => us);
  return { idle: between(idleMs, stoppedMs), stopped: between(stoppedMs, busyMs), busy: between(busyMs, Infinity) };
}

/** Its one connection is free when it has noticed that the agent is gone. */
async function connected(path) {
  for (let attempt = 1; ; attempt++) {
    const options = { path, connect: packetConnector(), clock: systemClock, onLost: () => undefined };
    const client = new ActuatorClient(options);
    try {
      await client.start();
      return client;
    } catch (error) {
      client.stop();
      if (attempt === 50) throw error;
      await sleep(100);
    }
  }
}

async function latenciesUs(node) {
  const client = await connected(join(node.root, 'run', 'actuator.sock'));
  const latencies = await latenciesOf(client);
  client.stop();
  return latencies;
}

/** Of the actuator's log. */
async function latenciesOf(client) {
  const latencies = [];
  for (let after = 0, events = await client.events(0); events.length > 0; events = await client.events(after)) {
    for (const { seq, kind, detail, atMs } of events) {
      after = seq;
      const latency = /order_us=(\d+)/.exec(detail)?.[1];
      if (kind === 'applied' && latency !== undefined) latencies.push({ us: Number(latency), atMs });
    }
  }
  return latencies;
}

/** Microseconds from the sample of a hot GPU to its cap, by standing order. None where the scripted NVML is not built. */
async function gpuOrderReactions() {
  if (skipped !== false) return [];
  const ends = [];
  const until = { teardown: (end) => ends.unshift(end) };
  try {
    const cool = [...TWO_GPUS, 'gpu 0 temperature 60', 'gpu 1 temperature 60'];
    const directory = mkdtempSync(join(tmpdir(), 'skos-'));
    ends.push(() => rmSync(directory, { recursive: true, force: true }));
    const machine = fakeMachineAt(directory);
    const gpus = await gpuMachine(until, { script: cool });
    const files = { script: gpus.scriptFile, state: join(machine.root, 'set') };
    const setters = await startedSetters(until, { sysfs: gpus.sysfs, ...files });
    const items = [FIRST, SECOND].flatMap((gpu) => [
      `target gpu/${gpu} nvml_power ${gpu} floor_ppm=300000`,
      `order ${gpu} gpu=${gpu} channel=temperature raise=90000 clear=85000 samples=1 rate_mhz=10000 cap_ppm=500000 targets=gpu/${gpu}`,
    ]);
    const args = ['--gpu', gpus.socket, '--setter', setters.socket];
    const actuator = await startActuator(until, machine, { items, args });
    const client = await actuator.client();
    const isReady = async () => (await client.orders()).every(({ quality }) => quality === 'ok');
    while (!(await isReady())) await sleep(20);
    await sleep(2_000);
    for (let i = 0; i < GPU_ROUNDS; i++) {
      for (const [script, state] of [
        [[...cool, 'gpu 0 temperature 95'], 'held'],
        [cool, 'idle'],
      ]) {
        gpus.script(script);
        while ((await client.targets())[0].state !== state) await sleep(10);
      }
    }
    gpus.workers(FIRST);
    gpus.workers(SECOND);
    return await latenciesOf(client);
  } finally {
    for (const end of ends) await end();
  }
}

/** Milliseconds from crossing to write of a polling loop, over sensors that cross at any moment of its round. */
async function pollingReactions() {
  const directory = mkdtempSync(join(tmpdir(), 'skos-poll-'));
  const script = `while :; do
    for i in $(seq 0 ${POLLED - 1}); do
      read -r t <$i.temp && if [ "$t" -gt 75000 ] && [ ! -e $i.cap ]; then echo 1 >$i.cap; fi
    done
    sleep ${POLLING_S}
  done`;
  for (let i = 0; i < POLLED; i++) writeFileSync(join(directory, `${i}.temp`), '50000\n');
  const loop = spawn('sh', ['-c', script], { cwd: directory, detached: true, stdio: 'ignore' });
  try {
    return await Promise.all(
      Array.from({ length: POLLED }, async (_, i) => {
        await sleep(500 + (i * POLLING_S * 1000) / POLLED);
        writeFileSync(join(directory, `${i}.temp`), '80000\n');
        const startMs = performance.now();
        while (!existsSync(join(directory, `${i}.cap`))) await sleep(5);
        return performance.now() - startMs;
      }),
    );
  } finally {
    process.kill(-loop.pid, 'SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}

const port = await freePort();
const { peerPort, config: meshConfig } = await loadPlace();
const node = await startNode({ name: 'nova', port, populate, config: CONFIG + meshConfig });
const load = startLoad({ broker: port, peerPort, subscribers: SUBSCRIBERS, perSecond: PEER_PER_SECOND });
setNiceness(process.pid, OWN_NICENESS);
setNiceness(load.pid, LOAD_NICENESS);
for (const { name, pid } of node.programs()) if (name in AS_INSTALLED) setNiceness(pid, AS_INSTALLED[name]);
let policy;
let order;
let carried;
try {
  await load.ready();
  const fromMs = performance.now();
  policy = await policyReactions(node);
  carried = load.between(fromMs, performance.now() - 1_000);
  load.stop();
  setNiceness(process.pid, 0); // What it starts from here on is ordinary work.
  order = await orderReactions(node);
} finally {
  load.stop();
  for (const { pid } of node.programs().filter(({ name }) => name !== 'skos-agent')) process.kill(pid, 'SIGTERM');
}
const { durationsMs, waitsMs } = policy;
const meanCarried = carried.reduce((sum, count) => sum + count, 0) / carried.length;
const polling = await pollingReactions();
const gpuUs = (await gpuOrderReactions()).map(({ us }) => us);
const gpuFigures =
  gpuUs.length === 0
    ? []
    : [0.5, 0.99].map((share) => ({
        name: `sample to read-back by standing order on a GPU, p${share * 100}`,
        value: percentile(gpuUs, share) / 1000,
        unit: 'ms',
        limit: null,
      }));
const orderFigures = Object.entries(order).flatMap(([when, us]) => [
  {
    name: `sample to write by standing order, ${WHEN[when]}, p50`,
    value: percentile(us, 0.5) / 1000,
    unit: 'ms',
    limit: null,
  },
  {
    name: `sample to write by standing order, ${WHEN[when]}, p99`,
    value: percentile(us, 0.99) / 1000,
    unit: 'ms',
    limit: 0.2,
  },
  {
    name: `sample to write by standing order, ${WHEN[when]}, max`,
    value: Math.max(...us) / 1000,
    unit: 'ms',
    limit: null,
  },
]);
const within = report(
  `reaction: ${durationsMs.length} crossings by policy with ${SUBSCRIBERS} subscribers, ${Object.values(order)
    .map(({ length }) => length)
    .join(', ')} by standing order, ${polling.length} by a polling loop`,
  [
    { name: 'crossing to write by policy, p50', value: percentile(durationsMs, 0.5), unit: 'ms', limit: null },
    { name: 'crossing to write by policy, p99', value: percentile(durationsMs, 0.99), unit: 'ms', limit: 20 },
    { name: 'crossing to write by policy, max', value: Math.max(...durationsMs), unit: 'ms', limit: null },
    {
      name: 'wait of the agent for a processor in a crossing, p99',
      value: percentile(waitsMs, 0.99),
      unit: 'ms',
      limit: null,
    },
    { name: 'messages delivered meanwhile, mean', value: meanCarried, unit: '1/s', limit: null },
    { name: 'messages delivered meanwhile, least in a second', value: Math.min(...carried), unit: '1/s', limit: null },
    {
      name: `messages delivered short of ${MESSAGES_PER_SECOND}/s`,
      value: Math.max(0, MESSAGES_PER_SECOND - meanCarried),
      unit: '1/s',
      limit: 0,
    },
    { name: 'subscribers that the broker gave up', value: load.lost(), unit: '', limit: 0 },
    ...orderFigures,
    ...gpuFigures,
    {
      name: `crossing to write by a loop of ${POLLING_S} s, p50`,
      value: percentile(polling, 0.5),
      unit: 'ms',
      limit: null,
    },
    {
      name: `crossing to write by a loop of ${POLLING_S} s, p99`,
      value: percentile(polling, 0.99),
      unit: 'ms',
      limit: null,
    },
  ],
);
rmSync(node.root, { recursive: true, force: true });
process.exit(within ? 0 : 1);
