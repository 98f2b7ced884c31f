/** A hot GPU is capped by its power limit, it and no other, and gets its limit back: agent, actuator and skos-gpu over a scripted NVML. */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ActionRecord, ActuatorTarget } from '../../src/core/ports.js';
import { type GpuNode, gpuNode } from '../fixtures/gpu-node.js';
import { FIRST, SECOND, skipped, TWO_GPUS } from '../fixtures/skos-gpu.js';

const isRoot = process.getuid?.() === 0;

t.jobs = 4;

const FORMER_W = 700;
const HOT = 'gpu 0 temperature 78';
const CRITICAL = 'gpu 0 temperature 88';

function hotNode(t: Test): Promise<GpuNode> {
  return gpuNode(t, {
    mode: 'auto',
    config: { thermal: { thresholds: { warning: 75, critical: 85, emergency: 95 }, keep: 0.5 } },
    env: (machine) => ({ SKOS_NVML_STATE: join(machine.root, 'nvml-state') }),
  });
}

async function targetOf({ node }: GpuNode, address: string): Promise<ActuatorTarget | undefined> {
  return (await node.status()).actuator.targets.find(({ target }) => target === `gpu/${address}`);
}

/** As the actuator last read it from the driver. */
async function untilWatts(gpus: GpuNode, address: string, watts: number): Promise<void> {
  await gpus.node.until(`${address} is at ${watts} W`, async () => {
    return (await targetOf(gpus, address))?.current === String(watts * 1_000_000);
  });
}

async function throttles({ node }: GpuNode): Promise<readonly ActionRecord[]> {
  return (await node.actions()).filter(({ action }) => action.startsWith('throttle'));
}

t.test(
  'a hot GPU is capped in steps, the other one is not, and the limit comes back',
  { skip: skipped || !isRoot },
  async (t) => {
    const gpus = await hotNode(t);
    gpus.also(HOT);
    await untilWatts(gpus, FIRST, 630);
    gpus.also(CRITICAL);
    await untilWatts(gpus, FIRST, 350);
    t.match(await targetOf(gpus, FIRST), { state: 'held', former: String(FORMER_W * 1_000_000) });
    t.match(await targetOf(gpus, SECOND), { state: 'idle' }, 'nobody asked the cool one');
    await gpus.node.until('both are active', async () =>
      (await throttles(gpus)).every(({ state }) => state === 'active'),
    );
    gpus.also();
    await untilWatts(gpus, FIRST, FORMER_W);
    await gpus.node.until('released', async () => (await throttles(gpus)).every(({ state }) => state === 'released'));
    const last = (await throttles(gpus)).find(({ action }) => action === 'throttle_10');
    t.match(last?.effects, [{ target: `gpu/${FIRST}`, readAfter: String(FORMER_W * 1_000_000) }]);
    t.ok((await gpus.node.status()).alerts === 0);
  },
);

t.test(
  'a GPU that hangs while it works is capped as if it were hot, until it is read again',
  { skip: skipped || !isRoot },
  async (t) => {
    const work = ['gpu 0 utilization.gpu 90', 'gpu 1 utilization.gpu 0'];
    const gpus = await gpuNode(t, {
      mode: 'auto',
      script: [...TWO_GPUS, ...work],
      config: { thermal: { blind: 2, keep: 0.5 } },
      env: (machine) => ({ SKOS_NVML_STATE: join(machine.root, 'nvml-state') }),
    });
    await gpus.node.until('it works', async () => ((await gpus.channel(FIRST, 'utilization'))?.value ?? 0) > 0.5);
    const hang = [FIRST, SECOND].map((_, i) => `gpu ${i} hang nvmlDeviceGetTemperatureV`);
    gpus.also(...work, ...hang);
    await gpus.node.until(
      'both caps',
      async () => (await throttles(gpus)).filter(({ state }) => state === 'active').length === 2,
    );
    const caps = await throttles(gpus);
    t.ok(caps.every(({ rule, effects }) => rule === 'gpu-blind' && effects[0]?.target === `gpu/${FIRST}`));
    gpus.also(...work);
    await gpus.node.until('released', async () => (await throttles(gpus)).every(({ state }) => state === 'released'));
    await untilWatts(gpus, FIRST, FORMER_W);
  },
);

t.test("no cap goes below the GPU's own constraint", { skip: skipped || !isRoot }, async (t) => {
  const gpus = await hotNode(t);
  gpus.also(CRITICAL, 'gpu 0 power_limit.min 600000');
  await untilWatts(gpus, FIRST, 600);
  gpus.also('gpu 0 power_limit.min 600000');
  await untilWatts(gpus, FIRST, FORMER_W);
});

t.test('a GPU that forgets its limit is said to be uncapped, never capped', { skip: skipped || !isRoot }, async (t) => {
  const gpus = await hotNode(t);
  gpus.also(HOT, 'gpu 0 set power_limit ignored');
  await gpus.node.until('failed', async () => (await throttles(gpus)).some(({ state }) => state === 'failed'));
  t.match(await targetOf(gpus, FIRST), { state: 'failed' });
  await gpus.node.stays(
    'not active',
    async () => (await throttles(gpus)).every(({ state }) => state !== 'active'),
    1_500,
  );
  gpus.also(HOT);
  await untilWatts(gpus, FIRST, 630);
  await gpus.node.until('active', async () => (await throttles(gpus)).some(({ state }) => state === 'active'));
});

t.test(
  'a GPU whose power limit is not permitted is capped by its clocks, and told so',
  { skip: skipped || !isRoot },
  async (t) => {
    const gpus = await hotNode(t);
    gpus.also(HOT, 'gpu 0 set power_limit 4');
    const clocks = `gpu-clocks/${FIRST}`;
    await gpus.node.until('active', async () =>
      (await throttles(gpus)).some(({ state, effects }) => state === 'active' && effects[0]?.target === clocks),
    );
    t.match((await throttles(gpus)).find(({ state }) => state === 'active')?.effects, [
      { target: clocks, former: '1980', readBack: '1782' },
    ]);
    gpus.also('gpu 0 set power_limit 4');
    await gpus.node.until('released', async () => (await throttles(gpus)).every(({ state }) => state === 'released'));
  },
);

t.test('a GPU that lets nothing be set is said to be uncapped', { skip: skipped || !isRoot }, async (t) => {
  const gpus = await hotNode(t);
  gpus.also(HOT, 'gpu 0 set power_limit 4', 'gpu 0 set locked_clocks 4');
  const refused = [`gpu/${FIRST}`, `gpu-clocks/${FIRST}`];
  await gpus.node.until('both refused', async () => {
    const { targets } = (await gpus.node.status()).actuator;
    return refused.every((id) => targets.find(({ target }) => target === id)?.state === 'not_permitted');
  });
  const isUncapped = async () => (await throttles(gpus)).every(({ state }) => state === 'failed');
  await gpus.node.until('failed', isUncapped);
  await gpus.node.stays('failed', isUncapped, 1_500);
});

t.test(
  'a driver that hangs in a set keeps its own GPU alone from being capped',
  { skip: skipped || !isRoot },
  async (t) => {
    const gpus = await hotNode(t);
    const hang = 'gpu 0 hang nvmlDeviceSetPowerManagementLimit';
    gpus.also(HOT, hang);
    await gpus.node.until('hung', async () => (await targetOf(gpus, FIRST))?.state === 'hung');
    gpus.also(HOT, hang, 'gpu 1 temperature 78');
    await untilWatts(gpus, SECOND, 630);
    t.ok((await throttles(gpus)).every(({ state, channel }) => state !== 'active' || channel.includes('001')));
    gpus.also(HOT);
    await untilWatts(gpus, FIRST, 630);
    gpus.also();
    await untilWatts(gpus, FIRST, FORMER_W);
    await untilWatts(gpus, SECOND, FORMER_W);
  },
);

t.test(
  'a cap outlives kill -9 of the agent, and is taken back by its successor',
  { skip: skipped || !isRoot },
  async (t) => {
    const gpus = await hotNode(t);
    gpus.also(HOT);
    await untilWatts(gpus, FIRST, 630);
    await gpus.node.kill();
    await gpus.node.start();
    await untilWatts(gpus, FIRST, 630);
    gpus.also();
    await untilWatts(gpus, FIRST, FORMER_W);
  },
);

t.test('a limit that somebody else set meanwhile is left alone', { skip: skipped || !isRoot }, async (t) => {
  const gpus = await hotNode(t);
  gpus.also(HOT);
  await untilWatts(gpus, FIRST, 630);
  // Forgotten, as after a reset, and then 500 W: somebody's nvidia-smi.
  gpus.also(HOT, 'gpu 0 forget', 'gpu 0 power_limit 500000');
  gpus.also('gpu 0 forget', 'gpu 0 power_limit 500000');
  await gpus.node.until('foreign', async () => (await throttles(gpus)).some(({ state }) => state === 'foreign_change'));
  t.match(await targetOf(gpus, FIRST), { state: 'foreign_change', current: '500000000' });
});

t.test('a successor that comes when the lease is over caps anew', { skip: skipped || !isRoot }, async (t) => {
  const gpus = await hotNode(t);
  gpus.also(HOT);
  await untilWatts(gpus, FIRST, 630);
  await gpus.node.kill();
  // Longer than the lease: the actuator, which outlives its agent, has given the limit back and let its setter go.
  await new Promise((resolve) => setTimeout(resolve, 4_000));
  await gpus.node.start();
  await untilWatts(gpus, FIRST, 630);
  gpus.also();
  await untilWatts(gpus, FIRST, FORMER_W);
});
