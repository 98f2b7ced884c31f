/** Several dangers at once, and machines that are larger than a desktop. */
import t from 'tap';
import type { FakeMachine } from '../fixtures/fake-sysfs.js';
import { CELSIUS, FORMER_KHZ, type HeatedNode, heatedNode, KHZ, MAX_KHZ } from '../fixtures/node.js';

t.jobs = 2;

const POLICIES = 128;

/** CPUs of their own policies beside the two that every node has. */
function manyPolicies(machine: FakeMachine): string[] {
  const policies = Array.from({ length: POLICIES - 2 }, (_, i) => [i + 2]);
  const directories = machine.addCpufreq({ policies, maxKHz: MAX_KHZ, minKHz: 800_000 });
  for (const directory of directories) machine.set(`${directory}/scaling_max_freq`, FORMER_KHZ);
  return directories;
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
