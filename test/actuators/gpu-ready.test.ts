/** Setters that are ready before a GPU is hot: the real skos-actuator, skos-gpu and its setters over a scripted NVML, and no agent. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type RealActuator, startActuator } from '../fixtures/actuator.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';
import { type Setters, startedSetters } from '../fixtures/gpu-setters.js';
import { FIRST, type GpuMachine, gpuMachine, SECOND, skipped, TWO_GPUS } from '../fixtures/skos-gpu.js';
import { until as untilSo } from '../fixtures/socket.js';

t.jobs = 3;

const until = (condition: () => boolean | Promise<boolean>) => untilSo(condition.toString(), condition, 20_000);
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const COOL = ['gpu 0 temperature 60', 'gpu 1 temperature 60'];
const HOT = 'gpu 0 temperature 95';
const NOT_PERMITTED = 'gpu 0 set power_limit 4';
const NOT_SUPPORTED = 'gpu 0 absent power_limit';
const ITEMS = [FIRST, SECOND].flatMap((gpu) => [
  `target gpu-clocks/${gpu} nvml_clocks ${gpu} floor_ppm=300000`,
  `target gpu/${gpu} nvml_power ${gpu} floor_ppm=300000`,
  `order ${gpu} gpu=${gpu} channel=temperature raise=90000 clear=85000 samples=2 rate_mhz=10000 cap_ppm=500000 targets=gpu/${gpu},gpu-clocks/${gpu}`,
]);
/** Longer than the actuator waits before it asks a second time for a setter. */
const RETRIED_MS = 1_500;

class Node {
  readonly machine: FakeMachine;
  readonly gpus: GpuMachine;
  readonly setters: Setters;
  readonly #t: Test;
  readonly #log: string;
  actuator!: RealActuator;
  client!: Awaited<ReturnType<RealActuator['client']>>;

  constructor(t: Test, { machine, gpus, setters }: Pick<Node, 'machine' | 'gpus' | 'setters'>) {
    this.#t = t;
    this.machine = machine;
    this.gpus = gpus;
    this.setters = setters;
    this.#log = join(machine.root, 'log');
  }

  async act(): Promise<void> {
    const args = ['--gpu', this.gpus.socket, '--setter', this.setters.socket];
    this.actuator = await startActuator(this.#t, this.machine, { items: ITEMS, args });
    this.client = await this.actuator.client();
  }

  say(...lines: readonly string[]): void {
    this.gpus.script([...TWO_GPUS, ...COOL, ...lines]);
  }

  async target(id: string) {
    return (await this.client.targets()).find(({ target }) => target === id);
  }

  /** What the library was asked for by setters, oldest first: "PID CALL GPU CODE". */
  calls(call: string): string[] {
    return readFileSync(this.#log, 'utf8')
      .split('\n')
      .filter((line) => line.split(' ')[1] === call);
  }

  /** Setters of a GPU that have told a handle of it, and live. */
  ready(gpu: number): number[] {
    const opened = this.calls('nvmlDeviceGetHandleByPciBusId_v2').filter((line) => line.endsWith(` ${gpu} 0`));
    const alive = this.setters.processes();
    return opened.map((line) => Number(line.split(' ')[0])).filter((pid) => alive.includes(pid));
  }

  /** And read back. */
  async untilCapped(gpu: string): Promise<void> {
    await until(async () => {
      const target = await this.target(gpu);
      return target?.state === 'held' && target.current !== '-' && target.current !== target.former;
    });
  }

  async untilFree(gpu: string): Promise<void> {
    await until(async () => (await this.target(gpu))?.state !== 'held');
  }
}

async function started(t: Test, ...lines: readonly string[]): Promise<Node> {
  const machine = fakeMachine(t);
  machine.set('devices/x', '0');
  const gpus = await gpuMachine(t, { script: [...TWO_GPUS, ...COOL, ...lines] });
  const log = join(machine.root, 'log');
  const files = { script: gpus.scriptFile, state: join(machine.root, 'set'), log };
  const setters = await startedSetters(t, { sysfs: gpus.sysfs, ...files });
  const node = new Node(t, { machine, gpus, setters });
  await node.act();
  await until(() => node.setters.processes().length >= 2);
  await until(async () => (await node.client.orders()).every(({ quality }) => quality === 'ok'));
  gpus.workers(FIRST);
  gpus.workers(SECOND);
  return node;
}

/** Of the processor, in clock ticks. */
function ticksOf(pid: number): number {
  const [, , ...fields] = readFileSync(`/proc/${pid}/stat`, 'latin1').split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

t.test(
  'a GPU that an order names has a setter before it is hot, which stays, costs nothing, and is replaced',
  { skip: skipped },
  async (t) => {
    const node = await started(t);
    await until(() => node.ready(0).length === 1 && node.ready(1).length === 1);
    const before = node.setters.processes();
    t.equal(before.length, 2, 'one a GPU, and none for the clocks of one whose limit may be set');
    const ticks = before.map(ticksOf);
    await wait(500);
    t.strictSame(before.map(ticksOf), ticks, 'none of the processor while nothing is wanted');
    for (let i = 0; i < 2; i++) {
      node.say(HOT);
      await node.untilCapped(`gpu/${FIRST}`);
      node.say();
      await node.untilFree(`gpu/${FIRST}`);
    }
    t.strictSame(node.setters.processes(), before, 'used again and again');
    t.equal(node.calls('nvmlInit_v2').length, 2, 'and initialised once');
    for (const pid of before) process.kill(pid, 'SIGKILL');
    await until(() => node.ready(0).length === 1 && node.ready(1).length === 1);
    t.notOk(node.setters.processes().some((pid) => before.includes(pid)));
    node.actuator.process.kill('SIGTERM');
    t.equal(await node.actuator.exited, 0);
    await until(() => node.setters.processes().length === 0);
  },
);

t.test(
  'nothing of ours holds a detached GPU open or opens it, whatever is wanted, and attached it is capped again',
  { skip: skipped },
  async (t) => {
    const node = await started(t);
    await until(() => node.ready(0).length === 1);
    const operator = await node.gpus.client();
    node.say(HOT);
    await node.untilCapped(`gpu/${FIRST}`);
    const lease = { lease: 'a', target: `gpu/${FIRST}`, capPpm: 700_000, ttlMs: 600_000 };
    t.match(await node.client.set(lease), { ok: true });
    t.match(await operator.ask(`detach ${FIRST}`), { ok: true });
    await until(() => node.ready(0).length === 0);
    t.equal(node.ready(1).length, 1, 'the other one stays ready');
    t.match(await node.client.set({ ...lease, capPpm: 400_000 }), { ok: false, outcome: 'pending' });
    await wait(RETRIED_MS);
    t.equal(node.ready(0).length, 0);
    t.equal(node.setters.processes().length, 1);
    node.say();
    await operator.ask(`attach ${FIRST}`);
    await until(async () => (await node.target(`gpu/${FIRST}`))?.current === '280000000');
    t.match(await node.client.release('a'), { ok: true, outcome: 'released', readBack: '700000000' });
    // Capped by the agent's lease while skos-gpu still opened it, it is let go of once before it is kept for the order.
    await until(() => node.ready(0).length === 1);
  },
);

for (const [knob, refusal] of [
  ['power', ''],
  ['clocks', NOT_PERMITTED],
] as const) {
  t.test(`a hot GPU whose cap a reset has forgotten is capped again (${knob})`, { skip: skipped }, async (t) => {
    const lines = refusal === '' ? [] : [refusal];
    const node = await started(t, ...lines);
    const [target, call] =
      knob === 'power'
        ? [`gpu/${FIRST}`, 'nvmlDeviceSetPowerManagementLimit']
        : [`gpu-clocks/${FIRST}`, 'nvmlDeviceSetGpuLockedClocks'];
    const taken = () => node.calls(call).filter((line) => line.endsWith(' 0 0')).length;
    node.say(...lines, HOT);
    await node.untilCapped(target);
    t.equal(taken(), 1);
    // And does not take it at first.
    node.say(...lines, HOT, 'gpu 0 forget', `gpu 0 set ${knob === 'power' ? 'power_limit' : 'locked_clocks'} 999`);
    for (const pid of node.gpus.workers(FIRST)) process.kill(pid, 'SIGKILL');
    await until(() => node.calls(call).some((line) => line.endsWith(' 0 999')));
    node.say(...lines, HOT);
    await until(() => taken() === 2);
  });
}

t.test('a detached GPU gets back what an order had capped', { skip: skipped }, async (t) => {
  const node = await started(t);
  node.say(HOT);
  await node.untilCapped(`gpu/${FIRST}`);
  const operator = await node.gpus.client();
  t.match(await operator.ask(`detach ${FIRST}`), { ok: true });
  await until(() => node.ready(0).length === 0);
  t.match(await node.target(`gpu/${FIRST}`), { state: 'idle', current: '700000000' });
});

t.test(
  'a setter that hangs keeps its own GPU alone from being capped, and is neither ended nor doubled',
  { skip: skipped },
  async (t) => {
    const node = await started(t);
    await until(() => node.ready(0).length === 1 && node.ready(1).length === 1);
    const [stuck = 0] = node.ready(0);
    process.kill(stuck, 'SIGSTOP');
    node.say(HOT, 'gpu 1 temperature 95');
    await node.untilCapped(`gpu/${SECOND}`);
    await until(async () => (await node.target(`gpu/${FIRST}`))?.state === 'hung');
    t.strictSame(node.ready(0), [stuck]);
    process.kill(stuck, 'SIGCONT');
    await node.untilCapped(`gpu/${FIRST}`);
    node.say();
    await node.untilFree(`gpu/${FIRST}`);
    t.strictSame(node.ready(0), [stuck]);
  },
);

for (const refusal of [NOT_PERMITTED, NOT_SUPPORTED]) {
  t.test(
    `an order caps the clocks of a GPU whose power limit is refused (${refusal}), over a restart, and of no other`,
    { skip: skipped },
    async (t) => {
      const node = await started(t, refusal);
      node.say(refusal, HOT, 'gpu 1 temperature 95');
      await node.untilCapped(`gpu-clocks/${FIRST}`);
      t.match(await node.target(`gpu-clocks/${FIRST}`), { former: '1980', current: '990' });
      t.match(await node.target(`gpu/${FIRST}`), { state: 'not_permitted' });
      await node.untilCapped(`gpu/${SECOND}`);
      t.match(await node.target(`gpu-clocks/${SECOND}`), { state: 'idle' });
      await node.client.reload();
      await wait(RETRIED_MS);
      node.actuator.process.kill('SIGKILL');
      await node.actuator.exited;
      rmSync(node.actuator.socket);
      await node.act();
      await wait(RETRIED_MS);
      t.equal(node.calls('nvmlDeviceResetGpuLockedClocks').length, 0, 'locked all the time');
      t.match(await node.target(`gpu-clocks/${FIRST}`), { state: 'held' });
      node.say(refusal);
      await node.untilFree(`gpu-clocks/${FIRST}`);
      t.equal(node.calls('nvmlDeviceResetGpuLockedClocks').length, 1);
      // Both are ready for the next time: the one that is asked first, and the one that is moved.
      await until(() => node.ready(0).length === 2);
    },
  );
}

t.test('an order leaves the clocks alone once the power limit takes the cap', { skip: skipped }, async (t) => {
  const node = await started(t, NOT_PERMITTED);
  node.say(NOT_PERMITTED, HOT);
  await node.untilCapped(`gpu-clocks/${FIRST}`);
  node.say(HOT);
  await node.untilCapped(`gpu/${FIRST}`);
  await node.untilFree(`gpu-clocks/${FIRST}`);
  t.match(await node.target(`gpu/${FIRST}`), { state: 'held', current: '350000000' });
});
