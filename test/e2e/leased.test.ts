/** What happens to a node while caps stand: another rule on the same target, a rule that goes, a target that goes, another hand. */
import t from 'tap';
import { CELSIUS, FORMER_KHZ, heatedNode, KHZ, MAX_KHZ } from '../fixtures/node.js';

const MINE = {
  name: 'mine',
  channel: 'thermal_zone/x86_pkg_temp/0',
  raise: 70,
  clear: 65,
  keep: 0.5,
  actions: ['throttle_25'],
};
const THROTTLE_25_KHZ = 2_100_000;
const OTHER_HAND_KHZ = 2_000_000;

t.test('two rules hold one target, one goes with a reload, and each target ends as it should', async (t) => {
  const node = await heatedNode(t, { config: { rules: [MINE] } });
  const [first = '', second = ''] = node.policies;
  node.celsius(CELSIUS.warning);
  await node.untilCappedAt(THROTTLE_25_KHZ);
  await node.until('both rules hold it', async () => (await node.status()).actuator.leases.length === 4);

  node.configure({ rules: [] });
  node.signal('SIGHUP');
  await node.untilCappedAt(KHZ.throttle10);
  await node.until('the other’s leases', async () => (await node.status()).actuator.leases.length === 2);
  t.match(
    (await node.actions()).map(({ action, endedAtMs }) => [action, endedAtMs !== null]),
    [
      ['throttle_25', true],
      ['throttle_10', false],
    ],
    'what the removed rule held is over, the other’s stands',
  );

  // One policy goes offline and one is changed by somebody else, both under their leases.
  node.machine.remove(first);
  node.machine.set(`${second}/scaling_max_freq`, OTHER_HAND_KHZ);
  node.celsius(CELSIUS.cool);
  await node.until('both outcomes', async () => {
    const states = (await node.status()).actuator.targets.map(({ state }) => state);
    return states.join() === 'undo_pending,foreign_change';
  });
  node.machine.set(`${first}/cpuinfo_max_freq`, MAX_KHZ);
  node.machine.set(`${first}/cpuinfo_min_freq`, 800_000);
  node.machine.set(`${first}/scaling_max_freq`, KHZ.throttle10);
  await node.until('given back when it returns', () => node.caps()[0] === FORMER_KHZ);
  t.equal(node.caps()[1], OTHER_HAND_KHZ, 'left alone');
  await node.until('nothing is held', async () => {
    const { actuator } = await node.status();
    return actuator.leases.length === 0 && (await node.actions()).every(({ endedAtMs }) => endedAtMs !== null);
  });
  t.equal((await node.cli('audit', 'verify')).code, 0);
});
