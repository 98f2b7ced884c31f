/** One look at the GPUs for who compiles the allow-list: the real skos-gpu over a scripted NVML. */
import { join } from 'node:path';
import t from 'tap';
import { loadAddon } from '../../src/sensors/addon.js';
import { type GpuLookOptions, lookAtGpus } from '../../src/sensors/gpu-look.js';
import { FIRST, gpuMachine, SECOND, skipped, TWO_GPUS } from '../fixtures/skos-gpu.js';

const addon = loadAddon();
const connect: GpuLookOptions['connect'] = (path, onPacket) => {
  const socket = addon.createSeqPacket(onPacket);
  const error = socket.connect(path);
  if (error !== 0) throw new Error(`errno ${error}`);
  return { send: (packet) => socket.send(packet), close: () => socket.close() };
};
const look = (path: string, deadlineMs = 5_000) =>
  lookAtGpus({ path, deadlineMs, connect, openRegion: addon.openRegion });

t.test('hears how each GPU describes itself, and waits for one that is being opened', { skip: skipped }, async (t) => {
  const gpus = await gpuMachine(t);
  const channels = await look(gpus.socket);
  const temperatures = channels.filter(({ name }) => name === 'temperature');
  t.match(
    temperatures
      .map(({ probe, limits }) => [probe.kind === 'gpu' && probe.address, Object.keys(limits).length > 0])
      .sort(),
    [
      [FIRST, true],
      [SECOND, true],
    ],
  );
  gpus.workers(FIRST);
  gpus.workers(SECOND);
});

t.test('one that cannot be opened keeps nobody from hearing of the other', { skip: skipped }, async (t) => {
  const gpus = await gpuMachine(t, { script: [...TWO_GPUS, 'gpu 0 hang nvmlDeviceGetTemperatureV'] });
  const channels = await look(gpus.socket, 1_500);
  const addresses = new Set(channels.map(({ probe }) => (probe.kind === 'gpu' ? probe.address : '')));
  t.same([...addresses], [SECOND]);
  gpus.script(TWO_GPUS);
  gpus.workers(FIRST);
  gpus.workers(SECOND);
});

t.test('where nobody answers, nothing is known, and that soon', { skip: skipped }, async (t) => {
  const gpus = await gpuMachine(t);
  gpus.workers(FIRST);
  gpus.workers(SECOND);
  t.same(await look(join(gpus.directory, 'nobody')), []);
  gpus.program?.kill('SIGSTOP');
  const began = performance.now();
  t.same(await look(gpus.socket, 300), []);
  t.ok(performance.now() - began < 3_000);
  gpus.program?.kill('SIGCONT');
});

t.test('words that are none, and descriptors that are no regions, harm nobody', async (t) => {
  const closed: number[] = [];
  const said = [
    'garbage',
    '{"type":"device"}',
    '{}',
    '{"type":"device","address":"x","source":"nvml","state":"serving","region":true}',
  ];
  const channels = await lookAtGpus({
    path: 'x',
    deadlineMs: 1_000,
    connect: (_, onPacket) => {
      for (const packet of said) setImmediate(() => onPacket(packet, -1));
      setImmediate(() => onPacket(null, -1));
      return { send: () => 0, close: () => closed.push(1) };
    },
    openRegion: () => {
      throw new Error('no region');
    },
  });
  t.same(channels, []);
  t.equal(closed.length, 1);
});
