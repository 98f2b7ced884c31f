/**
 * A real skos-gpu, one worker a GPU, over a scripted NVML (native/test/nvml_double.c): for benchmarks. Its regions are read as the
 * agent reads them, by the addon, over the protocol of native/gpu/README.md. Needs build/ts and the programs of a native build.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { GpuMachine } from '../../../build/ts/test/fixtures/skos-gpu.js';
import { sleep } from './node.mjs';

/** What makes 25 channels: 7 at the sampling rate, 8 at 1 Hz, 10 at 0.1 Hz, as on a card for computing. */
const KEYS = [
  'temperature 45',
  'threshold.0 92',
  'threshold.1 89',
  'threshold.3 87',
  'margin 42',
  'field.82 52',
  'field.185 118000',
  'field.186 121000',
  'power 120000',
  'reasons 0x1',
  'clock.1 1755',
  'clock.2 2619',
  'utilization.gpu 63',
  'utilization.memory 21',
  'memory.total 85899345920',
  'memory.reserved 642580480',
  'memory.used 12884901888',
  'memory.free 72371863552',
  'energy 123456789',
  'pstate 0',
  'power_limit 700000',
  'power_limit.min 200000',
  'power_limit.max 700000',
  'field.3 4',
  'field.4 0',
  'field.94 2',
  'field.230 0',
  'event_types 65439',
];

/** The agent's default. */
const DEADLINE_MS = 1000;

export const addressOf = (gpu) => `0000:${(0x10 + gpu).toString(16)}:00.0`;

function scriptFor(count, keys) {
  const lines = ['driver 570.86.15'];
  for (let gpu = 0; gpu < count; gpu++) {
    lines.push(
      `gpu ${gpu} pci ${addressOf(gpu)}`,
      `gpu ${gpu} uuid GPU-00000000-0000-4000-8000-${String(gpu).padStart(12, '0')}`,
    );
    lines.push(`gpu ${gpu} name NVIDIA H100 80GB HBM3`, ...keys.map((key) => `gpu ${gpu} ${key}`));
  }
  return lines;
}

export async function startGpus({ count, addon, keys = KEYS }) {
  const addresses = Array.from({ length: count }, (_, gpu) => addressOf(gpu));
  const machine = new GpuMachine({ onBus: addresses, script: scriptFor(count, keys), deadlineMs: DEADLINE_MS });
  const regions = new Map();
  const program = await machine.start();
  const socket = addon.createSeqPacket((packet, fd) => {
    const message = packet === null ? {} : JSON.parse(packet);
    if (fd >= 0) regions.set(message.address, addon.openRegion(fd));
  });
  for (let tries = 0; socket.connect(machine.socket) !== 0 && tries < 100; tries++) await sleep(20);
  socket.send('1 hello 1');
  for (let tries = 0; regions.size < count && tries < 500; tries++) await sleep(20);
  const workers = addresses.flatMap((address) => machine.workers(address));
  return {
    regions,
    workers,
    pids: [program.pid, ...workers],
    said: () => machine.said,
    async stop() {
      for (const region of regions.values()) region.close();
      socket.close();
      await machine.stop();
    },
  };
}

/** CPU nanoseconds of all threads of a process, as the scheduler accounts them; finer than the ticks of /proc/PID/stat. */
export function processCpuNs(pid) {
  let sum = 0;
  for (const task of readdirSync(`/proc/${pid}/task`))
    sum += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
  return sum;
}
