/** Network interfaces with hardware behind them, bonds and tunnels. */
import t from 'tap';
import { networkInterfaces } from '../../src/sensors/network.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';
import { fileProbe } from '../fixtures/probes.js';

function addInterface(machine: FakeMachine, name: string, { physical = false, uevent = '' } = {}): void {
  const directory = physical ? `devices/pci0000:00/${name}/net/${name}` : `devices/virtual/net/${name}`;
  for (const counter of ['rx_bytes', 'tx_bytes', 'rx_errors', 'tx_errors', 'rx_dropped', 'tx_dropped']) {
    machine.set(`${directory}/statistics/${counter}`, 0);
  }
  machine.set(`${directory}/carrier_down_count`, 1);
  machine.set(`${directory}/uevent`, uevent);
  if (physical) machine.link(`${directory}/device`, `devices/pci0000:00/${name}`);
  machine.link(`class/net/${name}`, directory);
}

t.test('reads traffic as rates, errors and lost links as counts', async (t) => {
  const machine = fakeMachine(t);
  addInterface(machine, 'eth0', { physical: true });
  const found = await discover(machine, [networkInterfaces]);
  t.equal(found.channels.length, 7);
  t.match(channelOf(found, 'network/eth0/received'), {
    quantity: 'rateBytesPerSecond',
    class: 'network',
    probe: { kind: 'integer', perSecond: true },
  });
  t.match(channelOf(found, 'network/eth0/receive_errors'), { quantity: 'countTotal' });
  t.equal(fileProbe(channelOf(found, 'network/eth0/link_lost')).perSecond, undefined);
});

t.test('takes bonds and WireGuard, and leaves what containers and bridges make', async (t) => {
  const machine = fakeMachine(t);
  for (const name of ['lo', 'docker0', 'veth12', 'tap0']) addInterface(machine, name);
  addInterface(machine, 'wg0', { uevent: 'DEVTYPE=wireguard\nINTERFACE=wg0' });
  addInterface(machine, 'bond0');
  machine.set('devices/virtual/net/bond0/bonding/mode', 'active-backup 1');
  machine.set('class/net/bonding_masters', 'bond0');
  const found = await discover(machine, [networkInterfaces]);
  t.same([...new Set(found.channels.map(({ device }) => device))], ['bond0', 'wg0']);
});

t.test('says so where there is none, and bounds their number aloud', async (t) => {
  const machine = fakeMachine(t);
  t.match((await discover(machine, [networkInterfaces])).skipped, [{ what: 'network interfaces' }]);
  for (let i = 0; i < 66; i++) addInterface(machine, `vf${i}`, { physical: true });
  const found = await discover(machine, [networkInterfaces]);
  t.equal(new Set(ids(found).map((id) => id.split('/')[1])).size, 64);
  t.match(found.skipped, [{ what: 'vf64' }, { what: 'vf65' }]);
});
