/**
 * How fast the loop breaker answers: from the publish of a step to its verdict, through the real broker, at 1,000 steps a second.
 *
 * One client reports the steps of 50 chains, as one workload's library would, and hears their verdicts on the same connection, with
 * QoS 1 both ways. What is measured includes this client: the limit is for what a workload waits. A thousandth of the steps is
 * too deep, so that chains are held, told to the agent and answered as held meanwhile. How late this process's own timers are in the
 * same run says how busy the machine is with other things: a verdict cannot come sooner than a process gets the processor.
 */
import { join } from 'node:path';
import { AgentClient } from '../../build/ts/src/core/agent-client.js';
import { systemClock } from '../../build/ts/src/core/clock.js';
import { MqttClient } from '../../build/ts/src/mesh/mqtt-client.js';
import { report } from './lib/figures.mjs';
import { cpuMs, freePort, percentile, sleep, startNode } from './lib/node.mjs';

const STEPS_PER_SECOND = 1_000;
const SECONDS = 20;
const CHAINS = 50;
const EVERY_MS = 5;
/** V8 has compiled what is measured by then. */
const WARM_UP_SECONDS = 3;
const TOO_DEEP_EVERY = 1_000;

const CONFIG = `mode: auto
loop: { max_iterations: 1000000000 }
gpu: { mode: "off" }
`;

const port = await freePort();
const node = await startNode({
  name: 'nova',
  port,
  config: CONFIG,
  populate: (machine) => machine.addZone({ type: 'x86_pkg_temp', milliCelsius: 50_000 }),
});
const sentMs = new Map();
const latenciesMs = [];
const latenessMs = [];
let broken = 0;
let answered = 0;

function verdict(_topic, payload) {
  const { chain_id: chain, iteration, verdict: said } = JSON.parse(payload.toString());
  const key = `${chain} ${iteration}`;
  const startMs = sentMs.get(key);
  if (startMs === undefined) return;
  sentMs.delete(key);
  latenciesMs.push(performance.now() - startMs);
  answered += 1;
  if (said === 'circuit_break') broken += 1;
}

async function connected(token) {
  for (;;) {
    const client = new MqttClient({
      url: { tls: false, host: '127.0.0.1', port },
      clientId: 'bench',
      username: 'bench',
      password: token,
      tls: {},
      clock: systemClock,
      onMessage: verdict,
      onEnd: () => undefined,
    });
    try {
      await client.connect();
      return client;
    } catch {
      await sleep(200); // The broker listens a moment after the agent is ready.
    }
  }
}

async function steps(client) {
  let count = 0;
  const startMs = performance.now();
  while (performance.now() - startMs < SECONDS * 1000) {
    const due = ((performance.now() - startMs) / 1000) * STEPS_PER_SECOND;
    for (; count < due; count++) {
      const chain = `chain-${count % CHAINS}`;
      const iteration = Math.floor(count / CHAINS) + 1;
      const depth = count % TOO_DEEP_EVERY === TOO_DEEP_EVERY - 1 ? 11 : 1;
      const step = { v: 1, chain_id: chain, iteration, depth, state: `s${count}`, timestamp: new Date().toISOString() };
      sentMs.set(`${chain} ${iteration}`, performance.now());
      client
        .publish({ topic: `skos/chain/nova/${chain}`, payload: JSON.stringify(step), qos: 1, retain: false })
        .catch(() => undefined);
    }
    const sleptMs = performance.now();
    await sleep(EVERY_MS);
    latenessMs.push(performance.now() - sleptMs - EVERY_MS);
    if (performance.now() - startMs < WARM_UP_SECONDS * 1000) latenciesMs.length = 0;
  }
  await sleep(500);
  return count;
}

let within = false;
try {
  const agent = new AgentClient();
  await agent.connect(join(node.root, 'run', 'agent.sock'));
  const { token } = await agent.request('token.add', { name: 'bench', role: 'chain' });
  const client = await connected(token);
  await client.subscribe(['skos/chain/nova/+/verdict'], 1);
  const programs = node.programs();
  const cpuOf = (name) => cpuMs(programs.find((each) => each.name === name).pid);
  const before = { net: cpuOf('skos-net'), agent: cpuOf('skos-agent') };
  const count = await steps(client);
  const perCent = (name, since) => ((cpuOf(name) - since) / (SECONDS * 1000)) * 100;
  const net = perCent('skos-net', before.net);
  const own = perCent('skos-agent', before.agent);
  await client.end({ goodbye: true });
  agent.close();
  within = report(`chain: ${count} steps of ${CHAINS} chains at ${STEPS_PER_SECOND}/s, ${broken} told circuit_break`, [
    { name: 'step to verdict, p50', value: percentile(latenciesMs, 0.5), unit: 'ms', limit: null },
    { name: 'step to verdict, p99', value: percentile(latenciesMs, 0.99), unit: 'ms', limit: 5 },
    { name: 'step to verdict, max', value: Math.max(...latenciesMs), unit: 'ms', limit: null },
    { name: 'timers of this process late by, p99', value: percentile(latenessMs, 0.99), unit: 'ms', limit: null },
    { name: 'steps without a verdict', value: count - answered, unit: '', limit: 0 },
    { name: 'CPU of skos-net', value: net, unit: '% of a core', limit: null },
    { name: 'CPU of skos-agent', value: own, unit: '% of a core', limit: null },
  ]);
} finally {
  await node.stop();
}
process.exit(within ? 0 : 1);
