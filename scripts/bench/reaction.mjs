/**
 * How fast a node reacts: a temperature crosses a bound, a cap stands in the device. By policy, through the agent, with
 * subscribers on its broker; and by standing order, through the actuator alone, with every core busy.
 *
 * The policy figure is taken from outside, from the change of the sensor's file to the change of scaling_max_freq, at a
 * sampling rate of 1 kHz and two samples for `for`: so it holds up to 2 ms of sampling besides what the limit is for. The
 * standing order's figure is the actuator's own: from the time stamp of the sample to the end of the write.
 */
import { spawn } from 'node:child_process';
import { watch } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { ActuatorClient } from '../../build/ts/src/actuators/actuator-client.js';
import { systemClock } from '../../build/ts/src/core/clock.js';
import { packetConnector } from '../../build/ts/test/fixtures/actuator.js';
import { report } from './lib/figures.mjs';
import { freePort, percentile, sleep, startNode } from './lib/node.mjs';

/** A rule that fires more often within ten minutes is flapping and holds its cap: so many sensors take turns. */
const SENSORS = 40;
const FIRINGS = 4;
const ORDER_ROUNDS = 500;
const SUBSCRIBERS = 20;
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

async function policyReactions(node) {
  const durationsMs = [];
  for (let i = 0; i < SENSORS * FIRINGS; i++) {
    const temp = temperature(i % SENSORS);
    const capped = changed(node, `${POLICY}/scaling_max_freq`, FULL_KHZ);
    const startMs = performance.now();
    node.machine.set(temp, 80_000);
    durationsMs.push((await capped) - startMs);
    node.machine.set(temp, 50_000);
    while (node.machine.get(`${POLICY}/scaling_max_freq`) !== FULL_KHZ) await sleep(5);
    await sleep(20);
  }
  return durationsMs;
}

async function orderReactions(node) {
  node.child.kill('SIGSTOP');
  const hogs = Array.from({ length: availableParallelism() + 1 }, () =>
    spawn('sh', ['-c', 'while :; do :; done'], { detached: true }),
  );
  try {
    for (let i = 0; i < ORDER_ROUNDS; i++) {
      node.machine.set(temperature(0), 97_000);
      await sleep(15);
      node.machine.set(temperature(0), 50_000);
      await sleep(15);
    }
  } finally {
    for (const hog of hogs) process.kill(-hog.pid, 'SIGKILL');
  }
  // An actuator of its own leaves when no agent is there and nothing is hot; it must stay to be asked.
  node.machine.set(temperature(0), 97_000);
  await sleep(100);
  node.child.kill('SIGKILL');
  await sleep(100);
  const latencies = await latenciesUs(node);
  node.machine.set(temperature(0), 50_000);
  return latencies;
}

async function latenciesUs(node) {
  const socket = join(node.root, 'run', 'actuator.sock');
  const client = new ActuatorClient({
    path: socket,
    connect: packetConnector(),
    clock: systemClock,
    onLost: () => undefined,
  });
  await client.start();
  const latencies = [];
  for (let after = 0, events = await client.events(0); events.length > 0; events = await client.events(after)) {
    for (const { seq, kind, detail } of events) {
      after = seq;
      const latency = /order_us=(\d+)/.exec(detail)?.[1];
      if (kind === 'applied' && latency !== undefined) latencies.push(Number(latency));
    }
  }
  client.stop();
  return latencies;
}

const port = await freePort();
const node = await startNode({ name: 'nova', port, populate, config: CONFIG });
const subscribers = Array.from({ length: SUBSCRIBERS }, () =>
  spawn('mosquitto_sub', ['-h', '127.0.0.1', '-p', String(port), '-t', 'skos/#'], { stdio: 'ignore' }),
);
let policy;
let order;
try {
  await sleep(1_000);
  policy = await policyReactions(node);
  order = await orderReactions(node);
} finally {
  for (const subscriber of subscribers) subscriber.kill();
  for (const { pid } of node.programs().filter(({ name }) => name !== 'skos-agent')) process.kill(pid, 'SIGTERM');
}
const within = report(
  `reaction: ${policy.length} crossings by policy with ${SUBSCRIBERS} subscribers, ${order.length} by standing order with every core busy`,
  [
    { name: 'crossing to write by policy, p50', value: percentile(policy, 0.5), unit: 'ms', limit: null },
    { name: 'crossing to write by policy, p99', value: percentile(policy, 0.99), unit: 'ms', limit: 20 },
    { name: 'sample to write by standing order, p50', value: percentile(order, 0.5) / 1000, unit: 'ms', limit: null },
    { name: 'sample to write by standing order, p99', value: percentile(order, 0.99) / 1000, unit: 'ms', limit: 0.2 },
  ],
);
process.exit(within ? 0 : 1);
