/**
 * What a node costs: CPU and memory of all its programs with 64 sensors at 10 Hz that change, store, broker and two peers,
 * after --minutes N (10 by default), and the time from the start to the first protected tick.
 */
import { report } from './lib/figures.mjs';
import { cpuMs, freePort, memoryMb, percentile, sleep, startNode } from './lib/node.mjs';

const SENSORS = 64;
const NODES = ['nova', 'lyra', 'athena'];
const STARTS = 7;
const SETTLE_MS = 15_000; // The start itself is measured apart.
const CHANGE_EVERY_MS = 250;

const minutes = Number(process.argv[process.argv.indexOf('--minutes') + 1]) || 10;
const nodeMajor = Number(process.versions.node.split('.')[0]);
const pssLimitMb = nodeMajor >= 24 ? 105 : 80;

function populate(machine) {
  machine.addCpufreq({ policies: [[0], [1]], maxKHz: 3_000_000, minKHz: 800_000 });
  for (let chip = 0; chip < SENSORS / 8; chip++) {
    const files = {};
    for (let i = 1; i <= 8; i++) files[`temp${i}_input`] = 40_000 + i * 100;
    machine.addHwmon({ name: `chip${chip}`, files, device: `devices/platform/chip.${chip}`, driver: 'chip' });
  }
}

async function startOnce() {
  const node = await startNode({ name: 'nova', port: await freePort(), populate, config: 'mode: auto\n' });
  await node.stop();
  return node.startMs;
}

const starts = [];
for (let i = 0; i < STARTS; i++) starts.push(await startOnce());

const ports = Object.fromEntries(await Promise.all(NODES.map(async (name) => [name, await freePort()])));
const nodes = [];
for (const name of NODES) {
  const peers = NODES.filter((other) => other !== name).map(
    (other) => `    ${other}: { url: "mqtt://127.0.0.1:${ports[other]}" }`,
  );
  nodes.push(
    await startNode({
      name,
      port: ports[name],
      populate,
      config: `mode: auto\nmesh:\n  peers:\n${peers.join('\n')}\n`,
    }),
  );
}
const node = nodes[0];
let turn = 0;
const changing = setInterval(() => {
  turn += 1;
  for (let chip = 0; chip < SENSORS / 8; chip++) {
    node.machine.set(
      `devices/platform/chip.${chip}/hwmon/hwmon${chip}/temp${1 + (turn % 8)}_input`,
      40_000 + ((turn * 37) % 200) * 100,
    );
  }
}, CHANGE_EVERY_MS);

await sleep(SETTLE_MS);
const before = new Map(node.programs().map(({ name, pid }) => [name, cpuMs(pid)]));
const measuredMs = minutes * 60_000 - SETTLE_MS;
await sleep(measuredMs);
const cpuNow = new Map(node.programs().map(({ name, pid }) => [name, cpuMs(pid)]));
// The peers' programs share their pages with the measured ones, which on a node of its own nobody does.
for (const peer of nodes.slice(1)) await peer.stop();
const figures = [];
let cpuTotal = 0;
let pssTotal = 0;
for (const { name, pid } of node.programs()) {
  const cpuPerMinute = (((cpuNow.get(name) ?? 0) - (before.get(name) ?? 0)) * 60_000) / measuredMs;
  const pss = memoryMb(pid, 'Pss');
  cpuTotal += cpuPerMinute;
  pssTotal += pss;
  figures.push({ name: `${name}: CPU`, value: cpuPerMinute, unit: 'ms/min', limit: null });
  figures.push({ name: `${name}: PSS`, value: pss, unit: 'MB', limit: null });
  if (name === 'skos-actuator')
    figures.push({ name: 'skos-actuator: RSS', value: memoryMb(pid, 'Rss'), unit: 'MB', limit: 3 });
}
clearInterval(changing);
await node.stop();

const within = report(
  `footprint: ${SENSORS} sensors at 10 Hz, store, broker, 2 peers, after ${minutes} min, Node ${nodeMajor}`,
  [
    ...figures,
    { name: 'all programs: CPU', value: cpuTotal, unit: 'ms/min', limit: 600 },
    { name: 'all programs: PSS', value: pssTotal, unit: 'MB', limit: pssLimitMb },
    { name: 'start to first protected tick, median', value: percentile(starts, 0.5), unit: 'ms', limit: 400 },
  ],
);
process.exit(within ? 0 : 1);
