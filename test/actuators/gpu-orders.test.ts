/** Standing orders on GPUs: the real skos-actuator and skos-gpu, and no agent at all. */
import { renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type RealActuator, type StartOptions, startActuator, writeAllowList } from '../fixtures/actuator.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';
import { FIRST, type GpuMachine, gpuMachine, SECOND, skipped, TWO_GPUS } from '../fixtures/skos-gpu.js';
import { until as untilSo } from '../fixtures/socket.js';

t.jobs = 4;

const until = (condition: () => boolean | Promise<boolean>) => untilSo(condition.toString(), condition, 10_000);

const POLICY = 'devices/system/cpu/cpufreq/policy0';
const KNOB = `${POLICY}/scaling_max_freq`;
/** A file that can be looked at stands for the GPU's limit: which knob an order moves is not what is tested here. */
const ITEMS = [
  `target cpufreq/policy0 cpufreq ${POLICY} floor_ppm=200000`,
  ...[FIRST, SECOND].map(
    (gpu) =>
      `order ${gpu} gpu=${gpu} channel=temperature raise=90000 clear=85000 samples=2 rate_mhz=10000 cap_ppm=500000 targets=cpufreq/policy0`,
  ),
];
const COOL = ['gpu 0 temperature 60', 'gpu 1 temperature 60'];
/** A region's reads, its deadline of 300 ms, and a busy machine. */
const SETTLED_MS = 900;

interface Node {
  readonly machine: FakeMachine;
  readonly gpus: GpuMachine;
  readonly actuator: RealActuator;
  readonly client: Awaited<ReturnType<RealActuator['client']>>;
  say(...lines: readonly string[]): void;
  readonly knob: () => string;
  qualities(): Promise<string>;
}

function cpuMachine(t: Test): FakeMachine {
  const machine = fakeMachine(t);
  machine.addCpufreq({ policies: [[0]], maxKHz: 3_000_000, minKHz: 800_000 });
  return machine;
}

async function started(t: Test, { items = ITEMS, ...options }: Partial<StartOptions> = {}): Promise<Node> {
  const machine = cpuMachine(t);
  const gpus = await gpuMachine(t, { script: [...TWO_GPUS, ...COOL] });
  gpus.workers(FIRST);
  const actuator = await startActuator(t, machine, { items, args: ['--gpu', gpus.socket], ...options });
  const client = await actuator.client();
  const node: Node = {
    machine,
    gpus,
    actuator,
    client,
    say: (...lines) => gpus.script([...TWO_GPUS, ...COOL, ...lines]),
    knob: () => machine.get(KNOB),
    qualities: async () => (await client.orders()).map(({ quality }) => quality).join(' '),
  };
  await until(async () => (await node.qualities()) === 'ok ok');
  gpus.workers(FIRST);
  gpus.workers(SECOND);
  return node;
}

const capped = (node: Node) => until(() => node.knob() === '1500000');
const free = (node: Node) => until(() => node.knob() === '3000000');
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

t.test('caps for a hot GPU with no agent there, and gives back below the clear bound', { skip: skipped }, async (t) => {
  const node = await started(t);
  node.client.stop();
  node.say('gpu 1 temperature 91');
  await capped(node);
  node.say('gpu 1 temperature 87');
  await wait(SETTLED_MS);
  t.equal(node.knob(), '1500000', 'between the bounds it stands');
  node.say();
  await free(node);
  const events = await (await node.actuator.client()).events(0);
  const latencyUs = events.map(({ detail }) => Number(/order_us=(\d+)/.exec(detail)?.[1] ?? 0)).find((us) => us > 0);
  t.ok(latencyUs !== undefined && latencyUs < 100_000, `within a period of the sample: ${latencyUs} us`);
});

t.test(
  'a GPU that hangs is hot if it was read in this boot, also after a restart, and else not',
  { skip: skipped },
  async (t) => {
    const node = await started(t);
    const hang = 'gpu 0 hang nvmlDeviceGetTemperatureV';
    node.say(hang);
    await capped(node);
    t.match(await node.client.orders(), [
      { quality: 'hung', raised: true, value: null },
      { quality: 'ok', raised: false },
    ]);
    node.actuator.process.kill('SIGTERM');
    await node.actuator.exited;
    await free(node);
    const other = async () => {
      const actuator = await startActuator(t, node.machine, { items: ITEMS, args: ['--gpu', node.gpus.socket] });
      return { process: actuator.process, exited: actuator.exited, client: await actuator.client() };
    };
    // Another actuator, of a boot in which it was read.
    const second = await other();
    await capped(node);
    t.match(await second.client.orders(), [{ quality: 'hung', raised: true }, { raised: false }]);
    second.process.kill('SIGTERM');
    await second.exited;
    await free(node);
    // And one that knows of nobody who read it.
    rmSync(join(node.machine.root, 'state'), { recursive: true });
    const { client } = await other();
    await until(async () => (await client.orders()).some(({ quality }) => quality === 'ok'));
    await wait(SETTLED_MS);
    t.match(await client.orders(), [{ raised: false }, { raised: false }]);
    t.equal(node.knob(), '3000000');
    node.say();
    await until(async () => (await client.orders()).every(({ quality }) => quality === 'ok'));
  },
);

t.test('a restart of skos-gpu is no loss, and a detached GPU is exempt', { skip: skipped }, async (t) => {
  const node = await started(t);
  node.gpus.program?.kill('SIGKILL');
  await until(async () => (await node.qualities()) === 'stale stale');
  await wait(SETTLED_MS);
  t.equal(node.knob(), '3000000');
  await node.gpus.start();
  await until(async () => (await node.qualities()) === 'ok ok');
  node.say('gpu 0 temperature 95');
  await capped(node);
  const operator = await node.gpus.client();
  t.match(await operator.ask(`detach ${FIRST}`), { ok: true });
  await free(node);
  t.match(await node.client.orders(), [{ raised: false, quality: 'no_data' }, { quality: 'ok' }]);
  await operator.ask(`attach ${FIRST}`);
  await capped(node);
});

t.test('without skos-gpu nothing is capped, and its coming is noticed', { skip: skipped }, async (t) => {
  const machine = cpuMachine(t);
  const gpus = await gpuMachine(t, { script: [...TWO_GPUS, ...COOL, 'gpu 0 temperature 99'] });
  const late = `${gpus.directory}/late`;
  const actuator = await startActuator(t, machine, { items: ITEMS, args: ['--gpu', late] });
  const client = await actuator.client();
  await wait(SETTLED_MS);
  t.match(await client.orders(), [
    { raised: false, quality: 'no_data' },
    { raised: false, quality: 'no_data' },
  ]);
  t.equal(machine.get(KNOB), '3000000');
  renameSync(gpus.socket, late);
  await until(() => machine.get(KNOB) === '1500000');
});

t.test('a reload keeps what a GPU raised, and orders that are gone give back', { skip: skipped }, async (t) => {
  const node = await started(t);
  node.say('gpu 0 temperature 95');
  await capped(node);
  await node.client.reload();
  await wait(SETTLED_MS);
  t.equal(node.knob(), '1500000');
  writeAllowList(node.machine, ITEMS.slice(0, 1));
  await node.client.reload();
  await free(node);
});

t.test('refuses orders on GPUs that are none', { skip: skipped }, async (t) => {
  const [target = '', order = ''] = ITEMS;
  const machine = cpuMachine(t);
  for (const wrong of [
    order.replace(`gpu=${FIRST}`, 'gpu=3b'),
    order.replace('channel=temperature', 'channel='),
    order.replace('channel=temperature', 'channel=a,b'),
    order.replace(' channel=temperature', ''),
    `${order} offset=1`,
  ]) {
    const actuator = await startActuator(t, machine, { items: [target, wrong], refused: true });
    t.equal(await actuator.exited, 3, wrong);
    t.match(actuator.said(), 'line 3');
  }
});
