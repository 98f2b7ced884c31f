/** Several dangers at once, and machines that are larger than a desktop. */
import t from 'tap';
import type { FakeMachine } from '../fixtures/fake-sysfs.js';
import { CELSIUS, FORMER_KHZ, type HeatedNode, heatedNode, KHZ, MAX_KHZ } from '../fixtures/node.js';

t.jobs = 2;

const POLICIES = 128;
const CORES = 16;

/** CPUs of their own policies beside the two that every node has. */
function manyPolicies(machine: FakeMachine): string[] {
  const policies = Array.from({ length: POLICIES - 2 }, (_, i) => [i + 2]);
  const directories = machine.addCpufreq({ policies, maxKHz: MAX_KHZ, minKHz: 800_000 });
  for (const directory of directories) machine.set(`${directory}/scaling_max_freq`, FORMER_KHZ);
  return directories;
}

/** A chip with a sensor per core, as coretemp has. */
function manyCores(machine: FakeMachine, milliCelsius: number): string[] {
  const files = Object.fromEntries(
    Array.from({ length: CORES }, (_, i) => [
      [`temp${i + 2}_input`, milliCelsius],
      [`temp${i + 2}_label`, `Core ${i}`],
    ]).flat() as [string, string | number][],
  );
  const chip = machine.addHwmon({
    name: 'coretemp',
    device: 'devices/platform/coretemp.0',
    driver: 'coretemp',
    subsystem: 'platform',
    files,
  });
  return Array.from({ length: CORES }, (_, i) => `${chip}/temp${i + 2}_input`);
}

const capOf = (node: HeatedNode, policy: string) => Number(node.machine.get(`${policy}/scaling_max_freq`));

t.test('of two hot sensors the hotter one decides, and each gives back only its own', async (t) => {
  let second = '';
  const node = await heatedNode(t, {
    machine: (machine) => {
      second = `${machine.addZone({ type: 'cpu-thermal', milliCelsius: 50_000 })}/temp`;
    },
  });
  node.celsius(CELSIUS.warning);
  await node.untilCappedAt(KHZ.throttle10);
  node.machine.set(second, CELSIUS.critical * 1000);
  await node.untilCappedAt(KHZ.throttle50);
  node.machine.set(second, CELSIUS.cool * 1000);
  await node.untilCappedAt(KHZ.throttle10);
  await node.until('one alert is left', async () => (await node.alerts()).length === 1);
  await node.stays('capped for the first', () => node.isCappedAt(KHZ.throttle10), 1_500);
  node.celsius(CELSIUS.cool);
  await node.untilCappedAt(FORMER_KHZ);
  t.equal((await node.status()).actuator.leases.length, 0);
});

t.test(`on ${POLICIES} policies every one is capped, kept for longer than a lease, and given back`, async (t) => {
  let more: string[] = [];
  const node = await heatedNode(t, {
    machine: (machine) => {
      more = manyPolicies(machine);
    },
  });
  const allAt = (kiloHertz: number) =>
    node.isCappedAt(kiloHertz) && more.every((policy) => capOf(node, policy) === kiloHertz);
  node.celsius(CELSIUS.critical);
  await node.until('all capped', () => allAt(KHZ.throttle50));
  await node.stays('all capped', () => allAt(KHZ.throttle50), 3_000);
  const { leases } = (await node.status()).actuator;
  t.equal(leases.length, 2 * POLICIES);
  t.notOk(
    leases.some(({ orphaned }) => orphaned),
    'all are renewed',
  );
  node.celsius(CELSIUS.cool);
  await node.until('all given back', () => allAt(FORMER_KHZ));
});

t.test(`${CORES} hot cores over ${POLICIES} policies: the last hot core alone still holds every cap`, async (t) => {
  let more: string[] = [];
  let cores: string[] = [];
  const node = await heatedNode(t, {
    // Thousands of leases come and go at once: what is not given back must be renewed on a slow machine too.
    leaseSeconds: 4,
    machine: (machine) => {
      more = manyPolicies(machine);
      cores = manyCores(machine, 50_000);
    },
  });
  const allAt = (kiloHertz: number) =>
    node.isCappedAt(kiloHertz) && more.every((policy) => capOf(node, policy) === kiloHertz);
  for (const core of cores) node.machine.set(core, CELSIUS.critical * 1000);
  await node.until('all capped', () => allAt(KHZ.throttle50));
  await node.until('all alerts stand', async () => (await node.alerts()).length === CORES);
  await node.until('every action is settled', async () =>
    (await node.actions()).every(({ state }) => state !== 'pending'),
  );
  const failed = (await node.actions()).filter(({ state }) => state === 'failed');
  t.same(
    failed.map(({ reason }) => reason.slice(0, 80)),
    [],
  );
  for (const core of cores.slice(0, -1)) node.machine.set(core, CELSIUS.cool * 1000);
  await node.until('one alert is left', async () => (await node.alerts()).length === 1);
  await node.stays('all capped for longer than a lease', () => allAt(KHZ.throttle50), 4_500);
  node.machine.set(cores.at(-1) ?? '', CELSIUS.cool * 1000);
  await node.until('all given back', () => allAt(FORMER_KHZ));
});
