/** GPU memory by workload: who is counted, and when nothing may be said. */
import t, { type Test } from 'tap';
import type { Reading } from '../../src/core/channel.js';
import type { GpuProcess, Gpus, GpuView } from '../../src/core/ports.js';
import { FileTree } from '../../src/sensors/tree.js';
import { workloadGpuChannels, workloadGpuFeed } from '../../src/sensors/workload-gpu.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';
import { until } from '../fixtures/until.js';

const UNITS = { train: 'train.service', 'train-2': 'train-2.service' };

function process(pid: number, memoryBytes: number | null): GpuProcess {
  return { pid, name: 'python3', memoryBytes, type: 'compute' };
}

function gpu(processes: readonly GpuProcess[], state: GpuView['state'] = 'serving'): GpuView {
  const details = { processes, mig: [], persistenceMode: null, migMode: null, eccMode: null };
  return { address: 'x', source: 'nvml', state, why: '', sinceAtMs: 0, device: 'x', info: {}, details };
}

/** Readings of [train, train-2] after one look at these GPUs. */
async function look(t: Test, views: readonly GpuView[], connected = true): Promise<Reading[]> {
  const machine = fakeMachine(t);
  const groups: Record<number, string> = {
    10: '0::/system.slice/train.service',
    11: '12:cpu,cpuacct:/\n1:name=systemd:/system.slice/train.service/worker',
    20: '0::/system.slice/train-2.service',
    30: '0::/user.slice/not-train.service',
  };
  for (const [pid, text] of Object.entries(groups)) machine.setProc(`${pid}/cgroup`, `${text}\n`);
  const gpus = { status: () => ({ connected, why: '', libraries: [], gpus: views }) } as unknown as Gpus;
  const channels = workloadGpuChannels(UNITS, gpus);
  const clock = { monotonicMs: () => 5, wallMs: () => 0 };
  const feed = workloadGpuFeed({ channels, gpus, proc: new FileTree(machine.proc), clock });
  t.teardown(() => feed.stop());
  feed.start();
  const seen: number[] = [];
  await until(() => {
    feed.drain((i) => seen.push(i));
    return seen.length === channels.length;
  });
  return channels.map((_, i) => feed.latest(i));
}

t.test('sums what the processes of a unit use on all GPUs, and of no other unit', async (t) => {
  const first = gpu([process(10, 100), process(20, 7), process(30, 1000)]);
  const readings = await look(t, [first, gpu([process(10, 20), process(11, 3), process(99, 5)])]);
  t.match(readings, [
    { value: 123, quality: 'ok' },
    { value: 7, quality: 'ok' },
  ]);
});

t.test('a GPU without processes, one that was let go of and one that left are no use of memory', async (t) => {
  t.match(await look(t, [gpu([]), gpu([process(10, 5)], 'detached'), gpu([], 'gone')]), [{ value: 0 }, { value: 0 }]);
});

t.test('says nothing while a GPU hangs, was not looked at yet, or nobody is there to ask', async (t) => {
  const unknown = [{ quality: 'no_data' }, { quality: 'no_data' }];
  t.match(await look(t, [gpu([process(10, 5)]), gpu([], 'hung')]), unknown);
  t.match(await look(t, [{ ...gpu([]), details: null }]), unknown);
  t.match(await look(t, [gpu([process(10, 5)])], false), unknown);
});

t.test('says nothing of a workload with a process whose memory the driver does not tell', async (t) => {
  t.match(await look(t, [gpu([process(10, 5), process(11, null), process(20, 7)])]), [
    { quality: 'no_data', value: null },
    { value: 7 },
  ]);
});

t.test('there are no such channels on a node without GPUs', async (t) => {
  const gpus = { status: () => ({ connected: true, why: '', libraries: [], gpus: [] }) } as unknown as Gpus;
  t.strictSame(workloadGpuChannels(UNITS, gpus), []);
});
